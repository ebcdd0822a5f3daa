"""What came of a run: the verdict, the figures, and which broker it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rmqbench.results.metrics import Latency, Throughput
from rmqbench.verdict.findings import Verdict

__all__ = ["Backlog", "Event", "QueueFigures", "Result"]

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
    or could not be, asked). ``ready_after_drain``: with all consumers gone. ``delivered`` counts
    this run's messages, those that came again included; ``reordered_redeliveries`` first deliveries
    that came late and with the flag ``redelivered``, which is allowed. ``backlog``: only where the
    scenario looks at it. ``consume``: how fast it was consumed.
    """

    arguments: Mapping[str, Any]
    ready_after_publish: int | None
    ready_after_drain: int
    delivered: int
    reordered_redeliveries: int
    consume: Throughput
    backlog: Backlog | None = None


@dataclass(frozen=True)
class Result:
    """One run, judged. ``directory`` holds all its evidence; ``result.json`` there is this.

    ``queues`` are in the scenario's order. ``events`` are what happened and when, faults and lost
    connections included. ``notes`` are sentences for a person, for example that lazy has no effect
    on this broker.
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
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()

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
        latency = asdict(self.confirm_latency) if self.confirm_latency else None
        return {
            "run": self.run,
            "verdict": self.verdict.outcome.value,
            "reasons": list(self.verdict.reasons),
            "explanations": [each.as_dict() for each in self.verdict.explanations],
            "messages": self.messages,
            "confirmed": self.confirmed,
            "findings": self.verdict.counts(),
            "queues": {
                name: {**asdict(figures), **self.verdict.counts(name)}
                for name, figures in self.queues.items()
            },
            "publish": {**asdict(self.publish), "confirm_latency": latency},
            "consume": asdict(self.consume),
            "audit": asdict(self.audit),
            "peak_rss_mib": round(self.peak_rss_mib, 1),
            "broker": dict(self.broker),
            "scenario": dict(self.scenario),
            "events": [asdict(event) for event in self.events],
            "notes": list(self.notes),
            "directory": str(self.directory),
        }
