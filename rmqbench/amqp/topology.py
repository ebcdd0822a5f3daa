"""Exchanges, queues and their bindings: declare, count, purge, delete.

Everything here uses a short-lived connection of its own
(:func:`rmqbench.amqp.admin.admin`). Counts come from a passive declare and are exact, unlike
those of the Management API.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

from rmqbench.amqp.admin import admin
from rmqbench.amqp.idle import apart, counts_over, delete_if_idle, in_use
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    QueueLocked,
    QueueNotEmpty,
    QueueNotFound,
    RmqbenchError,
    UsageError,
)
from rmqbench.text import is_utf8

__all__ = [
    "DEAD_LETTER_EXCHANGE",
    "DEAD_LETTER_KEY",
    "Binding",
    "Declared",
    "Exchange",
    "ExchangeType",
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
    "require_free",
    "require_name",
]

QueueKind = Literal["classic", "lazy", "quorum"]
ExchangeType = Literal["direct", "fanout", "topic", "headers"]

DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"

_ALTERNATE = "alternate-exchange"
_LIMIT_S, _LIMIT_EACH_S = 10.0, 0.1  # what is done to a queue takes some milliseconds
_LAZY_ENDS = (3, 12)  # https://www.rabbitmq.com/docs/lazy-queues


@dataclass(frozen=True, slots=True)
class Binding:
    """What binds a queue, or another exchange, to an exchange of its topology.

    ``arguments`` are for one of the type ``headers``: what headers are to be like, and ``x-match``.
    """

    exchange: str
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange.

    By ``bindings`` it gets messages from other exchanges. What it can route to no queue and to no
    exchange goes to the exchange ``alternate``.
    """

    name: str
    type: ExchangeType = "fanout"
    bindings: tuple[Binding, ...] = ()
    alternate: str | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for what no broker accepts."""
        _check_name("exchange", self.name)
        _require_one_of("type of exchange", self.type, ExchangeType)

    @property
    def arguments(self) -> dict[str, str]:
        """What is sent with its declaration."""
        return {} if self.alternate is None else {_ALTERNATE: self.alternate}


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue as it is declared. ``lazy`` is a classic queue that keeps its messages on disk.

    ``arguments`` (``x-max-length`` and the like) are sent in addition to those that follow from
    ``kind``. Without ``bindings`` (None) it is bound to its topology's exchange, by the routing
    key.
    """

    name: str
    kind: QueueKind = "classic"
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    bindings: tuple[Binding, ...] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for what no broker accepts, before anything is started."""
        _check_name("queue", self.name)
        _require_one_of("kind of queue", self.kind, QueueKind)
        if self.kind == "quorum" and not self.durable:
            raise UsageError(
                f"Queue {self.name!r} cannot be a quorum queue that is not durable.",
                "Quorum queues are always durable.",
            )
        if "x-queue-type" in self.arguments:
            raise UsageError(
                f"The argument x-queue-type cannot set the type of queue {self.name!r}.",
                "Set its kind instead.",
            )
        object.__setattr__(self, "arguments", dict(self.arguments))

    @property
    def type(self) -> str:
        """Return the broker's word for the kind: a lazy queue is ``classic``, too."""
        return "quorum" if self.kind == "quorum" else "classic"


