"""Text that others wrote, made fit for a terminal: shown, never obeyed."""

from __future__ import annotations

__all__ = ["visible"]


def visible(text: str) -> str:
    """Write control characters and escape sequences out (``\\x1b``); line feeds stay."""
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )
