"""A run over time: rates, the broker's own figures, and how latencies are spread, for charts.

All is thinned: a series has at most a few hundred points, however long the run was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from rmqbench.management.sampler import QueueSample, Sample
from rmqbench.pieces import pieces
from rmqbench.results.latencies import confirm_points, delivery_points, kept_pieces
from rmqbench.results.steps import Counts, read_counts, steps_of, sum_of
from rmqbench.run_directory.ledger import are_confirmed
from rmqbench.run_directory.records import ProducerRecord, QueueRecord, RunRecord
from rmqbench.verdict.evidence import NACKED, RETURNED

__all__ = ["Density", "Series", "TimeAxis", "curves", "densities", "figures", "rates", "time_axis"]

_MOST_POINTS = 400
_LEAST_STEP_NS = 100_000_000
_COLUMNS, _ROWS = 120, 40  # of a density
_MOST_QUEUES = 3  # of which latencies are drawn
_LEAST_LATENCY_NS = 10_000  # what is quicker stands with these
_RATES = {
    "published to": "publish_rate",
    "delivered from": "deliver_rate",
    "acknowledged to": "ack_rate",
}

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The time of a run in ``count`` steps of the same length, from ``start_ns`` (Unix) on."""

    start_ns: int
    step_ns: int
    count: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.count * self.step_ns / 1e9

    def second(self, time_ns: int) -> float:
        """Return when something was, in seconds from the start."""
        return (time_ns - self.start_ns) / 1e9

    def middles(self) -> FloatArray:
        """Return the middle of each step, in seconds from the start."""
        middles: FloatArray = (np.arange(self.count, dtype=np.float64) + 0.5) * self.step_ns / 1e9
        return middles

    def counted(self, times_ns: IntArray) -> IntArray:
        """Return how many of these times are in each step; those outside are left out."""
        steps = (times_ns - self.start_ns) // self.step_ns
        steps = steps[(steps >= 0) & (steps < self.count)]
        return np.bincount(steps, minlength=self.count)


@dataclass(frozen=True, eq=False)
class Series:
    """Values over time: ``seconds`` and ``values`` of the same shape; not a number: not known."""

    name: str
    seconds: FloatArray
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Density:
    """How many messages took how long, over the time at which they were due.

    ``counts`` has a row for each stretch of latency, the shortest first, and a column for each
    stretch of time: int64 of shape (rows, columns). ``bad`` of the same shape are those among them
    that came to no good: nacked, returned, or not delivered by a queue. The bounds are ``edges_s``,
    seconds from the start, and ``edges_ms``, which grow by equal factors.
    """

    name: str
    edges_s: FloatArray
    edges_ms: FloatArray
    counts: IntArray
    bad: IntArray


