"""Drain one queue in rounds of consumers, and prove that it is empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rmqbench.amqp.network import REAL_NETWORK, Network
from rmqbench.clients.recording_consumer import ConsumerPlan
from rmqbench.faults.disturbance import Disturbance
from rmqbench.pieces import pieces
from rmqbench.queues import ConsumerSettings
from rmqbench.run_directory.journal import (
    ChannelClosed,
    ChannelOpened,
    ConsumerLeaving,
    Interrupted,
    WorkEnded,
)
from rmqbench.run_directory.ledger import (
    DeliveryLedger,
    PublishLedger,
    dead_letters_in,
    dead_letters_of,
)
from rmqbench.run_directory.reading import entries_of
from rmqbench.runner.emptiness import SETTLE_S, Patience, Prover
from rmqbench.runner.received import Received
from rmqbench.settling import Action, Settling
from rmqbench.verdict.evidence import Drain
from rmqbench.verdict.findings import FindingName

__all__ = ["QueueDrain"]

_PATIENCE_S = 2.0  # how long it may take the broker to notice that our consumers have gone
_MOST_ROUNDS = 30
_MOST_HIDDEN_S = 300.0  # nobody waits longer for what a queue hides


class QueueDrain:
    """One queue on its way to being empty.

    A round is :meth:`next_round`, its consumers at work with :meth:`progress` called all along,
    :meth:`recount` when they have ended, and :meth:`end_round`. When all have ended and the queue
    still holds messages (a consumer died, and what it had not acknowledged came back), the next
    ones go on. A round that brings nothing new is the last, unless its consumers found nothing and
    something has come back since, or less has come back than after the round before, or the queue
    answers and they were the first in a row whom it served nothing, or it has not had its time yet.
    """

    def __init__(
        self,
        plan: ConsumerPlan,
        consumers: int,
        network: Network = REAL_NETWORK,
        *,
        settings: Sequence[ConsumerSettings] = (),
        lets_go: bool = False,
    ) -> None:
        """Take the plan by which all consumers work; ``plan.directory`` is the queue's.

        ``settings`` say in what they differ, in turn. ``lets_go``: whether evidence is let go while
        they work.
        """
        self.plan = plan
        self._lets_go = plan.counts if lets_go else None
        self._monotonic = network.clock.monotonic
        self.consumers = consumers
        self._settings = settings or (ConsumerSettings(),)
        self.distinct = 0  # messages that any of the consumers has received, also as dead letters
        self.done = False
        self._ledgers: list[DeliveryLedger] = []
        self._received = [Received() for _ in self._kept_by(plan.directory)]
        self._round: list[DeliveryLedger] = []  # of the last round
        self._rounds = 0
        self._lingers = False
        self._broke_off = False  # whether any channel did
        self._looked = False  # whether any message was given to whoever asked, and given back
        self._was_in_vain = False  # the last round, although the queue answered behind it
        self._before = 0
        self._left = sum(plan.counts) + 1  # ready messages after the last round
        self._came_on_at = self._ended_at = self._monotonic()
        subscription = plan.subscription
        self._prover = Prover(
            subscription.endpoint, plan.queue, network, heartbeat_s=subscription.heartbeat_s
        )

    @property
    def begun(self) -> bool:
        """Whether it has had a round of consumers."""
        return self._rounds > 0

    @property
    def settles_late(self) -> bool:
        """Whether its consumers hold messages until nothing more comes."""
        texts = (each.settle or self.plan.settle for each in self._settings)
        return any(Action.LATE in Settling.of(text).actions for text in texts)

    @property
    def ledgers(self) -> Sequence[DeliveryLedger]:
        """What its consumers of all rounds have recorded."""
        return self._ledgers

    def next_round(self, *, lingers: bool = False) -> list[ConsumerPlan]:
        """Return the plans of the next consumers, with their ledgers made.

        With ``lingers`` they do not take an empty queue for the end before they are told to.
        """
        total = sum(self.plan.counts)
        alone = self.consumers == 1 and not self._ledgers and not self.plan.origins
        first = len(self._ledgers)
        plans = [
            self.plan.numbered(
                number,
                self.plan.directory / f"consumer-{number}",
                **self._differing(at, joins=not first),
                expected=total if alone and not lingers else None,
                lingers=lingers,
            )
            for at, number in enumerate(range(first, first + self.consumers))
        ]
        for plan in plans:
            DeliveryLedger.create(plan.directory, total, timed=plan.timed, lets_go=self._lets_go)
            for directory in self._kept_by(plan.directory)[1:]:
                DeliveryLedger.create(directory, total)
            for received, directory in zip(
                self._received, self._kept_by(plan.directory), strict=True
            ):
                received.add(DeliveryLedger.read(directory))
        self._round = [DeliveryLedger.read(plan.directory) for plan in plans]
        self._ledgers += self._round
        self._rounds += 1
        self._lingers = lingers
        self._before = self.distinct
        if self._rounds == 1:
            self._came_on_at = self._monotonic()
        return plans

    def _kept_by(self, consumer: Path) -> list[Path]:
        """Return the ledgers of a consumer: its own, and those of dead letters."""
        of_origins = range(len(self.plan.origins))
        return [consumer, *(dead_letters_in(consumer, index) for index in of_origins)]

    def _differing(self, at: int, *, joins: bool) -> dict[str, Any]:
        """Return in what a consumer's plan differs from the others', by its place in a round."""
        own = self._settings[at % len(self._settings)]
        return {
            "prefetch": own.prefetch,
            "priority": own.priority,
            "settle": own.settle or self.plan.settle,
            "cancels_every": own.cancels_every,
            "polls_every_s": own.polls_every_s,
            "joins_after_s": own.joins_after_s if joins else 0.0,
        }

    def progress(self) -> int:
        """Count what the consumers have received; return a number that grows with each message."""
        for received in self._received:
            received.look()
        self._note_received()
        return sum(received.total for received in self._received)

    def recount(self) -> None:
        """Count from all that the consumers have recorded, now that those of a round have ended."""
        for received in self._received:
            received.recount()
        self._note_received()

    def _note_received(self) -> None:
        self._ended_at = self._monotonic()
        distinct = sum(received.distinct for received in self._received)
        if distinct > self.distinct:
            self.distinct, self._came_on_at = distinct, self._ended_at

    def count_missing(self, published: Sequence[PublishLedger]) -> int:
        """Return how many messages were confirmed, and none of the consumers is through with."""
        count = start = 0
        for producer in published if self.plan.gets_all else ():
            for piece in pieces(len(producer.state)):
                missing = producer.are_confirmed(piece)
                for ledger in self._ledgers:
                    here = slice(start + piece.start, start + piece.stop)
                    missing &= ~ledger.settled(here, auto_ack=self.plan.subscription.auto_ack)
                count += int(np.count_nonzero(missing))
            start += len(producer.state)
        return count

    def interrupted(self) -> bool:
        """Whether a consumer, of any round, was kept from its work or did not end well."""
        return any(map(_was_interrupted, self._ledgers))

    def end_round(self, disturbance: Disturbance, hidden_s: float = 0.0) -> Drain:
        """Ask the queue, now that the consumers of a round have ended, whether it is empty.

        ``disturbance`` is what the run has been through: the queues of a shaken one get more time.
        ``hidden_s`` is how long the queue may hide what was given back. :attr:`done` then says
        whether this was the last round.
        """
        ended_at = self._monotonic()
        served = any(map(_ended_in_order, self._round))
        # They may have ended long ago: its time begins now. A queue that serves nobody has it once.
        if self._lingers and (served or self._rounds == 1):
            self._came_on_at = ended_at
        self._note_ends()
        if not (self._broke_off or self._looked):
            hidden_s = 0.0  # nothing was given back
        drain = self._prover.prove(self._patience(disturbance, ended_at, hidden_s))
        self._looked |= drain.looks > 0

        says_empty = drain.proven and drain.there
        hides = says_empty and served and hidden_s > _MOST_HIDDEN_S
        if hides:
            why = f"it hides what was given back for up to {hidden_s:g} s"
            drain = replace(drain, proven=False, detail=why)
        elif says_empty and not served:
            why = "no consumer could consume it and end cleanly"
            drain = replace(drain, proven=False, detail=why)

        answers = says_empty or drain.ready > 0
        in_vain = answers and not (served and any(map(_received_any, self._round)))
        over = self._is_over(
            drain.ready,
            has_time=ended_at < self._came_on_at + self._time_s(disturbance, drain.ready),
            may_serve=in_vain and not self._was_in_vain,
        )
        if answers:  # what the proof has waited for does not count: no consumer had a chance then
            self._came_on_at += self._monotonic() - ended_at
        self._was_in_vain = in_vain
        self.done = drain.proven or hides or over or self._rounds == _MOST_ROUNDS
        return drain

    def _note_ends(self) -> None:
        """Take into account how the channels of the round have ended."""
        if any(_left_open(each, ChannelOpened) for each in self._round):
            self._broke_off = True
            self._prover.expect_back(self._ended_at, counted=True)
        if any(_left_open(each, ConsumerLeaving) for each in self._round):
            # A classic queue counts a consumer as long as it is not cancelled, and no longer,
            # whatever its channel still holds.
            self._prover.expect_back(self._ended_at)

    def _patience(self, disturbance: Disturbance, now: float, hidden_s: float) -> Patience:
        until = max(now + _PATIENCE_S, self._came_on_at + self._time_s(disturbance))
        others_s = self._prover.half_open_s if disturbance.shaken else 0.0
        return Patience(
            certain_at=disturbance.certain_at(now),
            until=until,
            away_s=self.plan.subscription.stall_s,
            others_until=max(until, now + others_s),
            still_s=max(SETTLE_S, min(hidden_s, _MOST_HIDDEN_S)),
        )

    def _time_s(self, disturbance: Disturbance, ready: int = 0) -> float:
        """Return for how long the queue may bring nothing new before it is given up."""
        if ready and self._broke_off:
            # What is half-open may stand before our consumers, as a single active one does.
            return max(self.plan.subscription.stall_s, self._prover.half_open_s)
        return self.plan.subscription.stall_s if disturbance.shaken else 0.0

    def _is_over(self, ready: int, *, has_time: bool, may_serve: bool) -> bool:
        """Whether another round would bring no more than the last one did."""
        nothing_new = self.distinct == self._before
        if any(map(_met_foreign, self._round)):
            return nothing_new or all(map(_ended_in_order, self._round))
        received = any(map(_received_any, self._round))
        found_nothing = not received and any(map(_ended_well, self._round))
        # A quorum queue may lose acknowledgements with the channel, and gives their messages back.
        came_back = ready > 0 and (found_nothing or ready < self._left)
        self._left = ready
        return nothing_new and not (came_back or may_serve or has_time)


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


def _received_any(consumer: DeliveryLedger) -> bool:
    """Whether a consumer was given any message of the run, its own or a dead letter."""
    others = (DeliveryLedger.read(each) for each in dead_letters_of(consumer.directory))
    return any(bool(each.state.any()) for each in (consumer, *others))
