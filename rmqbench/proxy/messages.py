"""Messages and confirms as bytes, changed without decoding: what is not changed keeps its bytes.

Layouts: AMQP 0-9-1 specification, sections 2.3.5 and 4.2 (see :mod:`rmqbench.amqp.framing`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

import pika.frame

from rmqbench.amqp.framing import (
    ACK,
    BODY,
    DELIVER,
    HEADER,
    METHOD,
    NACK,
    OVERHEAD,
    PAYLOAD_AT,
    PROPERTIES_AT,
    delivery_tag_at,
    make_frame,
)

__all__ = ["Confirm", "MessageFrames", "make_ack", "read_confirm", "read_connection_name"]

_UINT32: Final = struct.Struct(">I")
_UINT64: Final = struct.Struct(">Q")
_TAG_AND_BITS: Final = struct.Struct(">QB")
_BASIC_CLASS: Final = 60


@dataclass(frozen=True, slots=True)
class MessageFrames:
    """The frames of one publish or delivery, as received.

    ``number`` is the publisher's own tag for a publish in confirm mode, else 0.
    """

    channel: int
    method: bytes
    header: bytes
    bodies: tuple[bytes, ...]
    number: int = 0

    def marshal(self) -> bytes:
        """Return all frames, joined."""
        return b"".join((self.method, self.header, *self.bodies))

    @property
    def is_well_formed(self) -> bool:
        """Whether the method frame holds all that it should: only then it can be altered."""
        try:
            *_, behind = self._split_method()
        except IndexError:
            return False
        return self.is_delivery or bool(behind)

    @property
    def is_delivery(self) -> bool:
        """Whether it is a delivery, and not a publish."""
        return bool(_UINT32.unpack_from(self.method, PAYLOAD_AT)[0] == DELIVER)

    @property
    def delivery_tag(self) -> int:
        """The delivery tag, of a delivery."""
        tag: int = _UINT64.unpack_from(self.method, delivery_tag_at(self.method))[0]
        return tag

    def with_delivery_tag(self, tag: int) -> MessageFrames:
        """Return the same delivery with another delivery tag."""
        at = delivery_tag_at(self.method)
        return replace(self, method=self.method[:at] + _UINT64.pack(tag) + self.method[at + 8 :])

    def with_flipped_body(self, byte: int, mask: int) -> MessageFrames | None:
        """Return it with one byte of the body changed; None if the body is shorter."""
        bodies = list(self.bodies)
        for i, frame in enumerate(bodies):
            size = len(frame) - OVERHEAD
            if byte < size:
                bodies[i] = _flipped(frame, PAYLOAD_AT + byte, mask)
                return replace(self, bodies=tuple(bodies))
            byte -= size
        return None

    def with_flipped_header(self, byte: int, mask: int) -> MessageFrames | None:
        """Return it with one byte of the properties changed; None if they are shorter."""
        at = PROPERTIES_AT + byte
        if at >= len(self.header) - 1:
            return None
        return replace(self, header=_flipped(self.header, at, mask))

    def with_route(self, exchange: str | None, routing_key: str | None) -> MessageFrames:
        """Return it with another exchange, routing key or both in its method frame."""
        before, old_exchange, old_key, behind = self._split_method()
        names = (
            old_exchange if exchange is None else exchange.encode(),
            old_key if routing_key is None else routing_key.encode(),
        )
        strings = b"".join(bytes([len(name)]) + name for name in names)
        return replace(self, method=make_frame(METHOD, self.channel, before + strings + behind))

    def make_follower(self, body: bytes, properties: bytes, frame_max: int) -> MessageFrames:
        """Return a message of other content with the same method frame, but never mandatory."""
        before, exchange, key, behind = self._split_method()
        strings = b"".join(bytes([len(name)]) + name for name in (exchange, key))
        size = struct.pack(">HHQ", _BASIC_CLASS, 0, len(body))
        room = frame_max - OVERHEAD if frame_max else max(1, len(body))
        return MessageFrames(
            channel=self.channel,
            method=make_frame(METHOD, self.channel, before + strings + bytes(len(behind))),
            header=make_frame(HEADER, self.channel, size + properties),
            bodies=tuple(
                make_frame(BODY, self.channel, body[at : at + room])
                for at in range(0, len(body), room)
            ),
        )

    def _split_method(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Split a method frame's payload: up to the exchange, exchange, routing key, the rest.

        Raise IndexError where the payload is too short for its strings.
        """
        payload = self.method[PAYLOAD_AT:-1]
        at = 4 + 2  # a publish: the reserved ticket; its bits come last
        if self.is_delivery:
            at = delivery_tag_at(self.method) - PAYLOAD_AT + 8 + 1  # behind tag and bits
        key_at = at + 1 + payload[at]
        end = key_at + 1 + payload[key_at]
        if end > len(payload):
            raise IndexError("a routing key that is longer than the payload")
        return payload[:at], payload[at + 1 : key_at], payload[key_at + 1 : end], payload[end:]


@dataclass(frozen=True, slots=True)
class Confirm:
    """The broker's answer to one publish: basic.ack or basic.nack."""

    channel: int
    tag: int
    nack: bool

    def marshal(self) -> bytes:
        """Return its frame."""
        method = NACK if self.nack else ACK
        payload = _UINT32.pack(method) + _TAG_AND_BITS.pack(self.tag, 0)
        return make_frame(METHOD, self.channel, payload)


def read_confirm(frame: bytes) -> tuple[int, bool]:
    """Return the delivery tag and the bit ``multiple`` of a basic.ack or basic.nack."""
    tag, bits = _TAG_AND_BITS.unpack_from(frame, PAYLOAD_AT + 4)
    return tag, bool(bits & 1)


def make_ack(channel: int, tag: int) -> bytes:
    """Return the frame of a basic.ack of one message: a consumer's, or the broker's."""
    return Confirm(channel, tag, nack=False).marshal()


def read_connection_name(frame: bytes) -> str:
    """Return the connection name in a client's connection.start-ok, or "" if there is none."""
    try:
        method = pika.frame.decode_frame(frame)[1].method
        return str(method.client_properties.get("connection_name", ""))
    except Exception:  # whatever pika raises at a table that it does not understand
        return ""


def _flipped(frame: bytes, at: int, mask: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ mask]) + frame[at + 1 :]
