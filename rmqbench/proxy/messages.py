"""Frames, messages and confirms as bytes: cut out of a stream, and changed without decoding.

What is not changed keeps its exact bytes. Layouts: AMQP 0-9-1 specification, sections 2.3.5 and
4.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import pika.frame
import pika.spec

from rmqbench.amqp.vector import BODY, FRAME_END, HEADER, METHOD

__all__ = [
    "ACK",
    "DELIVER",
    "NACK",
    "PUBLISH",
    "Confirm",
    "Frame",
    "FrameCutter",
    "Message",
    "make_ack",
    "read_connection_name",
]

DELIVER: Final[int] = pika.spec.Basic.Deliver.INDEX
PUBLISH: Final[int] = pika.spec.Basic.Publish.INDEX
ACK: Final[int] = pika.spec.Basic.Ack.INDEX
NACK: Final[int] = pika.spec.Basic.Nack.INDEX

_HEARTBEAT, _OPAQUE = 8, 0
_OVERHEAD = 8  # frame header and end octet
_FRAME_HEADER = struct.Struct(">BHI")
_UINT32 = struct.Struct(">I")
_UINT64 = struct.Struct(">Q")
_BASIC_CLASS = 60
_PROPERTIES_AT = 7 + 12  # behind class, weight and body size
_MAX_FRAME_BYTES = 1 << 28  # what claims to be longer is no frame


class Frame(NamedTuple):
    """One whole frame. ``method`` is class and method id in one number, 0 for other frames.

    ``kind`` 0 stands for bytes that are no frame and pass as they are.
    """

    kind: int
    channel: int
    method: int
    data: bytes


class FrameCutter:
    """Cuts the bytes of one direction into whole frames; it may be fed in any pieces.

    What is no AMQP 0-9-1 is given as it comes, from there on.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self._blind = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take the next piece and give what it completes, in order."""
        buffer = self._rest + data if self._rest else data
        self._rest = b""
        at, end = 0, len(buffer)
        while not self._blind and end - at >= _OVERHEAD:
            if not self._begun and buffer[:4] == b"AMQP":  # the protocol header: 8 bytes
                self._begun, at = True, 8
                yield Frame(_OPAQUE, 0, 0, buffer[:8])
                continue
            self._begun = True
            kind, channel, size = _FRAME_HEADER.unpack_from(buffer, at)
            after = at + _OVERHEAD + size
            if kind not in (METHOD, HEADER, BODY, _HEARTBEAT) or size > _MAX_FRAME_BYTES:
                self._blind = True
            elif after > end:
                break
            elif buffer[after - 1] != FRAME_END[0]:
                self._blind = True
            else:
                method = _UINT32.unpack_from(buffer, at + 7)[0] if kind == METHOD else 0
                yield Frame(kind, channel, method, buffer[at:after])
                at = after
        if self._blind and at < end:
            yield Frame(_OPAQUE, 0, 0, buffer[at:])
        else:
            self._rest = buffer[at:]

    def take_rest(self) -> bytes:
        """Give what is left of a frame that was begun: the stream has ended."""
        rest, self._rest = self._rest, b""
        return rest


@dataclass(frozen=True, slots=True)
class Message:
    """A publish or a delivery: its frames as they came.

    ``number`` is the publisher's own tag for a publish in confirm mode, else 0.
    """

    channel: int
    method: bytes
    header: bytes
    bodies: tuple[bytes, ...]
    number: int = 0

    def marshal(self) -> bytes:
        """Give all frames."""
        return b"".join((self.method, self.header, *self.bodies))

    @property
    def delivery_tag(self) -> int:
        """The delivery tag, of a delivery."""
        tag: int = _UINT64.unpack_from(self.method, 12 + self.method[11])[0]
        return tag

    def with_delivery_tag(self, tag: int) -> Message:
        """Give the same delivery with another delivery tag."""
        at = 12 + self.method[11]
        return replace(self, method=self.method[:at] + _UINT64.pack(tag) + self.method[at + 8 :])

    def with_flipped_body(self, byte: int, mask: int) -> Message | None:
        """Give the message with one byte of its body changed; None if the body is shorter."""
        bodies = list(self.bodies)
        for i, frame in enumerate(bodies):
            size = len(frame) - _OVERHEAD
            if byte < size:
                bodies[i] = _flipped(frame, 7 + byte, mask)
                return replace(self, bodies=tuple(bodies))
            byte -= size
        return None

    def with_flipped_header(self, byte: int, mask: int) -> Message | None:
        """Give the message with one byte of its properties changed; None if they are shorter."""
        at = _PROPERTIES_AT + byte
        if at >= len(self.header) - 1:
            return None
        return replace(self, header=_flipped(self.header, at, mask))

    def with_route(self, exchange: str | None, routing_key: str | None) -> Message:
        """Give the message with another exchange, routing key or both in its method frame."""
        before, old_exchange, old_key, behind = self._split_method()
        names = (
            old_exchange if exchange is None else exchange.encode(),
            old_key if routing_key is None else routing_key.encode(),
        )
        strings = b"".join(bytes([len(name)]) + name for name in names)
        return replace(self, method=_frame(METHOD, self.channel, before + strings + behind))

    def make_follower(self, body: bytes, properties: bytes, frame_max: int) -> Message:
        """Make a message of other content with this one's method frame; not mandatory."""
        before, exchange, key, behind = self._split_method()
        strings = b"".join(bytes([len(name)]) + name for name in (exchange, key))
        size = struct.pack(">HHQ", _BASIC_CLASS, 0, len(body))
        room = frame_max - _OVERHEAD if frame_max else max(1, len(body))
        return Message(
            channel=self.channel,
            method=_frame(METHOD, self.channel, before + strings + bytes(len(behind))),
            header=_frame(HEADER, self.channel, size + properties),
            bodies=tuple(
                _frame(BODY, self.channel, body[at : at + room]) for at in range(0, len(body), room)
            ),
        )

    def _split_method(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Split a method frame's payload: up to the exchange, exchange, routing key, the rest."""
        payload = self.method[7:-1]
        at = 4 + 2  # a publish: the reserved ticket; its bits come last
        if _UINT32.unpack_from(payload)[0] == DELIVER:
            at = 4 + 1 + payload[4] + 8 + 1  # consumer tag, delivery tag and bits
        key_at = at + 1 + payload[at]
        end = key_at + 1 + payload[key_at]
        return payload[:at], payload[at + 1 : key_at], payload[key_at + 1 : end], payload[end:]


@dataclass(frozen=True, slots=True)
class Confirm:
    """The broker's word on one publish."""

    channel: int
    tag: int
    nack: bool

    def marshal(self) -> bytes:
        """Give its frame."""
        method = NACK if self.nack else ACK
        payload = _UINT32.pack(method) + _UINT64.pack(self.tag) + b"\x00"
        return _frame(METHOD, self.channel, payload)


def make_ack(channel: int, tag: int) -> bytes:
    """Make a basic.ack of one message: a consumer's, or the broker's."""
    return Confirm(channel, tag, nack=False).marshal()


def read_connection_name(frame: bytes) -> str:
    """Read the name that a client gives itself in connection.start-ok; empty if it gives none."""
    try:
        method = pika.frame.decode_frame(frame)[1].method
        return str(method.client_properties.get("connection_name", ""))
    except Exception:  # whatever pika makes of a table that it does not understand
        return ""


def _flipped(frame: bytes, at: int, mask: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ mask]) + frame[at + 1 :]


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME_HEADER.pack(kind, channel, len(payload)) + payload + FRAME_END
