"""Frames of AMQP 0-9-1: how they are laid out, found in a stream, and put together to contents.

The client's vector path (:mod:`rmqbench.amqp.vector`) and the proxy (:mod:`rmqbench.proxy`) use the
same :class:`FrameCutter` and the same :class:`ContentAssembler`.

Layout (AMQP 0-9-1 specification, sections 2.3.5 and 4.2; numbers are big-endian): a frame is type
(1 octet), channel (2), payload size (4), payload, and the end octet 0xCE. The payload of a method
frame begins with class id and method id (2 octets each), that of a content header with class id,
weight (2 each) and body size (8).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import pika.spec

__all__ = [
    "ACK",
    "BODY",
    "BODY_SIZE_AT",
    "CONFIRM_BYTES",
    "DELIVER",
    "FRAME_END",
    "HEADER",
    "HEARTBEAT",
    "METHOD",
    "NACK",
    "OPAQUE",
    "OVERHEAD",
    "PAYLOAD_AT",
    "PROPERTIES_AT",
    "PROTOCOL_HEADER",
    "PUBLISH",
    "RETURN",
    "Content",
    "ContentAssembler",
    "Frame",
    "FrameCutter",
    "body_frame_at",
    "delivery_tag_at",
    "frame_header",
    "frame_offsets",
    "make_frame",
]

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
OPAQUE: Final = 0
"""No frame type of AMQP: stands for bytes that are not a frame."""

PAYLOAD_AT: Final = 7
OVERHEAD: Final = 8  # octets of a frame that are not payload
FRAME_END: Final = 0xCE
BODY_SIZE_AT: Final = PAYLOAD_AT + 4
PROPERTIES_AT: Final = BODY_SIZE_AT + 8
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
"""What a client sends first (section 4.2.2)."""

# Class id and method id in one number.
PUBLISH: Final[int] = pika.spec.Basic.Publish.INDEX
RETURN: Final[int] = pika.spec.Basic.Return.INDEX
DELIVER: Final[int] = pika.spec.Basic.Deliver.INDEX
ACK: Final[int] = pika.spec.Basic.Ack.INDEX
NACK: Final[int] = pika.spec.Basic.Nack.INDEX
_WITH_CONTENT: Final = frozenset({PUBLISH, RETURN, DELIVER, pika.spec.Basic.GetOk.INDEX})

CONFIRM_BYTES: Final = OVERHEAD + 4 + 8 + 1  # basic.ack or basic.nack: method, tag, bits

_TYPES: Final = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
_FRAME_HEADER: Final = struct.Struct(">BHI")
_UINT32: Final = struct.Struct(">I")
_UINT64: Final = struct.Struct(">Q")
_MAX_PAYLOAD_BYTES: Final = 1 << 28  # what claims to be longer is not a frame


class Frame(NamedTuple):
    """One whole frame as received.

    ``method`` is class id and method id in one number, 0 for other frames. ``kind`` is the frame
    type, or ``OPAQUE`` for bytes that are not a frame: a protocol header, or anything that is not
    AMQP 0-9-1.
    """

    kind: int
    channel: int
    method: int
    data: bytes


class FrameCutter:
    """Finds the frames in the bytes of one direction, which may come in pieces of any size.

    From the first bytes on that are not AMQP 0-9-1 (an unknown frame type, an absurd size, no end
    octet where it should be), everything is ``OPAQUE`` and found as it comes.

    :meth:`feed` yields frame after frame. Who takes many frames at once uses :meth:`add` and
    :meth:`find`, and moves ``at`` itself: what has come and was not taken yet is what ``buffer``
    holds from ``at`` to ``end``.
    """

    __slots__ = ("_begun", "_broken", "at", "buffer", "end")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.at = self.end = 0
        self._begun = False
        self._broken = False

    def room(self, size: int) -> memoryview:
        """Return where the next ``size`` bytes of the stream may be received, for :meth:`add`.

        However long a frame or message is, a byte of it is moved a few times at the most.
        """
        rest, space = self.end - self.at, len(self.buffer)
        full = self.end + size > space
        if full and 2 * (rest + size) > space:
            grown = bytearray(max(2 * space, rest + size))
            grown[:rest] = memoryview(self.buffer)[self.at : self.end]
            self.buffer, self.at, self.end = grown, 0, rest
        elif full or rest <= self.at:
            view = memoryview(self.buffer)
            view[:rest] = view[self.at : self.end]
            self.at, self.end = 0, rest
        return memoryview(self.buffer)[self.end : self.end + size]

    def add(self, data: bytes | memoryview) -> None:
        """Append the next piece of the stream, which may have been received in :meth:`room`."""
        if not isinstance(data, memoryview) or data.obj is not self.buffer:
            self.room(len(data))[:] = data
        self.end += len(data)

    def find(self) -> tuple[int, int, int, int] | None:
        """Return kind, channel, method and end of the frame at ``at``; None if it is not whole."""
        buffer, at, here = self.buffer, self.at, self.end
        if not self._broken:
            if here - at < OVERHEAD:
                return None
            kind, channel, size = _FRAME_HEADER.unpack_from(buffer, at)
            if kind in _TYPES and size <= _MAX_PAYLOAD_BYTES:
                end: int = at + OVERHEAD + size
                if end > here:
                    return None
                if buffer[end - 1] == FRAME_END:
                    self._begun = True
                    if kind != METHOD:
                        return kind, channel, 0, end
                    if size >= _UINT32.size:
                        return kind, channel, _UINT32.unpack_from(buffer, at + PAYLOAD_AT)[0], end
            elif not self._begun and buffer.startswith(PROTOCOL_HEADER[:4], at):
                self._begun = True
                return OPAQUE, 0, 0, at + len(PROTOCOL_HEADER)
            self._broken = True
        return (OPAQUE, 0, 0, here) if at < here else None

    def cut(self, start: int, end: int) -> bytes:
        """Return a copy of what ``buffer`` holds there."""
        return bytes(memoryview(self.buffer)[start:end])

    def put_back(self, data: bytes) -> None:
        """Put before what has come and was not taken yet what was taken before it.

        What was broken behind it, if its end was not where it seemed to be, is looked for anew.
        """
        self._broken = False
        self.buffer = bytearray(data) + memoryview(self.buffer)[self.at : self.end]
        self.at, self.end = 0, len(self.buffer)

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Take the next piece of the stream and yield the frames that it completes, in order."""
        self.add(data)
        while (found := self.find()) is not None:
            kind, channel, method, end = found
            at, self.at = self.at, end
            yield Frame(kind, channel, method, self.cut(at, end))

    def take_rest(self) -> bytes:
        """Return what is left of a frame that was begun, where the stream has ended."""
        rest = self.cut(self.at, self.end)
        self.at = self.end = 0
        return rest


