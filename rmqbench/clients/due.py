"""When a producer's messages are due, and by how much it is itself late."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rmqbench.schedule import Schedule

__all__ = ["Due"]

_ANY = 1 << 62
# Messages that are due within such a time are sent together: each wake-up costs a tenth of it.
_TOGETHER_S = 0.0005
_APART_S = 0.01  # how finely it is known when others held what was due


class Due:
    """Which messages of a producer are due by now; without a schedule all of them, at any time.

    It knows for how long others held what was due: the broker, the window, a broken connection. By
    as much as a message is late beyond that, the producer is late itself.
    """

    def __init__(self, schedule: Schedule | None, monotonic: Callable[[], float]) -> None:
        self._schedule = schedule
        self._monotonic = monotonic
        self._since = monotonic()
        self._sent_s = 0.0
        # Until some moments, for how long in all; between two of them evenly.
        self._until_s = [0.0]
        self._held_s = [0.0]

    def start(self) -> None:
        """Begin: the schedule counts from now on, whatever happens."""
        self._since = self._monotonic()

    def count(self, unsent: int) -> int:
        """Return how many messages are due, from the first one on that was never sent."""
        if self._schedule is None:
            return _ANY
        return max(0, self._schedule.due_by(self._now_s) - unsent)

    def held(self, seconds: float) -> None:
        """Record that what is due was held by others for so long, until now."""
        if self._schedule is None or seconds <= 0:
            return
        now_s, in_all_s = self._now_s, self._held_s[-1]
        if len(self._until_s) > 1 and now_s - self._until_s[-2] < _APART_S:
            self._until_s[-1], self._held_s[-1] = now_s, in_all_s + seconds
        else:
            began_s = max(now_s - seconds, self._until_s[-1])
            self._until_s += [began_s, now_s]
            self._held_s += [in_all_s, in_all_s + seconds]

    def lag_ns(self, sequences: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
        """Return by how much the producer itself is late with messages that are sent now.

        They are never sent before. Float32 nanoseconds of the same shape; None without a schedule.
        """
        if self._schedule is None:
            return None
        self._sent_s = now_s = self._now_s
        due_s = self._schedule.due_s(sequences)
        held_s = self._held_s[-1] - np.interp(due_s, self._until_s, self._held_s)
        past = bisect_right(self._until_s, float(due_s[-1])) - 1  # all that follow are due later
        if past > 0:
            del self._until_s[:past], self._held_s[:past]
        return (np.maximum(now_s - due_s - held_s, 0.0) * 1e9).astype(np.float32)

    def wait_s(self, unsent: int | None) -> float | None:
        """Return for how many seconds nothing is to be sent; None without a schedule.

        ``unsent`` is the first message that was never sent; None: it cannot be sent before
        something happens.
        """
        if self._schedule is None:
            return None
        if unsent is None:
            return math.inf
        due_s = float(self._schedule.due_s(np.array([unsent]))[0])
        return max(0.0, max(due_s, self._sent_s + _TOGETHER_S) - self._now_s)

    @property
    def _now_s(self) -> float:
        return self._monotonic() - self._since
