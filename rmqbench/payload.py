"""What fills a body behind its text: values that brokers have stumbled over, or a file.

A filling is some bytes again and again. That of ``bytes`` is every value of a byte in turn, from 0
on. All others begin with one byte 0, which ends the text, and go on with

========== =====================================================================================
``text``   the text of the message and a space
``zeros``  bytes 0
``ones``   bytes 255
``ints``   16,384 integers from 0 to 2**24 - 1, each in 8 bytes, big-endian, as they look in
           columns of numbers: the lower 24 bits of the numbers of SplitMix64
``random`` 131,072 bytes that no compression makes smaller: 16,384 numbers of SplitMix64
``json``   64 objects as JSON, a line each
``file:…`` the bytes of a file
========== =====================================================================================

SplitMix64 is seeded by the two halves of the run's UUID, combined by exclusive or.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rmqbench.errors import UsageError
from rmqbench.splitmix import numbers, run_bits

__all__ = ["COMPUTED", "DEFAULT", "Filling", "file_digest", "filling_of", "require_payload"]

DEFAULT: Final = "bytes"
_FILE: Final = "file:"
_NUMBERS: Final = 1 << 14
_MOST_BYTES: Final = 1 << 28  # of a file
_LOWER: Final = np.uint64((1 << 24) - 1)


class Filling:
    """What fills the bodies of a run: ``first``, and then ``block`` again and again."""

    def __init__(self, first: bytes, block: bytes) -> None:
        self.first = first
        self.block = block

    def head(self, size: int) -> bytes:
        """Return the first ``size`` bytes."""
        missing = max(size - len(self.first), 0)
        return (self.first + self.block * (missing // len(self.block) + 1))[:size]


def _numbers(run: uuid.UUID) -> npt.NDArray[np.uint64]:
    return numbers(run_bits(run), np.arange(_NUMBERS))


def _ints(run: uuid.UUID, _: str) -> bytes:
    return (_numbers(run) & _LOWER).astype(">u8").tobytes()


def _random(run: uuid.UUID, _: str) -> bytes:
    return _numbers(run).astype(">u8").tobytes()


def _json(run: uuid.UUID, _: str) -> bytes:
    lines = [
        json.dumps(
            {"id": number, "name": f"Grüße {number % 1000}", "ok": number % 3 > 0, "tags": ["a"]},
            ensure_ascii=False,
        )
        for number in (_numbers(run)[:64] & _LOWER).tolist()
    ]
    return ("\n".join(lines) + "\n").encode()


COMPUTED: Final[Mapping[str, Callable[[uuid.UUID, str], bytes]]] = {
    DEFAULT: lambda *_: bytes(range(256)),
    "text": lambda _, text: text.encode() + b" ",
    "zeros": lambda *_: b"\0",
    "ones": lambda *_: b"\xff",
    "ints": _ints,
    "random": _random,
    "json": _json,
}
"""The fillings that are computed, from the run and its text, by their names."""


def require_payload(payload: str) -> None:
    """Raise UsageError for what is no payload; a file is not looked at."""
    if not payload.startswith(_FILE) and payload not in COMPUTED:
        raise UsageError(
            f"There is no payload {payload!r}.", f"Choose of {', '.join(COMPUTED)}, file:PATH."
        )


def filling_of(payload: str, run: uuid.UUID, text: str, digest: str = "") -> Filling:
    """Return a filling; ``digest`` is what that of a file had when the run began.

    Raise UsageError where a file cannot be read, or is another one now.
    """
    if payload.startswith(_FILE):
        block = _read(payload)
        if digest and hashlib.sha256(block).hexdigest() != digest:
            raise UsageError(
                f"The file {payload.removeprefix(_FILE)} is not what it was when the run began.",
                "Leave it as it is until the run has ended; on other hosts have the same file "
                "under the same name.",
            )
        return Filling(b"\0", block)
    return _computed(payload, run, text)


@lru_cache(maxsize=64)  # whoever reads messages asks for the same ones again and again
def _computed(payload: str, run: uuid.UUID, text: str) -> Filling:
    return Filling(b"" if payload == DEFAULT else b"\0", COMPUTED[payload](run, text))


def file_digest(payload: str) -> str:
    """Return the SHA-256 of a payload's file in hexadecimal, "" where it is no file."""
    return hashlib.sha256(_read(payload)).hexdigest() if payload.startswith(_FILE) else ""


def _read(payload: str) -> bytes:
    path = Path(payload.removeprefix(_FILE))
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"The payload {payload!r} cannot be read: {why}.", "Name a file: file:PATH."
        ) from None
    if not 0 < len(content) <= _MOST_BYTES:
        raise UsageError(
            f"The file of the payload {payload!r} is {'empty' if not content else 'too large'}.",
            f"Give one of 1 to {_MOST_BYTES:,} bytes.",
        )
    return content
