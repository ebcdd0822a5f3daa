"""A received stream ↔ arrays of confirms and deliveries, without any input or output.

A :class:`Splitter` compares a received stream with the bytes that it should have, many messages at
once, and leaves to pika whatever differs. :mod:`rmqbench.amqp.shape` knows what messages look like,
:mod:`rmqbench.amqp.framing` finds the frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
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
        self._growing: tuple[Growing, Deliveries] | None = None
        self._is_odd = False  # the message that comes next, of which more was expected to be right

    def expect_confirms(self, channel: int) -> None:
        """Read acks and nacks on this channel as publisher confirms."""
        self._confirming.add(channel)

    def expect_deliveries(self, channel: int, shape: Shape | None = None) -> None:
        """Read deliveries on this channel; with a shape, many at once."""
        self._shapes[channel] = shape

    def room(self, size: int) -> memoryview:
        """Return where the next ``size`` bytes of the stream may be received, for :meth:`feed`."""
        return self._cutter.room(size)

    def feed(self, data: bytes | memoryview) -> Iterator[StreamPiece]:
        """Take the next piece of the stream and yield what it completes, in order.

        What has not been yielded when the iterator is left comes first in the next call.
        """
        cutter = self._cutter
        cutter.add(data)
        if (grown := self._grow()) is not None:
            yield grown
        incomplete: Shape | None = None
        buffer, others = cutter.buffer, cutter.at  # between these: frames for pika, not yielded yet
        while (found := cutter.find()) is not None:
            kind, channel, method, end = found
            at = cutter.at
            rows: Confirms | Deliveries | None = None
            if method in _CONFIRMS and channel in self._confirming and end - at == CONFIRM_BYTES:
                rows = _match_confirms(buffer, at, cutter.end, channel)
                end = at + len(rows.tags) * CONFIRM_BYTES
            elif (
                method == DELIVER
                and (shape := self._shapes.get(channel))
                and channel not in self._contents.open  # pika is to see what breaks a message off
            ):
                rows, whole_end = self._match(shape, buffer, at, cutter.end)
                if rows is not None:
                    end = whole_end
                elif shape.may_grow_into(buffer, at, cutter.end):
                    incomplete = shape
                    break
            self._is_odd = False
            if rows is not None:
                if others < at:
                    yield Other(cutter.cut(others, at))
                cutter.at = others = end
                yield rows
                continue
            cutter.at = end
            if channel in self._shapes:
                content, _ = self._contents.add(Frame(kind, channel, method, cutter.cut(at, end)))
                if content is not None and content.is_whole and content.method == DELIVER:
                    frames, others = cutter.cut(others, end), end
                    yield Other(frames, b"".join(content.frames))
        if others < cutter.at:
            yield Other(cutter.cut(others, cutter.at))
        if incomplete is not None and not self._is_odd:
            self._begin_to_grow(incomplete)

    def _begin_to_grow(self, shape: Shape) -> None:
        """Drop what is right of an incomplete message, if it is a large one."""
        cutter = self._cutter
        self._growing = shape.begun(cutter.buffer, cutter.at, cutter.end)
        if self._growing is not None:
            cutter.at += len(self._growing[0].row)
            self._grow()

    def _grow(self) -> Deliveries | None:
        """Compare what has come of a large message; return it as soon as it is whole."""
        if self._growing is None:
            return None
        cutter, (growing, delivery) = self._cutter, self._growing
        cutter.at += growing.take(cutter.buffer, cutter.at, cutter.end)
        if growing.is_wrong:
            cutter.put_back(growing.so_far())
            self._is_odd = True
        elif growing.missing:
            return None
        self._growing = None
        return None if growing.is_wrong else delivery

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
