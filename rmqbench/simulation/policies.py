"""What a queue's arguments and the policies of the operator make of it.

https://www.rabbitmq.com/docs/parameters#policies: where both an argument and a policy set a limit,
the lower one holds; for everything else the argument does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rmqbench.simulation.refusals import PRECONDITION_FAILED, RefusedError

__all__ = [
    "Limits",
    "Policy",
    "Version",
    "check_arguments",
    "limits",
    "merged",
    "require_equivalent",
    "require_same",
    "version_of",
]

Version = tuple[int, int]

DEFAULT_DELIVERY_LIMIT: Final = 20  # from RabbitMQ 4.0 on
_DELIVERY_LIMIT_SINCE: Final = (4, 0)

_COMMON: Final = frozenset(
    {
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-message-ttl",
        "x-overflow",
        "x-queue-leader-locator",
        "x-queue-type",
        "x-single-active-consumer",
    }
)
_ARGUMENTS: Final = {
    "classic": _COMMON | {"x-max-priority", "x-queue-mode", "x-queue-version"},
    "quorum": _COMMON
    | {
        "x-dead-letter-strategy",
        "x-delivery-limit",
        "x-quorum-initial-group-size",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
    },
}
_KNOWN: Final = _ARGUMENTS["classic"] | _ARGUMENTS["quorum"]
_NOT_NEGATIVE: Final = ("x-expires", "x-max-length", "x-max-length-bytes", "x-message-ttl")
_NUMBERS: Final = frozenset({name[2:] for name in _NOT_NEGATIVE} | {"delivery-limit"})
_OVERFLOWS: Final = frozenset({"drop-head", "reject-publish", "reject-publish-dlx"})


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: for which queues, and what it sets, by the names that RabbitMQ has for it."""

    name: str
    pattern: str
    definition: Mapping[str, Any]
    priority: int = 0

    def covers(self, queue: str) -> bool:
        """Whether it is meant for a queue."""
        return re.search(self.pattern, queue) is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for a queue at present. Times are milliseconds; None is no limit."""

    message_ttl_ms: int | None = None
    expires_ms: int | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    delivery_limit: int | None = None
    single_active_consumer: bool = False

    @property
    def bounded(self) -> bool:
        """Whether the queue has a greatest length."""
        return self.max_length is not None or self.max_length_bytes is not None


UNLIMITED: Final = Limits()


def version_of(text: str) -> Version:
    """Return major and minor of a version such as "4.3.6"."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def merged(policy: Mapping[str, Any], operator: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a policy and an operator policy mean together: of two numbers the lower one."""
    if not (policy and operator):
        return policy or operator
    both = {**policy, **operator}
    for name in policy.keys() & operator.keys() & _NUMBERS:
        both[name] = min(policy[name], operator[name])
    return both


def limits(
    kind: str, arguments: Mapping[str, Any], policy: Mapping[str, Any], version: Version
) -> Limits:
    """Return what arguments and a policy mean for a queue of a type."""
    limited = kind == "quorum" and version >= _DELIVERY_LIMIT_SINCE
    if not policy and arguments.keys() <= {"x-queue-type"}:
        return Limits(delivery_limit=DEFAULT_DELIVERY_LIMIT) if limited else UNLIMITED

    def least(name: str) -> int | None:
        return _resolve(policy.get(name), arguments.get(f"x-{name}"), min)

    def argument_first(name: str) -> Any:
        return arguments.get(f"x-{name}", policy.get(name))

    delivery_limit = None
    if kind == "quorum":
        delivery_limit = _resolve(
            policy.get("delivery-limit"), arguments.get("x-delivery-limit"), _stricter
        )
        if delivery_limit is None and limited:
            delivery_limit = DEFAULT_DELIVERY_LIMIT
        elif limited and delivery_limit is not None and delivery_limit < 0:  # before: less than 0
            delivery_limit = None
    return Limits(
        message_ttl_ms=least("message-ttl"),
        expires_ms=least("expires"),
        max_length=least("max-length"),
        max_length_bytes=least("max-length-bytes"),
        overflow=argument_first("overflow") or "drop-head",
        dead_letter_exchange=argument_first("dead-letter-exchange"),
        dead_letter_routing_key=argument_first("dead-letter-routing-key"),
        delivery_limit=delivery_limit,
        single_active_consumer=bool(arguments.get("x-single-active-consumer")),
    )


