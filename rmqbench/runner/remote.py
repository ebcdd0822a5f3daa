"""Producers and consumers on other hosts: jobs for an executor that is there already.

Any :class:`concurrent.futures.Executor` will do, such as that of a Dask cluster. It takes the plans
there and brings the evidence back; all else goes by the broker (:mod:`rmqbench.runner.line`).
Nothing is shared with these hosts, no file and no clock.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from rmqbench.clients.producer import ProducerPlan
from rmqbench.clock import Clock
from rmqbench.endpoint import Endpoint
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.faults.catalogue import Fault
from rmqbench.run_directory.journal import ClockCompared, Entry
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.transfer import mark_away, unpack
from rmqbench.runner.desk import Desk
from rmqbench.runner.job import Job, Plan, Returned, do
from rmqbench.runner.line import Names, Report
from rmqbench.runner.workers import AtWork, WorkerPlan, names_of
from rmqbench.text import counted

__all__ = ["Elsewhere", "require_bearable"]

_BEGIN_S = 60.0  # until all jobs have begun: they work at the same time
_SILENT_S = 20.0  # of a job that has begun, while it could be heard
_STOP_S = 15.0  # for jobs that are told to stop, to send back what they have


def require_bearable(faults: Sequence[Fault]) -> None:
    """Raise UsageError for faults that only reach producers and consumers of this host."""
    for fault in faults:
        if fault.kind.kills_consumer or fault.kind.needs_proxy:
            raise UsageError(
                f"The fault {fault.name} acts on processes or connections of this host, and with "
                "an executor there are none.",
                "Leave out the executor, or the fault.",
            )


@dataclass(frozen=True)
class Elsewhere:
    """Where the jobs of one run go, and what they need to find it again.

    ``name`` is the run's, from which the queues between it and its jobs have their names. These
    queues rest for ``rest_s``, as the run's own do before a fault: what is new may be gone after
    a kill.
    """

    executor: Executor
    endpoint: Endpoint
    name: str
    clock: Clock
    write: Callable[[Entry], None]
    rest_s: float = 0.0
    _stages: itertools.count[int] = field(default_factory=itertools.count)

    def crew(self, shares: Sequence[Sequence[WorkerPlan]]) -> RemoteCrew:
        """Return a crew with a job for each share of the plans."""
        return RemoteCrew(
            self,
            Names(f"{self.name}.stage-{next(self._stages)}"),
            cast("Sequence[Sequence[Plan]]", shares),
        )


class RemoteCrew:
    """Jobs that end together, whatever happens: a context manager."""

    def __init__(self, to: Elsewhere, names: Names, shares: Sequence[Sequence[Plan]]) -> None:
        self._to = to
        self._names = names
        self._shares = shares
        self._stack = ExitStack()
        self._jobs: list[RemoteWorker] = []
        self._began_at = 0.0

    @property
    def workers(self) -> Sequence[AtWork]:
        """The jobs."""
        return self._jobs

    def __enter__(self) -> Self:
        """Pass all jobs to the executor."""
        to, names = self._to, self._names
        desk = Desk(to.endpoint, names, len(self._shares), to.clock)
        self._stack.enter_context(desk)
        try:
            time.sleep(to.rest_s)
            self._began_at = time.monotonic()
            for number, plans in enumerate(self._shares):
                for plan in plans:
                    mark_away(plan.directory)
                future = to.executor.submit(do, Job.of(number, names, to.endpoint, plans))
                self._jobs.append(RemoteWorker(number, plans, future, desk, to.write))
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, RuntimeError | TypeError):
                raise UsageError(
                    f"The executor takes no jobs: {error}.", "Name one that is open."
                ) from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all jobs that are still there; what they have recorded is sent back, if it can be."""
        for each in self._jobs:
            if not each.begun:  # of a running one Dask would drop what it returns
                each.future.cancel()
        self._stack.close()
        wait([each.future for each in self._jobs if each.begun], _STOP_S)
        for each in self._jobs:
            each.collect()

    def progress(self) -> int:
        """Record how far the jobs have come; return a number that grows while anything is done.

        Raise UsageError where some of them do not begin.
        """
        changes = sum(each.follow() for each in self._jobs)
        if time.monotonic() - self._began_at > _BEGIN_S:
            begun = sum(each.begun or each.future.done() for each in self._jobs)
            if begun < len(self._jobs):
                raise UsageError(
                    f"{begun} of {counted(len(self._jobs), 'job')} began within {_BEGIN_S:g} s: "
                    "the executor has no room for all of them at the same time.",
                    "Start more of its workers, or let more clients share a job with fewer "
                    "processes (--processes).",
                )
        return changes


