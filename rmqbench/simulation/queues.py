"""A queue: how messages come in, and to whom they are delivered.

What it holds is in :mod:`rmqbench.simulation.storage`. https://www.rabbitmq.com/docs/queues,
/docs/consumers, /docs/confirms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rmqbench.simulation.behaviour import Misdeed, Moment
from rmqbench.simulation.entries import Consumer, Entry, Held, PendingConfirm
from rmqbench.simulation.policies import limits
from rmqbench.simulation.refusals import resource
from rmqbench.simulation.storage import Storage
from rmqbench.simulation.truth import Declared, Deleted, Refused, Removed

if TYPE_CHECKING:
    from rmqbench.simulation.broker import Cancellable
    from rmqbench.simulation.virtual_host import VirtualHost

__all__ = ["Queue"]


class Queue(Storage):
    """A queue: what it holds, and who consumes."""

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
        super().__init__(host, name)
        self.durable = durable
        self.owner = owner  # the session that it is exclusive to
        self.auto_delete = auto_delete
        self.arguments = dict(arguments or {})
        self.consumers: deque[Consumer] = deque()
        self.rejecting = False
        self._last_consumer = 0
        self.recovering_until = 0.0
        self._backlog: list[Callable[[], object]] = []  # what a stalled leader has not done yet
        self._writes: dict[float, list[tuple[Entry, PendingConfirm]]] = {}
        self._pause: Cancellable | None = None  # until the next burst of deliveries
        self._created_at = self._used_at = self.broker.now()
        self.broker.note(Declared(self._used_at, name, self.type, durable))

    @property
    def title(self) -> str:
        """Its name as in RabbitMQ's texts."""
        return resource("queue", self.name, self.host.name)

    @property
    def is_recovering(self) -> bool:
        """Whether it still holds its messages back after a start of the node."""
        return self.recovering_until > 0 and self.broker.now() < self.recovering_until

    def shown_count(self) -> int:
        """Return the number of ready messages that it answers."""
        ready = self.ready_count()
        if self.is_recovering:
            return self.broker.behaviour.count_while_recovering(self.name, ready)
        return ready

    def left_behind(self) -> int:
        """Return the number of ready messages that the answer to a basic.get names."""
        return self.shown_count()

    def shown_consumers(self) -> int:
        """Return the number of consumers that it answers."""
        return len(self.consumers)

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
        """Record that it is being used: ``x-expires`` counts from now on."""
        if self.limits.expires_ms is not None:
            self._used_at = self.broker.now()
            self.broker.later(self._looks_after_s(), self._expire_if_unused)

    def _looks_after_s(self) -> float:
        """Return in how many seconds it sees that it was not used for ``x-expires``."""
        assert self.limits.expires_ms is not None
        return self.limits.expires_ms / 1000

    def _expire_if_unused(self) -> None:
        expires_ms = self.limits.expires_ms
        if not self.exists or expires_ms is None or self.consumers:
            return
        if self.broker.now() >= self._used_at + expires_ms / 1000:
            self.delete("expires")

    # --- taking messages in -----------------------------------------------------------------------

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

    def _refuses(self, entry: Entry) -> bool:
        """Whether it has no room for a further message and refuses it."""
        if self.limits.overflow == "drop-head":
            return False
        return self._is_over(1, self._size(entry))

    def _write(self, delay_s: float, entry: Entry, pending: PendingConfirm) -> None:
        """Write a message to disk after a delay, with all others that are at the same time."""
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

    # --- delivering -------------------------------------------------------------------------------

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
        if len(consumers) == 1:
            return consumers[0] if consumers[0].has_credit else None
        for consumer in [each for each in consumers if each.passed_over and each.has_credit]:
            consumer.passed_over = False  # it stands in line again, behind all others
            consumers.remove(consumer)
            consumers.append(consumer)
        best: Consumer | None = None
        for consumer in consumers:
            if not consumer.has_credit:
                consumer.passed_over = True
            elif best is None or consumer.priority > best.priority:
                best = consumer
        if best is not None:
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
                    self._ready_bytes += self._size(entry)
                    detail = f"message {behind.message} before it"
                    broker.misdone(Misdeed.SWAP, entry.message, self.name, detail=detail)
                    entry = behind
            broker.planned = misdeed  # for the channel, which does it
        self.unacked[entry.place] = entry
        return entry

    def acknowledge(self, entry: Entry) -> Misdeed | None:
        """Forget an unacknowledged message; return the misdeed that was done instead, if any."""
        if self.unacked.pop(entry.place, None) is None:
            return None
        broker = self.broker
        misdeed = broker.behaviour.misdeed(Moment.ACKNOWLEDGEMENT, self.name, entry.message)
        if misdeed is None:
            self._lately_acked.append(entry)
            return None
        if misdeed is Misdeed.FORGET_ACK:
            self.unacked[entry.place] = entry
        else:
            entry.redelivered = misdeed is Misdeed.REDELIVER_ACKED
            entry.acquired = int(entry.redelivered)
            self._put_back([entry])
        return misdeed

    def in_order(self, helds: list[Held]) -> list[Held]:
        """Return what a channel gives back as it ends, in the order in which it does so."""
        return helds

    # --- consumers --------------------------------------------------------------------------------

    def add_consumer(self, consumer: Consumer) -> None:
        """Deliver to a further consumer from now on, once :meth:`pump` is called."""
        self._last_consumer += 1
        consumer.number = self._last_consumer
        self.consumers.append(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """Deliver nothing more to a consumer; what it has stays unacknowledged."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)

    def consumers_left(self, *, cancelled: bool = False) -> None:
        """Act on it that consumers were removed: it may have been the last one.

        Before 4.0 (measured: 3.10.8) a classic queue with a single active consumer delivers nothing
        to the next one after a basic.cancel, until something else happens to it.
        """
        if not self.exists or not self.broker.running:
            return
        self.used()
        if not self.consumers and self.auto_delete:
            self.delete("auto-delete")
        elif not (cancelled and self._forgets_the_next()):
            self.pump()

    def _forgets_the_next(self) -> bool:
        return self.limits.single_active_consumer and self.broker.version_number < (4, 0)

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

    # --- standing still, stopping, starting -------------------------------------------------------

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
        self.consumers.clear()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self.lose_what_does_not_last(clean=clean)

    def start(self) -> float:
        """Begin to serve again; return for how many seconds messages are held back."""
        held_s = self.broker.behaviour.recovery_s(self.name)
        self.recovering_until = self.broker.now() + held_s if held_s else 0.0
        self.used()
        if self._expires:
            self._drop_expired()
        return held_s
