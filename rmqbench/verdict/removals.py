"""What a queue's own settings may have taken out of it, and how much each can have taken.

By https://www.rabbitmq.com/docs/maxlength, /docs/ttl, /docs/dlx and
/docs/quorum-queues#poison-message-handling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rmqbench.verdict.evidence import Removal

__all__ = ["Circumstances", "keeps_dead_letters", "may_remove", "removals_by_settings"]

_REMOVING = ("message-ttl", "expires", "max-length", "max-length-bytes", "delivery-limit")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a run knows of a queue that bounds what its settings can have removed.

    ``arrived`` is how many messages of the run it can have received at the most, ``arrived_bytes``
    as how many bytes it counts them, and ``largest_bytes`` as how many any of them. ``foreign`` is
    how often it gave another one: what others publish takes room, too.
    ``there``: it still exists. ``emptied_ns`` is when it was last asked (None: never).
    ``given_back`` is how often a channel ended with unacknowledged messages, ``prefetch`` how many
    these can have been each time. ``looks`` is how many messages whoever asked it whether it is
    empty got, or may have got, and gave back. ``requeued`` is how often a message was given back by
    its consumer, by ``requeuers`` of them each once. ``negative_is_none``: a negative delivery
    limit is none, as from RabbitMQ 4.0 on; to those before it is one below 0.
    """

    arrived: int
    arrived_bytes: int
    largest_bytes: int
    foreign: int
    there: bool
    emptied_ns: int | None
    given_back: int
    prefetch: int
    looks: int
    requeued: int = 0
    requeuers: int = 0
    negative_is_none: bool = True


def may_remove(arguments: Mapping[str, Any]) -> bool:
    """Whether a queue with these arguments may drop messages."""
    return any(f"x-{name}" in arguments for name in _REMOVING)


def keeps_dead_letters(kind: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a queue keeps its dead letters until each of their queues has confirmed them.

    One that drops its oldest messages does not, whatever its strategy says.
    """
    return (
        kind == "quorum"
        and arguments.get("x-dead-letter-strategy") == "at-least-once"
        and arguments.get("x-overflow") == "reject-publish"
    )


def removals_by_settings(
    settings: Sequence[tuple[str, Mapping[str, Any]]], circumstances: Circumstances
) -> tuple[Removal, ...]:
    """Return the causes that its arguments and policies are for a queue to drop messages.

    ``settings`` are pairs: where they come from (``""`` for arguments, which then carry ``x-``),
    and the settings by name. Of several values the least counts, as it does to RabbitMQ: together
    they took no more than it can have taken.
    """
    least: dict[str, tuple[int, str]] = {}
    for source, values in settings:
        for name, value in values.items():
            bare = str(name).removeprefix("x-")
            if bare not in _REMOVING or not isinstance(value, int) or isinstance(value, bool):
                continue
            is_literal = bare == "delivery-limit" and not circumstances.negative_is_none
            if (value >= 0 or is_literal) and value < least.get(bare, (math.inf, ""))[0]:
                least[bare] = value, source
    overflow = _overflow(settings)
    causes: list[Removal] = []
    for name, (value, source) in least.items():
        removal = _removal(name, value, overflow, circumstances)
        if removal is not None:
            cause = f"{removal.cause} ({source})" if source else f"x-{removal.cause}"
            causes.append(replace(removal, cause=cause))
    return tuple(causes)


def _overflow(settings: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return what happens to a full queue; an argument goes before a policy."""
    for _, values in settings:
        for name in ("x-overflow", "overflow"):
            if name in values:
                return str(values[name])
    return "drop-head"


def _removal(name: str, value: int, overflow: str, known: Circumstances) -> Removal | None:
    """Return what one setting can have removed; None where it can be no cause at all."""
    cause = f"{name}={value}"
    if name == "message-ttl":
        if known.emptied_ns is None:
            return None
        return Removal(cause, None, known.emptied_ns - value * 1_000_000)
    if name == "expires":
        return None if known.there else Removal(cause)
    if name == "delivery-limit":
        # Each message that it takes was given back once more than that, by each channel, look or
        # consumer that gives back once at the most.
        limit = max(value, 0)
        often = known.given_back + known.looks + known.requeuers > limit
        returns = known.given_back * known.prefetch + known.looks + known.requeued
        return Removal(cause, returns // (limit + 1) if often else 0)
    if overflow.startswith("reject-publish"):
        return None
    if name == "max-length":
        fitting = value - known.foreign
    elif known.foreign:  # how large these are is not known
        fitting = 0
    elif known.arrived_bytes <= value:
        fitting = known.arrived
    else:
        fitting = value // max(1, known.largest_bytes)
    beyond = min(known.arrived, max(0, known.arrived - fitting))
    return Removal(f"{cause} with overflow drop-head", beyond)
