"""Values at given ranks of very many, exactly, without all of them in memory or in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["percentiles", "ranked"]

IntArray = npt.NDArray[np.int64]

_BITS = 16  # of a value are told apart each time that all are gone through


@dataclass(eq=False)
class _Range:
    """Values of ``1 << bits`` in a row, some of which are at the ``ranks``, counted within it."""

    low: int
    bits: int
    ranks: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._shift = max(0, self.bits - _BITS)
        self._counts = np.zeros(1 << (self.bits - self._shift), np.int64)

    def count(self, values: IntArray) -> None:
        above = values - self.low
        above = above[(above >= 0) & (above < 1 << self.bits)]
        counts = np.bincount(above >> self._shift)
        self._counts[: len(counts)] += counts

    def narrowed(self) -> Iterator[_Range]:
        """Yield the smaller ranges in which the values at its ranks are."""
        if not self.bits:
            yield self
            return
        ends = np.cumsum(self._counts)
        bins = np.searchsorted(ends, self.ranks, side="right")
        for one in np.unique(bins).tolist():
            before = int(ends[one] - self._counts[one])
            ranks = [rank - before for rank in np.array(self.ranks)[bins == one].tolist()]
            yield _Range(self.low + (one << self._shift), self._shift, ranks)


def ranked(
    rows: Callable[[], Iterator[Sequence[IntArray]]], ranks: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Return the values at some ranks of each row of values; a row's ranks ascend from 0 on.

    ``rows`` yields the rows in pieces, of each row some values, each time that it is called.
    """
    lows, highs = [sys.maxsize] * len(ranks), [-sys.maxsize] * len(ranks)
    for pieces in rows():
        for row, each in enumerate(pieces):
            if len(each):
                lows[row] = min(lows[row], int(each.min()))
                highs[row] = max(highs[row], int(each.max()))
    ranges = [
        [_Range(low, (high - low).bit_length(), [*of])] if of else []
        for low, high, of in zip(lows, highs, ranks, strict=True)
    ]
    while any(one.bits for of_row in ranges for one in of_row):
        for pieces in rows():
            for of_row, each in zip(ranges, pieces, strict=True):
                for one in of_row:
                    one.count(each)
        ranges = [[narrowed for one in of_row for narrowed in one.narrowed()] for of_row in ranges]
    return [[one.low for one in of_row for _ in one.ranks] for of_row in ranges]


def percentiles(
    rows: Callable[[], Iterator[Sequence[IntArray]]],
    counts: Sequence[int],
    of: Sequence[float],
    *,
    beyond: Sequence[int] | None = None,
    unit: float = 1.0,
) -> list[list[float | None]]:
    """Return percentiles of each row of values in a unit, as :func:`numpy.percentile` does.

    ``counts`` is how many values there are in each row. ``beyond`` is how many further ones are
    larger than any of them: a percentile that falls among these is None.
    """
    beyond = beyond or [0] * len(counts)
    places = [
        [percent / 100 * (count + more - 1) for percent in of] if count else []
        for count, more in zip(counts, beyond, strict=True)
    ]
    ranks = [
        sorted({int(at) + i for at in those for i in (0, 1) if int(at) + i < count})
        for those, count in zip(places, counts, strict=True)
    ]
    found: list[list[float | None]] = []
    for those, at_ranks, values in zip(places, ranks, ranked(rows, ranks), strict=True):
        known = {rank: value / unit for rank, value in zip(at_ranks, values, strict=True)}
        found.append([_between(known, at) for at in those] if those else [None] * len(of))
    return found


def _between(known: Mapping[int, float], at: float) -> float | None:
    """Return the value at a place between two ranks, or None if not both are known."""
    share = at - int(at)
    low = known.get(int(at))
    high = known.get(int(at) + 1) if share else low
    if low is None or high is None:
        return None
    # The nearer value goes first, as numpy has it.
    return low + (high - low) * share if share < 0.5 else high + (low - high) * (1 - share)
