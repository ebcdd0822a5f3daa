"""A Dask cluster of two workers, each a process of its own: the hosts of a run."""

import os
import subprocess
import sys
import time

import psutil
import pytest
from support import tools

import rmqbench
from rmqbench.campaign import Campaign, run_campaign
from rmqbench.run_directory.journal import ClockCompared, TroubleSeen
from rmqbench.run_directory.reading import read_run
from rmqbench.verdict.findings import Judgement

pytest.importorskip("distributed", reason="the extra dask brings it")
from distributed import Client

pytestmark = pytest.mark.slow

START_S = 60


class Cluster:
    """A scheduler and two workers on this host, which share nothing but it."""

    def __init__(self, directory):
        self.directory = directory
        self.workers = []
        self._all = []
        self.client = None

    def start(self):
        directory = self.directory
        address_file = directory / "scheduler.json"
        self._start(
            *("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
            *("--scheduler-file", str(address_file)),
        )
        for number in range(2):
            home = directory / f"host-{number}"
            home.mkdir()
            worker = self._start(
                *("worker", "--no-nanny", "--nthreads", "1", "--no-dashboard"),
                *("--host", "127.0.0.1", "--scheduler-file", str(address_file)),
                *("--local-directory", str(home), "--name", f"host-{number}"),
                home=home,
            )
            self.workers.append(worker)
        deadline = time.monotonic() + START_S
        while not address_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.client = Client(scheduler_file=str(address_file), set_as_default=False)
        self.client.wait_for_workers(2, timeout=START_S)
        self.executor = self.client.get_executor(pure=False)
        self.address = self.client.scheduler.address

    def _start(self, *arguments, home=None):
        environment = {**os.environ, "TMPDIR": str(home or self.directory)}
        with (self.directory / f"{len(self._all)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                env=environment,
                stdout=log,
                stderr=log,
            )
        self._all.append(process)
        return process

    def log(self):
        return "".join(path.read_text() for path in sorted(self.directory.glob("*.log")))

    def close(self):
        if self.client is not None:
            self.client.close()
        for process in self._all:
            process.kill()
            process.wait(30)


@pytest.fixture
def cluster(tmp_path):
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def copies_of(record):
    """How many messages a consumer got twice, or two consumers of a queue got."""
    return sum(len(one.again) for queue in record.queues for one in queue.consumers) + sum(
        int((sum((one.ledger.state != 0).astype(int) for one in queue.consumers) > 1).sum())
        for queue in record.queues
        if queue.consumers
    )


def test_a_run_on_a_cluster_passes(rmqbench_broker, tmp_path, cluster):
    result = rmqbench.run(
        rmqbench.reliability(messages=4000, producers=2),
        rmqbench_broker,
        directory=tmp_path / "run",
        executor=cluster.executor,
    )
    result.verdict.require_pass()
    record = read_run(tmp_path / "run")
    assert len([*record.of(ClockCompared)]) == 4
    assert all(producer.end for producer in record.producers)
    password = rmqbench_broker.endpoint.password
    assert password
    assert password not in cluster.log()
    assert not [*cluster.directory.rglob("rmqbench-job-*")]


@pytest.fixture
def kill_in(cluster):
    """Make what watches a run, and kills a host at work when a phase has come so far."""

    def make(phase, done):
        def watch(progress):
            if progress.phase.startswith(phase) and progress.done > done and not watch.killed:
                at_work = [each for each in cluster.workers if psutil.Process(each.pid).children()]
                watch.killed = at_work[0].pid
                at_work[0].kill()

        watch.killed = None
        return watch

    return make


@pytest.mark.quick
def test_a_host_that_is_lost_leaves_the_verdict_open_and_publishes_nothing_twice(
    rmqbench_broker, tmp_path, cluster, kill_in
):
    kill = kill_in("publish", 1000)
    result = rmqbench.run(
        rmqbench.reliability(messages=16_000, producers=2, publish_rate=2000),
        rmqbench_broker,
        directory=tmp_path / "run",
        executor=cluster.executor,
        watch=kill,
    )
    assert kill.killed
    assert result.verdict.outcome is Judgement.INCONCLUSIVE, result.verdict
    found = {name: count for name, count in result.verdict.counts().items() if count}
    assert found == {"unsent": 8000}, "of the lost one nothing is known"
    record = read_run(tmp_path / "run")
    lost, other = sorted(record.producers, key=lambda each: each.readable)
    assert not lost.readable
    assert other.end.messages == 8000
    for queue in result.queues.values():
        assert 8000 < queue.delivered < 16_000, "what the lost one had published has arrived"
    assert copies_of(record) == 0
    (trouble,) = {each.text for each in record.of(TroubleSeen)}
    assert "begun a second time" in trouble
    assert any("did not come back" in reason for reason in result.verdict.reasons)
    assert "begun a second time" in cluster.log(), "Dask logs the job that failed"
    assert rmqbench_broker.endpoint.password not in cluster.log()


def test_a_consumer_that_is_lost_leaves_the_verdict_open(
    rmqbench_broker, tmp_path, cluster, kill_in
):
    kill = kill_in("drain work.queue", 500)
    result = rmqbench.run(
        rmqbench.reliability(messages=4000, consume_rate=1000),
        rmqbench_broker,
        directory=tmp_path / "run",
        executor=cluster.executor,
        watch=kill,
    )
    assert kill.killed
    assert result.verdict.outcome is Judgement.INCONCLUSIVE, result.verdict
    assert not any(result.verdict.counts().values()), result.verdict
    assert any("did not come back" in reason for reason in result.verdict.reasons)


def test_the_command_runs_on_a_cluster(rmqbench_broker, tmp_path, cluster):
    endpoint = rmqbench_broker.endpoint
    ended = tools.rmqbench(
        *("run", "online", "--url", endpoint.url(), "--messages", "2000", "--processes", "1"),
        *("--management-url", endpoint.management_url, "--directory", str(tmp_path / "run")),
        *("--executor", cluster.address),
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("PASS online")
    assert "its clock was" in " ".join(ended.stdout.split())
    assert "Traceback" not in ended.stderr


def test_a_campaign_runs_on_a_cluster(rmqbench_broker, tmp_path, cluster):
    endpoint = rmqbench_broker.endpoint
    tables = {
        "scenario": "reliability",
        "broker": endpoint.url().replace(endpoint.password, "${PASSWORD}"),
        "management_url": endpoint.management_url,
        "executor": cluster.address,
        "messages": 2000,
        "queue_kind": ["classic", "quorum"],
    }
    campaign = Campaign.of(tables, name="c", environment={"PASSWORD": endpoint.password})
    result = run_campaign(campaign, directory=tmp_path / "campaign")
    assert [each.state.value for each in result.runs] == ["PASS"] * 2, result
    for each in result.runs:
        record = read_run(tmp_path / "campaign" / each.directory)
        assert len([*record.of(ClockCompared)]) == 3


USERS_TEST = """
import rmqbench

def test_mine(rmqbench_run):
    result = rmqbench_run(rmqbench.reliability(messages=2000))
    result.verdict.require_pass()
    assert any("its clock was" in note for note in result.notes)
"""


def test_a_test_of_a_user_runs_on_a_cluster(rmqbench_broker, tmp_path, cluster):
    (tmp_path / "test_mine.py").write_text(USERS_TEST)
    endpoint = rmqbench_broker.endpoint
    command = [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_mine.py"),
        f"--rmqbench-broker={endpoint.url()}",
        f"--rmqbench-management-url={endpoint.management_url}",
        f"--rmqbench-executor={cluster.address}",
    ]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stdout
    assert "PASS test_mine" in ended.stdout


@pytest.mark.parametrize(
    ("address", "said"),
    [("here:8786", "not the address"), ("tcp://127.0.0.1:9", "No Dask scheduler answers")],
)
def test_an_executor_that_is_not_there_is_a_wrong_use(rmqbench_broker, address, said):
    ended = tools.rmqbench("run", "reliability", "--broker", "local", "--executor", address)
    assert ended.returncode == 2
    assert said in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
