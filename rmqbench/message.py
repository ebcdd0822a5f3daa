"""A message is computed, not stored: everything of it follows from four numbers.

The run (a UUID), the producer (a small number), the sequence (counted from 0) and the send time
(Unix nanoseconds) give its ``message_id``, its properties and every byte of its body. A consumer
therefore needs nothing from a producer to know what it should have received.

The body begins with a head of 44 bytes, all numbers big-endian as everywhere in AMQP:

====== ====== =========================================================
offset length content
====== ====== =========================================================
0      4      magic ``RMQB``
4      2      version of this layout, 1
6      2      producer, 0 to 4095
8      16     run, the bytes of the UUID
24     8      sequence, 0 to 2**48 - 1
32     8      send time, Unix nanoseconds
40     4      CRC-32 (as zlib computes it) of the 40 bytes before
====== ====== =========================================================

The text follows, as UTF-8; where a size was asked for, filling follows the text up to it
(:mod:`rmqbench.payload`). Where sizes are mixed, that of a message is computed, too
(:mod:`rmqbench.sizes`).

The ``message_id`` is a UUID of version 8 (RFC 9562, section 5.8) in its usual text form::

    rrrrrrrr-rrrr-8ppp-Rrrr-ssssssssssss

``r`` are the first 12 and (behind the two variant bits) 14 further bits of the run, ``p`` is the
producer and ``s`` the sequence, all in hexadecimal.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pika

from rmqbench.checksum import head_checksums
from rmqbench.errors import UsageError
from rmqbench.payload import COMPUTED, DEFAULT, Filling, filling_of, require_payload
from rmqbench.sizes import Sizes
from rmqbench.splitmix import seeds_of
from rmqbench.text import require_utf8

__all__ = [
    "BROKER_HEADERS",
    "HEAD",
    "HEAD_SIZE",
    "MAX_PRODUCERS",
    "MAX_SEQUENCE",
    "Content",
    "Identity",
    "Recipe",
    "Sent",
    "added_headers",
    "content_of",
    "recipe_of",
]

HEAD = struct.Struct(">4sHH16sQqI")
HEAD_SIZE = HEAD.size
MAGIC = b"RMQB"
VERSION = 1
MAX_PRODUCERS = 1 << 12
MAX_SEQUENCE = (1 << 48) - 1
CONTENT_TYPE = "application/octet-stream"

_COMPUTED_AT_ONCE = 1 << 14  # what a cache of the processor holds
_PIECE_BYTES = 1 << 17
_LOOKED_AT = 64  # bytes of a filling, before the whole of it
_SHOWN = 60  # characters of a value in a sentence

# Headers that RabbitMQ adds by itself when it delivers again or dead-letters
# (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling, /docs/dlx#effects), or where
# it is configured to (/docs/message-interceptors: timestamp_in_ms and x-routed-by).
BROKER_HEADERS = frozenset(
    {
        "timestamp_in_ms",
        "x-acquired-count",
        "x-death",
        "x-delivery-count",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-queue",
        "x-last-death-reason",
        "x-routed-by",
    }
)
_INTERCEPTED = frozenset({"timestamp_in_ms", "x-routed-by"})


class Identity(NamedTuple):
    """Which message of which producer of this run."""

    producer: int
    sequence: int


class Sent(NamedTuple):
    """An identity and when it was sent, as a body's head tells it."""

    producer: int
    sequence: int
    sent_ns: int


class Content(NamedTuple):
    """What a person reads in a body: ``data``, which begins at ``start`` in it.

    ``head`` is None where there is no sound one. ``filling_bytes`` of ``payload`` follow the data.
    """

    data: bytes
    start: int = 0
    head: Sent | None = None
    filling_bytes: int = 0
    payload: str = DEFAULT

    @property
    def text(self) -> str:
        """The data as text; bytes that are no UTF-8 are written as ``\\xNN``."""
        return self.data.decode(errors="backslashreplace")


