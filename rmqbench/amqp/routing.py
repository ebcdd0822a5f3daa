"""To which queues of a topology a message is routed.

By https://www.rabbitmq.com/docs/exchanges, /docs/e2e and /docs/ae; what these leave open, as
3.10.8, 4.0.5 and 4.3.6 do it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmqbench.amqp.topology import Binding, Topology

__all__ = ["reached", "routes"]


def routes(topology: Topology, exchange: str, routing_key: str) -> tuple[str, ...]:
    """Return the consumed queues of a topology to which an exchange routes a message.

    The default exchange, ``""``, routes to the queue of that name.
    """
    found = reached(topology, exchange, routing_key)
    return tuple(name for name in topology.queue_names if name in found)


def reached(topology: Topology, exchange: str, routing_key: str) -> set[str]:
    """Return the names of all queues to which an exchange routes a message, delays too."""
    queues = {each.name: topology.bindings_of(each) for each in topology.all_queues}
    if not exchange:
        return {routing_key} & queues.keys()
    exchanges = {each.name: each.bindings for each in topology.exchanges}
    alternates = {each.name: each.alternate for each in topology.exchanges}
    found, seen = set[str](), {exchange}
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
        found |= here
        ahead += sorted(further - seen)
        seen |= further
    return found


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
