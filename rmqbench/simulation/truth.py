"""What has truly happened in a simulated RabbitMQ, in the order in which it happened.

Every record begins with ``at``, the virtual time in seconds. ``message`` numbers the publishes from
1 on, those of the operator and those that a misdeed made included; every copy of a publish has its
number. ``session`` numbers the connections from 1 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from rmqbench.simulation.behaviour import Misdeed
from rmqbench.simulation.content import Content

__all__ = [
    "Acknowledged",
    "ChannelClosed",
    "ChannelOpened",
    "Confirmed",
    "Connected",
    "DeadLettered",
    "Declared",
    "Deleted",
    "Delivered",
    "Disconnected",
    "Event",
    "FoundEmpty",
    "Misdone",
    "Nacked",
    "Published",
    "Recovered",
    "Refused",
    "Removed",
    "Requeued",
    "Resumed",
    "Returned",
    "Routed",
    "Stalled",
    "Started",
    "Stopped",
    "Stored",
    "Truth",
]


class Connected(NamedTuple):
    """A client has opened its connection (connection.open-ok is being sent)."""

    at: float
    session: int
    name: str


class Disconnected(NamedTuple):
    """A connection has ended, whoever ended it."""

    at: float
    session: int
    cause: str


class ChannelOpened(NamedTuple):
    """A channel is open."""

    at: float
    session: int
    channel: int


class ChannelClosed(NamedTuple):
    """A channel has ended. ``code`` is the reply code of the exception, 0 where there was none."""

    at: float
    session: int
    channel: int
    code: int
    text: str


class Published(NamedTuple):
    """A publish was read. ``tag`` is its number in confirm mode, 0 without confirms.

    ``session`` and ``channel`` are 0 where the operator or a misdeed published.
    """

    at: float
    message: int
    session: int
    channel: int
    tag: int
    exchange: str
    routing_key: str
    content: Content


class Routed(NamedTuple):
    """A message was routed to a queue."""

    at: float
    message: int
    queue: str


class Stored(NamedTuple):
    """A queue has taken a copy of a message in."""

    at: float
    message: int
    queue: str


class Refused(NamedTuple):
    """A queue has refused a message (overflow reject-publish)."""

    at: float
    message: int
    queue: str


class Confirmed(NamedTuple):
    """A basic.ack is being sent to a publisher; ``messages`` are those that it covers."""

    at: float
    session: int
    channel: int
    tag: int
    multiple: bool
    messages: tuple[int, ...]


class Nacked(NamedTuple):
    """A basic.nack is being sent to a publisher; ``messages`` are those that it covers."""

    at: float
    session: int
    channel: int
    tag: int
    multiple: bool
    messages: tuple[int, ...]


class Returned(NamedTuple):
    """A basic.return is being sent: mandatory, and routed to no queue."""

    at: float
    message: int
    session: int
    channel: int


class Delivered(NamedTuple):
    """A message is being sent to a client.

    ``consumer_tag`` is None for an answer to basic.get. ``exchange``, ``routing_key`` and
    ``content`` are as sent, altered or not.
    """

    at: float
    message: int
    queue: str
    consumer_tag: str | None
    session: int
    channel: int
    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    content: Content


class Acknowledged(NamedTuple):
    """A queue has forgotten a message because of an acknowledgement, automatic ones included."""

    at: float
    message: int
    queue: str
    session: int
    channel: int
    tag: int


class Requeued(NamedTuple):
    """A message is ready again. ``cause``: nack, reject, recover, or closed."""

    at: float
    message: int
    queue: str
    cause: str


class Removed(NamedTuple):
    """A queue has removed a copy. ``cause`` is the reason of x-death, or what removed it.

    The causes: expired, maxlen, delivery_limit, rejected, purge, delete, restart.
    """

    at: float
    message: int
    queue: str
    cause: str


class DeadLettered(NamedTuple):
    """A removed message was published to the dead-letter exchange of its queue."""

    at: float
    message: int
    queue: str
    exchange: str


class Declared(NamedTuple):
    """A queue was created."""

    at: float
    queue: str
    type: str
    durable: bool


class Deleted(NamedTuple):
    """A queue is gone. ``cause``: delete, expires, auto-delete, exclusive, or restart."""

    at: float
    queue: str
    cause: str


class FoundEmpty(NamedTuple):
    """A ``basic.get`` was told that a queue is empty; ``held`` counts what it truly holds.

    That is more than nothing where it recovers, or somebody has messages unacknowledged.
    """

    at: float
    queue: str
    held: int


class Stopped(NamedTuple):
    """The node went down; ``clean`` where it was shut down in order."""

    at: float
    clean: bool


class Started(NamedTuple):
    """The node is up again."""

    at: float


class Recovered(NamedTuple):
    """A queue has found its messages again; they are held back for ``held_s`` seconds."""

    at: float
    queue: str
    ready: int
    held_s: float


class Stalled(NamedTuple):
    """The leader of a queue stands still."""

    at: float
    queue: str
    seconds: float


class Resumed(NamedTuple):
    """The leader of a queue goes on."""

    at: float
    queue: str


class Misdone(NamedTuple):
    """A misdeed was done. What does not apply is empty or 0; ``detail`` says what was done."""

    at: float
    misdeed: Misdeed
    message: int
    queue: str
    session: int
    channel: int
    tag: int
    detail: str


Event = (
    Acknowledged
    | ChannelClosed
    | ChannelOpened
    | Confirmed
    | Connected
    | DeadLettered
    | Declared
    | Deleted
    | Delivered
    | Disconnected
    | FoundEmpty
    | Misdone
    | Nacked
    | Published
    | Recovered
    | Refused
    | Removed
    | Requeued
    | Resumed
    | Returned
    | Routed
    | Stalled
    | Started
    | Stopped
    | Stored
)

_Kind = TypeVar("_Kind")


class Truth:
    """An append-only log of all that has happened."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[Event] = []

    def of(self, kind: type[_Kind]) -> Iterator[_Kind]:
        """Yield the records of one kind, in order."""
        return (event for event in self.events if isinstance(event, kind))

    @property
    def misdeeds(self) -> list[Misdone]:
        """Return every misdeed that was done, in order."""
        return list(self.of(Misdone))