@dataclass(frozen=True)
class Recipe:
    """What all messages of one run have in common, and how to compute each of them.

    ``size_bytes`` is the size of the whole body, head included, or several as
    :mod:`rmqbench.sizes` reads them; None means as long as the text. ``payload`` is what fills it
    behind the text (:mod:`rmqbench.payload`), ``payload_digest`` the SHA-256 of that which is a
    file. ``priorities`` are those of the producers in turn: all messages of one have the same
    (none: they have none).
    """

    run: uuid.UUID
    text: str = "Hello World"
    size_bytes: int | str | None = None
    producer_id: str = "rmqbench"
    host: str = "localhost"
    persistent: bool = True
    payload: str = DEFAULT
    payload_digest: str = ""
    priorities: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what UTF-8 cannot say, and a size that the head and the text do not fit into."""
        object.__setattr__(self, "priorities", tuple(self.priorities))
        for name in ("text", "producer_id", "host"):
            require_utf8(name, getattr(self, name))
        if any(not isinstance(each, int) or not 0 <= each <= 255 for each in self.priorities):
            raise UsageError(
                f"priorities has {list(self.priorities)}.", "Give whole numbers from 0 to 255."
            )
        require_payload(self.payload)
        if self.payload != DEFAULT and self.size_bytes is None:
            raise UsageError(
                f"The payload {self.payload!r} fills a body up to its size, and there is none.",
                "Give a size (--size, size_bytes).",
            )
        least = HEAD_SIZE + len(self.text.encode())
        if self.sizes.smallest < least:
            raise UsageError(
                f"A body of {self.sizes.smallest} bytes is too small: the head of {HEAD_SIZE} "
                f"bytes and the text need {least}.",
                "Ask for a larger size or a shorter text.",
            )

    def of_producer(self, producer: int) -> Recipe:
        """Return the recipe of one producer's messages, all of which are of the same form."""
        priority = self.priority_of(producer)
        return self if priority is None else replace(self, priorities=(priority,))

    def priority_of(self, producer: int) -> int | None:
        """Return the priority of a producer's messages; None: they have none."""
        return self.priorities[producer % len(self.priorities)] if self.priorities else None

    @property
    def is_of_one_form(self) -> bool:
        """Whether the properties of all messages are alike, but for their numbers."""
        return len(set(self.priorities)) < 2

    def as_dict(self) -> dict[str, Any]:
        """Return all but the run as plain values."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "run"}

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of all bodies."""
        size = self.size_bytes
        return Sizes.of(HEAD_SIZE + len(self.text.encode()) if size is None else size)

    @cached_property
    def tail(self) -> bytes:
        """What follows the head in the largest body, and begins so in all: text, then filling."""
        text = self.text.encode()
        return text + self._filling.head(self.sizes.largest - HEAD_SIZE - len(text))

    @cached_property
    def _filling(self) -> Filling:
        return filling_of(self.payload, self.run, self.text, self.payload_digest)

    def tail_pieces(self, at: int, size: int) -> Iterator[memoryview]:
        """Yield ``size`` bytes of the tail from ``at`` on, in pieces.

        Those of the filling, which repeats itself, are parts of one short memory.
        """
        filling, end = self._filling, at + size
        once = len(self.text.encode()) + len(filling.first)
        if at < min(once, end):
            yield memoryview(self.tail)[at : min(end, once)]
        for begin in range(max(at, once), end, _PIECE_BYTES):
            phase = (begin - once) % len(filling.block)
            yield self._repeated[phase : phase + min(_PIECE_BYTES, end - begin)]

    @cached_property
    def _repeated(self) -> memoryview:
        block = self._filling.block
        return memoryview(Filling(b"", block).head(len(block) + _PIECE_BYTES))

    def size_of(self, producer: int, sequence: int) -> int:
        """Compute the size of one body in bytes."""
        return self.sizes.size_of(self.run, producer, sequence)

    def sizes_of(
        self, producers: int | npt.NDArray[Any], sequences: npt.NDArray[Any]
    ) -> npt.NDArray[np.int64]:
        """Compute the sizes of ``n`` bodies in bytes: int64 of shape (n,).

        ``sequences`` are integers of this shape, ``producers`` too, or the one of all.
        """
        return self.sizes.sizes_of(self.seeds[producers], sequences)

    def total_bytes(self, producer: int, sequences: npt.NDArray[np.int64]) -> int:
        """Compute how many bytes the bodies of these messages of a producer have together."""
        if not self.sizes.are_mixed:
            return len(sequences) * self.sizes.smallest
        return sum(
            int(self.sizes_of(producer, sequences[at : at + _COMPUTED_AT_ONCE]).sum())
            for at in range(0, len(sequences), _COMPUTED_AT_ONCE)
        )

    @cached_property
    def seeds(self) -> npt.NDArray[np.uint64]:
        """The seed of each producer, by its number: uint64."""
        return seeds_of(self.run, MAX_PRODUCERS)

    @cached_property
    def properties_size(self) -> int:
        """The size of the properties of every message, as they are encoded, in bytes."""
        return sum(map(len, self.properties(0, 0, 0).encode()))

    def message_id(self, producer: int, sequence: int) -> str:
        """Compute the ``message_id`` of one message."""
        run = self.run.int
        high = run >> 80
        variant = 0x8000 | (run >> 66 & 0x3FFF)
        text = f"{high:012x}{0x8000 | producer:04x}{variant:04x}{sequence:012x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def head(self, producer: int, sequence: int, sent_ns: int) -> bytes:
        """Compute the head of one body, 44 bytes."""
        checked = HEAD.pack(MAGIC, VERSION, producer, self.run.bytes, sequence, sent_ns, 0)[:-4]
        return checked + zlib.crc32(checked).to_bytes(4, "big")

    @cached_property
    def stamp_base(self) -> int:
        """The checksum of a head of this run whose numbers are all 0."""
        return zlib.crc32(self.head(0, 0, 0)[:-4])

    def stamps(
        self, producer: int, sequences: npt.NDArray[np.int64], sent_ns: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint32]:
        """Compute the checksums in the heads of ``n`` messages of one producer.

        ``sequences`` and ``sent_ns`` int64 of shape (n,); the result is uint32 of shape (n,). Of a
        message whose number is known, its stamp tells when it was sent.
        """
        stamps = np.empty(len(sequences), np.uint32)
        for at in range(0, len(stamps), _COMPUTED_AT_ONCE):
            here = slice(at, at + _COMPUTED_AT_ONCE)
            numbers = np.stack([sequences[here], sent_ns[here]], axis=1).astype(">i8")
            pieces = numbers.view(">u2")
            producers = np.full(len(pieces), producer, np.intp)
            stamps[here] = head_checksums(self.stamp_base, producers, pieces)
        return stamps

    def body(self, producer: int, sequence: int, sent_ns: int) -> bytes:
        """Compute the whole body of one message."""
        tail_size = self.size_of(producer, sequence) - HEAD_SIZE
        return self.head(producer, sequence, sent_ns) + self.tail[:tail_size]

    def properties(self, producer: int, sequence: int, sent_ns: int) -> pika.BasicProperties:
        """Compute the properties of one message."""
        return pika.BasicProperties(
            content_type=CONTENT_TYPE,
            headers={"producer_id": self.producer_id, "host": self.host},
            delivery_mode=2 if self.persistent else 1,
            priority=self.priority_of(producer),
            message_id=self.message_id(producer, sequence),
            timestamp=sent_ns // 1_000_000_000,
        )

    def read_message_id(self, message_id: str | None) -> Identity | None:
        """Find out which message of this run a ``message_id`` names; None if it names none."""
        digits = (message_id or "").replace("-", "")
        try:
            producer, sequence = int(digits[13:16], 16), int(digits[20:], 16)
        except ValueError:
            return None
        if message_id != self.message_id(producer, sequence):
            return None
        return Identity(producer, sequence)

    def read_head(self, body: bytes) -> Sent | None:
        """Find out which message of this run a body is; None if it has no sound head of it."""
        head = _head_of(body)
        if head is None:
            return None
        run, *sent = head
        return Sent(*sent) if run == self.run.bytes else None

    def identify(self, properties: pika.BasicProperties, body: bytes) -> Identity | None:
        """Find out which message of this run was received; None if it is foreign.

        The head is asked first, for it carries a checksum; a message whose head is damaged is
        still known by its ``message_id``.
        """
        sent = self.read_head(body)
        if sent is not None:
            return Identity(sent.producer, sent.sequence)
        return self.read_message_id(properties.message_id)

    def difference(
        self, properties: pika.BasicProperties, body: bytes, identity: Identity
    ) -> str | None:
        """Name the first thing in which a received message differs from what was sent.

        None if every byte of the body and every property is as computed. What RabbitMQ adds by
        itself does not count: the headers in :data:`BROKER_HEADERS`, and the time at which it took
        the message, where it is configured to overwrite the timestamp.
        """
        sent = self.read_head(body)
        if sent is None:
            return "the head of the body"
        size = self.size_of(*identity)
        if len(body) != size:
            return f"the length of the body: {len(body)} instead of {size} bytes"
        if not self.tail.startswith(body[HEAD_SIZE:]):
            at = next(i for i in range(HEAD_SIZE, size) if body[i] != self.tail[i - HEAD_SIZE])
            return f"byte {at} of the body"
        expected = self.properties(identity.producer, identity.sequence, sent.sent_ns)
        headers = properties.headers or {}
        for name, value in vars(expected).items():
            received: Any = getattr(properties, name)
            if name == "headers":
                if changed := _changed_header(value, headers):
                    return changed
            elif received != value and not (name == "timestamp" and _is_taken(received, headers)):
                return f"the property {name}: {_shown(received)} instead of {_shown(value)}"
        return None


