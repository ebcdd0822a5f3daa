"""Where pictures come from: the Management API, asked in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from rmqbench.errors import AccessRefused, BrokerError
from rmqbench.management.client import Management
from rmqbench.monitor.model import Answers, Picture, make_picture

__all__ = ["Source", "ask"]


def ask(
    management: Management, vhost: str | None, clock: Callable[[], float] = time.time
) -> Picture:
    """Ask for all that a picture shows: a handful of requests, however many queues there are.

    ``vhost`` None is every virtual host that the user may see. Raises what Management raises.
    """
    overview = management.overview()
    queues = management.queues(vhost)
    consumers = management.consumers(vhost)
    connections = management.connections(vhost)
    nodes = alarms = None
    with suppress(AccessRefused):  # they need the tag 'monitoring'
        nodes = management.nodes()
    with suppress(AccessRefused, BrokerError):  # the nodes tell theirs, too, a little later
        alarms = management.alarms()
    answers = Answers(overview, queues, connections, consumers, nodes, alarms)
    return make_picture(answers, clock())


class Source:
    """Fetches in a daemon thread, so that nobody waits for a broker that does not answer.

    One fetch at a time; nobody waits for one that is under way at the end.
    """

    def __init__(self, fetch: Callable[[], Picture]) -> None:
        self._fetch = fetch
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Picture | Exception] = queue.SimpleQueue()
        self.busy = False
        threading.Thread(target=self._run, name="rmqbench dashboard", daemon=True).start()

    def ask(self) -> None:
        """Begin to fetch a picture, unless that is under way."""
        if not self.busy:
            self.busy = True
            self._wanted.put(True)

    def take(self) -> Picture | Exception | None:
        """Give what came in, a picture or the error instead; None where nothing did."""
        try:
            result = self._results.get_nowait()
        except queue.Empty:
            return None
        self.busy = False
        return result

    def close(self) -> None:
        """Let the thread end, when it is done with what it does."""
        self._wanted.put(False)

    def _run(self) -> None:
        while self._wanted.get():
            try:
                self._results.put(self._fetch())
            except Exception as error:  # who takes it decides
                self._results.put(error)
