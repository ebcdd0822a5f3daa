"""Drain one queue in rounds of consumers, and prove that it is empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rmqbench.amqp.network import REAL_NETWORK, Network
from rmqbench.clients.recording_consumer import ConsumerPlan
from rmqbench.faults.disturbance import Disturbance
from rmqbench.run_directory.journal import (
    ChannelClosed,
    ChannelOpened,
    ConsumerLeaving,
    Interrupted,
    WorkEnded,
)
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.reading import entries_of
from rmqbench.runner.emptiness import Prover
from rmqbench.verdict.evidence import Drain
from rmqbench.verdict.findings import FindingName

__all__ = ["QueueDrain"]

_PATIENCE_S = 2.0  # how long it may take the broker to notice that our consumers have gone
_MOST_ROUNDS = 30


class QueueDrain:
    """One queue on its way to being empty.

    A round is :meth:`next_round`, its consumers at work, and :meth:`end_round`. When all have ended
    and the queue still holds messages (a consumer died, and what it had not acknowledged came
    back), the next ones go on. A round that brings nothing new is the last, unless its consumers
    found nothing and something has come back since, or the queue answers although it served nobody
    in it and did not before, or it has not had its time yet.
    """

    def __init__(self, plan: ConsumerPlan, consumers: int, network: Network = REAL_NETWORK) -> None:
        """Take the plan by which all consumers work; ``plan.directory`` is the queue's."""
        self.plan = plan
        self._monotonic = network.clock.monotonic
        self.consumers = consumers
        self.distinct = 0  # messages that any of the consumers has received
        self.done = False
        self._ledgers: list[DeliveryLedger] = []
        self._round: list[DeliveryLedger] = []  # of the last round
        self._rounds = 0
        self._lingers = False
        self._broke_off = False
        self._was_unserved = False  # in the last round, although it answered behind it
        self._before = 0
        self._came_on_at = self._monotonic()
        subscription = plan.subscription
        self._prover = Prover(
            subscription.endpoint, plan.queue, network, heartbeat_s=subscription.heartbeat_s
        )

    def next_round(self, *, lingers: bool = False) -> list[ConsumerPlan]:
        """Return the plans of the next consumers, with their ledgers made.

        With ``lingers`` they do not take an empty queue for the end before they are told to.
        """
        total = sum(self.plan.counts)
        alone = self.consumers == 1 and not self._ledgers
        first = len(self._ledgers)
        plans = [
            self.plan.numbered(
                number,
                self.plan.directory / f"consumer-{number}",
                expected=total if alone and not lingers else None,
                lingers=lingers,
            )
            for number in range(first, first + self.consumers)
        ]
        for plan in plans:
            DeliveryLedger.create(plan.directory, total)
        self._round = [DeliveryLedger.read(plan.directory) for plan in plans]
        self._ledgers += self._round
        self._rounds += 1
        self._lingers = lingers
        self._before = self.distinct
        if self._rounds == 1:
            self._came_on_at = self._monotonic()
        return plans

    def progress(self) -> int:
        """Count what the consumers have received; return a number that grows with each delivery."""
        distinct = _count_distinct(self._ledgers)
        if distinct > self.distinct:
            self.distinct, self._came_on_at = distinct, self._monotonic()
        return sum(int(np.count_nonzero(ledger.state)) for ledger in self._ledgers)

    def count_missing(self, published: Sequence[PublishLedger]) -> int:
        """Return how many messages were confirmed and not received by any of the consumers."""
        missing = np.concatenate([each.confirmed for each in published])
        for ledger in self._ledgers:
            missing &= ledger.state == 0
        return int(np.count_nonzero(missing))

    def interrupted(self) -> bool:
        """Whether a consumer, of any round, was kept from its work or did not end well."""
        return any(map(_was_interrupted, self._ledgers))

    def end_round(self, disturbance: Disturbance) -> Drain:
        """Ask the queue, now that the consumers of a round have ended, whether it is empty.

        ``disturbance`` is what the run has been through: the queues of a shaken one get more time.
        :attr:`done` then says whether this was the last round.
        """
        now = self._monotonic()
        if self._lingers:  # its consumers may have ended long ago: its time begins now
            self._came_on_at = now
        stall_s = self.plan.subscription.stall_s
        patience_until = self._came_on_at + (stall_s if disturbance.shaken else 0.0)
        if any(_left_open(each, ChannelOpened) for each in self._round):
            self._broke_off = True
            self._prover.expect_back(counted=True)
        if any(_left_open(each, ConsumerLeaving) for each in self._round):
            # A classic queue counts a consumer as long as it is not cancelled, and no longer,
            # whatever its channel still holds.
            self._prover.expect_back()
        others_s = self._prover.half_open_s if disturbance.shaken else _PATIENCE_S
        drain = self._prover.prove(
            certain_at=disturbance.certain_at(now),
            until=max(patience_until, now + _PATIENCE_S),
            others_until=max(patience_until, now + others_s),
        )
        unserved = drain.proven and drain.there and not any(map(_ended_in_order, self._round))
        if unserved:
            why = "no consumer could consume it and end cleanly"
            drain = replace(drain, proven=False, detail=why)
        if drain.ready and self._broke_off:
            # What is half-open may stand before our consumers, as a single active one does.
            patience_until = max(patience_until, self._came_on_at + self._prover.half_open_s)
        # What the proof has waited for is not counted: no consumer had a chance meanwhile.
        over = self._is_over(
            drain.ready,
            has_time=now < patience_until,
            answers_again=unserved and not self._was_unserved,
        )
        self._was_unserved = unserved
        self.done = drain.proven or over or self._rounds == _MOST_ROUNDS
        return drain

    def _is_over(self, ready: int, *, has_time: bool, answers_again: bool) -> bool:
        """Whether another round would bring no more than the last one did."""
        nothing_new = self.distinct == self._before
        if any(map(_met_foreign, self._round)):
            return nothing_new or all(map(_ended_in_order, self._round))
        found_nothing = not _count_distinct(self._round) and any(map(_ended_well, self._round))
        came_back = ready > 0 and found_nothing
        return nothing_new and not (came_back or answers_again or has_time)


