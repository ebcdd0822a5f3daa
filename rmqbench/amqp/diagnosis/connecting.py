"""Why a connection could not be opened.

pika's error alone explains most failures (:func:`connect_error`). Where it only says that the peer
was silent or closed the connection, a bare socket finds out what listens there (:func:`diagnose`).
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator

import pika.exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
    AMQPConnectorStackTimeout,
)

from rmqbench.amqp.diagnosis.words import brief, without_code
from rmqbench.amqp.framing import METHOD, PROTOCOL_HEADER
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerUnavailable,
    DeadlineExceeded,
    RmqbenchError,
    UsageError,
)

__all__ = ["connect_error", "diagnose", "is_early_end"]

_LOOK_S = 2.0  # pika has waited before: a peer that has something to say says it soon
_TLS_ALERT = b"\x15"
_PORTS = "AMQP 5672, with TLS 5671"


def connect_error(error: BaseException, endpoint: Endpoint) -> RmqbenchError:
    """Return why a connection could not be opened, as far as its error says it.

    ``error`` is what ``pika.BlockingConnection`` raised, what ``SelectConnection`` gave its
    ``on_open_error_callback`` (the two wrap the same cause differently), an OSError of a socket, or
    DeadlineExceeded. The result is AccessRefused where a broker refused the user or virtual host,
    UsageError where AMQP cannot carry a name, otherwise BrokerUnavailable. Another RmqbenchError is
    returned as it is.
    """
    return _certain(error, endpoint) or _uncertain(error, endpoint)


def diagnose(error: BaseException, endpoint: Endpoint) -> RmqbenchError:
    """Return what :func:`connect_error` does; where that is little, look what listens there.

    The look opens up to two connections and takes at most about 6 s, and usually milliseconds.
    """
    return _certain(error, endpoint) or _look(endpoint) or _uncertain(error, endpoint)


def _certain(error: BaseException, endpoint: Endpoint) -> RmqbenchError | None:
    """Explain an error that says enough."""
    if isinstance(error, RmqbenchError) and not isinstance(error, DeadlineExceeded):
        return error
    causes = list(_causes(error))
    text = " ".join(str(cause) for cause in causes)
    # A host may have several addresses, one of which took the connection.
    unreachable = [_unreachable(attempt, endpoint) for attempt in _attempts(causes)]
    return (
        _refusal(causes, text, endpoint)
        or _tls_failure(causes, endpoint)
        or (unreachable[-1] if all(unreachable) else None)
    )


def _uncertain(error: BaseException, endpoint: Endpoint) -> BrokerUnavailable:
    """Explain an error that says only how the attempt ended."""
    causes = list(_causes(error))
    late = (AMQPConnectorStackTimeout, DeadlineExceeded)
    if any(isinstance(c, late) or "Timeout while setting up AMQP" in str(c) for c in causes):
        return BrokerUnavailable(
            f"{endpoint.address} did not complete the AMQP handshake in time.",
            f"Check host and port ({_PORTS}), and the broker's log.",
        )
    if _is_hang_up(causes):
        return _hung_up(endpoint)
    last = causes[-1]
    kind = "" if isinstance(last, pika.exceptions.AMQPError) else f"{type(last).__name__}: "
    return BrokerUnavailable(
        f"No AMQP connection to {endpoint.address}: {kind}{brief(last)}.",
        f"Check host and port ({_PORTS}), and the broker's log.",
    )


# --- what the error says -----------------------------------------------------------------------


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Unwrap pika's nesting: the innermost causes come last.

    A refused port arrives as AMQPConnectionError((AMQPConnectorSocketConnectError,)) from a
    BlockingConnection and as AMQPConnectionError((AMQPConnectionWorkflowFailed,)) from a
    SelectConnection; an unknown host as a bare gaierror or AMQPConnectionWorkflowFailed.
    """
    yield error
    inner: list[BaseException] = []
    if isinstance(error, AMQPConnectionWorkflowFailed):
        inner += error.exceptions
    if isinstance(error, AMQPConnectorPhaseErrorBase):
        inner.append(error.exception)
    inner += [each for each in error.args if isinstance(each, BaseException)]
    for each in inner:
        yield from _causes(each)


def _attempts(causes: list[BaseException]) -> list[list[BaseException]]:
    """Return the causes of each attempt, one for each address of the host where pika has them."""
    for cause in causes:
        if isinstance(cause, AMQPConnectionWorkflowFailed) and cause.exceptions:
            return [list(_causes(each)) for each in cause.exceptions]
    return [causes]


