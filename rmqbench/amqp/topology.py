"""The exchange, the queues and their bindings: declare, count, purge, delete.

Everything here goes over a short-lived connection of its own
(:func:`rmqbench.amqp.connection.admin`). Counts come from a passive declare and are exact, unlike
those of the Management API.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pika
import pika.exceptions

from rmqbench.amqp.connection import admin
from rmqbench.amqp.diagnosis import channel_error
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    QueueNotEmpty,
    QueueNotFound,
    RmqbenchError,
    UsageError,
)
from rmqbench.text import is_utf8
from rmqbench.verdict.evidence import Removal

__all__ = [
    "Declared",
    "Queue",
    "QueueKind",
    "Topology",
    "arguments",
    "counts",
    "declare",
    "delete",
    "is_name",
    "purge",
    "ready_count",
    "ready_counts",
    "removals",
    "require_empty",
    "require_name",
]

QueueKind = Literal["classic", "lazy", "quorum"]

_LAZY_ENDS = (3, 12)  # https://www.rabbitmq.com/docs/lazy-queues


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue as it is asked for. ``lazy`` is a classic queue that keeps its messages on disk.

    ``arguments`` are sent besides those that follow from ``kind`` (``x-max-length`` and the like).
    """

    name: str
    kind: QueueKind = "classic"
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse what no broker takes, before anything is begun (UsageError)."""
        _check_name("queue", self.name)
        if self.kind not in get_args(QueueKind):
            raise UsageError(
                f"{self.kind!r} is no kind of queue.",
                f"Choose of {', '.join(get_args(QueueKind))}.",
            )
        if self.kind == "quorum" and not self.durable:
            raise UsageError(
                f"Queue {self.name!r} cannot be a quorum queue and not durable.",
                "Quorum queues are always durable.",
            )
        if "x-queue-type" in self.arguments:
            raise UsageError(
                f"The type of queue {self.name!r} is not given by the argument x-queue-type.",
                "Give its kind instead.",
            )
        object.__setattr__(self, "arguments", dict(self.arguments))


@dataclass(frozen=True, slots=True)
class Topology:
    """A direct exchange and the queues bound to it with one routing key: each gets every message.

    ``exchange_durable`` is the exchange's own durability; each queue has its own.
    """

    exchange: str = "direct.exchange"
    routing_key: str = "work"
    queues: tuple[Queue, ...] = field(
        default_factory=lambda: (Queue("work.queue"), Queue("audit.queue"))
    )
    exchange_durable: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before anything is begun (UsageError)."""
        if not self.exchange.startswith("amq."):
            _check_name("exchange", self.exchange)
        if not self.queues:
            raise UsageError("A topology without a queue keeps no message.", "Name a queue.")
        if len(set(self.queue_names)) < len(self.queues):
            raise UsageError("A topology names one queue twice.", "Give each queue its own name.")

    @property
    def queue_names(self) -> tuple[str, ...]:
        """Give the names of the queues in their order."""
        return tuple(queue.name for queue in self.queues)


@dataclass(frozen=True, slots=True)
class Declared:
    """What :func:`declare` found and made. What is in ``created_…`` was not there before.

    ``notes`` are sentences for a person, for example that lazy has no effect on this broker.
    """

    topology: Topology
    created_exchange: bool
    created_queues: tuple[str, ...]
    notes: tuple[str, ...] = ()


def arguments(queue: Queue, version: str) -> tuple[dict[str, Any], str | None]:
    """Give the arguments to send for a queue, and a note for a person where one is due.

    A classic queue says ``x-queue-type=classic``: a virtual host may have another default type, and
    every broker tried (3.10.8, 4.0.5, 4.3.6) takes it for the same as a classic queue declared
    without. ``x-queue-mode=lazy`` goes to brokers before 3.12; later ones ignore it and keep the
    messages of every classic queue on disk (https://www.rabbitmq.com/docs/lazy-queues). An
    unreadable version counts as an old one: sending it does no harm.
    """
    known = _major_minor(version)
    sent: dict[str, Any] = {"x-queue-type": "quorum" if queue.kind == "quorum" else "classic"}
    note = None
    if queue.kind == "lazy":
        if known is None or known < _LAZY_ENDS:
            sent["x-queue-mode"] = "lazy"
        else:
            note = (
                f"Lazy mode has no effect on RabbitMQ {version}: from 3.12 on every classic queue "
                "keeps its messages on disk. Lazy queues are declared as plain ones."
            )
    return sent | dict(queue.arguments), note


