"""What queues and channels share: a copy of a message in a queue, a consumer, a pending confirm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rmqbench.simulation.content import Content

if TYPE_CHECKING:
    from rmqbench.simulation.queues import Queue

__all__ = ["Consumer", "Entry", "Held", "PendingConfirm", "Receiver", "Settles"]


class Entry:
    """One copy of a message in one queue.

    ``place`` orders the copies of a queue by when they came in. ``acquired`` counts how often it
    was given back, ``failed`` how often this counts against a delivery limit. ``deaths`` has the
    tables of x-death, the newest first. ``holder`` is whoever got it last: a consumer, or what
    stands for one basic.get.
    """

    __slots__ = (
        "acquired",
        "content",
        "deaths",
        "exchange",
        "expiration",
        "expires_at",
        "failed",
        "holder",
        "message",
        "on_disk",
        "persistent",
        "place",
        "redelivered",
        "routing_key",
    )

    def __init__(
        self,
        message: int,
        content: Content,
        exchange: str,
        routing_key: str,
        persistent: bool,
        *,
        expiration: str | None = None,
        deaths: tuple[dict[str, Any], ...] = (),
    ) -> None:
        self.message = message
        self.content = content
        self.exchange = exchange
        self.routing_key = routing_key
        self.persistent = persistent
        self.expiration = expiration
        self.deaths = deaths
        self.holder: object = None
        self.place = 0
        self.expires_at: float | None = None
        self.redelivered = False
        self.on_disk = True
        self.acquired = 0
        self.failed = 0

    def copy(self) -> Entry:
        """Return a second copy, as if it had never been delivered."""
        return Entry(
            self.message,
            self.content,
            self.exchange,
            self.routing_key,
            self.persistent,
            expiration=self.expiration,
            deaths=self.deaths,
        )


class Held(NamedTuple):
    """A delivery that is not acknowledged yet; no consumer where basic.get asked for it."""

    queue: Queue
    entry: Entry
    consumer: Consumer | None
    tag: int


class Settles(Protocol):
    """A channel, as it waits for what becomes of a publish."""

    def settle(self, tag: int, *, nack: bool) -> None:
        """Record that a publish is settled."""


class PendingConfirm:
    """A publish whose confirm waits until every queue that it was routed to has taken it."""

    __slots__ = ("channel", "refused", "tag", "waiting")

    def __init__(self, channel: Settles, tag: int, waiting: int) -> None:
        self.channel = channel
        self.tag = tag
        self.waiting = waiting
        self.refused = False

    def taken(self) -> None:
        """Record that one of the queues has it, or does not exist any more."""
        self.waiting -= 1
        if not self.waiting:
            self.channel.settle(self.tag, nack=self.refused)

    def refuse(self) -> None:
        """Record that one of the queues has refused it."""
        self.refused = True
        self.taken()


class Receiver(Protocol):
    """A channel, as a queue delivers to it."""

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Send a message to a consumer."""

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """Record that its queue is gone."""


class Consumer:
    """A consumer of a queue; ``prefetch`` 0 is without a limit."""

    __slots__ = (
        "channel",
        "encoded_tag",
        "exclusive",
        "in_flight",
        "no_ack",
        "number",
        "passed_over",
        "prefetch",
        "priority",
        "queue",
        "tag",
    )

    def __init__(
        self,
        channel: Receiver,
        queue: Queue,
        tag: str,
        *,
        no_ack: bool,
        prefetch: int,
        exclusive: bool,
        priority: int,
    ) -> None:
        self.channel = channel
        self.queue = queue
        self.tag = tag
        self.encoded_tag = tag.encode()
        self.no_ack = no_ack
        self.prefetch = prefetch
        self.exclusive = exclusive
        self.priority = priority
        self.in_flight = 0
        self.number = 0  # of all consumers that the queue has had
        self.passed_over = False  # for want of credit

    @property
    def has_credit(self) -> bool:
        """Whether it may get a further message now."""
        return self.no_ack or not self.prefetch or self.in_flight < self.prefetch
