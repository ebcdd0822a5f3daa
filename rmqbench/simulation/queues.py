"""A queue, with the rules of a classic queue where the types differ.

https://www.rabbitmq.com/docs/queues, /docs/classic-queues, /docs/maxlen, /docs/ttl.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rmqbench.simulation.behaviour import Misdeed, Moment
from rmqbench.simulation.content import Content
from rmqbench.simulation.entries import Consumer, Entry, PendingConfirm
from rmqbench.simulation.policies import Limits, limits
from rmqbench.simulation.refusals import resource
from rmqbench.simulation.truth import Declared, Deleted, Refused, Removed, Requeued, Stored

if TYPE_CHECKING:
    from rmqbench.simulation.virtual_host import VirtualHost

__all__ = ["Queue"]

_ALWAYS: Final = float("inf")


class Queue:
    """A queue: what is ready, what is unacknowledged, and who consumes.

    ``returns`` is ready before everything else; a classic queue leaves it empty.
    """

    type: ClassVar[str] = "classic"

    def __init__(
        self,
        host: VirtualHost,
        name: str,
        *,
        durable: bool,
        owner: object = None,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.host = host
        self.broker = host.broker
        self.name = name
        self.durable = durable
        self.owner = owner  # the session that it is exclusive to
        self.auto_delete = auto_delete
        self.arguments = dict(arguments or {})
        self.limits = Limits()
        self.ready: deque[Entry] = deque()
        self.returns: deque[Entry] = deque()
        self.unacked: dict[int, Entry] = {}  # by place
        self.consumers: deque[Consumer] = deque()
        self.exists = True
        self.stalled = False
        self.rejecting = False
        self.recovering_until = 0.0
        self._backlog: list[Callable[[], object]] = []  # what a stalled leader has not done yet
        self._writes: dict[float, list[tuple[Entry, PendingConfirm]]] = {}
        self._ready_bytes = 0
        self._last_place = 0
        self._pause: object = None  # a burst of deliveries is due
        self._expires = False  # some message has a time to live
        self._expiry_at = _ALWAYS
        self._used_at = self.broker.now()
        self._lately_acked: deque[Entry] = deque(maxlen=64)
        self.broker.note(Declared(self._used_at, name, self.type, durable))

    @property
    def title(self) -> str:
        """Its name as in RabbitMQ's texts."""
        return resource("queue", self.name, self.host.name)

    @property
    def is_recovering(self) -> bool:
        """Whether it still holds its messages back after a start of the node."""
        return self.recovering_until > 0 and self.broker.now() < self.recovering_until

    # --- counts and limits ----------------------------------------------------------------------

    def ready_count(self) -> int:
        """Return the true number of ready messages."""
        if self._expires:
            self._drop_expired()
        return len(self.ready) + len(self.returns)

    def shown_count(self) -> int:
        """Return the number of ready messages that it answers."""
        ready = self.ready_count()
        if self.is_recovering:
            return self.broker.behaviour.count_while_recovering(self.name, ready)
        return ready

    def apply_policy(self) -> None:
        """Find out what holds for it, and act on it."""
        self.limits = limits(
            self.type, self.arguments, self.host.policy_of(self.name), self.broker.version_number
        )
        if self.limits.bounded:
            self._drop_overflow()
        self.rejecting = self.rejecting and self._is_over()
        self.used()

    def used(self) -> None:
        """Take note that it is being used: ``x-expires`` counts from now on."""
        if self.limits.expires_ms is not None:
            self._used_at = self.broker.now()
            self.broker.later(self.limits.expires_ms / 1000, self._expire_if_unused)

    def _expire_if_unused(self) -> None:
        expires_ms = self.limits.expires_ms
        if not self.exists or expires_ms is None or self.consumers:
            return
        if self.broker.now() >= self._used_at + expires_ms / 1000:
            self.delete("expires")

    # --- taking messages in ---------------------------------------------------------------------

    def take_in(self, entry: Entry, pending: PendingConfirm | None) -> None:
        """Store a message, or refuse it; the confirm hears of it."""
        if self.stalled:
            self._backlog.append(partial(self._take_in, entry, pending))
        else:
            self._take_in(entry, pending)

    def _take_in(self, entry: Entry, pending: PendingConfirm | None) -> None:
        broker = self.broker
        if not self.exists:
            if pending is not None:
                pending.taken()  # a deletion confirms what was under way
            return
        if self.limits.bounded and self._refuses(entry):
            broker.note(Refused(broker.now(), entry.message, self.name))
            if self.limits.overflow == "reject-publish-dlx":
                self.host.dead_letter(self, entry, "maxlen")
            if pending is not None:
                pending.refuse()
            return
        self._store(entry)
        if pending is not None:
            delay_s = 0.0
            if entry.persistent and self.durable:
                delay_s = broker.behaviour.confirm_delay_s(self.name, entry.message)
            if delay_s > 0:
                entry.on_disk = False
                self._write(delay_s, entry, pending)
            else:
                pending.taken()
        else:
            entry.on_disk = False  # nobody was told so
        misdeed = broker.behaviour.misdeed(Moment.STORE, self.name, entry.message)
        if misdeed is not None:
            self._misstore(misdeed, entry)
        self.pump()
        if self.limits.bounded:
            self._drop_overflow()

    def _write(self, delay_s: float, entry: Entry, pending: PendingConfirm) -> None:
        """Have a message be on disk after a delay, with all others that are at the same time."""
        due = self.broker.now() + delay_s
        batch = self._writes.get(due)
        if batch is None:
            batch = self._writes[due] = []
            self.broker.later(delay_s, partial(self._written, due))
        batch.append((entry, pending))

    def _written(self, due: float) -> None:
        for entry, pending in self._writes.pop(due, ()):
            entry.on_disk = True
            pending.taken()

    def _store(self, entry: Entry) -> None:
        broker = self.broker
        broker.note(Stored(broker.now(), entry.message, self.name))
        self._last_place += 1
        entry.place = self._last_place
        if self.limits.message_ttl_ms is not None or entry.expiration is not None:
            self._set_expiry(entry)
        self.ready.append(entry)
        self._ready_bytes += len(entry.content.body)

    def _misstore(self, misdeed: Misdeed, entry: Entry) -> None:
        broker = self.broker
        behaviour, message = broker.behaviour, entry.message
        if misdeed is Misdeed.MISROUTE_QUEUE:
            other = self.host.other_queue(self, entry)
            if other is None:
                return
            broker.misdone(misdeed, message, self.name, detail=other.name)
            other._store(entry.copy())
            other.pump()
            return
        if misdeed in {Misdeed.DOUBLE, Misdeed.DOUBLE_FLAGGED}:
            double = entry.copy()
            self._store(double)
            double.redelivered = misdeed is Misdeed.DOUBLE_FLAGGED
            double.acquired = int(double.redelivered)
            broker.misdone(misdeed, message, self.name)
            return
        forged = misdeed is Misdeed.INJECT_FORGED
        content = behaviour.forge(entry.content) if forged else behaviour.foreign()
        number = broker.published(entry.exchange, entry.routing_key, content)
        broker.misdone(misdeed, number, self.name, detail=f"behind message {message}")
        self._store(Entry(number, content, entry.exchange, entry.routing_key, True))

    # --- overflow -------------------------------------------------------------------------------

    def _refuses(self, entry: Entry) -> bool:
        """Whether it has no room for a further message and refuses it."""
        if self.limits.overflow == "drop-head":
            return False
        return self._is_over(1, len(entry.content.body))

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

    # --- time to live ---------------------------------------------------------------------------

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

    # --- delivering -----------------------------------------------------------------------------

    def _head(self) -> Entry | None:
        if self.returns:
            return self.returns[0]
        return self.ready[0] if self.ready else None

    def _take(self) -> Entry:
        entry = self.returns.popleft() if self.returns else self.ready.popleft()
        self._ready_bytes -= len(entry.content.body)
        return entry

    def pump(self) -> None:
        """Deliver what is ready to consumers that may have it, now or when the burst is due."""
        if self._pause is not None or not self.consumers or not (self.ready or self.returns):
            return
        if self.stalled or not self.broker.running:
            return
        while self._may_deliver():
            delay_s = self.broker.behaviour.delivery_delay_s(self.name)
            if self.is_recovering:
                delay_s = max(delay_s, self.recovering_until - self.broker.now())
            if delay_s > 0:
                self._pause = self.broker.later(delay_s, self._burst_due)
                return
            self._deliver_burst()

    def _burst_due(self) -> None:
        self._pause = None
        if self.exists and self.broker.running and not self.stalled:
            self._deliver_burst()
            self.pump()

    def _may_deliver(self) -> bool:
        return bool(self.ready or self.returns) and any(
            each.has_credit for each in self._candidates()
        )

    def _candidates(self) -> Iterable[Consumer]:
        if self.limits.single_active_consumer:
            return (self.consumers[0],) if self.consumers else ()
        return self.consumers

    def _next_consumer(self) -> Consumer | None:
        """Return who gets the next message: one after the other, by priority."""
        consumers = self.consumers
        if self.limits.single_active_consumer:
            first = consumers[0]
            return first if first.has_credit else None
        best: Consumer | None = None
        for consumer in consumers:
            if consumer.has_credit and (best is None or consumer.priority > best.priority):
                best = consumer
        if best is not None and len(consumers) > 1:
            consumers.remove(best)
            consumers.append(best)
        return best

    def _deliver_burst(self) -> None:
        left = max(1, self.broker.behaviour.burst(self.name))
        while left > 0 and self.consumers and self.exists:
            if self._expires:
                self._drop_expired(only_before_now=True)
            if not (self.ready or self.returns):
                return
            consumer = self._next_consumer()
            if consumer is None:
                return
            entry = self.next_entry()
            if entry is not None:
                consumer.channel.deliver(consumer, entry)
            left -= 1

    def next_entry(self) -> Entry | None:
        """Return the message that is delivered next, unacknowledged from now on.

        None where there is none, or it was lost.
        """
        broker = self.broker
        source = self.returns or self.ready
        entry = self._take()
        misdeed = broker.behaviour.misdeed(Moment.DELIVERY, self.name, entry.message)
        if misdeed is not None:
            if misdeed is Misdeed.LOSE:
                broker.misdone(misdeed, entry.message, self.name)
                return None
            if misdeed is Misdeed.SWAP:
                misdeed = None
                if self.ready or self.returns:
                    behind = self._take()
                    source.appendleft(entry)
                    self._ready_bytes += len(entry.content.body)
                    detail = f"message {behind.message} before it"
                    broker.misdone(Misdeed.SWAP, entry.message, self.name, detail=detail)
                    entry = behind
            broker.planned = misdeed  # for the channel, which does it
        self.unacked[entry.place] = entry
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

    # --- settling -------------------------------------------------------------------------------

    def acknowledge(self, entry: Entry) -> Misdeed | None:
        """Forget an unacknowledged message; return the misdeed that was done instead, if any."""
        if self.unacked.pop(entry.place, None) is None:
            return None
        broker = self.broker
        misdeed = broker.behaviour.misdeed(Moment.ACKNOWLEDGEMENT, self.name, entry.message)
        if misdeed is None:
            if broker.remembers_acks:
                self._lately_acked.append(entry)
            return None
        if misdeed is Misdeed.FORGET_ACK:
            self.unacked[entry.place] = entry
        else:
            entry.redelivered = misdeed is Misdeed.REDELIVER_ACKED
            entry.acquired = int(entry.redelivered)
            self._put_back([entry])
        return misdeed

    def give_back(self, entries: list[Entry], cause: str) -> None:
        """Make unacknowledged messages ready again, in the order in which they were delivered."""
        broker = self.broker
        now = broker.now()
        back = []
        for entry in entries:
            if self.unacked.pop(entry.place, None) is None:
                continue
            entry.acquired += 1
            if self._counts_as_failed(cause):
                entry.failed += 1
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
                self._drop_overflow()

    def _counts_as_failed(self, cause: str) -> bool:
        return False

    def _is_past_limit(self, entry: Entry) -> bool:
        return False

    def _put_back(self, entries: list[Entry], cause: str = "") -> None:
        """Put messages to their old places."""
        ready = self.ready
        for entry in sorted(entries, key=_place, reverse=True):
            self._ready_bytes += len(entry.content.body)
            if not ready or entry.place < ready[0].place:
                ready.appendleft(entry)
            else:
                ready.insert(bisect_left(ready, entry.place, key=_place), entry)

    def discard(self, entries: list[Entry]) -> None:
        """Drop or dead-letter unacknowledged messages that were rejected."""
        for entry in entries:
            if self.unacked.pop(entry.place, None) is not None:
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

    # --- consumers ------------------------------------------------------------------------------

    def add_consumer(self, consumer: Consumer) -> None:
        """Deliver to a further consumer from now on, once :meth:`pump` is called."""
        self.consumers.append(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """Deliver nothing more to a consumer; what it has stays unacknowledged."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)

    def consumers_left(self) -> None:
        """Act on it that consumers were removed: it may have been the last one."""
        if not self.exists:
            return
        self.used()
        if not self.consumers and self.auto_delete:
            self.delete("auto-delete")
        else:
            self.pump()

    def shown(self, entry: Entry, *, got: bool = False) -> Content:
        """Return the content as it is delivered; ``got`` where basic.get asked for it."""
        return entry.content

    def delete(self, cause: str) -> int:
        """Remove the queue and return how many messages were ready."""
        broker, now = self.broker, self.broker.now()
        ready = self.ready_count()
        self.exists = False
        self.host.forget_queue(self)
        for entry in (*self.returns, *self.ready, *self.unacked.values()):
            broker.note(Removed(now, entry.message, self.name, "delete"))
        for held in (self.returns, self.ready, self.unacked):
            held.clear()
        self._ready_bytes = 0
        broker.note(Deleted(now, self.name, cause))
        consumers = list(self.consumers)
        self.consumers.clear()
        for consumer in consumers:
            consumer.channel.consumer_cancelled(consumer)
        self.go_on()
        return ready

    # --- standing still, and restarts -----------------------------------------------------------

    def stall(self) -> None:
        """Stand still: nothing is stored, delivered, settled or answered until :meth:`go_on`."""
        self.stalled = True

    def go_on(self) -> None:
        """Do all that was asked for meanwhile."""
        if self.stalled:
            self.stalled = False
            backlog, self._backlog = self._backlog, []
            for act in backlog:
                act()
            if self.exists:
                self.pump()

    def when_it_goes_on(self, act: Callable[[], object]) -> None:
        """Do something now, or when the queue goes on."""
        if self.stalled:
            self._backlog.append(act)
        else:
            act()

    def stop(self, *, clean: bool) -> None:
        """Lose what does not outlive the node; the channels are gone already."""
        self.stalled = False
        self._backlog.clear()
        self._writes.clear()
        self._pause = None
        self._expiry_at = _ALWAYS
        self.consumers.clear()
        behaviour, broker = self.broker.behaviour, self.broker
        if self.unacked:  # their channels could not give them back: the leader stood still
            self.give_back(list(self.unacked.values()), "closed")
        held = [*self.returns, *self.ready]
        self.returns.clear()
        self.ready.clear()
        if not clean:
            for entry in self._lately_acked:
                if not behaviour.ack_survives_kill(self.name, entry.message):
                    entry.redelivered = True
                    entry.acquired += 1
                    held.append(entry)
        self._lately_acked.clear()
        for entry in held:
            survives = self._survives(entry) and (
                clean or entry.on_disk or behaviour.survives_kill(self.name, entry.message)
            )
            if survives:
                entry.on_disk = True
                self._recover(entry, clean=clean)
            else:
                broker.note(Removed(broker.now(), entry.message, self.name, "restart"))
        self._order_recovered()
        self._ready_bytes = sum(len(entry.content.body) for entry in self.ready)
        self._ready_bytes += sum(len(entry.content.body) for entry in self.returns)

    def _survives(self, entry: Entry) -> bool:
        """Whether a message is of the kind that outlives the node."""
        return entry.persistent

    def _recover(self, entry: Entry, *, clean: bool) -> None:
        """Take a message over into the next life; a kill marks all of them as redelivered."""
        if not clean:
            entry.redelivered = True
        self.ready.append(entry)

    def _order_recovered(self) -> None:
        self.ready = deque(sorted(self.ready, key=_place))

    def start(self) -> float:
        """Begin to serve again; return for how many seconds messages are held back."""
        held_s = self.broker.behaviour.recovery_s(self.name)
        self.recovering_until = self.broker.now() + held_s if held_s else 0.0
        self.used()
        if self._expires:
            self._drop_expired()
        return held_s


def _place(entry: Entry) -> int:
    return entry.place
