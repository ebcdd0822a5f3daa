"""A limit on messages a second."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Pace"]

_ANY = 1 << 62


class Pace:
    """How many messages may pass by now, at ``rate`` a second (None: any number)."""

    def __init__(self, rate: float | None, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._since = monotonic()
        self._spent = 0

    def start(self) -> None:
        """Count from now on: what was not sent in time before is not made up for."""
        self._since, self._spent = self._monotonic(), 0

    def allowance(self) -> int:
        """Return the number of messages that may pass now."""
        if self._rate is None:
            return _ANY
        return int((self._monotonic() - self._since) * self._rate) - self._spent

    def spend(self, count: int) -> None:
        """Record that as many passed."""
        self._spent += count
