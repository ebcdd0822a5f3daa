"""Latencies of a run: exact percentiles over all messages that were due, from its ledgers.

A latency counts from the moment at which a message was due, not from that at which it was sent:
what the broker keeps from being sent is late, too. (To leave that out is known as coordinated
omission.) Where the load is not open, a message is due when it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import pieces
from rmqbench.results.ranks import percentiles
from rmqbench.results.steps import Counts, count_of, percentile_of, read_counts, steps_of, sum_of
from rmqbench.run_directory.records import ProducerRecord, QueueRecord
from rmqbench.verdict.evidence import SENT

__all__ = [
    "IntArray",
    "Latency",
    "Percentiles",
    "PublishLatencies",
    "QueueLatencies",
    "confirm_points",
    "delivery_points",
    "kept_pieces",
    "publish_latencies",
    "publish_rows",
    "queue_latencies",
    "queue_rows",
]

_NONE = np.zeros(0, np.int64)
_NEVER = np.iinfo(np.int64).max
_PERCENTS = (50, 90, 95, 99, 99.9, 99.99)

IntArray = npt.NDArray[np.int64]
Points = tuple[IntArray, IntArray, npt.NDArray[np.bool_]]
Rows = Sequence[IntArray]
"""Latencies in nanoseconds, of each kind some."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds, of ``count`` messages; ``missing`` were due, too, and took longer than any.

    A percentile that falls among those that are missing is None. ``max_ms`` is of the others.
    """

    count: int
    missing: int
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    p9999_ms: float | None
    max_ms: float


@dataclass(frozen=True, slots=True)
class Latency(Percentiles):
    """Percentiles of a latency, and what they would be had the producers sent in time.

    ``without_lag`` leaves out by how much the producers themselves were late. A message that they
    have not sent took as long there as others kept it from being sent, until their end. None: the
    load was not open, and a message was due when it was sent.
    """

    without_lag: Percentiles | None = None


class PublishLatencies(NamedTuple):
    """``confirm``: until the broker confirmed or refused a message. ``lag``: until it was sent.

    The lag is only that of the producer itself, which neither the broker nor the window kept from
    sending. None: nothing was confirmed; the load was not open.
    """

    confirm: Latency | None
    lag: Percentiles | None


class QueueLatencies(NamedTuple):
    """Until a queue delivered a message, and until its first acknowledgement was sent."""

    delivery: Latency | None
    acknowledge: Latency | None


def publish_latencies(producers: Sequence[ProducerRecord]) -> PublishLatencies:
    """Return the latencies of publishing."""
    due, sent = sum(each.due for each in producers), sum(each.sent for each in producers)

    def rows() -> Iterator[Rows]:
        for each in producers:
            for these in kept_pieces(each):
                yield publish_rows(each, these)

    let_go = [read_counts(each.ledger.directory) for each in producers]
    confirm, without_lag, lag = _percentiles(rows, let_go, [due, due, sent])
    return PublishLatencies(_latency(confirm, without_lag), lag)


def queue_latencies(producers: Sequence[ProducerRecord], queue: QueueRecord) -> QueueLatencies:
    """Return the latencies of a queue that is consumed while messages are published."""
    due = sum(each.due for each in producers)

    def rows() -> Iterator[Rows]:
        start = 0
        for each in producers:
            for these in kept_pieces(each):
                yield queue_rows(each, queue, start, these)
            start += len(each.ledger.state)

    let_go = [read_counts(queue.directory)]
    delivery, without_lag, acknowledge, acknowledge_without_lag = _percentiles(
        rows, let_go, [due] * 4
    )
    return QueueLatencies(
        _latency(delivery, without_lag), _latency(acknowledge, acknowledge_without_lag)
    )


def kept_pieces(producer: ProducerRecord) -> Iterator[slice]:
    """Yield the pieces of a producer's messages of which the evidence was not let go."""
    ledger = producer.ledger
    for these in pieces(len(ledger.state)):
        if ledger.let_go is None or not ledger.let_go.among(these.start, these.stop).any():
            yield these


def publish_rows(producer: ProducerRecord, these: slice) -> Rows:
    """Return the latencies of some messages of a producer that are known.

    Three rows: until their confirms, these without the producer's own lag, and the lag itself.
    Where the load is not open, the last two are empty.
    """
    ledger = producer.ledger
    due_ns = producer.due_ns(these)
    sent = (ledger.state[these] & SENT != 0) & (due_ns > 0)
    after_ns = ledger.settled_after_ns[these].astype(np.int64)
    settled = sent & (after_ns > 0)
    confirm = (ledger.sent_ns[these] - due_ns + after_ns)[settled]
    if ledger.lag_ns is None:
        return [confirm, _NONE, _NONE]
    lag_ns = ledger.lag_ns[these].astype(np.int64)
    unsent = _held_ns(producer, these, due_ns, lag_ns)
    return [confirm, np.concatenate([confirm - lag_ns[settled], unsent]), lag_ns[sent]]


