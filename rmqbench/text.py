"""Text that others wrote, made fit for a terminal: shown, never obeyed."""

from __future__ import annotations

__all__ = ["visible", "visible_line"]


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
