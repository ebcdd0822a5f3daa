"""Rates and durations as people write them: ``50/s``, ``90s``, ``1h30m``."""

from __future__ import annotations

import math
import re
from typing import Final

from rmqbench.errors import UsageError

__all__ = ["read_per_second", "read_seconds"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART: Final = re.compile(r"([\d.]+)([smhd])")


def read_per_second(text: str) -> float:
    """Read ``50/s`` or ``50``; raise UsageError for anything else."""
    value = _number(text.removesuffix("/s"))
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is no number of times a second.", "Write it such as 50/s.")
    return value


def read_seconds(text: str) -> float:
    """Read ``90``, ``90s``, ``1h30m`` or the like as seconds; raise UsageError for other texts."""
    parts = _PART.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        value = sum(_number(number) * _SECONDS[unit] for number, unit in parts)
    else:
        value = _number(text)
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is no duration.", "Write it such as 90s or 8h.")
    return value


def _number(text: str) -> float:
    """Return a number, which is none where the text is not one."""
    try:
        return float(text)
    except ValueError:
        return math.nan
