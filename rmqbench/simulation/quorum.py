"""A quorum queue: what it does otherwise than a classic one.

https://www.rabbitmq.com/docs/quorum-queues, and what rabbit_fifo.erl of 3.10.8, 4.0.5 and 4.3.5
shows: what is given back goes into a line of its own, ahead of what is ready, in the order in which
it was given back. Without a delivery limit (the default before 4.0) what a client gives back is
enqueued anew instead, behind all others. Before 4.3 every return counts against the limit; from
then on a basic.nack and a basic.recover do not.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Final

from rmqbench.simulation.content import Content, with_numbers
from rmqbench.simulation.entries import Entry
from rmqbench.simulation.queues import Queue

__all__ = ["QuorumQueue"]

_LOW: Final = (
    0.8  # a queue that rejects takes messages again below this part of its greatest length
)
_NO_FAILURE: Final = frozenset({"nack", "recover"})
_BY_CLIENT: Final = frozenset({"nack", "recover", "reject"})
_COUNTS_FAILURES_SINCE: Final = (4, 3)
_ONLY_REDELIVERIES_SINCE: Final = (4, 0)  # before, basic.get shows a count of 0, too


class QuorumQueue(Queue):
    """A quorum queue with one member: replication is not modelled."""

    type: ClassVar[str] = "quorum"

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

    def _counts_as_failed(self, cause: str) -> bool:
        return cause not in _NO_FAILURE

    def _is_past_limit(self, entry: Entry) -> bool:
        limit = self.limits.delivery_limit
        if limit is None:
            return False
        if self.broker.version_number >= _COUNTS_FAILURES_SINCE:
            return entry.failed > limit
        return entry.acquired > limit

    def _put_back(self, entries: list[Entry], cause: str = "") -> None:
        self._ready_bytes += sum(len(entry.content.body) for entry in entries)
        counted = self.broker.version_number >= _COUNTS_FAILURES_SINCE and cause == "reject"
        if self.limits.delivery_limit is None and cause in _BY_CLIENT and not counted:
            self.ready.extend(entries)
        else:
            self.returns.extend(entries)

    def shown(self, entry: Entry, *, got: bool = False) -> Content:
        """Return the content with the headers that count its deliveries."""
        version, content = self.broker.version_number, entry.content
        if version >= _COUNTS_FAILURES_SINCE:
            if not entry.acquired:
                return content
            numbers = {"x-acquired-count": entry.acquired}
            if entry.failed:
                numbers["x-delivery-count"] = entry.failed
        elif entry.acquired or (got and version < _ONLY_REDELIVERIES_SINCE):
            numbers = {"x-delivery-count": entry.acquired}
        else:
            return content
        return Content(with_numbers(content.properties, numbers), content.body)

    def _survives(self, entry: Entry) -> bool:
        return True  # every message of a quorum queue is on disk, whatever its delivery mode

    def _recover(self, entry: Entry, *, clean: bool) -> None:
        (self.returns if entry.acquired else self.ready).append(entry)

    def _order_recovered(self) -> None:
        self.returns = deque(self.returns)
