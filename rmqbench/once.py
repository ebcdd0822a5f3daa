"""Values that are computed when they are first needed, and then kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import TypeVar

__all__ = ["once"]

_T = TypeVar("_T")


def once(compute: Callable[[], _T]) -> Callable[[], _T]:
    """Return a function that computes a value in its first call, while other threads wait for it.

    :func:`functools.cache` alone would let each of them compute it, in memory of its own.
    """
    lock, kept = threading.Lock(), cache(compute)

    @wraps(compute)
    def value() -> _T:
        with lock:
            return kept()

    return value
