"""How large bodies are: all of one size, or each of a size of its own.

``100:16384`` is any size between the two, both included, each as likely as the others.
``100:1000*9,1048576`` is one of several ranges: of ten messages nine are of 100 to 1,000 bytes on
average, and one is of 1 MiB. A size follows from run, producer and sequence as all of a message
does:

1. The two halves of the run's UUID, as big-endian numbers of 64 bits, and the producer are combined
   by exclusive or. This number goes through the finaliser of SplitMix64, and is then the seed of
   SplitMix64 (https://prng.di.unimi.it/splitmix64.c). The sequence counts its numbers from 0.
2. The upper 32 bits of the number choose a range: multiplied by the sum of all weights and divided
   by 2**32, they are below the weights of the chosen range and those before it together.
3. The lower 32 bits choose a size of it: multiplied by how many sizes it holds and divided by
   2**32, they are what is added to the smallest.
"""

from __future__ import annotations

import itertools
import re
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from rmqbench.errors import UsageError
from rmqbench.splitmix import Uint64Array, drawn, numbers, seed_of

__all__ = ["SizeRange", "Sizes"]

_MOST: Final = (1 << 32) - 1  # of a size, and of all weights together: products then fit 64 bits
_RANGE: Final = re.compile(r"([0-9]{1,40})(?::([0-9]{1,40}))?(?:\*([0-9]{1,40}))?")
_HALF, _LOWER = np.uint64(32), np.uint64(0xFFFFFFFF)


class SizeRange(NamedTuple):
    """Sizes from ``smallest`` to ``largest``, and how often they are chosen beside other ranges."""

    smallest: int
    largest: int
    weight: int = 1


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run's bodies, in bytes."""

    ranges: tuple[SizeRange, ...]

    @classmethod
    def of(cls, value: int | str) -> Self:
        """Read a size, or several as the text ``SIZE[:SIZE][*WEIGHT][,…]``."""
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise _refused(value, "it is neither a number nor a text")
        ranges = []
        for text in str(value).split(","):
            read = _RANGE.fullmatch(text)
            if read is None:
                raise _refused(value, f"{text!r} is no size")
            smallest, largest, weight = read.groups()
            each = SizeRange(int(smallest), int(largest or smallest), int(weight or 1))
            if each.smallest > each.largest:
                raise _refused(value, f"{each.smallest} is more than {each.largest}")
            if not each.weight:
                raise _refused(value, f"{text!r} is never chosen")
            ranges.append(each)
        if max(sum(each.weight for each in ranges), *(each.largest for each in ranges)) > _MOST:
            raise _refused(value, f"sizes, and all weights together, are at most {_MOST:,}")
        return cls(tuple(ranges))

    @cached_property
    def smallest(self) -> int:
        """The smallest size that may be chosen."""
        return min(each.smallest for each in self.ranges)

    @cached_property
    def largest(self) -> int:
        """The largest size that may be chosen."""
        return max(each.largest for each in self.ranges)

    @property
    def mean(self) -> float:
        """What many sizes are on average."""
        total = sum(each.weight * (each.smallest + each.largest) for each in self.ranges)
        return total / 2 / sum(each.weight for each in self.ranges)

    @cached_property
    def are_mixed(self) -> bool:
        """Whether there is more than one."""
        return self.smallest < self.largest

    def size_of(self, run: uuid.UUID, producer: int, sequence: int) -> int:
        """Compute the size of one body."""
        if not self.are_mixed:
            return self.smallest
        number = drawn(seed_of(run, producer), sequence)
        *_, total = bounds = self._bounds
        chosen = (number >> 32) * total >> 32
        smallest, largest, _ = self.ranges[next(i for i, b in enumerate(bounds) if chosen < b)]
        return smallest + ((number & 0xFFFFFFFF) * (largest - smallest + 1) >> 32)

    def sizes_of(self, seeds: Uint64Array, sequences: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Compute the sizes of ``n`` bodies: int64 of shape (n,).

        ``seeds`` (:func:`rmqbench.splitmix.seeds_of`) and ``sequences`` have this shape; one seed
        may stand for all.
        """
        if not self.are_mixed:
            return np.full(len(sequences), self.smallest)
        drawn_all = numbers(seeds, sequences)
        smallest, counts = self._table
        if len(self.ranges) > 1:
            bounds = np.array(self._bounds, np.uint64)
            chosen = np.searchsorted(
                bounds, (drawn_all >> _HALF) * bounds[-1] >> _HALF, side="right"
            )
            smallest, counts = smallest[chosen], counts[chosen]
        sizes: Uint64Array = smallest + ((drawn_all & _LOWER) * counts >> _HALF)
        return sizes.astype(np.int64)

    @cached_property
    def _bounds(self) -> tuple[int, ...]:
        """What the weights are together, up to each range."""
        return tuple(itertools.accumulate(each.weight for each in self.ranges))

    @cached_property
    def _table(self) -> Uint64Array:
        """The smallest size of each range, and how many sizes it holds: uint64 of shape (2, n)."""
        rows = [(each.smallest, each.largest - each.smallest + 1) for each in self.ranges]
        return np.array(rows, np.uint64).T


def _refused(value: object, why: str) -> UsageError:
    return UsageError(
        f"The size {value!r} cannot be read: {why}.",
        "Give bytes (100), a range (100:16384), or several with weights (100:1000*9,1048576).",
    )
