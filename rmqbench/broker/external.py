"""Brokers that are not ours: find out quickly, and in plain words, whether one lets us in."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from rmqbench.amqp.connection import Connection
from rmqbench.endpoint import Endpoint

__all__ = ["probe"]


def probe(endpoint: Endpoint, timeout_s: float = 5.0) -> str:
    """Log in and out once by AMQP, and return the broker's version.

    ``timeout_s`` limits the attempt on each address of the host, and about 1 s more all of them.
    Raises AccessRefused (user, password, virtual host, permission), UsageError or BrokerUnavailable
    (everything else), as :func:`rmqbench.amqp.diagnosis.diagnose` explains it.
    """
    connection = Connection(
        endpoint, name="rmqbench probe", vector=False, connect_timeout_s=timeout_s
    )
    with _silent_pika():
        connection.open(timeout_s + 1.0)
        try:
            return connection.server_version
        finally:
            connection.close()


@contextlib.contextmanager
def _silent_pika() -> Iterator[None]:
    """Keep pika from logging what is about to be raised as one of our errors."""
    logger = logging.getLogger("pika")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
