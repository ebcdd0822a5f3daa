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
    is asked of it. Those are ``dead_lettered`` that have come to each queue which gets the dead
    letters of this one. ``still_there`` is what the queue shows of the rest, in the end.
    ``not_known`` is how many are left: it was not proven to be empty, for example. Of a queue that
    gets nothing but dead letters all is 0.
    """

    confirmed: int
    delivered: int
    dead_lettered: int
    removed: int
    lost: int
    still_there: int
    not_known: int


def queue_sums(facts: Facts) -> dict[str, QueueSum]:
    """Return the sum of each queue of a run, by its name."""
    producers, verdict = facts.record.producers, facts.verdict
    confirmed = sum(each.ledger.confirmed for each in producers)
    sums = {}
    for name, queue in facts.queues.items():
        delivered = dead_lettered = start = 0
        for producer in producers:
            for these in pieces(len(producer.ledger.state)):
                places = slice(start + these.start, start + these.stop)
                came = producer.ledger.are_confirmed(these) & queue.record.settled(places)
                gone = queue.record.dead_lettered(places)
                delivered += int(np.count_nonzero(came & ~gone))
                dead_lettered += int(np.count_nonzero(came & gone))
            start += len(producer.ledger.state)
        removed, lost = (
            verdict.count(each, name) for each in (FindingName.REMOVED, FindingName.LOST)
        )
        due = confirmed if queue.record.gets_all else 0
        rest = due - delivered - dead_lettered - removed - lost
        still_there = min(max(rest, 0), queue.drain.ready + queue.drain.held)
        sums[name] = QueueSum(
            *(due, delivered, dead_lettered, removed, lost, still_there, rest - still_there)
        )
    return sums
