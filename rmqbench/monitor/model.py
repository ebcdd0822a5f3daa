"""What the Management API answered, turned into one value that can be shown: no I/O here.

The API leaves out what it does not know yet, and writes words such as ``NaN`` in place of numbers:
each field is read on its own, and what is missing counts as nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from rmqbench.endpoint import host_and_port

__all__ = [
    "DEEP",
    "SORTS",
    "VERY_DEEP",
    "Answers",
    "Connection",
    "Consumer",
    "Node",
    "Picture",
    "Queue",
    "Sort",
    "Summary",
    "as_json",
    "make_picture",
    "matching",
    "sorted_queues",
]

DEEP = 1_000
"""From this many messages on (ready and unacknowledged) a queue is yellow."""
VERY_DEEP = 10_000
"""From this many messages on a queue is red."""

Depth = Literal["green", "yellow", "red"]
Sort = Literal["depth", "rate", "name"]
SORTS: tuple[Sort, ...] = ("depth", "rate", "name")

_HEALTHY = {"running", "idle", "flow", "syncing", ""}
"""What the broker says of a queue that works; others are ``down``, ``crashed``, ``minority``, …"""


@dataclass(frozen=True, slots=True)
class Answers:
    """The API's answers as they came; ``nodes`` is None where the user may not see them."""

    overview: Mapping[str, Any] = field(default_factory=dict)
    queues: Iterable[Mapping[str, Any]] = ()
    connections: Iterable[Mapping[str, Any]] = ()
    consumers: Iterable[Mapping[str, Any]] = ()
    nodes: Iterable[Mapping[str, Any]] | None = None
    alarms: Iterable[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who takes messages from a queue, and over which connection."""

    tag: str
    host: str
    connection: str
    prefetch: int
    manual_ack: bool
    status: str


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue's figures; rates are per second, over the broker's last interval."""

    name: str
    vhost: str
    kind: str
    broker_state: str
    ready: int
    unacknowledged: int
    publish_rate: float = 0.0
    deliver_rate: float = 0.0
    ack_rate: float = 0.0
    consumer_count: int = 0
    consumers: tuple[Consumer, ...] = ()

    @property
    def total(self) -> int:
        """Give the depth: all messages that are in the queue."""
        return self.ready + self.unacknowledged

    @property
    def healthy(self) -> bool:
        """Say whether the broker finds the queue working."""
        return self.broker_state in _HEALTHY

    @property
    def depth(self) -> Depth:
        """Give the depth as a colour; a queue that does not work is red."""
        if self.total >= VERY_DEEP or not self.healthy:
            return "red"
        return "yellow" if self.total >= DEEP else "green"

    @property
    def activity(self) -> tuple[str, ...]:
        """Give what goes on: ``publishing``, ``consuming``, both, or neither (idle)."""
        publishing = ("publishing",) if self.publish_rate > 0 else ()
        consuming = ("consuming",) if max(self.deliver_rate, self.ack_rate) > 0 else ()
        return publishing + consuming

    @property
    def state(self) -> str:
        """Give the activity in words, or the broker's word for what is wrong."""
        return (", ".join(self.activity) or "idle") if self.healthy else self.broker_state


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection; rates in bytes per second, as seen from the broker."""

    name: str
    host: str
    user: str
    vhost: str
    state: str
    channels: int
    received_rate: float
    sent_rate: float


@dataclass(frozen=True, slots=True)
class Node:
    """A node's memory and disk in bytes; ``alarms`` block every publisher."""

    name: str
    running: bool
    memory_used: int
    memory_limit: int
    disk_free: int
    disk_limit: int
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that is visible, added up."""

    queues: int
    active: int
    consumers: int
    connections: int
    ready: int
    unacknowledged: int
    publish_rate: float
    deliver_rate: float
    ack_rate: float


@dataclass(frozen=True, slots=True)
class Picture:
    """All that was to be seen at ``time_s`` (Unix seconds).

    ``nodes`` is None where the user may not see them (tag ``monitoring``).
    """

    time_s: float
    version: str
    summary: Summary
    queues: tuple[Queue, ...]
    connections: tuple[Connection, ...]
    nodes: tuple[Node, ...] | None


def make_picture(answers: Answers, time_s: float) -> Picture:
    """Join the answers: each consumer to its queue and to the name of its connection."""
    found = [_map(each) for each in answers.connections]
    given_names = {str(each.get("name")): _text(each.get("user_provided_name")) for each in found}
    consumers: dict[tuple[str, str], list[Consumer]] = defaultdict(list)
    for each in map(_map, answers.consumers):
        queue = _map(each.get("queue"))
        key = _text(queue.get("vhost")), _text(queue.get("name"))
        consumers[key].append(_consumer(each, given_names))
    queues = tuple(_queue(each, consumers) for each in map(_map, answers.queues))
    connections = tuple(sorted(map(_connection, found), key=lambda each: (each.name, each.host)))
    return Picture(
        time_s=time_s,
        version=_text(answers.overview.get("rabbitmq_version")),
        summary=_summary(queues, len(connections)),
        queues=queues,
        connections=connections,
        nodes=_nodes(answers),
    )


def matching(queues: Iterable[Queue], pattern: str | None) -> list[Queue]:
    """Give the queues whose name holds the pattern, or matches it where it has ``*`` or ``?``.

    Letters of both cases are the same.
    """
    if not pattern:
        return list(queues)
    wild = "*" in pattern or "?" in pattern
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    matcher = re.compile(expression, re.IGNORECASE | re.DOTALL)
    test = matcher.fullmatch if wild else matcher.search
    return [queue for queue in queues if test(queue.name)]


def sorted_queues(queues: Iterable[Queue], by: Sort) -> list[Queue]:
    """Give the queues by name, the deepest first, or the busiest first."""
    named = sorted(queues, key=lambda each: (each.name.casefold(), each.name, each.vhost))
    if by == "depth":
        named.sort(key=lambda each: (not each.healthy, each.total), reverse=True)
    elif by == "rate":
        named.sort(key=lambda each: each.publish_rate + each.deliver_rate, reverse=True)
    return named


def as_json(picture: Picture, pattern: str | None, by: Sort) -> dict[str, Any]:
    """Give the picture as an object of JSON, with what follows from its figures."""
    queues = sorted_queues(matching(picture.queues, pattern), by)
    shown = asdict(replace(picture, queues=()))
    time = datetime.fromtimestamp(picture.time_s, UTC).isoformat(timespec="milliseconds")
    derived = [
        asdict(each)
        | {"total": each.total, "status": each.depth, "activity": list(each.activity) or ["idle"]}
        for each in queues
    ]
    return shown | {"time": time, "queues": derived}


def _queue(queue: Mapping[str, Any], consumers: Mapping[tuple[str, str], list[Consumer]]) -> Queue:
    stats = _map(queue.get("message_stats"))
    name, vhost = _text(queue.get("name")), _text(queue.get("vhost"))
    own = tuple(sorted(consumers.get((vhost, name), ()), key=lambda each: each.tag))
    return Queue(
        name=name,
        vhost=vhost,
        kind=_text(queue.get("type")),
        broker_state=_text(queue.get("state")),
        ready=_whole(queue.get("messages_ready")),
        unacknowledged=_whole(queue.get("messages_unacknowledged")),
        publish_rate=_rate(stats, "publish"),
        deliver_rate=_rate(stats, "deliver_get"),
        ack_rate=_rate(stats, "ack"),
        # The list of consumers is newer than the queue's figures.
        consumer_count=len(own) or _whole(queue.get("consumers")),
        consumers=own,
    )


def _consumer(consumer: Mapping[str, Any], given_names: Mapping[str, str]) -> Consumer:
    channel = _map(consumer.get("channel_details"))
    return Consumer(
        tag=_text(consumer.get("consumer_tag")),
        host=_host(channel),
        connection=given_names.get(_text(channel.get("connection_name")), ""),
        prefetch=_whole(consumer.get("prefetch_count")),
        manual_ack=bool(consumer.get("ack_required", True)),
        status=_text(consumer.get("activity_status")),
    )


def _connection(connection: Mapping[str, Any]) -> Connection:
    name = _text(connection.get("user_provided_name"))
    return Connection(
        name=name or _text(connection.get("name")),
        host=_host(connection),
        user=_text(connection.get("user")),
        vhost=_text(connection.get("vhost")),
        state=_text(connection.get("state")),
        channels=_whole(connection.get("channels")),
        received_rate=_rate(connection, "recv_oct"),
        sent_rate=_rate(connection, "send_oct"),
    )


def _nodes(answers: Answers) -> tuple[Node, ...] | None:
    if answers.nodes is None:
        return None
    checked: set[tuple[str, str]] | None = None
    if answers.alarms is not None:
        alarms = map(_map, answers.alarms)
        checked = {(_text(each.get("node")), _text(each.get("resource"))) for each in alarms}
    nodes = [_node(_map(each), checked) for each in answers.nodes]
    return tuple(sorted(nodes, key=lambda each: each.name))


def _node(node: Mapping[str, Any], checked: set[tuple[str, str]] | None) -> Node:
    name = _text(node.get("name"))
    if checked is None:
        flags = {"memory": node.get("mem_alarm"), "disk": node.get("disk_free_alarm")}
        alarms = {resource for resource, raised in flags.items() if raised is True}
    else:
        alarms = {resource for where, resource in checked if where == name}
    return Node(
        name=name,
        running=node.get("running") is not False,
        memory_used=_whole(node.get("mem_used")),
        memory_limit=_whole(node.get("mem_limit")),
        disk_free=_whole(node.get("disk_free")),
        disk_limit=_whole(node.get("disk_free_limit")),
        alarms=tuple(sorted(alarms)),
    )


def _summary(queues: tuple[Queue, ...], connections: int) -> Summary:
    return Summary(
        queues=len(queues),
        active=sum(bool(each.activity) for each in queues),
        consumers=sum(each.consumer_count for each in queues),
        connections=connections,
        ready=sum(each.ready for each in queues),
        unacknowledged=sum(each.unacknowledged for each in queues),
        publish_rate=sum(each.publish_rate for each in queues),
        deliver_rate=sum(each.deliver_rate for each in queues),
        ack_rate=sum(each.ack_rate for each in queues),
    )


def _host(found: Mapping[str, Any]) -> str:
    host, port = _text(found.get("peer_host")), _whole(found.get("peer_port"))
    return host_and_port(host, port or None) if host else ""


def _map(value: object) -> Mapping[str, Any]:
    """Give an object; the API writes ``[]`` for an object that it does not know."""
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


def _number(value: object) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    number = float(value) if known else 0.0  # type: ignore[arg-type]
    return number if 0 < number < float("inf") else 0.0


def _whole(value: object) -> int:
    return int(_number(value))


def _rate(stats: Mapping[str, Any], name: str) -> float:
    return _number(_map(stats.get(f"{name}_details")).get("rate"))
