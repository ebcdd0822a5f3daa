"""Long arrays a piece at a time: what is computed of one takes the memory of a piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["PIECE", "count_where", "is_whole", "piece_at", "piece_of", "pieces"]

PIECE: Final = 1 << 16
"""How many places a piece has at the most: its columns fit into the cache of a processor."""

_Places = TypeVar("_Places", int, npt.NDArray[np.int64])


def pieces(length: int) -> Iterator[slice]:
    """Yield the pieces of an array of this length, in their order."""
    for at in range(0, length, PIECE):
        yield slice(at, min(at + PIECE, length))


def piece_of(places: _Places) -> _Places:
    """Return the number of the piece in which a place is, or each of several."""
    return places // PIECE


def piece_at(start: int) -> slice:
    """Return a whole piece that begins at a place."""
    return slice(start, start + PIECE)


def is_whole(length: int) -> bool:
    """Whether a piece of this length is a whole one: the last of an array may be shorter."""
    return length == PIECE


def count_where(
    column: npt.NDArray[Any], holds: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> int:
    """Return at how many places of a column something holds: ``holds`` is given its pieces."""
    return sum(int(np.count_nonzero(holds(column[each]))) for each in pieces(len(column)))
