"""What a run's directory holds of each worker, each queue and the run, as it was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rmqbench.errors import AccessRefused, MessageTooLarge
from rmqbench.pieces import pieces
from rmqbench.run_directory.directory import RunDirectory
from rmqbench.run_directory.journal import Entry, WorkEnded, WorkStarted
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.schedule import Schedule
from rmqbench.verdict.evidence import Evidence

__all__ = ["ConsumerRecord", "ProducerRecord", "QueueRecord", "RunRecord", "WorkerRecord"]

_Entry = TypeVar("_Entry", bound=Entry)


@dataclass(frozen=True, eq=False)
class WorkerRecord:
    """What one producer or consumer wrote down: its journal, and its name for a person."""

    name: str
    entries: Sequence[Entry]

    def of(self, kind: type[_Entry]) -> Iterator[_Entry]:
        """Yield the entries of one kind."""
        return (each for each in self.entries if isinstance(each, kind))

    @property
    def started_ns(self) -> int | None:
        """When its work began, in Unix nanoseconds; None: it never began."""
        start = next(self.of(WorkStarted), None)
        return None if start is None else start.time_ns

    @property
    def end(self) -> WorkEnded | None:
        """Its end; None where it was ended from outside, or is still at work."""
        return next(self.of(WorkEnded), None)


@dataclass(frozen=True, eq=False)
class ProducerRecord(WorkerRecord):
    """One producer: its journal, and arrays of shape (count,); all zero if not ``readable``.

    ``copies`` holds what it sent again, as far as that can be read. ``schedule`` is its share of an
    open load.
    """

    ledger: PublishLedger
    copies: npt.NDArray[Any]
    readable: bool
    schedule: Schedule | None = None

    def due_ns(self, these: slice) -> npt.NDArray[np.int64]:
        """Return when some messages were due, in Unix nanoseconds; 0: that is not known.

        Where the load was not open, a message was due when it was sent.
        """
        if self.schedule is None:
            return self.ledger.sent_ns[these]
        if (started_ns := self.started_ns) is None:
            return np.zeros(these.stop - these.start, np.int64)
        numbers = np.arange(these.start, these.stop)
        return started_ns + np.rint(self.schedule.due_s(numbers) * 1e9).astype(np.int64)

    @property
    def sent(self) -> int:
        """How many of its messages it has sent."""
        found = (self.ledger.sent(each) for each in pieces(len(self.ledger.state)))
        return sum(int(np.count_nonzero(each)) for each in found)

    @property
    def due(self) -> int:
        """How many of its messages were due before it ended, or before its last sign of life."""
        if self.schedule is None or self.started_ns is None:
            return self.sent
        until_ns = self.end.until_ns if self.end else self.ledger.last_ns
        return min(len(self.ledger.state), self.schedule.due_by((until_ns - self.started_ns) / 1e9))


@dataclass(frozen=True, eq=False)
class ConsumerRecord(WorkerRecord):
    """One consumer: its journal, and arrays over all producers' messages in a row.

    They are all zero if they are not ``readable``. ``again`` holds what it received again, as far
    as that can be read. ``dead_letters`` is the same of each queue whose dead letters it gets.
    """

    ledger: DeliveryLedger
    again: npt.NDArray[Any]
    readable: bool
    dead_letters: Sequence[ConsumerRecord] = ()

    @property
    def deliveries(self) -> int:
        """How many messages of the run it received, those that came again included."""
        own = self.ledger.deliveries + len(self.again)
        return own + sum(each.deliveries for each in self.dead_letters)


@dataclass(frozen=True, eq=False)
class DeadLetterRecord:
    """What the consumers of one queue received of another's dead letters."""

    consumers: Sequence[ConsumerRecord]
    auto_ack: bool

    def settled(self, places: slice) -> npt.NDArray[np.bool_]:
        """Return with which of some messages any of them was through."""
        settled = np.zeros(places.stop - places.start, np.bool_)
        for consumer in self.consumers:
            settled |= consumer.ledger.settled(places, auto_ack=self.auto_ack)
        return settled


@dataclass(frozen=True, eq=False)
class QueueRecord:
    """One queue as it was asked for, under the name that it was declared with.

    ``directory`` holds those of its consumers. ``dead_letters`` are what queues received of its
    own, by their names.
    """

    directory: Path
    asked: Mapping[str, Any]
    name: str
    arguments: Mapping[str, Any]
    consumers: Sequence[ConsumerRecord]
    dead_letters: Mapping[str, DeadLetterRecord] = field(default_factory=dict)

    @property
    def gets_all(self) -> bool:
        """Whether it gets every message that is published, not only dead letters."""
        return bool(self.asked.get("gets_all", True))

    def settled(self, places: slice) -> npt.NDArray[np.bool_]:
        """Return of some messages with which it is through.

        A consumer was through with them, or they were dead-lettered, and each queue has them that
        gets them.
        """
        auto_ack = bool(self.asked.get("auto_ack"))
        settled = np.zeros(places.stop - places.start, np.bool_)
        for consumer in self.consumers:
            settled |= consumer.ledger.settled(
                places, auto_ack=auto_ack, rejecting=not self.dead_letters
            )
        return settled | self.dead_lettered(places)

    def dead_lettered(self, places: slice) -> npt.NDArray[np.bool_]:
        """Return with which of its dead letters each queue is through that gets them."""
        through = np.full(places.stop - places.start, bool(self.dead_letters))
        for received in self.dead_letters.values():
            through &= received.settled(places)
        return through


@dataclass(frozen=True, eq=False)
class RunRecord:
    """All that a run's directory holds. ``description`` is ``run.json`` as it stands."""

    directory: RunDirectory
    description: Mapping[str, Any]
    entries: Sequence[Entry]
    producers: Sequence[ProducerRecord]
    queues: Sequence[QueueRecord]
    evidence: Evidence

    def of(self, kind: type[_Entry]) -> Iterator[_Entry]:
        """Yield the entries of one kind in the run's journal."""
        return (each for each in self.entries if isinstance(each, kind))

    def require_published(self) -> None:
        """Raise AccessRefused or MessageTooLarge if that is why nothing was published.

        There is nothing to judge then. What others have published is judged.
        """
        if any(producer.ledger.confirmed for producer in self.producers):
            return
        for producer in self.producers:
            if producer.end is not None and producer.end.refused:
                raise AccessRefused(producer.end.error or f"{producer.name} got no access.")
            if producer.end is not None and producer.end.too_large:
                raise MessageTooLarge(producer.end.error or "A message was too large.")
