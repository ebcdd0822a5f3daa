"""Search for the highest rate that is kept: double, then halve what lies between."""

from __future__ import annotations

import math

__all__ = ["Search"]

_LEAST_PER_S, _MOST_PER_S = 1.0, 1e7


class Search:
    """Knows which rate is to be tried next.

    The first one is ``start``. Up to the first that is not kept, or is, each next one is ``factor``
    times as high, or as low; then the one between the highest kept and the lowest not kept, until
    they are no further apart than ``precision`` (0.05: five percent). No rate is below ``least``.
    """

    def __init__(
        self,
        start: float,
        *,
        factor: float = 2.0,
        precision: float = 0.05,
        least: float = _LEAST_PER_S,
    ) -> None:
        self.kept = 0.0  # the highest rate that was kept; 0: none
        self.not_kept = math.inf  # the lowest that was not, above it
        self._next = start
        self._factor = factor
        self._precision = precision
        self._least = max(least, _LEAST_PER_S)

    @property
    def rate(self) -> float | None:
        """The rate to be tried next, in messages a second; None: it is found, or there is none."""
        if self.not_kept <= self.kept * (1 + self._precision):
            return None
        return self._next if self._least <= self._next <= _MOST_PER_S else None

    def tell(self, *, kept: bool) -> None:
        """Whether the rate that was to be tried was kept."""
        if kept:
            self.kept = self._next
        else:
            self.not_kept = self._next
        if math.isinf(self.not_kept):
            self._next *= self._factor
        elif not self.kept:
            self._next /= self._factor
        else:
            self._next = math.sqrt(self.kept * self.not_kept)
