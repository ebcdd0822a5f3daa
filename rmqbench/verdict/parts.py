"""The evidence of a run a part at a time: what is judged of a part takes the memory of a part.

A part is a range of one producer's messages. All deliveries of a message are in the same part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import PIECE, piece_of, pieces
from rmqbench.verdict.evidence import (
    ACKED,
    AGAIN,
    CONFIRMED,
    DELIVERED,
    LET_GO,
    REDELIVERED,
    REPORTED,
    SENT,
    ConsumerEvidence,
    Evidence,
    ProducerEvidence,
    channels_at,
)

__all__ = ["ConsumerParts", "Part", "Parts"]


@dataclass(frozen=True, eq=False)
class Part:
    """Messages of one producer, from the sequence number ``first`` on.

    ``start`` is the place of the first in arrays that hold all producers' messages in a row.
    ``producer`` has these messages only; within it, and within all that is computed of it, they
    are counted from 0 on. One that was let go has its producer's row of LET_GO, and ``segment`` is
    its place among all of them.
    """

    number: int  # of the producer
    first: int
    start: int
    producer: ProducerEvidence
    segment: int = 0
    let_go: Any = None

    def __len__(self) -> int:
        """Return how many messages they are."""
        return len(self.producer.state)

    def as_of_now(self) -> Part:
        """Return the part with what is known now of its messages, however it goes on."""
        return replace(self, producer=replace(self.producer, state=self.producer.state.copy()))


class Parts:
    """All parts of a run's evidence, in the order of their messages, or from the last to the first.

    ``count`` is how many messages there are of all producers.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._producers = evidence.producers
        self.count = 0
        self._starts = []
        self._segments = []
        self._copies = []
        segments = 0
        for producer in evidence.producers:
            count = len(producer.state)
            self._starts.append(self.count)
            self._segments.append(segments)
            self.count += count
            segments += len(list(pieces(count)))
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
        within, let_go = piece_of(these.start), None
        if len(producer.let_go) and producer.let_go["rows"][within] > 0:
            let_go = producer.let_go[within]
            part = replace(part, state=_SETTLED[: len(part.state)])
        return Part(
            *(number, these.start, self._starts[number] + these.start, part),
            segment=self._segments[number] + within,
            let_go=let_go,
        )


class ConsumerParts:
    """What the consumers of one queue received, a part at a time."""

    def __init__(self, consumers: Sequence[ConsumerEvidence], count: int) -> None:
        """Take them; ``count`` is the number of all producers' messages."""
        self._consumers = consumers
        self._again = [_Rows(each.again, "place", count) for each in consumers]

    def receive_none_of(self, part: Part) -> bool:
        """Whether none of them has anything of a part, or any more."""
        these = slice(part.start, part.start + len(part))
        may_hold = [
            each for each in self._consumers if not len(each.holds) or each.holds[part.segment]
        ]
        return not any(each.state[these].any() for each in may_hold) and not any(
            len(each.between(these.start, these.stop)) for each in self._again
        )

    def of(self, part: Part) -> list[ConsumerEvidence]:
        """Return what each of them has received of a part by now."""
        these = slice(part.start, part.start + len(part))
        found = [
            replace(
                consumer,
                state=consumer.state[these].copy(),
                stamp=consumer.stamp[these],
                first_ns=consumer.first_ns[these],
                again=again.between(these.start, these.stop),
            )
            for consumer, again in zip(self._consumers, self._again, strict=True)
        ]
        return found if part.let_go is None else _as_it_was(part, found)


_SETTLED = np.full(PIECE, SENT | CONFIRMED, np.uint8)


def _as_it_was(part: Part, found: Sequence[ConsumerEvidence]) -> list[ConsumerEvidence]:
    """Return what the consumers received of a part that was let go: all of it once, and what later.

    Which consumer had which message is known only where one had all of them; else it was one of
    which nothing is known, behind all others. Which of them had the flag is not known: where any
    had it, all may have.
    """
    rows = [
        each.let_go[part.segment] if len(each.let_go) else np.zeros(1, LET_GO)[0] for each in found
    ]
    had = [each for each in rows if each["rows"]]
    result = [
        _with_later(part, consumer, row, all_of_it=len(had) == 1 and bool(row["rows"]))
        for consumer, row in zip(found, rows, strict=True)
    ]
    if len(had) != 1:
        row = np.zeros(1, LET_GO)[0]
        row["earliest_ns"] = min((int(each["earliest_ns"]) for each in had), default=0)
        row["flagged"] = sum(int(each["flagged"]) for each in had)
        result.append(ConsumerEvidence(*_columns(part, row, all_of_it=True)))
    return result


def _with_later(
    part: Part, consumer: ConsumerEvidence, row: Any, *, all_of_it: bool
) -> ConsumerEvidence:
    """Return a consumer with all or nothing of a part, and what it has received of it later."""
    state, first_ns, last_ns = consumer.state, consumer.first_ns, int(row["last_ns"])
    later = np.flatnonzero((state & DELIVERED != 0) & (first_ns > last_ns))
    again = np.zeros(len(later), AGAIN)
    again["place"], again["at_ns"], again["stamp"] = later, first_ns[later], consumer.stamp[later]
    again["flags"] = state[later] & (REDELIVERED | REPORTED)
    again["channel"] = channels_at(consumer, first_ns[later])
    # There was no such row when the part was judged, whatever time one has: it was not read yet.
    again = np.concatenate([again, consumer.again])
    again = again[np.argsort(again["at_ns"], kind="stable")]
    state, stamp, first_ns = _columns(part, row, all_of_it=all_of_it)
    return replace(consumer, state=state, stamp=stamp, first_ns=first_ns, again=again)


def _columns(
    part: Part, row: Any, *, all_of_it: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Return the columns of who received all of a part at once, or nothing of it."""
    count, taken = len(part), DELIVERED | ACKED
    if row["flagged"]:
        taken |= REDELIVERED
    state = np.full(count, taken if all_of_it else 0, np.uint8)
    first_ns = np.full(count, int(row["earliest_ns"]) if all_of_it else 0, np.int64)
    return state, np.zeros(count, np.uint32), first_ns


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