def _resolve(
    policy: int | None, argument: int | None, choose: Callable[[int, int], int]
) -> int | None:
    if policy is None or argument is None:
        return argument if policy is None else policy
    return choose(policy, argument)


def _stricter(policy: int, argument: int) -> int:
    """Return the delivery limit that holds: a negative one is none."""
    return max(policy, argument) if policy < 0 or argument < 0 else min(policy, argument)


def check_arguments(queue: str, arguments: Mapping[str, Any]) -> str:
    """Return the type that arguments ask for. Raise RefusedError where RabbitMQ refuses them.

    ``queue`` is its name as in RabbitMQ's texts.
    """

    def refuse(name: str, why: str) -> RefusedError:
        return RefusedError(PRECONDITION_FAILED, f"invalid arg '{name}' for {queue}: {why}")

    kind: str = arguments.get("x-queue-type", "classic")
    if kind not in _ARGUMENTS:
        raise refuse("x-queue-type", f"\"unsupported queue type '{kind}'\"")
    for name in _NOT_NEGATIVE:
        value = arguments.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise refuse(name, f'"expected integer, got {_type_of(value)}"')
        if value < 0 or (name == "x-expires" and not value):
            raise refuse(name, f"{{value_{'negative' if value < 0 else 'zero'},{value}}}")
    if arguments.get("x-overflow", "drop-head") not in _OVERFLOWS:
        raise refuse("x-overflow", "invalid_overflow")
    if "x-dead-letter-routing-key" in arguments and arguments.get("x-dead-letter-exchange") is None:
        raise refuse("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
    for name in arguments:
        if name in _KNOWN and name not in _ARGUMENTS[kind]:
            raise RefusedError(
                PRECONDITION_FAILED,
                f"invalid arg '{name}' for {queue} of queue type rabbit_{kind}_queue",
            )
    return kind


def require_equivalent(
    queue: str, kind: str, present: Mapping[str, Any], asked: Mapping[str, Any]
) -> None:
    """Raise RefusedError where a queue is declared again with other arguments."""
    for name in sorted(_ARGUMENTS[kind]):
        was, wanted = present.get(name), asked.get(name)
        if was == wanted and isinstance(was, bool) == isinstance(wanted, bool):
            continue
        if name == "x-queue-type" and {was, wanted} == {None, "classic"}:
            continue
        if was is None or wanted is None:
            raise _inequivalent(name, queue, _described(wanted), _described(was))
        raise _inequivalent(name, queue, f"'{_shown(wanted)}'", f"'{_shown(was)}'")


def require_same(what: str, owner: str, present: object, asked: object) -> None:
    """Raise RefusedError where a queue or an exchange is declared again otherwise."""
    if present != asked:
        raise _inequivalent(what, owner, f"'{_shown(asked)}'", f"'{_shown(present)}'")


def _inequivalent(what: str, owner: str, received: str, current: str) -> RefusedError:
    return RefusedError(
        PRECONDITION_FAILED,
        f"inequivalent arg '{what}' for {owner}: received {received} but current is {current}",
    )


def _described(value: Any) -> str:
    """Describe an argument; None is not there."""
    return "none" if value is None else f"the value '{_shown(value)}' of type '{_type_of(value)}'"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_of(value: object) -> str:
    """Return RabbitMQ's name for the type of a field, as pika encodes it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "signedint" if -(1 << 31) <= value < 1 << 31 else "long"
    if isinstance(value, dict):
        return "table"
    if isinstance(value, float):
        return "double"
    return "array" if isinstance(value, list) else "longstr"
