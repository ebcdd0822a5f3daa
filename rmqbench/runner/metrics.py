"""Rates and latencies, computed from the ledger and the workers' reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Latency", "Phase", "latency_of", "phase_of"]


@dataclass(frozen=True, slots=True)
class Phase:
    """How fast one half of a run was.

    ``seconds`` is from the first worker's start to the last worker's last message;
    ``cpu_us_per_message`` counts everything the client does, of all workers together.
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


def phase_of(messages: int, spans_ns: Sequence[tuple[int, int]], cpu_s: float) -> Phase:
    """Compute a phase from each worker's (start, end) in nanoseconds and their CPU seconds."""
    start = min((start for start, _ in spans_ns), default=0)
    seconds = max((end - start for _, end in spans_ns), default=0) / 1e9
    return Phase(
        messages=messages,
        seconds=seconds,
        rate_per_s=messages / seconds if seconds > 0 else 0.0,
        cpu_us_per_message=cpu_s / messages * 1e6 if messages else 0.0,
    )


def latency_of(sent_ns: npt.NDArray[np.int64], settled_ns: npt.NDArray[np.int64]) -> Latency | None:
    """Compute percentiles over the messages that were settled; None if none was.

    Both arrays of shape (n,), Unix nanoseconds; 0 in ``settled_ns`` is not settled.
    """
    settled = settled_ns > 0
    if not settled.any():
        return None
    waited_ms = (settled_ns[settled] - sent_ns[settled]) / 1e6
    return Latency(*(float(q) for q in np.percentile(waited_ms, (50, 95, 99, 100))))
