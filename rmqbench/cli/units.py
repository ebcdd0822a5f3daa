"""Numbers with units on the command line: rates and durations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from rmqbench.errors import UsageError
from rmqbench.units import read_per_second, read_seconds

__all__ = [
    "ChurnOption",
    "DurationOption",
    "EveryOption",
    "RateOption",
    "SoakDurationOption",
    "SoakRateOption",
]


def _option(read: Callable[[str], float], metavar: str, show_default: str, help: str) -> object:
    """Return an option of which ``read`` reads the value; what is wrong is said with its name."""

    def parse(text: str) -> float:
        try:
            return read(text)
        except UsageError as error:
            raise typer.BadParameter(str(error)) from None

    return typer.Option(parser=parse, metavar=metavar, show_default=show_default, help=help)


ChurnOption = Annotated[
    float | None,
    _option(
        read_per_second,
        "N/s",
        "none",
        "Connections closed and opened anew each second, of all clients at work together.",
    ),
]
RateOption = Annotated[
    float | None,
    _option(
        read_per_second,
        "N/s",
        "as fast as it goes",
        "Messages published each second, of all producers together.",
    ),
]
DurationOption = Annotated[
    float | None,
    _option(
        read_seconds,
        "TIME",
        "until all messages are published",
        "Publish for so long, such as 90s, 30m or 8h; --messages are then the most.",
    ),
]
SoakDurationOption = Annotated[
    float | None,
    _option(read_seconds, "TIME", "30m", "How long messages are published: 90s, 30m, 8h."),
]
SoakRateOption = Annotated[
    float | None,
    _option(
        read_per_second,
        "N/s",
        "5000/s",
        "Messages published each second, of all producers together.",
    ),
]
EveryOption = Annotated[
    float | None,
    _option(read_seconds, "TIME", "5m", "The time between two strikes of the fault: 90s, 5m."),
]
