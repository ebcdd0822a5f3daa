"""Consume one queue of a run: judge every byte, record, and only then acknowledge."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.amqp.vector import Deliveries
from rmqbench.clients.recovery import Interruption
from rmqbench.clients.subscriber import Held, Look, Subscriber, Subscription, Taken
from rmqbench.endpoint import Endpoint
from rmqbench.message import Recipe
from rmqbench.verdict.ledger import DeliveryRecorder, Incident

__all__ = ["Consumer", "ConsumerPlan", "ConsumerReport"]


@dataclass(frozen=True)
class ConsumerPlan:
    """What one consumer is to do.

    ``directory`` holds its ledger (made by :meth:`DeliveryLedger.create` with the sum of
    ``counts``, the messages of each producer). It ends by itself after ``expected`` messages (None:
    it shares its queue and can't know), or when nothing came for ``idle_s`` and the queue says
    that it is empty, or when nothing came for ``stall_s`` although it is not; so long it also tries
    to reconnect after an interruption. ``rate`` limits the messages a second: what is over it is
    acknowledged later. With ``auto_ack`` the broker forgets each message as it delivers it.
    """

    endpoint: Endpoint
    recipe: Recipe
    counts: tuple[int, ...]
    number: int
    queue: str
    directory: Path
    exchange: str
    routing_key: str
    prefetch: int = 1000
    rate: float | None = None
    auto_ack: bool = False
    expected: int | None = None
    vector: bool = True
    heartbeat_s: int = 30
    idle_s: float = 1.0
    stall_s: float = 30.0

    def run(self) -> ConsumerReport:
        """Consume until there is nothing more, and tell how it went."""
        return Consumer(self).run()


@dataclass(frozen=True)
class ConsumerReport:
    """How one consumer did. Times are Unix nanoseconds, CPU seconds of the whole process.

    ``closed_channels`` are the numbers of the channels that ended in order. ``error`` is a
    sentence where it ended for another reason than an empty queue.
    """

    number: int
    queue: str
    deliveries: int
    started_ns: int
    ended_ns: int
    cpu_s: float
    closed_channels: tuple[int, ...]
    reordered_redeliveries: int
    interruptions: tuple[Interruption, ...] = ()
    error: str | None = None


class Consumer:
    """Acknowledges what it has recorded, never anything else.

    A message that is not of this run is counted and held, unacknowledged, so that it is back in
    its queue as soon as the channel closes.
    """

    def __init__(self, plan: ConsumerPlan) -> None:
        self.plan = plan
        self._recorder = DeliveryRecorder(plan.directory, plan.counts)
        self._subscriber = Subscriber(
            Subscription(
                endpoint=plan.endpoint,
                queue=plan.queue,
                name=f"rmqbench consumer {plan.number} of {plan.queue}",
                tag=f"consumer-{plan.number}",
                prefetch=plan.prefetch,
                rate=plan.rate,
                auto_ack=plan.auto_ack,
                vector=plan.vector,
                heartbeat_s=plan.heartbeat_s,
                stall_s=plan.stall_s,
            ),
            self,
        )
        self._delivered_ns = 0
        self._started_ns, self._started_cpu = time.time_ns(), time.process_time()
        self._seen = 0
        self._seen_at = self._asked_at = time.monotonic()
        self._stuck: str | None = None

    def run(self) -> ConsumerReport:
        """Consume until there is nothing more, and tell how it went."""
        plan = self.plan
        try:
            error = self._subscriber.run(self._go_on)
        finally:
            self._recorder.close()
        return ConsumerReport(
            number=plan.number,
            queue=plan.queue,
            deliveries=self._recorder.deliveries,
            started_ns=self._started_ns,
            ended_ns=self._delivered_ns or self._started_ns,
            cpu_s=time.process_time() - self._started_cpu,
            closed_channels=() if error else (self._recorder.channel,),
            reordered_redeliveries=self._recorder.reordered_redeliveries,
            interruptions=self._subscriber.interruptions,
            error=str(error) if error else self._stuck,
        )

    def begin(self) -> None:
        """Begin a new channel: what was not acknowledged on the last one comes again."""
        if not self._recorder.channel:
            self._started_ns, self._started_cpu = time.time_ns(), time.process_time()
        self._recorder.open_channel()
        self._seen_at = time.monotonic()

    def take_many(self, deliveries: Deliveries) -> tuple[int, npt.NDArray[np.int64]]:
        """Record many messages of which every byte is known to be right."""
        self._delivered_ns = time.time_ns()
        places = self._recorder.record(
            deliveries.producers,
            deliveries.sequences,
            deliveries.redelivered,
            self._delivered_ns,
        )
        return len(deliveries.tags), places

    def take(self, method: Any, properties: Any, body: bytes) -> Taken | Held:
        """Judge and record one message; hold it if it is not of this run."""
        plan = self.plan
        recipe = plan.recipe
        self._delivered_ns = now_ns = time.time_ns()
        identity = recipe.identify(properties, body)
        if identity is None:
            self._recorder.report(
                Incident("foreign", now_ns, detail=_describe(method, properties, body))
            )
            return Held()
        producer, sequence = identity
        trouble = None
        if difference := recipe.difference(properties, body, identity):
            trouble = Incident("corrupted", now_ns, producer, sequence, difference)
        elif (method.exchange, method.routing_key) != (plan.exchange, plan.routing_key):
            way = f"exchange {method.exchange!r}, routing key {method.routing_key!r}"
            trouble = Incident("misrouted", now_ns, producer, sequence, way)
        if trouble is not None:
            self._recorder.report(trouble)
        places = self._recorder.record(
            np.array([producer], np.int64),
            np.array([sequence], np.int64),
            np.array([method.redelivered], np.bool_),
            now_ns,
        )
        return Taken(places, recipe if trouble is None else None)

    def acknowledge(self, places: npt.NDArray[np.int64]) -> None:
        """Note that the acknowledgement of these is being sent."""
        self._recorder.acknowledge(places)

    def _go_on(self, look: Look) -> bool:
        """Tell whether there is, or may be, more to come."""
        plan = self.plan
        if plan.expected is not None and self._recorder.distinct >= plan.expected:
            return False
        now = time.monotonic()
        if self._recorder.deliveries > self._seen or self._subscriber.holds_back:
            self._seen, self._seen_at = self._recorder.deliveries, now
        elif now - max(self._seen_at, self._asked_at) >= plan.idle_s:
            self._asked_at = now
            ready = look.ready()
            if not ready and self._recorder.deliveries == self._seen:
                return False
            if now - self._seen_at >= plan.stall_s:
                self._stuck = (
                    f"Consumer {plan.number} of {plan.queue} received nothing for "
                    f"{plan.stall_s:g} s, although {ready} messages are ready."
                )
                return False
        return True


def _describe(method: Any, properties: Any, body: bytes) -> str:
    """Describe a message of another origin in one line, without anything that it could inject."""
    digest = hashlib.sha256(body).hexdigest()[:16]
    return (
        f"{len(body)} bytes (sha256 {digest}…), message_id {properties.message_id!r}, "
        f"exchange {method.exchange!r}, routing key {method.routing_key!r}"
    )
