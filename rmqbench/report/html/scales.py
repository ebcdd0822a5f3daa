"""Where values stand on a chart, and how they are written there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Linear", "Log", "Scale", "Tick", "duration_text", "milliseconds_text", "short"]

_NICE = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, from 0 to 1, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Linear:
    """A scale with equal steps, from ``low`` to ``high``."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return where a value stands, from 0 to 1; what is beyond an end stands there."""
        span = self.high - self.low
        return min(max((value - self.low) / span, 0.0), 1.0) if span else 0.0

    def ticks(self, most: int = 6) -> Sequence[Tick]:
        """Return at most so many steps with round numbers."""
        span = self.high - self.low
        if span <= 0:
            return [Tick(0.0, short(self.low))]
        rough = span / most
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in _NICE if power * nice >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [Tick(self.at(n * step), short(n * step)) for n in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Log:
    """A scale with equal factors, from ``low`` to ``high``, which are more than 0."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return where a value stands, from 0 to 1; what is beyond an end stands there."""
        span = math.log(self.high / self.low)
        if not span or value <= 0:
            return 0.0
        return min(max(math.log(value / self.low) / span, 0.0), 1.0)

    def ticks(self, most: int = 8) -> Sequence[Tick]:
        """Return the powers of ten, with 2 and 5 times each where there is room."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [each for each in values if self.low <= each <= self.high * (1 + 1e-9)]
            if len(inside) <= most:
                break
        return [Tick(self.at(each), milliseconds_text(each)) for each in inside]


Scale = Linear | Log


def short(value: float) -> str:
    """Return a number in few characters: ``0.5``, ``12``, ``1.5k``, ``20M``."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{unit}"
    return f"{value:.4g}"


def milliseconds_text(value: float | None) -> str:
    """Return milliseconds with their unit, in few characters: ``350 µs``, ``12 ms``, ``1.5 s``."""
    if value is None:
        return "never"
    if value >= 60_000:
        return f"{value / 60_000:.3g} min"
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.3g} ms" if value >= 1 else f"{value * 1000:.3g} µs"


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: ``0.8 s``, ``42 s``, ``1 h 12 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
