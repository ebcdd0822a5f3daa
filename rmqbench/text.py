"""Numbers in words, and text that others wrote: shown, never obeyed, refused if not UTF-8."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rmqbench.errors import UsageError

__all__ = ["counted", "grouped", "is_utf8", "require_utf8", "utc", "visible", "visible_line"]


def counted(n: int, noun: str, plural: str = "", form: str = "") -> str:
    """Return a number with its noun: ``1 message``, ``2 messages``.

    ``plural`` is for what does not only take an s ("messages are"), ``form`` a format specification
    of the number.
    """
    return f"{n:{form}} {noun if n == 1 else plural or f'{noun}s'}"


_MOST_RANGES = 3  # of numbers in a row, before only their first and last are named
_MOST_GROUPS = 5


def grouped(names: Iterable[str]) -> str:
    """Return names with those in one that differ only in their number.

    ``consumer 0 of q``, ``consumer 1 of q`` are ``consumers 0 and 1 of q``; of more there are
    ``consumers 0 to 19 of q``.
    """
    alike: dict[tuple[str, str], list[int]] = {}
    others: list[str] = []
    for name in dict.fromkeys(names):
        if found := re.fullmatch(r"(\w+) (\d+)(| .*)", name, re.DOTALL):
            alike.setdefault((found[1], found[3]), []).append(int(found[2]))
        else:
            others.append(name)
    groups = others + [
        f"{noun}s {_numbers(sorted(numbers))}{rest}"
        if len(numbers) > 1
        else f"{noun} {numbers[0]}{rest}"
        for (noun, rest), numbers in alike.items()
    ]
    shown = groups if len(groups) <= _MOST_GROUPS + 1 else groups[:_MOST_GROUPS]
    more = len(groups) - len(shown)
    return _listed([*shown, *([f"{more} others"] if more else [])])


def _numbers(numbers: Sequence[int]) -> str:
    """Return numbers in their order, those in a row as ``0 to 3``."""
    rows: list[list[int]] = []
    for number in numbers:
        if rows and rows[-1][-1] == number - 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    if len(rows) > _MOST_RANGES:
        return f"{numbers[0]} to {numbers[-1]} ({len(numbers)} of them)"
    parts: list[str] = []
    for row in rows:
        parts += [f"{row[0]} to {row[-1]}"] if len(row) > 2 else map(str, row)
    return _listed(parts)


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


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
