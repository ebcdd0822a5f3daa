"""Parts of the evidence in which nothing is left to be found, while a run is still under way.

Each message of such a part was confirmed, and every queue has delivered it once, to a consumer that
has acknowledged it, intact and in order. Whatever may still come of it comes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rmqbench.pieces import is_whole, piece_of
from rmqbench.verdict.deliveries import QueueDeliveries, Sends
from rmqbench.verdict.evidence import (
    ACKED,
    CONFIRMED,
    DELIVERED,
    REDELIVERED,
    SENT,
    ConsumerEvidence,
    Evidence,
    QueueEvidence,
    channels_at,
)
from rmqbench.verdict.order import late_deliveries
from rmqbench.verdict.parts import ConsumerParts, Part, Parts

__all__ = ["CleanPart", "Recorded", "clean_parts"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a worker has recorded of a part: of how many messages, and between which times.

    ``flagged`` of them came with the flag ``redelivered``, as a queue that recovers delivers them.
    """

    rows: int
    earliest_ns: int
    last_ns: int
    flagged: int = 0


@dataclass(frozen=True, slots=True)
class CleanPart:
    """A clean part: what its producer has recorded of it, and each consumer of each queue."""

    part: Part
    sent: Recorded
    received: tuple[tuple[Recorded | None, ...], ...]


def clean_parts(evidence: Evidence) -> Iterator[CleanPart]:
    """Yield the parts that are clean, whole and not let go yet, in the order of their messages."""
    parts = Parts(evidence)
    candidates = [
        part for part in parts if part.let_go is None and is_whole(len(part)) and _is_settled(part)
    ]
    if not candidates:
        return
    queues = [
        (queue, ConsumerParts(queue.consumers, parts.count), _spoiled(evidence, queue))
        for queue in evidence.queues
    ]
    for part in candidates:
        sends = Sends(evidence.recipe, part)
        received = []
        for queue, consumers, spoiled in queues:
            here = consumers.of(part)
            recorded = _recorded(sends, queue, here)
            if recorded is None or (part.number, piece_of(part.first)) in spoiled:
                break
            received.append(recorded)
        else:
            sent_ns = part.producer.sent_ns
            sent = Recorded(len(part), int(sent_ns.min()), int(sent_ns.max()))
            yield CleanPart(part, sent, tuple(received))


def _is_settled(part: Part) -> bool:
    """Whether all of it was confirmed at the first attempt, and published on one channel."""
    producer = part.producer
    if producer.state[0] != SENT | CONFIRMED:  # as of all that is not sent yet: no more is read
        return False
    begun = [each.first for each in producer.channels]
    return (
        producer.readable
        and not len(producer.copies)
        and not any(part.first < each < part.first + len(part) for each in begun)
        and bool((producer.state == SENT | CONFIRMED).all())
    )


def _recorded(
    sends: Sends, queue: QueueEvidence, consumers: list[ConsumerEvidence]
) -> tuple[Recorded | None, ...] | None:
    """Return what each consumer has of a part; None where not all of it was delivered just once."""
    if not queue.complete:
        return None
    deliveries = QueueDeliveries(sends, consumers)
    if not deliveries.delivered.all() or deliveries.any_repeated:
        return None
    if any(True for _ in deliveries.altered_send_times()):
        return None
    found: list[Recorded | None] = []
    for consumer in consumers:
        there = consumer.state != 0
        flagged = consumer.state[there] & REDELIVERED != 0
        if not (consumer.state[there] | REDELIVERED == DELIVERED | REDELIVERED | ACKED).all():
            return None
        times_ns = consumer.first_ns[there]
        if not len(times_ns):
            found.append(None)
            continue
        earliest_ns, last_ns = int(times_ns.min()), int(times_ns.max())
        began_on, ended_on = channels_at(consumer, np.array([earliest_ns, last_ns])).tolist()
        if began_on != ended_on:
            return None
        many = int(np.count_nonzero(flagged))
        found.append(Recorded(len(times_ns), earliest_ns, last_ns, many))
    return tuple(found)


def _spoiled(evidence: Evidence, queue: QueueEvidence) -> set[tuple[int, int]]:
    """Return the parts, by producer and place, of which something else is known."""
    late = late_deliveries(evidence, queue)
    spoiled = set(zip(late.producer.tolist(), piece_of(late.sequence).tolist(), strict=True))
    for consumer in queue.consumers:
        for each in consumer.incidents:
            if each.producer is not None and each.sequence is not None:
                spoiled.add((each.producer, piece_of(each.sequence)))
    return spoiled
