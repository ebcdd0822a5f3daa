"""The sum that must add up: what became of each message that the broker confirmed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmqbench.explaining.facts import Facts
from rmqbench.pieces import pieces
from rmqbench.verdict.findings import FindingName

__all__ = ["QueueSum", "queue_sums"]


@dataclass(frozen=True, slots=True)
class QueueSum:
    """What became of the messages that the broker confirmed, in one queue, each counted once.

    Those are ``delivered`` with which a consumer was through: it has acknowledged them, where that
    is asked of it. ``not_known`` is how many are left: the queue was not proven to be empty, for
    example.
    """

    confirmed: int
    delivered: int
    removed: int
    lost: int
    not_known: int


def queue_sums(facts: Facts) -> dict[str, QueueSum]:
    """Return the sum of each queue of a run, by its name."""
    producers, verdict = facts.record.producers, facts.verdict
    confirmed = sum(each.ledger.confirmed for each in producers)
    sums = {}
    for name, queue in facts.queues.items():
        delivered = start = 0
        for producer in producers:
            for these in pieces(len(producer.ledger.state)):
                places = slice(start + these.start, start + these.stop)
                came = producer.ledger.are_confirmed(these)
                missing = came.copy()
                for consumer in queue.record.consumers:
                    missing &= ~consumer.ledger.settled(places, auto_ack=queue.auto_ack)
                delivered += int(np.count_nonzero(came & ~missing))
            start += len(producer.ledger.state)
        removed, lost = (
            verdict.count(each, name) for each in (FindingName.REMOVED, FindingName.LOST)
        )
        not_known = confirmed - delivered - removed - lost
        sums[name] = QueueSum(confirmed, delivered, removed, lost, not_known)
    return sums
