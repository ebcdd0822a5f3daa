"""Ctrl-C and SIGTERM as a request to finish, for tools that have work under way."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Interrupted", "interrupting", "uninterrupted"]


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
