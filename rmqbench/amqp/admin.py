"""The administrative connection: short-lived, for a few operations, with a limit on them all.

What is touched inside of pika, and why: ``_impl`` of a ``BlockingConnection`` (its loop runs timers
while the connection waits), and ``_terminate_stream`` and ``_cleanup`` (to end at once).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import pika
import pika.exceptions

from rmqbench.amqp.diagnosis import channel_error, diagnose
from rmqbench.amqp.parameters import pika_parameters
from rmqbench.endpoint import Endpoint
from rmqbench.errors import DeadlineExceeded, RmqbenchError

__all__ = ["admin"]


@contextlib.contextmanager
def admin(
    endpoint: Endpoint, *, name: str = "rmqbench topology", timeout_s: float = 10.0
) -> Iterator[Any]:
    """Open a connection for a few administrative operations, and yield a ``BlockingChannel``.

    ``timeout_s`` limits the connecting, and then everything that is done inside. DeadlineExceeded
    is raised where the broker keeps the connection but does not answer, as for a quorum queue
    without a majority. pika's errors become those that :func:`rmqbench.amqp.diagnosis.diagnose`
    and :func:`rmqbench.amqp.diagnosis.channel_error` make of them.
    """
    parameters = pika_parameters(
        endpoint,
        connection_name=name,
        connect_timeout_s=timeout_s,
        blocked_timeout_s=timeout_s,
        heartbeat_s=max(2, round(timeout_s)),
    )
    try:
        connection = pika.BlockingConnection(parameters)
    except Exception as error:
        raise diagnose(error, endpoint) from error
    try:
        _limit(connection, timeout_s, endpoint)
        yield connection.channel()
    except pika.exceptions.AMQPError as error:
        raise channel_error(error, endpoint) from error
    finally:
        _close(connection, endpoint)


def _limit(connection: Any, timeout_s: float, endpoint: Endpoint) -> None:
    """Raise DeadlineExceeded from the I/O loop when time is up.

    BlockingConnection waits for an answer without a limit, and runs its own timers only from
    ``process_data_events``; those of its I/O loop run while it waits.
    """

    def give_up() -> NoReturn:
        raise DeadlineExceeded(
            f"The broker at {endpoint.address} did not answer within {timeout_s:g} s.",
            "It keeps the connection open: see its log. A quorum queue without a majority of its "
            "members does not answer.",
        )

    connection._impl.ioloop.call_later(timeout_s, give_up)


def _close(connection: Any, endpoint: Endpoint) -> None:
    """Close cleanly within a second, or else drop the socket."""
    if not connection.is_open:
        return
    try:
        _limit(connection, 1.0, endpoint)
        connection.close()
    except (pika.exceptions.AMQPError, RmqbenchError, OSError):
        _drop(connection)


def _drop(connection: Any) -> None:
    """Close the socket at once: pika does so from its loop, within one or two turns."""
    loop, impl = connection._impl.ioloop, connection._impl
    if not impl.is_closed:
        impl._terminate_stream(pika.exceptions.AMQPConnectionError("given up"))
        for _ in range(5):
            if impl.is_closed:
                break
            loop.call_later(0, lambda: None)  # so that the poll returns at once
            loop.poll()
            loop.process_timeouts()
    connection._cleanup()
