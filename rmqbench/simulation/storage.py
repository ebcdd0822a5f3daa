"""What a queue holds: ready and unacknowledged messages, their limits, and what lasts.

The rules are those of a classic queue; :mod:`rmqbench.simulation.quorum` has the other ones.
https://www.rabbitmq.com/docs/classic-queues, /docs/maxlength, /docs/ttl.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

from rmqbench.simulation.content import Content
from rmqbench.simulation.entries import Entry
from rmqbench.simulation.policies import Limits
from rmqbench.simulation.truth import Removed, Requeued, Stored

if TYPE_CHECKING:
    from rmqbench.simulation.virtual_host import VirtualHost

__all__ = ["Storage"]

_ALWAYS: Final = float("inf")
_REJECT_FAILS_SINCE: Final = (4, 3)
_NO_FAILURE: Final = frozenset({"nack", "recover"})


class Storage:
    """The messages of a queue.

    ``returns`` is ready before everything else; a classic queue leaves it empty. ``unacked`` is by
    place.
    """

    type: ClassVar[str] = "classic"

    def __init__(self, host: VirtualHost, name: str) -> None:
        self.host = host
        self.broker = host.broker
        self.name = name
        self.limits = Limits()
        self.exists = True
        self.stalled = False
        self.ready: deque[Entry] = deque()
        self.returns: deque[Entry] = deque()
        self.unacked: dict[int, Entry] = {}
        self._ready_bytes = 0
        self._last_place = 0
        self._expires = False  # some message has a time to live
        self._expiry_at = _ALWAYS
        self._lately_acked: deque[Entry] = deque(maxlen=64)

    def ready_count(self) -> int:
        """Return the true number of ready messages."""
        if self._expires:
            self._drop_expired()
        return len(self.ready) + len(self.returns)

    def _size(self, entry: Entry) -> int:
        """Return how many bytes of ``x-max-length-bytes`` a message takes."""
        return len(entry.content.body)

    def shown(self, entry: Entry, *, got: bool = False) -> Content:
        """Return the content as it is delivered; ``got`` where basic.get asked for it."""
        return entry.content

    def _store(self, entry: Entry) -> None:
        broker = self.broker
        broker.note(Stored(broker.now(), entry.message, self.name))
        self._last_place += 1
        entry.place = self._last_place
        if self.limits.message_ttl_ms is not None or entry.expiration is not None:
            self._set_expiry(entry)
        self.ready.append(entry)
        self._ready_bytes += self._size(entry)

    def _head(self) -> Entry | None:
        if self.returns:
            return self.returns[0]
        return self.ready[0] if self.ready else None

    def _take(self) -> Entry:
        entry = self.returns.popleft() if self.returns else self.ready.popleft()
        self._ready_bytes -= self._size(entry)
        return entry

    def repeat(self, entry: Entry, *, flagged: bool) -> Entry:
        """Return a second copy of a message, unacknowledged like the first."""
        again = entry.copy()
        self._last_place += 1
        again.place = self._last_place
        again.redelivered = flagged
        again.acquired = int(flagged)
        self.unacked[again.place] = again
        return again

    # --- overflow and time to live ----------------------------------------------------------------

    def _is_over(self, more: int = 0, more_bytes: int = 0) -> bool:
        most, most_bytes = self.limits.max_length, self.limits.max_length_bytes
        ready = len(self.ready) + len(self.returns)
        return (most is not None and ready + more > most) or (
            most_bytes is not None and self._ready_bytes + more_bytes > most_bytes
        )

    def _drop_overflow(self) -> None:
        if self.limits.overflow == "drop-head":
            while (self.ready or self.returns) and self._is_over():
                self._remove(self._take(), "maxlen")

    def _set_expiry(self, entry: Entry) -> None:
        of_queue, own = self.limits.message_ttl_ms, entry.expiration
        ttl_ms = int(own) if own is not None else of_queue
        if of_queue is not None and ttl_ms is not None:
            ttl_ms = min(of_queue, ttl_ms)
        assert ttl_ms is not None
        self._expires = True
        entry.expires_at = self.broker.now() + ttl_ms / 1000
        self._watch_expiry(entry.expires_at)

    def _watch_expiry(self, at: float) -> None:
        if at < self._expiry_at:
            self._expiry_at = at
            self.broker.later(max(0.0, at - self.broker.now()), self._expiry_due)

    def _expiry_due(self) -> None:
        self._expiry_at = _ALWAYS
        if self.exists and self.broker.running:
            self._drop_expired()

    def _drop_expired(self, *, only_before_now: bool = False) -> None:
        """Remove what has expired and has reached the head: elsewhere it stays until it has.

        What expires just now can still be delivered: so does a message whose time to live is 0.
        """
        if self.stalled:
            return
        now = self.broker.now()
        while (head := self._head()) is not None and head.expires_at is not None:
            if head.expires_at > now or (only_before_now and head.expires_at == now):
                self._watch_expiry(head.expires_at)
                return
            self._remove(self._take(), "expired")

    # --- giving back and removing -----------------------------------------------------------------

    def give_back(self, entries: list[Entry], cause: str) -> None:
        """Make unacknowledged messages ready again, in the order in which they were delivered."""
        broker = self.broker
        now = broker.now()
        back = []
        for entry in entries:
            if self.unacked.pop(entry.place, None) is None:
                continue
            entry.acquired += 1
            entry.failed += self._fails(cause, discarded=False)
            if self._is_past_limit(entry):
                self._remove(entry, "delivery_limit")
                continue
            entry.redelivered = True
            broker.note(Requeued(now, entry.message, self.name, cause))
            back.append(entry)
        if back:
            self._put_back(back, cause)
            if self._expires:
                self._drop_expired()
            if self.limits.bounded:
                self._make_room()

    def _make_room(self) -> None:
        """Act on it that messages which were given back may be too many."""
        self._drop_overflow()

    def _fails(self, cause: str, *, discarded: bool) -> bool:
        """Whether a delivery counts as failed: what dies takes this number with it."""
        if self.broker.version_number >= _REJECT_FAILS_SINCE:
            return cause not in _NO_FAILURE
        return discarded or cause == "closed"

    def _is_past_limit(self, entry: Entry) -> bool:
        return False

    def _put_back(self, entries: list[Entry], cause: str = "") -> None:
        """Put messages to their old places."""
        ready = self.ready
        for entry in sorted(entries, key=_place, reverse=True):
            self._ready_bytes += self._size(entry)
            if not ready or entry.place < ready[0].place:
                ready.appendleft(entry)
            else:
                ready.insert(bisect_left(ready, entry.place, key=_place), entry)

    def discard(self, entries: list[Entry], cause: str) -> None:
        """Drop or dead-letter unacknowledged messages that were rejected."""
        for entry in entries:
            if self.unacked.pop(entry.place, None) is not None:
                entry.failed += self._fails(cause, discarded=True)
                self._remove(entry, "rejected")

    def _remove(self, entry: Entry, cause: str) -> None:
        broker = self.broker
        broker.note(Removed(broker.now(), entry.message, self.name, cause))
        if self.limits.dead_letter_exchange is not None:
            self.host.dead_letter(self, entry, cause)

    def purge(self) -> int:
        """Remove what is ready and return how many these were."""
        if self._expires:
            self._drop_expired()
        now, note = self.broker.now(), self.broker.note
        entries = [*self.returns, *self.ready]
        for entry in entries:
            note(Removed(now, entry.message, self.name, "purge"))
        self.returns.clear()
        self.ready.clear()
        self._ready_bytes = 0
        return len(entries)

    # --- restarts ---------------------------------------------------------------------------------

    def lose_what_does_not_last(self, *, clean: bool) -> None:
        """Keep what outlives a stop of the node, or a kill of it."""
        self._expiry_at = _ALWAYS
        behaviour, broker = self.broker.behaviour, self.broker
        if self.unacked:  # their channels could not give them back: the leader stood still
            self.give_back(list(self.unacked.values()), "closed")
        returned = {entry.place for entry in self.returns}
        held = [*self.returns, *self.ready]
        self.returns.clear()
        self.ready.clear()
        if not clean:
            for entry in self._lately_acked:
                if not behaviour.ack_survives_kill(self.name, entry.message):
                    entry.redelivered = True
                    entry.acquired += 1
                    held.append(entry)
                    returned.add(entry.place)
        self._lately_acked.clear()
        for entry in held:
            survives = self._survives(entry) and (
                clean or entry.on_disk or behaviour.survives_kill(self.name, entry.message)
            )
            if survives:
                entry.on_disk = True
                self._recover(entry, clean=clean, returned=entry.place in returned)
            else:
                broker.note(Removed(broker.now(), entry.message, self.name, "restart"))
        self._order_recovered()
        self._ready_bytes = sum(self._size(entry) for entry in self.ready)
        self._ready_bytes += sum(self._size(entry) for entry in self.returns)

    def _survives(self, entry: Entry) -> bool:
        """Whether a message is of the kind that outlives the node."""
        return entry.persistent

    def _recover(self, entry: Entry, *, clean: bool, returned: bool) -> None:
        """Take a message over into the next life; a kill marks all of them as redelivered.

        ``returned`` are those that were, or would be, in ``returns``.
        """
        if not clean:
            entry.redelivered = True
        self.ready.append(entry)

    def _order_recovered(self) -> None:
        self.ready = deque(sorted(self.ready, key=_place))


def _place(entry: Entry) -> int:
    return entry.place