def _met_foreign(consumer: DeliveryLedger) -> bool:
    """Whether a consumer was given a message that is not of this run.

    Each look at it is a delivery that is given back, and a quorum queue drops what was given back
    too often. Consumers that were served until the end, or in vain, have seen all that is ours:
    another round would look for it at the cost of somebody else's.
    """
    try:
        return any(each.finding is FindingName.FOREIGN for each in consumer.incidents())
    except (OSError, ValueError, TypeError, KeyError):  # which the judge finds, too
        return True


def _ended_in_order(consumer: DeliveryLedger) -> bool:
    """Whether a consumer was served until it was cancelled: such a queue is alive."""
    return any(isinstance(each, ChannelClosed) for each in entries_of(consumer.directory))


def _ended_well(consumer: DeliveryLedger) -> bool:
    """Whether a consumer ended because there was nothing more for it."""
    ends = [each for each in entries_of(consumer.directory) if isinstance(each, WorkEnded)]
    return bool(ends) and ends[0].error is None


def _left_open(
    consumer: DeliveryLedger, begins: type[ChannelOpened] | type[ConsumerLeaving]
) -> bool:
    """Whether something began on a channel of a consumer that did not end in order."""
    entries = entries_of(consumer.directory)
    closed = {each.number for each in entries if isinstance(each, ChannelClosed)}
    return any(isinstance(each, begins) and each.number not in closed for each in entries)


def _was_interrupted(consumer: DeliveryLedger) -> bool:
    interrupted = any(isinstance(each, Interrupted) for each in entries_of(consumer.directory))
    return interrupted or not _ended_well(consumer)


def _count_distinct(ledgers: Sequence[DeliveryLedger]) -> int:
    """Return how many messages any of the consumers has received."""
    if len(ledgers) == 1:
        return int(np.count_nonzero(ledgers[0].state))
    return int(np.count_nonzero(np.logical_or.reduce([ledger.state for ledger in ledgers])))