class RemoteWorker:
    """One job, as its run sees it."""

    def __init__(
        self,
        number: int,
        plans: Sequence[Plan],
        future: Future[Returned],
        desk: Desk,
        write: Callable[[Entry], None],
    ) -> None:
        self.plans = plans
        self.future = future
        self._number = number
        self._desk = desk
        self._write = write
        self._report: Report | None = None
        self._changes = 0
        self._collected = False
        self._lost = False
        self._trouble: str | None = None

    @property
    def begun(self) -> bool:
        """Whether anything was heard of it."""
        return self._report is not None

    def connected(self) -> int:
        """Return how many of its plans are connected, or have been."""
        return self._report.connected if self._report else 0

    def tell(self) -> None:
        """Signal it to begin, or to come to its end, whichever it waits for."""
        self._desk.tell(self._number)

    def ended(self) -> bool:
        """Whether it has ended, and its evidence is back, or it is lost."""
        if self.future.done():
            self.collect()
        elif not (self._lost or self._returning) and self._desk.silent_s(self._number) > _SILENT_S:
            self._lost = True
            self._trouble = f"{self._who} was lost: nothing was heard of it for {_SILENT_S:g} s"
        return self._collected or self._lost

    def trouble(self) -> str | None:
        """Return a sentence on how it ended where it did not end well, else None."""
        if not (self._collected or self._lost):
            return f"{self._who} did not end, and was told to stop"
        return self._trouble

    def follow(self) -> int:
        """Record how far it has come by its last report; return how many have brought news."""
        report = self._desk.report(self._number)
        if report is not None and report != self._report and not self._collected:
            self._report = report
            self._changes += 1
            for plan, done in zip(self.plans, report.done, strict=True):
                ledger = PublishLedger if isinstance(plan, ProducerPlan) else DeliveryLedger
                ledger.read(plan.directory).progress("r+")[0] = done
        return self._changes

    def collect(self) -> None:
        """Take the evidence of a job that has ended, once."""
        if self._collected or self._lost or not self.future.done():
            return
        self._collected = True
        try:
            returned = self.future.result()
        except CancelledError:
            self._trouble = f"{self._who} was cancelled before it began"
            return
        except Exception as error:  # the executor has exceptions of its own
            why = error.what if isinstance(error, RmqbenchError) else _first_line(error)
            self._trouble = f"{self._who} failed: {why}"
            return
        try:
            unpack(returned.evidence, [plan.directory for plan in self.plans])
        except (OSError, ValueError) as error:
            self._trouble = f"the evidence of {self._who} could not be taken: {error}"
            return
        if returned.trouble:
            self._trouble = f"{self._job}: {returned.trouble}"
        self._write(
            ClockCompared(
                host=returned.host,
                offset_ns=returned.clock.offset_ns,
                uncertainty_ns=returned.clock.uncertainty_ns,
                drift_ns=returned.drift_ns,
            )
        )

    @property
    def _returning(self) -> bool:
        return self._report is not None and self._report.returning

    @property
    def _job(self) -> str:
        where = f" on {self._report.host}" if self._report else ""
        return f"job {self._number} of the executor{where}"

    @property
    def _who(self) -> str:
        return f"{self._job}, with {names_of(self.plans)},"


def _first_line(error: Exception) -> str:
    said = "".join(str(error).splitlines()[:1])
    return f"{type(error).__name__}{': ' if said else ''}{said}"
