"""The content of a message: kept as the bytes that came, and read only where a rule needs it.

A content header is class id, weight and body size, then the property flags and the values of those
properties that are there, in a fixed order (AMQP 0-9-1, section 4.2.6.1).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import pika.exceptions
import pika.spec

from rmqbench.amqp.framing import BODY, FRAME_END, HEADER, METHOD, OVERHEAD, PAYLOAD_AT
from rmqbench.amqp.framing import PROPERTIES_AT as _PROPERTIES_AT

__all__ = [
    "MALFORMED",
    "NOTHING",
    "Content",
    "acknowledgement",
    "content_frames",
    "content_of",
    "decoded",
    "delivery",
    "encoded",
    "traits_of",
    "with_numbers",
]

MALFORMED: Final = (
    struct.error,
    pika.exceptions.AMQPError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
)
"""What reading bytes raises that are not what they should be."""

_UINT16: Final = struct.Struct(">H")
_UINT32: Final = struct.Struct(">I")
_INT64: Final = struct.Struct(">q")
_CONTENT_HEADER: Final = struct.Struct(">BHIHHQ")
_FRAME_HEADER: Final = struct.Struct(">BHI")
_CONFIRM: Final = struct.Struct(">BHIIQBB")
_END: Final = bytes([FRAME_END])
_CLASS: Final[int] = pika.spec.Basic.INDEX
_DELIVER: Final = _UINT32.pack(pika.spec.Basic.Deliver.INDEX)
_ACK: Final[int] = pika.spec.Basic.Ack.INDEX
_NACK: Final[int] = pika.spec.Basic.Nack.INDEX
_PERSISTENT: Final = 2

_CONTENT_TYPE: Final = 1 << 15
_CONTENT_ENCODING: Final = 1 << 14
_HEADERS: Final = 1 << 13
_DELIVERY_MODE: Final = 1 << 12
_PRIORITY: Final = 1 << 11
_CORRELATION_ID: Final = 1 << 10
_REPLY_TO: Final = 1 << 9
_EXPIRATION: Final = 1 << 8


class Content(NamedTuple):
    """What a message consists of: its properties as in a content header, and its body."""

    properties: bytes
    body: bytes


NOTHING: Final = Content(b"\x00\x00", b"")


def content_of(frames: list[bytes]) -> Content:
    """Return the content whose frames these are: method, header, bodies."""
    properties = frames[1][_PROPERTIES_AT:-1]
    if len(frames) == 3:
        return Content(properties, frames[2][PAYLOAD_AT:-1])
    return Content(properties, b"".join(frame[PAYLOAD_AT:-1] for frame in frames[2:]))


def content_frames(channel: int, content: Content, frame_max: int) -> bytes:
    """Return the frames of a content, header and bodies, none larger than ``frame_max``."""
    properties, body = content
    size = len(body)
    header = _CONTENT_HEADER.pack(HEADER, channel, 12 + len(properties), _CLASS, 0, size)
    if not size:
        return header + properties + _END
    most = frame_max - OVERHEAD
    if size <= most:
        start = _FRAME_HEADER.pack(BODY, channel, size)
        return header + properties + _END + start + body + _END
    parts = [header, properties, _END]
    for at in range(0, size, most):
        part = body[at : at + most]
        parts += (_FRAME_HEADER.pack(BODY, channel, len(part)), part, _END)
    return b"".join(parts)


def delivery(
    channel: int,
    consumer_tag: bytes,
    tag: int,
    redelivered: bool,
    *,
    exchange: str,
    routing_key: str,
) -> bytes:
    """Return the method frame of a basic.deliver."""
    name, key = exchange.encode(), routing_key.encode()
    payload = b"".join(
        (
            _DELIVER,
            bytes((len(consumer_tag),)),
            consumer_tag,
            _INT64.pack(tag),
            bytes((redelivered, len(name))),
            name,
            bytes((len(key),)),
            key,
            _END,
        )
    )
    return _FRAME_HEADER.pack(METHOD, channel, len(payload) - 1) + payload


def acknowledgement(channel: int, tag: int, multiple: bool, nack: bool) -> bytes:
    """Return the frame of a basic.ack or basic.nack."""
    method = _NACK if nack else _ACK
    return _CONFIRM.pack(METHOD, channel, 13, method, tag, multiple, FRAME_END)


def traits_of(properties: bytes) -> tuple[bool, str | None]:
    """Return whether a message is persistent, and its ``expiration``, None if it has none."""
    flags = _UINT16.unpack_from(properties)[0]
    if not flags & (_DELIVERY_MODE | _EXPIRATION):
        return False, None
    at = 2
    if flags & _CONTENT_TYPE:
        at += 1 + properties[at]
    if flags & _CONTENT_ENCODING:
        at += 1 + properties[at]
    if flags & _HEADERS:
        at += 4 + _UINT32.unpack_from(properties, at)[0]
    persistent = False
    if flags & _DELIVERY_MODE:
        persistent = properties[at] == _PERSISTENT
        at += 1
    if not flags & _EXPIRATION:
        return persistent, None
    if flags & _PRIORITY:
        at += 1
    if flags & _CORRELATION_ID:
        at += 1 + properties[at]
    if flags & _REPLY_TO:
        at += 1 + properties[at]
    return persistent, properties[at + 1 : at + 1 + properties[at]].decode(errors="replace")


def with_numbers(properties: bytes, numbers: Mapping[str, int]) -> bytes:
    """Return properties with further headers, each a long number; all other bytes stay."""
    more = b"".join(
        bytes((len(name),)) + name.encode() + b"l" + _INT64.pack(number)
        for name, number in numbers.items()
    )
    flags = _UINT16.unpack_from(properties)[0]
    at = 2
    if flags & _CONTENT_TYPE:
        at += 1 + properties[at]
    if flags & _CONTENT_ENCODING:
        at += 1 + properties[at]
    if not flags & _HEADERS:
        start = _UINT16.pack(flags | _HEADERS) + properties[2:at]
        return start + _UINT32.pack(len(more)) + more + properties[at:]
    size = _UINT32.unpack_from(properties, at)[0]
    end = at + 4 + size
    start = properties[:at] + _UINT32.pack(size + len(more))
    return start + properties[at + 4 : end] + more + properties[end:]


def decoded(properties: bytes) -> Any:
    """Return properties as pika.BasicProperties. Raise one of ``MALFORMED`` if they are none."""
    return pika.spec.BasicProperties().decode(properties)


def encoded(properties: Any) -> bytes:
    """Return pika.BasicProperties as in a content header."""
    return b"".join(properties.encode())
