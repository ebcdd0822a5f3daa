"""Workers leave their evidence, or it is said why not; none outlives its parent."""

import gc
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from rmqbench.errors import EvidenceNotWritten
from rmqbench.memory import peak_rss_bytes
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelOpened,
    Interrupted,
    Journal,
    read_journal,
)
from rmqbench.runner import workers
from rmqbench.runner.workers import Gate, Worker, run_workers, spread
from rmqbench.waiting import wait_until

CHANNELS = 5000
MEETING = threading.Barrier(3)


@dataclass(frozen=True)
class Deed:
    """A plan that does one thing, and leaves what it found out in its directory."""

    what: str
    directory: Path
    secret: str = "a password"
    ledgers: int = 1

    @property
    def name(self):
        return f"{self.what} {self.directory.name}"

    def leave(self, found):
        (self.directory / "found.json").write_text(json.dumps(found))

    @property
    def left(self):
        return json.loads((self.directory / "found.json").read_text())

    def run(self, finish=None):  # noqa: PLR0912  one for each deed
        match self.what:
            case "report":
                print("what a library prints goes to the log")
                threads = os.environ.get("OPENBLAS_NUM_THREADS")
                found = {"threads": threads, "collects": gc.isenabled()}
                found |= {"frozen": gc.get_freeze_count(), "pid": os.getpid()}
                self.leave(found | {"title": psutil.Process().cmdline()})
            case "meet":  # all of its process, at one moment
                MEETING.wait(60)
                self.leave({"pid": os.getpid(), "thread": threading.get_ident()})
            case "raise":
                raise RuntimeError("a bug")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait(600)
            case "linger":
                (self.directory / "ready").touch()
                self.leave(finish.wait(60))
            case "wait for the word":
                (self.directory / "ready").touch()
                self.leave(finish.wait(60) and time.monotonic())
            case "return much":
                self.leave("x" * 200_000)
            case "talk much":
                with Journal(self.directory / JOURNAL_FILE) as journal:
                    for number in range(CHANNELS):
                        journal.write(ChannelOpened(number=number, first=number))
                        journal.write(Interrupted(why=f"interruption {number}"))
                for _ in range(20):
                    print("o" * 50_000, flush=True)
                    print("e" * 50_000, file=sys.stderr, flush=True)
                ways = {
                    number: os.readlink(f"/proc/self/fd/{number}")
                    for number in map(int, os.listdir("/proc/self/fd"))
                    if os.path.exists(f"/proc/self/fd/{number}") or number < 3
                }
                self.leave([n for n, way in ways.items() if way.startswith(("pipe:", "socket:"))])
            case "cannot write":
                raise EvidenceNotWritten("The journal cannot be written: the disk is full.")
            case "no room":
                raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    """A worker imports the plan's module by its name."""
    here = request.path.parent
    monkeypatch.setenv("PYTHONPATH", str(here), prepend=os.pathsep)
    monkeypatch.setattr(Deed, "__module__", request.path.stem)
    monkeypatch.setitem(sys.modules, request.path.stem, sys.modules[__name__])


@pytest.fixture
def deeds(tmp_path):
    """Make plans, each with a directory of its own."""

    def make(*what):
        made = [Deed(each, tmp_path / str(number)) for number, each in enumerate(what)]
        for each in made:
            each.directory.mkdir()
        return made

    return make


def run(plans, stall_s=30.0, **more):
    return run_workers(apart(plans), progress=lambda: 0, stall_s=stall_s, **more)


def apart(plans):
    """Give each plan a process of its own."""
    return [[plan] for plan in plans]


def test_each_worker_works_in_a_process_of_its_own(deeds):
    plans = deeds("report", "report")
    assert run(plans) == []
    pids = {plan.left["pid"] for plan in plans}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert "goes to the log" in (plans[0].directory / "worker.log").read_text()


def test_the_plans_of_a_process_work_at_the_same_time_each_in_its_own_thread(deeds):
    plans = deeds("meet", "meet", "meet")
    assert run_workers([plans], progress=lambda: 0, stall_s=30.0) == []
    assert len({plan.left["pid"] for plan in plans}) == 1
    assert len({plan.left["thread"] for plan in plans}) == 3


@pytest.mark.parametrize("what", ["raise", "cannot write"])
def test_what_one_plan_raises_ends_its_process_and_no_other_one(deeds, what):
    """Nobody waits for a client that does not come, and which one it was is said."""
    failing, hanging, other = deeds(what, "hang", "report")
    (trouble,) = run_workers([[hanging, failing], [other]], progress=lambda: 0, stall_s=30.0)
    said = "RuntimeError: a bug" if what == "raise" else f"write what it saw to {hanging.directory}"
    assert said in trouble
    assert other.left["pid"]


