"""How rmqbench connects: the parameters of one bounded attempt by pika."""

from __future__ import annotations

import ssl
from typing import Any

import pika

from rmqbench.endpoint import Endpoint

__all__ = ["pika_parameters"]


def pika_parameters(
    endpoint: Endpoint,
    *,
    connection_name: str,
    heartbeat_s: int = 30,
    connect_timeout_s: float = 10.0,
    blocked_timeout_s: float = 60.0,
    **more: Any,
) -> Any:
    """Return the ``pika.ConnectionParameters`` of one bounded attempt to connect.

    ``connect_timeout_s`` limits everything up to the open connection, for each address of the host.
    ``blocked_timeout_s`` ends a connection that an alarm of the broker keeps blocked; pika's
    default is to wait for ever. ``connection_name`` is shown by the Management API.

    With TLS, the broker's certificate and host name are verified against the system's authorities
    (``SSL_CERT_FILE`` adds one of your own). ``more`` is passed to ``pika.ConnectionParameters`` as
    it is.
    """
    tls = None
    if endpoint.tls:
        tls = pika.SSLOptions(ssl.create_default_context(), server_hostname=endpoint.host)
    settings: dict[str, Any] = {
        "host": endpoint.host,
        "port": endpoint.port,
        "virtual_host": endpoint.virtual_host,
        "credentials": pika.PlainCredentials(endpoint.username, endpoint.password),
        "ssl_options": tls,
        "heartbeat": heartbeat_s,
        "connection_attempts": 1,
        "socket_timeout": connect_timeout_s,
        "stack_timeout": connect_timeout_s,
        "blocked_connection_timeout": blocked_timeout_s,
        "client_properties": {"connection_name": connection_name},
    }
    return pika.ConnectionParameters(**(settings | more))
