"""Publish the messages of one producer and keep evidence of what became of each."""

from __future__ import annotations

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
from rmqbench.clients.pause import pause
from rmqbench.clients.rate import Pace
from rmqbench.clients.recovery import Interruption, Recovery
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, DeadlineExceeded
from rmqbench.message import Recipe
from rmqbench.verdict.ledger import CONFIRMED, NACKED, RETURNED, SENT, SENT_AGAIN, PublishLedger

__all__ = ["Producer", "ProducerPlan", "ProducerReport"]

_BYTES_IN_FLIGHT = 16 << 20  # large messages: the window is cut to what this many bytes hold


@dataclass(frozen=True)
class ProducerPlan:
    """What one producer is to do.

    ``directory`` holds its ledger (made by :meth:`PublishLedger.create` with ``count``).
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
    confirms: bool = True
    publish_again: bool = False
    mandatory: bool = True
    vector: bool = True
    heartbeat_s: int = 30
    stall_s: float = 30.0

    def run(self) -> ProducerReport:
        """Publish everything, wait for all confirms, and tell how it went."""
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
        self._recovery = Recovery(
            plan.stall_s, sleep=lambda seconds: pause(seconds, lambda: self._stopping)
        )
        self._channel_starts: list[int] = []
        self._unsent = 0  # the first message that was never sent
        self._blocked: str | None = None
        self._pace = Pace(plan.rate)
        self._started_ns, self._started_cpu = time.time_ns(), time.process_time()

    def stop(self) -> None:
        """Have it send nothing more, wait for the confirms under way, and end."""
        self._stopping = True

    def run(self) -> ProducerReport:
        """Publish everything, wait for all confirms, and tell how it went."""
        error = self._recovery.run(self._publish_on_a_new_channel)
        return ProducerReport(
            number=self.plan.number,
            started_ns=self._started_ns,
            ended_ns=time.time_ns(),
            cpu_s=time.process_time() - self._started_cpu,
            channel_starts=tuple(self._channel_starts),
            interruptions=tuple(self._recovery.interruptions),
            error=str(error) if error else None,
        )

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
                self._started_ns, self._started_cpu = time.time_ns(), time.process_time()
                self._recovery.progressed()
            self._pace.start()
            self._channel_starts.append(self._unsent)
            try:
                self._publish(connection, channel, settling)
            finally:
                self._known += settling.settled

    def _left_indeterminate(self) -> npt.NDArray[np.int64]:
        """Give the messages that are to be sent again: those whose fate is not known."""
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
        total = len(settling.again) + plan.count - settling.first
        while settling.settled < (settling.sent if self._stopping else total):
            room = window - (settling.sent - settling.settled)
            if not plan.confirms and connection.unsent_bytes > window * shape.stride:
                room = 0
            left = total - settling.sent
            room = min(room, self._pace.allowance())
            may_send = connection.blocked is None and not self._stopping
            if left and room >= min(batch, left) and may_send:
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

    def _wait_until_read(self, connection: Connection, channel: pika.channel.Channel) -> None:
        """Wait for an answer that comes behind all publishes: nothing else says they were read."""
        answers: list[object] = []
        channel.basic_qos(prefetch_count=1, callback=answers.append)
        connection.wait_until(
            lambda: bool(answers), self.plan.stall_s, "the broker to read all that was published"
        )

    def _note_sent(self, settling: _Settling, count: int) -> npt.NDArray[np.int64]:
        """Write down that the next messages are sent: from here on they may arrive."""
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
            f"{settling.sent - settling.settled} messages, in vain.{why}",
            "See the broker's alarms and its log.",
        )

    def _note_blocked(self, connection: Connection) -> None:
        if connection.blocked and connection.blocked != self._blocked:
            why = f"The broker blocks publishers: {connection.blocked}."
            self._recovery.interruptions.append(Interruption(time.time_ns(), why))
        self._blocked = connection.blocked

    def _on_confirms(self, settling: _Settling) -> Callable[[Confirms], None]:
        def on_confirms(confirms: Confirms) -> None:
            self._recovery.progressed()
            settling.settle(confirms)

        return on_confirms

    def _on_return(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        """Note an unroutable message; the broker acks it right after (it is not confirmed)."""
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
        """Give the sequence numbers of the next messages to be sent."""
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
