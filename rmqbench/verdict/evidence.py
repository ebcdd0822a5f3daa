"""What a verdict is made of: the arrays of the ledger, and what is known around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rmqbench.message import Recipe
from rmqbench.verdict.findings import FindingName

__all__ = [
    "ACKED",
    "AGAIN",
    "CONFIRMED",
    "COPY",
    "DELIVERED",
    "LET_GO",
    "NACKED",
    "REDELIVERED",
    "REJECTED",
    "REPORTED",
    "REQUEUED",
    "RETURNED",
    "SENT",
    "ConsumerChannel",
    "ConsumerEvidence",
    "Drain",
    "Evidence",
    "Incident",
    "ProducerChannel",
    "ProducerEvidence",
    "QueueEvidence",
    "Removal",
    "Restart",
    "Unserved",
    "channels_at",
]

# Bits of ProducerEvidence.state.
SENT, CONFIRMED, NACKED, RETURNED = 1, 2, 4, 8

# Bits of ConsumerEvidence.state: the message was delivered; its first delivery had the flag
# ``redelivered``; its consumer has reported it as corrupted, with a stamp if its head was whole; an
# acknowledgement was sent; it was rejected for good; it was given back, once, on the channel of its
# first delivery. The column ``flags`` of AGAIN has those that are about its delivery.
DELIVERED, REDELIVERED, REPORTED, ACKED, REJECTED, REQUEUED = 1, 2, 4, 8, 16, 32

COPY: Final = np.dtype([("sequence", "<i8"), ("sent_ns", "<i8"), ("channel", "<i4")])
"""A publish of a message that had been published before, on a later channel of its producer."""

AGAIN: Final = np.dtype(
    [("place", "<i8"), ("at_ns", "<i8"), ("stamp", "<u4"), ("channel", "<i4"), ("flags", "u1")]
)
"""A delivery of a message that its consumer had received before."""

LET_GO: Final = np.dtype(
    [
        ("start", "<i8"),
        ("rows", "<i8"),
        ("earliest_ns", "<i8"),
        ("last_ns", "<i8"),
        ("flagged", "<i8"),
    ]
)
"""A segment of a producer's messages that was judged while the run was under way, and let go: each
was confirmed, and delivered by each queue once, in order and intact. ``start`` is its first place
in a worker's arrays, ``rows`` how many of its messages the worker has recorded (0: it was not let
go; negative: nobody has freed it), between which times: a producer sent them, a consumer received
them, ``flagged`` of them with the flag. What the arrays still hold up to ``last_ns`` is of that;
what is later came again.
"""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something a worker saw that its arrays cannot hold.

    ``at_ns`` is in Unix nanoseconds. ``producer`` and ``sequence`` are None for what is not of this
    run. ``channel`` is the number of the worker's channel. ``detail`` is for a person.
    """

    finding: FindingName
    at_ns: int
    producer: int | None = None
    sequence: int | None = None
    detail: str = ""
    channel: int = 0

    @classmethod
    def from_json(cls, line: bytes) -> Incident:
        """Return the incident of one line; raise ValueError or TypeError where it is none."""
        fields = json.loads(line)
        return cls(**{**fields, "finding": FindingName(fields["finding"])})


@dataclass(frozen=True, slots=True)
class ProducerChannel:
    """A publishing channel: the number of the first message that was new on it."""

    number: int
    first: int


@dataclass(frozen=True, slots=True)
class ConsumerChannel:
    """A consuming channel: when it began, and when it was closed cleanly (None: it was not).

    One that was closed cleanly had lost nothing: every acknowledgement sent on it was taken, but by
    a quorum queue. At ``left_ns`` its consumer was about to be cancelled.
    """

    number: int
    opened_ns: int
    closed_ns: int | None = None
    left_ns: int | None = None


@dataclass(frozen=True, eq=False)
class ProducerEvidence:
    """What became of each publish of one producer: arrays of shape (count,).

    ``state`` holds bits, ``sent_ns`` when it was first sent, ``copies`` what was sent again (dtype
    :data:`COPY`, in the order of sending). Where no ``channels`` are known its order is not judged.
    ``wanted`` is how many messages it was to send (None: all of them). ``let_go`` is dtype LET_GO.
    One that has not ``ended``
    did not record why it stopped: what it did not send, and what it did not hear of, is missing
    evidence and no finding against the broker. Of one that is not ``readable`` nothing is known.
    """

    state: npt.NDArray[np.uint8]
    sent_ns: npt.NDArray[np.int64]
    copies: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, COPY))
    channels: tuple[ProducerChannel, ...] = (ProducerChannel(1, 0),)
    incidents: Sequence[Incident] = ()
    wanted: int | None = None
    let_go: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, LET_GO))
    ended: bool = True
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Unserved:
    """A consumer gave up: it had received nothing between two moments, and messages were ready."""

    ready: int
    since_ns: int
    until_ns: int


