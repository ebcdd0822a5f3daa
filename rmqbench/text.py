"""Text that others wrote: shown, never obeyed, and refused where it is none."""

from __future__ import annotations

from rmqbench.errors import UsageError

__all__ = ["require_utf8", "visible", "visible_line"]


def visible(text: str) -> str:
    """Write control characters and escape sequences out (``\\x1b``); line feeds stay."""
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def visible_line(text: str) -> str:
    """Write line feeds out, too, where what others wrote must not look like a line of ours."""
    return visible(text).replace("\n", "\\n")


def require_utf8(what: str, text: str) -> None:
    """Raise UsageError where a text of the command line came of bytes that are no text.

    The text, which may be a password, is not shown.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"The {what} cannot be written as UTF-8.", "See how the shell encodes it."
        ) from None
