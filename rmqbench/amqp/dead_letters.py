"""Which queue gets the dead letters of which: what a topology routes them to.

By https://www.rabbitmq.com/docs/dlx.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rmqbench.amqp.routing import reached, routes
from rmqbench.amqp.topology import DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, Queue, Topology

__all__ = ["Death", "Origin", "deaths_of", "delays_of", "origins", "way_on"]

_REASONS: Final = {
    "expired": ("x-message-ttl",),
    "maxlen": ("x-max-length", "x-max-length-bytes"),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """A queue of which another one gets the dead letters, and how they come.

    They come through ``exchange``, by ``routing_key``. They were dead-lettered for one of these
    ``reasons``, and have waited in the queue ``delay``, if there is one in between.
    """

    queue: str
    exchange: str
    routing_key: str
    reasons: frozenset[str]
    delay: str = ""

    def is_of(self, deaths: Sequence[Death]) -> bool:
        """Whether a message that was dead-lettered so, the latest first, can be one of these."""
        if self.delay:
            if deaths[0] != Death(self.delay, "expired"):
                return False
            deaths = [each for each in deaths if each.queue != self.delay]
        return bool(deaths) and deaths[0].queue == self.queue and deaths[0].reason in self.reasons


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
        reasons = _reasons(queue) | (frozenset(_REASONS) if may_be_limited else frozenset())
        way = way_on(queue, topology.routing_key)
        if way is None:
            continue
        there = reached(topology, *way)
        for name in there & found.keys():
            found[name] += (Origin(queue.name, *way, reasons),)
        for delay in topology.delays:
            further = way_on(delay, way[1])
            if delay.name in there and further is not None:
                for name in routes(topology, *further):
                    found[name] += (Origin(queue.name, *further, reasons, delay.name),)
    return found


def delays_of(topology: Topology, queue: Queue) -> tuple[Queue, ...]:
    """Return the queues of a topology in which the dead letters of another one wait."""
    way = way_on(queue, topology.routing_key)
    there = set[str]() if way is None else reached(topology, *way)
    return tuple(each for each in topology.delays if each.name in there)


def way_on(queue: Queue, routing_key: str) -> tuple[str, str] | None:
    """Return through which exchange and by which key a queue dead-letters; None: it does not.

    ``routing_key`` is that by which its messages came.
    """
    exchange = queue.arguments.get(DEAD_LETTER_EXCHANGE)
    if exchange is None:
        return None
    return str(exchange), str(queue.arguments.get(DEAD_LETTER_KEY, routing_key))


def deaths_of(headers: Mapping[str, Any] | None) -> list[Death]:
    """Return where a message was dead-lettered, by its headers, the latest first.

    Later versions say which was the latest in so many words; else it is the first of ``x-death``.
    """
    told = headers or {}
    entries = told.get("x-death")
    entries = entries if isinstance(entries, list) else []
    found = [
        Death(str(each.get("queue")), str(each.get("reason")))
        for each in entries
        if isinstance(each, dict)
    ]
    if "x-last-death-queue" in told:
        last = Death(str(told["x-last-death-queue"]), str(told.get("x-last-death-reason")))
        found.insert(0, last)
    return found


def _reasons(queue: Queue) -> frozenset[str]:
    """Return for which reasons a queue gives messages up, by its arguments."""
    reasons = {"rejected"}
    reasons |= {
        reason for reason, names in _REASONS.items() if not queue.arguments.keys().isdisjoint(names)
    }
    if queue.kind == "quorum":
        reasons.add("delivery_limit")
    return frozenset(reasons)
