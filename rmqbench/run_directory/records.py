"""What a run's directory holds of each worker, each queue and the run, as it was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy.typing as npt

from rmqbench.errors import AccessRefused, MessageTooLarge
from rmqbench.run_directory.directory import RunDirectory
from rmqbench.run_directory.journal import Entry, WorkEnded
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
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
    def end(self) -> WorkEnded | None:
        """Its end; None where it was ended from outside, or is still at work."""
        return next(self.of(WorkEnded), None)


@dataclass(frozen=True, eq=False)
class ProducerRecord(WorkerRecord):
    """One producer: its journal, and arrays of shape (count,); all zero if not ``readable``.

    ``copies`` holds what it sent again, as far as that can be read.
    """

    ledger: PublishLedger
    copies: npt.NDArray[Any]
    readable: bool


@dataclass(frozen=True, eq=False)
class ConsumerRecord(WorkerRecord):
    """One consumer: its journal, and arrays over all producers' messages in a row.

    They are all zero if they are not ``readable``. ``again`` holds what it received again, as far
    as that can be read.
    """

    ledger: DeliveryLedger
    again: npt.NDArray[Any]
    readable: bool

    @property
    def deliveries(self) -> int:
        """How many messages of the run it received, those that came again included."""
        return self.ledger.deliveries + len(self.again)


@dataclass(frozen=True, eq=False)
class QueueRecord:
    """One queue as it was asked for, under the name that it was declared with."""

    asked: Mapping[str, Any]
    name: str
    arguments: Mapping[str, Any]
    consumers: Sequence[ConsumerRecord]


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
