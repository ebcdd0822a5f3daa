"""Consume one queue of a run: judge every byte, record, and only then acknowledge."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.amqp.dead_letters import Death, Origin, deaths_of
from rmqbench.amqp.network import REAL_NETWORK, Network
from rmqbench.amqp.shape import Deliveries
from rmqbench.clients.consumer import Consumer, Look, Subscription, Taken
from rmqbench.clients.recovery import Interruption, why_it_ended
from rmqbench.clock import Clock
from rmqbench.memory import peak_rss_bytes
from rmqbench.message import HEAD_SIZE, Recipe, added_headers
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelClosed,
    ChannelOpened,
    ConsumerLeaving,
    HeadersAdded,
    Interrupted,
    Journal,
    NotServed,
    WorkEnded,
    WorkStarted,
)
from rmqbench.run_directory.ledger import dead_letters_in
from rmqbench.run_directory.recorder import DeliveryRecorder
from rmqbench.settling import AT_ONCE, Action, Choice, Settling
from rmqbench.text import counted
from rmqbench.verdict.evidence import Incident
from rmqbench.verdict.findings import FindingName

__all__ = ["ConsumerPlan", "ConsumerReport", "RecordingConsumer"]

_CRASHES_EACH = 25  # at one message: more often than RabbitMQ delivers it, from 4.0 on
_MOST_CRASHES = 500  # of one consumer


@dataclass(frozen=True)
class ConsumerPlan:
    """What one consumer is to do.

    ``directory`` holds its ledger (made by :meth:`DeliveryLedger.create` with the sum of
    ``counts``, the messages of each producer) and its journal. It ends by itself after ``expected``
    messages (None: it shares its queue and cannot know), or when nothing came for ``idle_s`` and
    the queue says that it is empty, or when nothing came for the subscription's ``stall_s``
    although it is not. One that ``lingers`` does not take an empty queue for the end before it is
    told to finish. ``settle`` is what it does with its messages (:mod:`rmqbench.settling`). It
    begins ``joins_after_s`` later than others. The ledger is ``timed`` where messages are due at a
    time. ``epoch_ns`` makes its clock that of the run's other workers.

    Messages come through ``exchange`` by ``routing_key`` (``gets_all``), or as dead letters of its
    ``origins``, each of which has a ledger of its own (:func:`dead_letters_in`).
    """

    subscription: Subscription
    recipe: Recipe
    counts: tuple[int, ...]
    number: int
    directory: Path
    exchange: str
    routing_key: str
    gets_all: bool = True
    origins: tuple[Origin, ...] = ()
    expected: int | None = None
    lingers: bool = False
    idle_s: float = 1.0
    settle: str = "ack"
    joins_after_s: float = 0.0
    timed: bool = False
    epoch_ns: int = 0

    @property
    def queue(self) -> str:
        """The queue that it consumes."""
        return self.subscription.queue

    @property
    def name(self) -> str:
        """Its name for a person."""
        return f"consumer {self.number} of {self.queue}"

    @property
    def ledgers(self) -> int:
        """How many ledgers it keeps: its own, and one for each origin of dead letters."""
        return 1 + len(self.origins)

    def numbered(
        self,
        number: int,
        directory: Path,
        *,
        prefetch: int | None = None,
        priority: int | None = None,
        cancels_every: int | None = None,
        polls_every_s: float | None = None,
        **changes: Any,
    ) -> ConsumerPlan:
        """Return the plan of another consumer of the same queue."""
        queue, churn = self.queue, self.subscription.churn
        subscription = replace(
            self.subscription,
            name=f"rmqbench consumer {number} of {queue}",
            tag=f"consumer-{number}",
            prefetch=prefetch or self.subscription.prefetch,
            priority=priority,
            cancels_every=cancels_every or self.subscription.cancels_every,
            polls_every_s=polls_every_s or self.subscription.polls_every_s,
            churn=churn and replace(churn, number=churn.number + number),
        )
        return replace(
            self, subscription=subscription, number=number, directory=directory, **changes
        )

    def run(self, finish: threading.Event | None = None) -> ConsumerReport:
        """Consume until there is nothing more, and return how it went.

        ``finish`` is set when nothing more is published, for one that ``lingers``.
        """
        network = replace(REAL_NETWORK, clock=Clock.since(self.epoch_ns))
        return RecordingConsumer(self, finish, network).run()


@dataclass(frozen=True)
class ConsumerReport:
    """How one consumer did. Times are Unix nanoseconds, CPU seconds of its thread.

    ``error`` is a sentence where it ended for another reason than an empty queue.
    """

    number: int
    queue: str
    deliveries: int
    started_ns: int
    ended_ns: int
    cpu_s: float
    interruptions: tuple[Interruption, ...] = ()
    error: str | None = None


class RecordingConsumer:
    """Acknowledges what it has recorded, never anything else.

    A message that is not of this run is counted and held, unacknowledged, so that it is back in
    its queue as soon as the channel closes.
    """

    def __init__(
        self,
        plan: ConsumerPlan,
        finish: threading.Event | None = None,
        network: Network = REAL_NETWORK,
    ) -> None:
        """Open the plan's ledger; see :meth:`ConsumerPlan.run`."""
        self.plan = plan
        self._clock = clock = network.clock
        self._finish = finish or threading.Event()
        self._recorder = DeliveryRecorder(plan.directory, plan.counts)
        self._recorders = [
            self._recorder,
            *(
                DeliveryRecorder(dead_letters_in(plan.directory, index), plan.counts)
                for index in range(len(plan.origins))
            ),
        ]
        self._count = sum(plan.counts)  # places of each of them
        self._journal = Journal(plan.directory / JOURNAL_FILE, clock)
        self._settling = Settling.of(plan.settle)
        self._starts = np.cumsum([0, *plan.counts[:-1]])
        self._crashes = Counter[int]()
        self._consumer = Consumer(
            plan.subscription,
            self,
            settler=None if self._settling.only_acknowledges else self,
            on_interruption=lambda each: self._journal.write(
                Interrupted(time_ns=each.at_ns, why=each.why)
            ),
            on_leaving=lambda: self._journal.write(ConsumerLeaving(number=self._recorder.channel)),
            network=network,
        )
        self._added: frozenset[str] = frozenset()
        self._delivered_ns = 0
        self._started_ns, self._started_cpu = clock.time_ns(), clock.cpu_s()
        self._seen = 0
        self._seen_at = self._asked_at = clock.monotonic()
        self._none_at = self._seen_at  # when the queue last said that it had none, or nothing
        self._ready: int | None = None  # what the queue last said
        self._stuck: str | None = None
        self._goes_on = False  # on a new channel, after one that was closed in order

    def run(self) -> ConsumerReport:
        """Consume until there is nothing more, and return how it went."""
        with self._journal:
            self._clock.sleep(self.plan.joins_after_s)
            try:
                error = self._consumer.run(self._go_on)
            finally:
                for recorder in self._recorders:
                    recorder.close()
            report = ConsumerReport(
                number=self.plan.number,
                queue=self.plan.queue,
                deliveries=self._deliveries,
                started_ns=self._started_ns,
                ended_ns=self._delivered_ns or self._started_ns,
                cpu_s=self._clock.cpu_s() - self._started_cpu,
                interruptions=self._consumer.interruptions,
                error=why_it_ended(error) if error else self._stuck,
            )
            self._journal.write(
                WorkEnded(
                    until_ns=report.ended_ns,
                    cpu_s=report.cpu_s,
                    messages=report.deliveries,
                    repeats=self._recorder.repeats,
                    dead_letters_again=[each.repeats for each in self._recorders[1:]],
                    incidents=self._recorder.incidents,
                    peak_rss_bytes=peak_rss_bytes(),
                    error=report.error,
                )
            )
        return report

    def begin(self) -> None:
        """Begin a new channel: what was not acknowledged on the last one comes again."""
        if not self._recorder.channel:
            self._started_ns, self._started_cpu = self._clock.time_ns(), self._clock.cpu_s()
            self._journal.write(WorkStarted(time_ns=self._started_ns))
        for recorder in self._recorders:
            recorder.open_channel()
        self._journal.write(ChannelOpened(number=self._recorder.channel))
        if not self._goes_on:
            self._none_at = self._seen_at = self._clock.monotonic()
        self._goes_on = False

    def end(self) -> None:
        """Record that the channel was closed cleanly."""
        self._journal.write(ChannelClosed(number=self._recorder.channel))
        self._goes_on = True

    def take_many(self, deliveries: Deliveries) -> tuple[int, npt.NDArray[np.int64]]:
        """Record many messages of which every byte is known to be right."""
        self._delivered_ns = self._clock.time_ns()
        places = self._recorder.record(
            deliveries.producers,
            deliveries.sequences,
            deliveries.redelivered,
            deliveries.stamps,
            self._delivered_ns,
        )
        return len(deliveries.tags), places

    def take(self, method: Any, properties: Any, body: bytes) -> Taken | None:
        """Judge and record one message; hold it if it is not of this run."""
        plan = self.plan
        recipe = plan.recipe
        self._delivered_ns = now_ns = self._clock.time_ns()
        if added := added_headers(properties) - self._added:
            self._added |= added
            self._journal.write(HeadersAdded(names=sorted(added)))
        identity = recipe.identify(properties, body)
        if identity is None:
            self._recorder.report(
                Incident(FindingName.FOREIGN, now_ns, detail=_describe(method, properties, body))
            )
            return None
        producer, sequence = identity
        trouble = None
        difference = recipe.difference(properties, body, identity)
        number, way = self._way(method, deaths_of(properties.headers))
        if difference:
            trouble = Incident(FindingName.CORRUPTED, now_ns, producer, sequence, difference)
        elif way:
            trouble = Incident(FindingName.MISROUTED, now_ns, producer, sequence, way)
        if trouble is not None:
            self._recorder.report(trouble)
        places = self._recorders[number].record(
            np.array([producer], np.int64),
            np.array([sequence], np.int64),
            np.array([method.redelivered], np.bool_),
            _stamp(body) if recipe.read_head(body) else np.zeros(1, np.uint32),
            now_ns,
            corrupted=bool(difference),
        )
        places[places >= 0] += number * self._count
        return Taken(places, recipe if trouble is None and not number else None)

    @property
    def _deliveries(self) -> int:
        return sum(each.deliveries for each in self._recorders)

    def _way(self, method: Any, deaths: Sequence[Death]) -> tuple[int, str]:
        """Return which recorder a message is for, by its way, and what is wrong with that."""
        plan, way = self.plan, (method.exchange, method.routing_key)
        said = f"exchange {method.exchange!r}, routing key {method.routing_key!r}"
        if not deaths:
            is_right = plan.gets_all and way == (plan.exchange, plan.routing_key)
            return 0, "" if is_right else said
        said += f", dead-lettered by {deaths[0]}"
        for number, origin in enumerate(plan.origins, 1):
            if origin.is_of(deaths):
                is_right = way == (origin.exchange, origin.routing_key)
                return number, "" if is_right else said
        for number, origin in enumerate(plan.origins, 1):  # for another reason than it may have
            if (origin.delay or origin.queue) == deaths[0].queue:
                return number, said
        return 0, said

    def choose(
        self, places: npt.NDArray[np.int64], redelivered: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[Choice, npt.NDArray[np.bool_]]]:
        """Yield what the plan says of each; what comes again is acknowledged or rejected."""
        left = (places >= 0) & (places < self._count)  # dead letters are acknowledged
        places = np.where(left, places, -1)
        producers = np.searchsorted(self._starts, np.maximum(places, 0), side="right") - 1
        seeds = self.plan.recipe.seeds[producers]
        chosen = self._settling.chosen(seeds, places - self._starts[producers])
        is_first = np.zeros(len(places), np.bool_)
        is_first[np.unique(places, return_index=True)[1]] = True
        given_back = self._recorder.were_given_back(places) | ~is_first
        # A crash comes last: what it takes from the others has not been given back by them.
        for index, choice in sorted(
            enumerate(self._settling.choices), key=lambda each: each[1].action is Action.CRASH
        ):
            those = (chosen == index) & left
            if choice.action is Action.LATE:
                those &= ~redelivered
            elif choice.action is Action.REQUEUE:
                those &= ~given_back
            elif choice.action is Action.CRASH:
                those &= [self._may_crash_at(place) for place in places.tolist()]
            left &= ~those
            yield choice, those
        yield AT_ONCE, left | (places < 0)

    def acknowledge(self, places: npt.NDArray[np.int64]) -> None:
        """Record that the acknowledgement of these is being sent."""
        now_ns = self._clock.time_ns()
        if len(self._recorders) == 1:
            self._recorder.acknowledge(places, now_ns)
            return
        for number, recorder in enumerate(self._recorders):
            first = number * self._count
            these = places[(places >= first) & (places < first + self._count)]
            recorder.acknowledge(these - first, now_ns)

    def give_up(self, places: npt.NDArray[np.int64], *, requeue: bool) -> None:
        """Record that these are being rejected, or given back with ``requeue``."""
        self._recorder.give_up(places, requeue=requeue)

    def crash(self, place: int) -> None:
        """Count how often it crashed at a message."""
        self._crashes[place] += 1

    def _may_crash_at(self, place: int) -> bool:
        return self._crashes[place] < _CRASHES_EACH and self._crashes.total() < _MOST_CRASHES

    def _go_on(self, look: Look) -> bool:
        """Whether there is, or may be, more to come."""
        plan = self.plan
        if plan.expected is not None and self._recorder.distinct >= plan.expected:
            return self._consumer.waits
        now = self._clock.monotonic()
        lingers = plan.lingers and not self._finish.is_set()
        if lingers and self._recorder.distinct == sum(plan.counts):
            self._seen_at = now  # nothing more can come: the queue is left alone
            return True
        if self._deliveries > self._seen or self._consumer.holds_back:
            self._seen, self._seen_at = self._deliveries, now
        elif now - max(self._seen_at, self._asked_at) >= plan.idle_s:
            self._asked_at = now
            before, self._ready = self._ready, look.ready()
            ready = self._ready
            if not ready:
                self._none_at = now
            if None not in (before, ready) and ready != before:  # others are served, or it fills
                self._seen_at = now
            if ready == 0 and self._deliveries == self._seen:
                self._seen_at = now  # an empty queue is not stuck
                return lingers
            if now - self._seen_at >= plan.subscription.stall_s:
                why = (
                    "and the queue does not know of it"
                    if ready is None
                    else f"although {counted(ready, 'message is', 'messages are')} ready"
                )
                self._stuck = (
                    f"Consumer {plan.number} of {plan.queue} received nothing for "
                    f"{plan.subscription.stall_s:g} s, {why}."
                )
                # Half of the time it said that it had some: it was not only away.
                had_some_s = now - max(self._none_at, self._seen_at)
                enough_s = plan.subscription.stall_s / 2
                if ready and had_some_s >= enough_s and self._consumer.has_room:
                    since_ns = self._clock.time_ns() - int(had_some_s * 1e9)
                    self._journal.write(NotServed(since_ns=since_ns, ready=ready))
                return False
        return True


def _stamp(body: bytes) -> npt.NDArray[np.uint32]:
    """Return the checksum in the head of a body."""
    return np.array([int.from_bytes(body[HEAD_SIZE - 4 : HEAD_SIZE], "big")], np.uint32)


def _describe(method: Any, properties: Any, body: bytes) -> str:
    """Describe a message of another origin in one line, without anything that it could inject."""
    digest = hashlib.sha256(body).hexdigest()[:16]
    return (
        f"{len(body)} bytes (sha256 {digest}…), message_id {properties.message_id!r}, "
        f"exchange {method.exchange!r}, routing key {method.routing_key!r}"
    )
