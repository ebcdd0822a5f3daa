"""What is shown of a message, as text. No Tk here, and no network.

All text of a message is somebody else's: control characters and escape sequences are written out,
and so is what Tk 8.6 cannot show everywhere (characters beyond U+FFFF). Everything has a limit, so
that a single message cannot fill the memory or stop the window.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from rmqbench.message import Content, content_of
from rmqbench.text import counted, visible

__all__ = [
    "KEPT_BYTES",
    "Part",
    "Received",
    "Row",
    "about",
    "clock_text",
    "contents",
    "line",
    "row",
    "shown",
]

KEPT_BYTES = 16 * 1024
"""The size of the beginning of a body that is kept and shown."""

_CELL = 200  # characters
_CELL_BYTES = 4 * _CELL
_NAME = 60
_VALUE = 2000
_ENTRIES = 200
_DEPTH = 5
_NONE = "-"
_BEYOND = re.compile("[\U00010000-\U0010ffff]")
_PROPERTIES = (
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
_MODES = {1: "1 (transient)", 2: "2 (persistent)"}


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery. ``body`` is cut after KEPT_BYTES; ``size_bytes`` is the size of the whole.

    ``received_s`` is in Unix seconds. ``properties`` holds only what was set, without the headers.
    """

    received_s: float
    exchange: str
    routing_key: str
    redelivered: bool
    delivery_tag: int
    properties: Mapping[str, Any]
    headers: Mapping[str, Any]
    body: bytes
    size_bytes: int


class Row(NamedTuple):
    """The cells of one line of the table."""

    time: str
    sender: str
    host: str
    text: str


class Part(NamedTuple):
    """A piece of the details; its kind decides how it looks."""

    kind: Literal["heading", "label", "value", "note", "text", "dump"]
    text: str


def row(message: Received) -> Row:
    """Return a message as one line."""
    headers = message.headers
    return Row(
        clock_text(message.received_s, milliseconds=True),
        _name(headers.get("producer_id")),
        _name(headers.get("host")),
        _summary(message),
    )


def about(message: Received) -> list[Part]:
    """Return everything of a message but its body: routing, properties and headers."""
    routing = {
        "exchange": message.exchange or "(default exchange)",
        "routing key": message.routing_key,
        "redelivered": "yes" if message.redelivered else "no",
        "delivery tag": message.delivery_tag,
        "received": datetime.fromtimestamp(message.received_s),
    }
    properties = {
        name: _property(name, message.properties[name])
        for name in _PROPERTIES
        if name in message.properties
    }
    return [
        *_table("Delivery", routing),
        *_table("Properties", properties),
        *_table("Headers", message.headers),
    ]


def contents(message: Received) -> list[Part]:
    """Return the body of a message: its text, or a hex dump if it is binary."""
    return list(_body(message))


def shown(text: str) -> str:
    """Escape what must not be obeyed and what Tk may fail to show; line feeds stay."""
    if not text.isprintable():
        text = visible(text)
    if not text.isascii():
        text = _BEYOND.sub(lambda found: f"\\U{ord(found[0]):08x}", text)
    return text


def line(text: str, limit: int = _CELL) -> str:
    """Return a text as one line, cut to a length."""
    cut = len(text) > limit
    written = shown(text[:limit]).replace("\n", "↵")
    return f"{written}…" if cut else written


def clock_text(seconds: float, *, milliseconds: bool = False) -> str:
    """Return the local time of day."""
    text = time.strftime("%H:%M:%S", time.localtime(seconds))
    return f"{text}.{int(seconds % 1 * 1000):03d}" if milliseconds else text


# --- the text of a body ------------------------------------------------------------------------


def _decoded(data: bytes, *, whole: bool) -> str | None:
    """Decode text; None if it is binary. Without ``whole`` it may end within a character."""
    if b"\0" in data:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return None


def _summary(message: Received) -> str:
    content = content_of(message.body)
    data = content.data
    whole = len(data) <= _CELL_BYTES and len(message.body) == message.size_bytes
    text = _decoded(data[:_CELL_BYTES], whole=whole)
    if text is None:
        size = message.size_bytes - content.start - _filling_bytes(message, content)
        more = "…" if size > 16 else ""
        return f"binary, {_bytes(size)}: {data[:16].hex(' ')}{more}"
    return line(text)


