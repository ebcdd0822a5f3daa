"""What the Management API answers, read field by field: the one place that knows its fields.

The client (:class:`rmqbench.management.client.Management`) returns decoded JSON; the functions here
turn it into values. The API leaves out what it does not know yet (a new queue has no counts), and
writes -1 or words such as ``NaN`` in place of a number, and ``[]`` in place of an empty object. So
each field is read on its own, and is None where the broker gives no usable value. An entry without
a name is left out where a name is what identifies it. Nothing here raises, whatever the JSON holds.

The fields are described at ``/api/index.html`` of a broker and in
https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Alarm",
    "BindingInfo",
    "ChannelInfo",
    "ConnectionInfo",
    "ConsumerInfo",
    "ExchangeInfo",
    "NodeInfo",
    "PolicyInfo",
    "QueueInfo",
    "read_alarms",
    "read_bindings",
    "read_channels",
    "read_connections",
    "read_consumers",
    "read_exchanges",
    "read_nodes",
    "read_policies",
    "read_queues",
    "read_version",
    "whole_number",
]

_TOO_LARGE = 2**64  # no count, size or rate of a broker reaches it, and a float holds all below


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue: counts of messages, sizes in bytes, rates per second over the last interval.

    ``messages_ram`` is the number of messages in memory, ``memory_bytes`` the memory of the queue's
    process. ``deliver_rate`` includes ``basic.get``. ``policy_definition`` is what its policy and
    its operator policy come to together; ``dead_letter_exchanges`` are those named by the queue's
    argument and by these.
    """

    name: str
    vhost: str | None = None
    type: str | None = None
    state: str | None = None
    exclusive: bool | None = None
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    messages_ram: int | None = None
    message_bytes_ready: int | None = None
    memory_bytes: int | None = None
    consumers: int | None = None
    publish_rate: float | None = None
    deliver_rate: float | None = None
    ack_rate: float | None = None
    policy: str | None = None
    operator_policy: str | None = None
    policy_definition: Mapping[str, Any] = field(default_factory=dict)
    dead_letter_exchanges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node: memory and disk space in bytes, and whether an alarm blocks publishers."""

    name: str
    running: bool | None = None
    mem_used_bytes: int | None = None
    mem_limit_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_free_limit_bytes: int | None = None
    mem_alarm: bool | None = None
    disk_free_alarm: bool | None = None


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """A client's connection; rates in bytes per second, as the broker sees them.

    ``name`` is the broker's, ``given_name`` the client's own (its property ``connection_name``).
    """

    name: str
    given_name: str | None = None
    peer_host: str | None = None
    peer_port: int | None = None
    user: str | None = None
    vhost: str | None = None
    state: str | None = None
    channels: int | None = None
    received_rate: float | None = None
    sent_rate: float | None = None


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer of a queue; ``connection`` is the broker's name of its connection."""

    tag: str | None = None
    queue: str | None = None
    vhost: str | None = None
    connection: str | None = None
    peer_host: str | None = None
    peer_port: int | None = None
    prefetch: int | None = None
    manual_ack: bool | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """A channel; ``name`` is the broker's name of its connection, with its number."""

    name: str
    messages_unacknowledged: int | None = None


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """An exchange; the default exchange has an empty name."""

    name: str
    type: str | None = None
    alternate_exchange: str | None = None


@dataclass(frozen=True, slots=True)
class BindingInfo:
    """A binding from an exchange to a queue or another exchange (``destination_type``)."""

    source: str | None = None
    destination: str | None = None
    destination_type: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """A policy or an operator policy: what it applies to, and what it sets."""

    name: str | None = None
    pattern: str | None = None
    apply_to: str | None = None
    priority: int | None = None
    definition: Mapping[str, Any] = field(default_factory=dict)
    alternate_exchange: str | None = None
    dead_letter_exchange: str | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm in force: the node, and what is short there (``memory`` or ``disk``)."""

    node: str | None = None
    resource: str | None = None


def read_version(overview: object) -> str | None:
    """Return the broker's version from an overview."""
    return _text(_table(overview).get("rabbitmq_version"))


def read_queues(listed: Iterable[object]) -> list[QueueInfo]:
    """Return the queues of a list of them, in its order."""
    return [_queue(name, each) for name, each in _named(listed) if name]


def read_nodes(listed: Iterable[object]) -> list[NodeInfo]:
    """Return the nodes of a list of them, in its order."""
    return [
        NodeInfo(
            name=name,
            running=_flag(each.get("running")),
            mem_used_bytes=whole_number(each.get("mem_used")),
            mem_limit_bytes=whole_number(each.get("mem_limit")),
            disk_free_bytes=whole_number(each.get("disk_free")),
            disk_free_limit_bytes=whole_number(each.get("disk_free_limit")),
            mem_alarm=_flag(each.get("mem_alarm")),
            disk_free_alarm=_flag(each.get("disk_free_alarm")),
        )
        for name, each in _named(listed)
    ]


