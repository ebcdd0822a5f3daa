"""Waiting with a limit: for a condition, and for a call that has no limit of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from rmqbench.errors import DeadlineExceeded

__all__ = ["wait_for_call", "wait_until"]

_Result = TypeVar("_Result")


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    what: str,
    *,
    every_s: float = 0.05,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Wait until a condition holds.

    ``what`` completes "timed out waiting for …". The condition is tried at least once, and once
    more when the time is over. Raise DeadlineExceeded.
    """
    end = clock() + timeout_s
    while not condition():
        left = end - clock()
        if left <= 0:
            raise DeadlineExceeded(f"Timed out after {timeout_s:g} s waiting for {what}.")
        sleep(min(every_s, left))


def wait_for_call(
    call: Callable[[], _Result],
    timeout_s: float,
    what: str,
    *,
    check: Callable[[], object] = lambda: None,
) -> _Result:
    """Run a call in a thread of its own and return what it returns, or raise what it raises.

    For calls that may block for ever. ``check`` is called about every 50 ms meanwhile, and may
    raise to give up earlier. Raise DeadlineExceeded; the abandoned thread is a daemon, and keeps
    neither the caller nor the end of the process waiting.
    """
    future: Future[_Result] = Future()
    over = threading.Event()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # raised again in the caller's thread
            future.set_exception(error)
        finally:
            over.set()

    def is_over() -> bool:
        if not over.is_set():
            check()
        return over.is_set()

    threading.Thread(target=run, daemon=True, name=f"rmqbench: {what}").start()
    wait_until(is_over, timeout_s, what, sleep=over.wait)
    return future.result()
