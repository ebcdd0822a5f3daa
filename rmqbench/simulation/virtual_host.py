"""A virtual host: its exchanges, queues and policies, and how a message finds its queues."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pika.compat import long

from rmqbench.simulation.content import MALFORMED, Content, decoded, encoded
from rmqbench.simulation.entries import Entry
from rmqbench.simulation.exchanges import PREDECLARED, Exchange
from rmqbench.simulation.policies import Policy, merged
from rmqbench.simulation.queues import Queue
from rmqbench.simulation.quorum import QuorumQueue
from rmqbench.simulation.refusals import NOT_FOUND, RefusedError, resource
from rmqbench.simulation.storage import Storage
from rmqbench.simulation.truth import DeadLettered, Routed

if TYPE_CHECKING:
    from rmqbench.simulation.broker import ModelBroker

__all__ = ["VirtualHost"]

_DEATH: Final = ("reason", "queue", "exchange")
_LAST_DEATH_SINCE: Final = (3, 13)
_QUORUM_KEEPS_FAILURES_SINCE: Final = (4, 0)
_KEEPS_FAILURES_SINCE: Final = (4, 3)  # which flags the first delivery of a dead message


class VirtualHost:
    """What is declared in a virtual host."""

    def __init__(self, broker: ModelBroker, name: str) -> None:
        self.broker = broker
        self.name = name
        self.queues: dict[str, Queue] = {}
        self.exchanges = {each: Exchange(each, kind) for each, kind in PREDECLARED.items()}
        self.policies: dict[str, Policy] = {}
        self.operator_policies: dict[str, Policy] = {}

    # --- what is declared -----------------------------------------------------------------------

    def queue(self, name: str) -> Queue:
        """Return a queue. Raise RefusedError (404) if there is none of that name."""
        queue = self.queues.get(name)
        if queue is None:
            raise RefusedError(NOT_FOUND, f"no {resource('queue', name, self.name)}")
        return queue

    def exchange(self, name: str) -> Exchange:
        """Return an exchange. Raise RefusedError (404) if there is none of that name."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise RefusedError(NOT_FOUND, f"no {resource('exchange', name, self.name)}")
        return exchange

    def create_queue(
        self,
        name: str,
        kind: str,
        *,
        durable: bool,
        owner: object,
        auto_delete: bool,
        arguments: Mapping[str, Any],
    ) -> Queue:
        """Create a queue that does not exist yet."""
        made = QuorumQueue if kind == "quorum" else Queue
        queue = made(
            self, name, durable=durable, owner=owner, auto_delete=auto_delete, arguments=arguments
        )
        self.queues[name] = queue
        queue.apply_policy()
        return queue

    def forget_queue(self, queue: Queue) -> None:
        """Remove a queue and its bindings; its messages are the queue's affair."""
        if self.queues.get(queue.name) is queue:
            del self.queues[queue.name]
        for exchange in list(self.exchanges.values()):
            exchange.forget(queue.name)
            self.end_if_unused(exchange)

    def end_if_unused(self, exchange: Exchange) -> None:
        """Delete an exchange that was to be deleted with its last binding."""
        if exchange.auto_delete and not exchange.bindings:
            self.delete_exchange(exchange)

    def delete_exchange(self, exchange: Exchange) -> None:
        """Remove an exchange and all bindings from it and to it."""
        self.exchanges.pop(exchange.name, None)
        for other in self.exchanges.values():
            other.forget(exchange.name, is_exchange=True)

    def policy_of(self, queue: str) -> Mapping[str, Any]:
        """Return what policy and operator policy, each of the highest priority, say of a queue."""
        return merged(_definition(self.policies, queue), _definition(self.operator_policies, queue))

    def apply_policies(self) -> None:
        """Apply the policies as they are now to every queue."""
        for queue in list(self.queues.values()):
            queue.apply_policy()

    # --- routing --------------------------------------------------------------------------------

    def route(self, exchange: str, routing_key: str, content: Content) -> list[Queue]:
        """Return the queues that a message goes to. Raise RefusedError (404) without the exchange.

        The exchange without a name leads to the queue whose name is the routing key.
        """
        if not exchange:
            queue = self.queues.get(routing_key)
            return [] if queue is None else [queue]
        first = self.exchange(exchange)
        headers: Mapping[str, Any] | None = None
        found: dict[str, Queue] = {}
        seen = {exchange}
        ahead = [first]
        for each in ahead:
            if each.type == "headers" and headers is None:
                headers = decoded(content.properties).headers or {}
            leads = [*each.matches(routing_key, headers or {})]
            onward = [binding.target for binding in leads if binding.to_exchange]
            found |= {
                binding.target: self.queues[binding.target]
                for binding in leads
                if not binding.to_exchange
            }
            if not leads and each.alternate is not None:
                onward.append(each.alternate)
            for name in onward:
                if name not in seen and name in self.exchanges:
                    seen.add(name)
                    ahead.append(self.exchanges[name])
        return list(found.values())

    def other_queue(self, queue: Storage, entry: Entry) -> Queue | None:
        """Return a queue that a message was not routed to; None if there is none."""
        routed = self.route(entry.exchange, entry.routing_key, entry.content)
        for other in self.queues.values():
            if other is not queue and other not in routed and not other.stalled:
                return other
        return None

    def dead_letter(self, queue: Storage, entry: Entry, reason: str) -> None:
        """Publish a removed message to the dead-letter exchange of its queue, at most once.

        https://www.rabbitmq.com/docs/dlx: a message that comes back to a queue by itself, without
        having been rejected in between, is dropped.
        """
        limits = queue.limits
        exchange = limits.dead_letter_exchange
        if exchange is None or (exchange and exchange not in self.exchanges):
            return
        key = limits.dead_letter_routing_key
        routing_key = entry.routing_key if key is None else key
        deaths = _with_death(entry, queue.name, reason, self.broker.now())
        shows_last = self.broker.version_number >= _LAST_DEATH_SINCE
        content = _dead(entry, deaths, shows_last=shows_last)
        note, now = self.broker.note, self.broker.now()
        note(DeadLettered(now, entry.message, queue.name, exchange))
        for target in self.route(exchange, routing_key, content):
            if reason != "rejected" and _is_cycle(target.name, deaths):
                continue
            note(Routed(now, entry.message, target.name))
            dead = Entry(
                entry.message, content, exchange, routing_key, entry.persistent, deaths=deaths
            )
            if self.broker.version_number >= _KEEPS_FAILURES_SINCE or (
                self.broker.version_number >= _QUORUM_KEEPS_FAILURES_SINCE
                and queue.type == target.type == "quorum"
            ):
                dead.failed = entry.failed
                dead.redelivered = entry.failed > 0
            target.take_in(dead, None)


