"""What a proxy is to alter: a plan, made of small descriptions, and how far it has got.

The functions here make the descriptions and refuse what makes no sense. ``what`` is one of

* ``"delivery"``: a message on its way to a consumer (basic.deliver, with header and body),
* ``"publish"``: a message on its way to the broker (basic.publish, with header and body),
* ``"confirm"``: the broker's ack or nack of one publish; one with ``multiple`` is as many confirms
  as there are publishes that it covers.

``nth`` counts from 1, each ``what`` by itself, over all connections of a proxy in the order in
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
    "Plan",
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
    """One thing that a proxy is to do to the traffic. Made by the functions of this module."""


@dataclass(frozen=True, slots=True)
class OfMessage(Alteration):
    """An alteration of one message or confirm."""

    what: What
    nth: int


@dataclass(frozen=True, slots=True)
class Drop(OfMessage):
    """It is not forwarded."""


@dataclass(frozen=True, slots=True)
class Repeat(OfMessage):
    """It is forwarded twice."""


@dataclass(frozen=True, slots=True)
class Swap(OfMessage):
    """It changes places with the next one of its channel."""


@dataclass(frozen=True, slots=True)
class Delay(OfMessage):
    """It comes later, and so does what is behind it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Flip(OfMessage):
    """Some bits of one byte are turned over."""

    part: Part
    byte: int
    mask: int


@dataclass(frozen=True, slots=True)
class Forge(OfMessage):
    """Another message follows it. ``properties`` are encoded, as a content header holds them."""

    body: bytes
    properties: bytes


@dataclass(frozen=True, slots=True)
class Misroute(OfMessage):
    """Its method frame names another exchange or routing key; None: the one that it has."""

    exchange: str | None
    routing_key: str | None


@dataclass(frozen=True, slots=True)
class CutInside(OfMessage):
    """The connection ends in the middle of it."""


@dataclass(frozen=True, slots=True)
class Cut(Alteration):
    """A connection ends after so many bytes in one direction."""

    direction: Direction
    at_byte: int


@dataclass(frozen=True, slots=True)
class Applied:
    """An alteration that was really done: on which connection (counted from 1), and when.

    ``at_ns`` is Unix nanoseconds.
    """

    alteration: Alteration
    connection: int
    at_ns: int


def drop(what: What, nth: int) -> Alteration:
    """Keep one back.

    A delivery never reaches its consumer. It stays unacknowledged, unless the consumer
    acknowledges a later one with ``multiple``. A publish never reaches the broker; in confirm mode
    the publisher is sent a basic.ack for it at once, as a lying broker would, and the confirms
    behind it are renumbered. A confirm is never heard of; its neighbours are.
    """
    _check(what, nth)
    return Drop(what, nth)


def repeat(what: What, nth: int) -> Alteration:
    """Forward one twice, in the same write.

    A repeated delivery has the same delivery tag: a consumer that acknowledges each delivery by
    itself does so twice, and the broker closes its channel (406). For a repeated publish the
    publisher gets one confirm, that of the first of the two.
    """
    _check(what, nth)
    return Repeat(what, nth)


def swap(what: What, nth: int) -> Alteration:
    """Let one change places with the next of the same kind, on the same channel.

    The tags of deliveries stay where they are, so that acknowledgements mean the same; the
    confirms of publishes are renumbered. If no next one comes within half a second, or another
    method of that channel comes first (a close, a cancel-ok), nothing is done.
    """
    _check(what, nth)
    return Swap(what, nth)


def delay(what: What, nth: int, seconds: float) -> Alteration:
    """Let one come later. What is behind it in its direction of the connection waits for it."""
    _check(what, nth)
    if not 0 <= seconds < float("inf"):
        raise UsageError(
            f"A delay of {seconds} s cannot be kept.", "Give a number of seconds, 0 or more."
        )
    return Delay(what, nth, seconds)


def flip(
    what: What, nth: int, *, byte: int | None = None, mask: int = 0xFF, part: Part = "body"
) -> Alteration:
    """Turn over the bits of ``mask`` in one byte of a message.

    ``byte`` counts from 0, from the start of the body whatever frames it comes in, or, with
    ``part="header"``, from the property flags of the content header. A message that is too short
    for it passes as it is.
    """
    _check(what, nth, "has no body or header to flip a byte of")
    if byte is None or byte < 0:
        raise UsageError(
            f"Which byte of {what} {nth} to flip is not said ({byte}).", "Give byte=0 or more."
        )
    if not 0 < mask <= 0xFF:
        raise UsageError(
            f"A flip with the mask {mask} changes no byte.", "Give a mask from 1 to 255."
        )
    if part not in get_args(Part):
        raise UsageError(f"A message has no part {part!r}.", "Name one of: body, header.")
    return Flip(what, nth, part, byte, mask)


