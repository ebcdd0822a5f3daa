"""Producers and consumers as jobs of an executor: judged as if they had worked here."""

import dataclasses
import os
import pickle
import re
import signal
import time
import uuid
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import psutil
import pytest

import rmqbench
from rmqbench.amqp.admin import admin
from rmqbench.amqp.topology import Queue, Topology
from rmqbench.clock import Clock, epoch_now_ns
from rmqbench.errors import QueueNotFound, UsageError
from rmqbench.run_directory.journal import ChannelOpened, ClockCompared, StageBegan, TroubleSeen
from rmqbench.run_directory.reading import read_run
from rmqbench.runner import remote
from rmqbench.runner import run as runner
from rmqbench.runner.desk import Desk
from rmqbench.runner.isolation import own_place
from rmqbench.runner.job import Job
from rmqbench.runner.line import Line, Names, Report, RunIsOver
from rmqbench.verdict.findings import Judgement

NOTHING = Topology(queues=(Queue("q"),))  # and not declared


@pytest.fixture(params=["threads", "processes"])
def executor(request):
    if request.param == "threads":
        pool = ThreadPoolExecutor(6)
    else:
        pool = ProcessPoolExecutor(6, mp_context=get_context("spawn"))
    with pool:
        yield pool


@pytest.fixture
def threads():
    with ThreadPoolExecutor(6) as pool:
        yield pool


@pytest.fixture
def jobs_directory(tmp_path, monkeypatch):
    """Where jobs of this host have their directories."""
    (tmp_path / "jobs").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "jobs"))
    return tmp_path / "jobs"


@pytest.fixture
def place(rmqbench_broker):
    """An empty virtual host."""
    name = f"rmqbench-test-{uuid.uuid4().hex[:12]}"
    with own_place(rmqbench_broker, NOTHING, name, in_place=False) as place:
        yield place.endpoint


@pytest.fixture
def desk(place):
    """The run's end, with one job; the run's clock is a year ahead."""
    clock = Clock.since(epoch_now_ns() + 365 * 86_400 * 10**9)
    with Desk(place, Names("test"), 1, clock) as desk:
        yield desk


def line(place):
    return Line(place, Names("test"), 0)


def wait_until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", [rmqbench.reliability, rmqbench.online])
def test_a_run_with_an_executor_passes_with_all_evidence(
    rmqbench_broker, tmp_path, executor, scenario
):
    asked = scenario(messages=3000, producers=2, consumers=2)
    seen = []
    result = rmqbench.run(
        asked, rmqbench_broker, directory=tmp_path / "run", executor=executor, watch=seen.append
    )
    result.verdict.require_pass()
    assert result.confirmed == 3000
    assert [each.delivered for each in result.queues.values()] == [3000, 3000]
    record = read_run(tmp_path / "run")
    workers = [*record.producers, *(one for queue in record.queues for one in queue.consumers)]
    assert len(workers) == 5
    assert all(each.end for each in workers)
    assert len([*record.of(ClockCompared)]) == 5
    assert not [*tmp_path.rglob("away")]
    assert max(each.done for each in seen if each.phase == "publish") == 3000
    assert any("its clock was" in note for note in result.notes)
    assert rmqbench.judge(tmp_path / "run").verdict.outcome is Judgement.PASS


def test_producers_begin_when_all_jobs_are_connected(rmqbench_broker, tmp_path, threads):
    scenario = rmqbench.online(messages=1000, producers=2, consumers=4, processes=2)
    rmqbench.run(
        scenario, rmqbench_broker, directory=tmp_path / "run", executor=threads
    ).verdict.require_pass()
    assert len([*tmp_path.rglob("worker.log")]) == 4, "clients share jobs as they share processes"
    record = read_run(tmp_path / "run")
    consumers = [one for queue in record.queues for one in queue.consumers]
    connected = [next(one.of(ChannelOpened)).time_ns for one in consumers]
    assert max(connected) < min(int(each.ledger.sent_ns.min()) for each in record.producers)


