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
    "LatencyDurationOption",
    "LatencyRateOption",
    "RateOption",
    "SoakDurationOption",
    "SoakRateOption",
    "StartRateOption",
    "TrialOption",
]


def _read_rate(text: str) -> str:
    """Return the text of a rate; raise UsageError for what is none."""
    from rmqbench.schedule import read_rate

    read_rate(text)
    return text


def _option(
    read: Callable[[str], float | str], metavar: str, show_default: str, help: str
) -> object:
    """Return an option of which ``read`` reads the value; what is wrong is said with its name."""

    def parse(text: str) -> float | str:
        try:
            return read(text)
        except UsageError as error:
            raise typer.BadParameter(str(error)) from None

    return typer.Option(parser=parse, metavar=metavar, show_default=show_default, help=help)


_RATE_HELP = (
    "Messages due each second, of all producers together: one rate (5000), steps "
    "(1000,5000,10000) or ramps (1000:10000) in equal shares of the duration, or each with its "
    "time (1000:10000@60s,10000@5m). What is late is sent as soon as it goes."
)
ChurnOption = Annotated[
    float | None,
    _option(
        read_per_second,
        "N/s",
        "none",
        "Connections closed and opened anew each second, of all clients at work together.",
    ),
]
RateOption = Annotated[str | None, _option(_read_rate, "RATE", "as fast as it goes", _RATE_HELP)]
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
    str | None,
    _option(_read_rate, "RATE", "5000/s", "Messages due each second, of all producers together."),
]
LatencyDurationOption = Annotated[
    float | None,
    _option(
        read_seconds,
        "TIME",
        "10s",
        "For how long messages are due: 90s, 5m. Not with a rate that says it.",
    ),
]
LatencyRateOption = Annotated[str | None, _option(_read_rate, "RATE", "1000", _RATE_HELP)]
StartRateOption = Annotated[
    float | None,
    _option(read_per_second, "N/s", "1000", "The first rate that is tried, in messages a second."),
]
TrialOption = Annotated[
    float | None, _option(read_seconds, "TIME", "10s", "How long each trial lasts: 10s, 1m.")
]
EveryOption = Annotated[
    float | None,
    _option(read_seconds, "TIME", "5m", "The time between two strikes of the fault: 90s, 5m."),
]
