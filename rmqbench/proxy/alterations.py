"""What a proxy is to alter: descriptions of single alterations, and the plan that holds them.

The functions here make the descriptions, and raise UsageError for what makes no sense. ``what`` is
one of

* ``"delivery"``: a message on its way to a consumer (basic.deliver, with header and body),
* ``"publish"``: a message on its way to the broker (basic.publish, with header and body),
* ``"confirm"``: the broker's ack or nack of one publish; one with ``multiple`` counts as one
  confirm for each publish that it covers.

``nth`` counts from 1, separately for each ``what``, over all connections of a proxy in the order in
which they pass. What the proxy adds itself is not counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pika.spec

from rmqbench.errors import UsageError

__all__ = [
    "Alteration",
    "AlterationPlan",
    "Applied",
    "Cut",
    "CutInside",
    "Delay",
    "Direction",
    "Drop",
    "Flip",
    "Forge",
    "Misroute",
    "OfMessage",
    "Part",
    "Repeat",
    "Swap",
    "What",
    "cut",
    "cut_inside",
    "delay",
    "drop",
    "flip",
    "forge",
    "misroute",
    "repeat",
    "swap",
]

What = Literal["delivery", "publish", "confirm"]
Direction = Literal["to_broker", "to_client"]
Part = Literal["body", "header"]

_SHORT_STRING_BYTES = 255


@dataclass(frozen=True, slots=True)
class Alteration:
    """One alteration of the traffic, made by a function of this module."""


@dataclass(frozen=True, slots=True)
class OfMessage(Alteration):
    """An alteration of one message or confirm."""

    what: What
    nth: int


@dataclass(frozen=True, slots=True)
class Drop(OfMessage):
    """The message or confirm is not forwarded."""


@dataclass(frozen=True, slots=True)
class Repeat(OfMessage):
    """The message or confirm is forwarded twice."""


@dataclass(frozen=True, slots=True)
class Swap(OfMessage):
    """The message or confirm changes places with the next one of its channel."""


@dataclass(frozen=True, slots=True)
class Delay(OfMessage):
    """The message or confirm is delayed, and so is everything behind it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Flip(OfMessage):
    """Some bits of one byte are inverted."""

    part: Part
    byte: int
    mask: int


@dataclass(frozen=True, slots=True)
class Forge(OfMessage):
    """Another message follows. ``properties`` are encoded as in a content header."""

    body: bytes
    properties: bytes


@dataclass(frozen=True, slots=True)
class Misroute(OfMessage):
    """The method frame names another exchange or routing key; None leaves it as it is."""

    exchange: str | None
    routing_key: str | None


@dataclass(frozen=True, slots=True)
class CutInside(OfMessage):
    """The connection ends in the middle of the message or confirm."""


@dataclass(frozen=True, slots=True)
class Cut(Alteration):
    """A connection ends after ``at_byte`` bytes in one direction."""

    direction: Direction
    at_byte: int


@dataclass(frozen=True, slots=True)
class Applied:
    """An alteration that was made: on which connection (counted from 1), and when.

    ``at_ns`` is Unix time in nanoseconds.
    """

    alteration: Alteration
    connection: int
    at_ns: int


def drop(what: What, nth: int) -> Alteration:
    """Drop one message or confirm.

    A dropped delivery never reaches its consumer. It stays unacknowledged, unless the consumer
    acknowledges a later one with ``multiple``. A dropped publish never reaches the broker; in
    confirm mode the publisher is sent a basic.ack for it at once, as a faulty broker would do, and
    later confirms are renumbered. A dropped confirm never reaches the publisher; those before and
    behind it do.
    """
    _check(what, nth)
    return Drop(what, nth)


def repeat(what: What, nth: int) -> Alteration:
    """Forward one message or confirm twice, in the same write.

    A repeated delivery has the same delivery tag: a consumer that acknowledges each delivery by
    itself does so twice, and the broker closes its channel (406). For a repeated publish the
    publisher gets one confirm, that of the first of the two.
    """
    _check(what, nth)
    return Repeat(what, nth)


def swap(what: What, nth: int) -> Alteration:
    """Exchange one message or confirm with the next of the same kind, on the same channel.

    The tags of deliveries stay in order, so that acknowledgements mean the same; the confirms of
    publishes are renumbered. If no next one comes within half a second, or another method of that
    channel comes first (a close, a cancel-ok), nothing is altered.
    """
    _check(what, nth)
    return Swap(what, nth)


def delay(what: What, nth: int, seconds: float) -> Alteration:
    """Delay one message or confirm, and with it everything behind it in the same direction."""
    _check(what, nth)
    if not 0 <= seconds < float("inf"):
        raise UsageError(
            f"A delay of {seconds} s is not possible.", "Use a number of seconds, 0 or more."
        )
    return Delay(what, nth, seconds)


def flip(
    what: What, nth: int, *, byte: int | None = None, mask: int = 0xFF, part: Part = "body"
) -> Alteration:
    """Invert the bits of ``mask`` in one byte of a message.

    ``byte`` counts from 0: from the start of the body, however many frames it has, or, with
    ``part="header"``, from the property flags of the content header. A message that is too short
    passes unaltered.
    """
    _check(what, nth, "has no body or header to flip a byte of")
    if byte is None or byte < 0:
        raise UsageError(f"There is no byte {byte} of {what} {nth} to flip.", "Use byte=0 or more.")
    if not 0 < mask <= 0xFF:
        raise UsageError(
            f"A flip with the mask {mask} changes no byte.", "Use a mask from 1 to 255."
        )
    if part not in get_args(Part):
        raise UsageError(f"A message has no part {part!r}.", "Use one of: body, header.")
    return Flip(what, nth, part, byte, mask)


