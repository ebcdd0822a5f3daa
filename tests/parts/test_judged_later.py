"""A run is judged later as by itself; one whose parent was killed, by what it left behind."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rmqbench import judge

PARENT = """
import json
import sys
from pathlib import Path
import rmqbench

endpoint, management_url, directory, asked = sys.argv[1:]
asked = json.loads(asked)
queues = tuple(rmqbench.ConsumedQueue(**queue) for queue in asked.pop("queues"))
with rmqbench.open_broker(endpoint, management_url=management_url) as broker:
    result = rmqbench.run(
        rmqbench.Scenario("judged later", queues, **asked),
        broker,
        directory=Path(directory),
        watch=lambda now: print(now.phase, now.done, flush=True),
    )
print(json.dumps(result.as_dict()), flush=True)
"""
WORK, AUDIT = {"name": "work.queue"}, {"name": "audit.queue"}


class Elsewhere:
    """Runs scenarios in a process of its own, which can be killed."""

    def __init__(self, broker, directory):
        self.broker = broker
        self.directory = directory

    def run(self, asked, is_time=lambda phase, done: False):
        """Return what the run said of itself, or None: it was killed when it was time."""
        endpoint = self.broker.endpoint
        where = (endpoint.url(), endpoint.management_url, str(self.directory), json.dumps(asked))
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, *where], stdout=subprocess.PIPE, text=True
        )
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    process.wait(60)
                    return json.loads(line)
                phase, _, done = line.rpartition(" ")
                if is_time(phase, int(done)):
                    self._kill(process)
                    return None
            raise AssertionError(f"the run ended with {process.wait(60)} and without a result")
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()

    def _kill(self, process):
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        psutil.wait_procs(workers, timeout=30)
        assert not any(each.is_running() for each in workers)
        run = json.loads((self.directory / "run.json").read_text())["run"]
        with self.broker.management as management:
            management.delete_virtual_host(f"rmqbench-{run.replace('-', '')[:12]}")


@pytest.fixture
def elsewhere(rmqbench_broker, tmp_path):
    return Elsewhere(rmqbench_broker, tmp_path / "run")


@pytest.mark.parametrize(
    ("asked", "phase"),
    [
        ({"publish_rate": 500.0}, "publish"),
        ({"queues": [WORK | {"consume_rate": 500.0}, AUDIT]}, "drain work.queue"),
        ({"publish_rate": 500.0, "consume": "during"}, "drain audit.queue"),
    ],
    ids=["publishing", "draining", "online"],
)
def test_a_run_whose_parent_was_killed_is_inconclusive_and_says_why(elsewhere, asked, phase):
    asked = {"messages": 20_000, "queues": [WORK, AUDIT], **asked}
    assert elsewhere.run(asked, lambda now, done: now == phase and done > 100) is None
    result = judge(elsewhere.directory)
    verdict = result.verdict
    assert verdict.outcome == "INCONCLUSIVE", str(verdict)
    assert verdict.count("lost") == verdict.count("duplicate") == verdict.count("phantom") == 0
    for queue in ("work.queue", "audit.queue"):
        assert f"queue {queue} was not drained: the run ended before" in str(verdict)
    if phase == "drain work.queue":
        assert result.confirmed == 20_000
        assert 100 < result.queues["work.queue"].delivered < 20_000
    else:
        assert "producer 0 did not record its end" in str(verdict)
        assert 0 < result.confirmed < 20_000
        assert verdict.count("unsent") > 0
    assert judge(elsewhere.directory).as_dict() == result.as_dict()


def a_scenario(draw):
    """Any workload that lasts a second or so."""
    queues = [
        {
            "name": f"queue {number}",
            "kind": draw.choice(["classic", "quorum"]),
            "consumers": draw.choice([1, 1, 3]),
            "prefetch": draw.choice([1, 50, 1000]),
        }
        for number in range(draw.choice([1, 2, 3]))
    ]
    load = draw.choice([{"messages": draw.randrange(1, 3000)}, {"duration_s": 1.0}])
    return {
        "queues": queues,
        "producers": 1,
        "publish_rate": draw.choice([None, 2000.0]) if "messages" in load else 2000.0,
        "consume": draw.choice(["after", "during"]),
        "size_bytes": draw.choice([None, 100, 5000, "100:5000"]),
        **load,
    }


@pytest.mark.random
@pytest.mark.parametrize("seed", range(int(os.environ.get("RANDOM_RUNS", "12"))))
def test_a_run_of_any_shape_is_judged_later_as_by_itself_or_is_inconclusive(elsewhere, seed):
    draw = random.Random(seed)
    asked, seen, last = a_scenario(draw), [], draw.choice([0, 0, draw.randrange(1, 60)])

    def is_time(*now):
        seen.append(now)
        return len(seen) == last

    said = elsewhere.run(asked, is_time)
    moved = Path(elsewhere.directory).rename(elsewhere.directory.with_name("moved"))
    result = judge(moved)
    if said is None:
        assert result.verdict.outcome == "INCONCLUSIVE", str(result.verdict)
        assert result.verdict.reasons
    else:
        assert said["verdict"] == "PASS", said["reasons"]
        again = json.loads(json.dumps(result.as_dict()))
        assert again | {"directory": said["directory"]} == said
