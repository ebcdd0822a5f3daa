"""What the Management API answered, joined into one value that can be shown: no I/O here.

What the broker does not say (see :mod:`rmqbench.management.answers`) is shown as 0 or as empty.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from rmqbench.endpoint import host_and_port
from rmqbench.management.answers import (
    Alarm,
    ConnectionInfo,
    ConsumerInfo,
    NodeInfo,
    QueueInfo,
)

__all__ = [
    "DEEP",
    "SORTS",
    "VERY_DEEP",
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
"""A queue with this many messages or more, ready and unacknowledged, is yellow."""
VERY_DEEP = 10_000
"""A queue with this many messages or more is red."""

Depth = Literal["green", "yellow", "red"]
Sort = Literal["depth", "rate", "name"]
SORTS: tuple[Sort, ...] = ("depth", "rate", "name")

_HEALTHY = {"running", "idle", "flow", "syncing", ""}
"""States of a queue that works; others are ``down``, ``crashed``, ``minority``, …"""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer of a queue: ``host`` and ``connection`` (a name) say where it is."""

    tag: str
    host: str
    connection: str
    prefetch: int
    manual_ack: bool
    status: str


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: counts of messages, and rates per second over the broker's last interval."""

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
        """Return the depth: all messages in the queue."""
        return self.ready + self.unacknowledged

    @property
    def healthy(self) -> bool:
        """Whether the queue works, as the broker sees it."""
        return self.broker_state in _HEALTHY

    @property
    def depth(self) -> Depth:
        """Return the depth as a colour; a queue that does not work is red."""
        if self.total >= VERY_DEEP or not self.healthy:
            return "red"
        return "yellow" if self.total >= DEEP else "green"

    @property
    def activity(self) -> tuple[str, ...]:
        """Return ``publishing``, ``consuming``, both, or neither (idle)."""
        publishing = ("publishing",) if self.publish_rate > 0 else ()
        consuming = ("consuming",) if max(self.deliver_rate, self.ack_rate) > 0 else ()
        return publishing + consuming

    @property
    def state(self) -> str:
        """Return the activity in words, or the broker's word for what is wrong."""
        return (", ".join(self.activity) or "idle") if self.healthy else self.broker_state


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection; rates in bytes per second, as the broker sees them."""

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
    """Everything in the picture, added up."""

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
    """Everything that could be seen at ``time_s`` (Unix seconds).

    ``nodes`` is None where the user may not see them (tag ``monitoring``).
    """

    time_s: float
    version: str
    summary: Summary
    queues: tuple[Queue, ...]
    connections: tuple[Connection, ...]
    nodes: tuple[Node, ...] | None


def make_picture(
    time_s: float,
    version: str | None = None,
    *,
    queues: Iterable[QueueInfo] = (),
    connections: Sequence[ConnectionInfo] = (),
    consumers: Iterable[ConsumerInfo] = (),
    nodes: Iterable[NodeInfo] | None = None,
    alarms: Iterable[Alarm] | None = None,
) -> Picture:
    """Return the picture: each consumer at its queue, with the name of its connection.

    ``nodes`` is None where the user may not see them, and ``alarms`` where the health check did not
    answer: then the nodes' own flags count, which are some seconds older.
    """
    given_names = {each.name: each.given_name or "" for each in connections}
    by_queue: dict[tuple[str, str], list[Consumer]] = defaultdict(list)
    for each in consumers:
        by_queue[each.vhost or "", each.queue or ""].append(_consumer(each, given_names))
    shown = tuple(_queue(each, by_queue) for each in queues)
    clients = sorted(map(_connection, connections), key=lambda each: (each.name, each.host))
    return Picture(
        time_s=time_s,
        version=version or "",
        summary=_summary(shown, len(clients)),
        queues=shown,
        connections=tuple(clients),
        nodes=None if nodes is None else _nodes(nodes, alarms),
    )


def matching(queues: Iterable[Queue], pattern: str | None) -> list[Queue]:
    """Return the queues whose name contains the pattern, or matches it if it has ``*`` or ``?``.

    Upper and lower case are the same.
    """
    if not pattern:
        return list(queues)
    wild = "*" in pattern or "?" in pattern
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    matcher = re.compile(expression, re.IGNORECASE | re.DOTALL)
    test = matcher.fullmatch if wild else matcher.search
    return [queue for queue in queues if test(queue.name)]


def sorted_queues(queues: Iterable[Queue], by: Sort) -> list[Queue]:
    """Return the queues sorted by name, with the deepest first, or with the busiest first."""
    named = sorted(queues, key=lambda each: (each.name.casefold(), each.name, each.vhost))
    if by == "depth":
        named.sort(key=lambda each: (not each.healthy, each.total), reverse=True)
    elif by == "rate":
        named.sort(key=lambda each: each.publish_rate + each.deliver_rate, reverse=True)
    return named


def as_json(picture: Picture, pattern: str | None, by: Sort) -> dict[str, Any]:
    """Return the picture as a JSON object, with what follows from its figures."""
    queues = sorted_queues(matching(picture.queues, pattern), by)
    shown = asdict(replace(picture, queues=()))
    time = datetime.fromtimestamp(picture.time_s, UTC).isoformat(timespec="milliseconds")
    derived = [
        asdict(each)
        | {"total": each.total, "status": each.depth, "activity": list(each.activity) or ["idle"]}
        for each in queues
    ]
    return shown | {"time": time, "queues": derived}


def _queue(queue: QueueInfo, consumers: Mapping[tuple[str, str], list[Consumer]]) -> Queue:
    vhost = queue.vhost or ""
    own = tuple(sorted(consumers.get((vhost, queue.name), ()), key=lambda each: each.tag))
    return Queue(
        name=queue.name,
        vhost=vhost,
        kind=queue.type or "",
        broker_state=queue.state or "",
        ready=queue.messages_ready or 0,
        unacknowledged=queue.messages_unacknowledged or 0,
        publish_rate=queue.publish_rate or 0.0,
        deliver_rate=queue.deliver_rate or 0.0,
        ack_rate=queue.ack_rate or 0.0,
        # The list of consumers is newer than the queue's figures.
        consumer_count=len(own) or queue.consumers or 0,
        consumers=own,
    )


def _consumer(consumer: ConsumerInfo, given_names: Mapping[str, str]) -> Consumer:
    return Consumer(
        tag=consumer.tag or "",
        host=_host(consumer),
        connection=given_names.get(consumer.connection or "", ""),
        prefetch=consumer.prefetch or 0,
        manual_ack=consumer.manual_ack is not False,
        status=consumer.status or "",
    )


def _connection(connection: ConnectionInfo) -> Connection:
    return Connection(
        name=connection.given_name or connection.name,
        host=_host(connection),
        user=connection.user or "",
        vhost=connection.vhost or "",
        state=connection.state or "",
        channels=connection.channels or 0,
        received_rate=connection.received_rate or 0.0,
        sent_rate=connection.sent_rate or 0.0,
    )


def _nodes(nodes: Iterable[NodeInfo], alarms: Iterable[Alarm] | None) -> tuple[Node, ...]:
    checked = None
    if alarms is not None:
        checked = {(each.node, each.resource) for each in alarms if each.resource}
    return tuple(sorted((_node(each, checked) for each in nodes), key=lambda each: each.name))


def _node(node: NodeInfo, checked: set[tuple[str | None, str]] | None) -> Node:
    if checked is None:
        flags = {"memory": node.mem_alarm, "disk": node.disk_free_alarm}
        alarms = {resource for resource, raised in flags.items() if raised}
    else:
        alarms = {resource for where, resource in checked if where == node.name}
    return Node(
        name=node.name,
        running=node.running is not False,
        memory_used=node.mem_used_bytes or 0,
        memory_limit=node.mem_limit_bytes or 0,
        disk_free=node.disk_free_bytes or 0,
        disk_limit=node.disk_free_limit_bytes or 0,
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


def _host(peer: ConnectionInfo | ConsumerInfo) -> str:
    return host_and_port(peer.peer_host, peer.peer_port) if peer.peer_host else ""