@dataclass(frozen=True, slots=True)
class Topology:
    """A durable exchange, and queues bound to it with one routing key: all get all.

    Other ``exchanges`` are for what queues are bound to besides, or instead. The first one is
    direct, unless it is described among them. ``delays`` are queues that nobody consumes: what
    others dead-letter to them waits there, and goes on. ``headers`` are those that each message
    has.
    """

    exchange: str = "direct.exchange"
    routing_key: str = "work"
    queues: tuple[Queue, ...] = field(
        default_factory=lambda: (Queue("work.queue"), Queue("audit.queue"))
    )
    exchanges: tuple[Exchange, ...] = ()
    delays: tuple[Queue, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Raise UsageError for what makes no sense, before anything is started."""
        if not self.exchange.startswith("amq."):
            _check_name("exchange", self.exchange)
        if not self.queues:
            raise UsageError("A topology without a queue keeps no messages.", "Name a queue.")
        if len({each.name for each in self.all_queues}) < len(self.all_queues):
            raise UsageError("A topology names one queue twice.", "Give each queue its own name.")
        if len({each.name for each in self.exchanges}) < len(self.exchanges):
            raise UsageError(
                "A topology names one exchange twice.", "Give each exchange its own name."
            )
        names = self.exchange_names
        asked = [
            (f"{what} {each.name!r} is bound to", binding)
            for what, those in (("Queue", self.all_queues), ("Exchange", self.exchanges))
            for each in those
            for binding in (self.bindings_of(each) if isinstance(each, Queue) else each.bindings)
        ]
        asked += [
            (f"Exchange {each.name!r} has as its alternate", Binding(each.alternate))
            for each in self.exchanges
            if each.alternate is not None
        ]
        for what, binding in asked:
            if binding.exchange not in names:
                raise UsageError(
                    f"{what} the exchange {binding.exchange!r}, which its topology does not have.",
                    f"It has {', '.join(names)}.",
                )

    @property
    def all_queues(self) -> tuple[Queue, ...]:
        """Return the queues, and those that nobody consumes."""
        return (*self.queues, *self.delays)

    @property
    def queue_names(self) -> tuple[str, ...]:
        """Return the names of the queues that are consumed, in their order."""
        return tuple(queue.name for queue in self.queues)

    @property
    def exchange_names(self) -> tuple[str, ...]:
        """Return the names of the exchanges: first that to which is published."""
        return tuple(dict.fromkeys([self.exchange, *(each.name for each in self.exchanges)]))

    def type_of(self, exchange: str) -> ExchangeType:
        """Return the type of one of its exchanges."""
        types = {each.name: each.type for each in self.exchanges}
        return types.get(exchange, "direct")

    def bindings_of(self, queue: Queue) -> tuple[Binding, ...]:
        """Return what binds a queue of it."""
        if queue.bindings is None:
            return (Binding(self.exchange, self.routing_key),)
        return queue.bindings

    def renamed(self, name: Callable[[str], str]) -> Topology:
        """Return it with other names, also where one stands for dead letters."""
        exchanges = self.exchange_names
        queue_names = {each.name for each in self.all_queues}

        def bound(bindings: tuple[Binding, ...]) -> tuple[Binding, ...]:
            return tuple(replace(each, exchange=name(each.exchange)) for each in bindings)

        def arguments_of(queue: Queue) -> dict[str, Any]:
            found = dict(queue.arguments)
            exchange = found.get(DEAD_LETTER_EXCHANGE)
            if exchange in exchanges:
                found[DEAD_LETTER_EXCHANGE] = name(exchange)
            elif exchange == "" and found.get(DEAD_LETTER_KEY) in queue_names:
                found[DEAD_LETTER_KEY] = name(found[DEAD_LETTER_KEY])
            return found

        def renamed(queue: Queue) -> Queue:
            return replace(
                queue,
                name=name(queue.name),
                arguments=arguments_of(queue),
                bindings=queue.bindings and bound(queue.bindings),
            )

        others = tuple(
            replace(
                each,
                name=name(each.name),
                bindings=bound(each.bindings),
                alternate=each.alternate and name(each.alternate),
            )
            for each in self.exchanges
        )
        return replace(
            self,
            exchange=name(self.exchange),
            queues=tuple(map(renamed, self.queues)),
            exchanges=others,
            delays=tuple(map(renamed, self.delays)),
        )


@dataclass(frozen=True, slots=True)
class Declared:
    """What :func:`declare` did: ``created_…`` is what did not exist before.

    ``notes`` are sentences for a person, for example that lazy has no effect on this broker.
    """

    topology: Topology
    created_exchanges: tuple[str, ...]
    created_queues: tuple[str, ...]
    notes: tuple[str, ...] = ()


def arguments(queue: Queue, version: str) -> tuple[dict[str, Any], str | None]:
    """Return the arguments to send for a queue, and a note for a person or None.

    A classic queue is declared with ``x-queue-type=classic``, as a virtual host may have another
    default type; 3.10.8, 4.0.5 and 4.3.6 treat it the same as one declared without.
    ``x-queue-mode=lazy`` is sent to brokers before 3.12; later ones ignore it and keep the messages
    of every classic queue on disk (https://www.rabbitmq.com/docs/lazy-queues). A version that
    cannot be read counts as an old one: the argument does no harm.
    """
    known = _major_minor(version)
    sent: dict[str, Any] = {"x-queue-type": queue.type}
    note = None
    if queue.kind == "lazy":
        if known is None or known < _LAZY_ENDS:
            sent["x-queue-mode"] = "lazy"
        else:
            note = (
                f"Lazy mode has no effect on RabbitMQ {version}: from 3.12 on, every classic queue "
                "keeps its messages on disk. Lazy queues are declared as plain ones."
            )
    return sent | dict(queue.arguments), note


def declare(endpoint: Endpoint, topology: Topology, version: str) -> Declared:
    """Declare exchanges, queues and bindings; what exists must have the same settings.

    What exists is compared first: after a QueueMismatch nothing was created. If a later step fails,
    what this call created is deleted again. A binding between an exchange and a queue that both
    existed stays, as AMQP does not show whether it is new.
    """
    wanted = {queue.name: arguments(queue, version) for queue in topology.all_queues}
    made = _Made()
    try:
        with admin(endpoint, timeout_s=_limit_s(len(topology.all_queues))) as channel:
            _declare(
                channel, endpoint, topology, {n: sent for n, (sent, _) in wanted.items()}, made
            )
    except BaseException:  # Ctrl-C, too
        if made.exchanges or made.queues:
            with contextlib.suppress(RmqbenchError):
                delete(endpoint, Declared(topology, tuple(made.exchanges), tuple(made.queues)))
        raise
    notes = tuple({note: None for _, note in wanted.values() if note is not None})
    return Declared(topology, tuple(made.exchanges), tuple(made.queues), notes)


def delete(endpoint: Endpoint, declared: Declared, *, if_empty: bool = False) -> tuple[str, ...]:
    """Delete the queues and exchanges that ``declared`` says were created, and nothing else.

    With ``if_empty`` a queue that is not idle (see :func:`delete_if_idle`) is kept, and with it the
    exchanges: the rest is deleted, then QueueNotEmpty is raised for those kept. Return the names
    deleted, including those that no longer existed.
    """
    deleted: list[str] = []
    kept: dict[str, tuple[int, int]] = {}
    types = {queue.name: queue.type for queue in declared.topology.all_queues}
    with admin(endpoint, timeout_s=_limit_s(len(declared.created_queues))) as channel:
        for name in declared.created_queues:
            if not if_empty:
                channel.queue_delete(name)
            else:
                with contextlib.suppress(QueueNotFound):
                    if counts := delete_if_idle(channel, endpoint, name, types[name]):
                        kept[name] = counts
                        continue
            deleted.append(name)
        for name in () if kept else declared.created_exchanges:
            channel.exchange_delete(name)
            deleted.append(name)
    if kept:
        raise _not_free(endpoint, kept)
    return tuple(deleted)


def ready_count(endpoint: Endpoint, name: str) -> int:
    """Return the exact number of ready messages in a queue, from a passive declare.

    For some seconds after a restart of the node it can be too low (measured for quorum queues).
    Raise QueueNotFound.
    """
    return ready_counts(endpoint, (name,))[name]


def ready_counts(endpoint: Endpoint, names: Iterable[str]) -> dict[str, int]:
    """Return the ready messages of each queue by its name, as :func:`ready_count` does."""
    names = tuple(names)
    with admin(endpoint, timeout_s=_limit_s(len(names))) as channel:
        return {name: counts_over(channel, name)[0] for name in names}


def counts(endpoint: Endpoint, name: str) -> tuple[int, int]:
    """Return the ready messages and the consumers of a queue. Raise QueueNotFound."""
    with admin(endpoint) as channel:
        return counts_over(channel, name)


def purge(endpoint: Endpoint, name: str) -> int:
    """Remove the ready messages of a queue and return their number. Raise QueueNotFound."""
    with admin(endpoint) as channel:
        return int(channel.queue_purge(name).method.message_count)


def require_free(endpoint: Endpoint, names: Iterable[str]) -> None:
    """Raise QueueNotEmpty for the first queue that holds ready messages or has a consumer.

    Raise AccessRefused for one that the user may not read. Only ``basic.get`` shows that; a message
    that came in between is given back.
    """
    names = tuple(names)
    with admin(endpoint, timeout_s=_limit_s(len(names))) as channel:
        for name in names:
            ready, consumers = counts_over(channel, name)
            with contextlib.suppress(QueueLocked):  # by its one consumer
                ready = ready or apart(channel.connection, endpoint, partial(_taken, name=name))
            if ready or consumers:
                raise _not_free(endpoint, {name: (ready, consumers)})


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


# --- how ---------------------------------------------------------------------------------------


def _limit_s(queues: int) -> float:
    """Return how long something that is done to each of so many queues may take."""
    return max(_LIMIT_S, queues * _LIMIT_EACH_S)


@dataclass(slots=True)
class _Made:
    """What was created so far: kept outside, so that it is known when a later step fails."""

    exchanges: list[str] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)


def _declare(
    channel: Any,
    endpoint: Endpoint,
    topology: Topology,
    wanted: Mapping[str, dict[str, Any]],
    made: _Made,
) -> None:
    connection = channel.connection
    sent = {each.name: each.arguments for each in topology.exchanges}

    def exists(look: Callable[[Any], object]) -> bool:
        try:
            apart(connection, endpoint, look)
        except QueueNotFound:
            return False
        return True

    def has_exchange(name: str) -> bool:
        return exists(lambda probe: probe.exchange_declare(name, passive=True))

    existing_exchanges = [*filter(has_exchange, topology.exchange_names)]
    existing = [
        queue for queue in topology.all_queues if exists(partial(counts_over, name=queue.name))
    ]

    def declare_exchange(name: str) -> None:
        channel.exchange_declare(
            name, topology.type_of(name), durable=True, arguments=sent.get(name)
        )

    def declare_queue(queue: Queue) -> None:
        channel.queue_declare(queue.name, durable=queue.durable, arguments=wanted[queue.name])

    for name in existing_exchanges:
        declare_exchange(name)
    for queue in existing:
        declare_queue(queue)
    for name in topology.exchange_names:
        if name not in existing_exchanges:
            declare_exchange(name)
            made.exchanges.append(name)
    for queue in topology.all_queues:
        if queue not in existing:
            declare_queue(queue)
            made.queues.append(queue.name)
    for queue in topology.all_queues:
        for binding in topology.bindings_of(queue):
            channel.queue_bind(
                queue.name, binding.exchange, binding.routing_key, dict(binding.arguments)
            )
    for exchange in topology.exchanges:
        for binding in exchange.bindings:
            channel.exchange_bind(
                exchange.name, binding.exchange, binding.routing_key, dict(binding.arguments)
            )


def _taken(channel: Any, name: str) -> int:
    """Return how many messages a queue had, by taking one, which is back as the channel closes."""
    method = channel.basic_get(name)[0]
    return 0 if method is None else int(method.message_count) + 1


def _not_free(endpoint: Endpoint, found: Mapping[str, tuple[int, int]]) -> QueueNotEmpty:
    """Return the error for queues that hold messages or have consumers: ``(ready, consumers)``."""
    where = f"in virtual host {endpoint.virtual_host!r}"
    queues = [f"queue {name!r} {where} {in_use(*counts)}" for name, counts in found.items()]
    what = "; ".join(queues)
    return QueueNotEmpty(
        f"{what[0].upper()}{what[1:]}.",
        "End its consumers, consume or purge its messages, or use another name or virtual host.",
    )


def _require_one_of(what: str, value: str, known: Any) -> None:
    if value not in get_args(known):
        raise UsageError(
            f"{value!r} is not a {what}.", f"Choose one of {', '.join(get_args(known))}."
        )


def _check_name(what: str, name: str) -> None:
    require_name(what, name)
    if name.startswith("amq."):
        raise UsageError(f"The broker keeps the name {name!r} for itself.", "Choose another one.")


def _major_minor(version: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
