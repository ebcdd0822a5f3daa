"""What a verdict is made of: the arrays of the ledger, and what is known around them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.message import Recipe
from rmqbench.verdict.findings import FindingName

__all__ = [
    "CONFIRMED",
    "FIRST_REDELIVERED",
    "NACKED",
    "RETURNED",
    "SENT",
    "SENT_AGAIN",
    "ConsumerEvidence",
    "Drain",
    "Evidence",
    "Incident",
    "ProducerEvidence",
    "QueueEvidence",
    "Removal",
    "removals_by_arguments",
]


# Bits of ProducerEvidence.state.
SENT, CONFIRMED, NACKED, RETURNED, SENT_AGAIN = 1, 2, 4, 8, 16

# The top bit of ConsumerEvidence.redelivered: the first delivery already had the flag.
FIRST_REDELIVERED = 0x80


@dataclass(frozen=True, slots=True)
class Incident:
    """Something a consumer saw that an array of counts cannot hold.

    ``at_ns`` is in Unix nanoseconds. ``producer`` and ``sequence`` are None for what is not of this
    run. ``channel`` is the number of the consuming channel. Of a message that is reordered,
    ``behind`` is the higher sequence number that was delivered before it. ``detail`` is for a
    person.
    """

    finding: FindingName
    at_ns: int
    producer: int | None = None
    sequence: int | None = None
    detail: str = ""
    channel: int = 0
    behind: int | None = None

    @classmethod
    def from_json(cls, line: bytes) -> Incident:
        """Return the incident of one line; raise ValueError or TypeError where it is none."""
        fields = json.loads(line)
        return cls(**{**fields, "finding": FindingName(fields["finding"])})


@dataclass(frozen=True, eq=False)
class ProducerEvidence:
    """What became of each publish of one producer: arrays of shape (count,).

    ``channel_starts`` are the sequence numbers with which its publishing channels began; None is
    not known, and then its order is not judged. ``wanted`` is how many messages it was to send
    (None: all of them). One that has not ``ended`` did not record why it stopped: what it did not
    send, and what it did not hear of, is missing evidence and no finding against the broker. Of one
    that is not ``readable`` nothing is known at all.
    """

    state: npt.NDArray[np.uint8]
    sent_ns: npt.NDArray[np.int64]
    channel_starts: tuple[int, ...] | None = (0,)
    wanted: int | None = None
    ended: bool = True
    readable: bool = True


@dataclass(frozen=True, eq=False)
class ConsumerEvidence:
    """What one consumer received from one queue: arrays over all producers' messages in a row.

    ``closed_channels`` are the numbers of its channels that were closed cleanly, so that every
    acknowledgement sent on them was taken by the broker.
    """

    delivered: npt.NDArray[np.uint8]
    redelivered: npt.NDArray[np.uint8]
    acked: npt.NDArray[np.uint8]
    first_ns: npt.NDArray[np.int64]
    incidents: Sequence[Incident] = ()
    closed_channels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Drain:
    """Whether a queue is known to hold nothing more; ``detail`` says why it is not known.

    ``ready`` counts what it still holds. ``there``: whether the queue still exists; one that does
    not holds nothing.
    """

    proven: bool
    ready: int = 0
    detail: str = ""
    there: bool = True


@dataclass(frozen=True, slots=True)
class Removal:
    """A cause, known to the run itself, for messages to vanish from a queue.

    ``at_most`` is how many it can have been (a purge says how many it removed), None: any number.
    """

    cause: str
    at_most: int | None = None


@dataclass(frozen=True, eq=False)
class QueueEvidence:
    """What one queue delivered, to whom, and what the run itself did to it.

    ``routed``: whether the bindings lead the run's messages to it. Where it is not ``complete``,
    because what a consumer received cannot be read, nothing is missed from it.
    """

    name: str
    consumers: Sequence[ConsumerEvidence]
    drain: Drain
    routed: bool = True
    only_consumer: bool = True
    removals: tuple[Removal, ...] = ()
    complete: bool = True


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything a verdict is made of.

    ``missing`` says, a sentence each, which evidence is not there. ``troubles`` are sentences on
    what went wrong: they decide nothing, and explain a verdict that is no pass.
    """

    recipe: Recipe
    producers: Sequence[ProducerEvidence]
    queues: Sequence[QueueEvidence]
    missing: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


def removals_by_arguments(arguments: Mapping[str, Any]) -> tuple[Removal, ...]:
    """Return the causes that a queue's own arguments are for it to drop messages.

    By https://www.rabbitmq.com/docs/maxlength, /docs/ttl and
    /docs/quorum-queues#poison-message-handling.
    """
    causes = [
        f"{name}={arguments[name]}"
        for name in ("x-message-ttl", "x-expires", "x-delivery-limit")
        if name in arguments
    ]
    if not str(arguments.get("x-overflow", "drop-head")).startswith("reject-publish"):
        causes += [
            f"{name}={arguments[name]} with overflow drop-head"
            for name in ("x-max-length", "x-max-length-bytes")
            if name in arguments
        ]
    return tuple(Removal(cause) for cause in causes)
