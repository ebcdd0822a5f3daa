"""What came of a run: the verdict, the figures, and which broker it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rmqbench.errors import RmqbenchError
from rmqbench.results.latencies import Latency, Percentiles
from rmqbench.results.limits import LimitCheck, LimitError
from rmqbench.results.metrics import Throughput
from rmqbench.results.sums import QueueSum
from rmqbench.verdict.findings import Judgement, Verdict

__all__ = ["FORMAT", "Backlog", "Event", "QueueFigures", "Result"]

FORMAT: Final = 1
"""The version of ``result.json``, which ``result.schema.json`` beside this module describes."""

EventKind = Literal["stage", "fault", "interruption"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a run, and when (Unix nanoseconds), for a person.

    ``kind``: a stage of the run, a fault, or that a worker was interrupted.
    """

    time_ns: int
    kind: EventKind
    event: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """How the broker held a standing backlog, by its own figures (None: it does not say).

    ``messages_ram`` counts messages that are held in memory, ``memory_bytes`` is the memory of the
    queue's process (https://www.rabbitmq.com/docs/lazy-queues).
    """

    messages_ram: int | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What a queue was asked to be, what it said of itself, and what it delivered.

    ``ready_after_publish``: by a passive declare, before any consumer was there (None: it was not,
    or could not be, asked). ``ready_after_drain``: with all consumers gone. ``sum``: what became of
    the messages that were confirmed. ``delivered`` counts this run's messages, those that came
    again included; ``reordered_redeliveries`` first deliveries that came late and with the flag
    ``redelivered``, which is allowed. ``backlog``: only where the scenario looks at it.
    ``consume``: how fast it was consumed. ``delivery_latency`` and ``acknowledge_latency``: how
    long its messages took until their first delivery, and until their first acknowledgement was
    sent. Both only where it is consumed while messages are published, the latter only of an open
    load.
    """

    arguments: Mapping[str, Any]
    ready_after_publish: int | None
    ready_after_drain: int
    sum: QueueSum
    delivered: int
    reordered_redeliveries: int
    consume: Throughput
    backlog: Backlog | None = None
    delivery_latency: Latency | None = None
    acknowledge_latency: Latency | None = None


@dataclass(frozen=True)
class Result:
    """One run, judged. ``directory`` holds all its evidence; ``result.json`` there is this.

    ``confirm_latency`` is of the publishes that were confirmed or refused. ``lag`` is by how much
    the producers themselves were late with an open load, ``limits`` whether its limits were kept:
    the verdict is about the messages alone. ``queues`` are in the scenario's order. ``events`` are
    what happened and when, faults and lost connections included. ``notes`` are sentences for a
    person, for example that lazy has no effect on this broker.
    """

    run: str
    scenario: Mapping[str, Any]
    broker: Mapping[str, str]
    verdict: Verdict
    messages: int
    confirmed: int
    queues: Mapping[str, QueueFigures]
    publish: Throughput
    confirm_latency: Latency | None
    peak_rss_mib: float
    directory: Path
    lag: Percentiles | None = None
    limits: tuple[LimitCheck, ...] = ()
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Judgement:
        """What the verdict and the limits come to together: FAIL where any of them does."""
        outcomes = {self.verdict.outcome, *(each.outcome for each in self.limits)}
        worst_first = (Judgement.FAIL, Judgement.INCONCLUSIVE)
        return next((each for each in worst_first if each in outcomes), Judgement.PASS)

    @property
    def passed(self) -> bool:
        """Whether the outcome is PASS."""
        return self.outcome is Judgement.PASS

    @property
    def exit_code(self) -> int:
        """The command line's exit code, see :attr:`Verdict.exit_code`; 1 for a limit exceeded."""
        if any(each.outcome is Judgement.FAIL for each in self.limits):
            return 1
        return self.verdict.exit_code or (0 if self.passed else RmqbenchError.exit_code)

    @property
    def why(self) -> str:
        """Why the outcome is none or no better, in a line."""
        over = [str(each) for each in self.limits if each.outcome is not Judgement.PASS]
        said = [] if over and self.verdict.passed else [self.verdict.why]
        return "; ".join([*said, *over])

    def require_pass(self) -> None:
        """Raise VerdictError unless the verdict is PASS, LimitError unless each limit was kept.

        Both are AssertionErrors.
        """
        self.verdict.require_pass()
        if not self.passed:
            raise LimitError("; ".join(map(str, self.limits)))

    @property
    def consume(self) -> Throughput:
        """How fast the first queue was consumed: the work queue of the scenarios that ship."""
        return next(iter(self.queues.values())).consume

    @property
    def audit(self) -> Throughput:
        """How fast the second queue was consumed: the audit queue of the scenarios that ship.

        Of a scenario with one queue it is that queue's.
        """
        return [*self.queues.values()][:2][-1].consume

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as they stand in ``result.json``.

        ``findings`` has a number for every finding there is: summed over the queues, but the
        outcomes of publishes (nacked, returned, indeterminate, unsent) counted once.
        """
        latency = self.confirm_latency and asdict(self.confirm_latency)
        lag = self.lag and asdict(self.lag)
        return {
            "format": FORMAT,
            "run": self.run,
            "outcome": self.outcome.value,
            "verdict": self.verdict.outcome.value,
            "reasons": list(self.verdict.reasons),
            "explanations": [each.as_dict() for each in self.verdict.explanations],
            "messages": self.messages,
            "confirmed": self.confirmed,
            "findings": self.verdict.counts(),
            "limits": [asdict(each) for each in self.limits],
            "queues": {
                name: {**asdict(figures), **self.verdict.counts(name)}
                for name, figures in self.queues.items()
            },
            "publish": {**asdict(self.publish), "confirm_latency": latency, "lag": lag},
            "consume": asdict(self.consume),
            "audit": asdict(self.audit),
            "peak_rss_mib": round(self.peak_rss_mib, 1),
            "broker": dict(self.broker),
            "scenario": dict(self.scenario),
            "events": [asdict(event) for event in self.events],
            "notes": list(self.notes),
            "directory": str(self.directory),
        }