def test_nothing_is_left_of_a_run_in_place(rmqbench_broker, threads, tmp_path, jobs_directory):
    name = f"rmqbench-user-{uuid.uuid4().hex[:8]}"
    with rmqbench_broker.management as management:
        management.create_virtual_host(name)
        try:
            endpoint = rmqbench_broker.endpoint.in_virtual_host(name)
            broker = dataclasses.replace(rmqbench_broker, endpoint=endpoint)
            rmqbench.run(
                rmqbench.reliability(messages=500),
                broker,
                directory=tmp_path / "run",
                in_place=True,
                executor=threads,
            ).verdict.require_pass()
            assert management.queues(name) == []
        finally:
            management.delete_virtual_host(name)
    assert [*jobs_directory.iterdir()] == []


def test_times_of_a_host_with_another_clock_are_the_run_s(
    rmqbench_broker, tmp_path, threads, monkeypatch
):
    hour_ns = 3600 * 10**9
    monkeypatch.setattr(runner, "epoch_now_ns", lambda: epoch_now_ns() + hour_ns)
    result = rmqbench.run(
        rmqbench.reliability(messages=500),
        rmqbench_broker,
        directory=tmp_path / "run",
        executor=threads,
    )
    result.verdict.require_pass()
    told = re.compile(r"its clock was ([\d.]+) ms behind, within ([\d.]+) ms")
    (found,) = {tuple(map(float, each)) for each in told.findall("\n".join(result.notes))}
    assert abs(found[0] - hour_ns / 1e6) <= found[1] + 50.0, "a busy machine reads clocks late"
    record = read_run(tmp_path / "run")
    began_ns = [each.time_ns for each in record.of(StageBegan)]
    sent_ns = record.producers[0].ledger.sent_ns
    assert began_ns[0] < sent_ns.min() <= sent_ns.max() < began_ns[-1]


def test_an_interrupt_ends_the_jobs_and_leaves_nothing(
    rmqbench_broker, tmp_path, threads, jobs_directory
):
    def interrupt(progress):
        if progress.done > 100:
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rmqbench.run(
            rmqbench.reliability(messages=100_000, publish_rate=500),
            rmqbench_broker,
            directory=tmp_path / "run",
            executor=threads,
            watch=interrupt,
        )
    threads.shutdown(wait=True)
    assert time.monotonic() - begun < 60, "a hundred thousand would have taken 200 s"
    assert [*jobs_directory.iterdir()] == []
    ours = [each for each in psutil.Process().children(recursive=True) if is_worker(each)]
    assert ours == []
    assert rmqbench.judge(tmp_path / "run").verdict.outcome is Judgement.INCONCLUSIVE


def is_worker(process):
    try:
        return "workers.main()" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_a_process_that_is_lost_leaves_the_verdict_open(rmqbench_broker, tmp_path):
    killed = []

    def kill(progress):
        if progress.phase == "publish" and progress.done > 500 and not killed:
            killed.extend(pool._processes)
            os.kill(killed[0], signal.SIGKILL)

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = rmqbench.run(
            rmqbench.reliability(messages=20_000, publish_rate=2000),
            rmqbench_broker,
            directory=tmp_path / "run",
            executor=pool,
            watch=kill,
        )
    assert killed
    assert result.verdict.outcome is Judgement.INCONCLUSIVE
    assert any("did not come back" in reason for reason in result.verdict.reasons)
    troubles = [each.text for each in read_run(tmp_path / "run").of(TroubleSeen)]
    assert any("BrokenProcessPool" in each for each in troubles)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill-broker", "pause-broker"])
