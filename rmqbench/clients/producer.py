"""Publish the messages of one producer and keep evidence of what became of each."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pika.channel

from rmqbench.amqp.connection import TICK_S, Connection
from rmqbench.amqp.network import REAL_NETWORK, Network
from rmqbench.amqp.shape import Shape
from rmqbench.amqp.vector import Confirms
from rmqbench.clients.due import Due
from rmqbench.clients.lifetime import Churn, Lifetime
from rmqbench.clients.recovery import Interruption, Recovery, pause
from rmqbench.clock import Clock
from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, BrokerError, DeadlineExceeded, MessageTooLarge
from rmqbench.memory import peak_rss_bytes
from rmqbench.message import Recipe
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelClosed,
    ChannelOpened,
    Interrupted,
    Journal,
    WorkEnded,
    WorkReady,
    WorkStarted,
)
from rmqbench.run_directory.recorder import PublishRecorder
from rmqbench.schedule import Schedule
from rmqbench.text import counted
from rmqbench.verdict.evidence import CONFIRMED, NACKED, RETURNED, Incident
from rmqbench.verdict.findings import FindingName

__all__ = ["Producer", "ProducerPlan", "ProducerReport"]

# How long, of its duration, what was due in it may still be sent behind its end.
_CATCHING_UP, _LEAST_CATCHING_UP_S = 0.1, 1.0
_TURN_S = 0.5  # how often it serves its connection while it waits to be told to begin
# Large messages: the window is cut to as many as these bytes hold, on average.
_BYTES_IN_FLIGHT = 16 << 20


@dataclass(frozen=True)
class ProducerPlan:
    """What one producer is to do.

    ``directory`` holds its ledger (made by :meth:`PublishLedger.create` with ``count``) and its
    journal. It publishes ``count`` messages, or fewer where ``duration_s`` is over before.
    ``window`` is the number of publishes without a confirm yet, at the most. With a ``schedule``
    each message is sent when it is due, or as soon after that as the window and the broker let it.
    ``stall_s`` is how long it goes on without any confirm, and how long it tries
    to reconnect after an interruption. It then goes on with what it has not sent; with
    ``publish_again`` it first sends again what is indeterminate.

    One that ``waits`` connects, says in its journal that it is ready, and begins when told to.

    Without ``confirms`` it does as publishers do who do not ask for them: what is written to the
    connection counts as confirmed. With ``churn`` it closes each connection in its time, all
    confirms received, and goes on over another. It looks at the clock every ``tick_s``, which
    ``epoch_ns`` makes that of the run's other workers.
    """

    endpoint: Endpoint
    recipe: Recipe
    number: int
    count: int
    directory: Path
    exchange: str
    routing_key: str
    window: int = 2000
    schedule: Schedule | None = None
    duration_s: float | None = None
    confirms: bool = True
    publish_again: bool = False
    waits: bool = False
    vector: bool = True
    heartbeat_s: int = 30
    stall_s: float = 30.0
    tick_s: float = TICK_S
    churn: Churn | None = None
    epoch_ns: int = 0

    @property
    def name(self) -> str:
        """Its name for a person."""
        return f"producer {self.number}"

    @property
    def ledgers(self) -> int:
        """How many ledgers it keeps."""
        return 1

    def run(self, finish: threading.Event | None = None) -> ProducerReport:
        """Publish everything, wait for all confirms, and return how it went.

        ``finish`` is the word to begin, for one that ``waits``: a producer ends by itself.
        """
        network = replace(REAL_NETWORK, clock=Clock.since(self.epoch_ns))
        return Producer(self, go=finish if self.waits else None, network=network).run()


@dataclass(frozen=True)
class ProducerReport:
    """How one producer did. Times are Unix nanoseconds, CPU seconds of its thread.

    ``error`` is a sentence where it ended before everything was settled.
    """

    number: int
    started_ns: int
    ended_ns: int
    cpu_s: float
    interruptions: tuple[Interruption, ...] = ()
    error: str | None = None


class Producer:
    """Publishes with a window of outstanding confirms; the ledger is written before the socket."""

    def __init__(
        self,
        plan: ProducerPlan,
        watch: Callable[[int], None] = lambda _: None,
        go: threading.Event | None = None,
        network: Network = REAL_NETWORK,
    ) -> None:
        """Open the plan's ledger; ``watch`` is called all along with the number settled.

        Nothing is published before ``go`` is set.
        """
        self.plan = plan
        self._go = go
        self._watch = watch
        self._network = network
        self._clock = clock = network.clock
        self._stopping = False
        self._known = 0  # settled on channels before the present one
        self._recorder = PublishRecorder(plan.directory)
        self._ledger = self._recorder.ledger
        self._journal = Journal(plan.directory / JOURNAL_FILE, clock)
        self._recovery = Recovery(
            plan.stall_s,
            on_interruption=lambda each: self._journal.write(
                Interrupted(time_ns=each.at_ns, why=each.why)
            ),
            clock=clock,
            sleep=lambda seconds: pause(seconds, lambda: self._stopping, clock),
        )
        self._channels = 0  # opened so far; the last one has this number
        self._begun = False
        self._left_at = clock.monotonic()  # the last moment at which it had a channel to publish on
        self._until: float | None = None  # when its duration is over, in monotonic seconds
        self._sent_ns = 0  # the last moment at which anything was sent
        self._unsent = 0  # the first message that was never sent
        self._blocked: str | None = None
        self._due = Due(plan.schedule, clock.monotonic)
        # No more than will ever be due: nothing else ends the wait for what is not.
        self._count = plan.count if plan.schedule is None else min(plan.count, plan.schedule.most)
        self._lifetime = Lifetime(plan.churn, clock.monotonic)
        self._goes_on = False  # over another connection, when this one has lived long enough
        self._started_ns, self._started_cpu = clock.time_ns(), clock.cpu_s()

    def stop(self) -> None:
        """Send nothing more, wait for the confirms under way, and end."""
        self._stopping = True

    def run(self) -> ProducerReport:
        """Publish everything, wait for all confirms, and return how it went."""
        with self._journal:
            try:
                error = self._recovery.run(self._publish_on_a_new_channel)
                while error is None and self._goes_on:
                    error = self._recovery.run(self._publish_on_a_new_channel)
                self._note_lag_of_unsent()
            finally:
                self._recorder.close()
            report = ProducerReport(
                number=self.plan.number,
                started_ns=self._started_ns,
                ended_ns=self._clock.time_ns(),
                cpu_s=self._clock.cpu_s() - self._started_cpu,
                interruptions=tuple(self._recovery.interruptions),
                error=str(error) if error else None,
            )
            self._journal.write(
                WorkEnded(
                    until_ns=report.ended_ns,
                    cpu_s=report.cpu_s,
                    messages=self._unsent if self._time_is_up else self._count,
                    repeats=self._recorder.repeats,
                    incidents=self._recorder.incidents,
                    peak_rss_bytes=peak_rss_bytes(),
                    error=report.error,
                    refused=isinstance(error, AccessRefused) and not self._confirmed_any,
                    too_large=isinstance(error, MessageTooLarge),
                )
            )
        return report

    def _note_lag_of_unsent(self) -> None:
        """Record by how much it is itself late with what was due and was never sent."""
        if self.plan.schedule is None or not self._begun:
            return
        due = min(self._unsent + self._due.count(self._unsent), self._count)
        if due > self._unsent:
            self._due.held(self._clock.monotonic() - self._left_at)
            sequences = np.arange(self._unsent, due)
            lag_ns = self._due.lag_ns(sequences)
            if lag_ns is not None:
                self._recorder.leave_unsent(sequences, lag_ns)

    @property
    def _confirmed_any(self) -> bool:
        return self._ledger.confirmed > 0

    @property
    def _time_is_up(self) -> bool:
        return self._until is not None and self._clock.monotonic() >= self._until

    def _publish_on_a_new_channel(self) -> None:
        plan = self.plan
        with Connection(
            plan.endpoint,
            name=f"rmqbench {plan.name}",
            network=self._network,
            vector=plan.vector,
            heartbeat_s=plan.heartbeat_s,
            tick_s=plan.tick_s,
        ) as connection:
            self._recovery.connected()
            channel = connection.channel()
            channel.add_on_return_callback(self._on_return)
            self._channels += 1
            settling = _Settling(
                self._recorder,
                self._left_indeterminate(),
                self._unsent,
                _Origin(plan.number, self._channels, self._clock),
            )
            if plan.confirms:
                connection.expect_confirms(channel, self._on_confirms(settling))
            if not self._begun:
                self._wait_for_the_word(connection)
                self._begin()
            self._goes_on = False
            self._due.held(self._clock.monotonic() - self._left_at)
            self._lifetime.begin()
            self._journal.write(ChannelOpened(number=self._channels, first=self._unsent))
            try:
                self._publish(connection, channel, settling)
                if self._goes_on:
                    self._journal.write(ChannelClosed(number=self._channels))
            finally:
                self._known += settling.settled
                self._left_at = self._clock.monotonic()

    def _wait_for_the_word(self, connection: Connection) -> None:
        if self._go is None:
            return
        self._journal.write(WorkReady())
        while not self._go.wait(_TURN_S):
            connection.turn()

    def _begin(self) -> None:
        """Start the clocks: from here on its figures and its duration count."""
        self._begun = True
        self._left_at = self._clock.monotonic()
        self._started_ns, self._started_cpu = self._clock.time_ns(), self._clock.cpu_s()
        if self.plan.duration_s is not None:
            self._until = self._clock.monotonic() + self._longest_s
        self._due.start()
        self._journal.write(WorkStarted(time_ns=self._started_ns))
        self._recovery.waited()

    @property
    def _longest_s(self) -> float:
        """How long it publishes: what is due at last may need a little more than the duration."""
        duration_s = self.plan.duration_s or math.inf
        if self.plan.schedule is None:
            return duration_s
        return duration_s + min(
            max(duration_s * _CATCHING_UP, _LEAST_CATCHING_UP_S), self.plan.stall_s
        )

    def _left_indeterminate(self) -> npt.NDArray[np.int64]:
        """Return the messages that are to be sent again: those whose fate is not known."""
        if not (self.plan.publish_again and self._unsent):
            return np.empty(0, np.int64)
        return self._recorder.indeterminate(self._unsent)

    def _publish(
        self, connection: Connection, channel: pika.channel.Channel, settling: _Settling
    ) -> None:
        plan = self.plan
        shape = Shape.of_publish(
            plan.recipe.of_producer(plan.number),
            channel=channel.channel_number,
            exchange=plan.exchange,
            routing_key=plan.routing_key,
            mandatory=True,
            frame_max=connection.frame_max,
        )
        window = max(1, min(plan.window, _BYTES_IN_FLIGHT // shape.mean_bytes))
        batch = max(1, window // 4) if plan.schedule is None else 1
        while (left := self._left(settling)) or settling.settled < settling.sent:
            waiting = settling.again_left + min(self._due.count(self._unsent), self._new_left)
            due = min(left, waiting)
            room = window - (settling.sent - settling.settled)
            if not plan.confirms and connection.unsent_bytes > window * shape.mean_bytes:
                room = 0
            held = waiting > 0  # by others, also where the connection is about to be left
            if due and room >= min(batch, due) and connection.blocked is None:
                held = room < waiting
                sequences, sent_ns = self._note_sent(settling, min(room, due, shape.max_rows))
                if plan.vector:
                    connection.send(shape.render(plan.number, sequences, sent_ns))
                else:
                    self._publish_one_by_one(channel, sequences, sent_ns)
            waited_s = connection.waited_s
            connection.turn(self._due.wait_s(self._unsent if left and not held else None))
            if held:
                self._due.held(connection.waited_s - waited_s)
            self._watch(self._known + settling.settled)
            self._note_blocked(connection)
            self._require_progress(connection, settling)
        if not plan.confirms:
            self._wait_until_read(connection, channel)
        self._goes_on = self._to_be_sent(settling) > 0

    def _left(self, settling: _Settling) -> int:
        """Return how many messages are still to be sent on this channel."""
        if self._lifetime.is_over and settling.sent:
            return 0
        return self._to_be_sent(settling)

    def _to_be_sent(self, settling: _Settling) -> int:
        """Return how many messages are still to be sent, on this channel or another."""
        if self._stopping:
            return 0
        total = len(settling.again)
        if not self._time_is_up:
            total += self._count - settling.first
        return max(0, total - settling.sent)

    @property
    def _new_left(self) -> int:
        """How many messages were never sent, and still are to be."""
        return 0 if self._time_is_up else self._count - self._unsent

    def _wait_until_read(self, connection: Connection, channel: pika.channel.Channel) -> None:
        """Wait for an answer that comes behind all publishes: nothing else says they were read."""
        answers: list[object] = []
        channel.basic_qos(prefetch_count=1, callback=answers.append)
        began_at = self._clock.monotonic()
        connection.wait_until(
            lambda: bool(answers), self.plan.stall_s, "the broker to read all that was published"
        )
        self._due.held(self._clock.monotonic() - began_at)

    def _note_sent(self, settling: _Settling, count: int) -> tuple[npt.NDArray[np.int64], int]:
        """Record that the next messages are sent, and when: from here on they may arrive.

        No moment serves twice: by its send time a message is told from an earlier copy of it.
        """
        sequences = settling.take(count)
        self._sent_ns = now_ns = max(self._clock.time_ns(), self._sent_ns + 1)
        lag_ns = self._due.lag_ns(sequences)
        self._recorder.send(sequences, self._channels, now_ns, lag_ns)
        if not self.plan.confirms:
            self._recorder.settle(sequences, CONFIRMED, now_ns)
            settling.settled += count
            self._recovery.progressed()
        self._unsent = max(self._unsent, int(sequences[-1]) + 1)
        return sequences, now_ns

    def _publish_one_by_one(
        self, channel: pika.channel.Channel, sequences: npt.NDArray[np.int64], sent_ns: int
    ) -> None:
        plan = self.plan
        for sequence in sequences.tolist():
            message = (plan.number, sequence, sent_ns)
            channel.basic_publish(
                plan.exchange,
                plan.routing_key,
                plan.recipe.body(*message),
                plan.recipe.properties(*message),
                mandatory=True,
            )

    def _require_progress(self, connection: Connection, settling: _Settling) -> None:
        if settling.sent == settling.settled and not self._due.count(self._unsent):
            self._recovery.waited()  # for its own schedule only
        if self._recovery.idle_s <= self.plan.stall_s:
            return
        why = f" The broker blocks publishers: {connection.blocked}." if connection.blocked else ""
        raise DeadlineExceeded(
            f"Producer {self.plan.number} waited {self.plan.stall_s:g} s for a confirm of "
            f"{counted(settling.sent - settling.settled, 'message')}, and none came.{why}",
            "See the broker's alarms and its log.",
        )

    def _note_blocked(self, connection: Connection) -> None:
        if connection.blocked and connection.blocked != self._blocked:
            why = f"The broker blocks publishers: {connection.blocked}."
            self._recovery.note_interruption(why)
        self._blocked = connection.blocked

    def _on_confirms(self, settling: _Settling) -> Callable[[Confirms], None]:
        def on_confirms(confirms: Confirms) -> None:
            self._recovery.progressed()
            settling.settle(confirms)

        return on_confirms

    def _on_return(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        """Record an unroutable message; the broker acks it right after (it is not confirmed)."""
        identity = self.plan.recipe.identify(properties, body)
        if identity is not None and identity.sequence < self.plan.count:
            self._ledger.state[identity.sequence] |= RETURNED


@dataclass(frozen=True)
class _Origin:
    """Whose confirms they are: producer and channel by number, and the clock that dates them."""

    producer: int
    channel: int
    clock: Clock


class _Settling:
    """The messages of one publishing channel, in the order of their delivery tags, from 1 on.

    First come those that are sent ``again``, then all from the sequence number ``first`` on.
    """

    def __init__(
        self,
        recorder: PublishRecorder,
        again: npt.NDArray[np.int64],
        first: int,
        origin: _Origin,
    ) -> None:
        self.again = again
        self.first = first
        self.sent = 0
        self.settled = 0
        self._recorder = recorder
        self._origin = origin
        self._low_tag = 1  # every tag below it is settled
        self._said = np.zeros(0, np.uint8)  # CONFIRMED, NACKED: what was said of each tag here

    @property
    def again_left(self) -> int:
        """How many of those that are sent again are still to be sent."""
        return max(0, len(self.again) - self.sent)

    def take(self, count: int) -> npt.NDArray[np.int64]:
        """Return the sequence numbers of the next messages to be sent."""
        places = np.arange(self.sent, self.sent + count)
        self.sent += count
        return self._sequences(places)

    def settle(self, confirms: Confirms) -> None:
        """Settle what the broker acked or nacked, and report where it contradicts itself.

        Raise BrokerError at the first confirm of what was not published.
        """
        now_ns = self._origin.clock.time_ns()
        # Tag 0 with multiple stands for all outstanding (AMQP 0-9-1, basic.ack).
        everything = confirms.multiple & (confirms.tags == 0)
        tags = np.where(everything, self.sent, confirms.tags)
        known = (tags >= 1) & (tags <= self.sent)
        good = len(tags) if known.all() else int(np.argmin(known))
        if confirms.nack.any():
            for i in range(good):
                bit = NACKED if confirms.nack[i] else CONFIRMED
                one = slice(i, i + 1)
                self._settle(tags[one], confirms.multiple[one], everything[one], bit, now_ns)
        elif good:
            these = slice(good)
            self._settle(
                tags[these], confirms.multiple[these], everything[these], CONFIRMED, now_ns
            )
        if good < len(tags):
            self._refuse(int(tags[good]) % 2**64, now_ns)

    def _refuse(self, tag: int, now_ns: int) -> NoReturn:
        """Report the confirm of what was not published, and raise BrokerError."""
        self._contradict(now_ns, None, f"delivery tag {tag}, of {self.sent} published")
        raise BrokerError(
            f"The broker confirmed delivery tag {tag}, "
            f"but only {counted(self.sent, 'message was', 'messages were')} published.",
            "Something between rmqbench and the broker alters AMQP traffic, or the broker is "
            "at fault.",
        )

    def _settle(
        self,
        tags: npt.NDArray[np.int64],
        multiple: npt.NDArray[np.bool_],
        everything: npt.NDArray[np.bool_],
        bit: int,
        now_ns: int,
    ) -> None:
        """Settle in the order of the confirms.

        Each is to settle its own tag at least, but for one of ``everything``: that names none.
        """
        covered = np.maximum.accumulate(np.where(multiple, tags, self._low_tag - 1))
        before = np.concatenate(([self._low_tag - 1], covered[:-1]))
        first = np.zeros(len(tags), np.bool_)
        first[np.unique(tags, return_index=True)[1]] = True
        fresh = (tags > before) & (self._said_of(tags - 1) == 0) & first
        for tag in tags[~fresh & ~everything].tolist():
            self._say_again(tag - 1, bit, now_ns)
        self._settle_places(tags[fresh & ~multiple] - 1, bit, now_ns)
        top = int(covered[-1])
        self._settle_places(np.arange(self._low_tag - 1, top), bit, now_ns)
        self._low_tag = max(self._low_tag, top + 1)

    def _settle_places(self, places: npt.NDArray[np.int64], bit: int, now_ns: int) -> None:
        """Settle those of which nothing was said yet: ``multiple`` covers others, too."""
        places = places[self._said_of(places) == 0]
        self._said[places] = bit
        self._recorder.settle(self._sequences(places), bit, now_ns)
        self.settled += len(places)

    def _said_of(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Return what was said of these so far; there is room for all that was sent."""
        if len(self._said) < self.sent:
            grown = np.zeros(max(self.sent, 2 * len(self._said)), np.uint8)
            grown[: len(self._said)] = self._said
            self._said = grown
        return self._said[places]

    def _say_again(self, place: int, bit: int, now_ns: int) -> None:
        """Report that something was said of a publish of which enough had been said."""
        said = int(self._said[place]) or bit  # covered a moment ago, by the same kind of confirm
        sequence = int(self._sequences(np.array([place]))[0])
        first, then = ("confirmed" if each == CONFIRMED else "refused" for each in (said, bit))
        self._contradict(now_ns, sequence, f"first {first}, then {then}")

    def _contradict(self, now_ns: int, sequence: int | None, detail: str) -> None:
        origin, name = self._origin, FindingName.CONTRADICTED
        producer = None if sequence is None else origin.producer
        self._recorder.report(Incident(name, now_ns, producer, sequence, detail, origin.channel))

    def _sequences(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        count = len(self.again)
        if not count:
            return places + self.first
        sequences = places - count + self.first
        early = places < count
        sequences[early] = self.again[places[early]]
        return sequences
