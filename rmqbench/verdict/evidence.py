"""What a verdict is made of: the arrays of the ledger, and what is known around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmqbench.message import Recipe
from rmqbench.verdict.ledger import Incident

__all__ = [
    "ConsumerEvidence",
    "Drain",
    "Evidence",
    "ProducerEvidence",
    "QueueEvidence",
    "Removal",
]


@dataclass(frozen=True, eq=False)
class ProducerEvidence:
    """What became of each publish of one producer: arrays of shape (count,).

    ``channel_starts`` are the sequence numbers with which its publishing channels began; None is
    not known, and then its order is not judged.
    """

    state: npt.NDArray[np.uint8]
    sent_ns: npt.NDArray[np.int64]
    channel_starts: tuple[int, ...] | None = (0,)


@dataclass(frozen=True, eq=False)
class ConsumerEvidence:
    """What one consumer received from one queue: arrays over all producers' messages in a row.

    ``closed_channels`` are the numbers of its channels that ended in order, so that every
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

    ``there``: whether the queue still exists. One that does not holds nothing.
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

    ``routed``: whether the bindings lead the run's messages to it.
    """

    name: str
    consumers: Sequence[ConsumerEvidence]
    drain: Drain
    routed: bool = True
    only_consumer: bool = True
    removals: tuple[Removal, ...] = ()


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
