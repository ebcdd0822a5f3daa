"""Rates and latencies, computed from a run's ledgers and journals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import pieces
from rmqbench.results.latencies import percentile_of, read_latencies, steps_of, sum_of
from rmqbench.results.ranks import percentiles
from rmqbench.run_directory.journal import WorkStarted
from rmqbench.run_directory.records import ConsumerRecord, ProducerRecord

__all__ = [
    "Latency",
    "Throughput",
    "confirm_latency",
    "consume_throughput",
    "latency_of",
    "publish_throughput",
    "throughput_of",
]

_PERCENTS = (50, 95, 99, 100)


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast messages were published, or a queue was consumed.

    ``seconds`` is from the first worker's start to the last worker's last message;
    ``cpu_us_per_message`` counts everything that the client does, of all workers together.
    """

    messages: int
    seconds: float
    rate_per_s: float
    cpu_us_per_message: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the publish of a message to its confirm."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def publish_throughput(producers: Sequence[ProducerRecord], confirmed: int) -> Throughput:
    """Return how fast messages were confirmed."""
    spans = [_span(each) for each in producers]
    return throughput_of(confirmed, spans, _cpu_s(producers))


def consume_throughput(consumers: Sequence[ConsumerRecord]) -> Throughput:
    """Return how fast a queue's messages were received, those that came again included."""
    messages = sum(each.end.messages if each.end else each.deliveries for each in consumers)
    spans = [_span(each) for each in consumers]
    return throughput_of(messages, spans, _cpu_s(consumers))


def confirm_latency(producers: Sequence[ProducerRecord]) -> Latency | None:
    """Return percentiles over the messages that were settled; None if none was.

    Where evidence was let go they are those of steps, see :mod:`rmqbench.results.latencies`.
    """
    columns = [each.ledger.settled_after_ns for each in producers]
    counts = [read_latencies(each.ledger.directory) for each in producers]
    gone = [each for each in counts if each is not None]
    if not gone:
        return latency_of(columns)
    for piece in _settled(columns):
        gone.append(steps_of(piece))
    together = sum_of(gone)
    return Latency(*(percentile_of(together, percent) / 1e6 for percent in _PERCENTS))


def latency_of(waited_ns: Sequence[npt.NDArray[np.float32]]) -> Latency | None:
    """Compute percentiles over the messages that were settled; None if none was.

    Of each producer the nanoseconds until each of its messages was settled, 0 where it was not.
    """
    count = sum(map(len, _settled(waited_ns)))
    if not count:
        return None
    return Latency(*percentiles(lambda: _settled(waited_ns), count, _PERCENTS, unit=1e6))


def _settled(waited_ns: Sequence[npt.NDArray[np.float32]]) -> Iterator[npt.NDArray[np.int64]]:
    for each in waited_ns:
        for piece in pieces(len(each)):
            settled = each[piece]
            settled = settled[settled > 0]
            if len(settled):
                yield settled.astype(np.int64)


def _span(worker: ProducerRecord | ConsumerRecord) -> tuple[int, int] | None:
    """Return when a worker's work began and ended; None if it never began.

    The end of one that did not record it is that of its last message.
    """
    start = next(worker.of(WorkStarted), None)
    if start is None:
        return None
    return start.time_ns, worker.end.until_ns if worker.end else worker.ledger.last_ns


def _cpu_s(workers: Sequence[ProducerRecord] | Sequence[ConsumerRecord]) -> float:
    return sum(each.end.cpu_s for each in workers if each.end)


def throughput_of(
    messages: int, spans_ns: Sequence[tuple[int, int] | None], cpu_s: float
) -> Throughput:
    """Compute a throughput from each worker's (start, end) in nanoseconds and their CPU seconds.

    The span of a worker that never began is None.
    """
    known = [span for span in spans_ns if span is not None]
    start = min((start for start, _ in known), default=0)
    seconds = max((end - start for _, end in known), default=0) / 1e9
    return Throughput(
        messages=messages,
        seconds=max(0.0, seconds),
        rate_per_s=messages / seconds if seconds > 0 else 0.0,
        cpu_us_per_message=cpu_s / messages * 1e6 if messages else 0.0,
    )
