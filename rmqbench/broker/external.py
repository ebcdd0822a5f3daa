"""Brokers that are not ours: tell quickly, and in plain words, whether one lets us in."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pika
import pika.exceptions

from rmqbench.amqp.diagnosis import connect_error, pika_parameters
from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, BrokerUnavailable, RmqbenchError

__all__ = ["probe"]

_AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"
_TLS_ALERT = b"\x15"


def probe(endpoint: Endpoint, timeout_s: float = 5.0) -> str:
    """Log in and out once by AMQP, and give the broker's version.

    Takes no more than about twice ``timeout_s``. Raises AccessRefused (user, password, virtual
    host, permission) or BrokerUnavailable (everything else), both naming what was refused.
    """
    version: str | None = None
    failure: BaseException | None = None

    # SelectConnection and not BlockingConnection: only it shows the server's properties.
    def opened(connection: Any) -> None:
        nonlocal version
        version = _text((connection.server_properties or {}).get("version", "unknown"))
        connection.close()

    def ended(connection: Any, error: BaseException) -> None:
        nonlocal failure
        failure = error
        connection.ioloop.stop()

    with _silent_pika():
        try:
            connection = pika.SelectConnection(
                pika_parameters(
                    endpoint, connection_name="rmqbench probe", connect_timeout_s=timeout_s
                ),
                on_open_callback=opened,
                on_open_error_callback=ended,
                on_close_callback=ended,
            )
        except (OSError, pika.exceptions.AMQPError) as error:
            raise _explained(error, endpoint, timeout_s) from error
        try:
            connection.ioloop.call_later(timeout_s + 1.0, connection.ioloop.stop)
            connection.ioloop.start()
        finally:
            connection.ioloop.close()
    if version is None:
        raise _explained(failure, endpoint, timeout_s) from failure
    return version


def _explained(error: BaseException | None, endpoint: Endpoint, timeout_s: float) -> RmqbenchError:
    """Say why nobody was let in: the refusal, or what it is that listens there."""
    if error is None:
        error = TimeoutError(f"no answer within {timeout_s:g} s")
    known = connect_error(error, endpoint)
    if isinstance(known, AccessRefused):
        return known
    # pika wraps the rest so deeply that asking the socket ourselves is clearer and surer.
    return _diagnose(endpoint, timeout_s) or known


def _diagnose(  # noqa: PLR0911  one return for each thing that can be there
    endpoint: Endpoint, timeout_s: float
) -> BrokerUnavailable | None:
    """Say what is at that address, by a bare socket; None if it looks like a broker."""
    place = endpoint.address
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout_s) as plain:
            return _diagnose_answer(plain, endpoint)
    except socket.gaierror as error:
        return BrokerUnavailable(
            f"The host name {endpoint.host!r} cannot be resolved ({error.strerror}).",
            "Check its spelling and the name service.",
        )
    except ConnectionRefusedError:
        return BrokerUnavailable(
            f"Nothing listens at {place}: the connection was refused.",
            "Start RabbitMQ there, or check host and port (AMQP 5672, with TLS 5671).",
        )
    except TimeoutError:
        return BrokerUnavailable(
            f"No answer from {place} within {timeout_s:g} s.",
            "Check host and port, and the firewalls between here and there.",
        )
    except ssl.SSLCertVerificationError as error:
        return BrokerUnavailable(
            f"The certificate of the broker at {place} is not trusted: {error.verify_message}.",
            "Let the environment variable SSL_CERT_FILE name its authority's certificate.",
        )
    except ssl.SSLError as error:
        return BrokerUnavailable(
            f"No TLS connection with {place}: {error.reason or error}.",
            "Write amqp:// if the port is the one without TLS; RabbitMQ's TLS port is 5671.",
        )
    except OSError as error:
        return BrokerUnavailable(
            f"{place} cannot be reached: {error.strerror or error}.", "Check host and port."
        )


def _diagnose_answer(  # noqa: PLR0911  one return for each kind of answer
    plain: socket.socket, endpoint: Endpoint
) -> BrokerUnavailable | None:
    place = endpoint.address
    with contextlib.ExitStack() as stack:
        channel = plain
        if endpoint.tls:
            context = ssl.create_default_context()
            channel = stack.enter_context(context.wrap_socket(plain, server_hostname=endpoint.host))
        # pika has waited long enough before: what has something to say says it soon.
        channel.settimeout(2.0)
        try:
            channel.sendall(_AMQP_0_9_1)
            answer = channel.recv(16)
        except TimeoutError:
            answer = None
        except OSError:
            answer = b""
    if not answer and not endpoint.tls and _speaks_http(endpoint):
        answer = b"HTTP"  # it waits for the end of what it takes for a line
    if answer is None:
        return BrokerUnavailable(
            f"What listens at {place} says nothing to an AMQP client.",
            "Check host and port; if it is RabbitMQ's TLS port, write amqps://.",
        )
    if answer.startswith(_METHOD_FRAME):
        return None
    if answer.startswith(b"HTTP"):
        return BrokerUnavailable(
            f"A web server listens at {place}, not an AMQP broker.",
            "Name the AMQP port (5672, with TLS 5671), not the Management API's (15672).",
        )
    if answer.startswith(_TLS_ALERT):
        return BrokerUnavailable(f"{place} expects TLS.", "Write amqps:// instead of amqp://.")
    if answer.startswith(b"AMQP"):
        return BrokerUnavailable(
            f"The broker at {place} does not speak AMQP 0-9-1.",
            "Name a RabbitMQ port that does.",
        )
    if not answer:
        return BrokerUnavailable(
            f"{place} takes the connection and closes it at once.",
            "Check host and port; a broker that is starting, or a proxy without one, does this.",
        )
    return BrokerUnavailable(
        f"What listens at {place} is no AMQP broker (it answers {answer!r}).",
        "Check host and port.",
    )


def _speaks_http(endpoint: Endpoint) -> bool:
    try:
        with socket.create_connection((endpoint.host, endpoint.port), 2.0) as plain:
            plain.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return plain.recv(4) == b"HTTP"
    except OSError:
        return False


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


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
