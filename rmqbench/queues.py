"""The queues of a scenario: what is declared, and how each is consumed."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rmqbench.amqp.topology import (
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_KEY,
    Binding,
    Queue,
    QueueKind,
)
from rmqbench.errors import UsageError
from rmqbench.settling import Settling

__all__ = ["ConsumedQueue", "ConsumerSettings", "DelayQueue", "require_between", "require_rate"]


@dataclass(frozen=True)
class ConsumerSettings:
    """In what a consumer differs from the others of its queue; None: in nothing.

    ``priority`` is that of the consumer, ``x-priority``. It begins ``joins_after_s`` later. After
    each ``cancels_every`` messages it cancels and consumes again by the same tag, over the channel
    that it has, while the messages that it holds are not settled. With ``polls_every_s`` it asks
    for one message after another (``basic.get``), and where there was none again so much later.
    """

    prefetch: int | None = None
    settle: str | None = None
    priority: int | None = None
    joins_after_s: float = 0.0
    cancels_every: int | None = None
    polls_every_s: float | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for what no broker takes."""
        if self.cancels_every is not None:
            require_between("cancels_every", self.cancels_every, 1, sys.maxsize)
        if self.prefetch is not None:
            require_between("prefetch", self.prefetch, 1, 65_535)
        if self.priority is not None:
            require_between("priority", self.priority, -(1 << 31), (1 << 31) - 1)
        if not 0 <= self.joins_after_s < math.inf:
            raise UsageError(f"joins_after_s is {self.joins_after_s}.", "Give seconds, 0 or more.")
        if self.settle is not None:
            Settling.of(self.settle)
        if self.polls_every_s is None:
            return
        if not 0 < self.polls_every_s < math.inf:
            raise UsageError(
                f"polls_every_s is {self.polls_every_s}.", "Give seconds, more than 0."
            )
        if self.priority is not None or self.cancels_every is not None:
            raise UsageError(
                "With polls_every_s there is no consumer that had a priority, or could cancel.",
                "Leave out priority and cancels_every.",
            )


@dataclass(frozen=True)
class ConsumedQueue:
    """A queue of a scenario: what is declared, and how it is consumed.

    ``consumers`` share it, each with ``prefetch`` deliveries without an acknowledgement at the
    most. ``consume_rate`` limits the messages a second of all of them together. ``arguments`` are
    sent besides those that follow from ``kind`` (``x-max-length`` and the like). With ``auto_ack``
    the broker forgets each message as it delivers it. ``settle`` is what consumers do with their
    messages, such as ``"ack*4,late*5"`` (:mod:`rmqbench.settling`). ``settings`` are of the
    consumers in turn, where they differ. Without ``bindings`` (None) it is bound to the scenario's
    exchange, and gets every message.
    """

    name: str
    kind: QueueKind = "classic"
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    consumers: int = 1
    prefetch: int = 1000
    consume_rate: float | None = None
    auto_ack: bool = False
    settle: str = "ack"
    settings: tuple[ConsumerSettings, ...] = ()
    bindings: tuple[Binding, ...] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for what no broker takes, or what makes no run."""
        require_between("consumers", self.consumers, 1, 1000)
        require_between("prefetch", self.prefetch, 1, 65_535)
        require_rate("consume_rate", self.consume_rate)
        if self.auto_ack and self.consume_rate is not None:
            raise UsageError(
                "consume_rate cannot be held with auto_ack: the broker then waits for nobody.",
                "Leave one of them out.",
            )
        if len(self.settings) > self.consumers:
            raise UsageError(
                f"There are {len(self.settings)} settings for {self.consumers} consumers.",
                "Give one for each consumer, or fewer, which are theirs in turn.",
            )
        Settling.of(self.settle)
        if self.auto_ack and not all(each.only_acknowledges for each in self.settlings):
            raise UsageError(
                f"settle is {self.settle!r}, and with auto_ack there is nothing to settle.",
                "Leave one of them out.",
            )
        object.__setattr__(self, "arguments", dict(self.arguments))
        polls = any(each.polls_every_s is not None for each in self.settings)
        if polls and self.arguments.get("x-single-active-consumer"):
            raise UsageError(
                f"Queue {self.name!r} has a single active consumer, and polls_every_s asks for "
                "messages beside it.",
                "Leave one of them out.",
            )
        self.declared()

    @property
    def settlings(self) -> tuple[Settling, ...]:
        """What its consumers do with messages, each way once."""
        texts = (each.settle or self.settle for each in self.settings or (ConsumerSettings(),))
        return tuple(Settling.of(text) for text in dict.fromkeys(texts))

    def declared(self) -> Queue:
        """Return the queue as it is declared."""
        return Queue(self.name, self.kind, self.durable, self.arguments, self.bindings)


# What would take messages out of a delay queue besides their time, or says where they go.
_OTHER_WAYS = frozenset(
    {
        *("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-delivery-limit"),
        *(DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY),
    }
)


@dataclass(frozen=True)
class DelayQueue:
    """A queue that nobody consumes: dead letters wait in it for a while, and go on.

    What has waited ``delay_s`` goes on through ``exchange`` (``""``: to the queue of that name) by
    ``routing_key`` (None: by that by which it came). ``arguments`` are sent besides.
    """

    name: str
    delay_s: float
    exchange: str = ""
    routing_key: str | None = None
    kind: QueueKind = "classic"
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    bindings: tuple[Binding, ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError for what no broker takes, or what gives messages up in other ways."""
        if not 0 < self.delay_s < math.inf:
            raise UsageError(f"delay_s is {self.delay_s}.", "Give seconds, more than 0.")
        object.__setattr__(self, "arguments", dict(self.arguments))
        if refused := sorted(_OTHER_WAYS & self.arguments.keys()):
            raise UsageError(
                f"The argument {refused[0]} is not for the delay queue {self.name!r}: messages "
                "leave it when they have waited, and no sooner.",
                "Leave it out.",
            )
        self.declared()

    def declared(self) -> Queue:
        """Return the queue as it is declared."""
        arguments = {
            "x-message-ttl": max(1, round(self.delay_s * 1000)),
            DEAD_LETTER_EXCHANGE: self.exchange,
            **({} if self.routing_key is None else {DEAD_LETTER_KEY: self.routing_key}),
            **self.arguments,
        }
        return Queue(self.name, self.kind, True, arguments, self.bindings)


def require_between(name: str, value: int, least: int, most: int) -> None:
    """Raise UsageError unless a value is a whole number between two, both included."""
    if not isinstance(value, int) or not least <= value <= most:
        raise UsageError(
            f"{name} is {value!r}.", f"Give a whole number between {least:,} and {most:,}."
        )


def require_rate(name: str, rate: float | None) -> None:
    """Raise UsageError unless a rate is one, or None."""
    if rate is not None and not 0 < rate < math.inf:
        raise UsageError(f"{name} is {rate}.", "Give messages a second, more than 0.")
