"""A campaign runs what is left to run, whatever becomes of one run of it."""

from contextlib import contextmanager, nullcontext

import pytest
from support.campaigns import LOST, OPEN, PASSED, a_campaign, a_result

from rmqbench.broker import Broker
from rmqbench.campaign import brokers, run_campaign, running
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable, DeadlineExceeded, UsageError


class Stand:
    """Stands in for brokers and runs: ``ends`` are verdicts, or what is raised, in turn."""

    def __init__(self, monkeypatch):
        self.ends = []
        self.ran = []
        self.opened = []
        self.missing = set()
        monkeypatch.setattr(brokers, "open_broker", self.open)
        monkeypatch.setattr(running, "run", self.run)
        monkeypatch.setattr(running, "opened_executor", self.open_executor)

    @contextmanager
    def open(self, spec, *, image, **_):
        self.opened.append(image or spec)
        if (image or spec) in self.missing:
            raise BrokerUnavailable(f"There is no {spec}.", "Start it.")
        yield Broker("external", Endpoint(), "4.0", image or spec)

    @contextmanager
    def open_executor(self, address):
        if address == "tcp://gone:1":
            raise UsageError(f"No Dask scheduler answers at {address}.")
        yield address

    def run(self, scenario, broker, *, directory, in_place, watch, executor):
        self.ran.append((scenario.queues[0].kind, executor or broker.how))
        end = self.ends.pop(0) if self.ends else PASSED
        directory.mkdir()
        if isinstance(end, BaseException):
            raise end
        return a_result(end, directory=directory)


@pytest.fixture
def stand(monkeypatch):
    return Stand(monkeypatch)


KINDS = ["classic", "lazy", "quorum"]


def states(result):
    return [each.state.value for each in result.runs]


def test_each_run_is_done_on_its_broker_in_a_directory_of_its_own(stand, tmp_path):
    campaign = a_campaign(queue_kind=["classic", "quorum"], broker=["local", "rabbitmq:4"])
    result = run_campaign(campaign, directory=tmp_path)
    assert stand.ran == [(k, b) for b in ("local", "rabbitmq:4") for k in ("classic", "quorum")]
    assert stand.opened == ["local", "rabbitmq:4"]
    assert states(result) == ["PASS"] * 4
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        each.directory for each in result.runs
    }


def test_each_run_gets_the_executor_that_the_file_names(stand, tmp_path):
    addresses = ["tcp://one:1", "tcp://gone:1", "tcp://two:1"]
    result = run_campaign(a_campaign(executor=addresses), directory=tmp_path)
    assert stand.ran == [("classic", "tcp://one:1"), ("classic", "tcp://two:1")]
    assert states(result) == ["PASS", "ERROR", "PASS"]
    assert result.runs[1].why == "No Dask scheduler answers at tcp://gone:1."
    assert result.exit_code == 2


@pytest.mark.parametrize("end", [LOST, OPEN, DeadlineExceeded("Too late."), KeyError("tag")])
def test_a_bad_run_keeps_no_other_from_being_run(stand, tmp_path, end):
    stand.ends = [end]
    result = run_campaign(a_campaign(queue_kind=KINDS), directory=tmp_path)
    assert states(result)[0] != "PASS"
    assert states(result)[1:] == ["PASS"] * 2
    assert result.exit_code == (1 if end is LOST else 3)


@pytest.mark.parametrize("end", [LOST, OPEN, DeadlineExceeded("Too late.")])
def test_with_fail_fast_the_first_bad_run_is_the_last(stand, tmp_path, end):
    stand.ends = [PASSED, end]
    result = run_campaign(a_campaign(queue_kind=KINDS), directory=tmp_path, fail_fast=True)
    assert [state == "NOT RUN" for state in states(result)] == [False, False, True]


def test_a_broker_that_cannot_be_opened_is_an_error_of_its_runs(stand, tmp_path):
    stand.missing = {"local"}
    campaign = a_campaign(queue_kind=KINDS, broker=["local", "rabbitmq:4"])
    result = run_campaign(campaign, directory=tmp_path)
    assert states(result) == ["ERROR"] * 3 + ["PASS"] * 3
    assert result.exit_code == 4
    assert result.runs[0].why == "There is no local. Start it."
    assert stand.opened == ["local", "rabbitmq:4"]


def test_after_an_error_the_next_run_gets_a_new_broker(stand, tmp_path):
    stand.ends = [DeadlineExceeded("Too late.")]
    run_campaign(a_campaign(queue_kind=KINDS), directory=tmp_path)
    assert stand.opened == ["local"] * 2


@pytest.mark.parametrize(("scenario", "opened"), [("reliability", 1), ("faults", 2)])
def test_after_a_fault_that_did_not_pass_the_next_run_gets_a_new_broker(
    stand, tmp_path, scenario, opened
):
    stand.ends = [PASSED, OPEN, PASSED]
    run_campaign(a_campaign(scenario=scenario, queue_kind=KINDS), directory=tmp_path)
    assert len(stand.opened) == opened


def test_what_has_a_verdict_is_not_run_again_and_all_else_is(stand, tmp_path):
    campaign = a_campaign(queue_kind=KINDS)
    stand.ends = [LOST, DeadlineExceeded("Too late."), KeyboardInterrupt()]
    seen = []
    with pytest.raises(KeyboardInterrupt):
        run_campaign(
            campaign, directory=tmp_path, changed=lambda result, last: seen.append((result, last))
        )
    assert [states(result) for result, _ in seen] == [
        ["NOT RUN"] * 3,
        ["FAIL", "NOT RUN", "NOT RUN"],
        ["FAIL", "ERROR", "NOT RUN"],
        ["FAIL", "ERROR", "INTERRUPTED"],
    ]
    assert [last and last.state.value for _, last in seen] == [None, "FAIL", "ERROR", "INTERRUPTED"]
    stand.ran.clear()
    result = run_campaign(campaign, directory=tmp_path, resume=True)
    assert [kind for kind, _ in stand.ran] == ["lazy", "quorum"]
    assert states(result) == ["FAIL", "PASS", "PASS"]
    assert len(list(tmp_path.glob("*.earlier-1"))) == 2
    stand.ran.clear()
    assert run_campaign(campaign, directory=tmp_path, resume=True) == result
    assert stand.ran == []


def test_who_watches_is_told_of_each_run_and_each_broker(stand, tmp_path):
    began, opened = [], []
    run_campaign(
        a_campaign(queue_kind=KINDS),
        directory=tmp_path,
        opened=lambda broker: opened.append(broker.how),
        following=lambda planned, broker: (
            began.append((planned.name, broker.how)) or nullcontext(print)
        ),
    )
    assert began == [(f"reliability, {kind}", "local") for kind in KINDS]
    assert opened == ["local"]
