"""The shape of a run's messages: their bytes ↔ arrays of the few numbers that differ.

A :class:`Shape` holds one message as bytes (marshalled by pika, or received and checked) and knows
where its numbers are. From arrays of numbers it computes the bytes of many messages, and compares
received ones with what they should be.

What is of one layout in all messages is rows of an array: of bodies of one size the whole message
or, where it is large, what comes before its constant rest. Where sizes are mixed, that is all up to
the end of the body's head: the sizes of the body and of its first frame are numbers as others are.
What follows is a beginning of one longest tail, cut into frames (:mod:`rmqbench.amqp.tail`).
"""

from __future__ import annotations

import itertools
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pika.frame
import pika.spec

from rmqbench.amqp.framing import (
    BODY_SIZE_AT,
    OVERHEAD,
    PAYLOAD_AT,
    delivery_tag_at,
    frame_offsets,
)
from rmqbench.amqp.growing import Growing, due_behind_head
from rmqbench.amqp.tail import Buffer, Mark, Piece, Tail
from rmqbench.checksum import head_checksums
from rmqbench.message import HEAD_SIZE, MAX_PRODUCERS, Recipe
from rmqbench.once import once

__all__ = ["Deliveries", "Shape"]

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Octets = npt.NDArray[np.uint8]

_ROWS_BYTES: Final = 1 << 18  # of rows at once at most: a cache of the processor holds them
_BUFFER_BYTES: Final = 4 << 20  # rendered by one call, or so; more if a single message is larger
# A message with so many constant bytes behind its head is wide: these are compared with the
# template as one piece, and its numbers alone are rows of an array.
_WIDE_BYTES: Final = 1 << 13
_GROWING_BYTES: Final = 1 << 19  # of so many behind the head, each piece is compared as it comes
_SENT_APART_BYTES: Final = 1 << 16  # constant bytes so many are sent from where they are: no copy
_BODY_SIZE: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, eq=False)
class Deliveries:
    """Deliveries in which every byte is as ``recipe`` computes it: one row each, in order.

    ``tags``, ``producers``, ``sequences`` and ``sent_ns`` int64, ``redelivered`` bool, ``stamps``
    uint32 (the checksums in their heads), all of shape (n,).
    """

    channel: int
    tags: Int64Array
    redelivered: BoolArray
    producers: Int64Array
    sequences: Int64Array
    sent_ns: Int64Array
    stamps: npt.NDArray[np.uint32]
    recipe: Recipe

    def up_to(self, count: int) -> Deliveries:
        """Return the first ones of them."""
        return Deliveries(
            self.channel,
            self.tags[:count],
            self.redelivered[:count],
            self.producers[:count],
            self.sequences[:count],
            self.sent_ns[:count],
            self.stamps[:count],
            self.recipe,
        )


@dataclass(frozen=True)
class _Layout:
    """One whole message, with a delivery tag at ``tag_at`` if not None, and where its numbers are.

    Of frames that are not the usual ones, these raise ValueError or IndexError.
    """

    template: bytes
    recipe: Recipe
    tag_at: int | None

    @cached_property
    def frames(self) -> tuple[int, ...]:
        """Where each of its frames begins: method, header, bodies."""
        return tuple(frame_offsets(self.template))

    @property
    def channel(self) -> int:
        return int.from_bytes(self.template[1:3], "big")

    @property
    def body_size_at(self) -> int:
        return self.frames[1] + BODY_SIZE_AT

    @property
    def head_at(self) -> int:
        """Where the body's head begins."""
        return self.frames[2] + PAYLOAD_AT

    @property
    def head_end(self) -> int:
        """Where the body's head ends."""
        return self.head_at + HEAD_SIZE

    def dtype(self, width: int) -> np.dtype[Any]:
        """Return how the numbers stand in the first ``width`` bytes."""
        _, header, body, *_ = self.frames
        head_at = self.head_at
        identity = self.template[head_at : self.head_end]
        producer = int.from_bytes(identity[6:8], "big")
        sequence = int.from_bytes(identity[24:32], "big")
        message_id = self.recipe.message_id(producer, sequence).encode()
        id_at = self.template.index(message_id, header, body)
        fields: dict[str, tuple[Any, int]] = {
            "body_size": (">u8", self.body_size_at),
            "id_producer": ("u4", id_at + 14),
            "id_sequence": (("u4", 3), id_at + 24),
            "timestamp": (">i8", id_at + 36),
            "frame_size": (">u4", body + PAYLOAD_AT - 4),  # of the body's first frame
            "producer": (">u2", head_at + 6),
            "sequence": (">i8", head_at + 24),
            "sent_ns": (">i8", head_at + 32),
            "numbers": ("V16", head_at + 24),  # sequence and send time as they are,
            "quarters": ((">u2", 8), head_at + 24),  # and in pieces of 16 bits
            "crc": (">u4", head_at + 40),
        }
        if self.tag_at is not None:
            fields["tag"] = (">i8", self.tag_at)
            fields["redelivered"] = ("u1", self.tag_at + 8)
        return np.dtype(
            {
                "names": list(fields),
                "formats": [f for f, _ in fields.values()],
                "offsets": [at for _, at in fields.values()],
                "itemsize": width,
            }
        )


