"""A small process that ends what we started when we can no longer do it ourselves.

The parent writes one JSON line for each thing it is about to start and takes the line back when
the thing has ended. When the parent goes (the pipe ends, or its process is gone), the reaper ends
whatever is left. It runs in a session of its own, so that Ctrl-C does not reach it.

This file is both the client (:class:`Reaper`) and the program. It is run by its path and imports
the standard library and psutil only (Docker's client when a container is to be removed), so that
it starts fast and cannot fail by anything else.

Things are never ended by their name alone. A process is ours if it carries a random mark in its
environment, set before it was started (so that there is no moment in which it runs and is not
known), or if its process id and creation time are the ones that the parent named.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable
from typing import IO, Any, final

import psutil

__all__ = [
    "MARK",
    "Reaper",
    "end_processes",
    "is_mounted",
    "marked_processes",
    "unmount",
    "wait_for_ends",
]

MARK = "RMQBENCH_STARTED_BY"
"""The environment variable that marks the processes of one node."""

_REMOVE_S = 600.0  # for an engine that is busy, away, or out of space
_ABSENT_S = 15.0
_AGAIN_S = 0.5


@final
class Reaper:
    """The parent's side: what is held is ended, at the latest when this process ends.

    A thing is a dict: ``{"mark": …}`` for all processes with that mark, ``{"pid": …, "created":
    …}``, ``{"mount": …}``, ``{"directory": …}``, ``{"container": name, "engine": DOCKER_HOST or
    None}``.
    """

    def __init__(self) -> None:
        me = psutil.Process()
        self._owner = me.pid
        options: dict[str, Any] = {}
        if sys.platform == "win32":
            options["creationflags"] = (
                subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            )
        else:
            options["start_new_session"] = True
        self._process = subprocess.Popen(
            # -P: the folder of this file must not come before the standard library.
            [sys.executable, "-P", os.path.abspath(__file__), str(me.pid), repr(me.create_time())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=os.path.abspath(os.sep),
            **options,
        )

    @property
    def is_mine(self) -> bool:
        """Whether this is the process that made the reaper, and not one forked from it."""
        return os.getpid() == self._owner

    @property
    def pid(self) -> int:
        """The reaper's process id."""
        return self._process.pid

    def hold(self, **thing: object) -> None:
        """Ask for a thing to be ended if we cannot. To be called *before* the thing is started.

        Raise OSError if the reaper is gone.
        """
        self._send({"hold": thing})

    def release(self, **thing: object) -> None:
        """Take a thing back, because it has ended."""
        with contextlib.suppress(OSError):
            self._send({"release": thing})

    def close(self, timeout_s: float = 30.0) -> None:
        """End the reaper, which ends what is still held first.

        What takes it longer (an engine removes no container while its disk is full) it goes on
        with alone: it has limits of its own.
        """
        if not self.is_mine:
            return
        with contextlib.suppress(OSError):
            self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    @property
    def _pipe(self) -> IO[bytes]:
        pipe = self._process.stdin
        if pipe is None:
            raise BrokenPipeError("the reaper has no pipe")
        return pipe

    def _send(self, message: dict[str, object]) -> None:
        self._pipe.write(json.dumps(message).encode() + b"\n")
        self._pipe.flush()


def end_processes(marks: Iterable[str], known: Iterable[psutil.Process] = ()) -> None:
    """Kill all processes with one of the marks, the known ones, and all of their descendants.

    It looks again until twice in a row none is left, because a process may be starting another
    one just now. It gives up after 10 s.
    """
    wanted = set(marks)
    known = list(known)
    end = time.monotonic() + 10.0
    clean = 0
    while clean < 2 and time.monotonic() < end:
        victims = marked_processes(wanted) | {process for process in known if _is_alive(process)}
        for process in list(victims):
            with contextlib.suppress(psutil.Error):
                victims.update(process.children(recursive=True))
        for process in victims:
            with contextlib.suppress(psutil.Error):
                process.kill()  # psutil compares the creation time first
        wait_for_ends(victims, 3.0)
        clean = 0 if victims else clean + 1
        if clean == 1:
            time.sleep(0.05)


