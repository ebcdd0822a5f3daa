"""Frames of many AMQP messages ↔ arrays, without any input or output.

All messages of a run have one shape: the same frames, of the same lengths, in which only a few
numbers differ. A :class:`Shape` holds one such message as bytes (marshalled by pika, or received
and checked) and knows where its numbers are. From arrays of numbers it computes the bytes of many
messages. A :class:`Splitter` compares a received stream with the bytes that it should have, many
messages at once, and leaves to pika whatever differs. :mod:`rmqbench.amqp.framing` finds the
frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pika.frame
import pika.spec

from rmqbench.amqp.framing import (
    ACK,
    BODY_SIZE_AT,
    CONFIRM_BYTES,
    DELIVER,
    FRAME_END,
    METHOD,
    NACK,
    OVERHEAD,
    PAYLOAD_AT,
    ContentAssembler,
    Frame,
    FrameCutter,
    delivery_tag_at,
    frame_offsets,
)
from rmqbench.checksum import head_checksums
from rmqbench.message import HEAD_SIZE, Recipe
from rmqbench.once import once

__all__ = [
    "Confirms",
    "Deliveries",
    "Other",
    "Shape",
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
_BUFFER_BYTES = 4 << 20  # rendered by one call at most, unless a single message is larger
_ROWS_BYTES = 1 << 18  # of rows at once at most: a cache of the processor holds them
# A message with so many constant bytes behind its head is wide: these are compared with the
# template as one piece, and its numbers alone are rows of an array.
_WIDE_BYTES = 1 << 13
_SENT_APART_BYTES = 1 << 16  # constant bytes so many are sent from where they are, without a copy


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
class Deliveries:
    """Deliveries in which every byte is as ``recipe`` computes it: one row each, in order.

    ``tags``, ``producers`` and ``sequences`` int64, ``redelivered`` bool, ``stamps`` uint32 (the
    checksums in their heads), all of shape (n,).
    """

    channel: int
    tags: Int64Array
    redelivered: BoolArray
    producers: Int64Array
    sequences: Int64Array
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
            self.stamps[:count],
            self.recipe,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Other:
    """Whole frames for pika. ``delivery`` holds all frames of the delivery that they complete."""

    frames: bytes
    delivery: bytes | None = None


StreamPiece = Confirms | Deliveries | Other


def vector_path_is_on() -> bool:
    """Whether messages take the vector path: RMQBENCH_VECTOR=0 leaves all of them to pika."""
    return os.environ.get("RMQBENCH_VECTOR", "1") != "0"


class Shape:
    """Messages of one run on one channel: all with the same frames, except for a few numbers."""

    def __init__(self, template: bytes, recipe: Recipe, tag_at: int | None) -> None:
        """Take one whole message as ``template``, with a delivery tag at ``tag_at`` if not None."""
        self.frame_offsets = tuple(frame_offsets(template))
        header, body = self.frame_offsets[1], self.frame_offsets[2]
        head_at = body + PAYLOAD_AT
        numbers_end = head_at + HEAD_SIZE
        identity = template[head_at : head_at + HEAD_SIZE]
        producer = int.from_bytes(identity[6:8], "big")
        sequence = int.from_bytes(identity[24:32], "big")
        message_id = recipe.message_id(producer, sequence).encode()
        id_at = template.index(message_id, header, body)
        self._recipe = recipe
        self.template = template
        self.stride = len(template)
        is_wide = self.stride - numbers_end >= _WIDE_BYTES
        self._width = numbers_end if is_wide else self.stride  # of a row
        self._rest = memoryview(template)[self._width :]  # the constant bytes that follow it
        self.body_size_at = header + BODY_SIZE_AT
        fields: dict[str, tuple[Any, int]] = {
            "id_producer": ("u4", id_at + 14),
            "id_sequence": (("u4", 3), id_at + 24),
            "timestamp": (">i8", id_at + 36),
            "producer": (">u2", head_at + 6),
            "sequence": (">i8", head_at + 24),
            "sent_ns": (">i8", head_at + 32),
            "numbers": ("V16", head_at + 24),  # sequence and send time as they are,
            "quarters": ((">u2", 8), head_at + 24),  # and in pieces of 16 bits
            "crc": (">u4", head_at + 40),
        }
        if tag_at is not None:
            fields["tag"] = (">i8", tag_at)
            fields["redelivered"] = ("u1", tag_at + 8)
        self.dtype = np.dtype(
            {
                "names": list(fields),
                "formats": [f for f, _ in fields.values()],
                "offsets": [at for _, at in fields.values()],
                "itemsize": self._width,
            }
        )
        self.max_rows = max(1, min(_BUFFER_BYTES // self.stride, _ROWS_BYTES // self._width))
        self._rows = np.empty(0, self.dtype)

    @classmethod
    def of_publish(
        cls,
        recipe: Recipe,
        *,
        channel: int,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        frame_max: int,
    ) -> Shape:
        """Marshal one publish with pika: the template of all others."""
        method = pika.spec.Basic.Publish(
            exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )
        return cls(_marshal(recipe, channel, method, frame_max), recipe, None)

    @classmethod
    def of_delivery(cls, frames: bytes, recipe: Recipe) -> Shape | None:
        """Learn the shape of one delivery that was received and found to be as sent.

        None if its frames are not the usual ones (``message_id`` next to the timestamp).
        """
        try:
            shape = cls(frames, recipe, delivery_tag_at(frames))
        except (ValueError, IndexError):
            return None
        return shape if len(shape.match(frames, 0, 1).tags) else None

    def render(
        self, producer: int, sequences: Int64Array, sent_ns: int | Int64Array
    ) -> list[bytes | memoryview]:
        """Compute the bytes of ``n`` messages of one producer, in pieces to be sent in turn.

        ``sequences`` is int64 of shape (n,), with ``n`` at most ``max_rows``; ``sent_ns`` is Unix
        time in nanoseconds, for all or of shape (n,).
        """
        rows = self._take_rows(len(sequences))
        rows["producer"] = producer
        rows["sequence"] = sequences
        rows["sent_ns"] = sent_ns
        self._complete(rows)
        data, rest = rows.tobytes(), self._rest
        if not rest:
            return [data]
        width = self._width
        pieces: list[bytes | memoryview] = []
        for at in range(0, len(data), width):
            pieces += (data[at : at + width], rest)
        return pieces if len(rest) >= _SENT_APART_BYTES else [b"".join(pieces)]

    def render_deliveries(
        self,
        producer: int,
        sequences: Int64Array,
        sent_ns: int | Int64Array,
        tags: Int64Array,
        redelivered: BoolArray,
    ) -> list[bytes | memoryview]:
        """Compute the bytes of ``n`` deliveries, as :meth:`render` does those of publishes."""
        rows = self._take_rows(len(sequences))
        rows["tag"] = tags
        rows["redelivered"] = redelivered
        return self.render(producer, sequences, sent_ns)

    def match(self, buffer: bytes | bytearray, offset: int, count: int) -> Deliveries:
        """Read ``count`` whole deliveries, up to the first in which a byte is not as computed."""
        received = self._rows_at(buffer, offset, count)
        if self._rest:
            places = range(offset + self._width, offset + len(received) * self.stride, self.stride)
            odd = (n for n, at in enumerate(places) if not buffer.startswith(self._rest, at))
            received = received[: next(odd, None)]
        return Deliveries(
            channel=int.from_bytes(self.template[1:3], "big"),
            tags=received["tag"].astype(np.int64),
            redelivered=received["redelivered"].astype(np.bool_),
            producers=received["producer"].astype(np.int64),
            sequences=received["sequence"].astype(np.int64),
            stamps=received["crc"].astype(np.uint32),
            recipe=self._recipe,
        )

    def may_grow_into(self, buffer: bytes | bytearray, offset: int, end: int) -> bool:
        """Whether the incomplete message from ``offset`` to ``end`` can become one of this shape.

        It can if all frame headers there, and the size in the content header, are the shape's:
        then its length is the shape's, too, and the rest is sure to come.
        """
        here = end - offset
        marks = [(at, PAYLOAD_AT) for at in self.frame_offsets] + [(self.body_size_at, 8)]
        return here < self.stride and all(
            buffer.startswith(self.template[at : min(at + n, here)], offset + at)
            for at, n in marks
            if at < here
        )

    def _rows_at(self, buffer: bytes | bytearray, offset: int, count: int) -> npt.NDArray[Any]:
        """Return the rows at ``offset``, up to the first that has a byte not as computed."""
        step = (self.stride,)
        received: npt.NDArray[Any] = np.ndarray(count, self.dtype, buffer, offset, step)
        rows = self._take_rows(count)
        rows["producer"] = received["producer"]
        rows["numbers"] = received["numbers"]
        rows["tag"] = received["tag"]
        rows["redelivered"] = received["redelivered"] & 1
        self._complete(rows)
        shape = (count, self._width)
        octets = np.ndarray(shape, np.uint8, buffer, offset, (*step, 1))
        equal = rows.view(np.uint8).reshape(shape) == octets
        return received if equal.all() else received[: np.argmin(equal.all(axis=1))]

    def _take_rows(self, count: int) -> npt.NDArray[Any]:
        """Return ``count`` rows that hold all constant bytes."""
        if count > len(self._rows):
            size = min(self.max_rows, max(count, 2 * len(self._rows)))
            row = self.template[: self._width]
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
                rows = self._match(shape, buffer, at, cutter.end)
                if rows is not None:
                    end = at + len(rows.tags) * shape.stride
                elif shape.may_grow_into(buffer, at, cutter.end):
                    break
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

    def _match(self, shape: Shape, buffer: bytearray, offset: int, end: int) -> Deliveries | None:
        """Match at most as many as lately matched in a row: odd messages then cost little."""
        tried = min((end - offset) // shape.stride, self._row_limit, shape.max_rows)
        if not tried:
            return None
        deliveries = shape.match(buffer, offset, tried)
        matched = len(deliveries.tags)
        grown = min(2 * self._row_limit, shape.max_rows)
        self._row_limit = grown if matched == tried else 2 * matched + 16
        return deliveries if matched else None


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
