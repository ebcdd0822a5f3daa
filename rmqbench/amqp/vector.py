"""A received stream ↔ arrays of confirms and deliveries, without any input or output.

A :class:`Splitter` compares a received stream with the bytes that it should have, many messages at
once, and leaves to pika whatever differs. :mod:`rmqbench.amqp.shape` knows what messages look like,
:mod:`rmqbench.amqp.framing` finds the frames.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmqbench.amqp.framing import (
    ACK,
    CONFIRM_BYTES,
    DELIVER,
    FRAME_END,
    METHOD,
    NACK,
    OVERHEAD,
    ContentAssembler,
    Frame,
    FrameCutter,
)
from rmqbench.amqp.growing import Growing
from rmqbench.amqp.shape import Deliveries, Shape
from rmqbench.amqp.wide import WideRows

__all__ = [
    "Confirms",
    "Other",
    "Splitter",
    "StreamPiece",
    "vector_path_is_on",
]

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_CONFIRMS = (ACK, NACK)
_CONFIRM = np.dtype(
    {
        "names": ["type", "channel", "size", "method", "tag", "bits", "end"],
        "formats": ["u1", ">u2", ">u4", ">u4", ">u8", "u1", "u1"],
        "offsets": [0, 1, 3, 7, 11, 19, 20],
        "itemsize": CONFIRM_BYTES,
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Confirms:
    """Publisher confirms as received: one row each, in order.

    ``tags`` int64, ``multiple`` and ``nack`` bool, all of shape (n,).
    """

    channel: int
    tags: Int64Array
    multiple: BoolArray
    nack: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Other:
    """Whole frames for pika. ``delivery`` holds all frames of the delivery that they complete."""

    frames: bytes
    delivery: bytes | None = None


StreamPiece = Confirms | Deliveries | Other


def vector_path_is_on() -> bool:
    """Whether messages take the vector path: RMQBENCH_VECTOR=0 leaves all of them to pika."""
    return os.environ.get("RMQBENCH_VECTOR", "1") != "0"


class Splitter:
    """Splits a received byte stream, which may come in pieces of any size, and loses nothing.

    It reads the confirms of channels named by :meth:`expect_confirms` and the deliveries of those
    named by :meth:`expect_deliveries`. All other frames, malformed ones included, come as
    :class:`Other`, with their bytes as received.
    """

    def __init__(self) -> None:
        self._cutter = FrameCutter()
        self._contents = ContentAssembler()
        self._confirming: set[int] = set()
        self._shapes: dict[int, Shape | None] = {}
        self._row_limit = 64
        self._wide = WideRows()
        self._growing: tuple[Shape, Growing] | None = None
        self._is_odd = False  # the next message was found wrong: pika takes it

    def expect_confirms(self, channel: int) -> None:
        """Read acks and nacks on this channel as publisher confirms."""
        self._confirming.add(channel)

    def expect_deliveries(self, channel: int, shape: Shape | None = None) -> None:
        """Read deliveries on this channel; with a shape, many at once."""
        self._shapes[channel] = shape

    def room(self, size: int) -> memoryview:
        """Return where the next ``size`` bytes of the stream may be received, for :meth:`feed`."""
        return self._cutter.room(size)

    def feed(self, data: bytes | memoryview, *, more: bool = False) -> Iterator[StreamPiece]:
        """Take the next piece of the stream and yield what it completes, in order.

        With ``more``, a next piece is known to come at once: large deliveries may be kept back, to
        be compared together with what it brings. What has not been yielded when the iterator is
        left comes first in the next call.
        """
        self._cutter.add(data)
        self._grow()
        while (yield from self._split()) or (self._wide.count and not more):
            deliveries = self._settle()
            if deliveries is not None:
                yield deliveries

    @property
    def keeps_back(self) -> bool:
        """Whether there are deliveries that were not yielded because more was there."""
        return self._wide.count > 0

    def _split(self) -> Generator[StreamPiece, None, bool]:
        """Yield what is whole; return whether it stopped for what :meth:`_settle` does first."""
        cutter = self._cutter
        others = cutter.at  # from here on: frames for pika, not yielded yet
        incomplete: Shape | None = None
        while (found := cutter.find()) is not None:
            kind, channel, method, frame_end = found
            at = cutter.at
            shape = self._shape_of(channel, method)
            if not self._wide.takes(shape):
                return True
            rows, end = self._take_many(channel, method, frame_end, shape)
            if end == at:
                incomplete = shape
                break
            if end is not None:
                if others < at:
                    if rows is None:  # they are kept back already
                        cutter.at = end
                    yield Other(cutter.cut(others, at))
                cutter.at = others = end
                if rows is not None:
                    yield rows
                continue
            if self._wide.count:
                return True
            cutter.at, self._is_odd = frame_end, False
            if channel in self._shapes:
                frame = Frame(kind, channel, method, cutter.cut(at, frame_end))
                content, _ = self._contents.add(frame)
                if content is not None and content.is_whole and content.method == DELIVER:
                    frames, others = cutter.cut(others, frame_end), frame_end
                    yield Other(frames, b"".join(content.frames))
        if others < cutter.at:
            yield Other(cutter.cut(others, cutter.at))
        if incomplete is not None:
            self._begin_to_grow(incomplete)
        return False

    def _shape_of(self, channel: int, method: int) -> Shape | None:
        """Return what a delivery that begins is compared with; None: it is pika's, or none."""
        if method != DELIVER or self._is_odd or channel in self._contents.open:
            return None  # what breaks a message off pika is to see
        return self._shapes.get(channel)

    def _take_many(
        self, channel: int, method: int, frame_end: int, shape: Shape | None
    ) -> tuple[Confirms | Deliveries | None, int | None]:
        """Take what begins here, as much as is alike; return its rows, and where it ends.

        There are no rows where they are kept back. What is not whole yet ends where it begins, and
        what is left to pika has no end.
        """
        cutter = self._cutter
        buffer, at, here = cutter.buffer, cutter.at, cutter.end
        rows: Confirms | Deliveries | None
        if method in _CONFIRMS and channel in self._confirming and frame_end - at == CONFIRM_BYTES:
            rows = _match_confirms(buffer, at, here, channel)
            return rows, at + len(rows.tags) * CONFIRM_BYTES
        if shape is None:
            return None, None
        if shape.is_wide:
            if length := shape.whole(buffer, at, here):
                self._wide.add(shape, shape.row(buffer, at), length)
                return None, at + length
        else:
            rows, end = self._match(shape, buffer, at, here)
            if rows is not None:
                return rows, end
        return None, at if shape.may_grow_into(buffer, at, here) else None

    def _settle(self) -> Deliveries | None:
        """Compare the numbers of large messages; return those that are right.

        The first wrong one, and all behind it, are back in the stream then.
        """
        deliveries, frames = self._wide.take_all()
        if frames:
            if self._growing is not None:
                self._cutter.put_back(self._growing[1].so_far())
                self._growing = None
            self._cutter.put_back(frames)
            self._is_odd = True
        return deliveries

    def _begin_to_grow(self, shape: Shape) -> None:
        """Drop what is right of an incomplete message, if it is a large one."""
        cutter = self._cutter
        growing = shape.begun(cutter.buffer, cutter.at, cutter.end)
        if growing is not None:
            cutter.at += len(growing.row)
            self._growing = shape, growing
            self._grow()

    def _grow(self) -> None:
        """Compare what has come of a large message, and keep its row as soon as it is whole."""
        if self._growing is None:
            return
        cutter, (shape, growing) = self._cutter, self._growing
        cutter.at += growing.take(cutter.buffer, cutter.at, cutter.end)
        if growing.is_wrong:
            cutter.put_back(growing.so_far())
            self._is_odd = True
        elif growing.missing:
            return
        else:
            self._wide.add(shape, growing.row, growing.length)
        self._growing = None

    def _match(
        self, shape: Shape, buffer: bytearray, offset: int, end: int
    ) -> tuple[Deliveries | None, int]:
        """Return the deliveries there, None if there are none, and where they end.

        At most as many are tried as lately matched in a row: odd messages then cost little.
        """
        bounds = shape.bounds(buffer, offset, end, min(self._row_limit, shape.max_rows))
        tried = len(bounds) - 1
        if not tried:
            return None, offset
        deliveries = shape.match(buffer, bounds)
        matched = len(deliveries.tags)
        grown = min(2 * self._row_limit, shape.max_rows)
        self._row_limit = grown if matched == tried else 2 * matched + 16
        return deliveries if matched else None, bounds[matched]


def _match_confirms(buffer: bytearray, offset: int, end: int, channel: int) -> Confirms:
    """Read the run of acks and nacks that begins at ``offset``, where there is at least one."""
    count = (end - offset) // CONFIRM_BYTES
    rows = np.frombuffer(buffer, _CONFIRM, count, offset)
    alike = (
        (rows["type"] == METHOD)
        & (rows["channel"] == channel)
        & (rows["size"] == CONFIRM_BYTES - OVERHEAD)
        & ((rows["method"] == ACK) | (rows["method"] == NACK))
        & (rows["end"] == FRAME_END)
    )
    if not alike.all():
        rows = rows[: int(np.argmin(alike))]
    return Confirms(
        channel=channel,
        tags=rows["tag"].astype(np.int64),
        multiple=(rows["bits"] & 1).astype(np.bool_),
        nack=rows["method"] == NACK,
    )
