"""Segments of a ledger that were judged while the run goes on, and let go: a few numbers stay.

A segment is so many messages of one producer as a piece of a column has places, and is let go as a
whole, when each of its messages was confirmed, and delivered by each queue once. The run decides
that, and writes it into ``let-go.npy`` beside the columns of each worker. Whose columns they are
frees their pages: nobody else writes there.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import piece_at, pieces
from rmqbench.verdict.evidence import LET_GO

__all__ = ["LET_GO_FILE", "LetGo", "free_rows", "holding", "segments_of"]

LET_GO_FILE: Final = "let-go.npy"


def segments_of(counts: Sequence[int]) -> npt.NDArray[Any]:
    """Return the segments, of dtype LET_GO, of messages of which each producer has so many.

    They are in the order of the producers. None of them is let go yet.
    """
    starts = [
        [before + each.start for each in pieces(count)]
        for before, count in zip(np.cumsum([0, *counts[:-1]]).tolist(), counts, strict=True)
    ]
    segments = np.zeros(sum(map(len, starts)), LET_GO)
    segments["start"] = np.concatenate(starts)
    return segments


class LetGo:
    """What a ``let-go.npy`` says. Its first row counts how often the run has decided anything."""

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        self._rows = rows
        self.segments: npt.NDArray[Any] = rows[1:]
        self._followed = 0
        self._freed = np.zeros(len(self.segments), np.bool_)

    @classmethod
    def create(cls, directory: Path, counts: Sequence[int]) -> None:
        """Create the file."""
        rows = np.concatenate([np.zeros(1, LET_GO), segments_of(counts)])
        np.save(directory / LET_GO_FILE, rows)

    @classmethod
    def of(cls, directory: Path, mode: Literal["r", "r+"] = "r") -> LetGo | None:
        """Map the file, for reading or (``r+``) as its writer; None where there is none."""
        path = directory / LET_GO_FILE
        if not path.exists():
            return None
        rows = np.lib.format.open_memmap(path, mode=mode)
        if rows.dtype != LET_GO or rows.ndim != 1 or not len(rows):
            raise ValueError(f"{path} says nothing of segments")
        return cls(np.asarray(rows))

    # --- the run's ------------------------------------------------------------------------------

    def prepare(
        self, segment: int, rows: int, earliest_ns: int, last_ns: int, flagged: int
    ) -> None:
        """Write down what stays of a segment, which nobody frees before :meth:`decide`."""
        start = int(self.segments["start"][segment])
        self.segments[segment] = start, -rows, earliest_ns, last_ns, flagged

    def decide(self, segment: int) -> None:
        """Decide that a segment that was prepared is let go."""
        self.segments["rows"][segment] = np.abs(self.segments["rows"][segment])

    def tell(self) -> None:
        """Make the worker look for what was decided."""
        self._rows["rows"][0] += 1

    # --- the worker's ---------------------------------------------------------------------------

    def to_be_freed(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the segments that the run has let go since the last time."""
        told = int(self._rows["rows"][0])
        if told == self._followed:
            return
        self._followed = told
        for segment in np.flatnonzero((self.segments["rows"] > 0) & ~self._freed).tolist():
            self._freed[segment] = True
            yield self.segments[segment]

    # --- everybody's ----------------------------------------------------------------------------

    def among(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Return which places from ``start`` on are of segments that are let go, or about to be."""
        found = np.zeros(stop - start, np.bool_)
        first = max(0, int(np.searchsorted(self.segments["start"], start, side="right")) - 1)
        for at in range(first, len(self.segments)):
            begin = int(self.segments["start"][at])
            if begin >= stop:
                break
            if self.segments["rows"][at]:
                end = stop
                if at + 1 < len(self.segments):
                    end = int(self.segments["start"][at + 1])
                found[max(0, begin - start) : max(0, end - start)] = True
        return found


def free_rows(column: npt.NDArray[Any], start: int, stop: int) -> None:
    """Set some rows of a mapped column to 0 and give their space on the disk back.

    Raise OSError where the file system cannot do that.
    """
    base: Any = column
    while not isinstance(base, mmap.mmap):
        base = base.base
    whole = np.frombuffer(base, np.uint8)
    at = column.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    begin, end = at + start * column.itemsize, at + stop * column.itemsize
    if begin == end:
        return
    page = mmap.PAGESIZE
    first, last = begin - begin % page, end + -end % page
    # What stands beside them on their first and last page stays, unless it is nothing, too.
    whole[begin : min(first + page, end)] = 0
    whole[max(begin, last - page) : end] = 0
    if whole[first : first + page].any():
        first += page
    if whole[last - page : last].any():
        last -= page
    if first < last:
        if not hasattr(mmap, "MADV_REMOVE"):  # it is Linux's
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        base.madvise(mmap.MADV_REMOVE, first, last - first)


def holding(path: Path, column: npt.NDArray[Any], starts: Iterable[int]) -> list[bool]:
    """Return of the pieces of a column, from each of the starts on, whether they may hold anything.

    The file is not read: what was freed has no space on the disk. Where the file system does not
    tell, all of them may.
    """
    offset = path.stat().st_size - column.nbytes
    with path.open("rb") as file:
        return [
            _next_data(file.fileno(), offset + these.start * column.itemsize)
            < offset + these.stop * column.itemsize
            for these in map(piece_at, starts)
        ]


def _next_data(file: int, at: int) -> int:
    """Return where the next byte that has space on the disk is."""
    if not hasattr(os, "SEEK_DATA"):
        return at
    try:
        return os.lseek(file, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # there is none
            return sys.maxsize
        return at
