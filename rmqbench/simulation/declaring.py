"""Methods that declare, bind and delete exchanges and queues."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pika.spec

from rmqbench.simulation.channel import Channel, Handler
from rmqbench.simulation.exchanges import TYPES, Binding, Exchange
from rmqbench.simulation.policies import check_arguments, require_equivalent, require_same
from rmqbench.simulation.queues import Queue
from rmqbench.simulation.refusals import (
    ACCESS_REFUSED,
    COMMAND_INVALID,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    RefusedError,
    resource,
)

__all__ = ["HANDLERS", "accessible"]

_spec: Final = pika.spec
_STALLED_ANSWER_S: Final = 0.25  # how long RabbitMQ waits for the leader of a quorum queue


def accessible(channel: Channel, name: str) -> Queue:
    """Return a queue that a method names; without a name it is the one declared last.

    Raise RefusedError where there is none (404), or where it is another connection's (405).
    """
    if not name:
        name = channel.last_queue
        if not name:
            raise RefusedError(NOT_FOUND, "no previously declared queue")
    queue = channel.host.queue(name)
    _require_access(channel, queue)
    return queue


def _require_access(channel: Channel, queue: Queue, *, strict: bool = False) -> None:
    if queue.owner is channel.session or (queue.owner is None and not strict):
        return
    raise RefusedError(
        RESOURCE_LOCKED,
        f"cannot obtain exclusive access to locked {queue.title}. It could be originally declared "
        "on another connection or the exclusive property value does not match that of the original "
        "declaration.",
    )


# --- queues ---------------------------------------------------------------------------------------


def _queue_declare(channel: Channel, method: Any) -> None:
    host, name = channel.host, method.queue
    queue = host.queues.get(name) if name else None
    if method.passive:
        queue = host.queue(name)
        _require_access(channel, queue)
    elif queue is None:
        queue = _create(channel, method)
    else:
        if queue.owner is not None or method.exclusive:
            _require_access(channel, queue, strict=True)
        require_same("durable", queue.title, queue.durable, method.durable and not method.exclusive)
        require_same("auto_delete", queue.title, queue.auto_delete, method.auto_delete)
        require_equivalent(queue.title, queue.type, queue.arguments, method.arguments or {})
    channel.last_queue = queue.name
    queue.used()
    if method.nowait:
        return
    if not queue.stalled:
        _answer_declare(channel, queue)
        return
    channel.hold()
    if queue.type == "quorum":
        declare_ok = _spec.Queue.DeclareOk(queue.name, 0, 0)
        channel.broker.later(_STALLED_ANSWER_S, partial(_release, channel, declare_ok))
    else:
        queue.when_it_goes_on(partial(_answer_declare, channel, queue, release=True))


def _answer_declare(channel: Channel, queue: Queue, *, release: bool = False) -> None:
    ready, consumers = queue.shown_count(), queue.shown_consumers()
    channel.reply(_spec.Queue.DeclareOk(queue.name, ready, consumers))
    if release:
        channel.release()


def _release(channel: Channel, answer: Any) -> None:
    channel.reply(answer)
    channel.release()


def _create(channel: Channel, method: Any) -> Queue:
    host, name = channel.host, method.queue
    arguments = method.arguments or {}
    if name.startswith("amq."):
        why = f"queue name '{name}' contains reserved prefix 'amq.*'"
        raise RefusedError(ACCESS_REFUSED, why)
    title = resource("queue", name, host.name)
    kind = check_arguments(title, arguments)
    if kind == "quorum":
        if not name:
            why = "Cannot declare a server-named queue for type rabbit_quorum_queue"
            raise RefusedError(PRECONDITION_FAILED, why)
        for refused, what in (
            (method.auto_delete, "auto-delete"),
            (method.exclusive, "exclusive-owner"),
            (not method.durable, "non-durable"),
        ):
            if refused:
                why = f"invalid property '{what}' for {title}"
                raise RefusedError(PRECONDITION_FAILED, why)
    return host.create_queue(
        name or channel.broker.generated_name("amq.gen"),
        kind,
        durable=method.durable and not method.exclusive,
        owner=channel.session if method.exclusive else None,
        auto_delete=method.auto_delete,
        arguments=arguments,
    )


def _queue_purge(channel: Channel, method: Any) -> None:
    queue = accessible(channel, method.queue)

    def purge() -> None:
        count = queue.purge()
        if not method.nowait:
            channel.reply(_spec.Queue.PurgeOk(count))

    channel.when_it_answers(queue, purge)


def _queue_delete(channel: Channel, method: Any) -> None:
    name = method.queue or channel.last_queue
    queue = channel.host.queues.get(name)
    count = 0
    if queue is not None:
        _require_access(channel, queue)
        if queue.type == "quorum":
            for flag, what in ((method.if_unused, "if-unused"), (method.if_empty, "if-empty")):
                if flag:
                    raise RefusedError(
                        NOT_IMPLEMENTED,
                        f"cannot delete {queue.title}. queue.delete operations with {what} flag "
                        "set are not supported by quorum queues",
                    )
        if method.if_empty and queue.ready_count():
            raise RefusedError(PRECONDITION_FAILED, f"{queue.title} not empty")
        if method.if_unused and queue.consumers:
            raise RefusedError(PRECONDITION_FAILED, f"{queue.title} in use")
        count = queue.delete("delete")
    if not method.nowait:
        channel.reply(_spec.Queue.DeleteOk(count))


def _binding(target: str, to_exchange: bool, method: Any) -> Binding:
    arguments = tuple(sorted((method.arguments or {}).items()))
    return Binding(target, to_exchange, method.routing_key, arguments)


def _queue_bind(channel: Channel, method: Any) -> None:
    queue = accessible(channel, method.queue)
    if not method.queue and not method.routing_key:
        method.routing_key = queue.name
    _named_exchange(channel, method.exchange).bind(_binding(queue.name, False, method))
    if not method.nowait:
        channel.reply(_spec.Queue.BindOk())


def _queue_unbind(channel: Channel, method: Any) -> None:
    queue = accessible(channel, method.queue)
    exchange = _named_exchange(channel, method.exchange)
    exchange.unbind(_binding(queue.name, False, method))
    channel.host.end_if_unused(exchange)
    channel.reply(_spec.Queue.UnbindOk())


# --- exchanges ------------------------------------------------------------------------------------


def _named_exchange(channel: Channel, name: str) -> Exchange:
    if not name:
        why = "operation not permitted on the default exchange"
        raise RefusedError(ACCESS_REFUSED, why)
    return channel.host.exchange(name)


def _exchange_declare(channel: Channel, method: Any) -> None:
    host, name = channel.host, method.exchange
    title = resource("exchange", name, host.name)
    if method.passive or not name:
        _named_exchange(channel, name)
    else:
        if method.type not in TYPES:
            raise RefusedError(COMMAND_INVALID, f"invalid exchange type '{method.type}'")
        present = host.exchanges.get(name)
        if present is None:
            if name.startswith("amq."):
                why = f"exchange name '{name}' contains reserved prefix 'amq.*'"
                raise RefusedError(ACCESS_REFUSED, why)
            host.exchanges[name] = Exchange(
                name,
                method.type,
                durable=method.durable,
                auto_delete=method.auto_delete,
                internal=method.internal,
                arguments=method.arguments,
            )
        else:
            require_same("type", title, present.type, method.type)
            require_same("durable", title, present.durable, method.durable)
            require_same("auto_delete", title, present.auto_delete, method.auto_delete)
            require_same("internal", title, present.internal, method.internal)
    if not method.nowait:
        channel.reply(_spec.Exchange.DeclareOk())


def _exchange_delete(channel: Channel, method: Any) -> None:
    host, name = channel.host, method.exchange
    title = resource("exchange", name, host.name)
    if name.startswith("amq."):
        raise RefusedError(ACCESS_REFUSED, f"deletion of system {title} not allowed")
    exchange = host.exchanges.get(name) if name else _named_exchange(channel, name)
    if exchange is not None:
        if method.if_unused and exchange.bindings:
            raise RefusedError(PRECONDITION_FAILED, f"{title} in use")
        host.delete_exchange(exchange)
    if not method.nowait:
        channel.reply(_spec.Exchange.DeleteOk())


def _exchange_bind(channel: Channel, method: Any) -> None:
    target = _named_exchange(channel, method.destination)
    _named_exchange(channel, method.source).bind(_binding(target.name, True, method))
    if not method.nowait:
        channel.reply(_spec.Exchange.BindOk())


def _exchange_unbind(channel: Channel, method: Any) -> None:
    target = _named_exchange(channel, method.destination)
    source = _named_exchange(channel, method.source)
    source.unbind(_binding(target.name, True, method))
    channel.host.end_if_unused(source)
    if not method.nowait:
        channel.reply(_spec.Exchange.UnbindOk())


HANDLERS: Final[dict[int, Handler]] = {
    _spec.Queue.Declare.INDEX: _queue_declare,
    _spec.Queue.Purge.INDEX: _queue_purge,
    _spec.Queue.Delete.INDEX: _queue_delete,
    _spec.Queue.Bind.INDEX: _queue_bind,
    _spec.Queue.Unbind.INDEX: _queue_unbind,
    _spec.Exchange.Declare.INDEX: _exchange_declare,
    _spec.Exchange.Delete.INDEX: _exchange_delete,
    _spec.Exchange.Bind.INDEX: _exchange_bind,
    _spec.Exchange.Unbind.INDEX: _exchange_unbind,
}
"""What to do for each method, by class id and method id in one number."""