@pytest.mark.parametrize("during", ["publish", "drain"])
def test_jobs_go_on_when_the_broker_does(rmqbench_broker, tmp_path, threads, fault, during):
    # At full speed: the jobs' own queues are as new as they can be when the broker is killed.
    scenario = rmqbench.faulty(fault, during, queue_kind="quorum")
    result = rmqbench.run(scenario, rmqbench_broker, directory=tmp_path / "run", executor=threads)
    assert not [*tmp_path.rglob("away")]
    assert result.verdict.outcome is not Judgement.INCONCLUSIVE, result.verdict
    assert "lost" not in [name for name, count in result.verdict.counts().items() if count]


def test_a_job_that_is_told_to_stop_sends_back_what_it_has(rmqbench_broker, tmp_path, threads):
    def stop(progress):
        if progress.phase == "publish" and progress.done > 500:
            with rmqbench_broker.management as management:
                (queue,) = [each for each in management.queues() if "job-0" in each["name"]]
            with admin(rmqbench_broker.endpoint.in_virtual_host(queue["vhost"])) as channel:
                channel.queue_delete(queue["name"])
            progressed.append(progress.done)

    progressed = []
    result = rmqbench.run(
        rmqbench.reliability(messages=20_000, publish_rate=1000),
        rmqbench_broker,
        directory=tmp_path / "run",
        executor=threads,
        watch=lambda progress: None if progressed else stop(progress),
    )
    assert progressed
    assert result.verdict.outcome is Judgement.INCONCLUSIVE
    assert not [*tmp_path.rglob("away")]
    assert progressed[0] <= result.confirmed < 20_000
    troubles = [each.text for each in read_run(tmp_path / "run").of(TroubleSeen)]
    assert any("does not want this job any more" in each for each in troubles)


def test_an_executor_without_room_for_all_jobs_is_a_wrong_use(
    rmqbench_broker, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote, "_BEGIN_S", 3.0)
    with ThreadPoolExecutor(1) as pool, pytest.raises(UsageError, match="1 of 2 jobs began"):
        rmqbench.run(
            rmqbench.reliability(messages=500, producers=2),
            rmqbench_broker,
            directory=tmp_path / "run",
            executor=pool,
        )


def test_an_executor_that_is_closed_is_a_wrong_use(rmqbench_broker, tmp_path):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(UsageError, match="takes no jobs"):
        rmqbench.run(
            rmqbench.reliability(messages=500),
            rmqbench_broker,
            directory=tmp_path / "run",
            executor=pool,
        )


@pytest.mark.parametrize("fault", ["kill-consumer", "reset-connection"])
def test_a_fault_of_this_host_is_a_wrong_use(rmqbench_broker, tmp_path, threads, fault):
    with pytest.raises(UsageError, match="acts on processes or connections of this host"):
        rmqbench.run(
            rmqbench.faulty(fault), rmqbench_broker, directory=tmp_path / "run", executor=threads
        )
    assert not (tmp_path / "run").exists()


# --- what run and job tell each other -------------------------------------------------------------


def test_a_job_is_never_begun_a_second_time(desk, place):
    with line(place) as first:
        first.take_ticket()
        with line(place) as second, pytest.raises(RunIsOver, match="a second time"):
            second.take_ticket()
        desk.tell(0)
        wait_until(lambda: first.look(Report(0)))
        with line(place) as third, pytest.raises(RunIsOver, match="a second time"):
            third.take_ticket()


def test_the_word_comes_when_it_is_given_and_stays(desk, place):
    with line(place) as job:
        job.take_ticket()
        assert not job.look(Report(0))
        desk.tell(0)
        wait_until(lambda: job.look(Report(0)))
        assert job.look(Report(0))


def test_the_desk_knows_what_a_job_last_reported(desk, place):
    assert desk.report(0) is None
    assert desk.silent_s(0) < 1e-3
    with line(place) as job:
        job.take_ticket()
        for connected in range(3):
            job.look(Report(0, connected=connected, done=(7, connected)))
        wait_until(lambda: desk.report(0) == Report(0, connected=2, done=(7, 2)))
    wait_until(lambda: desk.silent_s(0) > 0.5)


