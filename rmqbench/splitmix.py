"""Numbers that look random and follow from a run: SplitMix64, one at a time or as arrays.

https://prng.di.unimi.it/splitmix64.c. What is drawn for a run can be drawn again anywhere.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Uint64Array", "drawn", "numbers", "run_bits", "seed_of", "seeds_of"]

Uint64Array = npt.NDArray[np.uint64]

_WORD: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MULTIPLIERS: Final = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# The same for numpy. They are made once: for few numbers, making them costs as much as all else.
_FACTORS: Final = tuple(np.uint64(each) for each in _MULTIPLIERS)
_SHIFTS: Final = tuple(np.uint64(each) for each in (30, 27, 31))
_STEP, _ONE = np.uint64(_GOLDEN), np.uint64(1)


def run_bits(run: uuid.UUID) -> int:
    """Combine the two halves of a run's UUID, as big-endian numbers, by exclusive or."""
    return run.int >> 64 ^ run.int & _WORD


def seed_of(run: uuid.UUID, producer: int) -> int:
    """Compute the seed of a producer of a run."""
    return _mixed(run_bits(run) ^ producer)


def seeds_of(run: uuid.UUID, producers: int) -> Uint64Array:
    """Compute the seeds of so many producers of a run: uint64, one of each by its number."""
    return _all_mixed(np.arange(producers, dtype=np.uint64) ^ np.uint64(run_bits(run)))


def drawn(seed: int, sequence: int) -> int:
    """Return the number that a generator of this seed draws after ``sequence`` others."""
    return _mixed(seed + (sequence + 1) * _GOLDEN & _WORD)


def numbers(seeds: int | Uint64Array, sequences: npt.NDArray[Any]) -> Uint64Array:
    """Return the numbers that generators draw, as :func:`drawn` does: uint64 of shape (n,).

    ``sequences`` are integers of this shape, and ``seeds`` too, or one stands for all.
    """
    start = np.uint64(seeds) if isinstance(seeds, int) else seeds
    return _all_mixed(start + (sequences.astype(np.uint64) + _ONE) * _STEP)


def _mixed(number: int) -> int:
    """Compute the finaliser of SplitMix64."""
    first, second = _MULTIPLIERS
    number = (number ^ number >> 30) * first & _WORD
    number = (number ^ number >> 27) * second & _WORD
    return number ^ number >> 31


def _all_mixed(values: Uint64Array) -> Uint64Array:
    """Compute the finaliser of SplitMix64 of each: uint64 of any shape."""
    first, second = _FACTORS
    values = (values ^ values >> _SHIFTS[0]) * first
    values = (values ^ values >> _SHIFTS[1]) * second
    return values ^ values >> _SHIFTS[2]
