"""Pauses in which a dense stream gathers: one wake-up then serves hundreds of messages."""

from __future__ import annotations

import socket
import sys

from rmqbench.clock import Clock

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["ENOUGH_BYTES", "MAX_PAUSE_S", "Gathering"]

ENOUGH_BYTES = 1 << 18  # worth a wake-up by itself
_DENSE_BYTES = 1 << 10
_MIN_PAUSE_S = 0.0005
MAX_PAUSE_S = 0.02
_FULL_BYTES = 1 << 15  # the smallest socket that may be full


class Gathering:
    """Pauses after a turn that received so much that more is to be expected.

    While the stream stays dense, the pause grows. A lone message is followed by none, and so is
    what is worth a wake-up by itself. It shrinks where a full socket gathers nothing more.
    """

    def __init__(self, clock: Clock) -> None:
        self.source: socket.socket | None = None  # where it gathers; None: that cannot be seen
        self._clock = clock
        self._pause_s = 0.0

    def pause(self, received: int, burst_bytes: int, most_s: float) -> None:
        """Pause as the last turn suggests, which received so many bytes, for ``most_s`` at most.

        ``burst_bytes`` is how much may gather, 0 if nothing.
        """
        if not burst_bytes or most_s < _MIN_PAUSE_S or not _DENSE_BYTES <= received < ENOUGH_BYTES:
            if received:
                self._pause_s /= 2
            return
        if received > burst_bytes:
            self._pause_s /= 2
        else:
            self._pause_s = min(max(1.5 * self._pause_s, _MIN_PAUSE_S), most_s, MAX_PAUSE_S)
        if received < _FULL_BYTES:
            self._clock.sleep(self._pause_s)
            return
        self._clock.sleep(self._pause_s / 2)
        gathered = self.waiting()
        self._clock.sleep(self._pause_s / 2)
        if self.waiting() == gathered >= _FULL_BYTES:
            self._pause_s /= 4

    def waiting(self) -> int:
        """Return how many bytes wait in the socket; 0 where that cannot be seen."""
        if self.source is None or self.source.fileno() < 0 or sys.platform == "win32":
            return 0
        waiting = fcntl.ioctl(self.source.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)