def test_the_run_s_time_is_known_within_its_uncertainty(desk, place):
    true_ns = epoch_now_ns() + 365 * 86_400 * 10**9
    with line(place) as job:
        reading = job.compare_clocks()
    assert abs(reading.epoch_ns - true_ns) <= reading.uncertainty_ns + 100_000
    assert reading.uncertainty_ns < 10**9
    assert abs(reading.offset_ns + 365 * 86_400 * 10**9) <= reading.uncertainty_ns + 10**6


def test_a_job_whose_run_has_ended_ends(place):
    with Desk(place, Names("test"), 1, Clock.since(0)) as desk, line(place) as job:
        job.take_ticket()
        job.look(Report(0))
        desk.dismiss()
        with pytest.raises(RunIsOver):
            job.look(Report(0))


def test_a_job_whose_virtual_host_is_gone_ends(rmqbench_broker, monkeypatch):
    monkeypatch.setattr("rmqbench.runner.line._REFUSED_S", 0.5)
    name = f"rmqbench-test-{uuid.uuid4().hex[:12]}"
    with (
        own_place(rmqbench_broker, NOTHING, name, in_place=False) as there,
        Desk(there.endpoint, Names("test"), 1, Clock.since(0)),
    ):
        job = line(there.endpoint).__enter__()
    with pytest.raises(RunIsOver):
        wait_until(lambda: job.look(Report(0)))


def test_a_job_to_which_nobody_listens_ends(place, monkeypatch):
    monkeypatch.setattr("rmqbench.runner.line._GONE_S", 0.5)
    with admin(place) as channel:
        for name in (Names("test").desk, Names("test").job(0)):
            channel.queue_declare(name, durable=True)
    with line(place) as job, pytest.raises(RunIsOver, match="Nobody has listened"):
        wait_until(lambda: job.look(Report(0)))


def test_a_desk_that_loses_its_connection_connects_again(desk, place, rmqbench_broker):
    with line(place) as job:
        job.take_ticket()
        job.look(Report(0))
        wait_until(lambda: desk.report(0))
        with rmqbench_broker.management as management:
            vhost = place.virtual_host
            wait_until(lambda: len(management.connections(vhost)) == 2)
            for each in management.connections(vhost):
                management.close_connection(each["name"], "a test")
        desk.tell(0)
        wait_until(lambda: job.look(Report(0, connected=5)), 60)
        wait_until(lambda: desk.report(0).connected == 5)


def test_no_job_is_silent_while_the_broker_is(desk, place, rmqbench_broker, monkeypatch):
    monkeypatch.setattr("rmqbench.runner.desk._ASK_S", 0.5)
    monkeypatch.setattr("rmqbench.runner.desk.ANSWER_S", 1.0)
    with line(place) as job:
        job.take_ticket()
        job.look(Report(0))
        wait_until(lambda: desk.silent_s(0) > 0.1)
        rmqbench_broker.pause()
        try:
            wait_until(lambda: desk.silent_s(0) == 0.0)
            until = time.monotonic() + 3
            wait_until(lambda: desk.silent_s(0) or time.monotonic() > until)
            assert time.monotonic() > until
        finally:
            rmqbench_broker.resume()
        wait_until(lambda: desk.silent_s(0) > 0.1)


def test_the_queues_go_with_the_desk(place):
    with Desk(place, Names("test"), 2, Clock.since(0)):
        pass
    for name in (Names("test").desk, Names("test").job(1)):
        with pytest.raises(QueueNotFound), admin(place) as channel:
            channel.queue_declare(name, passive=True)


def test_no_password_is_shown_by_a_job(place):
    secret = dataclasses.replace(place, password="a secret of mine")
    job = Job.of(0, Names("test"), secret, [secret])
    assert "a secret of mine" not in repr(job)
    assert pickle.loads(pickle.loads(pickle.dumps(job)).pickled)[0].password == "a secret of mine"
