"""Waiting with a limit: for a condition, and for a node to be ready."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from rmqbench.broker.external import probe
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, BrokerUnavailable, DeadlineExceeded, RmqbenchError
from rmqbench.management.client import Management

__all__ = ["wait_until", "wait_until_ready"]


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    what: str,
    *,
    every_s: float = 0.05,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until a condition holds.

    ``what`` completes "waited 5 s for …". The condition is tried at least once, and once more when
    the time is over. Raises DeadlineExceeded.
    """
    end = clock() + timeout_s
    while not condition():
        left = end - clock()
        if left <= 0:
            raise DeadlineExceeded(f"Waited {timeout_s:g} s for {what}, in vain.")
        sleep(min(every_s, left))


def wait_until_ready(
    endpoint: Endpoint, require_alive: Callable[[], None], timeout_s: float, what: str
) -> str:
    """Wait until a node lets us in by AMQP and its Management API answers; give its version.

    ``require_alive`` is called between attempts and raises as soon as the node is known to have
    ended, so that a node that fails to start is not waited for. Raises DeadlineExceeded with the
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
        # Whatever it is, a starting node may do it for a while: listen before its user exists,
        # answer by 500 before the Management API has started.
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
    """Say whether the port takes connections: cheaper than an AMQP client, and silent."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=2.0):
            return True
    except OSError:
        return False
