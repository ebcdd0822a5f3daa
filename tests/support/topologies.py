"""Topologies of any shape: exchanges of each type, bound to queues and to each other."""

from __future__ import annotations

import random
from typing import get_args

from rmqbench.amqp.topology import Binding, Exchange, ExchangeType, Queue, Topology

HEADERS = {"producer_id": "somebody", "host": "here"}
KEYS = ("work", "other", "work.late", "work..late", "work.", "")
_PATTERNS = (*KEYS, "*", "#", "work.*", "work.*.late", "work.#", "#.late")
_ARGUMENTS = (
    {},
    {"x-match": "all", "host": "here"},
    {"host": "there"},
    {"x-match": "any", "host": "there", "producer_id": "somebody"},
    {"x-match": "any"},
    {"host": "here", "x-colour": "red"},
    {"x-match": "all-with-x", "host": "here", "x-colour": "red"},
)


def topology_of(source: random.Random, prefix: str = "") -> Topology:
    """Return a topology; its names begin with ``prefix``."""
    names = [f"{prefix}x{number}" for number in range(source.randint(1, 4))]
    types = {name: source.choice(get_args(ExchangeType)) for name in names}

    def bindings(most: int) -> tuple[Binding, ...]:
        found = []
        for name in source.choices(names, k=source.randint(0, most)):
            key = source.choice(_PATTERNS if types[name] == "topic" else KEYS)
            is_headers = types[name] == "headers"
            found.append(Binding(name, key, source.choice(_ARGUMENTS) if is_headers else {}))
        return tuple(found)

    exchanges = tuple(
        Exchange(name, types[name], bindings(2), source.choice((None, None, *names)))
        for name in names
    )
    queues = tuple(
        Queue(f"{prefix}q{number}", bindings=bindings(3)) for number in range(source.randint(1, 4))
    )
    return Topology(names[0], "work", queues, exchanges, headers=HEADERS)
