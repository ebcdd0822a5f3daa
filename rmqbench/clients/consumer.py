"""Take messages from one queue: over as many connections as it needs, acknowledged when taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pika.channel

from rmqbench.amqp.connection import TICK_S, Connection
from rmqbench.amqp.framing import body_frame_at
from rmqbench.amqp.network import REAL_NETWORK, Network
from rmqbench.amqp.shape import Deliveries, Shape
from rmqbench.clients.lifetime import Churn, Lifetime
from rmqbench.clients.rate import Pace
from rmqbench.clients.recovery import Interruption, Recovery
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, ConnectionLost, RmqbenchError
from rmqbench.message import Recipe
from rmqbench.settling import Action, Choice

__all__ = ["Consumer", "Handler", "Look", "Settler", "Subscription", "Taken"]

_ANSWER_S = 10.0
_CANCEL_S = 30.0
_LASTING_S = 2.0  # a channel that lives this long is progress, even if nothing comes
# Deliveries and acknowledgements gather up to this share of the prefetch: the broker never waits.
_BURSTS = 8
# No message waits longer for others than this share of its age: latencies stay true.
_AGE_SHARE = 8
_LARGE_BYTES = 1 << 15  # a few of these are worth a wake-up: they do not wait for each other

_Form = tuple[Recipe, int]  # what messages are computed by, and where their bodies begin


@dataclass(frozen=True)
class Subscription:
    """What is to be taken, and how.

    ``name`` is the connection's and ``tag`` the consumer's, both shown by the broker. ``rate``
    limits the messages a second: what is over it is acknowledged later. With ``auto_ack`` the
    broker forgets each message as it delivers it. ``stall_s`` is how long it tries to reconnect.
    It looks at the clock every ``tick_s``. With ``churn`` it closes each connection in its time,
    all that it took acknowledged, and goes on over another. ``priority`` is its own among the
    consumers of the queue (None: it has none). After each ``cancels_every`` messages (None: never)
    it cancels and consumes again, by the same tag, and what it holds stays as it is. With
    ``polls_every_s`` it asks for each message (``basic.get``) in place of consuming, and after so
    many seconds again where there was none; it holds no more than ``prefetch`` of them.
    """

    endpoint: Endpoint
    queue: str
    name: str
    tag: str
    prefetch: int = 1000
    rate: float | None = None
    auto_ack: bool = False
    vector: bool = True
    heartbeat_s: int = 30
    stall_s: float = 30.0
    tick_s: float = TICK_S
    churn: Churn | None = None
    priority: int | None = None
    cancels_every: int | None = None
    polls_every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that may be acknowledged.

    ``places`` is for the handler to know it by, shape (1,). With ``recipe`` others of its shape may
    be taken many at once: it is to the last byte what the recipe computes.
    """

    places: npt.NDArray[np.int64]
    recipe: Recipe | None = None


class Handler(Protocol):
    """What is done with the messages. A consumer calls it from its own thread only."""

    def begin(self) -> None:
        """Begin a new channel: what was not acknowledged on the last one comes again."""

    def end(self) -> None:
        """End a channel that was closed cleanly: the broker has taken what was acknowledged."""

    def take(self, method: Any, properties: Any, body: bytes) -> Taken | None:
        """Take one message, of any origin, length and content.

        None: it is held, and not to be acknowledged; it is back in its queue when the channel
        closes.
        """

    def take_many(self, deliveries: Deliveries) -> tuple[int, npt.NDArray[np.int64]]:
        """Take messages of a learned shape, the first ones of them or all.

        Return how many were taken, and the places to know them by (-1 of a phantom).
        """

    def acknowledge(self, places: npt.NDArray[np.int64]) -> None:
        """Record that the acknowledgement of these is being sent."""


class Settler(Protocol):
    """Who decides what is done with messages besides acknowledging them at once."""

    def choose(
        self, places: npt.NDArray[np.int64], redelivered: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[Choice, npt.NDArray[np.bool_]]]:
        """Yield what is to be done with these: of each choice, for which of them; each once."""

    def give_up(self, places: npt.NDArray[np.int64], *, requeue: bool) -> None:
        """Record that these are being rejected, or given back with ``requeue``."""

    def crash(self, place: int) -> None:
        """Count that the connection is broken off because of this one."""


