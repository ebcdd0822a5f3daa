"""Numbers in words, and text that others wrote: shown, never obeyed, refused if not UTF-8."""

from __future__ import annotations

from datetime import UTC, datetime

from rmqbench.errors import UsageError

__all__ = ["counted", "is_utf8", "require_utf8", "utc", "visible", "visible_line"]


def counted(n: int, noun: str, plural: str = "", form: str = "") -> str:
    """Return a number with its noun: ``1 message``, ``2 messages``.

    ``plural`` is for what does not only take an s ("messages are"), ``form`` a format specification
    of the number.
    """
    return f"{n:{form}} {noun if n == 1 else plural or f'{noun}s'}"


def visible(text: str) -> str:
    """Return a text with control characters written out (``\\x1b``); line feeds stay."""
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def visible_line(text: str) -> str:
    """Return a text as :func:`visible` does, with line feeds written out, too.

    So no text of others can look like a line of ours.
    """
    return visible(text).replace("\n", "\\n")


def utc(time_ns: int) -> str:
    """Return Unix nanoseconds as a time of day, to the nanosecond."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode a text.

    It cannot encode half of a surrogate pair, which is what Python makes of bytes on the command
    line that are not UTF-8 (PEP 383).
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_utf8(what: str, text: str) -> None:
    """Raise UsageError where a text is not UTF-8; the text, maybe a password, is not shown."""
    if not is_utf8(text):
        raise UsageError(
            f"The {what} cannot be written as UTF-8.", "Check the encoding of your shell."
        )