@dataclass(frozen=True, eq=False)
class ConsumerEvidence:
    """What one consumer received from one queue: arrays over all producers' messages in a row.

    Of the first delivery of each message: ``state`` holds bits, ``stamp`` is the checksum in its
    head (:meth:`rmqbench.message.Recipe.stamps`), ``first_ns`` says when, and by its order in which
    order. ``again`` holds all later ones (dtype :data:`AGAIN`), in their order. ``let_go`` is dtype
    :data:`LET_GO`; ``holds`` says of each of these segments whether the arrays may hold anything.
    ``unserved`` says when it gave up for that.
    """

    state: npt.NDArray[np.uint8]
    stamp: npt.NDArray[np.uint32]
    first_ns: npt.NDArray[np.int64]
    again: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, AGAIN))
    incidents: Sequence[Incident] = ()
    channels: tuple[ConsumerChannel, ...] = ()
    let_go: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, LET_GO))
    unserved: tuple[Unserved, ...] = ()
    holds: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))


@dataclass(frozen=True, slots=True)
class Drain:
    """Whether a queue is known to hold nothing more; ``detail`` says why it is not known.

    ``ready`` counts what it still holds. ``there``: whether the queue still exists; one that does
    not holds nothing. ``looks`` is how many messages whoever asked it got, or may have
    got, and gave back: each counts against a delivery limit. ``held`` is how many dead letters it
    kept, and did not pass on, for as long as it was waited for. ``others`` are consumers that were
    there when ours were gone.
    """

    proven: bool
    ready: int = 0
    detail: str = ""
    there: bool = True
    looks: int = 0
    held: int = 0
    others: int = 0


@dataclass(frozen=True, slots=True)
class Removal:
    """A cause, known to the run itself, for messages to vanish from a queue.

    ``at_most`` is how many it can have been (a purge says how many it removed), None: any number.
    ``sent_before_ns``: it can only have been those that were sent before (None: any).
    """

    cause: str
    at_most: int | None = None
    sent_before_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """The broker's node restarted, or may have, between two moments.

    Acknowledgements that it had taken before may not have reached its disk.
    """

    after_ns: int
    before_ns: int


@dataclass(frozen=True, eq=False)
class QueueEvidence:
    """What one queue delivered, to whom, and what the run itself did to it.

    Where it is not ``complete``, because what a consumer received cannot be read, nothing is missed
    from it. With ``auto_ack`` a delivery needs no acknowledgement. ``close_takes_acks``: whether a
    channel that was closed cleanly has had its acknowledgements taken. A quorum queue takes them by
    way of its leader, and what a channel still has to send it (rabbit_fifo_client.erl keeps it back
    when too much is under way) is lost when the channel is closed.

    It ``gets_all`` that is published, or nothing but others' dead letters. ``dead_letters`` is what
    queues received of its own: a message that it has given up must have come to each of them. With
    ``keeps_dead_letters`` it publishes each until that is confirmed, so that it may come twice.
    """

    name: str
    consumers: Sequence[ConsumerEvidence]
    drain: Drain
    only_consumer: bool = True
    auto_ack: bool = False
    close_takes_acks: bool = True
    removals: tuple[Removal, ...] = ()
    complete: bool = True
    gets_all: bool = True
    dead_letters: tuple[QueueEvidence, ...] = ()
    keeps_dead_letters: bool = False

    @property
    def drained(self) -> bool:
        """Whether all that it delivered is known, and that there is no more of it."""
        return self.drain.proven and self.complete

    @property
    def effective_removals(self) -> tuple[Removal, ...]:
        """The causes that can have taken anything."""
        return tuple(each for each in self.removals if each.at_most != 0)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything a verdict is made of.

    ``missing`` says, a sentence each, which evidence is not there. ``troubles`` are sentences on
    what went wrong: they decide nothing, and explain a verdict that is no pass.
    """

    recipe: Recipe
    producers: Sequence[ProducerEvidence]
    queues: Sequence[QueueEvidence]
    restarts: tuple[Restart, ...] = ()
    missing: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


def channels_at(consumer: ConsumerEvidence, at_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the numbers of the channels that a consumer had at these moments, 0 for none."""
    opened = sorted((each.opened_ns, each.number) for each in consumer.channels)
    opened_ns = np.array([each for each, _ in opened], np.int64)
    numbers = np.array([0, *(number for _, number in opened)], np.int64)
    return numbers[np.searchsorted(opened_ns, at_ns, side="right")]
