"""Workers report, or it is said why not; none outlives its parent."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import pytest

from rmqbench.runner.workers import peak_rss_bytes, run_workers


@dataclass(frozen=True)
class Deed:
    """A plan that does one thing."""

    what: str
    secret: str = "a password"

    def run(self):
        match self.what:
            case "report":
                print("what a library prints must not spoil the report")
                return {"pid": os.getpid()}
            case "raise":
                raise RuntimeError("a bug")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(600)
            case "title":
                return psutil.Process().cmdline()
        raise AssertionError(self.what)


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    """A worker imports the plan's module by its name."""
    here = request.path.parent
    monkeypatch.setenv("PYTHONPATH", str(here))
    monkeypatch.setattr(Deed, "__module__", request.path.stem)
    monkeypatch.setitem(sys.modules, request.path.stem, sys.modules[__name__])


def run(tmp_path, *deeds, stall_s=30.0):
    plans = [Deed(deed) for deed in deeds]
    logs = [tmp_path / f"{number}.log" for number in range(len(deeds))]
    return run_workers(plans, logs, progress=lambda: 0, stall_s=stall_s)


def test_each_worker_reports_from_a_process_of_its_own(tmp_path):
    outcomes = run(tmp_path, "report", "report")
    pids = {outcome.report["pid"] for outcome in outcomes}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert all(outcome.peak_rss_bytes > 10 << 20 for outcome in outcomes)
    assert all(outcome.trouble is None for outcome in outcomes)


def test_a_worker_that_raises_leaves_its_last_line(tmp_path):
    (outcome,) = run(tmp_path, "raise")
    assert outcome.report is None
    assert "RuntimeError: a bug" in outcome.trouble
    assert "Traceback" in (tmp_path / "0.log").read_text()


def test_a_killed_worker_takes_nobody_with_it(tmp_path):
    died, reported = run(tmp_path, "die", "report")
    assert "by SIGKILL" in died.trouble
    assert reported.report


def test_workers_without_progress_are_ended(tmp_path):
    workers, ticks, started = [], itertools.count(1), time.monotonic()

    def progress():  # there is some until the second has reported, which may take it seconds
        waits = not workers[1].ended() and time.monotonic() - started < 90
        return next(ticks) if waits else 0

    hung, reported = run_workers(
        [Deed("hang"), Deed("report")],
        [tmp_path / "0.log", tmp_path / "1.log"],
        progress=progress,
        stall_s=1.5,
        started=workers.extend,
    )
    assert time.monotonic() - started < 120
    assert "no worker made any progress for 1.5 s" in hung.trouble
    assert reported.report


def test_progress_keeps_workers_alive(tmp_path):
    workers, ticks, started = [], itertools.count(), time.monotonic()

    def progress():
        if time.monotonic() - started > 3:
            raise KeyboardInterrupt
        return next(ticks)

    with pytest.raises(KeyboardInterrupt):
        run_workers(
            [Deed("hang")],
            [tmp_path / "log"],
            progress=progress,
            stall_s=0.5,
            started=workers.extend,
        )
    assert workers
    left = {process.pid for process in psutil.Process().children()}
    assert not left & {worker.pid for worker in workers}


def test_a_plan_is_not_in_the_process_title(tmp_path):
    (outcome,) = run(tmp_path, "title")
    assert "a password" not in " ".join(outcome.report)


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from test_workers import Deed\n"
        "from rmqbench.runner.workers import run_workers\n"
        "run_workers([Deed('hang')], [pathlib.Path(sys.argv[1])], progress=lambda: 0, stall_s=99)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")])
    try:
        deadline = time.monotonic() + 90
        while not (workers := psutil.Process(parent.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait(10)
    assert psutil.wait_procs(workers, timeout=90)[1] == []


def test_the_peak_is_this_process_own():
    assert psutil.Process().memory_info().rss <= peak_rss_bytes() * 1.01
