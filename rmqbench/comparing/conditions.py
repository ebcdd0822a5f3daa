"""When a comparison fails, such as ``publish.rate_per_s < 0.9``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from rmqbench.errors import UsageError

__all__ = ["FIGURES", "Condition", "figure_of"]

FIGURES: Final = (
    "publish.rate_per_s",
    "consume.rate_per_s",
    "publish.confirm_latency.p50_ms",
    "publish.confirm_latency.p99_ms",
    "publish.cpu_us_per_message",
    "consume.cpu_us_per_message",
    "peak_rss_mib",
)
"""What is compared in any case, where it is known: keys of ``result.json``, joined by dots."""

_CONDITION: Final = re.compile(r"\s*([^<>]+?)\s*([<>])\s*([\d.eE+-]+)\s*")


@dataclass(frozen=True, slots=True)
class Condition:
    """A figure of the new side is less, or more, than so many times that of the base."""

    figure: str
    is_below: bool
    factor: float

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``FIGURE < FACTOR`` or ``FIGURE > FACTOR``; raise UsageError for anything else."""
        found = _CONDITION.fullmatch(text)
        try:
            factor = float(found[3]) if found else math.nan
        except ValueError:
            factor = math.nan
        if not found or not 0 < factor < math.inf:
            raise UsageError(
                f"{text!r} is no condition.",
                "Write it such as 'publish.rate_per_s < 0.9': a key of result.json, < or >, and "
                "how many times the base.",
            )
        return cls(found[1], found[2] == "<", factor)

    def holds(self, ratio: float) -> bool:
        """Whether the ratio of the new side to the base is on the bad side."""
        return ratio < self.factor if self.is_below else ratio > self.factor

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.figure} {'<' if self.is_below else '>'} {self.factor:g}"


def figure_of(result: Mapping[str, Any], figure: str) -> float | None:
    """Return a figure of a ``result.json``; None where it is null.

    Its keys are joined by dots; a key, such as the name of a queue, may hold dots itself. Raise
    UsageError where there is no such figure.
    """
    value = _walked(result, figure)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _missing(figure, f"{figure!r} is no number.")
    return float(value)


def _walked(value: Any, path: str) -> Any:
    if not path:
        return value
    if value is None:
        return None
    if isinstance(value, Mapping):
        for key in sorted(value, key=len, reverse=True):  # the longest that fits
            if path == key or path.startswith(f"{key}."):
                return _walked(value[key], path[len(key) + 1 :])
    raise _missing(path, f"A result has no {path!r}.")


def _missing(path: str, what: str) -> UsageError:
    return UsageError(what, f"Name keys of result.json, joined by dots: {', '.join(FIGURES[:4])}.")
