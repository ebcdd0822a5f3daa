"""Drain the queues of a run, one or many at a time, and write down what each of them said."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from rmqbench.amqp.dead_letters import delays_of
from rmqbench.amqp.topology import ready_counts
from rmqbench.errors import RmqbenchError
from rmqbench.faults.disturbance import Disturbance, Disturber
from rmqbench.pieces import pieces
from rmqbench.run_directory import RunDirectory
from rmqbench.run_directory.journal import DrainTried, Entry, Interrupted, StageBegan, TroubleSeen
from rmqbench.run_directory.journal_facts import hidden_s
from rmqbench.run_directory.reading import read_run
from rmqbench.run_directory.records import QueueRecord, RunRecord
from rmqbench.runner.drain import QueueDrain
from rmqbench.runner.inspection import Inspection
from rmqbench.runner.plans import Planner
from rmqbench.runner.watch import BrokerWatch
from rmqbench.runner.workforce import Workforce
from rmqbench.scenarios import Scenario
from rmqbench.verdict.evidence import Drain
from rmqbench.verdict.removals import keeps_dead_letters
from rmqbench.waiting import wait_until

__all__ = ["Drains"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_PUBLISHED_AGAIN_S = 200.0  # a dead letter that nobody confirmed: 180 s (rabbit_fifo_dlx_worker)
_ON_ITS_WAY_S = 1.0  # from a queue to another one
_PROOFS = 32  # at the same time, each with a connection


@dataclass
class Drains:
    """The drains of a run, by the scenario's names of its queues.

    ``came`` is called with a queue and how many of its messages have come so far, and
    ``note_restarts`` before a queue's answer is written down. Where a queue ``may_be_shared``, who
    else holds its messages is looked for.
    """

    scenario: Scenario
    directory: RunDirectory
    plans: Planner
    workers: Workforce
    disturber: Disturber
    inspection: Inspection
    broker_watch: BrokerWatch | None
    write: Callable[[Entry], None]
    came: Callable[[str, int], None]
    note_restarts: Callable[[], None]
    may_be_shared: bool
    _begun: dict[str, QueueDrain] = field(default_factory=dict, init=False)

    def begin(self, queue: str) -> QueueDrain:
        """Return the drain of a queue, which nobody has begun to consume."""
        index = self.scenario.queue_names.index(queue)
        asked = self.scenario.queues[index]
        drain = self._begun[queue] = QueueDrain(
            self.plans.consumer(index),
            asked.consumers,
            settings=asked.settings,
            lets_go=self.scenario.lets_go,
        )
        return drain

    def progress_of(self, drain: QueueDrain) -> int:
        """Return a number that grows with each message that comes."""
        progress = drain.progress()
        self._announce(drain)
        return progress

    def recount(self, drain: QueueDrain) -> None:
        """Count what has come, now that the consumers of a round have ended."""
        drain.recount()
        self._announce(drain)

    def drain(self, queues: Sequence[str]) -> None:
        """Consume queues at the same time, until each is proven empty, or gives no more.

        What keeps one from that, a full disk for example, is written down, not raised.
        """
        for queue in queues:
            self.write(StageBegan(stage=f"drain {self.plans.declared_name(queue)}"))
        drains = [self._begun.get(queue) or self.begin(queue) for queue in queues]
        try:
            self._consume([drain for drain in drains if not drain.begun])
            while drains:
                drains = self._end_rounds(drains)
                self._consume(drains)
        except (OSError, RmqbenchError) as error:
            self._give_up(drains, error)

    def _consume(self, drains: Sequence[QueueDrain]) -> None:
        """Run a round of consumers on each queue, until all of them have ended."""
        waits = self.disturber.awaits("drain")
        plans = [
            plan
            for drain in drains
            for plan in drain.next_round(lingers=waits and drain.settles_late)
        ]
        if plans:
            self.workers.consume(plans, lambda: sum(map(self.progress_of, drains)))
        for drain in drains:
            self.recount(drain)

    def _end_rounds(self, drains: Sequence[QueueDrain]) -> list[QueueDrain]:
        """Ask the queues of a round whether they are empty; return those that need another."""
        watch = self.broker_watch
        record = read_run(self.directory.path)
        interrupted = any(drain.interrupted() for drain in drains) or _was_interrupted(record)
        interrupted = interrupted or (watch is not None and watch.broke)
        disturbance = self.disturber.state(interrupted=interrupted)
        queues = {queue.name: queue for queue in record.queues}

        # Before a proof: they are on their way.
        waiting = self._await_delays(disturbance)
        ask = partial(self._kept_dead_letters, record=record, disturbed=disturbance.shaken)
        kept = _at_once(ask, drains)

        def end_round(drain: QueueDrain) -> Drain | Exception:
            hidden = hidden_s(queues[drain.plan.queue], record.entries)
            try:
                return drain.end_round(disturbance, hidden)
            except (OSError, RmqbenchError) as error:
                return error

        # Whoever gets dead letters is asked when those that they come from have been.
        by_drain: dict[QueueDrain, Drain | Exception] = {}
        for among in (False, True):
            those = [each for each in drains if bool(each.plan.origins) is among]
            by_drain |= dict(zip(those, _at_once(end_round, those), strict=True))
        proofs = [by_drain[each] for each in drains]
        self.note_restarts()
        self.inspection.note_policies()
        for drain, proof, held in zip(drains, proofs, kept, strict=True):
            if isinstance(proof, Exception):
                self._give_up([drain], proof)
            else:
                more = self._waiting_of(drain, waiting)
                self._write_proof(drain, _with_kept(proof, held if held is None else held + more))
        left = [
            drain
            for drain, proof in zip(drains, proofs, strict=True)
            if not isinstance(proof, Exception)
        ]
        if any(self.scenario.origins):  # what comes to one may go on to another that was empty
            return left if any(not each.done for each in left) else []
        return [drain for drain in left if not drain.done]

    def _await_delays(self, disturbance: Disturbance) -> dict[str, int]:
        """Wait until dead letters wait no longer; return how many do all the same, by queue."""
        delays = self.scenario.delays
        if not delays:
            return {}
        names = [each.name for each in self.plans.topology.delays]
        patience_s = max(each.delay_s for each in delays) + self.scenario.stall_s
        until = max(time.monotonic(), disturbance.certain_at(time.monotonic())) + patience_s
        counts = dict.fromkeys(names, 1)  # until they have answered
        some_at = time.monotonic()

        def are_through() -> bool:
            nonlocal counts, some_at
            with contextlib.suppress(RmqbenchError):
                counts = ready_counts(self.plans.endpoint, names)
            now = time.monotonic()
            if any(counts.values()) or now < disturbance.certain_at(now):
                some_at = now
            # What was rejected last may still be on its way there.
            return now - some_at >= _ON_ITS_WAY_S or now >= until

        wait_until(are_through, until - time.monotonic() + patience_s, "dead letters", every_s=0.2)
        return counts

    def _waiting_of(self, drain: QueueDrain, waiting: Mapping[str, int]) -> int:
        """Return how many dead letters of a queue wait, or of those that share the way with it."""
        topology = self.plans.topology
        queue = topology.queues[topology.queue_names.index(drain.plan.queue)]
        return sum(waiting.get(each.name, 0) for each in delays_of(topology, queue))

    def _kept_dead_letters(
        self, drain: QueueDrain, *, record: RunRecord, disturbed: bool
    ) -> int | None:
        """Return how many dead letters a queue keeps that publishes them until they are confirmed.

        None: that is not known. Those that are on their way are waited for; where one may have been
        refused, or have met nobody, until RabbitMQ publishes it again.
        """
        index = self.plans.topology.queue_names.index(drain.plan.queue)
        queues = self.plans.topology.queues
        source = queues[index]
        targets = [
            queue
            for queue, origins in zip(queues, self.scenario.origins, strict=True)
            if index in origins
        ]
        if not targets or not keeps_dead_letters(source.kind, source.arguments):
            return 0
        limited = any("x-max-length" in name for each in targets for name in each.arguments)
        calm = not (limited or disturbed)
        patience_s = (
            self.scenario.stall_s if calm else max(self.scenario.stall_s, _PUBLISHED_AGAIN_S)
        )
        none_s = self.scenario.stall_s if _misses_any(record, record.queues[index]) else 0.0
        return self.inspection.kept_dead_letters(drain.plan.queue, patience_s, none_s)

    def _write_proof(self, drain: QueueDrain, proof: Drain) -> None:
        if proof.proven and proof.there and self.may_be_shared:
            published = self.directory.publish_ledgers(self.scenario.producers)
            missing = drain.count_missing(published)
            proof = self.inspection.look_for_holders(drain.plan.queue, missing, proof)
        self.write(DrainTried(queue=drain.plan.queue, **asdict(proof)))

    def _give_up(self, drains: Sequence[QueueDrain], error: Exception) -> None:
        what = error.what if isinstance(error, RmqbenchError) else f"{error}."
        for drain in drains:
            self.write(TroubleSeen(text=f"The drain of {drain.plan.queue} was given up: {what}"))

    def _announce(self, drain: QueueDrain) -> None:
        self.came(drain.plan.queue, drain.distinct)


def _misses_any(record: RunRecord, queue: QueueRecord) -> bool:
    """Whether any message was confirmed with which nobody is through, also as a dead letter."""
    start = 0
    for producer in record.producers:
        ledger = producer.ledger
        for these in pieces(len(ledger.state)):
            there = queue.settled(slice(start + these.start, start + these.stop))
            if (ledger.are_confirmed(these) & ~there).any():
                return True
        start += len(ledger.state)
    return False


def _with_kept(proof: Drain, kept: int | None) -> Drain:
    """Return what the proof that a queue is empty comes to, with the dead letters that it keeps."""
    if kept is not None or not proof.proven:
        return replace(proof, held=kept or 0)
    return replace(proof, proven=False, detail="whether it keeps dead letters cannot be asked")


def _at_once(do: Callable[[_T], _R], each: Sequence[_T]) -> list[_R]:
    """Return what comes of each, done at the same time."""
    if len(each) <= 1:
        return [do(one) for one in each]
    with ThreadPool(min(len(each), _PROOFS)) as pool:
        return pool.map(do, each, chunksize=1)


def _was_interrupted(record: RunRecord) -> bool:
    """Whether any worker was kept from its work so far."""
    consumers = (consumer for queue in record.queues for consumer in queue.consumers)
    return any(any(worker.of(Interrupted)) for worker in (*record.producers, *consumers))
