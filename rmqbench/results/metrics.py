"""Rates, computed from a run's ledgers and journals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rmqbench.run_directory.records import ConsumerRecord, ProducerRecord

__all__ = [
    "Throughput",
    "consume_throughput",
    "publish_throughput",
    "throughput_of",
]


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


def publish_throughput(producers: Sequence[ProducerRecord], confirmed: int) -> Throughput:
    """Return how fast messages were confirmed."""
    spans = [_span(each) for each in producers]
    return throughput_of(confirmed, spans, _cpu_s(producers))


def consume_throughput(consumers: Sequence[ConsumerRecord]) -> Throughput:
    """Return how fast a queue's messages were received, those that came again included."""
    messages = sum(each.end.messages if each.end else each.deliveries for each in consumers)
    spans = [_span(each) for each in consumers]
    return throughput_of(messages, spans, _cpu_s(consumers))


def _span(worker: ProducerRecord | ConsumerRecord) -> tuple[int, int] | None:
    """Return when a worker's work began and ended; None if it never began.

    The end of one that did not record it is that of its last message.
    """
    if worker.started_ns is None:
        return None
    return worker.started_ns, worker.end.until_ns if worker.end else worker.ledger.last_ns


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