def _definition(policies: Mapping[str, Policy], queue: str) -> Mapping[str, Any]:
    covering = [each for each in policies.values() if each.covers(queue)]
    return max(covering, key=lambda each: each.priority).definition if covering else {}


def _with_death(entry: Entry, queue: str, reason: str, now: float) -> tuple[dict[str, Any], ...]:
    """Return the history of deaths with one more, the newest first."""
    rest = list(entry.deaths)
    count = 1
    for death in rest:
        if death["queue"] == queue and death["reason"] == reason:
            count += death["count"]
            rest.remove(death)
            break
    death = {
        "count": long(count),
        "exchange": entry.exchange,
        "queue": queue,
        "reason": reason,
        "routing-keys": [entry.routing_key],
        "time": datetime.fromtimestamp(int(now), UTC),
    }
    if entry.expiration is not None:
        death["original-expiration"] = entry.expiration
    return (death, *rest)


def _dead(entry: Entry, deaths: tuple[dict[str, Any], ...], *, shows_last: bool) -> Content:
    """Return the content with the headers that RabbitMQ adds, and without its expiration."""
    try:
        properties = decoded(entry.content.properties)
    except MALFORMED:
        return entry.content
    headers = dict(properties.headers or {})
    headers["x-death"] = [dict(death) for death in deaths]
    for name in _DEATH:
        headers.setdefault(f"x-first-death-{name}", deaths[0][name])
        if shows_last:
            headers[f"x-last-death-{name}"] = deaths[0][name]
    properties.headers = headers
    properties.expiration = None
    return Content(encoded(properties), entry.content.body)


def _is_cycle(target: str, deaths: tuple[dict[str, Any], ...]) -> bool:
    """Whether a message has died in a queue before, and was not rejected since."""
    for death in deaths:
        if death["reason"] == "rejected":
            return False
        if death["queue"] == target:
            return True
    return False