def removals(queue: Queue) -> tuple[Removal, ...]:
    """Give the reasons that a queue's own arguments are for it to drop messages.

    By https://www.rabbitmq.com/docs/maxlength, /docs/ttl and
    /docs/quorum-queues#poison-message-handling.
    """
    asked = queue.arguments
    causes = [
        f"{name}={asked[name]}"
        for name in ("x-message-ttl", "x-expires", "x-delivery-limit")
        if name in asked
    ]
    if not str(asked.get("x-overflow", "drop-head")).startswith("reject-publish"):
        causes += [
            f"{name}={asked[name]} with overflow drop-head"
            for name in ("x-max-length", "x-max-length-bytes")
            if name in asked
        ]
    return tuple(Removal(cause) for cause in causes)


def declare(endpoint: Endpoint, topology: Topology, version: str) -> Declared:
    """Make the exchange, the queues and the bindings, or see that they are there as asked for.

    What exists is compared first: on a QueueMismatch nothing has been made. If a later step fails,
    what this call had made is removed again. A binding between an exchange and a queue that both
    existed stays (AMQP cannot tell whether it is new).
    """
    wanted = {queue.name: arguments(queue, version) for queue in topology.queues}
    made = _Made()
    try:
        with admin(endpoint) as channel:
            _declare(
                channel, endpoint, topology, {n: sent for n, (sent, _) in wanted.items()}, made
            )
    except RmqbenchError:
        if made.exchange or made.queues:
            with contextlib.suppress(RmqbenchError):
                delete(endpoint, Declared(topology, made.exchange, tuple(made.queues)))
        raise
    notes = tuple({note: None for _, note in wanted.values() if note is not None})
    return Declared(topology, made.exchange, tuple(made.queues), notes)


def delete(endpoint: Endpoint, declared: Declared, *, if_empty: bool = False) -> tuple[str, ...]:
    """Delete the queues and the exchange that ``declared`` says were made, and nothing else.

    With ``if_empty`` a queue that holds ready messages or has a consumer (which may hold some that
    are not acknowledged) is kept, and the exchange with it: the rest is deleted, then QueueNotEmpty
    is raised for the first one kept. A classic queue looks and is deleted in one step; of a quorum
    queue, which cannot, the counts are read just before. Gives the names deleted. What is gone
    already is no error.
    """
    deleted: list[str] = []
    kept: dict[str, tuple[int, int]] = {}
    kinds = {queue.name: queue.kind for queue in declared.topology.queues}
    with admin(endpoint) as channel:
        for name in declared.created_queues:
            if not if_empty:
                channel.queue_delete(name)
            elif counts := _delete_if_empty(channel.connection, endpoint, name, kinds[name]):
                kept[name] = counts
                continue
            deleted.append(name)
        if declared.created_exchange and not kept:
            channel.exchange_delete(declared.topology.exchange)
            deleted.append(declared.topology.exchange)
    for name, (ready, consumers) in kept.items():
        raise _not_empty(endpoint, name, ready, consumers)
    return tuple(deleted)


def ready_count(endpoint: Endpoint, name: str) -> int:
    """Count the ready messages of a queue exactly, by a passive declare.

    Just after a restart of the node the answer can be too low for some seconds. Raises
    QueueNotFound.
    """
    return ready_counts(endpoint, (name,))[name]


def ready_counts(endpoint: Endpoint, names: Iterable[str]) -> dict[str, int]:
    """Count the ready messages of several queues, as :func:`ready_count` does."""
    with admin(endpoint) as channel:
        return {
            name: int(channel.queue_declare(name, passive=True).method.message_count)
            for name in names
        }


def counts(endpoint: Endpoint, name: str) -> tuple[int, int]:
    """Count the ready messages and the consumers of a queue. Raises QueueNotFound."""
    with admin(endpoint) as channel:
        method = channel.queue_declare(name, passive=True).method
        return int(method.message_count), int(method.consumer_count)


def purge(endpoint: Endpoint, name: str) -> int:
    """Remove the ready messages of a queue, and say how many. Raises QueueNotFound."""
    with admin(endpoint) as channel:
        return int(channel.queue_purge(name).method.message_count)


def require_empty(endpoint: Endpoint, names: Iterable[str]) -> None:
    """Raise QueueNotEmpty for the first queue that holds ready messages."""
    for name, count in ready_counts(endpoint, names).items():
        if count:
            raise _not_empty(endpoint, name, count)


