"""Why an open channel or connection ended, or an operation on it failed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pika.exceptions

from rmqbench.amqp.diagnosis.words import brief, without_code
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    ConnectionLost,
    MessageTooLarge,
    QueueLocked,
    QueueMismatch,
    QueueNotEmpty,
    QueueNotFound,
    RmqbenchError,
    UsageError,
)

__all__ = ["channel_error"]

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
# The broker cuts its text off after 255 bytes: it may end within a long name, and pika returns
# bytes if it ends within a character.
_NOT_FOUND = re.compile(r"NOT_FOUND - no (queue|exchange) '(.*?)(?:' in vhost '(.*)')?$", re.DOTALL)
# rabbit_channel.erl; "configured" is missing where the limit is the largest that there is.
_TOO_LARGE = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")
_NO_PERMISSION = re.compile(
    r"(?:(?P<kind>configure|write|read) )?access to (?P<what>.+?) refused for user", re.DOTALL
)


def channel_error(error: BaseException, endpoint: Endpoint) -> RmqbenchError:
    """Return why an open channel or connection ended, or an operation on it failed.

    By AMQP reply code (AMQP 0-9-1 specification, section 1.2): 403 AccessRefused (UsageError for a
    reserved name, QueueLocked for an exclusive consumer), 404 QueueNotFound, 405 QueueLocked, 406
    QueueMismatch, QueueNotEmpty, MessageTooLarge or another BrokerError. Without a code: UsageError
    for a value that AMQP cannot carry, otherwise ConnectionLost. An RmqbenchError is returned as it
    is.
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
            f"The broker at {endpoint.address} does not permit a deprecated feature: "
            f"{without_code(text.splitlines()[0])}.",
            "Declare the queue durable, or permit the feature in the broker's configuration.",
        )
    see_log = "See its log at this time."
    if isinstance(error, pika.exceptions.ConnectionClosedByBroker):
        return ConnectionLost(
            f"The broker at {endpoint.address} closed the connection ({code} {text}).", see_log
        )
    return BrokerError(
        f"The broker at {endpoint.address} refused the operation ({code} {text}).", see_log
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
            f"The broker at {endpoint.address} blocked publishing for longer than allowed.",
            "It blocks when memory or disk space is low: look for an alarm in its log, or with "
            "'rabbitmq-diagnostics alarms'.",
        )
    return ConnectionLost(
        f"The connection to the broker at {endpoint.address} ended: {brief(error)}.",
        "Check that the broker is still up, and see its log.",
    )


def _precondition_failed(text: str, endpoint: Endpoint) -> RmqbenchError:
    found = _INEQUIVALENT.search(text)
    if found:
        kind, name, argument = found["kind"], found["name"], found["argument"]
        ours, theirs = _value(found["ours"]), _value(found["theirs"])
        return QueueMismatch(
            f"The {kind} {name!r} in virtual host {found['vhost']!r} exists with another "
            f"{argument}: it has {theirs}, and {ours} was requested.",
            f"Delete the {kind} (rmqbench cleanup), use another name, or match its settings.",
        )
    if found := _TOO_LARGE.search(text):
        size, most = (int(each) for each in found.groups())
        return MessageTooLarge(
            f"The broker at {endpoint.address} refused a message of {size:,} bytes: it takes "
            f"{most:,} at most.",
            "Publish smaller ones (--size, size_bytes), or raise max_message_size in its "
            "rabbitmq.conf (without it 16 MiB from RabbitMQ 4.0 on, before that 128 MiB).",
        )
    if text.endswith("not empty"):
        return QueueNotEmpty(
            f"The broker did not delete a queue that holds messages: {without_code(text)}.",
            "Purge or consume it first.",
        )
    if "delivery acknowledgement" in text:
        return ConnectionLost(
            f"The broker closed a consumer's channel: {without_code(text)}.",
            "Acknowledge sooner, use a smaller prefetch, or raise the broker's consumer_timeout.",
        )
    return BrokerError(
        f"The broker at {endpoint.address} refused the operation: {without_code(text)}.",
        "Change what was requested, or what exists.",
    )


def _not_found(text: str, endpoint: Endpoint) -> BrokerError:
    found = _NOT_FOUND.search(text)
    if not found:
        # A queue whose process or node is down still exists.
        return BrokerError(
            f"The broker at {endpoint.address} reports: {without_code(text)}.",
            "See its log at this time.",
        )
    kind, name, vhost = found.groups()
    return QueueNotFound(
        f"There is no {kind} {name!r} in virtual host {vhost or endpoint.virtual_host!r} of the "
        f"broker at {endpoint.address}.",
        "Check the name and the virtual host. rmqbench produce declares its queues.",
    )


def _no_permission(text: str, endpoint: Endpoint) -> RmqbenchError:
    if "reserved prefix" in text:
        return UsageError(
            f"The broker reserves this name: {without_code(text)}.",
            "Choose a name that does not begin with 'amq.'.",
        )
    if "in exclusive use" in text:
        found = re.search(r"queue '(.*)' in vhost", text, re.DOTALL)
        name = f"Queue {found[1]!r}" if found else "A queue"
        return QueueLocked(
            f"{name} of the broker at {endpoint.address} has an exclusive consumer, or it has "
            "consumers and an exclusive one was requested.",
            "Stop these consumers, or use another queue.",
        )
    user, vhost = endpoint.username, endpoint.virtual_host
    found = _NO_PERMISSION.search(text)
    which = f"{found['kind']} " if found and found["kind"] else ""
    what = found["what"] if found else without_code(text)
    return AccessRefused(
        f"User {user!r} has no {which}permission for {what}.",
        f"Grant it: rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*' "
        "(configure, write, read).",
    )


def _locked(text: str, endpoint: Endpoint) -> QueueLocked:
    found = re.search(r"locked queue '(.*?)' in vhost", text, re.DOTALL)
    name = f"Queue {found[1]!r}" if found else "A queue"
    return QueueLocked(
        f"{name} of the broker at {endpoint.address} is locked: it belongs to another connection, "
        "or was requested as exclusive and is not.",
        "Use another name, or close the connection that owns it.",
    )


_BY_CODE: dict[int, Callable[[str, Endpoint], RmqbenchError]] = {
    403: _no_permission,
    404: _not_found,
    405: _locked,
    406: _precondition_failed,
}


def _value(text: str | None) -> str:
    return "none" if text is None else repr(text)