def time_axis(record: RunRecord, samples: Sequence[Sample] = ()) -> TimeAxis:
    """Return the time from a run's first entry, or sample, to its last sign of life."""
    consumers = [each for queue in record.queues for each in queue.consumers]
    times = [each.time_ns for each in record.entries]
    times += [each.time_ns for worker in (*record.producers, *consumers) for each in worker.entries]
    times += [each.ledger.last_ns for each in record.producers]
    times += [each.ledger.last_ns for each in consumers]
    times += [each.time_ns for each in samples]
    times = [each for each in times if each]  # 0: nothing came
    start_ns, end_ns = min(times, default=0), max(times, default=0)
    step_ns = max(_LEAST_STEP_NS, -(-(end_ns - start_ns + 1) // _MOST_POINTS))
    return TimeAxis(start_ns, step_ns, max(1, -(-(end_ns - start_ns + 1) // step_ns)))


def rates(record: RunRecord, axis: TimeAxis, samples: Sequence[Sample] = ()) -> list[Series]:
    """Return how many messages a second were published, confirmed, delivered and acknowledged.

    From the ledgers; where evidence was let go, as the broker has seen it itself.
    """
    if any(each.ledger.let_go is not None for each in record.producers):
        return list(_sampled_rates(record, axis, samples))
    published, confirmed = np.zeros(axis.count, np.int64), np.zeros(axis.count, np.int64)
    for producer in record.producers:
        ledger = producer.ledger
        for these in pieces(len(ledger.state)):
            published += axis.counted(ledger.sent_ns[these])
            confirmed += axis.counted(ledger.settled_ns(these))
        published += axis.counted(producer.copies["sent_ns"])
    found = [("published", published), ("confirmed", confirmed)]
    for queue in record.queues:
        found.append((f"delivered from {queue.name}", _delivered(queue, axis)))
        if any(each.ledger.acked_after_ns is not None for each in queue.consumers):
            found.append((f"acknowledged to {queue.name}", _acknowledged(queue, axis)))
    return [
        Series(name, axis.middles(), counts.astype(np.float64) * 1e9 / axis.step_ns)
        for name, counts in found
    ]


def figures(
    record: RunRecord, axis: TimeAxis, samples: Sequence[Sample]
) -> dict[str, list[Series]]:
    """Return the broker's own figures: ``depth`` of each queue, and ``memory`` in MiB."""
    names = [queue.name for queue in record.queues]
    nodes = sorted({name for each in samples for name in each.nodes})
    return {
        "depth": [_sampled(f"in {name}", samples, axis, _of_queue(name, _depth)) for name in names],
        "memory": [
            *(_sampled(f"node {name}", samples, axis, _node_memory(name)) for name in nodes),
            *(_sampled(f"queue {name}", samples, axis, _of_queue(name, _memory)) for name in names),
        ],
    }


def densities(record: RunRecord, axis: TimeAxis) -> list[Density]:
    """Return how latencies are spread over time: of confirms, and of each queue's deliveries.

    Those of deliveries are there where queues are consumed while messages are published, of the
    first few queues. Nothing of what was let go is in them.
    """
    points = dict(_points(record))
    found = (_density(name, axis, each) for name, each in points.items())
    return [each for each in found if each is not None]


def curves(record: RunRecord) -> dict[str, Counts]:
    """Return how often each latency came, in steps, see :mod:`rmqbench.results.steps`.

    The same latencies as of :func:`densities`, with what was let go.
    """
    found = {}
    for name, points in _points(record):
        counts = [steps_of(latencies_ns) for _, latencies_ns, _ in points()]
        counts += _let_go(record, name)
        if counts and (together := sum_of(counts)).any():
            found[name] = together
    return found


_Points = Callable[[], Iterator[tuple[IntArray, IntArray, BoolArray]]]
"""When messages were due, how long each took, and whether it came to no good."""


def _points(record: RunRecord) -> Iterator[tuple[str, _Points]]:
    """Yield each latency by its name, with a way to go through all messages of it."""
    yield "confirm", partial(_confirms, record)
    if record.description["scenario"].get("consume") == "during":
        for queue in record.queues[:_MOST_QUEUES]:
            yield f"delivery from {queue.name}", partial(_deliveries, record, queue)


def _confirms(record: RunRecord) -> Iterator[tuple[IntArray, IntArray, BoolArray]]:
    start = 0
    for producer in record.producers:
        for these in kept_pieces(producer):
            due_ns, took_ns, known = confirm_points(producer, these)
            yield due_ns, took_ns, _bad(record, producer, start, these)[known]
        start += len(producer.ledger.state)


def _deliveries(
    record: RunRecord, queue: QueueRecord
) -> Iterator[tuple[IntArray, IntArray, BoolArray]]:
    start = 0
    for producer in record.producers:
        for these in kept_pieces(producer):
            due_ns, took_ns, _ = delivery_points(producer, queue, start, these)
            yield due_ns, took_ns, np.zeros(len(due_ns), np.bool_)
        start += len(producer.ledger.state)


def _bad(record: RunRecord, producer: ProducerRecord, start: int, these: slice) -> BoolArray:
    """Return which messages were nacked, returned, or confirmed and not settled at a queue."""
    state = producer.ledger.state[these]
    bad: BoolArray = state & (NACKED | RETURNED) != 0
    confirmed = are_confirmed(state)
    places = slice(start + these.start, start + these.stop)
    for queue in record.queues:
        if queue.gets_all:
            bad |= confirmed & ~queue.settled(places)
    return bad


def _let_go(record: RunRecord, name: str) -> list[Counts]:
    """Return what was counted of a latency before its evidence was let go."""
    places = [each.ledger.directory for each in record.producers]
    if name != "confirm":
        places = [each.directory for each in record.queues if name == f"delivery from {each.name}"]
    return [counts[0] for place in places if (counts := read_counts(place)) is not None]


def _density(name: str, axis: TimeAxis, points: _Points) -> Density | None:
    shortest, longest, first_ns, last_ns = sys.maxsize, 0, sys.maxsize, 0
    for due_ns, latencies_ns, _ in points():
        if len(due_ns):
            shortest = min(shortest, int(latencies_ns.min()))
            longest = max(longest, int(latencies_ns.max()))
            first_ns, last_ns = min(first_ns, int(due_ns.min())), max(last_ns, int(due_ns.max()))
    if longest <= 0:
        return None
    shortest = max(shortest, _LEAST_LATENCY_NS)
    edges_ns = np.geomspace(shortest, max(longest, 2 * shortest) + 1, _ROWS + 1)
    edges_s = np.linspace(axis.second(first_ns), axis.second(last_ns + 1), _COLUMNS + 1)
    counts, bad = np.zeros((2, _ROWS, _COLUMNS), np.int64)
    for due_ns, latencies_ns, are_bad in points():
        seconds = (due_ns - axis.start_ns) / 1e9
        rows, bins = np.maximum(latencies_ns, shortest), (edges_ns, edges_s)
        counts += np.histogram2d(rows, seconds, bins=bins)[0].astype(np.int64)
        if are_bad.any():
            found = np.histogram2d(rows[are_bad], seconds[are_bad], bins=bins)[0]
            bad += found.astype(np.int64)
    return Density(name, edges_s, edges_ns / 1e6, counts, bad)


def _delivered(queue: QueueRecord, axis: TimeAxis) -> IntArray:
    """Count the deliveries of a queue, those that came again included."""
    counts = np.zeros(axis.count, np.int64)
    for consumer in queue.consumers:
        for these in pieces(len(consumer.ledger.state)):
            counts += axis.counted(consumer.ledger.first_ns[these])
        counts += axis.counted(consumer.again["at_ns"])
    return counts


def _acknowledged(queue: QueueRecord, axis: TimeAxis) -> IntArray:
    counts = np.zeros(axis.count, np.int64)
    for consumer in queue.consumers:
        ledger = consumer.ledger
        if ledger.acked_after_ns is None:
            continue
        for these in pieces(len(ledger.state)):
            after_ns = ledger.acked_after_ns[these].astype(np.int64)
            counts += axis.counted(ledger.first_ns[these][after_ns > 0] + after_ns[after_ns > 0])
    return counts


# --- the broker's own ----------------------------------------------------------------------------

_Figure = Callable[[Sample], float | None]


def _sampled(name: str, samples: Sequence[Sample], axis: TimeAxis, of: _Figure) -> Series:
    """Return a figure of the broker's; where it could not be asked, it is not known."""
    seconds = [axis.second(each.time_ns) for each in samples]
    values = [of(each) for each in samples]
    thin = slice(None, None, -(-len(samples) // _MOST_POINTS) or 1)
    return Series(name, np.array(seconds)[thin], np.array(values, np.float64)[thin])


def _sampled_rates(
    record: RunRecord, axis: TimeAxis, samples: Sequence[Sample]
) -> Iterator[Series]:
    for queue in record.queues:
        for what, name in _RATES.items():
            of = _of_queue(queue.name, attrgetter(name))
            yield _sampled(f"{what} {queue.name}", samples, axis, of)


def _of_queue(name: str, figure: Callable[[QueueSample], float | None]) -> _Figure:
    def of(sample: Sample) -> float | None:
        return figure(sample.queues[name]) if name in sample.queues else None

    return of


def _node_memory(name: str) -> _Figure:
    def of(sample: Sample) -> float | None:
        used = sample.nodes[name].mem_used_bytes if name in sample.nodes else None
        return None if used is None else used / 2**20

    return of


def _depth(queue: QueueSample) -> float | None:
    if queue.messages_ready is None:
        return None
    return float(queue.messages_ready + (queue.messages_unacknowledged or 0))


def _memory(queue: QueueSample) -> float | None:
    return None if queue.memory_bytes is None else queue.memory_bytes / 2**20