def _refusal(  # noqa: PLR0911  one return for each kind of refusal
    causes: list[BaseException], text: str, endpoint: Endpoint
) -> RmqbenchError | None:
    """Explain the refusal of a broker that answered."""
    user = endpoint.username
    # pika 1.4.4 turns the broker's 403 and 530 into its Probable… errors whose only argument is the
    # repr of the original: the code has to be read from the text.
    if "(530)" in text or any(getattr(c, "reply_code", 0) == 530 for c in causes):
        return _virtual_host_refusal(text, endpoint)
    too_long = pika.exceptions.ShortStringTooLong
    if too_long.__name__ in text or any(isinstance(c, too_long) for c in causes):
        return UsageError(
            f"The virtual host {endpoint.virtual_host!r} is too long for AMQP.",
            "A name has at most 255 bytes.",
        )
    probable = (
        pika.exceptions.ProbableAuthenticationError,
        pika.exceptions.ProbableAccessDeniedError,
    )
    forced = "StreamLostError" in text or "(320)" in text  # 320 CONNECTION_FORCED: an operator
    if forced and any(isinstance(c, probable) for c in causes):
        return BrokerUnavailable(  # pika takes every end at this stage for a refusal
            f"The broker at {endpoint.address} closed the connection during the login.",
            "See the broker's log. A broker that is stopping does this.",
        )
    if any(isinstance(c, pika.exceptions.ProbableAuthenticationError) for c in causes) or any(
        getattr(c, "reply_code", 0) == 403 for c in causes
    ):
        local_only = (
            " RabbitMQ accepts the user 'guest' from its own host only: create another user."
            if user == "guest"
            else ""
        )
        return AccessRefused(
            f"The broker at {endpoint.address} refused the login of user {user!r}.",
            f"Check user name and password.{local_only}",
        )
    if any(isinstance(c, pika.exceptions.AuthenticationError) for c in causes):
        return AccessRefused(
            f"The broker at {endpoint.address} does not accept a login by password (PLAIN).",
            "Allow the mechanism PLAIN in its setting auth_mechanisms.",
        )
    if any(isinstance(c, pika.exceptions.ProbableAccessDeniedError) for c in causes):
        return _virtual_host_refusal(text, endpoint)
    return None


def _virtual_host_refusal(text: str, endpoint: Endpoint) -> AccessRefused:
    user, address, vhost = endpoint.username, endpoint.address, endpoint.virtual_host
    if re.search(r"vhost \S+ not found|vhost '.*?' not found", text):
        return AccessRefused(
            f"The broker at {address} has no virtual host {vhost!r}.",
            f"Use another one, or create it: rabbitmqctl add_vhost {vhost}",
        )
    if "limit (" in text:
        return AccessRefused(
            f"The broker at {address} accepts no more connections of user {user!r} to virtual host "
            f"{vhost!r}: {without_code(text)}.",
            "Close other connections, or raise the limit.",
        )
    if "is down" in text:
        return AccessRefused(
            f"Virtual host {vhost!r} of the broker at {address} is down.",
            "See the broker's log, then: rabbitmqctl restart_vhost",
        )
    return AccessRefused(
        f"The broker at {address} refuses user {user!r} access to virtual host {vhost!r}.",
        f"Grant it: rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'",
    )


def _tls_failure(causes: list[BaseException], endpoint: Endpoint) -> BrokerUnavailable | None:
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return BrokerUnavailable(
                f"The certificate of the broker at {endpoint.address} cannot be verified: "
                f"{cause.verify_message}.",
                "Connect by a name in the certificate; for an authority of your own, set "
                "SSL_CERT_FILE to its certificate.",
            )
        lost = isinstance(cause, ConnectionError) and not isinstance(cause, ConnectionRefusedError)
        if isinstance(cause, ssl.SSLError) or (endpoint.tls and lost):
            reason = str(getattr(cause, "reason", None) or _reason(cause))
            return BrokerUnavailable(
                f"No TLS connection to {endpoint.address}: {reason}.",
                "Is this the broker's TLS port (5671 by default)? Without TLS, write amqp://.",
            )
    return None


