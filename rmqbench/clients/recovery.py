"""Going on after an interruption: connect again, with growing pauses, as long as it makes sense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rmqbench.clock import REAL_CLOCK, Clock
from rmqbench.errors import (
    AccessRefused,
    EvidenceNotWritten,
    MessageTooLarge,
    MessageUnreadable,
    QueueLocked,
    QueueNotFound,
    RmqbenchError,
    UsageError,
)

__all__ = ["Interruption", "Recovery", "pause", "why_it_ended"]

_FIRST_PAUSE_S = 0.1
_MOST_PAUSE_S = 2.0
_STEP_S = 0.05
# Trying again changes nothing about these.
_FINAL = (UsageError, QueueNotFound, MessageTooLarge, MessageUnreadable, EvidenceNotWritten)
_REFUSALS = (AccessRefused, QueueLocked)  # as final, where nothing has gone well before


@dataclass(frozen=True, slots=True)
class Interruption:
    """When a worker was kept from its work (Unix nanoseconds), and by what, in a sentence."""

    at_ns: int
    why: str


class Recovery:
    """Runs a piece of work that needs a connection, again and again until it has ended well.

    ``limit_s`` is how long it goes on without any progress. What fails before there was a
    connection at all fails for good: nothing that was never there is waited for.
    ``on_interruption`` is called with each. ``sleep`` (None: the clock's) is called between
    attempts, and returns True if there is to be none any more, as the ``wait`` of a
    :class:`threading.Event` does.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        on_interruption: Callable[[Interruption], None] = lambda _: None,
        clock: Clock = REAL_CLOCK,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.interruptions: list[Interruption] = []
        self._limit_s = limit_s
        self._on_interruption = on_interruption
        self._clock = clock
        self._sleep = sleep or clock.sleep
        self._connected = False
        self._was_connected = False
        self._pause_s = _FIRST_PAUSE_S
        self._progressed = False
        self._progress_at = clock.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last progress."""
        return self._clock.monotonic() - self._progress_at

    def connected(self) -> None:
        """Record that there is a connection: its end will be an interruption."""
        if not self._was_connected:
            self._progress_at = self._clock.monotonic()
        self._connected = self._was_connected = True

    def waited(self) -> None:
        """Record that nobody else was waited for so far: the limit counts from now on."""
        self._progress_at = self._clock.monotonic()

    def progressed(self) -> None:
        """Record that the work came on: its limit and the pauses begin anew."""
        self._progressed = True
        self._progress_at = self._clock.monotonic()
        self._pause_s = _FIRST_PAUSE_S

    def note_interruption(self, why: str) -> None:
        """Record that the work is interrupted, and why, in a sentence."""
        interruption = Interruption(self._clock.time_ns(), why)
        self.interruptions.append(interruption)
        self._on_interruption(interruption)

    def run(self, work: Callable[[], None]) -> RmqbenchError | None:
        """Do the work until it returns; return the error with which it was given up."""
        while True:
            try:
                work()
                return None
            except RmqbenchError as error:
                refused = self._connected and not self._progressed and isinstance(error, _REFUSALS)
                if self._connected:
                    self.note_interruption(error.what)
                self._connected = False
                if (
                    not self._was_connected
                    or refused
                    or isinstance(error, _FINAL)
                    or self.idle_s + self._pause_s > self._limit_s
                ):
                    return error
                if self._sleep(self._pause_s):
                    return error
            self._pause_s = min(2 * self._pause_s, _MOST_PAUSE_S)


def why_it_ended(error: RmqbenchError) -> str:
    """Return in words why a client of a run gave up; what it needs was declared for it."""
    if isinstance(error, QueueNotFound):
        return f"{error.what} It was declared for the run: somebody, or a fault, has deleted it."
    return str(error)


def pause(seconds: float, stopped: Callable[[], bool], clock: Clock = REAL_CLOCK) -> bool:
    """Sleep until ``seconds`` are over or ``stopped()`` is true; return what it is then.

    It looks in small steps instead of waiting for an event: a handler that sets an event in the
    very thread that begins to wait for it may wait for ever.
    """
    until = clock.monotonic() + seconds
    while not stopped() and (left := until - clock.monotonic()) > 0:
        clock.sleep(min(left, _STEP_S))
    return stopped()
