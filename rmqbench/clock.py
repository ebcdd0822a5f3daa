"""Time, given to whoever needs it: a simulation gives another than the real one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["REAL_CLOCK", "Clock", "epoch_now_ns"]


@dataclass(frozen=True)
class Clock:
    """What time it is, and how to wait.

    ``monotonic`` is in seconds, for limits and durations. ``time_ns`` is in Unix nanoseconds and
    never goes back: it orders what all processes of a run have seen. ``cpu_s`` is the CPU time of
    this thread in seconds.
    """

    monotonic: Callable[[], float]
    time_ns: Callable[[], int]
    sleep: Callable[[float], object]
    cpu_s: Callable[[], float]

    @classmethod
    def since(cls, epoch_ns: int) -> Clock:
        """Return the real clock of all who were given the same :func:`epoch_now_ns`.

        Between processes of one host only the monotonic clock can be compared: somebody may set the
        time of day in the middle of a run.
        """
        return cls(
            time.monotonic,
            lambda: epoch_ns + time.monotonic_ns(),
            time.sleep,
            time.thread_time,
        )


def epoch_now_ns() -> int:
    """Return when the monotonic clock read 0, in Unix nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


REAL_CLOCK = Clock(time.monotonic, time.time_ns, time.sleep, time.thread_time)
"""The clock of whoever works alone, and compares its times with nobody's."""