def marked_processes(marks: set[str]) -> set[psutil.Process]:
    """Find the processes that carry one of the marks in their environment."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) in marks:
                found.add(process)
        # The system's and other people's processes do not show their environment.
        except (psutil.Error, OSError, UnicodeError):
            continue
    return found


def wait_for_ends(processes: Collection[psutil.Process], timeout_s: float) -> set[psutil.Process]:
    """Wait until processes have ended, and return those that have not.

    An ended process counts as one even if its parent never notices (psutil.wait_procs would wait
    for that, too, and take the status of our own children).
    """
    end = time.monotonic() + timeout_s
    while (alive := set(filter(_is_alive, processes))) and time.monotonic() < end:
        time.sleep(0.02)
    return alive


def is_mounted(place: str) -> bool:
    """Whether anything is mounted at a place, also where the process behind it is gone."""
    try:
        os.lstat(place)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return os.path.ismount(place)


def unmount(place: str) -> None:
    """Unmount what is mounted at a place; it goes once nobody uses it, gives up after 10 s."""
    end = time.monotonic() + 10.0
    while is_mounted(place) and time.monotonic() < end:
        # The second one is for those who may not mount: a file system in user space.
        for command in (["umount", "--lazy", "--"], ["fusermount3", "-u", "-z", "--"]):
            if is_mounted(place):
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    subprocess.run(
                        [*command, place],
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        timeout=10.0,
                        check=False,
                    )
        time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _process(pid: int, created: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - created) < 0.01 else None
    except psutil.Error:
        return None


def _remove_directory(path: str) -> None:
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.exists(path):
            return
        time.sleep(0.1)


def _remove_containers(containers: Collection[dict[str, Any]]) -> None:
    """Remove containers, however often their engine fails to, until a limit of time.

    The parent may have died while the engine was creating one: absent must be seen for a while.
    """
    end = time.monotonic() + _REMOVE_S
    absent_at: dict[str, float] = {}
    left = list(containers)
    while left:
        for thing in list(left):
            name, now = thing["container"], time.monotonic()
            there = _remove_container(name, thing["engine"])
            if there is None:
                absent_at.pop(name, None)
            elif there or now - absent_at.setdefault(name, now) >= _ABSENT_S:
                left.remove(thing)
        if time.monotonic() > end:
            return
        time.sleep(_AGAIN_S)


def _remove_container(name: str, engine: str | None) -> bool | None:
    """Remove a container, and return whether it was there; None where that failed."""
    import docker  # noqa: PLC0415  only containers need it
    import docker.errors  # noqa: PLC0415

    where = {"DOCKER_HOST": engine} if engine else {}
    try:
        with contextlib.closing(
            docker.from_env(timeout=30, environment=os.environ | where)
        ) as client:
            client.api.remove_container(name, v=True, force=True)
        return True
    except docker.errors.NotFound:
        return False
    except Exception:  # it is removed already, busy or away, or its disk is full: requests' as well
        return None


def _end_all(held: list[dict[str, Any]]) -> None:
    """End all that is held; what fails keeps nothing else from being ended."""
    known = [
        process
        for thing in held
        if "pid" in thing and (process := _process(thing["pid"], thing["created"]))
    ]
    marks = [thing["mark"] for thing in held if "mark" in thing]
    if marks or known:
        with contextlib.suppress(Exception):
            end_processes(marks, known)
    for thing in held:  # what is mounted at a place is not to be removed with it
        if "mount" in thing:
            with contextlib.suppress(Exception):
                unmount(thing["mount"])
    for thing in held:
        if "directory" in thing:
            with contextlib.suppress(Exception):
                _remove_directory(thing["directory"])
    _remove_containers([thing for thing in held if "container" in thing])


def _lines(pipe: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    for line in pipe:
        lines.put(line)
    lines.put(None)


def _main(parent_pid: int, parent_created: float) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = _process(parent_pid, parent_created)
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_lines, args=(sys.stdin.buffer, lines), daemon=True).start()
    held: list[dict[str, Any]] = []
    while True:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            # A process forked from the parent may keep the pipe open: look at the parent too.
            if parent is None or not _is_alive(parent):
                break
            continue
        if line is None:
            break
        try:
            message = json.loads(line)
        except ValueError:  # the parent died while it was writing: nothing was begun by this line
            continue
        if "hold" in message:
            held.append(message["hold"])
        elif message["release"] in held:
            held.remove(message["release"])
    _end_all(held)


if __name__ == "__main__":
    _main(int(sys.argv[1]), float(sys.argv[2]))
