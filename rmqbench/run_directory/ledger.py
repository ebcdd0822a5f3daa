"""The evidence of a run, as arrays indexed by sequence number, in memory-mapped files.

What is written into a mapped file outlives the process that wrote it, ``kill -9`` included. Each
file has one writer. A message costs 13 bytes for its publish and 13 for its first delivery by one
consumer of one queue, 17 each where its messages are due at a time; whatever comes again is a row
of its own. How far a writer has come stands beside its arrays, so that whoever watches need not
look through them.

:mod:`rmqbench.run_directory.recorder` writes what is kept here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from rmqbench.errors import RmqbenchError
from rmqbench.pieces import count_where, pieces
from rmqbench.run_directory.let_go import LetGo, holding
from rmqbench.text import counted
from rmqbench.verdict.evidence import (
    ACKED,
    AGAIN,
    CONFIRMED,
    COPY,
    DELIVERED,
    NACKED,
    REJECTED,
    RETURNED,
    SENT,
    Incident,
)

__all__ = [
    "BLOCK",
    "DeliveryLedger",
    "PublishLedger",
    "are_confirmed",
    "dead_letters_in",
    "dead_letters_of",
]

BLOCK: Final = 1 << 16
"""A consumer counts what it has received of each so many places."""

_DEAD_LETTERS: Final = "dead-letters-"

_PROGRESS_FILE = "progress.npy"

_Column = npt.NDArray[Any]


class _Columns:
    """Arrays of equal length, each a memory-mapped ``.npy`` file in one directory."""

    columns: ClassVar[dict[str, str]]
    timed: ClassVar[dict[str, str]]  # columns that only an open load has

    def __init__(self, directory: Path, arrays: dict[str, _Column]) -> None:
        self.directory = directory
        self.arrays = arrays
        self.let_go = LetGo.of(directory)

    @classmethod
    def create(
        cls,
        directory: Path,
        count: int,
        *,
        timed: bool = False,
        lets_go: Sequence[int] | None = None,
    ) -> None:
        """Create the files for ``count`` messages, all zero; ``timed`` are those of an open load.

        Their space on the disk is reserved here, where a full disk is an error: later, in a mapped
        page, it would end the process. With ``lets_go``, how many of them each producer has, it is
        not: only some are there at the same time (:mod:`rmqbench.run_directory.let_go`).
        """
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for name, dtype in (cls.columns | (cls.timed if timed else {})).items():
                _make_array(directory / f"{name}.npy", dtype, count, takes_room=lets_go is None)
            _make_array(directory / _PROGRESS_FILE, "<i8", cls._steps(count))
            if lets_go is not None:
                LetGo.create(directory, lets_go)
        except OSError as error:
            raise RmqbenchError(
                f"The ledger for {counted(count, 'message')} cannot be written to {directory}: "
                f"{error.strerror or error}.",
                "Free some disk space, or name another directory for the run.",
            ) from None

    @classmethod
    def row_bytes(cls, *, timed: bool = False) -> int:
        """Return how many bytes the arrays have for each message."""
        columns = (*cls.columns.values(), *(cls.timed.values() if timed else ()))
        return sum(np.dtype(each).itemsize for each in columns)

    @classmethod
    def _steps(cls, count: int) -> int:
        """Return how many numbers tell how far the writer of ``count`` messages has come."""
        raise NotImplementedError

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the files for writing, as their only writer."""
        return cls(directory, cls._map(directory, "r+"))

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Open the files for reading; raise OSError or ValueError where they cannot be."""
        return cls(directory, cls._map(directory, "r"))

    @classmethod
    def empty(cls, directory: Path, count: int) -> Self:
        """Return what stands for files that cannot be read: ``count`` messages, all zero."""
        return cls(directory, {name: np.zeros(count, of) for name, of in cls.columns.items()})

    @classmethod
    def _map(cls, directory: Path, mode: Literal["r", "r+"]) -> dict[str, _Column]:
        paths = {name: directory / f"{name}.npy" for name in (*cls.columns, *cls.timed)}
        return {
            name: _map_array(paths[name], dtype, mode)
            for name, dtype in (cls.columns | cls.timed).items()
            if name in cls.columns or paths[name].exists()
        }

    def progress(self, mode: Literal["r", "r+"] = "r") -> _Column:
        """Map what tells how far the writer has come, int64, for reading or as the writer.

        It is for whoever watches, and no evidence: a writer counts what it has recorded, so one
        that was killed may have recorded a little more.
        """
        return _map_array(self.directory / _PROGRESS_FILE, "<i8", mode)


class _Ledger(_Columns):
    """Arrays, and the incidents beside them."""

    def __init__(self, directory: Path, arrays: dict[str, _Column]) -> None:
        super().__init__(directory, arrays)
        self.state: _Column = arrays["state"]

    def _where(
        self, places: slice, holds: Callable[[_Column], npt.NDArray[np.bool_]]
    ) -> npt.NDArray[np.bool_]:
        """Return for which of these ``holds`` their state, or they were let go."""
        if self.let_go is None:
            return holds(self.state[places])
        start, stop, _ = places.indices(len(self.state))
        gone = self.let_go.among(start, stop)
        if not gone.all():  # else nothing is read
            gone |= holds(self.state[places])
        return gone

    @property
    def incidents_path(self) -> Path:
        """Where the incidents stand, one JSON object a line."""
        return self.directory / "incidents.jsonl"

    def incidents(self) -> Iterator[Incident]:
        """Read the incidents; a last line that was cut off by a crash is passed over."""
        if not self.incidents_path.exists():
            return
        for line in self.incidents_path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield Incident.from_json(line)


class PublishLedger(_Ledger):
    """What became of each publish of one producer.

    ``state`` uint8 bits (SENT, CONFIRMED, …), ``sent_ns`` int64 Unix nanoseconds (when it was first
    sent; 0: not yet) and ``settled_after_ns`` float32 nanoseconds (how long it was on its way until
    the broker confirmed or refused it, to 6 parts in 10⁸; 0: not yet), all of shape (count,). What
    was sent again is a row of ``copies.bin``. :meth:`progress` has shape (1,): how many were
    confirmed or refused.

    Of an open load there is ``lag_ns``, too, float32 nanoseconds: how long the producer itself was
    late, which neither the broker nor the window kept from sending.
    """

    columns: ClassVar = {"state": "u1", "sent_ns": "<i8", "settled_after_ns": "<f4"}
    timed: ClassVar = {"lag_ns": "<f4"}

    def __init__(self, directory: Path, arrays: dict[str, _Column]) -> None:
        super().__init__(directory, arrays)
        self.sent_ns: _Column = self.arrays["sent_ns"]
        self.settled_after_ns: _Column = self.arrays["settled_after_ns"]
        self.lag_ns: _Column | None = self.arrays.get("lag_ns")

    @classmethod
    def _steps(cls, count: int) -> int:
        return 1

    @property
    def confirmed(self) -> int:
        """How many publishes the broker has confirmed (and not returned)."""
        found = (self.are_confirmed(each) for each in pieces(len(self.state)))
        return sum(int(np.count_nonzero(each)) for each in found)

    @property
    def settled(self) -> int:
        """How many publishes the broker has confirmed or refused."""
        found = (
            self._where(each, lambda state: state & (CONFIRMED | NACKED) != 0)
            for each in pieces(len(self.state))
        )
        return sum(int(np.count_nonzero(each)) for each in found)

    def settled_ns(self, these: slice) -> npt.NDArray[np.int64]:
        """Return when the broker confirmed or refused each, in Unix nanoseconds; 0: not yet."""
        after_ns = self.settled_after_ns[these].astype(np.int64)
        return np.where(after_ns > 0, self.sent_ns[these] + after_ns, 0)

    @property
    def last_ns(self) -> int:
        """When the broker last confirmed or refused any, in Unix nanoseconds; 0: never."""
        found = (self.settled_ns(each) for each in pieces(len(self.state)))
        return max((int(each.max(initial=0)) for each in found), default=0)

    def sent(self, these: slice) -> npt.NDArray[np.bool_]:
        """Return which of some messages were sent."""
        return self._where(these, lambda state: state & SENT != 0)

    def are_confirmed(self, these: slice) -> npt.NDArray[np.bool_]:
        """Return which of some publishes the broker has confirmed (and not returned)."""
        return self._where(these, are_confirmed)

    @property
    def copies_path(self) -> Path:
        """Where the rows stand of what was sent again."""
        return self.directory / "copies.bin"

    def copies(self) -> _Column:
        """Read what was sent again: dtype COPY, in the order of sending."""
        return _read_rows(self.copies_path, COPY)


class DeliveryLedger(_Ledger):
    """What one consumer received from one queue, of all producers one behind the other.

    A message's place is ``starts[producer] + sequence``. ``state`` uint8 bits (DELIVERED, …),
    ``stamp`` uint32 and ``first_ns`` int64 Unix nanoseconds are of its first delivery, all of shape
    (sum of counts,). Each later delivery is a row of ``again.bin``; what neither can hold is a line
    of ``incidents.jsonl``. :meth:`progress` says of each :data:`BLOCK` places how many messages of
    them were received.

    Of an open load there is ``acked_after_ns``, too, float32 nanoseconds: how long after its first
    delivery its first acknowledgement was sent (0: not yet).
    """

    columns: ClassVar = {"state": "u1", "stamp": "<u4", "first_ns": "<i8"}
    timed: ClassVar = {"acked_after_ns": "<f4"}

    def __init__(self, directory: Path, arrays: dict[str, _Column]) -> None:
        super().__init__(directory, arrays)
        self.stamp: _Column = self.arrays["stamp"]
        self.first_ns: _Column = self.arrays["first_ns"]
        self.acked_after_ns: _Column | None = self.arrays.get("acked_after_ns")

    @classmethod
    def _steps(cls, count: int) -> int:
        return count // BLOCK + 1

    @property
    def last_ns(self) -> int:
        """When the last first delivery was, in Unix nanoseconds; 0: there was none."""
        return int(self.first_ns.max(initial=0))

    @property
    def deliveries(self) -> int:
        """How many first deliveries there were, those that were let go included.

        Of a segment that was let go, what came again is a first delivery once more.
        """
        if self.let_go is None:
            return count_where(self.state, lambda state: state)
        count, starts = 0, self.let_go.segments["start"].tolist()
        ends = [*starts[1:], len(self.state)]
        rows = zip(starts, ends, self.let_go.segments, self.may_hold(), strict=True)
        for start, end, segment, holds in rows:
            count += abs(int(segment["rows"]))
            if holds:
                later = self.first_ns[start:end] > segment["last_ns"]
                count += int(np.count_nonzero((self.state[start:end] != 0) & later))
        return count

    def may_hold(self) -> npt.NDArray[np.bool_]:
        """Return of each segment whether the columns may hold anything of it; they are not read."""
        if self.let_go is None:
            return np.zeros(0, np.bool_)
        starts = self.let_go.segments["start"].tolist()
        return np.array(holding(self.directory / "state.npy", self.state, starts), np.bool_)

    def came(self, places: slice) -> npt.NDArray[np.bool_]:
        """Return which of some messages came; of a segment that was let go, all of them.

        All of that came, to this consumer or to another.
        """
        return self._where(places, lambda state: state != 0)

    def settled(
        self, places: slice, *, auto_ack: bool = False, rejecting: bool = True
    ) -> npt.NDArray[np.bool_]:
        """Return with which of some messages this consumer was through.

        It has acknowledged them, or ``rejecting`` rejected, or with ``auto_ack`` received them. Of
        a segment that was let go these are all messages.
        """
        ends = DELIVERED if auto_ack else ACKED | (REJECTED if rejecting else 0)
        return self._where(places, lambda state: state & ends != 0)

    @property
    def again_path(self) -> Path:
        """Where the rows stand of what was delivered again."""
        return self.directory / "again.bin"

    def again(self) -> _Column:
        """Read what was delivered again: dtype AGAIN, in the order of delivery."""
        return _read_rows(self.again_path, AGAIN)


def dead_letters_in(consumer: Path, index: int) -> Path:
    """Return where a consumer keeps its ledger of the dead letters of one of its origins."""
    return consumer / f"{_DEAD_LETTERS}{index}"


def dead_letters_of(consumer: Path) -> list[Path]:
    """Return all places of :func:`dead_letters_in` that there are."""
    return sorted(consumer.glob(f"{_DEAD_LETTERS}*"))


def are_confirmed(state: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which publishes of these states the broker has confirmed (and not returned)."""
    confirmed: npt.NDArray[np.bool_] = state & (CONFIRMED | NACKED | RETURNED) == CONFIRMED
    return confirmed


def _make_array(path: Path, dtype: str, length: int, *, takes_room: bool = True) -> None:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(length,))
    del array
    if takes_room:
        _take_room(path)


def _map_array(path: Path, dtype: str, mode: Literal["r", "r+"]) -> _Column:
    # A plain array over the mapping: the subclass costs time at each access.
    array = np.asarray(np.lib.format.open_memmap(path, mode=mode))
    if array.dtype != np.dtype(dtype) or array.ndim != 1:
        raise ValueError(f"{path} is no column of a ledger")
    return array


def _read_rows(path: Path, dtype: np.dtype[Any]) -> _Column:
    """Return the rows of a file, none where there is no file; a torn last one is passed over."""
    data = path.read_bytes() if path.exists() else b""
    return np.frombuffer(data, dtype, len(data) // dtype.itemsize)


def _take_room(path: Path) -> None:
    """Reserve on the disk what a sparse file will need."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        head = file.read(128)
        file.seek(0)
        file.write(head)
        for at in range(len(head), size, 1 << 20):
            file.write(bytes(min(1 << 20, size - at)))