@dataclass(slots=True)
class Content:
    """A method that carries content, and the frames of it so far: method, header, bodies.

    ``frames`` stays empty where they are not kept. ``missing`` is how many bytes of the body are
    still to come, None before the header has come.
    """

    method: int
    frames: list[bytes] = field(default_factory=list)
    missing: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether its last frame has come."""
        return self.missing == 0


class ContentAssembler:
    """Puts the frames of contents together, each channel of one direction by itself.

    ``open`` holds the content of each channel that is not whole yet.
    """

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: dict[int, Content] = {}

    def add(self, frame: Frame, *, keep: bool = True) -> tuple[Content | None, Content | None]:
        """Take a frame; return the content that it belongs to, and the one that it breaks off.

        Each is None where there is none. A frame that cannot come next on its channel ends the
        unfinished content there (section 4.2.6). Without ``keep``, the frames of a content that
        begins here are counted and not stored.
        """
        kind, channel, method, data = frame
        content = self.open.get(channel)
        if content is not None:
            missing = content.missing
            if missing is None:
                fits = kind == HEADER and len(data) > PROPERTIES_AT
                missing = _UINT64.unpack_from(data, BODY_SIZE_AT)[0] if fits else 0
            else:
                missing -= len(data) - OVERHEAD
                fits = kind == BODY and missing >= 0
            if fits:
                content.missing = missing
                if not missing:
                    del self.open[channel]
                if content.frames:
                    content.frames.append(data)
                return content, None
            del self.open[channel]
        if method not in _WITH_CONTENT:
            return None, content
        begun = self.open[channel] = Content(method, [data] if keep else [])
        return begun, content

    def take_all(self) -> list[Content]:
        """Remove and return all unfinished contents."""
        unfinished = list(self.open.values())
        self.open.clear()
        return unfinished


def frame_header(kind: int, channel: int, size: int) -> bytes:
    """Return the bytes of a frame before its payload, which is of this size."""
    return _FRAME_HEADER.pack(kind, channel, size)


def make_frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return the bytes of one frame."""
    return frame_header(kind, channel, len(payload)) + payload + bytes([FRAME_END])


def frame_offsets(frames: bytes) -> Iterator[int]:
    """Yield where each of some whole frames begins."""
    at = 0
    while at < len(frames):
        yield at
        at += OVERHEAD + _FRAME_HEADER.unpack_from(frames, at)[2]


def body_frame_at(frames: bytes) -> int:
    """Return where the first body frame of a content begins: the third of all its frames."""
    _, _, body, *_ = frame_offsets(frames)
    return body


def delivery_tag_at(frame: bytes) -> int:
    """Return where the delivery tag (8 octets) is in the method frame of a basic.deliver.

    Before it are the method id and the consumer tag, a string with its length in front; behind it
    is the octet that holds the redelivered bit.
    """
    tag_length_at = PAYLOAD_AT + 4
    return tag_length_at + 1 + frame[tag_length_at]
