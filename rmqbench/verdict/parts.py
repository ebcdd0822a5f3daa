"""The evidence of a run a part at a time: what is judged of a part takes the memory of a part.

A part is a range of one producer's messages. All deliveries of a message are in the same part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import pieces
from rmqbench.verdict.evidence import ConsumerEvidence, Evidence, ProducerEvidence

__all__ = ["ConsumerParts", "Part", "Parts"]


@dataclass(frozen=True, eq=False)
class Part:
    """Messages of one producer, from the sequence number ``first`` on.

    ``start`` is the place of the first in arrays that hold all producers' messages in a row.
    ``producer`` has these messages only; within it, and within all that is computed of it, they
    are counted from 0 on.
    """

    number: int  # of the producer
    first: int
    start: int
    producer: ProducerEvidence

    def __len__(self) -> int:
        """Return how many messages they are."""
        return len(self.producer.state)


class Parts:
    """All parts of a run's evidence, in the order of their messages, or from the last to the first.

    ``count`` is how many messages there are of all producers.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._producers = evidence.producers
        self.count = 0
        self._starts = []
        self._copies = []
        for producer in evidence.producers:
            count = len(producer.state)
            self._starts.append(self.count)
            self.count += count
            self._copies.append(_Rows(producer.copies, "sequence", count))

    def __iter__(self) -> Iterator[Part]:
        """Yield them in the order of their messages."""
        return (self._part(*each) for each in self._ranges())

    def __reversed__(self) -> Iterator[Part]:
        """Yield them from the last to the first."""
        return (self._part(*each) for each in reversed(list(self._ranges())))

    def _ranges(self) -> Iterator[tuple[int, slice]]:
        for number, producer in enumerate(self._producers):
            for each in pieces(len(producer.state)):
                yield number, each

    def _part(self, number: int, these: slice) -> Part:
        producer = self._producers[number]
        wanted = len(producer.state) if producer.wanted is None else producer.wanted
        part = replace(
            producer,
            state=producer.state[these],
            sent_ns=producer.sent_ns[these],
            copies=self._copies[number].between(these.start, these.stop),
            wanted=wanted - these.start,
        )
        return Part(number, these.start, self._starts[number] + these.start, part)


class ConsumerParts:
    """What the consumers of one queue received, a part at a time."""

    def __init__(self, consumers: Sequence[ConsumerEvidence], count: int) -> None:
        """Take them; ``count`` is the number of all producers' messages."""
        self._consumers = consumers
        self._again = [_Rows(each.again, "place", count) for each in consumers]

    def of(self, part: Part) -> list[ConsumerEvidence]:
        """Return what each of them received of a part."""
        these = slice(part.start, part.start + len(part))
        return [
            replace(
                consumer,
                state=consumer.state[these],
                stamp=consumer.stamp[these],
                first_ns=consumer.first_ns[these],
                again=again.between(these.start, these.stop),
            )
            for consumer, again in zip(self._consumers, self._again, strict=True)
        ]


class _Rows:
    """Rows that name a message each, sorted by it; those of one message stay in their order.

    What is about a message that there is not is left out: a file may hold anything.
    """

    def __init__(self, rows: npt.NDArray[Any], column: str, count: int) -> None:
        messages = rows[column]
        known = np.flatnonzero((messages >= 0) & (messages < count))
        self._rows = rows[known[np.argsort(messages[known], kind="stable")]]
        self._messages = np.ascontiguousarray(self._rows[column])
        self._column = column

    def between(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the rows of some messages, which are counted from ``start`` on in them."""
        begin, end = np.searchsorted(self._messages, [start, stop])
        rows = self._rows[begin:end].copy()
        rows[self._column] -= start
        return rows
