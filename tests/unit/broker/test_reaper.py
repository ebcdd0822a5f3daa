"""The reaper ends what its parent can no longer end, and nothing else."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import docker
import docker.errors
import psutil
import pytest
import requests

from rmqbench.broker import reaper as reapers
from rmqbench.broker.reaper import MARK, Reaper, end_processes, wait_for_ends
from rmqbench.waiting import wait_until

# Has a reaper hold a process and a directory, and waits to be ended.
PARENT = """
import os, subprocess, sys, time
from rmqbench.broker.reaper import MARK, Reaper
mark, directory, fork = sys.argv[1], sys.argv[2], sys.argv[3] == "fork"
reaper = Reaper()
reaper.hold(mark=mark)
reaper.hold(directory=directory)
os.mkdir(directory)
subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(600)"],
    env=os.environ | {MARK: mark},
    stdout=subprocess.DEVNULL,
    start_new_session=True,
)
if fork and os.fork() == 0:
    time.sleep(600)
print(reaper.pid, flush=True)
sys.stdin.read()
"""


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != "zombie":
                found.append(process)
    return found


@contextlib.contextmanager
def running(
    mark: str = "", program: str = "import time; time.sleep(600)"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that has a mark; it ends with the test at the latest."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {MARK: mark},
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def mark() -> Iterator[str]:
    mark = secrets.token_hex(8)
    yield mark
    end_processes([mark])


@pytest.mark.parametrize("mode", ["plain", "fork"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=str)
def test_a_killed_parent_leaves_nothing(
    mark: str, tmp_path: Path, number: signal.Signals, mode: str
) -> None:
    directory = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, mark, str(directory), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        reaper = psutil.Process(int(parent.stdout.readline()))
        forked = [
            child for child in psutil.Process(parent.pid).children() if PARENT in child.cmdline()
        ]
        # A process shows its environment only once it has begun its program.
        wait_until(lambda: len(marked(mark)) == 1, 20.0, "the marked process to begin")
        assert len(forked) == (mode == "fork")
        parent.send_signal(number)
        parent.wait(10)
        wait_until(lambda: not marked(mark), 20.0, "the marked process to end")
        wait_until(lambda: not directory.exists(), 10.0, "the directory to go")
        wait_until(lambda: not reaper.is_running(), 10.0, "the reaper to end")
        for child in forked:
            child.kill()


def test_ctrl_c_does_not_reach_the_reaper(mark: str) -> None:
    reaper = Reaper()
    with running(mark) as ours:
        try:
            assert os.getsid(reaper.pid) == reaper.pid
            reaper.hold(mark=mark)
            process = psutil.Process(reaper.pid)
            # Its second thread means that it has begun to ignore signals.
            wait_until(lambda: len(process.threads()) > 1, 10.0, "the reaper to run")
            os.kill(reaper.pid, signal.SIGINT)
            os.kill(reaper.pid, signal.SIGTERM)
        finally:
            reaper.close()
        # That it ended what it held shows that it still worked.
        assert ours.wait(10) == -signal.SIGKILL


def test_what_was_released_is_left_alone(mark: str, tmp_path: Path) -> None:
    directory = tmp_path / "kept"
    directory.mkdir()
    reaper = Reaper()
    reaper.hold(mark=mark)
    reaper.hold(directory=str(directory))
    with running(mark) as ours:
        reaper.release(mark=mark)
        reaper.release(directory=str(directory))
        reaper.close()
        assert ours.poll() is None
    assert directory.is_dir()


def test_a_process_is_ended_by_identity_only() -> None:
    with running() as ours:
        created = psutil.Process(ours.pid).create_time()
        reaper = Reaper()
        reaper.hold(pid=ours.pid, created=created - 5.0)  # another process that had this id
        reaper.close()
        assert ours.poll() is None
        reaper = Reaper()
        reaper.hold(pid=ours.pid, created=created)
        reaper.close()
        assert ours.wait(10) == -signal.SIGKILL


def test_other_processes_are_not_touched(mark: str) -> None:
    with running(mark + "0") as other, running(mark) as ours:
        process = psutil.Process(ours.pid)
        end_processes([mark])
        assert not lives(process)
        assert other.poll() is None


def test_an_end_that_the_parent_does_not_notice_is_one(mark: str) -> None:
    with running(mark) as ours, running(mark) as other:
        process, alive = psutil.Process(ours.pid), psutil.Process(other.pid)
        ours.kill()
        began = time.monotonic()
        assert wait_for_ends([process], 60.0) == set()
        assert time.monotonic() - began < 30
        assert process.status() == psutil.STATUS_ZOMBIE
        assert wait_for_ends([process, alive], 0.1) == {alive}


def test_what_a_marked_process_starts_is_ended_even_without_the_mark(mark: str) -> None:
    program = (
        f"import os, subprocess, time; os.environ.pop({MARK!r}); "
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    )
    with running(mark, program) as ours:
        assert ours.stdout is not None
        grandchild = psutil.Process(int(ours.stdout.readline()))
        assert lives(grandchild)
        end_processes([mark])
        wait_until(lambda: not lives(grandchild), 10.0, "the grandchild to end")


def test_a_dead_reaper_is_noticed_when_something_is_sent_to_it() -> None:
    reaper = Reaper()
    process = psutil.Process(reaper.pid)
    process.kill()
    process.wait(10)

    def send() -> bool:
        reaper.hold(mark="x")
        return False

    with pytest.raises(OSError, match=r"reaper|pipe"):
        wait_until(send, 5.0, "the reaper's death to be noticed")
    reaper.close()


def test_a_line_that_broke_off_keeps_nothing_from_being_ended(mark: str) -> None:
    reaper = Reaper()
    with running(mark) as ours:
        reaper.hold(mark=mark)
        reaper._pipe.write(b'{"hold": {"container": "hal')
        reaper.close()
        assert ours.wait(10) == -signal.SIGKILL


def test_a_reaper_that_is_not_done_yet_is_left_at_work() -> None:
    reaper = Reaper()
    process = psutil.Process(reaper.pid)
    process.suspend()
    try:
        reaper.close(timeout_s=0.1)
    finally:
        process.resume()
    assert reaper._process.wait(20) == 0, "ended by itself: else what it holds is left behind"


# --- containers, by an engine that is told what to do --------------------------------------------

NO_SPACE = docker.errors.APIError("write /var/lib/docker/…: no space left on device")
ABSENT = docker.errors.NotFound("No such container")
GONE = None


class Engine:
    """Answers each removal of a container with the next of its answers, the last one for good."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[Exception | None]) -> None:
        self.answers = answers
        self.now = 0.0
        self.asked: list[tuple[str, float]] = []
        self.hosts: set[str | None] = set()
        self.api = self
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(reapers, "time", clock)
        monkeypatch.setattr(docker, "from_env", self.from_env)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def from_env(self, timeout: int, environment: dict[str, str]) -> Engine:
        self.hosts.add(environment.get("DOCKER_HOST"))
        return self

    def close(self) -> None:
        """Do nothing."""

    def remove_container(self, name: str, v: bool, force: bool) -> None:
        assert v
        assert force
        self.asked.append((name, self.now))
        answers = self.answers[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is not None:
            raise answer

    def last(self, name: str) -> float:
        return max(at for asked, at in self.asked if asked == name)


def held(name: str, engine: str | None = None) -> dict[str, str | None]:
    return {"container": name, "engine": engine}


@pytest.mark.parametrize(
    "error",
    [
        NO_SPACE,
        docker.errors.DockerException("Error while fetching server API version"),
        requests.ReadTimeout("no answer within 30 s"),
        requests.ConnectionError("the engine restarts"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_container_that_cannot_be_removed_now_is_removed_when_it_can_be(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    engine = Engine(monkeypatch, one=[error] * 400 + [GONE], two=[GONE])
    reapers._end_all([held("one", "unix:///there"), held("two", "unix:///there")])
    assert engine.last("one") == pytest.approx(200, abs=5)
    assert engine.last("two") < 5, "it does not wait for the other"
    assert engine.hosts == {"unix:///there"}


def test_a_container_that_its_engine_is_still_making_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(monkeypatch, one=[ABSENT] * 20 + [GONE])
    reapers._end_all([held("one")])
    assert len(engine.asked) == 21


def test_a_container_that_stays_absent_or_unremovable_is_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(monkeypatch, absent=[NO_SPACE] * 9 + [ABSENT], there=[NO_SPACE])
    reapers._end_all([held("absent"), held("there")])
    assert engine.last("absent") == pytest.approx(4.5 + 15, abs=1)
    assert engine.last("there") == pytest.approx(600, abs=1)


def test_what_fails_keeps_nothing_else_from_being_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    engine = Engine(monkeypatch, one=[GONE])
    monkeypatch.setattr(reapers, "end_processes", fail)
    monkeypatch.setattr(reapers, "_remove_directory", fail)
    reapers._end_all([{"mark": "x"}, {"directory": str(tmp_path)}, held("one")])
    assert len(engine.asked) == 1
