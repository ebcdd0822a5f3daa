"""How rmqbench connects with pika, and what pika's exceptions mean to a person.

This is the one place where connection parameters are made and where pika's exceptions become
rmqbench's own (:mod:`rmqbench.errors`). No message ever holds a password.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
    AMQPConnectorStackTimeout,
)

from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    BrokerUnavailable,
    ConnectionLost,
    QueueLocked,
    QueueMismatch,
    QueueNotEmpty,
    QueueNotFound,
    RmqbenchError,
    UsageError,
)

__all__ = ["channel_error", "connect_error", "pika_parameters"]


def pika_parameters(
    endpoint: Endpoint,
    *,
    connection_name: str,
    heartbeat_s: int = 30,
    connect_timeout_s: float = 10.0,
    blocked_timeout_s: float = 60.0,
    tls_context: ssl.SSLContext | None = None,
    **more: Any,
) -> Any:
    """Make the ``pika.ConnectionParameters`` of one bounded attempt to connect.

    ``connect_timeout_s`` limits everything up to the open connection, for each address of the host.
    ``blocked_timeout_s`` ends a connection that an alarm of the broker keeps blocked; pika's
    default is to wait for ever. ``connection_name`` is shown by the Management API.

    With TLS the broker's certificate and host name are verified against the system's authorities
    (``SSL_CERT_FILE`` adds one of your own) unless ``tls_context`` says otherwise. ``more`` goes
    to ``pika.ConnectionParameters`` as it is.
    """
    tls = None
    if endpoint.tls:
        context = tls_context or ssl.create_default_context()
        tls = pika.SSLOptions(context, server_hostname=endpoint.host)
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


def connect_error(error: BaseException, endpoint: Endpoint) -> RmqbenchError:
    """Say why a connection could not be opened.

    ``error`` is what ``pika.BlockingConnection`` raised or what ``SelectConnection`` gave its
    ``on_open_error_callback``; the two wrap the same cause differently. The result is
    AccessRefused when a broker answered and refused the user or virtual host, otherwise
    BrokerUnavailable. An RmqbenchError comes back as it is.
    """
    if isinstance(error, RmqbenchError):
        return error
    causes = list(_causes(error))
    text = " ".join(str(cause) for cause in causes)
    return (
        _refusal(causes, text, endpoint)
        or _tls_failure(causes, endpoint)
        or _unreachable(causes, text, endpoint)
    )


def channel_error(error: BaseException, endpoint: Endpoint) -> RmqbenchError:
    """Say why an open channel or connection ended, or an operation on it failed.

    By AMQP reply code (AMQP 0-9-1 specification, section 1.2): 403 AccessRefused (UsageError for a
    reserved name, QueueLocked for an exclusive consumer), 404 QueueNotFound, 405 QueueLocked, 406
    QueueMismatch, QueueNotEmpty or another BrokerError. Without a code: ConnectionLost. An
    RmqbenchError comes back as it is.
    """
    if isinstance(error, RmqbenchError):
        return error
    if not isinstance(
        error, pika.exceptions.ChannelClosedByBroker | pika.exceptions.ConnectionClosedByBroker
    ):
        return _ended(error, endpoint)
    code, text = error.reply_code, str(error.reply_text)
    explain = _BY_CODE.get(code)
    if explain is not None:
        return explain(text, endpoint)
    if "is deprecated" in text:
        return BrokerError(
            f"The broker at {_place(endpoint)} does not permit a deprecated feature: "
            f"{_said(text.splitlines()[0])}.",
            "Declare the queue durable, or permit the feature in the broker's configuration.",
        )
    look = "See what its log says at this time."
    if isinstance(error, pika.exceptions.ConnectionClosedByBroker):
        place = _place(endpoint)
        return ConnectionLost(f"The broker at {place} closed the connection ({code} {text}).", look)
    return BrokerError(f"The broker at {_place(endpoint)} refused it ({code} {text}).", look)


# --- connecting --------------------------------------------------------------------------------


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


def _refusal(causes: list[BaseException], text: str, endpoint: Endpoint) -> RmqbenchError | None:
    user, place = endpoint.username, _place(endpoint)
    # pika 1.4.4 turns the broker's 403 and 530 into its Probable… errors whose only argument is the
    # repr of the original: the code has to be read from the text.
    if "(530)" in text or any(getattr(c, "reply_code", 0) == 530 for c in causes):
        return _virtual_host_refusal(text, endpoint)
    if any(isinstance(c, pika.exceptions.ProbableAuthenticationError) for c in causes) or any(
        getattr(c, "reply_code", 0) == 403 for c in causes
    ):
        local_only = (
            " RabbitMQ lets the user 'guest' in from its own host only: make a user of your own."
            if user == "guest"
            else ""
        )
        return AccessRefused(
            f"The broker at {place} refused the login of user {user!r}.",
            f"Check user name and password.{local_only}",
        )
    if any(isinstance(c, pika.exceptions.AuthenticationError) for c in causes):
        return AccessRefused(
            f"The broker at {place} does not accept a login with a password (mechanism PLAIN).",
            "Allow PLAIN in its setting auth_mechanisms.",
        )
    if any(isinstance(c, pika.exceptions.ProbableAccessDeniedError) for c in causes):
        return _virtual_host_refusal(text, endpoint)
    return None


def _virtual_host_refusal(text: str, endpoint: Endpoint) -> AccessRefused:
    user, place, vhost = endpoint.username, _place(endpoint), endpoint.virtual_host
    if re.search(r"vhost \S+ not found|vhost '.*?' not found", text):
        return AccessRefused(
            f"The broker at {place} has no virtual host {vhost!r}.",
            f"Name another one, or make it: rabbitmqctl add_vhost {vhost}",
        )
    if "limit (" in text:
        return AccessRefused(
            f"The broker at {place} takes no more connections of user {user!r} to virtual host "
            f"{vhost!r}: {_said(text)}.",
            "Close other connections, or raise the limit.",
        )
    if "is down" in text:
        return AccessRefused(
            f"Virtual host {vhost!r} of the broker at {place} is down.",
            "See the broker's log, then: rabbitmqctl restart_vhost",
        )
    return AccessRefused(
        f"The broker at {place} refuses user {user!r} access to virtual host {vhost!r}.",
        f"Grant it: rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'",
    )


def _tls_failure(causes: list[BaseException], endpoint: Endpoint) -> RmqbenchError | None:
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return BrokerUnavailable(
                f"The certificate of the broker at {_place(endpoint)} does not verify: "
                f"{cause.verify_message}.",
                "Connect by the name in the certificate; for an authority of your own let "
                "SSL_CERT_FILE name its certificate.",
            )
        if isinstance(cause, ssl.SSLError):
            reason = getattr(cause, "reason", None) or str(cause)
            return BrokerUnavailable(
                f"No TLS connection to {_place(endpoint)} came about ({reason}).",
                "Is this the broker's TLS port (5671 by default)? Without TLS write amqp://….",
            )
    return None


def _unreachable(causes: list[BaseException], text: str, endpoint: Endpoint) -> RmqbenchError:
    place = _place(endpoint)
    start = "Start a broker, or name one with --host, --port or --url."
    if any(isinstance(c, socket.gaierror) for c in causes):
        return BrokerUnavailable(
            f"The host name {endpoint.host!r} is not known.", "Check --host or --url."
        )
    if any(isinstance(c, ConnectionRefusedError) for c in causes):
        return BrokerUnavailable(f"No broker listens at {place} (connection refused).", start)
    timed_out = any(isinstance(c, AMQPConnectorStackTimeout | TimeoutError) for c in causes)
    if timed_out or "Timeout while setting up AMQP" in text:
        return BrokerUnavailable(
            f"{place} did not answer as a broker in time.",
            "Is this the AMQP port (5672, with TLS 5671; 15672 is the Management API), is the "
            "broker up, and does a firewall let you through?",
        )
    if any(isinstance(c, pika.exceptions.IncompatibleProtocolError) for c in causes):
        return BrokerUnavailable(
            f"{place} hung up before any greeting of AMQP 0-9-1.",
            "Is this the AMQP port (5672; with TLS, amqps:// and 5671), and is the broker ready? "
            "One that is still starting does this too.",
        )
    return BrokerUnavailable(
        f"No connection to the broker at {place} came about: {_brief(causes[-1])}.", start
    )


# --- channels ----------------------------------------------------------------------------------

# All seen on 3.10.8 and 4.3.6, for queues and exchanges alike:
#   inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'
#   … received the value 'lazy' of type 'longstr' but current is none
#   … received none but current is the value '10' of type 'signedint'
_VALUE = r"(?:(?:the value )?'(?P<{0}>.*?)'(?: of type '\w+')?|none)"
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>queue|exchange) '(?P<name>.*)' "
    r"in vhost '(?P<vhost>.*)': received "
    + _VALUE.format("ours")
    + r" but current is "
    + _VALUE.format("theirs")
    + r"$",
    re.DOTALL,
)
# The broker cuts its text off after 255 bytes: a long name may be its end, and pika gives bytes
# where the cut is within a character.
_NOT_FOUND = re.compile(r"NOT_FOUND - no (queue|exchange) '(.*?)(?:' in vhost '(.*)')?$", re.DOTALL)
_NO_PERMISSION = re.compile(
    r"(?:(?P<kind>configure|write|read) )?access to (?P<what>.+?) refused for user", re.DOTALL
)


def _ended(error: BaseException, endpoint: Endpoint) -> RmqbenchError:
    unsendable = (
        pika.exceptions.UnsupportedAMQPFieldException,
        pika.exceptions.InvalidFieldTypeException,
        pika.exceptions.ShortStringTooLong,
    )
    if isinstance(error, unsendable):
        return UsageError(
            f"An argument has a value that AMQP cannot carry: {error!r}.",
            "Use numbers, text, booleans, lists and tables of these.",
        )
    if isinstance(error, pika.exceptions.ConnectionBlockedTimeout):
        return ConnectionLost(
            f"The broker at {_place(endpoint)} blocked publishing for longer than allowed.",
            "It blocks when memory or disk space runs short: look for an alarm in its log, or "
            "with 'rabbitmq-diagnostics alarms'.",
        )
    return ConnectionLost(
        f"The connection to the broker at {_place(endpoint)} ended: {_brief(error)}.",
        "See whether the broker is still up and what its log says.",
    )


def _precondition_failed(text: str, endpoint: Endpoint) -> RmqbenchError:
    found = _INEQUIVALENT.search(text)
    if found:
        kind, name, argument = found["kind"], found["name"], found["argument"]
        ours, theirs = _value(found["ours"]), _value(found["theirs"])
        return QueueMismatch(
            f"The {kind} {name!r} in virtual host {found['vhost']!r} exists with another "
            f"{argument}: it has {theirs}, asked for was {ours}.",
            f"Delete the {kind} (rmqbench cleanup), use another name, or match its settings.",
        )
    if text.endswith("not empty"):
        return QueueNotEmpty(
            f"The broker kept a queue that still holds messages: {_said(text)}.",
            "Purge or consume it first.",
        )
    if "delivery acknowledgement" in text:
        return ConnectionLost(
            f"The broker closed a consumer's channel: {_said(text)}.",
            "Acknowledge sooner, prefetch less, or raise the broker's consumer_timeout.",
        )
    return BrokerError(
        f"The broker at {_place(endpoint)} refused it: {_said(text)}.",
        "Change what was asked for, or what is there.",
    )


def _not_found(text: str, endpoint: Endpoint) -> BrokerError:
    found = _NOT_FOUND.search(text)
    if not found:
        # A queue whose process or node is down is there all the same.
        return BrokerError(
            f"The broker at {_place(endpoint)} says: {_said(text)}.", "See its log at this time."
        )
    kind, name, vhost = found.groups()
    return QueueNotFound(
        f"There is no {kind} {name!r} in virtual host {vhost or endpoint.virtual_host!r} of the "
        f"broker at {_place(endpoint)}.",
        "Check the name and the virtual host; rmqbench produce makes its queues.",
    )


def _no_permission(text: str, endpoint: Endpoint) -> RmqbenchError:
    if "reserved prefix" in text:
        return UsageError(
            f"The broker keeps this name for itself: {_said(text)}.",
            "Choose a name that does not begin with 'amq.'.",
        )
    if "in exclusive use" in text:
        found = re.search(r"queue '(.*)' in vhost", text, re.DOTALL)
        name = f"Queue {found[1]!r}" if found else "A queue"
        return QueueLocked(
            f"{name} of the broker at {_place(endpoint)} has a consumer that shares it with nobody "
            "(exclusive), or others are there while it was to be shared with nobody.",
            "End that consumer, or use another queue.",
        )
    user, vhost = endpoint.username, endpoint.virtual_host
    found = _NO_PERMISSION.search(text)
    which = f"{found['kind']} " if found and found["kind"] else ""
    what = found["what"] if found else _said(text)
    return AccessRefused(
        f"User {user!r} has no {which}permission for {what}.",
        f"Grant it: rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*' "
        "(configure, write, read).",
    )


def _locked(text: str, endpoint: Endpoint) -> QueueLocked:
    found = re.search(r"locked queue '(.*?)' in vhost", text, re.DOTALL)
    name = f"Queue {found[1]!r}" if found else "A queue"
    return QueueLocked(
        f"{name} of the broker at {_place(endpoint)} is locked: it belongs to another connection, "
        "or was asked for as exclusive and is not.",
        "Use another name, or end the connection that owns it.",
    )


_BY_CODE: dict[int, Callable[[str, Endpoint], RmqbenchError]] = {
    403: _no_permission,
    404: _not_found,
    405: _locked,
    406: _precondition_failed,
}


def _value(text: str | None) -> str:
    return "none" if text is None else repr(text)


def _said(text: str) -> str:
    """Give the broker's own words without the name of the code in front and a full stop behind."""
    return re.sub(r"^[A-Z_]+ - ", "", text).rstrip(".")


def _brief(error: BaseException) -> str:
    return (str(error) or repr(error)).rstrip(".")


def _place(endpoint: Endpoint) -> str:
    return endpoint.address
