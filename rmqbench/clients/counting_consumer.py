"""Take messages of any origin from a queue, and count who sent them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.amqp.shape import Deliveries
from rmqbench.clients.consumer import Consumer, Look, Subscription, Taken
from rmqbench.clients.recovery import pause
from rmqbench.errors import RmqbenchError
from rmqbench.message import recipe_of

__all__ = ["NOBODY", "OTHERS", "CountingConsumer", "Tally"]

NOBODY = "-"
"""Stands for the sender of a message without the header ``producer_id``."""

OTHERS = "(others)"
"""Stands for all senders behind the first thousand, so that no flood of names fills the memory."""

_MOST_SENDERS = 1000

ShowMessage = Callable[[Any, Any, bytes], None]
"""Called with the method, the properties and the body of a message, before it is acknowledged."""


class Tally:
    """What several consumers have taken together, at most ``limit`` messages (None: any number).

    ``senders`` counts by the header ``producer_id``. A message counts when its acknowledgement is
    sent: what comes again after a lost connection because that did not arrive counts again.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.acknowledged = 0
        self.senders: Counter[str] = Counter()
        self._claimed = 0  # taken and not acknowledged yet, by all consumers
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        """Whether as many were taken as are wanted."""
        return self.limit is not None and self.acknowledged + self._claimed >= self.limit

    def claim(self, wanted: int) -> int:
        """Return how many of these messages may be taken."""
        with self._lock:
            if self.limit is not None:
                wanted = min(wanted, self.limit - self.acknowledged - self._claimed)
            self._claimed += wanted
            return wanted

    def give_back(self, count: int) -> None:
        """Record that as many were not acknowledged and will come again."""
        with self._lock:
            self._claimed -= count

    def acknowledge(self, senders: Counter[str]) -> None:
        """Record that these are acknowledged."""
        with self._lock:
            count = senders.total()
            self._claimed -= count
            self.acknowledged += count
            self.senders += senders


class CountingConsumer:
    """One worker: takes messages until there are enough or :meth:`stop` is called.

    Messages of one run of rmqbench are recognised and taken many at once; with ``show`` each is
    taken alone, and shown.
    """

    def __init__(
        self, subscription: Subscription, tally: Tally, show: ShowMessage | None = None
    ) -> None:
        self._tally = tally
        self._show = show
        self._names: list[str] = []  # a message's place is its sender's place in here
        self._places: dict[str, int] = {}
        self._pending: Counter[int] = Counter()
        self._stopping = threading.Event()
        self._consumer = Consumer(
            subscription, self, sleep=lambda seconds: pause(seconds, self._stopping.is_set)
        )
        self._holds_some = False

    @property
    def interruptions(self) -> int:
        """How often it was kept from its work."""
        return len(self._consumer.interruptions)

    def stop(self) -> None:
        """Acknowledge what was taken, and end; from any thread or signal handler."""
        self._stopping.set()

    def run(self) -> RmqbenchError | None:
        """Take messages; return the error with which it was given up."""
        try:
            return self._consumer.run(self._go_on)
        finally:
            self._give_back()

    def begin(self) -> None:
        """Begin a new channel: what was not acknowledged on the last one comes again."""
        self._give_back()
        self._holds_some = False

    def end(self) -> None:
        """Do nothing: what was acknowledged is counted already."""

    def take(self, method: Any, properties: Any, body: bytes) -> Taken | None:
        """Take one message, unless there are enough."""
        if not self._claim(1):
            return None
        place = self._place((properties.headers or {}).get("producer_id"))
        self._pending[place] += 1
        if self._show is not None:
            self._show(method, properties, body)
        recipe = None if self._show else recipe_of(properties, body)
        return Taken(np.array([place], np.int64), recipe)

    def take_many(self, deliveries: Deliveries) -> tuple[int, npt.NDArray[np.int64]]:
        """Take messages of one sender, as many of them as are wanted."""
        claimed = self._claim(len(deliveries.tags))
        place = self._place(deliveries.recipe.producer_id)
        self._pending[place] += claimed
        return claimed, np.full(claimed, place, np.int64)

    def acknowledge(self, places: npt.NDArray[np.int64]) -> None:
        """Record that the acknowledgement of these is being sent."""
        sent: Counter[int] = Counter(places.tolist())
        self._pending -= sent
        self._tally.acknowledge(Counter({self._names[p]: n for p, n in sent.items()}))

    def _claim(self, wanted: int) -> int:
        """Return how many may be taken; the others are held."""
        claimed = 0 if self._stopping.is_set() else self._tally.claim(wanted)
        if claimed < wanted:
            self._holds_some = True
        return claimed

    def _give_back(self) -> None:
        self._tally.give_back(self._pending.total())
        self._pending.clear()

    def _place(self, sender: object) -> int:
        name = sender if isinstance(sender, str) else NOBODY
        if name not in self._places and len(self._names) >= _MOST_SENDERS:
            name = OTHERS
        if name not in self._places:
            self._places[name] = len(self._names)
            self._names.append(name)
        return self._places[name]

    def _go_on(self, _: Look) -> bool:
        # What it holds is for others as soon as it ends, should there be too few taken after all.
        return not (self._stopping.is_set() or self._holds_some or self._tally.full)
