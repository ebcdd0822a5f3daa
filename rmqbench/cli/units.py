"""Numbers with units on the command line: rates and durations."""

from __future__ import annotations

import math
import re
from typing import Annotated, Final

import typer

__all__ = [
    "ChurnOption",
    "DurationOption",
    "EveryOption",
    "RateOption",
    "SoakDurationOption",
    "SoakRateOption",
]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _per_second(text: str) -> float:
    """Read ``50/s`` or ``50``."""
    return _number(text.removesuffix("/s"), text, "times a second, such as 50/s")


def _duration(text: str) -> float:
    """Read ``90``, ``90s``, ``1h30m`` or the like as seconds."""
    parts = re.findall(r"([\d.]+)([smhd])", text)
    if parts and "".join(map("".join, parts)) == text:
        return sum(
            _number(number, text, "seconds, minutes or hours, such as 90s or 8h") * _SECONDS[unit]
            for number, unit in parts
        )
    return _number(text, text, "seconds, minutes or hours, such as 90s or 8h")


def _number(number: str, text: str, what: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r} is not a number of {what}.")
    return value


ChurnOption = Annotated[
    float | None,
    typer.Option(
        help="Connections closed and opened anew each second, of all clients at work together.",
        parser=_per_second,
        metavar="N/s",
        show_default="none",
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        help="Messages published each second, of all producers together.",
        parser=_per_second,
        metavar="N/s",
        show_default="as fast as it goes",
    ),
]
DurationOption = Annotated[
    float | None,
    typer.Option(
        help="Publish for so long, such as 90s, 30m or 8h; --messages are then the most.",
        parser=_duration,
        metavar="TIME",
        show_default="until all messages are published",
    ),
]
SoakDurationOption = Annotated[
    float | None,
    typer.Option(
        help="How long messages are published: 90s, 30m, 8h.",
        parser=_duration,
        metavar="TIME",
        show_default="30m",
    ),
]
SoakRateOption = Annotated[
    float | None,
    typer.Option(
        help="Messages published each second, of all producers together.",
        parser=_per_second,
        metavar="N/s",
        show_default="5000/s",
    ),
]
EveryOption = Annotated[
    float | None,
    typer.Option(
        help="The time between two strikes of the fault: 90s, 5m.",
        parser=_duration,
        metavar="TIME",
        show_default="5m",
    ),
]