@pytest.mark.parametrize(
    ("plans", "processes", "shares"),
    [
        (0, 1, []),
        (5, 1, [5]),
        (5, 2, [3, 2]),
        (3, 3, [1, 1, 1]),
        (2, 9, [1, 1]),
    ],
)
def test_plans_are_spread_evenly(plans, processes, shares):
    spread_out = spread(range(plans), processes)
    assert [len(share) for share in spread_out] == shares
    assert sorted(itertools.chain(*spread_out)) == list(range(plans))


@pytest.mark.parametrize(("processors", "processes"), [(None, 1), (2, 1), (4, 1), (8, 2), (64, 16)])
def test_a_quarter_of_the_processors_is_the_default(monkeypatch, processors, processes):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert len(spread(range(100))) == processes


@pytest.mark.parametrize("threads", [None, "3"])
def test_a_worker_starts_no_threads_for_linear_algebra_unless_told_to(deeds, monkeypatch, threads):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    (plan,) = deeds("report")
    assert run([plan]) == []
    assert plan.left["threads"] == (threads or "1")


def test_a_worker_collects_garbage_but_not_among_what_it_imported(deeds):
    (plan,) = deeds("report")
    assert run([plan]) == []
    assert plan.left["collects"]
    assert plan.left["frozen"] > 1000


def test_what_a_worker_leaves_may_be_of_any_size(deeds):
    plans = deeds("return much")
    assert run(plans) == []
    assert len(plans[0].left) == 200_000


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="it reads /proc")
def test_nothing_that_a_worker_says_goes_through_a_pipe_that_may_fill(deeds):
    """Of thousands of channels and interruptions, and a log of megabytes, which nobody reads."""
    (plan,) = deeds("talk much")
    plan = replace(plan, secret="s" * 500_000)  # a plan that is larger than a pipe, too
    assert run([plan], stall_s=60.0) == []
    assert plan.left == [0], "its only pipe is the one that its plan came by"
    entries = [*read_journal(plan.directory / JOURNAL_FILE)]
    assert len(entries) == 2 * CHANNELS
    assert entries[-1].why == f"interruption {CHANNELS - 1}"
    assert (plan.directory / "worker.log").stat().st_size == 40 * 50_001


@pytest.mark.parametrize("what", ["cannot write", "no room"])
def test_a_worker_that_cannot_write_its_evidence_says_that_by_its_exit_code(deeds, what):
    plans = deeds(what)
    (trouble,) = run(plans)
    assert f"could not write what it saw to {plans[0].directory}" in trouble


def test_a_worker_that_raises_leaves_its_last_line(deeds):
    plans = deeds("raise")
    (trouble,) = run(plans)
    assert "RuntimeError: a bug" in trouble
    assert "Traceback" in (plans[0].directory / "worker.log").read_text()


def test_a_killed_worker_takes_nobody_with_it(deeds):
    plans = deeds("die", "report")
    (trouble,) = run(plans)
    assert re.fullmatch(r"the process of die 0 \(process ID \d+\) ended by SIGKILL.*", trouble)
    assert plans[1].left


def test_all_who_shared_a_process_that_was_killed_are_named_in_one_sentence(deeds):
    plans = deeds("hang", "hang", "hang", "die")
    (trouble,) = run_workers([plans], progress=lambda: 0, stall_s=30.0)
    assert trouble.startswith("the process of hangs 0 to 2 and die 3 (")


def test_a_worker_halts_goes_on_and_says_that_a_fault_has_ended_it(deeds):
    worker = Worker(deeds("hang"))
    process = psutil.Process(worker.pid)

    def is_stopped():
        return process.status() == psutil.STATUS_STOPPED

    try:
        worker.halt()
        wait_until(is_stopped, 10, "the worker to halt")
        worker.go_on()
        wait_until(lambda: not is_stopped(), 10, "the worker to go on")
        worker.halt()
        worker.strike()
        assert worker.ended()
        assert worker.trouble().endswith("was ended by a fault")
    finally:
        worker.kill()


def test_those_who_wait_for_more_are_told_once_the_needed_ones_have_ended(deeds):
    plans = deeds("linger", "report", "linger")
    assert run(plans, needed=lambda worker: worker.plans[0].what == "report") == []
    assert plans[1].left["pid"]
    assert plans[0].left is plans[2].left is True


