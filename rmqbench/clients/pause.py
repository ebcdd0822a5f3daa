"""A pause that ends early, for workers that a signal handler stops in their own thread."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["pause"]

_STEP_S = 0.05


def pause(seconds: float, stopped: Callable[[], bool]) -> bool:
    """Sleep until so many seconds are over or ``stopped()`` is true; give what it is then.

    It looks in small steps instead of waiting for an event: a handler that sets an event in the
    very thread that begins to wait for it may wait for ever.
    """
    until = time.monotonic() + seconds
    while not stopped() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _STEP_S))
    return stopped()
