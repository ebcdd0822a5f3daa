"""How long a connection is used before it is closed and another takes its place: churn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Churn", "Lifetime"]


@dataclass(frozen=True, slots=True)
class Churn:
    """``clients`` open ``per_s`` connections a second together, each of them in turn.

    ``number`` says whose turn it is, counted on from any: the first connections end one by one,
    too.
    """

    per_s: float
    clients: int
    number: int = 0

    @property
    def lifetime_s(self) -> float:
        """How long each connection of a client lives, in seconds."""
        return self.clients / self.per_s

    @property
    def first_s(self) -> float:
        """How long its first one lives, in seconds."""
        return (1 + self.number % self.clients) / self.per_s


class Lifetime:
    """The lifetime of a client's present connection, without end where there is no churn."""

    def __init__(self, churn: Churn | None, monotonic: Callable[[], float]) -> None:
        self._lifetime_s = churn.lifetime_s if churn else math.inf
        self._next_s = churn.first_s if churn else math.inf
        self._monotonic = monotonic
        self._until = math.inf

    def begin(self) -> None:
        """Begin that of a new connection."""
        self._until = self._monotonic() + self._next_s
        self._next_s = self._lifetime_s

    @property
    def is_over(self) -> bool:
        """Whether another connection is to take its place."""
        return self._until < math.inf and self._monotonic() >= self._until
