"""Which queue gets the dead letters of which: what a topology routes them to.

By https://www.rabbitmq.com/docs/dlx and /docs/exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rmqbench.amqp.topology import (
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_KEY,
    Binding,
    Queue,
    Topology,
)

__all__ = ["Death", "Origin", "last_death", "origins", "routes"]

_REASONS: Final = {
    "expired": ("x-message-ttl",),
    "maxlen": ("x-max-length", "x-max-length-bytes"),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """A queue of which another one gets the dead letters, and how they come.

    They come through ``exchange``, by ``routing_key``, for one of these ``reasons``.
    """

    queue: str
    exchange: str
    routing_key: str
    reasons: frozenset[str]


@dataclass(frozen=True, slots=True)
class Death:
    """Where a message was dead-lettered last, and for which reason."""

    queue: str
    reason: str

    def __str__(self) -> str:
        """Return it for a person."""
        return f"queue {self.queue!r} for the reason {self.reason!r}"


def origins(topology: Topology, *, may_be_limited: bool = False) -> dict[str, tuple[Origin, ...]]:
    """Return of each queue of a topology whose dead letters it gets, in the order of the queues.

    A dead-letter exchange that is none of the topology's leads away from it. With
    ``may_be_limited`` any queue may get a greatest length, or a TTL, by a policy.
    """
    found: dict[str, tuple[Origin, ...]] = dict.fromkeys(topology.queue_names, ())
    for queue in topology.queues:
        exchange = queue.arguments.get(DEAD_LETTER_EXCHANGE)
        if exchange is None:
            continue
        key = str(queue.arguments.get(DEAD_LETTER_KEY, topology.routing_key))  # else its own
        reasons = _reasons(queue) | (frozenset(_REASONS) if may_be_limited else frozenset())
        origin = Origin(queue.name, str(exchange), key, reasons)
        for name in routes(topology, origin.exchange, key):
            found[name] += (origin,)
    return found


def routes(topology: Topology, exchange: str, routing_key: str) -> tuple[str, ...]:
    """Return the queues of a topology to which an exchange routes a message.

    The default exchange, ``""``, routes to the queue of that name.
    """
    if not exchange:
        return tuple(name for name in topology.queue_names if name == routing_key)
    queues = {each.name: topology.bindings_of(each) for each in topology.queues}
    exchanges = {each.name: each.bindings for each in topology.exchanges}
    alternates = {each.name: each.alternate for each in topology.exchanges}
    reached, seen = set[str](), {exchange}
    ahead = [exchange] if exchange in topology.exchange_names else []
    while ahead:
        source = ahead.pop()

        def led_to(of: Mapping[str, tuple[Binding, ...]], source: str = source) -> set[str]:
            return {
                name
                for name, bindings in of.items()
                if any(_leads(topology, each, source, routing_key) for each in bindings)
            }

        here, further = led_to(queues), led_to(exchanges)
        alternate = alternates.get(source)
        if not here and not further and alternate is not None:
            further = {alternate}
        reached |= here
        ahead += sorted(further - seen)
        seen |= further
    return tuple(name for name in topology.queue_names if name in reached)


def last_death(headers: Mapping[str, Any] | None) -> Death | None:
    """Return where a message was dead-lettered last, by its headers; None: nowhere.

    Later versions say so in so many words; else the first entry of ``x-death`` is the latest.
    """
    told = headers or {}
    if "x-last-death-queue" in told:
        return Death(str(told["x-last-death-queue"]), str(told.get("x-last-death-reason")))
    deaths = told.get("x-death")
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return None
    return Death(str(deaths[0].get("queue")), str(deaths[0].get("reason")))


def _reasons(queue: Queue) -> frozenset[str]:
    """Return for which reasons a queue gives messages up, by its arguments."""
    reasons = {"rejected"}
    reasons |= {
        reason for reason, names in _REASONS.items() if not queue.arguments.keys().isdisjoint(names)
    }
    if queue.kind == "quorum":
        reasons.add("delivery_limit")
    return frozenset(reasons)


def _leads(topology: Topology, binding: Binding, exchange: str, routing_key: str) -> bool:
    """Whether a binding to an exchange takes a message with this key."""
    if binding.exchange != exchange:
        return False
    match topology.type_of(exchange):
        case "fanout":
            return True
        case "direct":
            return binding.routing_key == routing_key
        case "topic":
            return _matches_topic(_words(binding.routing_key), _words(routing_key))
        case "headers":
            return _matches_headers(binding.arguments, topology.headers)


def _matches_headers(asked: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Whether headers are as asked: all of them, or by ``x-match`` any.

    Those that begin with ``x-`` count only where ``x-match`` ends in ``-with-x``.
    """
    how, _, with_x = str(asked.get("x-match", "all")).partition("-")
    counted = [
        name in headers and value in (None, headers[name])
        for name, value in asked.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    return any(counted) if how == "any" else all(counted)


def _words(key: str) -> list[str]:
    """Return the words of a key or a pattern: of an empty one none, on every RabbitMQ."""
    return key.split(".") if key else []


def _matches_topic(pattern: list[str], words: list[str]) -> bool:
    """Whether words match a pattern, in which ``*`` is one of them and ``#`` any number."""
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(_matches_topic(rest, words[at:]) for at in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and _matches_topic(rest, words[1:])