def queue_rows(producer: ProducerRecord, queue: QueueRecord, start: int, these: slice) -> Rows:
    """Return the latencies of some messages of a producer that are known, through a queue.

    ``start`` is the place of the producer's first message in the ledgers of consumers. Four rows:
    until their delivery, with and without the producer's own lag, and until their acknowledgement
    likewise. Where the load is not open, the last three are empty.
    """
    ledger = producer.ledger
    due_ns = producer.due_ns(these)
    delivered_ns, acked_ns = _received(queue, slice(start + these.start, start + these.stop))
    sent = (ledger.state[these] & SENT != 0) & (due_ns > 0)
    delivered = sent & (delivered_ns < _NEVER)
    delivery = (delivered_ns - due_ns)[delivered]
    if ledger.lag_ns is None:
        return [delivery, _NONE, _NONE, _NONE]
    lag_ns = ledger.lag_ns[these].astype(np.int64)
    unsent = _held_ns(producer, these, due_ns, lag_ns)
    acked = sent & (acked_ns < _NEVER)
    acknowledge = (acked_ns - due_ns)[acked]
    return [
        delivery,
        np.concatenate([delivery - lag_ns[delivered], unsent]),
        acknowledge,
        np.concatenate([acknowledge - lag_ns[acked], unsent]),
    ]


def _held_ns(
    producer: ProducerRecord, these: slice, due_ns: IntArray, lag_ns: IntArray
) -> IntArray:
    """Return for how long others kept messages from being sent that were due, and never were.

    Until the producer's end; of one that did not record it nothing is known.
    """
    if producer.end is None:
        return _NONE
    until_ns = producer.end.until_ns
    unsent = (producer.ledger.state[these] & SENT == 0) & (due_ns > 0) & (due_ns < until_ns)
    unsent &= np.arange(these.start, these.stop) < producer.due
    held: IntArray = np.maximum(until_ns - due_ns - lag_ns, 0)[unsent]
    return held


def confirm_points(producer: ProducerRecord, these: slice) -> Points:
    """Return when some messages were due, and how long they took to be confirmed or refused.

    Unix nanoseconds, and nanoseconds, of those of which it is known; and which these are.
    """
    due_ns, settled_ns = producer.due_ns(these), producer.ledger.settled_ns(these)
    known = (producer.ledger.state[these] & SENT != 0) & (settled_ns > 0) & (due_ns > 0)
    return due_ns[known], (settled_ns - due_ns)[known], known


def delivery_points(
    producer: ProducerRecord, queue: QueueRecord, start: int, these: slice
) -> Points:
    """Return the same until their delivery from a queue; ``start`` as of :func:`queue_rows`."""
    due_ns = producer.due_ns(these)
    delivered_ns, _ = _received(queue, slice(start + these.start, start + these.stop))
    sent = (producer.ledger.state[these] & SENT != 0) & (due_ns > 0)
    known = sent & (delivered_ns < _NEVER)
    return due_ns[known], (delivered_ns - due_ns)[known], known


def _received(queue: QueueRecord, places: slice) -> tuple[IntArray, IntArray]:
    """Return when a queue delivered some messages first, and when they were first acknowledged.

    Unix nanoseconds; of what did not come, or is not known, :data:`_NEVER`.
    """
    count = places.stop - places.start
    delivered_ns, acked_ns = np.full(count, _NEVER), np.full(count, _NEVER)
    for consumer in queue.consumers:
        came = consumer.ledger.state[places] != 0
        first_ns = consumer.ledger.first_ns[places]
        delivered_ns = np.where(came, np.minimum(delivered_ns, first_ns), delivered_ns)
        if consumer.ledger.acked_after_ns is not None:
            after_ns = consumer.ledger.acked_after_ns[places].astype(np.int64)
            acked = came & (after_ns > 0)
            acked_ns = np.where(acked, np.minimum(acked_ns, first_ns + after_ns), acked_ns)
    return delivered_ns, acked_ns


def _latency(all_of_it: Percentiles | None, without_lag: Percentiles | None) -> Latency | None:
    return None if all_of_it is None else Latency(**asdict(all_of_it), without_lag=without_lag)


def _percentiles(
    rows: Callable[[], Iterator[Rows]],
    let_go: Sequence[npt.NDArray[np.int64] | None],
    due: Sequence[int],
) -> list[Percentiles | None]:
    """Return the percentiles of each row, of which so many messages were due.

    Where evidence was let go they are those of steps, see :mod:`rmqbench.results.steps`.
    """
    gone = [each for each in let_go if each is not None]
    if gone:
        together: list[Counts] = [sum_of(alike) for alike in zip(*gone, strict=True)]
        for piece in rows():
            pairs = zip(together, piece, strict=True)
            together = [sum_of([counts, steps_of(each)]) for counts, each in pairs]
        return [_of_steps(each, of) for each, of in zip(together, due, strict=False)]
    counts, highest = [0] * len(due), [0] * len(due)
    for piece in rows():
        for row, each in enumerate(piece):
            counts[row] += len(each)
            highest[row] = max(highest[row], int(each.max(initial=0)))
    missing = [max(0, of - count) for count, of in zip(counts, due, strict=True)]
    found = percentiles(rows, counts, _PERCENTS, beyond=missing, unit=1e6)
    return [
        _row(count, more, those, most / 1e6) if count else None
        for count, more, those, most in zip(counts, missing, found, highest, strict=True)
    ]


def _of_steps(counts: Counts, due: int) -> Percentiles | None:
    count = count_of(counts)
    if not count:
        return None
    missing = max(0, due - count)
    found: list[float | None] = []
    for percent in _PERCENTS:
        among = percent * (count + missing) / count
        found.append(None if among > 100 else percentile_of(counts, among) / 1e6)
    return _row(count, missing, found, percentile_of(counts, 100) / 1e6)


def _row(count: int, missing: int, values: Sequence[float | None], highest: float) -> Percentiles:
    p50, p90, p95, p99, p999, p9999 = (
        None if value is None else round(value, 6) for value in values
    )
    return Percentiles(count, missing, p50, p90, p95, p99, p999, p9999, round(highest, 6))
