"""Drain one queue, and prove that it is empty."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rmqbench.amqp import topology as topologies
from rmqbench.clients.consumer import ConsumerPlan, ConsumerReport
from rmqbench.clients.recovery import Interruption
from rmqbench.endpoint import Endpoint
from rmqbench.errors import QueueNotFound, RmqbenchError
from rmqbench.faults.disturbance import Disturbance
from rmqbench.runner.metrics import Phase, phase_of
from rmqbench.runner.workers import Outcome, Plan
from rmqbench.verdict.evidence import ConsumerEvidence, Drain, QueueEvidence
from rmqbench.verdict.ledger import DeliveryLedger, Incident

__all__ = ["Drained", "drain_queue"]

_SETTLE_S = 0.5  # so long an empty queue must say that it is
_ASK_EVERY_S = 0.25
_PATIENCE_S = 2.0  # how long it may take the broker to notice that our consumers have gone
_MOST_ROUNDS = 30

RunPlans = Callable[[Sequence[Plan], Sequence[Path], Callable[[], int]], list[Outcome]]


@dataclass(frozen=True)
class Drained:
    """What one queue delivered until it was empty, or would not give any more.

    ``delivered`` counts this run's messages, those that came again included;
    ``reordered_redeliveries`` those that came late and flagged, which is allowed. ``missing`` says
    which evidence cannot be read, ``troubles`` what went wrong on the way, in sentences;
    ``interruptions`` are those after which a consumer went on, with its number.
    """

    evidence: QueueEvidence
    phase: Phase
    delivered: int
    reordered_redeliveries: int
    missing: tuple[str, ...]
    troubles: tuple[str, ...]
    interruptions: tuple[tuple[int, Interruption], ...]


def drain_queue(
    plan: ConsumerPlan,
    consumers: int,
    run_plans: RunPlans,
    watch: Callable[[int], None],
    disturbance: Callable[[bool], Disturbance],
) -> Drained:
    """Consume a queue with several consumers that work by one plan, until it is proven empty.

    ``plan.directory`` is the queue's; each consumer gets one of its own in it. When all have
    ended and the queue still holds messages (a consumer died, and what it had not acknowledged
    came back), the next ones go on; a round that brings nothing new is the last. ``disturbance``
    is told whether a consumer was interrupted and says what the run has been through so far: the
    queues of a shaken one get more time.
    """
    ledgers: list[DeliveryLedger] = []
    reports: list[ConsumerReport | None] = []
    troubles: list[str] = []
    interruptions: list[tuple[int, Interruption]] = []
    came_to, came_on_at = 0, time.monotonic()
    for _ in range(_MOST_ROUNDS):
        alone = consumers == 1 and not ledgers
        plans = [
            replace(
                plan,
                number=number,
                directory=plan.directory / f"consumer-{number}",
                expected=sum(plan.counts) if alone else None,
            )
            for number in range(len(ledgers), len(ledgers) + consumers)
        ]
        before = came_to
        for each in plans:
            DeliveryLedger.create(each.directory, sum(plan.counts))
            ledgers.append(DeliveryLedger.read(each.directory))

        def progress() -> int:
            nonlocal came_on_at, came_to
            distinct = _count_distinct(ledgers)
            if distinct > came_to:
                came_to, came_on_at = distinct, time.monotonic()
            watch(distinct)
            return sum(int(np.count_nonzero(ledger.delivered)) for ledger in ledgers)

        outcomes = run_plans(plans, [each.directory for each in plans], progress)
        reports += [outcome.report for outcome in outcomes]
        troubles += [outcome.trouble for outcome in outcomes if outcome.trouble]
        for outcome in outcomes:
            if report := outcome.report:
                troubles += [report.error] if report.error else []
                interruptions += [(report.number, each) for each in report.interruptions]
        now = disturbance(bool(interruptions or troubles))
        patience_until = came_on_at + (plan.stall_s if now.shaken else 0)
        drain = _prove_empty(
            plan.endpoint,
            plan.queue,
            certain_at=now.certain_at(),
            until=max(patience_until, time.monotonic() + _PATIENCE_S),
        )
        if drain.proven and drain.there and not any(map(_ended_in_order, outcomes)):
            drain = Drain(False, 0, "no consumer could take from it and end in order")
        if drain.proven or (came_to == before and time.monotonic() >= patience_until):
            break
    evidence, missing = _gather(ledgers, reports)
    return Drained(
        evidence=QueueEvidence(plan.queue, evidence, drain, only_consumer=consumers == 1),
        phase=_measure(reports),
        delivered=sum(int(ledger.delivered.sum()) for ledger in ledgers),
        reordered_redeliveries=sum(r.reordered_redeliveries for r in reports if r),
        missing=tuple(missing),
        troubles=tuple(troubles),
        interruptions=tuple(interruptions),
    )


def _ended_in_order(outcome: Outcome) -> bool:
    """Tell whether a consumer was served until it was cancelled: such a queue is alive."""
    return outcome.report is not None and bool(outcome.report.closed_channels)


def _prove_empty(endpoint: Endpoint, queue: str, certain_at: float, until: float) -> Drain:
    """Ask the queue, with no consumer of ours there any more, until its answer holds still.

    Before ``certain_at`` (monotonic seconds) no answer is believed that says it is empty; after
    ``until`` none is waited for. A queue that does not exist any more holds nothing.
    """
    still_since: float | None = None
    while True:
        there, trouble = True, ""
        try:
            ready, others = topologies.counts(endpoint, queue)
        except QueueNotFound:
            ready, others, there = 0, 0, False
        except RmqbenchError as error:
            ready, others, trouble = 0, 0, f"it could not be asked ({error.what})"
        now = time.monotonic()
        if ready:
            return Drain(False, ready, f"{ready} messages are still ready in it")
        if others:
            trouble = f"{others} consumers that are not ours are still there"
        if trouble:
            still_since = None
            if now >= until:
                return Drain(False, 0, trouble)
        elif still_since is None:
            still_since = now
        elif now - still_since >= _SETTLE_S and now >= certain_at:
            return Drain(True, there=there)
        time.sleep(_ASK_EVERY_S)


def _count_distinct(ledgers: Sequence[DeliveryLedger]) -> int:
    """Count the messages that any of the consumers has received."""
    if len(ledgers) == 1:
        return int(np.count_nonzero(ledgers[0].delivered))
    return int(np.count_nonzero(np.logical_or.reduce([ledger.delivered for ledger in ledgers])))


def _gather(
    ledgers: Sequence[DeliveryLedger], reports: Sequence[ConsumerReport | None]
) -> tuple[list[ConsumerEvidence], list[str]]:
    """Read what the consumers left, those that died included, and say what cannot be read."""
    consumers = []
    missing = []
    for ledger, report in zip(ledgers, reports, strict=True):
        incidents: tuple[Incident, ...] = ()
        try:
            incidents = tuple(ledger.incidents())
        except (OSError, ValueError, TypeError) as error:
            missing.append(f"{ledger.incidents_path} cannot be read ({error})")
        consumers.append(
            ConsumerEvidence(
                delivered=ledger.delivered,
                redelivered=ledger.redelivered,
                acked=ledger.acked,
                first_ns=ledger.first_ns,
                incidents=incidents,
                closed_channels=report.closed_channels if report else (),
            )
        )
    return consumers, missing


def _measure(reports: Sequence[ConsumerReport | None]) -> Phase:
    there = [report for report in reports if report is not None]
    return phase_of(
        sum(report.deliveries for report in there),
        [(report.started_ns, report.ended_ns) for report in there],
        sum(report.cpu_s for report in there),
    )
