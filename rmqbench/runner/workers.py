"""Producers and consumers in processes beside this one: no lock of Python is shared with them.

:func:`run_workers` runs those of other hosts, too (:mod:`rmqbench.runner.remote`).

A worker is a Python that runs :func:`main`: it reads its plans from standard input and runs them,
each in a thread of its own. The plans travel by pipe, so no password is in a process title.
Standard input stays open as long as the parent lives: one byte on it is the word for which the
plans wait (a consumer to finish, a producer to begin), its end is the worker's end. All that a plan
has to say is in its directory.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self, TypeVar

from rmqbench.errors import EvidenceNotWritten
from rmqbench.open_files import allow_open_files
from rmqbench.text import grouped

__all__ = [
    "AtWork",
    "Crew",
    "Gate",
    "MakeCrew",
    "Worker",
    "WorkerPlan",
    "main",
    "names_of",
    "open_files_for",
    "run_workers",
    "spread",
]

_Plan = TypeVar("_Plan")

_POLL_S = 0.02
_LONGEST_PAUSE_S = 0.5
_PAUSES = 4  # a pause is so many times as long as the look before it: watching costs little
_OPEN_FILES, _OPEN_FILES_EACH = 100, 12  # columns, journal, rows, socket, what wakes its loop
_OPEN_FILES_OF_A_LEDGER = 6  # columns and rows, of each but the first
# A worker needs no threads for linear algebra, one for each core: numpy's import would start them.
# Its own threads share one arena of the GNU C library: each keeps a lot that nobody uses.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
_CANNOT_WRITE = 74  # the exit code of a worker that could not write its evidence (EX_IOERR)


class WorkerPlan(Protocol):
    """Something that can be pickled and run elsewhere: a producer's or consumer's plan."""

    @property
    def name(self) -> str:
        """Its name for a person."""

    @property
    def directory(self) -> Path:
        """Where it keeps its evidence, and what it prints."""

    @property
    def ledgers(self) -> int:
        """How many ledgers it keeps."""

    def run(self, finish: threading.Event | None = None) -> object:
        """Do it; ``finish`` is set when one that would wait for more is to come to its end.

        For one that waits to begin it is set when it may.
        """


class AtWork(Protocol):
    """A worker and its plans, wherever it is."""

    @property
    def plans(self) -> Sequence[WorkerPlan]:
        """What it does."""

    def connected(self) -> int:
        """Return how many of its plans are connected, or have been."""

    def ended(self) -> bool:
        """Whether it has ended."""

    def tell(self) -> None:
        """Signal it to begin, or to come to its end, whichever it waits for."""

    def trouble(self) -> str | None:
        """Return a sentence on how it ended where it did not end by itself, else None."""


class Worker:
    """One worker process, and its plans."""

    def __init__(self, plans: Sequence[WorkerPlan]) -> None:
        self.plans = plans
        self._connected = 0
        self._was_struck = False
        self._log = plans[0].directory / "worker.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from rmqbench.runner import workers; workers.main()"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_ENVIRONMENT | os.environ,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        self.pid = self._process.pid
        with contextlib.suppress(BrokenPipeError):  # it died at once: its log says why
            data = pickle.dumps(plans)
            self._stdin.write(len(data).to_bytes(8, "big") + data)
            self._stdin.flush()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def connected(self) -> int:
        """Return how many of its plans are connected, or have been, up to the first that is not."""
        from rmqbench.run_directory.reading import stands_ready  # noqa: PLC0415  no worker reads it

        for plan in self.plans[self._connected :]:  # in their order: most looks then read one
            if not stands_ready(plan.directory):
                break
            self._connected += 1
        return self._connected

    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def tell(self) -> None:
        """Signal a worker to begin, or to come to its end, whichever it waits for."""
        with contextlib.suppress(OSError):  # it has ended already
            self._stdin.write(b"\n")
            self._stdin.flush()

    def trouble(self) -> str | None:
        """Return a sentence on how it ended where it did not end by itself, else None."""
        code = self._process.poll()
        if code == 0:
            return None
        who = f"the process of {names_of(self.plans)} (process ID {self.pid})"
        if code is None:
            return f"{who} did not end, and was killed"
        if self._was_struck:
            return f"{who} was ended by a fault"
        if code == _CANNOT_WRITE:
            return (
                f"{who} could not write what it saw to {self.plans[0].directory}, and ended: is "
                "the disk full?"
            )
        lines = self._log.read_text(errors="replace").strip().splitlines()
        why = f": {lines[-1]}" if lines else ""
        how = f"with exit code {code}" if code > 0 else f"by {signal.Signals(-code).name}"
        return f"{who} ended {how}, without a report{why}"

    def halt(self) -> None:
        """Stop the process as it is, until it is ended or told to :meth:`go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue the process."""
        self._process.send_signal(signal.SIGCONT)

    def strike(self) -> None:
        """End it by SIGKILL as if from outside: it does not record its end."""
        self._was_struck = True
        self._process.kill()
        self._process.wait(10)

    def kill(self) -> None:
        """End the worker at once; what it has recorded stays."""
        if not self.ended():
            self._process.kill()
        self._process.wait(10)
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()


@dataclass(frozen=True)
class Gate:
    """What the needed workers wait for before they begin.

    ``ready`` says whether a worker stands ready; ``open`` is called once when all do, and then the
    needed ones are told to begin. What it raises ends them all.
    """

    ready: Callable[[AtWork], bool]
    open: Callable[[], object]


class Crew:
    """Workers that end together, whatever happens: a context manager."""

    def __init__(self, shares: Sequence[Sequence[WorkerPlan]]) -> None:
        """Start a worker for each share of the plans."""
        self.workers: list[Worker] = []
        try:
            for plans in shares:
                self.workers.append(Worker(plans))
        except BaseException:
            self._kill()
            raise

    def __enter__(self) -> Self:
        """Return the crew itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers that are still there."""
        self._kill()

    def progress(self) -> int:
        """Return nothing new: all that workers of this host do is seen in their directories."""
        return 0

    def _kill(self) -> None:
        for worker in self.workers:
            worker.kill()


class AnyCrew(Protocol):
    """Workers that end together, whatever happens: a context manager."""

    @property
    def workers(self) -> Sequence[AtWork]:
        """All of them."""

    def progress(self) -> int:
        """Return a number that grows with what is done and not seen in their directories."""

    def __enter__(self) -> Self:
        """Return the crew itself, with its workers at work."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """End all workers that are still there."""


class MakeCrew(Protocol):
    """Makes a crew with a worker for each share of the plans, as :class:`Crew` does."""

    def __call__(self, shares: Sequence[Sequence[WorkerPlan]], /) -> AnyCrew:
        """Return the crew."""


def spread(plans: Sequence[_Plan], processes: int | None = None) -> list[Sequence[_Plan]]:
    """Part plans into the shares of so many processes, or of fewer where there are fewer plans.

    None: a quarter of the processors, at least one. Who runs beside these workers has others to
    feed, and the broker may be on the same machine.
    """
    if processes is None:
        processes = max(1, (os.cpu_count() or 1) // 4)
    return [plans[first::processes] for first in range(min(processes, len(plans)))]


def open_files_for(plans: int, ledgers: int) -> int:
    """Return how many files and sockets a worker has open, at the most.

    It has so many plans, which keep so many ledgers, one each or more.
    """
    more = max(0, ledgers - plans) * _OPEN_FILES_OF_A_LEDGER
    return _OPEN_FILES + plans * _OPEN_FILES_EACH + more


def names_of(plans: Iterable[WorkerPlan]) -> str:
    """Return who does the plans: ``consumers 0 to 19 of work.queue``."""
    return grouped(plan.name for plan in plans)


def run_workers(
    shares: Sequence[Sequence[WorkerPlan]],
    *,
    progress: Callable[[], int],
    stall_s: float,
    started: Callable[[Sequence[AtWork]], None] = lambda _: None,
    needed: Callable[[AtWork], bool] = lambda _: False,
    gate: Gate | None = None,
    hold: Callable[[], bool] = lambda: False,
    make_crew: MakeCrew = Crew,
) -> list[str]:
    """Run each share of the plans by a worker of its own, and wait until all have ended.

    ``progress`` is called all along, and once when all have ended; it returns a number that grows
    while anything is done. ``started`` is given the workers once. When all that are ``needed`` have
    ended, and ``hold`` does not say to wait, the others are told to finish; with a ``gate`` the
    needed ones begin together. Workers end by themselves when they are stuck; those who do not,
    with no progress for ``stall_s``, are killed, and what they have recorded stays. Return a
    sentence for each that did not end by itself.
    """
    with make_crew(shares) as crew:

        def count() -> int:
            return crew.progress() + progress()

        started(crew.workers)
        looked_at = time.monotonic()
        done, changed_at = count(), time.monotonic()
        look_s = changed_at - looked_at
        waited_for = [worker for worker in crew.workers if needed(worker)]
        told = False
        while not all([worker.ended() for worker in crew.workers]):
            if gate is not None and all(gate.ready(each) or each.ended() for each in crew.workers):
                gate.open()
                gate = None
                for worker in waited_for:
                    worker.tell()
            if not told and all(worker.ended() for worker in waited_for) and not hold():
                told = True
                for worker in crew.workers:
                    worker.tell()
            time.sleep(min(max(_POLL_S, _PAUSES * look_s), _LONGEST_PAUSE_S))
            looked_at = time.monotonic()
            now_done = count()
            now = time.monotonic()
            look_s = now - looked_at
            if now_done != done:
                done, changed_at = now_done, now
            elif now - changed_at > stall_s:
                killed = [plan for w in crew.workers if not w.ended() for plan in w.plans]
                stuck = (
                    f"nobody made any progress for {stall_s:g} s, so {names_of(killed)} were killed"
                )
                troubles = [stuck, *_troubles([w for w in crew.workers if w.ended()])]
                break
        else:
            troubles = _troubles(crew.workers)
    progress()
    return troubles


def _troubles(workers: Sequence[AtWork]) -> list[str]:
    return [trouble for worker in workers if (trouble := worker.trouble())]


def _read(size: int) -> bytes:
    """Read ``size`` bytes from standard input: nothing is read ahead that is not the plan's."""
    data = b""
    while len(data) < size:
        piece = os.read(sys.stdin.fileno(), size - len(data))
        if not piece:
            sys.exit("the parent ended before the plan was whole")
        data += piece
    return data


def _listen(finish: threading.Event) -> None:
    """Wait for the parent's word to finish, and for its end: it closes our standard input."""
    while os.read(sys.stdin.fileno(), 1):
        finish.set()
    os._exit(1)


def main() -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # what the plans import stays: there is nothing to collect in it, then or later
    plans: Sequence[WorkerPlan] = pickle.loads(_read(int.from_bytes(_read(8), "big")))
    gc.freeze()
    gc.enable()
    allow_open_files(open_files_for(len(plans), sum(plan.ledgers for plan in plans)))
    finish = threading.Event()
    threading.Thread(target=_listen, args=(finish,), daemon=True).start()
    threads = [threading.Thread(target=_work, args=(plan, finish)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _work(plan: WorkerPlan, finish: threading.Event) -> None:
    """Do what is planned; what fails ends the process, which then has nothing to wait for."""
    try:
        plan.run(finish)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the log may be on the disk that is full
            traceback.print_exc()
            sys.stdout.flush()
        cannot_write = isinstance(error, OSError | EvidenceNotWritten)
        os._exit(_CANNOT_WRITE if cannot_write else 1)
