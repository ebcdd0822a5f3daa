"""Start a node of our own: until it is ready, and once more where its ports were taken."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from rmqbench.broker.external import probe
from rmqbench.broker.reaper import Reaper
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, BrokerUnavailable, DeadlineExceeded, RmqbenchError
from rmqbench.management.client import Management
from rmqbench.waiting import wait_until

__all__ = ["PortsTaken", "running_node", "wait_until_ready"]

_ATTEMPTS = 3


class PortsTaken(BrokerUnavailable):
    """Another program took a port of the node after it was chosen and before the node had it."""


class _Startable(Protocol):
    def start(self) -> None:
        """Start, and wait until ready."""

    def close(self) -> None:
        """Remove the node and what is left of a start that failed or was interrupted."""


_Node = TypeVar("_Node", bound=_Startable)


@contextlib.contextmanager
def running_node(make: Callable[[Reaper], _Node]) -> Iterator[_Node]:
    """Run a node for as long as the context lasts; nothing of it is left afterwards.

    ``make`` makes a node with ports of its own. It is called again, twice at most, when the start
    raises PortsTaken; every other error is raised at once.
    """
    with (
        contextlib.closing(Reaper()) as reaper,
        contextlib.closing(_first_that_starts(make, reaper)) as node,
    ):
        yield node


def _first_that_starts(make: Callable[[Reaper], _Node], reaper: Reaper) -> _Node:
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(PortsTaken):
            return _started(make(reaper))
    return _started(make(reaper))


def _started(node: _Node) -> _Node:
    try:
        node.start()
    except BaseException:
        node.close()
        raise
    return node


def wait_until_ready(
    endpoint: Endpoint, require_alive: Callable[[], None], timeout_s: float, what: str
) -> str:
    """Wait until a node accepts AMQP logins and its Management API answers; return its version.

    ``require_alive`` is called between attempts and raises as soon as the node is known to have
    ended, so that a node that fails to start is not waited for. Raise DeadlineExceeded with the
    last reason.
    """
    version = ""
    reason: RmqbenchError | None = None

    def ready() -> bool:
        nonlocal version, reason
        require_alive()
        if not _listens(endpoint):
            return False
        try:
            version = probe(endpoint, timeout_s=5.0)
            with Management(endpoint) as management:
                management.overview()
        # A starting node may do any of this for a while: listen before its user exists, answer
        # with 500 before the Management API has started.
        except (BrokerUnavailable, BrokerError) as error:
            reason = error
            return False
        return True

    try:
        wait_until(ready, timeout_s, f"{what} to be ready", every_s=0.1)
    except DeadlineExceeded as error:
        last = f" The last attempt: {reason.what}" if reason else " Nothing ever listened."
        raise DeadlineExceeded(error.what + last) from reason
    return version


def _listens(endpoint: Endpoint) -> bool:
    """Whether the port takes connections: cheaper than an AMQP client, and nothing is logged."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=2.0):
            return True
    except OSError:
        return False