def is_ready(worker):
    return (worker.plans[0].directory / "ready").exists()


def is_waiting(worker):
    return worker.plans[0].what == "wait for the word"


def test_the_gate_opens_when_all_stand_ready_and_only_then_they_begin(deeds):
    plans = deeds("wait for the word", "linger", "wait for the word")
    opened = []

    def open_it():
        assert all((each.directory / "ready").exists() for each in (plans[0], plans[2]))
        time.sleep(0.3)
        opened.append(time.monotonic())

    assert run(plans, needed=is_waiting, gate=Gate(is_ready, open_it)) == []
    assert len(opened) == 1
    assert opened[0] < min(plans[0].left, plans[2].left)
    assert plans[1].left is True


def test_one_that_ended_before_it_was_ready_keeps_no_other_waiting(deeds):
    plans = deeds("die", "wait for the word")
    gate = Gate(is_ready, lambda: None)
    (trouble,) = run(plans, needed=lambda _: True, gate=gate)
    assert "by SIGKILL" in trouble
    assert plans[1].left


def test_what_the_gate_raises_ends_those_who_wait(deeds):
    workers = []

    def fail():
        raise RuntimeError("it cannot be declared")

    with pytest.raises(RuntimeError, match="it cannot be declared"):
        run_workers(
            apart(deeds("wait for the word")),
            progress=lambda: 0,
            stall_s=30.0,
            started=workers.extend,
            needed=is_waiting,
            gate=Gate(is_ready, fail),
        )
    assert all(worker.ended() for worker in workers)


def test_workers_without_progress_are_ended(deeds):
    plans = deeds("hang", "report")
    workers, ticks, started = [], itertools.count(1), time.monotonic()

    def progress():  # there is some until the second has reported, which may take it seconds
        waits = not workers[1].ended() and time.monotonic() - started < 90
        return next(ticks) if waits else 0

    troubles = run_workers(apart(plans), progress=progress, stall_s=1.5, started=workers.extend)
    assert time.monotonic() - started < 120
    assert troubles == ["nobody made any progress for 1.5 s, so hang 0 were killed"]
    assert plans[1].left


@pytest.mark.parametrize("what", ["report", "hang"])
def test_progress_is_asked_for_once_more_when_all_have_ended(deeds, what):
    """By themselves, or at our hands: nothing happens after its last call."""
    workers, ended = [], []

    def progress():
        ended.append(all(worker.ended() for worker in workers))
        return 0

    run_workers(apart(deeds(what)), progress=progress, stall_s=0.5, started=workers.extend)
    assert workers
    assert ended[-1]


def test_progress_keeps_workers_alive(deeds):
    workers, ticks, started = [], itertools.count(), time.monotonic()

    def progress():
        if time.monotonic() - started > 3:
            raise KeyboardInterrupt
        return next(ticks)

    with pytest.raises(KeyboardInterrupt):
        run_workers(apart(deeds("hang")), progress=progress, stall_s=0.5, started=workers.extend)
    assert workers
    left = {process.pid for process in psutil.Process().children()}
    assert not left & {worker.pid for worker in workers}


def test_a_plan_is_not_in_the_process_title(deeds):
    plans = deeds("report")
    run(plans)
    assert "a password" not in " ".join(plans[0].left["title"])


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from test_workers import Deed\n"
        "from rmqbench.runner.workers import run_workers\n"
        "plan = Deed('hang', pathlib.Path(sys.argv[1]))\n"
        "run_workers([[plan]], progress=lambda: 0, stall_s=99)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
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


class OfNobody:
    """A crew whose only worker ends after some pauses, and the clock that these let go on."""

    def __init__(self, pauses):
        self.workers = [self]
        self.plans = []
        self.left, self.now, self.paused = pauses, 0.0, []

    def __call__(self, shares):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ended(self):
        return not self.left

    def connected(self):
        return 0

    def tell(self):
        pass

    def trouble(self):
        return None

    def progress(self):
        return 0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.left -= 1
        self.paused.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(("look_s", "pause_s"), [(0.001, 0.02), (0.05, 0.2)])
def test_a_look_that_takes_long_is_followed_by_a_pause_that_is_longer(monkeypatch, look_s, pause_s):
    crew = OfNobody(pauses=3)
    monkeypatch.setattr(workers, "time", crew)

    def progress():
        crew.now += look_s
        return 0

    assert run_workers([[]], progress=progress, stall_s=60, make_crew=crew) == []
    assert crew.paused == pytest.approx([pause_s] * 3)
