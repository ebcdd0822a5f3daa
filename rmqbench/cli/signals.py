"""Ctrl-C and SIGTERM as a request to finish, for tools that have work under way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["Interrupted", "interrupting", "interrupts_told", "uninterrupted"]


@dataclass
class Interrupted:
    """The signal that came; None if none did."""

    signal: int | None = None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the end of what is not to be left half done."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGALRM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_told(text: str) -> Iterator[None]:
    """Print a line when the first SIGINT or SIGTERM comes; all goes on as it would without."""
    told = False

    def telling(before: Callable[[int, Any], object]) -> Callable[[int, Any], object]:
        def on_signal(number: int, frame: Any) -> None:
            nonlocal told
            if not told:
                told = True
                with suppress(OSError):  # sys.stderr may be in the middle of a line
                    os.write(2, f"\nrmqbench: {text}\n".encode())
            before(number, frame)

        return on_signal

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in handlers.items():
        if callable(handler):  # else it is ignored, or ends the program at once
            signal.signal(number, telling(handler))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def interrupting(stop: Callable[[], None]) -> Iterator[Interrupted]:
    """Call ``stop`` when SIGINT or SIGTERM comes; a second one ends the program at once."""
    interrupted = Interrupted()

    def on_signal(number: int, _: object) -> None:
        if interrupted.signal is not None:
            raise KeyboardInterrupt
        interrupted.signal = number
        stop()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