def _body(message: Received) -> Iterator[Part]:
    body, size = message.body, message.size_bytes
    cut = len(body) < size
    content = content_of(body)
    text = _decoded(content.data, whole=not cut)
    yield Part("heading", f"Body, {_bytes(size)}")
    if content.head is not None:
        _, sequence, sent_ns = content.head
        sent = _moment(sent_ns / 1e9)
        yield from _entry("producer", content.head.producer)
        yield from _entry("sequence", sequence)
        yield from _entry("sent", sent if sent is not None else f"{sent_ns} ns")
    if text is None:
        yield Part("note", "It is not text: a hex dump follows.")
        yield Part("dump", "\n".join(_dump(content.data, content.start)))
    elif text:
        yield Part("text", shown(text))
    else:
        yield Part("note", "There is no text in it.")
    if content.filling_bytes:
        yield Part("note", f"Then {_bytes(_filling_bytes(message, content))} of filling.")
    elif cut:
        yield Part("note", f"Cut: only the first {_bytes(len(body))} are kept here.")


def _filling_bytes(message: Received, content: Content) -> int:
    """Count the filling of the whole body, of which the beginning is kept."""
    if not content.filling_bytes:
        return 0
    return content.filling_bytes + message.size_bytes - len(message.body)


def _dump(data: bytes, start: int) -> Iterator[str]:
    for at in range(0, len(data), 16):
        piece = data[at : at + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        yield f"{start + at:06x}  {piece[:8].hex(' '):23}  {piece[8:].hex(' '):23}  {letters}"


# --- properties and headers --------------------------------------------------------------------


def _table(title: str, values: Mapping[str, Any]) -> Iterator[Part]:
    yield Part("heading", title)
    if not values:
        yield Part("note", "none")
    for number, (name, value) in enumerate(values.items()):
        if number == _ENTRIES:
            yield Part("note", f"Cut: {len(values) - _ENTRIES:,} more.")
            return
        yield from _entry(name, value)


def _entry(name: object, value: object) -> Iterator[Part]:
    yield Part("label", line(str(name), _NAME))
    yield Part("value", line(_written(value), _VALUE))


def _name(value: object) -> str:
    return _NONE if value is None else line(_written(value), _NAME)


def _property(name: str, value: Any) -> Any:
    """Return a property with what its number means."""
    if name == "delivery_mode":
        return _MODES.get(value, value)
    if name == "timestamp" and isinstance(value, int) and (moment := _moment(value)):
        return f"{moment} ({value})"
    return value


def _moment(seconds: float) -> str | None:
    """Return a point in time as text; None if no clock can show it."""
    try:
        return _written(datetime.fromtimestamp(seconds))
    except (OverflowError, OSError, ValueError):
        return None


def _written(value: object, depth: int = 0) -> str:
    """Return a value of any type of an AMQP table as text, of bounded depth and length."""
    match value:
        case str():
            written = value
        case None:
            written = "none"
        case bool():
            written = "true" if value else "false"
        case bytes():
            written = f"binary, {_bytes(len(value))}: {value[:_VALUE].hex(' ')}"
        case datetime():
            written = value.isoformat(" ")
        case Mapping() | list() if depth == _DEPTH:
            written = "…"
        case list():
            written = f"[{_joined(_written(each, depth + 1) for each in value)}]"
        case Mapping():
            pairs = (f"{name}: {_written(each, depth + 1)}" for name, each in value.items())
            written = f"{{{_joined(pairs)}}}"
        case _:
            written = str(value)
    return written


def _joined(texts: Iterable[str]) -> str:
    """Join by commas, and stop where the rest would not be seen."""
    parts: list[str] = []
    length = 0
    for text in texts:
        if length > _VALUE:
            parts.append("…")
            break
        parts.append(text[:_VALUE])
        length += len(parts[-1])
    return ", ".join(parts)


def _bytes(count: int) -> str:
    return counted(count, "byte", form=",")
