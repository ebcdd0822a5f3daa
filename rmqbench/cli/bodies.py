"""``--size`` and ``--payload``: how large bodies are, and what fills them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["PayloadOption", "SizeOption"]


def _read(value: int | str) -> int | str:
    """Return one size as a number; what the text of several says is read with the recipe."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else text


SizeOption = Annotated[
    Any,
    typer.Option(
        parser=_read,
        metavar="SIZE",
        help="Size of each body in bytes, its head of 44 included: one (100), any of a range "
        "(100:16384), or of several by weight (100:1000*9,1048576); with none, as long as head "
        "and text need.",
    ),
]
PayloadOption = Annotated[
    str,
    typer.Option(
        metavar="PAYLOAD",
        help="What fills bodies behind the text: bytes (every value in turn), text, zeros, ones, "
        "ints (small big-endian integers), random, json or file:PATH.",
    ),
]
