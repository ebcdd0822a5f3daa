"""When each message is due: the schedule of an open load, which waits for nobody.

``5000`` is 5,000 messages a second. ``1000,5000,10000`` are steps, and ``1000:10000`` is a ramp
from one rate to the other. Each lasts an equal share of the duration, or as long as it says itself:
``1000:10000@60s,10000@5m``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from rmqbench.errors import UsageError
from rmqbench.units import read_per_second, read_seconds

__all__ = ["Schedule", "Stretch", "read_rate"]

_NEARLY = 1e-9  # of a message: what is due so soon is due, or rounding would have it wait


class Stretch(NamedTuple):
    """A part of a schedule, from one rate to another; without an end its seconds are infinite."""

    seconds: float
    first_per_s: float
    last_per_s: float

    @property
    def messages(self) -> float:
        """How many messages are due in it."""
        return self.seconds * (self.first_per_s + self.last_per_s) / 2

    def by(self, seconds: float) -> float:
        """Return how many messages have been due after so many seconds of it."""
        return self.first_per_s * seconds + self._growth * seconds**2 / 2

    def at(self, messages: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return after how many seconds of it so many messages have been due."""
        # The root of messages = first·t + growth·t²/2, in the form that a steady rate has, too.
        root = np.sqrt(np.maximum(self.first_per_s**2 + 2 * self._growth * messages, 0.0))
        return 2 * messages / (self.first_per_s + root)

    @property
    def _growth(self) -> float:
        return (self.last_per_s - self.first_per_s) / self.seconds


@dataclass(frozen=True)
class Schedule:
    """When the messages of a run, or of one of its producers, are due, in seconds from its start.

    ``first`` and ``step`` are of a producer that takes turns with others: of all messages it has
    the one of number ``first``, and each ``step`` further. It counts its own from 0.
    """

    stretches: tuple[Stretch, ...]
    first: int = 0
    step: int = 1

    @classmethod
    def of(cls, rate: float | str, duration_s: float | None = None) -> Self:
        """Read a rate as it is given, for a run of this duration; raise UsageError for others."""
        parts = read_rate(rate)
        timed_s = sum(each.seconds for each in parts)
        untimed = sum(not each.seconds for each in parts)
        share_s = math.inf
        if duration_s is not None:
            left_s = duration_s - timed_s
            if left_s <= 0 if untimed else abs(left_s) > _NEARLY * duration_s:
                why = f"its parts last {timed_s:g} s, and the duration is {duration_s:g} s"
                raise _refused(rate, why)
            share_s = left_s / max(untimed, 1)
        elif untimed and (len(parts) > 1 or parts[0].first_per_s != parts[0].last_per_s):
            raise _refused(rate, "nothing says how long its parts last")
        return cls(
            tuple(each if each.seconds else each._replace(seconds=share_s) for each in parts)
        )

    def share(self, number: int, of: int) -> Schedule:
        """Return that of one of several producers."""
        return replace(self, first=self.first + number * self.step, step=self.step * of)

    @property
    def duration_s(self) -> float:
        """How long it lasts in seconds, which may be infinite."""
        return sum(each.seconds for each in self.stretches)

    @property
    def messages(self) -> float:
        """How many messages are due in all, which may be infinite."""
        messages = sum(each.messages for each in self.stretches)
        return messages if math.isinf(messages) else self._own(math.ceil(messages - _NEARLY))

    @property
    def most(self) -> int:
        """The same as a number for comparisons, larger than any count where it is infinite."""
        return sys.maxsize if math.isinf(self.messages) else int(self.messages)

    @property
    def lowest_per_s(self) -> float:
        """The lowest rate that it comes to."""
        return min(min(each[1:]) for each in self.stretches) / self.step

    def due_s(self, numbers: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return when messages are due: seconds from the start, float64 of the same shape.

        What is beyond its last message is due at its end.
        """
        counted = (self.first + numbers * self.step).astype(np.float64)
        due = np.zeros(counted.shape)
        began_s = before = 0.0
        for each in self.stretches:
            due = np.where(
                counted >= before,
                began_s + each.at(np.clip(counted - before, 0.0, each.messages)),
                due,
            )
            began_s, before = began_s + each.seconds, before + each.messages
        return due

    def due_by(self, seconds: float) -> int:
        """Return how many messages are due so many seconds after the start."""
        if seconds < 0:
            return 0
        been, left_s = 0.0, seconds
        for each in self.stretches:
            been += each.by(min(left_s, each.seconds))
            left_s = max(0.0, left_s - each.seconds)
        # Message number n is due when n messages have been: the first one at the start.
        return int(min(self._own(math.floor(been + _NEARLY) + 1), self.messages))

    def _own(self, count: int) -> int:
        """Return how many of the first ``count`` messages are its own."""
        return max(0, math.ceil((count - self.first) / self.step))

    def as_list(self) -> list[list[float | None]]:
        """Return its stretches as plain values; None stands for time without an end."""
        return [
            [None if math.isinf(each.seconds) else each.seconds, *each[1:]]
            for each in self.stretches
        ]

    @classmethod
    def from_list(cls, values: Sequence[Sequence[float | None]]) -> Self:
        """Return the schedule of which :meth:`as_list` has made these values."""
        return cls(
            tuple(
                Stretch(*(math.inf if value is None else float(value) for value in each))
                for each in values
            )
        )


def read_rate(rate: float | str) -> list[Stretch]:
    """Read the parts of a rate as it is given; the seconds of those that do not say them are 0.

    Raise UsageError for what is no rate.
    """
    return [_read_part(rate, text) for text in str(rate).split(",")]


def _read_part(rate: float | str, text: str) -> Stretch:
    """Read a step or a ramp; its seconds are 0 where it has none of its own."""
    rates, at, time = text.partition("@")
    first, colon, last = rates.partition(":")
    try:
        ends = [read_per_second(each) for each in ([first, last] if colon else [first, first])]
        seconds = read_seconds(time) if at else 0.0
    except UsageError as error:
        raise _refused(rate, error.what.rstrip(".")) from None
    if not all(each > 0 for each in ends) or (at and not seconds > 0):
        raise _refused(rate, f"in {text!r} a rate or a time is not more than 0")
    return Stretch(seconds, *ends)


def _refused(rate: float | str, why: str) -> UsageError:
    return UsageError(
        f"The rate {rate!r} cannot be kept: {why}.",
        "Give messages a second (5000), steps (1000,5000,10000) or ramps (1000:10000), with a "
        "duration, or each with its time (1000:10000@60s,10000@5m).",
    )