def forge(
    what: What, nth: int, body: bytes, properties: pika.BasicProperties | None = None
) -> Alteration:
    """Send a message of your own behind another one, in the same write.

    It has the exchange and the routing key of the one before it; a forged delivery has its
    consumer tag and delivery tag, too. A forged publish is never mandatory, and its confirm is not
    passed on to the publisher.
    """
    _check(what, nth, "cannot be followed by a message")
    try:
        encoded = b"".join((properties or pika.BasicProperties()).encode())
    except Exception as error:  # pika raises its own, assertions and struct.error alike
        raise UsageError(
            f"The properties of a forged message cannot be encoded: {error!r}.",
            "Use values of the types that AMQP has.",
        ) from None
    return Forge(what, nth, bytes(body), encoded)


def misroute(
    what: What, nth: int, exchange: str | None = None, routing_key: str | None = None
) -> Alteration:
    """Write another exchange or routing key into a message's method frame."""
    _check(what, nth, "has no exchange and no routing key")
    names = [name for name in (exchange, routing_key) if name is not None]
    if not names:
        raise UsageError(
            f"{what} {nth} is to be misrouted to the exchange and routing key that it has.",
            "Name an exchange, a routing_key, or both.",
        )
    if any(len(name.encode()) > _SHORT_STRING_BYTES for name in names):
        raise UsageError(
            f"An exchange or routing key for {what} {nth} is too long for AMQP.",
            f"Use at most {_SHORT_STRING_BYTES} bytes.",
        )
    return Misroute(what, nth, exchange, routing_key)


def cut(direction: Direction, at_byte: int) -> Alteration:
    """Reset the first connection on which ``at_byte`` bytes have passed, right behind these."""
    if direction not in get_args(Direction):
        raise UsageError(
            f"A connection has no direction {direction!r}.", "Use one of: to_broker, to_client."
        )
    if at_byte < 0:
        raise UsageError(f"No connection has a byte {at_byte}.", "Use at_byte=0 or more.")
    return Cut(direction, at_byte)


def cut_inside(what: What, nth: int) -> Alteration:
    """Forward the first half of a message's or confirm's bytes, and then reset the connection."""
    _check(what, nth)
    return CutInside(what, nth)


class AlterationPlan:
    """The alterations of a proxy, what has passed, and what was altered, over all connections.

    It belongs to one thread; ``applied`` may be copied from any. ``touches`` holds each ``what`` of
    which one is to be altered.
    """

    def __init__(
        self, alterations: Iterable[Alteration], *, get_time_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.applied: list[Applied] = []
        self.cuts: list[Cut] = []
        self._of_messages: dict[tuple[What, int], list[OfMessage]] = {}
        self._passed: Counter[What] = Counter()
        self._get_time_ns = get_time_ns
        for alteration in alterations:
            if isinstance(alteration, OfMessage):
                key = (alteration.what, alteration.nth)
                self._of_messages.setdefault(key, []).append(alteration)
            elif isinstance(alteration, Cut):
                self.cuts.append(alteration)
            else:
                raise UsageError(
                    f"{alteration!r} is not an alteration.",
                    "Make one with drop(), repeat() or another function of rmqbench.testing.",
                )
        self._refuse_contradictions()
        self.touches = frozenset(what for what, _ in self._of_messages)

    def count(self, what: What) -> list[OfMessage]:
        """Count one that passes, and return its alterations."""
        self._passed[what] += 1
        return self._of_messages.get((what, self._passed[what]), [])

    def take_cut(self, direction: Direction, passed: int, coming: int) -> Cut | None:
        """Remove and return the cut that is due within the next ``coming`` bytes, or None."""
        for each in self.cuts:
            if each.direction == direction and passed <= each.at_byte <= passed + coming:
                self.cuts.remove(each)
                return each
        return None

    def note(self, alteration: Alteration, connection: int) -> None:
        """Record that an alteration was made."""
        self.applied.append(Applied(alteration, connection, self._get_time_ns()))

    def _refuse_contradictions(self) -> None:
        for (what, nth), wanted in self._of_messages.items():
            if len(wanted) > 1 and any(isinstance(each, Drop) for each in wanted):
                raise UsageError(
                    f"{what} {nth} is to be dropped and also altered in another way.",
                    "Remove one of the two from the plan.",
                )
            behind = self._of_messages.get((what, nth + 1), [])
            swaps = [[each for each in some if isinstance(each, Swap)] for some in (wanted, behind)]
            if swaps[0] and len(swaps[0] + swaps[1]) > 1:
                raise UsageError(
                    f"{what} {nth} is to change places twice.",
                    "Leave at least one message between two swaps.",
                )


def _check(what: Any, nth: int, lack_of_confirm: str = "") -> None:
    """Raise UsageError for what does not exist, or a confirm where ``lack_of_confirm`` is set."""
    if what not in get_args(What):
        raise UsageError(
            f"{what!r} is not something that can be altered.",
            f"Use one of: {', '.join(get_args(What))}.",
        )
    if lack_of_confirm and what == "confirm":
        raise UsageError(f"A confirm {lack_of_confirm}.", "Use a delivery or a publish.")
    if nth < 1:
        raise UsageError(f"There is no {what} {nth}.", "They are counted from 1.")
