"""AMQP 0-9-1 frames of many messages ↔ arrays, without any input or output.

All messages of a run have one shape: the same frames, of the same lengths, in which only a few
numbers differ. A :class:`Shape` holds one such message as bytes (marshalled by pika itself, or
received and checked) and knows where its numbers stand. From arrays of numbers it computes the
bytes of as many messages; a :class:`Splitter` compares a received stream with what it should
have been, many messages at once, and hands on what is not exactly that.

Frame layout: section 2.3.5 of the AMQP 0-9-1 specification. A frame is type (1 octet), channel
(2), size (4), payload, and the end octet 0xCE.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pika.frame
import pika.spec

from rmqbench.message import HEAD_SIZE, Recipe

__all__ = ["Confirms", "Deliveries", "Other", "Shape", "Splitter"]

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

METHOD, HEADER, BODY = 1, 2, 3
FRAME_END = b"\xce"
_OVERHEAD = 8  # frame header and end octet
_ACK, _NACK, _DELIVER = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78", b"\x00\x3c\x00\x3c"
_CONFIRM_SIZE = 13 + _OVERHEAD
_CONFIRM = np.dtype(
    {
        "names": ["type", "channel", "size", "method", "tag", "bits", "end"],
        "formats": ["u1", ">u2", ">u4", ">u4", ">u8", "u1", "u1"],
        "offsets": [0, 1, 3, 7, 11, 19, 20],
        "itemsize": _CONFIRM_SIZE,
    }
)
_ACK_ID, _NACK_ID = 0x003C0050, 0x003C0078
_QUARTER_STARTS = np.arange(8) << 16  # where each piece of 16 bits has its table
_BUFFER_BYTES = 4 << 20  # what one call renders at the most, unless a single message is larger


@dataclass(frozen=True, slots=True, eq=False)
class Confirms:
    """Publisher confirms as they came: one row each, in order.

    ``tags`` int64, ``multiple`` and ``nack`` bool, all of shape (n,).
    """

    channel: int
    tags: Int64Array
    multiple: BoolArray
    nack: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Deliveries:
    """Deliveries of which every byte is as ``recipe`` computes it: one row each, in order.

    ``tags``, ``producers`` and ``sequences`` int64, ``redelivered`` bool, all of shape (n,).
    """

    channel: int
    tags: Int64Array
    redelivered: BoolArray
    producers: Int64Array
    sequences: Int64Array
    recipe: Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Other:
    """Whole frames that are for pika. ``delivery`` holds all frames of the delivery they end."""

    frames: bytes
    delivery: bytes | None = None


Event = Confirms | Deliveries | Other


class Shape:
    """Messages of one run on one channel, all with the same frames but for a few numbers."""

    def __init__(self, template: bytes, recipe: Recipe, tag_at: int | None) -> None:
        """Take one whole message as ``template``; ``tag_at`` is where a delivery's tag stands."""
        self.frame_offsets = tuple(_frame_offsets(template))
        header, body = self.frame_offsets[1], self.frame_offsets[2]
        identity = template[body + 7 : body + 7 + HEAD_SIZE]
        producer = int.from_bytes(identity[6:8], "big")
        sequence = int.from_bytes(identity[24:32], "big")
        message_id = recipe.message_id(producer, sequence).encode()
        id_at = template.index(message_id, header, body)
        head_at = body + 7
        self._recipe = recipe
        self.template = template
        self.stride = len(template)
        self.body_size_at = header + 11
        self._crc_base = np.uint32(zlib.crc32(recipe.head(0, 0, 0)[:-4]))
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
                "itemsize": self.stride,
            }
        )
        self.max_rows = max(1, _BUFFER_BYTES // self.stride)
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
        """Have pika marshal one publish; it is the template of all others."""
        method = pika.spec.Basic.Publish(
            exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )
        return cls(_marshal(recipe, channel, method, frame_max), recipe, None)

    @classmethod
    def of_delivery(cls, frames: bytes, recipe: Recipe) -> Shape | None:
        """Learn from one delivery that was received and found to be as sent.

        None if its frames are not the usual ones (``message_id`` and timestamp side by side).
        """
        try:
            shape = cls(frames, recipe, 12 + frames[11])
        except (ValueError, IndexError):
            return None
        row = np.frombuffer(frames, shape.dtype)
        return shape if shape._count_equal(row) == 1 else None

    def render(
        self, producer: int, sequences: Int64Array, sent_ns: int | Int64Array
    ) -> npt.NDArray[np.uint8]:
        """Compute the bytes of ``n`` messages of one producer: uint8 of shape (n, stride).

        The result is a view of a buffer that the next call overwrites. ``n`` may not exceed
        ``max_rows``.
        """
        rows = self._take_rows(len(sequences))
        rows["producer"] = producer
        rows["sequence"] = sequences
        rows["sent_ns"] = sent_ns
        self._complete(rows)
        return rows.view(np.uint8).reshape(len(rows), self.stride)

    def render_deliveries(
        self,
        producer: int,
        sequences: Int64Array,
        sent_ns: int | Int64Array,
        tags: Int64Array,
        redelivered: BoolArray,
    ) -> npt.NDArray[np.uint8]:
        """Compute the bytes of ``n`` deliveries, as :meth:`render` does those of publishes."""
        rows = self._take_rows(len(sequences))
        rows["tag"] = tags
        rows["redelivered"] = redelivered
        return self.render(producer, sequences, sent_ns)

    def match(self, buffer: bytes, offset: int, count: int) -> Deliveries:
        """Read ``count`` deliveries that are whole, up to the first that is not exact."""
        received = np.frombuffer(buffer, self.dtype, count, offset)
        received = received[: self._count_equal(received)]
        return Deliveries(
            channel=int.from_bytes(self.template[1:3], "big"),
            tags=received["tag"].astype(np.int64),
            redelivered=received["redelivered"].astype(np.bool_),
            producers=received["producer"].astype(np.int64),
            sequences=received["sequence"].astype(np.int64),
            recipe=self._recipe,
        )

    def may_grow_into(self, buffer: bytes, offset: int) -> bool:
        """Tell whether the cut-off message at ``offset`` can still become one of this shape.

        It can if all frame headers there, and the size in the content header, are the shape's:
        then its length is the shape's too, and waiting for the rest cannot wait for ever.
        """
        here = len(buffer) - offset
        marks = [(at, 7) for at in self.frame_offsets] + [(self.body_size_at, 8)]
        return here < self.stride and all(
            buffer[offset + at : offset + at + n] == self.template[at : at + min(n, here - at)]
            for at, n in marks
            if at < here
        )

    def _count_equal(self, received: npt.NDArray[Any]) -> int:
        """Count the rows, from the first, that are to the last byte what they should be."""
        rows = self._take_rows(len(received))
        rows["producer"] = received["producer"]
        rows["numbers"] = received["numbers"]
        rows["tag"] = received["tag"]
        rows["redelivered"] = received["redelivered"] & 1
        self._complete(rows)
        shape = (len(rows), self.stride)
        equal = rows.view(np.uint8).reshape(shape) == received.view(np.uint8).reshape(shape)
        if equal.all():
            return len(rows)
        return int(np.argmin(equal.all(axis=1)))

    def _take_rows(self, count: int) -> npt.NDArray[Any]:
        """Give rows in which all that is constant stands already."""
        if count > len(self._rows):
            size = min(self.max_rows, max(count, 2 * len(self._rows)))
            self._rows = np.frombuffer(bytearray(self.template * size), self.dtype)
        return self._rows[:count]

    def _complete(self, rows: npt.NDArray[Any]) -> None:
        """Compute all that follows from producer, sequence and send time."""
        quarters = rows["quarters"].astype(np.intp)
        producers = rows["producer"].astype(np.intp)
        rows["id_producer"] = _hex_quads()[0x8000 | (producers & 0xFFF)]  # version 8 before it
        rows["id_sequence"] = _hex_quads()[quarters[:, 1:4]]
        rows["timestamp"] = rows["sent_ns"] // 1_000_000_000
        # A CRC is linear: each piece of the head adds its own share.
        shares = _crc_shares().take(quarters + _QUARTER_STARTS)
        crc = np.bitwise_xor.reduce(shares, axis=1)
        rows["crc"] = crc ^ self._crc_base ^ _crc_producer_shares()[producers]


class Splitter:
    """Cuts a received byte stream into events; it may be cut anywhere and loses nothing.

    Channels are taken note of with :meth:`expect_confirms` and :meth:`expect_deliveries`; the
    frames of all others are handed on untouched.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._offset = 0  # what is before it has been given
        self._confirming: set[int] = set()
        self._shapes: dict[int, Shape | None] = {}
        self._partial: dict[int, _PartialDelivery] = {}
        self._row_limit = 64

    def expect_confirms(self, channel: int) -> None:
        """Read acks and nacks on this channel as publisher confirms."""
        self._confirming.add(channel)

    def expect_deliveries(self, channel: int, shape: Shape | None = None) -> None:
        """Read deliveries on this channel; with a shape, many at once."""
        self._shapes[channel] = shape

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next piece of the stream and give what it completes, in order."""
        rest = self._buffer[self._offset :]
        self._buffer = buffer = rest + data if rest else data
        self._offset = offset = others = 0  # [others, offset) are frames for pika, not yet given
        end = len(buffer)
        while end - offset >= _OVERHEAD:
            channel = int.from_bytes(buffer[offset + 1 : offset + 3], "big")
            after = offset + _OVERHEAD + int.from_bytes(buffer[offset + 3 : offset + 7], "big")
            if after > end:
                break
            event: Event | None = None
            method = buffer[offset + 7 : offset + 11] if buffer[offset] == METHOD else b""
            if channel in self._confirming and method in (_ACK, _NACK):
                event = _match_confirms(buffer, offset, channel)
                after = offset + len(event.tags) * _CONFIRM_SIZE
            elif method == _DELIVER and (shape := self._shapes.get(channel)):
                event = self._match(shape, buffer, offset)
                if event is not None:
                    after = offset + len(event.tags) * shape.stride
                elif shape.may_grow_into(buffer, offset):
                    break
            if event is not None:
                if others < offset:
                    self._offset = offset
                    yield Other(buffer[others:offset])
                self._offset = others = after
                yield event
            elif channel in self._shapes:
                delivery = self._gather(channel, method, buffer[offset:after])
                if delivery is not None:
                    frames = buffer[others:after]
                    self._offset = others = after
                    yield Other(frames, delivery)
            offset = after
        self._offset = offset
        if others < offset:
            yield Other(buffer[others:offset])

    def _match(self, shape: Shape, buffer: bytes, offset: int) -> Deliveries | None:
        """Match with a limit that follows the stream, so that odd ones in it cost little."""
        tried = min((len(buffer) - offset) // shape.stride, self._row_limit, shape.max_rows)
        if not tried:
            return None
        deliveries = shape.match(buffer, offset, tried)
        matched = len(deliveries.tags)
        grown = min(2 * self._row_limit, shape.max_rows)
        self._row_limit = grown if matched == tried else 2 * matched + 16
        return deliveries if matched else None

    def _gather(self, channel: int, method: bytes, frame: bytes) -> bytes | None:
        """Collect the frames of a delivery; give them when they are all there."""
        if method == _DELIVER:
            self._partial[channel] = _PartialDelivery([frame])
            return None
        partial = self._partial.get(channel)
        if partial is None or method:
            return None
        partial.frames.append(frame)
        if frame[0] == HEADER:
            partial.missing = int.from_bytes(frame[11:19], "big")
        else:
            partial.missing -= len(frame) - _OVERHEAD
        if partial.missing > 0:
            return None
        del self._partial[channel]
        return b"".join(partial.frames)


@dataclass(slots=True)
class _PartialDelivery:
    frames: list[bytes]
    missing: int = 0


def _match_confirms(buffer: bytes, offset: int, channel: int) -> Confirms:
    """Read the run of acks and nacks that begins at ``offset``; there is one at least."""
    count = (len(buffer) - offset) // _CONFIRM_SIZE
    rows = np.frombuffer(buffer, _CONFIRM, count, offset)
    alike = (
        (rows["type"] == METHOD)
        & (rows["channel"] == channel)
        & (rows["size"] == 13)
        & ((rows["method"] == _ACK_ID) | (rows["method"] == _NACK_ID))
        & (rows["end"] == FRAME_END[0])
    )
    if not alike.all():
        rows = rows[: max(1, int(np.argmin(alike)))]
    return Confirms(
        channel=channel,
        tags=rows["tag"].astype(np.int64),
        multiple=(rows["bits"] & 1).astype(np.bool_),
        nack=rows["method"] == _NACK_ID,
    )


def _marshal(recipe: Recipe, channel: int, method: Any, frame_max: int) -> bytes:
    body = recipe.body(0, 0, 0)
    room = frame_max - _OVERHEAD if frame_max else len(body)
    frames = [
        pika.frame.Method(channel, method),
        pika.frame.Header(channel, len(body), recipe.properties(0, 0, 0)),
        *(pika.frame.Body(channel, body[at : at + room]) for at in range(0, len(body), room)),
    ]
    return b"".join(frame.marshal() for frame in frames)


def _frame_offsets(frames: bytes) -> Iterator[int]:
    offset = 0
    while offset < len(frames):
        yield offset
        offset += _OVERHEAD + int.from_bytes(frames[offset + 3 : offset + 7], "big")


@cache
def _hex_quads() -> npt.NDArray[np.uint32]:
    """Give the four hexadecimal digits of each number below 65536, as four bytes in one."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    nibbles = np.arange(1 << 16)[:, None] >> np.array([12, 8, 4, 0]) & 0xF
    quads: npt.NDArray[np.uint32] = digits[nibbles].view(np.uint32).ravel()
    return quads


@cache
def _crc_shares() -> npt.NDArray[np.uint32]:
    """Give what each value of each 16 bits of sequence and send time adds to the head's CRC-32.

    Shape (8 * 65536,), one piece behind the other.
    """
    return np.concatenate([_crc_share(24 + 2 * piece) for piece in range(8)])


@cache
def _crc_producer_shares() -> npt.NDArray[np.uint32]:
    """Give what each producer adds to the head's CRC-32: shape (65536,)."""
    return _crc_share(6)


def _crc_share(at: int) -> npt.NDArray[np.uint32]:
    """Give what each value of the 16 bits at an offset adds to the CRC-32 of 40 bytes."""
    zero = zlib.crc32(bytes(40))
    high, low = (
        np.array([zlib.crc32(bytes(i) + bytes([v]) + bytes(39 - i)) ^ zero for v in range(256)])
        for i in (at, at + 1)
    )
    shares: npt.NDArray[np.uint32] = np.bitwise_xor.outer(high, low).ravel().astype(np.uint32)
    return shares
