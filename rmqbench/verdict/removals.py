"""What a queue's own settings may have taken out of it, and how much each can have taken.

By https://www.rabbitmq.com/docs/maxlength, /docs/ttl and
/docs/quorum-queues#poison-message-handling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmqbench.verdict.evidence import Removal

__all__ = ["Circumstances", "may_remove", "removals_by_settings"]

_REMOVING = ("message-ttl", "expires", "max-length", "max-length-bytes", "delivery-limit")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a run knows of a queue that bounds what its settings can have removed.

    ``arrived`` is how many messages it can have received at the most, of ``size_bytes`` each.
    ``there``: it still exists. ``emptied_ns`` is when it was last asked (None: never).
    ``given_back`` is how often a channel ended with unacknowledged messages, ``prefetch`` how many
    these can have been each time.
    """

    arrived: int
    size_bytes: int
    there: bool
    emptied_ns: int | None
    given_back: int
    prefetch: int


def may_remove(arguments: Mapping[str, Any]) -> bool:
    """Whether a queue with these arguments may drop messages."""
    return any(f"x-{name}" in arguments for name in _REMOVING)


def removals_by_settings(
    settings: Sequence[tuple[str, Mapping[str, Any]]], circumstances: Circumstances
) -> tuple[Removal, ...]:
    """Return the causes that its arguments and policies are for a queue to drop messages.

    ``settings`` are pairs: where they come from (``""`` for arguments, which then carry ``x-``),
    and the settings by name. A cause that cannot have removed anything is none.
    """
    causes: list[Removal] = []
    for source, values in settings:
        named = {str(name).removeprefix("x-"): value for name, value in values.items()}
        suffix = f" ({source})" if source else ""
        prefix = "" if source else "x-"
        for removal in _causes(named, _overflow(settings), circumstances):
            cause = f"{prefix}{removal.cause}{suffix}"
            causes.append(Removal(cause, removal.at_most, removal.sent_before_ns))
    return tuple(causes)


def _overflow(settings: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return what happens to a full queue; an argument goes before a policy."""
    for _, values in settings:
        for name in ("x-overflow", "overflow"):
            if name in values:
                return str(values[name])
    return "drop-head"


def _causes(named: Mapping[str, Any], overflow: str, known: Circumstances) -> Iterator[Removal]:
    def number(name: str) -> int | None:
        value = named.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    if (ttl_ms := number("message-ttl")) is not None and known.emptied_ns is not None:
        yield Removal(f"message-ttl={ttl_ms}", None, known.emptied_ns - ttl_ms * 1_000_000)
    if number("expires") is not None and not known.there:
        yield Removal(f"expires={named['expires']}")
    if not overflow.startswith("reject-publish"):
        if (length := number("max-length")) is not None:
            at_most = max(0, known.arrived - length)
            yield Removal(f"max-length={length} with overflow drop-head", at_most)
        if (size := number("max-length-bytes")) is not None:
            at_most = max(0, known.arrived - size // max(1, known.size_bytes))
            yield Removal(f"max-length-bytes={size} with overflow drop-head", at_most)
    if (limit := number("delivery-limit")) is not None and limit >= 0:
        # Each message that it takes was given back so often, once by each channel at the most.
        often = known.given_back >= limit
        at_most = known.given_back * known.prefetch // max(1, limit) if often else 0
        yield Removal(f"delivery-limit={limit}", at_most)
