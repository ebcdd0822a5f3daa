"""Publish the messages of one producer and keep evidence of what became of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pika.channel

from rmqbench.amqp.connection import Connection
from rmqbench.amqp.vector import Confirms, Shape
from rmqbench.clients.rate import Pace
from rmqbench.clients.recovery import Interruption, Recovery, pause
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, DeadlineExceeded
from rmqbench.memory import peak_rss_bytes
from rmqbench.message import Recipe
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelOpened,
    Interrupted,
    Journal,
    WorkEnded,
    WorkStarted,
)
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.verdict.evidence import CONFIRMED, NACKED, RETURNED, SENT, SENT_AGAIN

__all__ = ["Producer", "ProducerPlan", "ProducerReport"]

_BYTES_IN_FLIGHT = 16 << 20  # large messages: the window is cut to what this many bytes hold


@dataclass(frozen=True)
class ProducerPlan:
    """What one producer is to do.

    ``directory`` holds its ledger (made by :meth:`PublishLedger.create` with ``count``) and its
    journal. It publishes ``count`` messages, or fewer where ``duration_s`` is over before.
    ``window`` is the number of publishes without a confirm yet, at the most; ``rate`` limits the
    messages a second. ``stall_s`` is how long it goes on without any confirm, and how long it tries
    to reconnect after an interruption. It then goes on with what it has not sent; with
    ``publish_again`` it first sends again what is indeterminate.

    Without ``confirms`` it does as publishers do who do not ask for them: what is written to the
    connection counts as confirmed.
    """

    endpoint: Endpoint
    recipe: Recipe
    number: int
    count: int
    directory: Path
    exchange: str
    routing_key: str
    window: int = 2000
    rate: float | None = None
    duration_s: float | None = None
    confirms: bool = True
    publish_again: bool = False
    mandatory: bool = True
    vector: bool = True
    heartbeat_s: int = 30
    stall_s: float = 30.0

    def run(self, finish: threading.Event | None = None) -> ProducerReport:
        """Publish everything, wait for all confirms, and return how it went.

        ``finish`` is for consumers: a producer ends by itself.
        """
        return Producer(self).run()


@dataclass(frozen=True)
class ProducerReport:
    """How one producer did. Times are Unix nanoseconds, CPU seconds of the whole process.

    ``channel_starts`` are the sequence numbers with which its publishing channels began. ``error``
    is a sentence where it ended before everything was settled.
    """

    number: int
    started_ns: int
    ended_ns: int
    cpu_s: float
    channel_starts: tuple[int, ...]
    interruptions: tuple[Interruption, ...] = ()
    error: str | None = None


class Producer:
    """Publishes with a window of outstanding confirms; the ledger is written before the socket."""

    def __init__(self, plan: ProducerPlan, watch: Callable[[int], None] = lambda _: None) -> None:
        """Open the plan's ledger; ``watch`` is called all along with the number settled."""
        self.plan = plan
        self._watch = watch
        self._stopping = False
        self._known = 0  # settled on channels before the present one
        self._ledger = PublishLedger.open(plan.directory)
        self._journal = Journal(plan.directory / JOURNAL_FILE)
        self._recovery = Recovery(
            plan.stall_s,
            on_interruption=lambda each: self._journal.write(
                Interrupted(time_ns=each.at_ns, why=each.why)
            ),
            sleep=lambda seconds: pause(seconds, lambda: self._stopping),
        )
        self._channel_starts: list[int] = []
        self._until: float | None = None  # when its duration is over, in monotonic seconds
        self._unsent = 0  # the first message that was never sent
        self._blocked: str | None = None
        self._pace = Pace(plan.rate)
        self._started_ns, self._started_cpu = time.time_ns(), time.process_time()

    def stop(self) -> None:
        """Send nothing more, wait for the confirms under way, and end."""
        self._stopping = True

    def run(self) -> ProducerReport:
        """Publish everything, wait for all confirms, and return how it went."""
        with self._journal:
            error = self._recovery.run(self._publish_on_a_new_channel)
            report = ProducerReport(
                number=self.plan.number,
                started_ns=self._started_ns,
                ended_ns=time.time_ns(),
                cpu_s=time.process_time() - self._started_cpu,
                channel_starts=tuple(self._channel_starts),
                interruptions=tuple(self._recovery.interruptions),
                error=str(error) if error else None,
            )
            self._journal.write(
                WorkEnded(
                    until_ns=report.ended_ns,
                    cpu_s=report.cpu_s,
                    messages=self._unsent if self._time_is_up else self.plan.count,
                    peak_rss_bytes=peak_rss_bytes(),
                    error=report.error,
                )
            )
        return report

    @property
    def _time_is_up(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def _publish_on_a_new_channel(self) -> None:
        plan = self.plan
        name = f"rmqbench producer {plan.number}"
        with Connection(
            plan.endpoint, name=name, vector=plan.vector, heartbeat_s=plan.heartbeat_s
        ) as connection:
            self._recovery.connected()
            channel = connection.channel()
            channel.add_on_return_callback(self._on_return)
            settling = _Settling(self._ledger, self._left_indeterminate(), self._unsent)
            if plan.confirms:
                connection.expect_confirms(channel, self._on_confirms(settling))
            if not self._channel_starts:
                self._begin()
            self._pace.start()
            self._channel_starts.append(self._unsent)
            self._journal.write(ChannelOpened(number=len(self._channel_starts), first=self._unsent))
            try:
                self._publish(connection, channel, settling)
            finally:
                self._known += settling.settled

    def _begin(self) -> None:
        """Start the clocks: from here on its figures and its duration count."""
        self._started_ns, self._started_cpu = time.time_ns(), time.process_time()
        if self.plan.duration_s is not None:
            self._until = time.monotonic() + self.plan.duration_s
        self._journal.write(WorkStarted(time_ns=self._started_ns))
        self._recovery.progressed()

    def _left_indeterminate(self) -> npt.NDArray[np.int64]:
        """Return the messages that are to be sent again: those whose fate is not known."""
        if not (self.plan.publish_again and self._unsent):
            return np.empty(0, np.int64)
        known = CONFIRMED | NACKED | RETURNED
        return np.flatnonzero(self._ledger.state[: self._unsent] & known == 0)

    def _publish(
        self, connection: Connection, channel: pika.channel.Channel, settling: _Settling
    ) -> None:
        plan = self.plan
        shape = Shape.of_publish(
            plan.recipe,
            channel=channel.channel_number,
            exchange=plan.exchange,
            routing_key=plan.routing_key,
            mandatory=plan.mandatory,
            frame_max=connection.frame_max,
        )
        window = max(1, min(plan.window, _BYTES_IN_FLIGHT // shape.stride))
        batch = max(1, window // 4) if plan.rate is None else 1
        while (left := self._left(settling)) or settling.settled < settling.sent:
            room = window - (settling.sent - settling.settled)
            if not plan.confirms and connection.unsent_bytes > window * shape.stride:
                room = 0
            room = min(room, self._pace.allowance())
            if left and room >= min(batch, left) and connection.blocked is None:
                sequences = self._note_sent(settling, min(room, left, shape.max_rows))
                if plan.vector:
                    sent_ns = self._ledger.sent_ns[sequences[0]]
                    connection.send(shape.render(plan.number, sequences, int(sent_ns)).tobytes())
                else:
                    self._publish_one_by_one(channel, sequences)
            connection.turn()
            self._watch(self._known + settling.settled)
            self._note_blocked(connection)
            self._require_progress(connection, settling)
        if not plan.confirms:
            self._wait_until_read(connection, channel)

    def _left(self, settling: _Settling) -> int:
        """Return how many messages are still to be sent on this channel."""
        if self._stopping:
            return 0
        total = len(settling.again)
        if not self._time_is_up:
            total += self.plan.count - settling.first
        return max(0, total - settling.sent)

    def _wait_until_read(self, connection: Connection, channel: pika.channel.Channel) -> None:
        """Wait for an answer that comes behind all publishes: nothing else says they were read."""
        answers: list[object] = []
        channel.basic_qos(prefetch_count=1, callback=answers.append)
        connection.wait_until(
            lambda: bool(answers), self.plan.stall_s, "the broker to read all that was published"
        )

    def _note_sent(self, settling: _Settling, count: int) -> npt.NDArray[np.int64]:
        """Record that the next messages are sent: from here on they may arrive."""
        sequences = settling.take(count)
        ledger, now_ns = self._ledger, time.time_ns()
        self._pace.spend(count)
        ledger.sent_ns[sequences] = now_ns
        again = sequences < self._unsent
        ledger.state[sequences[again]] |= SENT_AGAIN
        ledger.state[sequences] |= SENT
        if not self.plan.confirms:
            ledger.settled_ns[sequences] = now_ns
            ledger.state[sequences] |= CONFIRMED
            settling.settled += count
            self._recovery.progressed()
        self._unsent = max(self._unsent, int(sequences[-1]) + 1)
        return sequences

    def _publish_one_by_one(
        self, channel: pika.channel.Channel, sequences: npt.NDArray[np.int64]
    ) -> None:
        plan = self.plan
        for sequence in sequences.tolist():
            message = (plan.number, sequence, int(self._ledger.sent_ns[sequence]))
            channel.basic_publish(
                plan.exchange,
                plan.routing_key,
                plan.recipe.body(*message),
                plan.recipe.properties(*message),
                mandatory=plan.mandatory,
            )

    def _require_progress(self, connection: Connection, settling: _Settling) -> None:
        if settling.sent == settling.settled and self._pace.allowance() < 1:
            self._recovery.progressed()  # it waits for its own pace, and for nobody
        if self._recovery.idle_s <= self.plan.stall_s:
            return
        why = f" The broker blocks publishers: {connection.blocked}." if connection.blocked else ""
        raise DeadlineExceeded(
            f"Producer {self.plan.number} waited {self.plan.stall_s:g} s for a confirm of "
            f"{settling.sent - settling.settled} messages, and none came.{why}",
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


class _Settling:
    """The messages of one publishing channel, in the order of their delivery tags, from 1 on.

    First come those that are sent ``again``, then all from the sequence number ``first`` on.
    """

    def __init__(self, ledger: PublishLedger, again: npt.NDArray[np.int64], first: int) -> None:
        self.again = again
        self.first = first
        self.sent = 0
        self.settled = 0
        self._ledger = ledger
        self._low_tag = 1  # every tag below it is settled

    def take(self, count: int) -> npt.NDArray[np.int64]:
        """Return the sequence numbers of the next messages to be sent."""
        places = np.arange(self.sent, self.sent + count)
        self.sent += count
        return self._sequences(places)

    def settle(self, confirms: Confirms) -> None:
        """Settle what the broker acked or nacked."""
        now_ns = time.time_ns()
        if confirms.tags.max() > self.sent:
            raise BrokerError(
                f"The broker confirmed delivery tag {confirms.tags.max()}, "
                f"but only {self.sent} messages were published.",
                "Something between rmqbench and the broker alters AMQP traffic, or the broker is "
                "at fault.",
            )
        if confirms.nack.any():
            for i in range(len(confirms.tags)):
                bit = NACKED if confirms.nack[i] else CONFIRMED
                tags, multiple = confirms.tags[i : i + 1], confirms.multiple[i : i + 1]
                self._settle(tags, multiple, bit, now_ns)
        else:
            self._settle(confirms.tags, confirms.multiple, CONFIRMED, now_ns)

    def _settle(
        self,
        tags: npt.NDArray[np.int64],
        multiple: npt.NDArray[np.bool_],
        bit: int,
        now_ns: int,
    ) -> None:
        if multiple.any():
            # Tag 0 with multiple stands for all outstanding (AMQP 0-9-1, basic.ack).
            below = tags[multiple]
            top = self.sent if (below == 0).any() else int(below.max())
            if top >= self._low_tag:
                self._settle_places(np.arange(self._low_tag - 1, top), bit, now_ns)
                self._low_tag = top + 1
            tags = tags[~multiple]
        if len(tags):
            self._settle_places(tags - 1, bit, now_ns)

    def _settle_places(self, places: npt.NDArray[np.int64], bit: int, now_ns: int) -> None:
        sequences = self._sequences(places)
        sequences = sequences[self._ledger.state[sequences] & (CONFIRMED | NACKED) == 0]
        self._ledger.settled_ns[sequences] = now_ns
        self._ledger.state[sequences] |= bit
        self.settled += len(sequences)

    def _sequences(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        count = len(self.again)
        if not count:
            return places + self.first
        sequences = places - count + self.first
        early = places < count
        sequences[early] = self.again[places[early]]
        return sequences