# --- how ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Made:
    """What has been made so far: kept outside, so that it is known when a later step fails."""

    exchange: bool = False
    queues: list[str] = field(default_factory=list)


def _declare(
    channel: Any,
    endpoint: Endpoint,
    topology: Topology,
    wanted: Mapping[str, dict[str, Any]],
    made: _Made,
) -> None:
    connection, exchange = channel.connection, topology.exchange
    has_exchange = _exists(
        connection, endpoint, lambda probe: probe.exchange_declare(exchange, passive=True)
    )
    existing = [
        queue
        for queue in topology.queues
        if _counts_if_there(connection, endpoint, queue.name) is not None
    ]

    def declare_exchange() -> None:
        channel.exchange_declare(exchange, "direct", durable=topology.exchange_durable)

    def declare_queue(queue: Queue) -> None:
        channel.queue_declare(queue.name, durable=queue.durable, arguments=wanted[queue.name])

    if has_exchange:
        declare_exchange()
    for queue in existing:
        declare_queue(queue)
    if not has_exchange:
        declare_exchange()
        made.exchange = True
    for queue in topology.queues:
        if queue not in existing:
            declare_queue(queue)
            made.queues.append(queue.name)
    for queue in topology.queues:
        channel.queue_bind(queue.name, exchange, topology.routing_key)


def _exists(connection: Any, endpoint: Endpoint, passive_declare: Callable[[Any], object]) -> bool:
    """Tell whether a passive declare succeeds; its 404 costs the channel it went over."""
    channel = connection.channel()
    try:
        passive_declare(channel)
    except pika.exceptions.ChannelClosedByBroker as error:
        if isinstance(channel_error(error, endpoint), QueueNotFound):
            return False
        raise
    channel.close()
    return True


def _counts_if_there(connection: Any, endpoint: Endpoint, name: str) -> tuple[int, int] | None:
    """Count the ready messages and the consumers of a queue, None where there is no such queue."""
    counts: list[tuple[int, int]] = []

    def count(channel: Any) -> None:
        answer = channel.queue_declare(name, passive=True).method
        counts.append((int(answer.message_count), int(answer.consumer_count)))

    return counts[0] if _exists(connection, endpoint, count) else None


def _delete_if_empty(
    connection: Any, endpoint: Endpoint, name: str, kind: QueueKind
) -> tuple[int, int] | None:
    """Delete a queue that holds nothing for anybody; give its counts if it was kept for them."""
    counts = _counts_if_there(connection, endpoint, name)
    if counts is None or any(counts):
        return counts
    channel = connection.channel()
    # A quorum queue knows neither (540 NOT_IMPLEMENTED closes the connection).
    at_once = kind != "quorum"
    try:
        channel.queue_delete(name, if_empty=at_once, if_unused=at_once)
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != 406:
            raise
        return _counts_if_there(connection, endpoint, name) or (0, 0)
    channel.close()
    return None


def _not_empty(endpoint: Endpoint, name: str, ready: int, consumers: int = 0) -> QueueNotEmpty:
    holds = "1 message" if ready == 1 else f"{ready} messages"
    if consumers:
        holds += f" and has {consumers} consumer{'s' if consumers > 1 else ''}"
    return QueueNotEmpty(
        f"Queue {name!r} in virtual host {endpoint.virtual_host!r} holds {holds} already.",
        "Consume or purge it first, use another name, or another virtual host.",
    )


def is_name(name: str) -> bool:
    """Whether a text can name a queue, an exchange or a consumer.

    AMQP carries it as a short string (AMQP 0-9-1, section 4.2.5.3), and it is not empty.
    """
    return is_utf8(name) and 1 <= len(name.encode()) <= 255


def require_name(what: str, name: str) -> None:
    """Raise UsageError where :func:`is_name` does not hold; ``what`` is to have the name."""
    if not is_name(name):
        raise UsageError(
            f"{name!r} is no name for {'an' if what[0] in 'aeiou' else 'a'} {what}.",
            "A name has 1 to 255 bytes of UTF-8.",
        )


def _check_name(what: str, name: str) -> None:
    require_name(what, name)
    if name.startswith("amq."):
        raise UsageError(f"The broker keeps the name {name!r} for itself.", "Choose another one.")


def _major_minor(version: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
