"""Brokers that are not ours: find out quickly, and in plain words, whether one lets us in."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from rmqbench.amqp.connection import Connection
from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, BrokerError, ManagementUnavailable, UsageError
from rmqbench.management.client import Management

__all__ = ["probe", "probe_both"]


def probe(endpoint: Endpoint, timeout_s: float = 5.0) -> str:
    """Log in and out once by AMQP, and return the broker's version.

    ``timeout_s`` limits the attempt on each address of the host, and about 1 s more all of them.
    Raise AccessRefused (user, password, virtual host, permission), UsageError or BrokerUnavailable
    (everything else), as :func:`rmqbench.amqp.diagnosis.diagnose` explains it.
    """
    with _logged_in(endpoint, timeout_s) as connection:
        return connection.server_version


def probe_both(endpoint: Endpoint, timeout_s: float = 5.0) -> str:
    """Do as :func:`probe` does, and see that the Management API, if any answers, is the broker's.

    Raise UsageError where it says that it is of another cluster.
    """
    with _logged_in(endpoint, timeout_s) as connection:
        version, cluster = connection.server_version, connection.cluster_name
    said = None
    # It is missed by who needs it: it may not be there, or not be for this user.
    with contextlib.suppress(ManagementUnavailable, BrokerError, AccessRefused):
        with Management(endpoint, timeout_s=timeout_s) as management:
            said = management.overview().get("cluster_name")
        if cluster and isinstance(said, str) and said != cluster:
            raise UsageError(
                f"The Management API at {management.url} is not that of the broker at "
                f"{endpoint.address}: it is of the cluster {said!r}, and the broker of "
                f"{cluster!r}.",
                "Name the broker's own with --management-url, for pytest "
                "--rmqbench-management-url.",
            )
    return version


@contextlib.contextmanager
def _logged_in(endpoint: Endpoint, timeout_s: float) -> Iterator[Connection]:
    connection = Connection(
        endpoint, name="rmqbench probe", vector=False, connect_timeout_s=timeout_s
    )
    with _silent_pika():
        connection.open(timeout_s + 1.0)
        try:
            yield connection
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