class Shape(ABC):
    """Messages of one run on one channel.

    ``mean_bytes`` is how long they are on average, ``max_rows`` how many are rendered or matched by
    one call at most. Those of a shape that ``is_wide`` are so large that each is looked at by
    itself (:meth:`whole`), and only its row together with others (:meth:`match_rows`); of others
    :meth:`bounds` and :meth:`match` take many.
    """

    def __init__(self, layout: _Layout, width: int, mean_bytes: int, *, is_wide: bool) -> None:
        """Make rows of the first ``width`` bytes of each message."""
        self.is_wide = is_wide
        self._layout = layout
        self._recipe = layout.recipe
        self._width = width
        self.dtype = layout.dtype(width)
        self.mean_bytes = mean_bytes
        self.max_rows = max(1, min(_BUFFER_BYTES // mean_bytes, _ROWS_BYTES // width))
        self._rows = np.empty(0, self.dtype)

    @staticmethod
    def of_publish(
        recipe: Recipe,
        *,
        channel: int,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        frame_max: int,
    ) -> Shape:
        """Marshal one publish with pika: the template of all others, which are of one form."""
        method = pika.spec.Basic.Publish(
            exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )
        template = _marshal(recipe, channel, method, frame_max)
        return _shape(_Layout(template, recipe, None), frame_max)

    @staticmethod
    def of_delivery(frames: bytes, recipe: Recipe, frame_max: int) -> Shape | None:
        """Learn the shape of one delivery that was received and found to be as sent.

        ``frame_max`` is the size of the largest frame (0: any), by which bodies of other sizes are
        cut. None if its frames are not the usual ones (``message_id`` next to the timestamp), or
        if others have other properties.
        """
        if not recipe.is_of_one_form:
            return None
        try:
            shape = _shape(_Layout(frames, recipe, delivery_tag_at(frames)), frame_max)
        except (ValueError, IndexError):
            return None
        if shape.whole(frames, 0, len(frames)) != len(frames):
            return None
        row = np.frombuffer(shape.row(frames, 0), np.uint8)[None]
        return shape if len(shape.match_rows(row).tags) else None

    def render(
        self, producer: int, sequences: Int64Array, sent_ns: int | Int64Array
    ) -> list[Piece]:
        """Compute the bytes of ``n`` messages of one producer, in pieces to be sent in turn.

        ``sequences`` is int64 of shape (n,), with ``n`` at most ``max_rows``; ``sent_ns`` is Unix
        time in nanoseconds, for all or of shape (n,).
        """
        rows = self._take_rows(len(sequences))
        rows["producer"] = producer
        rows["sequence"] = sequences
        rows["sent_ns"] = sent_ns
        self._complete(rows)
        return self._with_rests(rows)

    def render_deliveries(
        self,
        producer: int,
        sequences: Int64Array,
        sent_ns: int | Int64Array,
        tags: Int64Array,
        redelivered: BoolArray,
    ) -> list[Piece]:
        """Compute the bytes of ``n`` deliveries, as :meth:`render` does those of publishes."""
        rows = self._take_rows(len(sequences))
        rows["tag"] = tags
        rows["redelivered"] = redelivered
        return self.render(producer, sequences, sent_ns)

    @abstractmethod
    def bounds(self, buffer: Buffer, offset: int, end: int, most: int) -> Sequence[int]:
        """Return where each whole message begins that may be there, and where the last one ends.

        They are from ``offset`` to ``end``, and ``most`` at the most. Where there is none, only
        ``offset`` is returned.
        """

    def match(self, buffer: Buffer, bounds: Sequence[int]) -> Deliveries:
        """Read whole deliveries, up to the first in which a byte is not as computed."""
        received = self._right(self._octets(buffer, bounds))
        return self._deliveries(received[: self._count_whole(buffer, bounds, received)])

    def match_rows(self, octets: Octets) -> Deliveries:
        """Read deliveries of which all that follows the row is right, from their rows alone.

        ``octets`` is uint8 of shape (n, width): as many as are right before one that is not.
        """
        return self._deliveries(self._right(octets))

    def row(self, buffer: Buffer, offset: int) -> memoryview:
        """Return the row of the message that begins there."""
        return memoryview(buffer)[offset : offset + self._width]

    @abstractmethod
    def whole(self, buffer: Buffer, offset: int, end: int) -> int:
        """Return how long the message from ``offset`` on is; 0 if it does not end before ``end``.

        0, too, if anything behind its row is not as computed. The row is not looked at, but for the
        size of the body.
        """

    @abstractmethod
    def rest_of(self, row: bytes) -> Sequence[Piece]:
        """Return what follows a row in its message."""

    def begun(self, buffer: Buffer, offset: int, end: int) -> Growing | None:
        """Return a large message that is there from ``offset`` on, but not whole.

        What follows its row is compared as it comes. None if it is not so large that this is worth
        it, or if its row is not there yet.
        """
        length, _ = self._expected(buffer, offset, end - offset)
        if end - offset < self._width or length - self._width < _GROWING_BYTES:
            return None
        row = bytes(self.row(buffer, offset))
        (size,) = _BODY_SIZE.unpack_from(row, self._layout.body_size_at)
        return Growing(row, self._due(size), length - self._width)

    def _right(self, octets: Octets) -> npt.NDArray[Any]:
        """Return the rows as received, up to the first that has a wrong byte."""
        received = octets.view(self.dtype)[:, 0]
        rows = self._take_rows(len(octets))
        rows["producer"] = received["producer"]
        rows["numbers"] = received["numbers"]
        rows["tag"] = received["tag"]
        rows["redelivered"] = received["redelivered"] & 1
        self._complete(rows)
        equal = rows.view(np.uint8).reshape(octets.shape) == octets
        if not equal.all():
            return received[: np.argmin(equal.all(axis=1))]
        return received

    def _deliveries(self, received: npt.NDArray[Any]) -> Deliveries:
        return Deliveries(
            channel=self._layout.channel,
            tags=received["tag"].astype(np.int64),
            redelivered=received["redelivered"].astype(np.bool_),
            producers=received["producer"].astype(np.int64),
            sequences=received["sequence"].astype(np.int64),
            sent_ns=received["sent_ns"].astype(np.int64),
            stamps=received["crc"].astype(np.uint32),
            recipe=self._recipe,
        )

    def may_grow_into(self, buffer: Buffer, offset: int, end: int) -> bool:
        """Whether the incomplete message from ``offset`` to ``end`` can become one of this shape.

        It can if all frame headers there, and the size in the content header, are the shape's:
        then its length is the shape's, too, and the rest is sure to come.
        """
        here = end - offset
        length, marks = self._expected(buffer, offset, here)
        return here < length and all(
            buffer.startswith(mark[: here - at], offset + at) for at, mark in marks if at < here
        )

    @abstractmethod
    def _octets(self, buffer: Buffer, bounds: Sequence[int]) -> Octets:
        """Return the rows as received: uint8 of shape (n, width)."""

    def _count_whole(self, buffer: Buffer, bounds: Sequence[int], rows: npt.NDArray[Any]) -> int:
        """Return behind how many of these rows, which are right, all that follows is right."""
        return len(rows)

    @abstractmethod
    def _due(self, size: int) -> Sequence[Piece]:
        """Return what follows the head of a body of this size, in short pieces."""

    @abstractmethod
    def _with_rests(self, rows: npt.NDArray[Any]) -> list[Piece]:
        """Return complete rows with what follows each of them."""

    @abstractmethod
    def _expected(self, buffer: Buffer, offset: int, here: int) -> tuple[int, Iterable[Mark]]:
        """Return how long a message is of which ``here`` bytes are there, and what is where in it.

        Its length is 0 where it is none of this shape, and too large rather than too small where
        it does not show yet.
        """

    def _take_rows(self, count: int) -> npt.NDArray[Any]:
        """Return ``count`` rows that hold all constant bytes."""
        if count > len(self._rows):
            size = max(count, min(self.max_rows, 2 * len(self._rows)))
            row = self._layout.template[: self._width]
            self._rows = np.frombuffer(bytearray(row * size), self.dtype)
        return self._rows[:count]

    def _complete(self, rows: npt.NDArray[Any]) -> None:
        """Compute all numbers that follow from producer, sequence and send time."""
        quarters = rows["quarters"]
        producers = rows["producer"].astype(np.intp)
        rows["id_producer"] = _hex_quads()[0x8000 | (producers & 0xFFF)]  # version 8 before it
        rows["id_sequence"] = _hex_quads()[quarters[:, 1:4]]
        rows["timestamp"] = rows["sent_ns"] // 1_000_000_000
        rows["crc"] = head_checksums(self._recipe.stamp_base, producers, quarters)


class _OneSize(Shape):
    """Messages that have the same frames, of the same lengths."""

    def __init__(self, layout: _Layout) -> None:
        self._stride = stride = len(layout.template)
        is_wide = stride - layout.head_end >= _WIDE_BYTES
        super().__init__(layout, layout.head_end if is_wide else stride, stride, is_wide=is_wide)
        self._rest = memoryview(layout.template)[self._width :]  # constant bytes behind a row

    def bounds(self, buffer: Buffer, offset: int, end: int, most: int) -> range:
        count = min((end - offset) // self._stride, most)
        return range(offset, offset + (count + 1) * self._stride, self._stride)

    def _octets(self, buffer: Buffer, bounds: Sequence[int]) -> Octets:
        shape = (len(bounds) - 1, self._width)
        return np.ndarray(shape, np.uint8, buffer, bounds[0])

    def whole(self, buffer: Buffer, offset: int, end: int) -> int:
        if end - offset < self._stride or not buffer.startswith(self._rest, offset + self._width):
            return 0
        return self._stride

    def rest_of(self, row: bytes) -> Sequence[Piece]:
        return (self._rest,)

    def _due(self, size: int) -> Sequence[Piece]:
        return self._due_behind_head

    @cached_property
    def _due_behind_head(self) -> Sequence[Piece]:
        layout = self._layout
        frames = itertools.pairwise((*layout.frames[2:], self._stride))
        payloads = (end - at - OVERHEAD for at, end in frames)
        return due_behind_head(layout.recipe, layout.channel, payloads)

    def _with_rests(self, rows: npt.NDArray[Any]) -> list[Piece]:
        data, rest = rows.tobytes(), self._rest
        if not rest:
            return [data]
        width = self._width
        pieces: list[Piece] = []
        for at in range(0, len(data), width):
            pieces += (data[at : at + width], rest)
        return pieces if len(rest) >= _SENT_APART_BYTES else [b"".join(pieces)]

    def _expected(self, buffer: Buffer, offset: int, here: int) -> tuple[int, Iterable[Mark]]:
        return self._stride, self._marks

    @cached_property
    def _marks(self) -> Sequence[Mark]:
        layout = self._layout
        places = [(at, PAYLOAD_AT) for at in layout.frames]
        places.append((layout.body_size_at, _BODY_SIZE.size))
        return [(at, layout.template[at : at + n]) for at, n in places]


class _MixedSizes(Shape):
    """Messages whose bodies have sizes of their own, computed as all else of them."""

    def __init__(self, layout: _Layout, frame_max: int) -> None:
        sizes = layout.recipe.sizes
        self._sizes = sizes
        self._tail = Tail(layout.recipe, layout.channel, frame_max)
        width = layout.head_end
        mean_bytes = width + self._tail.length(int(sizes.mean))
        super().__init__(layout, width, mean_bytes, is_wide=sizes.mean >= _WIDE_BYTES)
        self._body_size_at = layout.body_size_at
        self._row = np.dtype((np.void, width))

    def bounds(self, buffer: Buffer, offset: int, end: int, most: int) -> list[int]:
        read, size_at = _BODY_SIZE.unpack_from, self._body_size_at
        smallest, largest = self._sizes.smallest, self._sizes.largest
        least, room = self._width - HEAD_SIZE + 1, self._tail.room  # as Tail.length computes it
        last_row_at = end - self._width
        bounds, at = [offset], offset
        while len(bounds) <= most and at <= last_row_at:
            (size,) = read(buffer, at + size_at)
            if not smallest <= size <= largest:
                break
            at += least + size + (size - 1) // room * OVERHEAD
            if at > end:
                break
            bounds.append(at)
        return bounds

    def whole(self, buffer: Buffer, offset: int, end: int) -> int:
        if end - offset < self._width:
            return 0
        (size,) = _BODY_SIZE.unpack_from(buffer, offset + self._body_size_at)
        if not self._sizes.smallest <= size <= self._sizes.largest:
            return 0
        length = self._width + self._tail.length(size)
        if end - offset < length or not self._tail.is_at(buffer, offset + self._width, size):
            return 0
        return length

    def rest_of(self, row: bytes) -> Sequence[Piece]:
        return self._tail.pieces(_BODY_SIZE.unpack_from(row, self._body_size_at)[0])

    def _octets(self, buffer: Buffer, bounds: Sequence[int]) -> Octets:
        # A row that begins at each byte: of these the ones wanted are copied, each as a whole.
        count = len(buffer) - self._width + 1
        everywhere: npt.NDArray[Any] = np.ndarray(count, self._row, buffer, strides=(1,))
        rows = everywhere[np.array(bounds[:-1], np.intp)]
        return rows.view(np.uint8).reshape(-1, self._width)

    def _count_whole(self, buffer: Buffer, bounds: Sequence[int], rows: npt.NDArray[Any]) -> int:
        tail, width = self._tail, self._width
        for number, size in enumerate(rows["body_size"].tolist()):
            if not tail.is_at(buffer, bounds[number] + width, size):
                return number
        return len(rows)

    def _due(self, size: int) -> Sequence[Piece]:
        room = self._tail.room
        payloads = (min(room, size - at) for at in range(0, size, room))
        return due_behind_head(self._recipe, self._layout.channel, payloads)

    def _with_rests(self, rows: npt.NDArray[Any]) -> list[Piece]:
        pieces: list[Piece] = []
        heads, sizes = rows.view(self._row).tolist(), rows["body_size"].tolist()
        rest_of = self._tail.pieces
        for head, size in zip(heads, sizes, strict=True):
            pieces += (head, *rest_of(size))
        return _joined(pieces) if self._sizes.largest >= _SENT_APART_BYTES else [b"".join(pieces)]

    def _expected(self, buffer: Buffer, offset: int, here: int) -> tuple[int, Iterable[Mark]]:
        template = self._layout.template
        method, header, body, *_ = self._layout.frames
        marks = [(at, template[at : at + PAYLOAD_AT]) for at in (method, header)]
        if here < self._body_size_at + _BODY_SIZE.size:
            return self._width, marks
        (size,) = _BODY_SIZE.unpack_from(buffer, offset + self._body_size_at)
        if not self._sizes.smallest <= size <= self._sizes.largest:
            return 0, ()
        marks += ((body + at, mark) for at, mark in self._tail.headers(size))
        return self._width + self._tail.length(size), marks

    def _complete(self, rows: npt.NDArray[Any]) -> None:
        super()._complete(rows)
        sizes = self._recipe.sizes_of(rows["producer"] & (MAX_PRODUCERS - 1), rows["sequence"])
        rows["body_size"] = sizes
        rows["frame_size"] = np.minimum(sizes, self._tail.room)


def _shape(layout: _Layout, frame_max: int) -> Shape:
    if layout.recipe.sizes.are_mixed:
        return _MixedSizes(layout, frame_max)
    return _OneSize(layout)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Join pieces that follow each other, but for large ones."""
    joined: list[Piece] = []
    for is_large, group in itertools.groupby(pieces, lambda each: len(each) >= _SENT_APART_BYTES):
        some = list(group)
        joined += some if is_large else [b"".join(some)]
    return joined


def _marshal(recipe: Recipe, channel: int, method: Any, frame_max: int) -> bytes:
    body = recipe.body(0, 0, 0)
    room = frame_max - OVERHEAD if frame_max else len(body)
    frames = [
        pika.frame.Method(channel, method),
        pika.frame.Header(channel, len(body), recipe.properties(0, 0, 0)),
        *(pika.frame.Body(channel, body[at : at + room]) for at in range(0, len(body), room)),
    ]
    return b"".join(frame.marshal() for frame in frames)


@once
def _hex_quads() -> npt.NDArray[np.uint32]:
    """Return the four hexadecimal digits of each number below 65536, as four bytes in one."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    nibbles = np.arange(1 << 16)[:, None] >> np.array([12, 8, 4, 0]) & 0xF
    quads: npt.NDArray[np.uint32] = digits[nibbles].view(np.uint32).ravel()
    return quads
