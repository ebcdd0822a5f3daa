"""Values at given ranks of very many, exactly, without all of them in memory or in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
        ends = np.cumsum(self._counts)
        bins = np.searchsorted(ends, self.ranks, side="right")
        for one in np.unique(bins).tolist():
            before = int(ends[one] - self._counts[one])
            ranks = [rank - before for rank in np.array(self.ranks)[bins == one].tolist()]
            yield _Range(self.low + (one << self._shift), self._shift, ranks)


def ranked(values: Callable[[], Iterator[IntArray]], ranks: Sequence[int]) -> list[int]:
    """Return the values at these ranks, which ascend from 0 on.

    ``values`` yields all of them, in pieces, each time that it is called.
    """
    low = min(int(each.min()) for each in values() if len(each))
    high = max(int(each.max()) for each in values() if len(each))
    ranges = [_Range(low, (high - low).bit_length(), [*ranks])]
    while ranges[0].bits:
        for each in values():
            for one in ranges:
                one.count(each)
        ranges = [narrowed for one in ranges for narrowed in one.narrowed()]
    return [one.low for one in ranges for _ in one.ranks]


def percentiles(
    values: Callable[[], Iterator[IntArray]], count: int, of: Sequence[float], unit: float = 1.0
) -> list[float]:
    """Return percentiles of ``count`` values in a unit, as :func:`numpy.percentile` does."""
    found = []
    places = [percent / 100 * (count - 1) for percent in of]
    ranks = sorted({min(int(at) + more, count - 1) for at in places for more in (0, 1)})
    known = dict(zip(ranks, ranked(values, ranks), strict=True))
    for at in places:
        low, high = known[int(at)] / unit, known[min(int(at) + 1, count - 1)] / unit
        share = at - int(at)  # the nearer value goes first, as numpy has it
        between = (high - low) * share if share < 0.5 else (low - high) * (1 - share)
        found.append((low if share < 0.5 else high) + between)
    return found
