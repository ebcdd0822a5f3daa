"""Producers and consumers in processes of their own: no lock of Python is shared with them.

A worker is a Python that runs :func:`main`: it reads its plan from standard input, runs it, and
writes its report to standard output. The plan travels by pipe, so no password is in a process
title. Standard input stays open as long as the parent lives; its end is the worker's end.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, Self

import psutil

from rmqbench.errors import DeadlineExceeded

__all__ = ["Outcome", "Plan", "Worker", "main", "peak_rss_bytes", "run_workers"]

_POLL_S = 0.02


class Plan(Protocol):
    """Something that can be pickled and run elsewhere: a producer's or consumer's plan."""

    def run(self) -> Any:
        """Do it, and give a report that can be pickled."""


@dataclass(frozen=True)
class Outcome:
    """What came of one worker: its report, or a sentence on why there is none."""

    report: Any | None
    peak_rss_bytes: int = 0
    trouble: str | None = None


class Worker:
    """One worker process."""

    def __init__(self, plan: Plan, log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from rmqbench.runner import workers; workers.main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        self.pid = self._process.pid
        stdin = self._stdin
        with contextlib.suppress(BrokenPipeError):  # it died at once: its log says why
            pickle.dump(plan, stdin)
            stdin.flush()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def ended(self) -> bool:
        """Tell whether the process has ended."""
        return self._process.poll() is not None

    def outcome(self) -> Outcome:
        """Take the report of a worker that has ended."""
        assert self._process.stdout is not None
        written = self._process.stdout.read()
        self._close()
        if self._process.returncode == 0 and written:
            report, peak = pickle.loads(written)
            return Outcome(report, peak)
        lines = self._log.read_text(errors="replace").strip().splitlines()
        why = f": {lines[-1]}" if lines else ""
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        return Outcome(
            None, trouble=f"a worker (process {self.pid}) ended without a report, {how}{why}"
        )

    def strike(self) -> None:
        """End it by SIGKILL as if from outside: its outcome will say that it gave no report."""
        self._process.kill()
        self._process.wait(10)

    def kill(self) -> None:
        """End the worker at once; what it has recorded stays."""
        if not self.ended():
            self._process.kill()
        self._process.wait(10)
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()


class _Crew:
    """Workers that end together, whatever happens."""

    def __init__(self, plans: Sequence[Plan], logs: Sequence[Path]) -> None:
        self.workers: list[Worker] = []
        try:
            for plan, log in zip(plans, logs, strict=True):
                self.workers.append(Worker(plan, log))
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()


def run_workers(
    plans: Sequence[Plan],
    logs: Sequence[Path],
    *,
    progress: Callable[[], int],
    stall_s: float,
    started: Callable[[Sequence[Worker]], None] = lambda _: None,
) -> list[Outcome]:
    """Run each plan in a process of its own and give the outcomes in the same order.

    ``logs`` are the files that take what the workers print. ``progress`` is called all along and
    gives a number that grows while anything is done. ``started`` is given the workers once. They
    end by themselves when they are stuck; those who do not, with no progress for ``stall_s``, are
    killed: DeadlineExceeded then stands in their outcome, and what they have recorded stays.
    """
    with _Crew(plans, logs) as crew:
        started(crew.workers)
        done, changed_at = progress(), time.monotonic()
        while not all(worker.ended() for worker in crew.workers):
            time.sleep(_POLL_S)
            now_done = progress()
            if now_done != done:
                done, changed_at = now_done, time.monotonic()
            elif time.monotonic() - changed_at > stall_s:
                trouble = DeadlineExceeded(
                    f"no worker made any progress for {stall_s:g} s, and they were ended"
                )
                return [
                    worker.outcome() if worker.ended() else Outcome(None, trouble=str(trouble))
                    for worker in crew.workers
                ]
        progress()
        return [worker.outcome() for worker in crew.workers]


def peak_rss_bytes() -> int:
    """Tell the most memory this process ever had resident, in bytes."""
    # Not ru_maxrss: across fork and exec it keeps the parent's (getrusage(2), Linux).
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def _end_with_parent() -> None:
    """Wait for the parent to close our standard input, which its death does too."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def main() -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Standard output is the report's alone: whatever else is printed goes to the log.
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)
        _report(output)


def _report(output: IO[bytes]) -> None:
    plan: Plan = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    report = plan.run()
    output.write(pickle.dumps((report, peak_rss_bytes())))