def read_connections(listed: Iterable[object]) -> list[ConnectionInfo]:
    """Return the connections of a list of them, in its order."""
    return [
        ConnectionInfo(
            name=name,
            given_name=_text(each.get("user_provided_name")),
            peer_host=_text(each.get("peer_host")),
            peer_port=whole_number(each.get("peer_port")),
            user=_text(each.get("user")),
            vhost=_text(each.get("vhost")),
            state=_text(each.get("state")),
            channels=whole_number(each.get("channels")),
            received_rate=_rate(each, "recv_oct"),
            sent_rate=_rate(each, "send_oct"),
        )
        for name, each in _named(listed)
    ]


def read_consumers(listed: Iterable[object]) -> list[ConsumerInfo]:
    """Return the consumers of a list of them, in its order."""
    return [_consumer(_table(each)) for each in listed]


def read_channels(listed: Iterable[object]) -> list[ChannelInfo]:
    """Return the channels of a list of them that have a name, in its order."""
    return [
        ChannelInfo(name, whole_number(each.get("messages_unacknowledged")))
        for name, each in _named(listed)
    ]


def read_exchanges(listed: Iterable[object]) -> list[ExchangeInfo]:
    """Return the exchanges of a list of them, in its order."""
    return [
        ExchangeInfo(
            name=name,
            type=_text(each.get("type")),
            alternate_exchange=_text(_table(each.get("arguments")).get("alternate-exchange")),
        )
        for name, each in _named(listed)
    ]


def read_bindings(listed: Iterable[object]) -> list[BindingInfo]:
    """Return the bindings of a list of them, in its order."""
    return [
        BindingInfo(
            source=_text(each.get("source")),
            destination=_text(each.get("destination")),
            destination_type=_text(each.get("destination_type")),
        )
        for each in map(_table, listed)
    ]


def read_policies(listed: Iterable[object]) -> list[PolicyInfo]:
    """Return the policies of a list of them, in its order."""
    return [
        PolicyInfo(
            name=_text(each.get("name")),
            pattern=_text(each.get("pattern")),
            apply_to=_text(each.get("apply-to")),
            priority=whole_number(each.get("priority")),
            definition=dict(definition),
            alternate_exchange=_text(definition.get("alternate-exchange")),
            dead_letter_exchange=_text(definition.get("dead-letter-exchange")),
        )
        for each, definition in (
            (_table(policy), _table(_table(policy).get("definition"))) for policy in listed
        )
    ]


def read_alarms(listed: Iterable[object]) -> list[Alarm]:
    """Return the alarms of a list of them, in its order."""
    return [
        Alarm(_text(each.get("node")), _text(each.get("resource"))) for each in map(_table, listed)
    ]


def whole_number(value: object) -> int | None:
    """Return a count or a size, None for anything else: a word, -1, infinity, true."""
    number = _number(value)
    return None if number is None else int(number)


def _queue(name: str, queue: Mapping[str, Any]) -> QueueInfo:
    stats = _table(queue.get("message_stats"))
    policies = _table(queue.get("effective_policy_definition"))
    dead_letters = (
        _table(queue.get("arguments")).get("x-dead-letter-exchange"),
        policies.get("dead-letter-exchange"),
    )
    return QueueInfo(
        name=name,
        vhost=_text(queue.get("vhost")),
        type=_text(queue.get("type")),
        state=_text(queue.get("state")),
        exclusive=_flag(queue.get("exclusive")),
        messages_ready=whole_number(queue.get("messages_ready")),
        messages_unacknowledged=whole_number(queue.get("messages_unacknowledged")),
        messages_ram=whole_number(queue.get("messages_ram")),
        message_bytes_ready=whole_number(queue.get("message_bytes_ready")),
        memory_bytes=whole_number(queue.get("memory")),
        consumers=whole_number(queue.get("consumers")),
        publish_rate=_rate(stats, "publish"),
        deliver_rate=_rate(stats, "deliver_get"),
        ack_rate=_rate(stats, "ack"),
        policy=_text(queue.get("policy")) or None,
        operator_policy=_text(queue.get("operator_policy")) or None,
        policy_definition=dict(policies),
        dead_letter_exchanges=tuple(each for each in dead_letters if isinstance(each, str)),
    )


def _consumer(consumer: Mapping[str, Any]) -> ConsumerInfo:
    queue, channel = _table(consumer.get("queue")), _table(consumer.get("channel_details"))
    return ConsumerInfo(
        tag=_text(consumer.get("consumer_tag")),
        queue=_text(queue.get("name")),
        vhost=_text(queue.get("vhost")),
        connection=_text(channel.get("connection_name")),
        peer_host=_text(channel.get("peer_host")),
        peer_port=whole_number(channel.get("peer_port")),
        prefetch=whole_number(consumer.get("prefetch_count")),
        manual_ack=_flag(consumer.get("ack_required")),
        status=_text(consumer.get("activity_status")),
    )


def _named(listed: Iterable[object]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for each in map(_table, listed):
        name = _text(each.get("name"))
        if name is not None:
            yield name, each


def _table(value: object) -> Mapping[str, Any]:
    """Return an object, an empty one where the API writes something else."""
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return abs(value) if 0 <= value < _TOO_LARGE else None  # -0.0 is 0.0; NaN is not in range


def _rate(holder: Mapping[str, Any], name: str) -> float | None:
    number = _number(_table(holder.get(f"{name}_details")).get("rate"))
    return None if number is None else float(number)
