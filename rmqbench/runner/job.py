"""What a run has done on another host: a share of its plans, and their evidence sent back."""

from __future__ import annotations

import pickle
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import rmqbench
from rmqbench.clients.producer import ProducerPlan
from rmqbench.clients.recording_consumer import ConsumerPlan
from rmqbench.endpoint import Endpoint
from rmqbench.errors import RmqbenchError
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.transfer import pack
from rmqbench.runner.line import ClockReading, Line, Names, Report, RunIsOver
from rmqbench.runner.workers import Worker

__all__ = ["Job", "Plan", "Returned", "do"]

Plan = ProducerPlan | ConsumerPlan

_POLL_S = 0.02
_LOOK_S = 0.25  # how often it reports, and looks for the word


@dataclass(frozen=True)
class Job:
    """A share of a run's plans. Whoever prints it sees no password: the plans are ``pickled``."""

    number: int
    names: Names
    endpoint: Endpoint
    version: str
    pickled: bytes = field(repr=False)

    @classmethod
    def of(cls, number: int, names: Names, endpoint: Endpoint, plans: Sequence[Plan]) -> Job:
        """Return the job of these plans."""
        return cls(number, names, endpoint, rmqbench.__version__, pickle.dumps(list(plans)))


@dataclass(frozen=True)
class Returned:
    """What a job returns: its evidence, packed, and where and by which clock it was recorded.

    ``drift_ns`` is how far the clocks moved apart meanwhile, where that could be asked. ``trouble``
    says how its process ended, where it did not end by itself.
    """

    host: str
    clock: ClockReading
    drift_ns: int | None
    trouble: str | None
    evidence: bytes = field(repr=False)


def do(job: Job) -> Returned:
    """Do a job: in a process and a directory of its own, of which nothing is left.

    The process is one as :mod:`rmqbench.runner.workers` makes: it can be ended, and ends with this
    one. Raise RmqbenchError where it cannot be begun, or was begun before.
    """
    if job.version != rmqbench.__version__:
        raise RmqbenchError(
            f"{socket.gethostname()} has rmqbench {rmqbench.__version__}, and the run "
            f"{job.version}.",
            "Install the same version on all hosts.",
        )
    with (
        tempfile.TemporaryDirectory(prefix="rmqbench-job-") as temporary,
        Line(job.endpoint, job.names, job.number) as line,
    ):
        line.take_ticket()
        clock = line.compare_clocks()
        home = Path(temporary)
        plans = [
            _here(plan, home / str(number), clock.epoch_ns)
            for number, plan in enumerate(pickle.loads(job.pickled))
        ]
        reports = _Reports(line, job.number, plans)
        trouble = _work(plans, reports)
        archive = home / "evidence.zip"
        with suppress(RunIsOver):
            reports.send()
        pack([plan.directory for plan in plans], archive, reports.packed)
        drift_ns = None
        with suppress(RmqbenchError):
            drift_ns = line.compare_clocks().epoch_ns - clock.epoch_ns
        with suppress(RunIsOver):
            reports.send_last()
        return Returned(socket.gethostname(), clock, drift_ns, trouble, archive.read_bytes())


class _Reports:
    """Reports how far a job has come, not more often than anybody looks."""

    def __init__(self, line: Line, job: int, plans: Sequence[Plan]) -> None:
        """Map what tells how far each plan has come; its ledger is there."""
        self._line = line
        self._report = Report(job)
        self._ledgers = [
            (PublishLedger if isinstance(plan, ProducerPlan) else DeliveryLedger)
            .read(plan.directory)
            .progress()
            for plan in plans
        ]
        self._sent_at = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._sent_at >= _LOOK_S

    def send(self, connected: int | None = None) -> bool:
        """Report, and return whether the word was given. Raise RunIsOver where it is."""
        self._sent_at = time.monotonic()
        done = tuple(int(each.sum()) for each in self._ledgers)
        self._report = replace(self._report, done=done)
        if connected is not None:
            self._report = replace(self._report, connected=connected)
        return self._line.look(self._report)

    def send_last(self) -> None:
        """Report that the job returns, and is not heard any more."""
        self._report = replace(self._report, returning=True)
        self.send()

    def packed(self) -> None:
        """Count a piece that was packed. That the run is over is no reason to give up here."""
        self._report = replace(self._report, packed=self._report.packed + 1)
        if self.due:
            with suppress(RunIsOver):
                self.send()


def _here(plan: Plan, directory: Path, epoch_ns: int) -> Plan:
    """Return a plan as it is done on this host, by this host's clock, with its ledger made."""
    if isinstance(plan, ProducerPlan):
        PublishLedger.create(directory, plan.count, timed=plan.schedule is not None)
    else:
        DeliveryLedger.create(directory, sum(plan.counts), timed=plan.timed)
    return replace(plan, directory=directory, epoch_ns=epoch_ns)


def _work(plans: Sequence[Plan], reports: _Reports) -> str | None:
    """Run the plans until they have ended, or the run is over; return what went wrong."""
    worker = Worker(plans)
    told = False
    try:
        while not worker.ended():
            if reports.due and reports.send(worker.connected()) and not told:
                worker.tell()
                told = True
            time.sleep(_POLL_S)
        return worker.trouble()
    except RunIsOver as over:
        return over.what
    finally:
        worker.kill()
