"""A run whose parent is killed is judged all the same, by what it left behind."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from rmqbench import judge
from rmqbench.broker import wait_until

PARENT = """
import sys
from pathlib import Path
import rmqbench


endpoint, management_url, directory, during = sys.argv[1:]
changes = {"publish_rate": 500.0} if during == "publish" else {"consume_rate": 500.0}
if during == "online":
    scenario = rmqbench.online(messages=20_000, publish_rate=500.0)
else:
    scenario = rmqbench.reliability(messages=20_000, **changes)
with rmqbench.open_broker(endpoint, management_url=management_url) as broker:
    rmqbench.run(
        scenario,
        broker,
        directory=Path(directory),
        watch=lambda now: print(now.phase, now.done, flush=True),
    )
"""


@pytest.fixture
def killed(rmqbench_broker, tmp_path):
    """Kill a run when a phase has come to some messages; return its directory."""

    def kill(during, phase):
        endpoint = rmqbench_broker.endpoint
        where = (endpoint.url(), endpoint.management_url, str(tmp_path / "run"), during)
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, *where], stdout=subprocess.PIPE, text=True
        )
        try:
            for line in process.stdout:
                *words, done = line.split()
                if " ".join(words) == phase and int(done) > 100:
                    break
            workers = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        finally:
            process.kill()
            process.stdout.close()
        wait_until(
            lambda: not any(each.is_running() for each in workers), 30.0, "the workers to end"
        )
        run = json.loads((tmp_path / "run" / "run.json").read_text())["run"]
        with rmqbench_broker.management as management:
            management.delete_virtual_host(f"rmqbench-{run.replace('-', '')[:12]}")
        return tmp_path / "run"

    return kill


@pytest.mark.parametrize(
    ("during", "phase"),
    [("publish", "publish"), ("drain", "drain work.queue"), ("online", "drain audit.queue")],
)
def test_a_run_whose_parent_was_killed_is_inconclusive_and_says_why(killed, during, phase):
    directory = killed(during, phase)
    result = judge(directory)
    verdict = result.verdict
    assert verdict.outcome == "INCONCLUSIVE", str(verdict)
    assert verdict.count("lost") == verdict.count("duplicate") == verdict.count("phantom") == 0
    for queue in ("work.queue", "audit.queue"):
        assert f"queue {queue} was not drained: the run ended before" in str(verdict)
    if during == "drain":
        assert result.confirmed == 20_000
        assert 100 < result.queues["work.queue"].delivered < 20_000
    else:
        assert "producer 0 left no word on its end" in str(verdict)
        assert 0 < result.confirmed < 20_000
        assert verdict.count("unsent") > 0
    assert judge(directory).as_dict() == result.as_dict()
