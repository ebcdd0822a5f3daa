"""Watch a broker that is not ours: has its node been started anew while the run was under way?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rmqbench.amqp.connection import Connection
from rmqbench.clock import Clock
from rmqbench.endpoint import Endpoint
from rmqbench.errors import RmqbenchError
from rmqbench.run_directory.journal import Entry, Restarted

__all__ = ["BrokerWatch"]

_AGAIN_S = 0.5
_END_S = 30.0


class BrokerWatch:
    """Keeps a connection open, also while no worker has one; a context manager.

    A node that is started anew ends it, and so may the network: each time that it breaks and is
    there again, the node may have been started anew in between. ``broke`` says whether it did.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock, write: Callable[[Entry], None]) -> None:
        """Prepare to watch; ``write`` takes what is seen, from another thread."""
        self.broke = False
        self._endpoint = endpoint
        self._clock = clock
        self._write = write
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="broker watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
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
        good_ns = self._clock.time_ns()
        while not self._over.is_set():
            try:
                with Connection(self._endpoint, name="rmqbench watch", vector=False) as connection:
                    if self.broke:
                        self._write(Restarted(after_ns=good_ns, before_ns=self._clock.time_ns()))
                    while not self._over.is_set():
                        connection.turn()
                        good_ns = self._clock.time_ns()
            except RmqbenchError:
                self.broke = True
                self._over.wait(_AGAIN_S)