def _unreachable(causes: list[BaseException], endpoint: Endpoint) -> BrokerUnavailable | None:
    """Explain why no TCP connection was made; None if one was, or if it is not known."""
    for cause in causes:
        match cause:
            case UnicodeError() if "idna" in str(cause):  # the codec that encodes host names
                reason = str(cause).rpartition(": ")[2].rstrip(")")
                return BrokerUnavailable(
                    f"{endpoint.host!r} is not a host name: {reason}.",
                    "Check its spelling. Each label between dots has 1 to 63 characters.",
                )
            case socket.gaierror():
                return BrokerUnavailable(
                    f"The host name {endpoint.host!r} cannot be resolved: {_reason(cause)}.",
                    "Check its spelling, and the name service.",
                )
            case ConnectionRefusedError():
                return BrokerUnavailable(
                    f"Nothing listens at {endpoint.address}: the connection was refused.",
                    f"Start RabbitMQ there, or check host and port ({_PORTS}).",
                )
            case TimeoutError():
                return BrokerUnavailable(
                    f"{endpoint.address} did not answer in time.",
                    "Check host and port, and the firewalls between here and there.",
                )
            case OSError() if not isinstance(cause, ConnectionError):
                return BrokerUnavailable(
                    f"{endpoint.address} cannot be reached: {_reason(cause)}.",
                    "Check host and port, and the network.",
                )
    return None


def _is_hang_up(causes: list[BaseException]) -> bool:
    hung_up = (pika.exceptions.IncompatibleProtocolError, ConnectionError)
    return any(isinstance(cause, hung_up) or is_early_end(cause) for cause in causes)


def is_early_end(error: BaseException) -> bool:
    """Whether pika raised this because the peer closed the connection before pika looked at it."""
    return isinstance(error, ValueError) and isinstance(error.__context__, OSError)


def _hung_up(endpoint: Endpoint) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"{endpoint.address} closed the connection without an AMQP greeting.",
        f"Check host and port ({_PORTS}). A broker that is starting, or a proxy without a broker, "
        "does this.",
    )


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or brief(error)


# --- what listens there ------------------------------------------------------------------------


def _look(endpoint: Endpoint) -> RmqbenchError | None:
    """Return what prevents AMQP there, by a bare socket; None if a broker seems to listen."""
    try:
        answer = _greet(endpoint)
    except (OSError, UnicodeError) as error:
        return connect_error(error, endpoint)
    if not answer and not endpoint.tls and _speaks_http(endpoint):
        answer = b"HTTP"  # it waits for the end of what it takes for a line
    if answer is None:
        return BrokerUnavailable(
            f"What listens at {endpoint.address} did not answer an AMQP client in time.",
            "Check host and port; if it is RabbitMQ's TLS port, write amqps://.",
        )
    if not answer:
        return _hung_up(endpoint)
    return None if answer[0] == METHOD else _stranger(answer, endpoint)


def _stranger(answer: bytes, endpoint: Endpoint) -> BrokerUnavailable:
    """Return what it is that answers something else than AMQP 0-9-1."""
    if answer.startswith(b"HTTP"):
        return BrokerUnavailable(
            f"A web server listens at {endpoint.address}, not an AMQP broker.",
            "Name the AMQP port (5672, with TLS 5671), not the Management API's (15672).",
        )
    if answer.startswith(_TLS_ALERT):
        return BrokerUnavailable(
            f"{endpoint.address} expects TLS.", "Write amqps:// instead of amqp://."
        )
    if answer.startswith(PROTOCOL_HEADER[:4]):
        return BrokerUnavailable(
            f"The broker at {endpoint.address} does not speak AMQP 0-9-1.",
            "Use a port of RabbitMQ that does.",
        )
    return BrokerUnavailable(
        f"What listens at {endpoint.address} is not an AMQP broker (it answers {answer!r}).",
        f"Check host and port ({_PORTS}).",
    )


def _greet(endpoint: Endpoint) -> bytes | None:
    """Return the first bytes of the answer to an AMQP client; None if none come in time."""
    with contextlib.ExitStack() as stack:
        address = (endpoint.host, endpoint.port)
        channel = stack.enter_context(socket.create_connection(address, _LOOK_S))
        if endpoint.tls:
            context = ssl.create_default_context()
            wrapped = context.wrap_socket(channel, server_hostname=endpoint.host)
            channel = stack.enter_context(wrapped)
        try:
            channel.sendall(PROTOCOL_HEADER)
            return channel.recv(16)
        except TimeoutError:
            return None
        except OSError:
            return b""


def _speaks_http(endpoint: Endpoint) -> bool:
    try:
        address = (endpoint.host, endpoint.port)
        with socket.create_connection(address, _LOOK_S) as plain:
            plain.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return plain.recv(4) == b"HTTP"
    except OSError:
        return False