def forge(
    what: What, nth: int, body: bytes, properties: pika.BasicProperties | None = None
) -> Alteration:
    """Let a message of your own follow one, in the same write.

    It has the exchange and the routing key of the one before it, and a forged delivery its
    consumer and delivery tag too. The confirm of a forged publish is kept from the publisher, and
    it is never mandatory.
    """
    _check(what, nth, "cannot be followed by a message")
    try:
        encoded = b"".join((properties or pika.BasicProperties()).encode())
    except Exception as error:  # pika raises its own, assertions and struct.error alike
        raise UsageError(
            f"The properties of a forged message cannot be encoded: {error!r}.",
            "Use the types that AMQP has.",
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
            f"Where {what} {nth} is to be misrouted is not said.",
            "Give an exchange, a routing_key, or both.",
        )
    if any(len(name.encode()) > _SHORT_STRING_BYTES for name in names):
        raise UsageError(
            f"A name for {what} {nth} is too long for AMQP.",
            f"Use {_SHORT_STRING_BYTES} bytes at the most.",
        )
    return Misroute(what, nth, exchange, routing_key)


def cut(direction: Direction, at_byte: int) -> Alteration:
    """Reset the first connection on which so many bytes have passed, after exactly these."""
    if direction not in get_args(Direction):
        raise UsageError(
            f"A connection has no direction {direction!r}.", "Name one of: to_broker, to_client."
        )
    if at_byte < 0:
        raise UsageError(f"No connection has a byte {at_byte}.", "Give at_byte=0 or more.")
    return Cut(direction, at_byte)


def cut_inside(what: What, nth: int) -> Alteration:
    """Forward the first half of one's bytes, and then reset the connection."""
    _check(what, nth)
    return CutInside(what, nth)


class Plan:
    """What is to be done, what has passed, and what was done: one for all connections of a proxy.

    It belongs to one thread; ``applied`` may be copied from any.
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
                    f"{alteration!r} is no alteration.",
                    "Make them with drop(), repeat(), swap() and so on.",
                )
        self._refuse_contradictions()
        self.touches = frozenset(what for what, _ in self._of_messages)

    def count(self, what: What) -> list[OfMessage]:
        """Count one that has come, and give what is to be done to it."""
        self._passed[what] += 1
        return self._of_messages.get((what, self._passed[what]), [])

    def take_cut(self, direction: Direction, passed: int, coming: int) -> Cut | None:
        """Give the cut that lies within the next ``coming`` bytes; it is made only once."""
        for each in self.cuts:
            if each.direction == direction and passed <= each.at_byte <= passed + coming:
                self.cuts.remove(each)
                return each
        return None

    def note(self, alteration: Alteration, connection: int) -> None:
        """Write down that an alteration was done."""
        self.applied.append(Applied(alteration, connection, self._get_time_ns()))

    def _refuse_contradictions(self) -> None:
        for (what, nth), wanted in self._of_messages.items():
            if len(wanted) > 1 and any(isinstance(each, Drop) for each in wanted):
                raise UsageError(
                    f"{what} {nth} is to be dropped, and altered in another way too.",
                    "Take one of the two out of the plan.",
                )
            behind = self._of_messages.get((what, nth + 1), [])
            swaps = [[each for each in some if isinstance(each, Swap)] for some in (wanted, behind)]
            if swaps[0] and len(swaps[0] + swaps[1]) > 1:
                raise UsageError(
                    f"{what} {nth} is to change places twice.",
                    "Leave one message at least between two swaps.",
                )


def _check(what: Any, nth: int, lack_of_confirm: str = "") -> None:
    """Refuse what does not exist; ``lack_of_confirm`` says why a confirm will not do."""
    if what not in get_args(What):
        raise UsageError(
            f"{what!r} is nothing that can be altered.",
            f"Name one of: {', '.join(get_args(What))}.",
        )
    if lack_of_confirm and what == "confirm":
        raise UsageError(f"A confirm {lack_of_confirm}.", "Name a delivery or a publish.")
    if nth < 1:
        raise UsageError(f"There is no {what} {nth}.", "They are counted from 1.")
