"""What becomes of a job, as its run sees it: back whole, failed, or lost."""

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from support.histories import RECIPE

from rmqbench.clients.producer import ProducerPlan
from rmqbench.endpoint import Endpoint
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.faults.catalogue import Fault
from rmqbench.run_directory.journal import ClockCompared
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.run_directory.transfer import is_away, mark_away, pack
from rmqbench.runner import remote
from rmqbench.runner.job import Returned
from rmqbench.runner.line import ClockReading, Report
from rmqbench.runner.remote import RemoteWorker, require_bearable


class FakeDesk(SimpleNamespace):
    """What the desk has heard, as a test says."""

    def report(self, _):
        return self.last

    def silent_s(self, _):
        return self.silent

    def tell(self, job):
        self.told.append(job)


@pytest.fixture
def desk():
    return FakeDesk(last=None, silent=0.0, told=[])


@pytest.fixture
def plan(tmp_path):
    PublishLedger.create(tmp_path / "here", 10)
    mark_away(tmp_path / "here")
    return ProducerPlan(
        endpoint=Endpoint(),
        recipe=RECIPE,
        number=0,
        count=10,
        directory=tmp_path / "here",
        exchange="x",
        routing_key="k",
    )


@pytest.fixture
def written():
    return []


@pytest.fixture
def worker(plan, desk, written):
    return RemoteWorker(3, [plan], Future(), desk, written.append)


def returned(tmp_path, trouble=None):
    PublishLedger.create(tmp_path / "there", 10)
    PublishLedger.open(tmp_path / "there").state[:] = np.arange(10)
    pack([tmp_path / "there"], tmp_path / "archive.zip", lambda: None)
    evidence = (tmp_path / "archive.zip").read_bytes()
    return Returned("far", ClockReading(1, 2, 3), 4, trouble, evidence)


def test_evidence_that_is_back_is_there_as_the_job_ends(worker, plan, tmp_path, written):
    assert not worker.ended()
    worker.future.set_result(returned(tmp_path))
    assert worker.ended()
    assert worker.trouble() is None
    assert PublishLedger.read(plan.directory).state.tolist() == [*range(10)]
    assert not is_away(plan.directory)
    assert written == [ClockCompared(host="far", offset_ns=3, uncertainty_ns=2, drift_ns=4)]
    assert worker.ended()
    assert len(written) == 1, "it is taken once"


def test_a_process_that_did_not_end_well_there_is_named(worker, tmp_path):
    worker.future.set_result(returned(tmp_path, "the process of producer 0 ended by SIGKILL"))
    assert worker.ended()
    assert worker.trouble() == "job 3 of the executor: the process of producer 0 ended by SIGKILL"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RmqbenchError("It was begun a second time.", "Do this."), "It was begun a second time."),
        (ValueError("one line\nanother"), "ValueError: one line"),
        (OSError(28, "No space left"), "OSError: [Errno 28] No space left"),
    ],
)
def test_evidence_of_a_job_that_failed_stays_away(worker, plan, error, said):
    worker.future.set_exception(error)
    assert worker.ended()
    assert worker.trouble() == f"job 3 of the executor, with producer 0, failed: {said}"
    assert is_away(plan.directory)


def test_evidence_that_is_damaged_stays_away(worker, plan, tmp_path):
    whole = returned(tmp_path)
    worker.future.set_result(Returned("far", whole.clock, None, None, whole.evidence[:-9]))
    assert worker.ended()
    assert "could not be taken: it is damaged" in worker.trouble()
    assert is_away(plan.directory)


def test_a_job_that_was_cancelled_stays_away(worker, plan):
    worker.future.cancel()
    assert worker.ended()
    assert "was cancelled" in worker.trouble()
    assert is_away(plan.directory)


def test_a_job_of_which_nothing_is_heard_is_lost_whatever_comes_later(
    worker, plan, desk, tmp_path, written
):
    desk.last = Report(3, host="far", done=(0,))
    worker.follow()
    desk.silent = remote._SILENT_S
    assert not worker.ended()
    desk.silent += 1
    assert worker.ended()
    who = "job 3 of the executor on far, with producer 0,"
    assert worker.trouble() == f"{who} was lost: nothing was heard of it for 20 s"
    worker.future.set_result(returned(tmp_path))
    assert worker.ended()
    assert is_away(plan.directory), "the run has gone on without it"
    assert written == []


def test_a_job_whose_evidence_is_on_its_way_may_be_silent(worker, plan, desk, tmp_path):
    desk.last = Report(3, done=(10,), returning=True)
    worker.follow()
    desk.silent = 10 * remote._SILENT_S
    assert not worker.ended()
    worker.future.set_result(returned(tmp_path))
    assert worker.ended()
    assert worker.trouble() is None


def test_how_far_a_job_has_come_is_seen_where_whoever_watches_looks(worker, plan, desk):
    watched = PublishLedger.read(plan.directory).progress()
    assert worker.follow() == 0
    assert not worker.begun
    desk.last = Report(3, connected=1, done=(7,))
    assert worker.follow() == 1
    assert worker.begun
    assert worker.connected() == 1
    assert watched.tolist() == [7]
    assert worker.follow() == 1, "the same report is no progress"


def test_a_job_is_told_by_the_desk(worker, desk):
    worker.tell()
    assert desk.told == [3]


@pytest.mark.parametrize("name", ["kill-consumer", "reset-connection"])
def test_a_fault_of_this_host_cannot_be_had_on_others(name):
    with pytest.raises(UsageError, match=name):
        require_bearable([Fault(name)])
    require_bearable([Fault("kill-broker")])