class Consumer:
    """Holds a consumer on a queue; reconnects when it must.

    ``delivered`` counts the messages that its handler has taken.
    """

    def __init__(
        self,
        subscription: Subscription,
        handler: Handler,
        *,
        settler: Settler | None = None,
        on_lost: Callable[[RmqbenchError], None] = lambda _: None,
        on_interruption: Callable[[Interruption], None] = lambda _: None,
        on_leaving: Callable[[], None] = lambda: None,
        sleep: Callable[[float], bool | None] | None = None,
        network: Network = REAL_NETWORK,
    ) -> None:
        """Prepare to take messages.

        With a ``settler`` not every message is acknowledged at once.
        ``on_lost`` is called when a channel has ended unasked, or could not be opened;
        ``on_leaving`` before the consumer is cancelled on a channel, the first time and for good;
        ``on_interruption`` and ``sleep`` are those of :class:`Recovery`.
        """
        self.subscription = subscription
        self._on_lost = on_lost
        self._on_leaving = on_leaving
        self.delivered = 0
        self._subscribed_at = 0  # by the messages delivered
        self._handler = handler
        self._settler = settler
        self._recovery = Recovery(
            subscription.stall_s,
            on_interruption=on_interruption,
            clock=network.clock,
            sleep=sleep,
        )
        self._network = network
        self._monotonic = network.clock.monotonic
        self._pace = Pace(subscription.rate, network.clock.monotonic)
        self._lifetime = Lifetime(subscription.churn, network.clock.monotonic)
        self._goes_on = False  # over another connection, when this one has lived long enough
        self._tags: list[npt.NDArray[np.int64]] = []  # taken and not acknowledged
        self._places: list[npt.NDArray[np.int64]] = []
        self._late: list[tuple[int, int]] = []  # tags and places of what is acknowledged late
        self._due: list[tuple[float, Action, int, int]] = []  # when, what, tags and places
        self._channel: pika.channel.Channel | None = None
        self._held = 0  # messages that are not to be settled at all
        self._learned = False  # whether a shape is taken off the stream
        self._unlearned: _Form | None = None  # of the last one that was as sent, but not taken off
        self._cancelled = False
        self._tag = ""
        self._has_left = False  # the queue, on this channel: it was cancelled, by itself
        self._asks = False  # for each message, in place of consuming
        self._asked = False  # for one, and there is no answer yet
        self._asks_at = 0.0

    @property
    def interruptions(self) -> tuple[Interruption, ...]:
        """What kept it from its work, and when."""
        return tuple(self._recovery.interruptions)

    @property
    def waits(self) -> bool:
        """Whether messages wait for the time at which they are settled."""
        return bool(self._due)

    @property
    def holds_back(self) -> bool:
        """Whether messages wait to be settled only because of the rate, or for their time."""
        return self.waits or (bool(self._tags) and self._pace.allowance() <= 0)

    @property
    def has_room(self) -> bool:
        """Whether the broker may deliver another message, by the prefetch."""
        taken = sum(map(len, self._tags)) + len(self._late) + len(self._due)
        return self._held + taken < self.subscription.prefetch

    def run(self, go_on: Callable[[Look], bool]) -> RmqbenchError | None:
        """Take messages until ``go_on`` is false; return the error with which it was given up.

        ``go_on`` is called every ``tick_s`` at least. In the end the consumer is cancelled,
        what was taken is acknowledged, and the broker has said that it took these.
        """

        def attempt() -> None:
            try:
                self._consume_on_a_new_channel(go_on)
            except RmqbenchError as error:
                self._on_lost(error)
                raise

        error = self._recovery.run(attempt)
        while error is None and self._goes_on:
            error = self._recovery.run(attempt)
        return error

    def _consume_on_a_new_channel(self, go_on: Callable[[Look], bool]) -> None:
        asked = self.subscription
        with Connection(
            asked.endpoint,
            name=asked.name,
            network=self._network,
            vector=asked.vector,
            heartbeat_s=asked.heartbeat_s,
            tick_s=asked.tick_s,
        ) as connection:
            self._recovery.connected()
            self._channel = channel = connection.channel()
            channel.basic_qos(prefetch_count=asked.prefetch)
            channel.add_on_cancel_callback(self._on_cancel)
            self._begin()
            connection.expect_deliveries(channel, self._on_deliveries)
            self._subscribe(connection, channel)
            polls = asked.polls_every_s is not None
            look = Look(connection, channel, connection.channel(), asked.queue, polls=polls)
            began = self._monotonic()
            self._lifetime.begin()
            while (goes_on := go_on(look)) and (self.holds_back or not self._lifetime.is_over):
                before = self.delivered
                self._ask(connection, channel)
                connection.turn()
                self._settle_due()
                if self._has_enough():
                    self._unsubscribe(connection, channel)
                    self._subscribe(connection, channel)
                if self._pace.allowance() > 0 and not self._may_gather(connection):
                    self._acknowledge(channel)
                if self._cancelled:
                    raise ConnectionLost(
                        f"The broker cancelled the consumer of queue {asked.queue!r}.",
                        "The queue was deleted, or the node that led it is gone.",
                    )
                if self.delivered > before:
                    connection.longest_pause_s = self._age_s() / _AGE_SHARE
                if self.delivered > before or self._monotonic() - began >= _LASTING_S:
                    self._recovery.progressed()
            self._unsubscribe(connection, channel, for_good=True)
            self._settle_due(all_of_it=True)
            self._acknowledge_late()
            self._acknowledge(channel)
            # The answer comes after all that was sent: the acknowledgements were taken.
            connection.close_channel(channel, self._cancel_s)
            self._handler.end()
            self._recovery.progressed()
            self._goes_on = goes_on

    @property
    def _cancel_s(self) -> float:
        return min(self.subscription.stall_s, _CANCEL_S)

    def _subscribe(self, connection: Connection, channel: pika.channel.Channel) -> None:
        asked = self.subscription
        if asked.polls_every_s is not None:  # no consumer is counted, whatever it holds
            self._leave()
            self._asks = True
            channel.add_callback(self._on_none, [pika.spec.Basic.GetEmpty], one_shot=False)
            return
        begun: list[object] = []
        self._tag = channel.basic_consume(
            asked.queue,
            self._on_message(connection),
            auto_ack=asked.auto_ack,
            consumer_tag=asked.tag,
            arguments={} if asked.priority is None else {"x-priority": asked.priority},
            callback=begun.append,
        )
        connection.wait_until(lambda: bool(begun), _ANSWER_S, f"queue {asked.queue!r}")
        self._subscribed_at = self.delivered

    def _unsubscribe(
        self, connection: Connection, channel: pika.channel.Channel, *, for_good: bool = False
    ) -> None:
        if self.subscription.polls_every_s is not None:
            self._asks = False
            what = "the answer to basic.get"
            connection.wait_until(lambda: not self._asked, self._cancel_s, what)
            return
        if for_good or not self._has_left:  # from then on it may hold messages, and is not counted
            self._leave()
        stopped: list[object] = []
        connection.cancel(channel, self._tag, stopped.append)
        what = "the consumer to be cancelled"
        connection.wait_until(lambda: bool(stopped), self._cancel_s, what)

    def _leave(self) -> None:
        self._on_leaving()
        self._has_left = True

    def _ask(self, connection: Connection, channel: pika.channel.Channel) -> None:
        """Ask for a message, where it polls, has room for one and has waited for long enough."""
        if not self._asks or self._asked or not self.has_room:
            return
        if self._pace.allowance() <= 0 or self._monotonic() < self._asks_at:
            return
        on_message = self._on_message(connection)

        def on_answer(*message: Any) -> None:
            self._asked = False
            on_message(*message)
            self._ask(connection, channel)

        self._asked = True
        channel.basic_get(self.subscription.queue, on_answer, self.subscription.auto_ack)

    def _on_none(self, _: object) -> None:
        self._asked = False
        assert self.subscription.polls_every_s is not None
        self._asks_at = self._monotonic() + self.subscription.polls_every_s

    def _has_enough(self) -> bool:
        """Whether it has received so many messages that it is to cancel, and consume again."""
        every = self.subscription.cancels_every
        return every is not None and self.delivered - self._subscribed_at >= every

    def _age_s(self) -> float:
        """Return how long ago the message was sent that has come last."""
        return (self._network.clock.time_ns() - self._newest_ns) / 1e9

    def _begin(self) -> None:
        self._tags, self._places, self._late, self._due = [], [], [], []
        self._held, self._cancelled, self._has_left = 0, False, False
        self._learned, self._unlearned = False, None
        self._asks, self._asked, self._asks_at = False, False, 0.0
        self._newest_ns = self._network.clock.time_ns()
        if not self._goes_on:
            self._pace.start()
        self._goes_on = False
        self._handler.begin()

    def _may_gather(self, connection: Connection) -> bool:
        """Whether what was taken is acknowledged later, together with what is there already."""
        most = self.subscription.prefetch // _BURSTS
        return connection.more_is_there and sum(map(len, self._tags)) < most

    def _acknowledge(self, channel: pika.channel.Channel) -> None:
        """Acknowledge what was taken, with one frame where nothing between it is held."""
        tags, self._tags = self._tags, []
        places, self._places = self._places, []
        if not tags:
            return
        for each in places:
            self._handler.acknowledge(each)
            self._pace.spend(len(each))
        if self.subscription.auto_ack:
            return
        if self._held or self._settler is not None:  # no acknowledgement covers several
            for tag in np.concatenate(tags).tolist():
                channel.basic_ack(tag)
        else:
            channel.basic_ack(int(tags[-1][-1]), multiple=True)

    def _on_cancel(self, _: object) -> None:
        self._cancelled = True

    def _on_deliveries(self, deliveries: Deliveries) -> None:
        if (deliveries.tags < 1).any():
            first = int(np.argmax(deliveries.tags < 1))
            if first:
                self._on_deliveries(deliveries.up_to(first))
            _require_tag(int(deliveries.tags[first]))
        self._newest_ns = int(deliveries.sent_ns[-1])
        taken, places = self._handler.take_many(deliveries)
        self._held += len(deliveries.tags) - taken
        if taken:
            self._add(deliveries.tags[:taken], places, deliveries.redelivered[:taken])

    def _on_message(self, connection: Connection) -> Any:
        def on_message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            _require_tag(method.delivery_tag)
            taken = self._handler.take(method, properties, body)
            if taken is None:
                self._held += 1
                return
            if taken.recipe is not None and connection.raw_delivery is not None:
                self._learn(connection, channel, connection.raw_delivery, taken.recipe)
            tags, flags = np.array([method.delivery_tag], np.int64), np.array([method.redelivered])
            self._add(tags, taken.places, flags)

        return on_message

    def _add(
        self,
        tags: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        redelivered: npt.NDArray[np.bool_],
    ) -> None:
        self.delivered += len(tags)
        if self._settler is not None:
            tags, places = self._settle(self._settler, tags, places, redelivered)
        if len(tags):
            self._tags.append(tags)
            self._places.append(places)

    def _settle(
        self,
        settler: Settler,
        tags: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        redelivered: npt.NDArray[np.bool_],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Do what is to be done with messages; return those that are acknowledged at once."""
        at_once = np.zeros(len(tags), np.bool_)
        for choice, those in settler.choose(places, redelivered):
            rows = zip(tags[those].tolist(), places[those].tolist(), strict=True)
            if choice.action is Action.LATE:
                self._late += rows
            elif choice.delay_s:
                due_at = self._monotonic() + choice.delay_s
                self._due += ((due_at, choice.action, *row) for row in rows)
                if choice.action is Action.REQUEUE:  # no other delivery of it is given back, too
                    settler.give_up(places[those], requeue=True)
            elif choice.action is Action.ACK:
                at_once |= those
            else:
                for row in rows:
                    self._do(choice.action, *row)
        most = self.subscription.prefetch * 3 // 4
        if len(self._late) > most:
            self._acknowledge_late(most // 2)
        return tags[at_once], places[at_once]

    def _settle_due(self, *, all_of_it: bool = False) -> None:
        """Do what has waited for its time."""
        if not self._due:
            return
        now = self._monotonic()
        due = [each for each in self._due if all_of_it or each[0] <= now]
        self._due = [each for each in self._due if not (all_of_it or each[0] <= now)]
        for _, action, tag, place in due:
            self._do(action, tag, place)

    def _acknowledge_late(self, keep: int = 0) -> None:
        """Acknowledge what was to wait, the last ones first, but for ``keep`` of them."""
        while len(self._late) > keep:
            self._do(Action.ACK, *self._late.pop())

    def _do(self, action: Action, tag: int, place: int) -> None:
        """Settle one message; it is recorded first."""
        channel, settler = self._channel, self._settler
        assert channel is not None
        assert settler is not None
        places = np.array([place], np.int64)
        if action is Action.ACK:
            self._handler.acknowledge(places)
            channel.basic_ack(tag)
        elif action is Action.CRASH:
            settler.crash(place)
            self._recovery.progressed()  # it has received something: it comes back at once
            raise ConnectionLost("It crashed at a message, as it was told to.")
        else:
            requeue = action is Action.REQUEUE
            settler.give_up(places, requeue=requeue)
            channel.basic_reject(tag, requeue=requeue)

    def _learn(
        self, connection: Connection, channel: pika.channel.Channel, frames: bytes, recipe: Recipe
    ) -> None:
        """Take messages of this one's shape off the stream from now on.

        Once a shape is known, another takes its place only when two of its form came in a row: a
        single odd one (RabbitMQ adds a header when it delivers again) changes nothing.
        """
        form = recipe, body_frame_at(frames)
        if not self._learned or self._unlearned == form:
            shape = Shape.of_delivery(frames, recipe, connection.frame_max)
            if shape is not None:
                connection.learn(channel, shape)
                if shape.mean_bytes < _LARGE_BYTES:
                    bytes_prefetched = self.subscription.prefetch * shape.mean_bytes
                    connection.burst_bytes = bytes_prefetched // _BURSTS
                self._learned = True
        self._unlearned = form


def _require_tag(tag: int) -> None:
    """Raise BrokerError for a delivery tag that no channel can have come to."""
    if not 0 < tag < 1 << 63:
        raise BrokerError(
            f"The broker delivered a message with the delivery tag {tag % 2**64}.",
            "Something between rmqbench and the broker alters AMQP traffic, or the broker is "
            "at fault.",
        )


class Look:
    """What can be seen and done between two turns."""

    def __init__(
        self,
        connection: Connection,
        channel: pika.channel.Channel,
        control: pika.channel.Channel,
        queue: str,
        *,
        polls: bool = False,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._control = control
        self._queue = queue
        self._polls = polls

    def ready(self) -> int | None:
        """Return how many messages are ready, as the queue itself says.

        None where it says that there are none, and no consumer either, not even the one that is
        asking: nobody stands behind that (a quorum queue whose leader is silent answers with
        zeros). Who polls is no consumer, and was told by the queue itself that there is none.
        """
        answers: list[Any] = []
        self._control.queue_declare(self._queue, passive=True, callback=answers.append)
        self._connection.wait_until(
            lambda: bool(answers), _ANSWER_S, f"queue {self._queue!r} to answer"
        )
        method = answers[0].method
        ready = int(method.message_count)
        return ready if ready or method.consumer_count or self._polls else None

    def acknowledge(self, tag: int) -> None:
        """Acknowledge what was held, up to a delivery tag, for a handler that does so itself."""
        self._channel.basic_ack(tag, multiple=True)

    def wake(self) -> None:
        """Call ``go_on`` at once; from any thread, and without effect after the end."""
        self._connection.wake()
