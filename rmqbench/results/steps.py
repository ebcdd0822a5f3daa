"""Latencies, counted in steps: what stays of those of messages whose evidence was let go.

The steps grow with the latency, 64 to each power of two: what is read from the counts is too high
by a sixty-fourth at most. The highest is known exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "LATENCY_FILE",
    "Counts",
    "add_counts",
    "count_of",
    "percentile_of",
    "read_counts",
    "steps_of",
    "sum_of",
]

LATENCY_FILE: Final = "latency.npy"

_BITS: Final = 6
_STEPS: Final = (64 - _BITS) << _BITS

Counts = npt.NDArray[np.int64]


def steps_of(latencies_ns: npt.NDArray[np.int64]) -> Counts:
    """Count latencies, in nanoseconds; the last place of the counts is the highest of them."""
    latencies_ns = np.maximum(latencies_ns, 1)
    shift = np.maximum(np.frexp(latencies_ns.astype(np.float64))[1] - 1 - _BITS, 0)
    steps = (shift.astype(np.int64) << _BITS) + (latencies_ns >> shift)
    counts = np.bincount(steps, minlength=_STEPS + 1)[: _STEPS + 1]
    counts[_STEPS] = latencies_ns.max(initial=0)
    return counts.astype(np.int64)


def sum_of(counts: Sequence[Counts]) -> Counts:
    """Return the counts of all of these together."""
    together: Counts = np.stack(counts).sum(axis=0)
    together[_STEPS] = max(each[_STEPS] for each in counts)
    return together


def middles_of(counts: Counts) -> Iterator[tuple[float, int]]:
    """Yield the middle of each step that was counted, in nanoseconds, and how often it was."""
    for step in np.flatnonzero(counts[:_STEPS]).tolist():
        shift = max(0, (step >> _BITS) - 1)
        low = (step - (shift << _BITS)) << shift
        yield low + ((1 << shift) - 1) / 2, int(counts[step])


def count_of(counts: Counts) -> int:
    """Return how many latencies were counted."""
    return int(counts[:_STEPS].sum())


def percentile_of(counts: Counts, percent: float) -> float:
    """Return a percentile of what was counted, in nanoseconds."""
    ends = np.cumsum(counts[:_STEPS])
    if percent >= 100:
        return float(counts[_STEPS])
    step = int(np.searchsorted(ends, percent / 100 * ends[-1]))
    shift = max(0, (step >> _BITS) - 1)
    return float(min((((step - (shift << _BITS)) + 1) << shift) - 1, counts[_STEPS]))


def read_counts(directory: Path) -> npt.NDArray[np.int64] | None:
    """Return what was counted of a producer's or queue's messages, a row for each latency of it.

    None where nothing was let go.
    """
    path = directory / LATENCY_FILE
    return np.load(path) if path.exists() else None


def add_counts(directory: Path, latencies_ns: Sequence[npt.NDArray[np.int64]]) -> None:
    """Count further latencies of messages that are about to be let go: of each row some."""
    counts, before = [steps_of(each) for each in latencies_ns], read_counts(directory)
    if before is not None:
        counts = [sum_of(pair) for pair in zip(before, counts, strict=True)]
    np.save(directory / LATENCY_FILE, np.stack(counts))
