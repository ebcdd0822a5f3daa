"""Watch a broker that is not ours: did its node restart while the run was under way?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rmqbench.amqp.connection import Connection
from rmqbench.clock import Clock
from rmqbench.endpoint import Endpoint
from rmqbench.run_directory.journal import Entry, Restarted

__all__ = ["BrokerWatch"]

_HEARTBEAT_S = 10  # the broker sends one in each half of it, so that its silence is short
_CONNECT_S = 3.0
_OPEN_S = 5.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 4.0
_END_S = 30.0


class BrokerWatch:
    """Keeps a connection open, also while no worker has one; a context manager.

    A node that restarts ends it, and so may the network: each time that it breaks and is there
    again, the node may have restarted after it was last heard of. ``broke`` says whether it broke,
    or could not be made.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock, write: Callable[[Entry], None]) -> None:
        """Prepare to watch; ``write`` takes what is seen, from another thread."""
        self.broke = False
        self._endpoint = endpoint
        self._clock = clock
        self._write = write
        self._heard_ns = 0
        self._pause_s = _FIRST_PAUSE_S
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="broker watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._heard_ns = self._clock.time_ns()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the connection."""
        self._over.set()
        self._thread.join(_END_S)

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                self._stay_connected()
            except Exception:  # whatever it was: nobody was listening
                self.broke = True
                self._over.wait(self._pause_s)
                self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _stay_connected(self) -> None:
        """Listen to the broker until the end; raise what ends the connection before it."""
        connection = Connection(
            self._endpoint,
            name="rmqbench watch",
            vector=False,
            heartbeat_s=_HEARTBEAT_S,
            connect_timeout_s=_CONNECT_S,
        ).open(_OPEN_S)
        try:
            if self.broke:
                restarted = Restarted(after_ns=self._heard_ns, before_ns=self._clock.time_ns())
                self._write(restarted)
            self._pause_s = _FIRST_PAUSE_S
            received = 0
            while not self._over.is_set():
                if connection.received_bytes != received:
                    received = connection.received_bytes
                    self._heard_ns = self._clock.time_ns()
                connection.turn()
        except BaseException:
            connection.abort()
            raise
        connection.close()
