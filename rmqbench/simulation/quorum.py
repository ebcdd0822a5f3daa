"""A quorum queue: what it does otherwise than a classic one.

https://www.rabbitmq.com/docs/quorum-queues, and what rabbit_fifo.erl of 3.10.8, 4.0.5 and 4.3.5
shows: what is given back goes into a line of its own, ahead of what is ready, in the order in which
it was given back. Without a delivery limit (the default before 4.0) what a client gives back is
enqueued anew instead, behind all others. Before 4.3 every return counts against the limit; from
then on a basic.nack and a basic.recover do not.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import ClassVar, Final

from rmqbench.simulation.content import Content, with_numbers
from rmqbench.simulation.entries import Entry, Held
from rmqbench.simulation.queues import Queue

__all__ = ["QuorumQueue"]

_LOW: Final = (
    0.8  # a queue that rejects takes messages again below this part of its greatest length
)
_BY_CLIENT: Final = frozenset({"nack", "recover", "reject"})
_COUNTS_FAILURES_SINCE: Final = (4, 3)
_PROPERTIES_HAVE_WEIGHT_SINCE: Final = (4, 3)
_TICK_S: Final = 5.0
_ONLY_REDELIVERIES_SINCE: Final = (4, 0)  # before, basic.get shows a count of 0, too


class QuorumQueue(Queue):
    """A quorum queue with one member: replication is not modelled."""

    type: ClassVar[str] = "quorum"

    def shown_consumers(self) -> int:
        """Return the number of consumers that it answers.

        A cancelled consumer counts as long as it has something unacknowledged, and so does each
        basic.get; those that wait behind a single active one do not (measured: 3.10.8, 4.0.5,
        4.3.6).
        """
        holders = {entry.holder for entry in self.unacked.values()}
        return len(holders.union(self._candidates()))

    def left_behind(self) -> int:
        """Return the ready messages, with those that have just come to the head and expired."""
        return self.shown_count() if self.is_recovering else len(self.ready) + len(self.returns)

    def in_order(self, helds: list[Held]) -> list[Held]:
        """Return what a channel gives back as it ends: one consumer after the other.

        Each basic.get is a consumer of its own. Read in rabbit_fifo.erl, and measured.
        """
        before_4 = self.broker.version_number < (4, 0)
        return sorted(helds, key=_by_text if before_4 else _by_age)

    def _looks_after_s(self) -> float:
        """Return the time of the first tick at which it was not used for ``x-expires``."""
        assert self.limits.expires_ms is not None
        due = self.broker.now() + self.limits.expires_ms / 1000
        ticks = ceil((due - self._created_at) / _TICK_S)
        return max(0.0, self._created_at + ticks * _TICK_S - self.broker.now())

    def _size(self, entry: Entry) -> int:
        content = entry.content
        if self.broker.version_number < _PROPERTIES_HAVE_WEIGHT_SINCE:
            return len(content.body)
        return len(content.properties) + len(content.body)

    def _make_room(self) -> None:
        self.pump()
        self._drop_overflow()

    def _forgets_the_next(self) -> bool:
        return False

    def _refuses(self, entry: Entry) -> bool:
        """Whether its publishers know it to be over its limit: one message more does come in."""
        if self.limits.overflow == "drop-head":
            return False
        if self.rejecting and self._is_low():
            self.rejecting = False
        elif not self.rejecting and self._is_over():
            self.rejecting = True
        return self.rejecting

    def _is_low(self) -> bool:
        most, most_bytes = self.limits.max_length, self.limits.max_length_bytes
        ready = len(self.ready) + len(self.returns)
        return (most is None or ready <= int(most * _LOW)) and (
            most_bytes is None or self._ready_bytes <= int(most_bytes * _LOW)
        )

    def _is_past_limit(self, entry: Entry) -> bool:
        limit = self.limits.delivery_limit
        if limit is None:
            return False
        if self.broker.version_number >= _COUNTS_FAILURES_SINCE:
            return entry.failed > limit
        return entry.acquired > limit

    def _put_back(self, entries: list[Entry], cause: str = "") -> None:
        self._ready_bytes += sum(self._size(entry) for entry in entries)
        counted = self.broker.version_number >= _COUNTS_FAILURES_SINCE and cause == "reject"
        if self.limits.delivery_limit is None and cause in _BY_CLIENT and not counted:
            self.ready.extend(entries)
        else:
            self.returns.extend(entries)

    def shown(self, entry: Entry, *, got: bool = False) -> Content:
        """Return the content with the headers that count its deliveries."""
        version, content = self.broker.version_number, entry.content
        if version >= _COUNTS_FAILURES_SINCE:
            if not (entry.acquired or entry.failed):
                return content
            numbers = {"x-acquired-count": entry.acquired or entry.failed}
            if entry.failed:
                numbers["x-delivery-count"] = entry.failed
        elif version >= _ONLY_REDELIVERIES_SINCE and (entry.acquired or entry.failed):
            numbers = {"x-delivery-count": entry.acquired or entry.failed}
        elif version < _ONLY_REDELIVERIES_SINCE and (entry.acquired or got):
            numbers = {"x-delivery-count": entry.acquired}
        else:
            return content
        return Content(with_numbers(content.properties, numbers), content.body)

    def _survives(self, entry: Entry) -> bool:
        return True  # every message of a quorum queue is on disk, whatever its delivery mode

    def _recover(self, entry: Entry, *, clean: bool, returned: bool) -> None:
        (self.returns if returned else self.ready).append(entry)

    def _order_recovered(self) -> None:
        self.returns = deque(self.returns)


def _by_text(held: Held) -> bytes:
    """Order by tags, of which numbers are texts like others."""
    return b"%d" % held.tag if held.consumer is None else held.consumer.encoded_tag


def _by_age(held: Held) -> tuple[int, int, bytes]:
    """Order by consumers, the oldest first, then what basic.get asked for, by the tag's text."""
    return (1, 0, b"%d" % held.tag) if held.consumer is None else (0, held.consumer.number, b"")
