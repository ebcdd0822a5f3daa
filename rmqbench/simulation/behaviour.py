"""What RabbitMQ is free to do in one way or another, and what it must never do.

A :class:`Behaviour` is asked at every such place. As it is, it is an honest RabbitMQ that does
everything at once. :class:`SeededBehaviour` decides by a random number generator that is given to
it, so that a history is repeated by its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final

from rmqbench.simulation.content import Content

__all__ = ["Behaviour", "Misdeed", "Moment", "SeededBehaviour"]


class Moment(Enum):
    """When a misdeed is possible."""

    PUBLISH = "a publish has been read, and is not routed yet"
    STORE = "a queue has taken a message in"
    DELIVERY = "a message is about to be delivered"
    ACKNOWLEDGEMENT = "an acknowledgement has been read, or needs none"
    CONFIRM = "a publish is to be confirmed"


class Misdeed(Enum):
    """What RabbitMQ must never do: its name, and its moment."""

    ACK_UNSTORED = "acked and never stored", Moment.PUBLISH

    MISROUTE_QUEUE = "stored in a further queue that no binding leads to", Moment.STORE
    INJECT_FOREIGN = "a message of nobody stored behind it", Moment.STORE
    INJECT_FORGED = "a forged message stored behind it", Moment.STORE
    DOUBLE = "a second copy stored behind it", Moment.STORE
    DOUBLE_FLAGGED = "a second copy stored behind it, as redelivered", Moment.STORE

    LOSE = "forgotten instead of delivered", Moment.DELIVERY
    SWAP = "the one behind it delivered first", Moment.DELIVERY
    ALTER = "content altered by the caller's function", Moment.DELIVERY
    MISROUTE_EXCHANGE = "delivered with another exchange", Moment.DELIVERY
    MISROUTE_KEY = "delivered with another routing key", Moment.DELIVERY
    REPEAT = "delivered again at once, with a new tag", Moment.DELIVERY
    REPEAT_FLAGGED = "delivered again at once, with a new tag, as redelivered", Moment.DELIVERY
    REPEAT_TAG = "delivered again at once, with the same tag", Moment.DELIVERY
    REPEAT_TAG_FLAGGED = "delivered again, with the same tag, as redelivered", Moment.DELIVERY

    FORGET_ACK = "acknowledgement ignored", Moment.ACKNOWLEDGEMENT
    REDELIVER_ACKED = "ready again although acknowledged, as redelivered", Moment.ACKNOWLEDGEMENT
    REDELIVER_ACKED_UNFLAGGED = "ready again although acknowledged", Moment.ACKNOWLEDGEMENT

    NACK_STORED = "nacked although stored", Moment.CONFIRM
    WITHHOLD_CONFIRM = "never confirmed although stored", Moment.CONFIRM
    ACK_THEN_NACK = "acked, then nacked", Moment.CONFIRM
    NACK_THEN_ACK = "nacked, then acked", Moment.CONFIRM
    CONFIRM_TWICE = "acked twice", Moment.CONFIRM
    CONFIRM_TOO_HIGH = "acked, and a tag that was never published, too", Moment.CONFIRM
    CONFIRM_ZERO = "acked, and tag 0 without multiple, too", Moment.CONFIRM
    CONFIRM_HUGE = "acked, and a tag of 2**63 or more, too", Moment.CONFIRM

    def __init__(self, text: str, moment: Moment) -> None:
        self.text = text
        self.moment = moment


_ALL_AT_ONCE: Final = 1 << 30


class Behaviour:
    """An honest RabbitMQ that does everything at once; override what is to be different.

    Queues are named, messages have the numbers of :mod:`rmqbench.simulation.truth`.
    """

    def confirm_delay_s(self, queue: str, message: int) -> float:
        """Return how long a queue takes until a persistent message counts as written to disk."""
        return 0.0

    def groups_confirms(self) -> bool:
        """Whether confirms that are due together are sent as one with ``multiple``."""
        return True

    def delivery_delay_s(self, queue: str) -> float:
        """Return how long a queue waits before the next burst of deliveries."""
        return 0.0

    def burst(self, queue: str) -> int:
        """Return how many messages a queue delivers at once, at the most."""
        return _ALL_AT_ONCE

    def survives_kill(self, queue: str, message: int) -> bool:
        """Whether a message that was not confirmed yet is still there after a kill."""
        return True

    def ack_survives_kill(self, queue: str, message: int) -> bool:
        """Whether the acknowledgement of a message is still known after a kill."""
        return True

    def ack_delay_s(self, queue: str) -> float:
        """Return how long a channel keeps what it has to tell a quorum queue's leader.

        What is acknowledged, and not told when the channel ends, is given back.
        """
        return 0.0

    def recovery_s(self, queue: str) -> float:
        """Return how long a queue holds its messages back after the node has started."""
        return 0.0

    def count_while_recovering(self, queue: str, ready: int) -> int:
        """Return the ready count that a queue answers while it holds its messages back."""
        return ready

    def misdeed(self, moment: Moment, queue: str, message: int) -> Misdeed | None:
        """Return what is to be done wrong now. ``queue`` is empty where none is concerned."""
        return None

    def alter(self, content: Content) -> Content:
        """Return what is delivered instead of a content that a misdeed alters."""
        return content

    def forge(self, content: Content) -> Content:
        """Return a forged message, made from one that has just been stored."""
        return content

    def foreign(self) -> Content:
        """Return a message of unknown origin."""
        return Content(b"\x00\x00", b"a message of somebody else")


class SeededBehaviour(Behaviour):
    """Decides by a random number generator: the same seed and history give the same decisions."""

    def __init__(
        self,
        source: random.Random,
        *,
        rates: Mapping[Misdeed, float] | None = None,
        plan: Iterable[tuple[Misdeed, int]] = (),
        confirm_delay_s: float = 0.0,
        delivery_delay_s: float = 0.0,
        most_at_once: int = _ALL_AT_ONCE,
        grouped: float = 1.0,
        survival: float = 0.5,
        ack_survival: float = 1.0,
        ack_delay_s: float = 0.0,
        recovery_s: float = 0.0,
        alter: Callable[[Content], Content] | None = None,
        forge: Callable[[Content], Content] | None = None,
        foreign: Callable[[], Content] | None = None,
    ) -> None:
        """Decide by ``source``.

        ``rates`` has the probability of a misdeed at each of its moments. ``plan`` names misdeeds
        that are tried at the n-th time that their moment comes, counted from 0. All ``…_s``
        are upper limits; ``most_at_once`` is one of a burst's size.
        ``grouped``, ``survival`` and ``ack_survival`` are probabilities.
        """
        self._random = source
        self._confirm_delay_s = confirm_delay_s
        self._delivery_delay_s = delivery_delay_s
        self._most_at_once = most_at_once
        self._grouped = grouped
        self._survival = survival
        self._ack_survival = ack_survival
        self._ack_delay_s = ack_delay_s
        self._recovery_s = recovery_s
        self._alter, self._forge, self._foreign = alter, forge, foreign
        self._rates: dict[Moment, list[tuple[Misdeed, float]]] = {}
        for misdeed, rate in (rates or {}).items():
            self._rates.setdefault(misdeed.moment, []).append((misdeed, rate))
        self._plan: dict[Moment, dict[int, Misdeed]] = {}
        for misdeed, time in plan:
            self._plan.setdefault(misdeed.moment, {})[time] = misdeed
        self._times = dict.fromkeys(Moment, 0)
        self._is_honest = not self._rates and not self._plan

    def confirm_delay_s(self, queue: str, message: int) -> float:
        """Return some quarters of the longest delay: so some confirms are due together."""
        longest_s = self._confirm_delay_s
        return self._random.randrange(5) / 4 * longest_s if longest_s else 0.0

    def groups_confirms(self) -> bool:
        """Whether the next confirms are grouped."""
        return self._grouped >= 1 or self._random.random() < self._grouped

    def delivery_delay_s(self, queue: str) -> float:
        """Return a random part of the longest delay."""
        return self._random.random() * self._delivery_delay_s if self._delivery_delay_s else 0.0

    def burst(self, queue: str) -> int:
        """Return a random size."""
        most = self._most_at_once
        return most if most == _ALL_AT_ONCE else self._random.randint(1, most)

    def survives_kill(self, queue: str, message: int) -> bool:
        """Whether this one survives."""
        return self._random.random() < self._survival

    def ack_survives_kill(self, queue: str, message: int) -> bool:
        """Whether this one survives."""
        return self._ack_survival >= 1 or self._random.random() < self._ack_survival

    def ack_delay_s(self, queue: str) -> float:
        """Return nothing as a rule, or some quarters of the longest delay."""
        if not self._ack_delay_s or self._random.random() < 0.8:
            return 0.0
        return self._random.randrange(1, 5) / 4 * self._ack_delay_s

    def recovery_s(self, queue: str) -> float:
        """Return a random part of the longest time."""
        return self._random.random() * self._recovery_s if self._recovery_s else 0.0

    def count_while_recovering(self, queue: str, ready: int) -> int:
        """Return any number up to the true one."""
        return self._random.randint(0, ready) if self._recovery_s else ready

    def misdeed(self, moment: Moment, queue: str, message: int) -> Misdeed | None:
        """Return what the plan or the dice say."""
        if self._is_honest:
            return None
        time = self._times[moment]
        self._times[moment] = time + 1
        planned = self._plan.get(moment)
        if planned is not None and time in planned:
            return planned[time]
        rates = self._rates.get(moment)
        if rates is not None:
            drawn = self._random.random()
            for misdeed, rate in rates:
                drawn -= rate
                if drawn < 0:
                    return misdeed
        return None

    def alter(self, content: Content) -> Content:
        """Return what the caller's function makes of it."""
        return self._alter(content) if self._alter else super().alter(content)

    def forge(self, content: Content) -> Content:
        """Return what the caller's function makes of it."""
        return self._forge(content) if self._forge else super().forge(content)

    def foreign(self) -> Content:
        """Return what the caller's function makes."""
        return self._foreign() if self._foreign else super().foreign()
