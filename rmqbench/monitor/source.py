"""Where pictures come from: the Management API, asked in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from rmqbench.errors import AccessRefused, BrokerError
from rmqbench.management.answers import (
    read_alarms,
    read_connections,
    read_consumers,
    read_nodes,
    read_queues,
    read_version,
)
from rmqbench.management.client import Management
from rmqbench.monitor.model import Picture, make_picture

__all__ = ["Source", "ask"]


def ask(
    management: Management, vhost: str | None, clock: Callable[[], float] = time.time
) -> Picture:
    """Ask for all that a picture shows: six requests, more only for more than 500 queues.

    ``vhost`` None is every virtual host that the user may see. Raise what
    :class:`~rmqbench.management.client.Management` raises.
    """
    version = read_version(management.overview())
    queues = read_queues(management.queues(vhost))
    consumers = read_consumers(management.consumers(vhost))
    connections = read_connections(management.connections(vhost))
    nodes = alarms = None
    with suppress(AccessRefused):  # they need the tag 'monitoring'
        nodes = read_nodes(management.nodes())
    with suppress(AccessRefused, BrokerError):  # the nodes' own flags show them a little later
        alarms = read_alarms(management.alarms())
    return make_picture(
        clock(),
        version,
        queues=queues,
        connections=connections,
        consumers=consumers,
        nodes=nodes,
        alarms=alarms,
    )


class Source:
    """Fetches in a daemon thread, so that nothing waits for a broker that does not answer.

    One fetch runs at a time; one that is still running at the end is not waited for.
    """

    def __init__(self, fetch: Callable[[], Picture]) -> None:
        self._fetch = fetch
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Picture | Exception] = queue.SimpleQueue()
        self.busy = False
        threading.Thread(target=self._run, name="rmqbench monitor", daemon=True).start()

    def ask(self) -> None:
        """Start to fetch a picture, unless a fetch is running."""
        if not self.busy:
            self.busy = True
            self._wanted.put(True)

    def take(self) -> Picture | Exception | None:
        """Return the picture that was fetched, or the error; None if there is nothing new."""
        try:
            result = self._results.get_nowait()
        except queue.Empty:
            return None
        self.busy = False
        return result

    def close(self) -> None:
        """End the thread after the fetch that is running."""
        self._wanted.put(False)

    def _run(self) -> None:
        while self._wanted.get():
            try:
                self._results.put(self._fetch())
            except Exception as error:  # whoever takes it decides
                self._results.put(error)