def added_headers(properties: pika.BasicProperties) -> frozenset[str]:
    """Return which headers of a message RabbitMQ has added because it is configured to."""
    return _INTERCEPTED & set(properties.headers or ())


def _changed_header(sent: Mapping[str, Any], received: Mapping[str, Any]) -> str | None:
    """Name the first header that was added on the way, changed or taken away."""
    for name in sorted({*sent, *received} - (BROKER_HEADERS - set(sent)), key=str):
        if name not in sent:
            return f"the header {_shown(name)} was added"
        if name not in received:
            return f"the header {_shown(name)} was taken away"
        if received[name] != sent[name]:
            return (
                f"the header {_shown(name)}: {_shown(received[name])} "
                f"instead of {_shown(sent[name])}"
            )
    return None


def _shown(value: object) -> str:
    """Return a value as a sentence shows it: a huge one makes no huge sentence."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _is_taken(timestamp: int | None, headers: Mapping[str, Any]) -> bool:
    """Whether a timestamp is the time at which RabbitMQ took the message, by what a header says."""
    milliseconds = headers.get("timestamp_in_ms")
    return isinstance(milliseconds, int) and timestamp == milliseconds // 1000


def recipe_of(properties: pika.BasicProperties, body: bytes) -> Recipe | None:
    """Find the recipe by which any run of rmqbench would have computed exactly this message.

    None if there is none: the message is of another origin, or was changed. Headers that RabbitMQ
    adds by itself are no change.
    """
    content = content_of(body)
    if content.head is None:
        return None
    headers = properties.headers or {}
    producer_id, host = headers.get("producer_id"), headers.get("host")
    if not (isinstance(producer_id, str) and isinstance(host, str)):
        return None
    try:
        recipe = Recipe(
            run=uuid.UUID(bytes=body[8:24]),
            text=content.data.decode(),
            size_bytes=len(body) if content.filling_bytes else None,
            producer_id=producer_id,
            host=host,
            persistent=properties.delivery_mode == 2,
            payload=content.payload,
            priorities=() if properties.priority is None else (properties.priority,),
        )
    except (UnicodeDecodeError, UsageError):
        return None
    identity = Identity(content.head.producer, content.head.sequence)
    if recipe.difference(properties, body, identity) is not None:
        return None
    return recipe


def content_of(body: bytes) -> Content:
    """Part any body into what a person reads and what rmqbench has put around it.

    Its head decides, by its checksum: properties that were changed on the way change no text. A
    body without a sound head is read as a whole. Of a body that is cut, the part that is there is
    read in the same way.
    """
    parts = _head_of(body)
    if parts is None:
        return Content(body)
    # Filling begins with a zero byte, which a text hardly holds.
    end = body.find(b"\0", HEAD_SIZE)
    head, data = Sent(*parts[1:]), body[HEAD_SIZE : max(end, HEAD_SIZE)]
    filling = len(body) - end if end >= 0 else 0
    payload = _payload_of(body, end, uuid.UUID(bytes=parts[0]), data) if filling else None
    if payload is None:
        return Content(body[HEAD_SIZE:], HEAD_SIZE, head)
    return Content(data, HEAD_SIZE, head, filling, payload)


def _payload_of(body: bytes, at: int, run: uuid.UUID, text: bytes) -> str | None:
    """Return what fills a body from ``at`` on; None where it is nothing that is computed."""
    size = len(body) - at
    for payload in COMPUTED:
        filling = filling_of(payload, run, text.decode(errors="replace"))
        if body.startswith(filling.head(min(size, _LOOKED_AT)), at) and (
            size <= _LOOKED_AT or body[at:] == filling.head(size)
        ):
            return payload
    return None


def _head_of(body: bytes) -> tuple[bytes, int, int, int] | None:
    """Read run, producer, sequence and send time of a sound head, whichever run it is of."""
    if len(body) < HEAD_SIZE:
        return None
    magic, version, producer, run, sequence, sent_ns, crc = HEAD.unpack_from(body)
    sound = (
        magic == MAGIC
        and version == VERSION
        and producer < MAX_PRODUCERS
        and 0 <= sequence <= MAX_SEQUENCE
        and crc == zlib.crc32(body[: HEAD_SIZE - 4])
    )
    return (run, producer, sequence, sent_ns) if sound else None
