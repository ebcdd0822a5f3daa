"""Judge a run: compare what became of each publish with what each queue delivered.

Pure functions over arrays. Nothing is inferred from counters, rates or the Management API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.text import counted
from rmqbench.verdict.deliveries import BoolArray, IntArray, QueueDeliveries, Sends
from rmqbench.verdict.evidence import (
    CONFIRMED,
    NACKED,
    RETURNED,
    SENT,
    Evidence,
    Incident,
    ProducerEvidence,
    QueueEvidence,
)
from rmqbench.verdict.findings import (
    FINDINGS,
    OUTCOMES,
    Effect,
    Finding,
    FindingName,
    Judgement,
    NamedMessage,
    Verdict,
)
from rmqbench.verdict.order import Late, late_deliveries

__all__ = ["judge_evidence", "reordered_redeliveries"]

_NAMED = 5  # messages named for each finding
_SAID_BY_BROKER = frozenset({FindingName.NACKED, FindingName.RETURNED})


def judge_evidence(
    evidence: Evidence, *, allowed: Iterable[str] = (), evidence_at: str = ""
) -> Verdict:
    """Judge a run by its evidence.

    ``allowed`` names findings that fail by default and that this scenario expects; raise KeyError
    for a name that is none.
    """
    allowed = frozenset(allowed)
    unknown = allowed - {*OUTCOMES, *FINDINGS}
    if unknown:
        raise KeyError(f"no such finding: {', '.join(sorted(unknown))}")
    sends, outcomes = Sends.of(evidence), _outcomes(evidence.producers)
    findings = [
        *_judge_outcomes(evidence, outcomes),
        *(
            finding
            for queue in evidence.queues
            for finding in _QueueJudge(evidence, queue, sends, outcomes).findings()
        ),
    ]
    findings = [_with_effect(f, allowed) for f in findings if f.count]
    failing = [f for f in findings if f.effect is Effect.FAILS]
    open_questions = [
        *(
            f"producer {number} did not record its end: what it did not send, and what it did not "
            "hear of, is not judged"
            for number, producer in enumerate(evidence.producers)
            if not producer.ended
        ),
        *evidence.missing,
        *(
            f"queue {q.name} was not drained: {q.drain.detail}"
            for q in evidence.queues
            if not q.drain.proven
        ),
        *(
            f"queue {f.queue} delivered "
            f"{counted(f.count, 'message that is', 'messages that are')} not of this run"
            for f in findings
            if f.name is FindingName.FOREIGN
        ),
    ]
    outcome = Judgement.PASS
    reasons = [f"{f.count} {f.name}" + (f" in {f.queue}" if f.queue else "") for f in failing]
    reasons += open_questions
    if failing:
        outcome = Judgement.FAIL
    elif open_questions:
        outcome = Judgement.INCONCLUSIVE
    if outcome is not Judgement.PASS:
        reasons += evidence.troubles
    return Verdict(outcome, tuple(findings), tuple(reasons), evidence_at)


def reordered_redeliveries(evidence: Evidence) -> dict[str, int]:
    """Return how many deliveries of each queue came too late with the flag, which is allowed."""
    sends = Sends.of(evidence)
    return {
        queue.name: int(late.flagged.sum())
        for queue in evidence.queues
        for late in [_late(evidence, queue, sends, QueueDeliveries(sends, queue.consumers))]
    }


def _with_effect(finding: Finding, allowed: frozenset[str]) -> Finding:
    if finding.effect is not Effect.FAILS or finding.name not in allowed:
        return finding
    return replace(finding, effect=Effect.ALLOWED)


def _judge_outcomes(evidence: Evidence, outcomes: _Outcomes) -> Iterator[Finding]:
    ended = np.concatenate([np.full(len(p.state), p.ended) for p in evidence.producers])
    for name, mask in outcomes.masks.items():
        # Of a producer that did not record its end the rest is not known.
        silent = OUTCOMES[name] if name in _SAID_BY_BROKER else Effect.INCONCLUSIVE
        for of_these, with_effect in ((ended, OUTCOMES[name]), (~ended, silent)):
            where = np.flatnonzero(mask & of_these)
            messages = tuple(_name(evidence, None, int(p)) for p in where[:_NAMED])
            yield Finding(name, len(where), with_effect, messages=messages)
    told = [
        incident
        for producer in evidence.producers
        for incident in producer.incidents
        if incident.finding is FindingName.CONTRADICTED
    ]
    yield Finding(
        FindingName.CONTRADICTED,
        len(told),
        OUTCOMES[FindingName.CONTRADICTED],
        messages=tuple(_name_incident(evidence, None, each) for each in told[:_NAMED]),
    )


@dataclass(frozen=True, eq=False)
class _Outcomes:
    """Masks over all producers' messages in a row: which were confirmed, and what of the others."""

    confirmed: BoolArray
    masks: dict[FindingName, BoolArray]


def _outcomes(producers: Sequence[ProducerEvidence]) -> _Outcomes:
    state = np.concatenate([p.state for p in producers])
    wanted = np.concatenate([_wanted(producer) for producer in producers])
    sent = state & SENT != 0
    returned = state & RETURNED != 0
    nacked = (state & NACKED != 0) & ~returned
    confirmed = (state & CONFIRMED != 0) & ~returned & ~nacked
    return _Outcomes(
        confirmed,
        {
            FindingName.NACKED: nacked,
            FindingName.RETURNED: returned,
            FindingName.INDETERMINATE: sent & ~returned & ~nacked & ~confirmed,
            FindingName.UNSENT: ~sent & wanted,
        },
    )


def _wanted(producer: ProducerEvidence) -> BoolArray:
    count = len(producer.state)
    return np.arange(count) < (count if producer.wanted is None else producer.wanted)


def _late(
    evidence: Evidence, queue: QueueEvidence, sends: Sends, deliveries: QueueDeliveries
) -> Late:
    """Return what came late; of several consumers nobody knows the order between them."""
    producers = list(evidence.producers) if queue.only_consumer else []
    return late_deliveries(producers, sends, deliveries)


class _QueueJudge:
    """Judges one queue."""

    def __init__(
        self, evidence: Evidence, queue: QueueEvidence, sends: Sends, outcomes: _Outcomes
    ) -> None:
        self._evidence = evidence
        self._queue = queue
        self._sends = sends
        self._outcomes = outcomes
        self._deliveries = QueueDeliveries(sends, queue.consumers, auto_ack=queue.auto_ack)

    def findings(self) -> Iterator[Finding]:
        """Yield every finding of the queue, counts of 0 included."""
        queue, deliveries = self._queue, self._deliveries
        delivered = deliveries.delivered
        indeterminate = self._outcomes.masks[FindingName.INDETERMINATE]
        nacked = self._outcomes.masks[FindingName.NACKED]
        if queue.drain.proven and queue.complete:
            yield from self._missing(self._outcomes.confirmed & ~delivered)
            yield self._find(FindingName.VANISHED, indeterminate & ~delivered)
        yield self._find(FindingName.SURVIVED, indeterminate & delivered)
        yield self._find(FindingName.NACKED_BUT_DELIVERED, nacked & delivered)
        yield self._count(FindingName.DUPLICATE, deliveries.duplicates)
        yield self._count(FindingName.REDELIVERED, deliveries.redelivered)
        yield self._count(FindingName.REPEATED, deliveries.repeated)
        after_ack, excused = deliveries.after_ack(self._evidence.restarts)
        yield self._count(FindingName.REDELIVERED_AFTER_ACK, after_ack)
        yield replace(
            self._count(FindingName.REDELIVERED_AFTER_ACK, excused),
            effect=Effect.ALLOWED,
            detail="the node restarted in between, or may have",
        )
        yield self._reordered()
        readable = np.concatenate([np.full(len(p.state), p.readable) for p in self._producers])
        phantoms = self._find(FindingName.PHANTOM, readable & ~self._sends.sent & delivered)
        yield _add(self._reported(FindingName.PHANTOM), phantoms)
        yield self._reported(FindingName.MISROUTED)
        yield self._reported(FindingName.FOREIGN)
        yield self._reported(FindingName.CORRUPTED, [*deliveries.altered_send_times()])
        if not queue.drain.proven:
            yield Finding(
                FindingName.STUCK,
                max(1, queue.drain.ready),
                FINDINGS[FindingName.STUCK],
                queue.name,
                detail=queue.drain.detail,
            )

    @property
    def _producers(self) -> Sequence[ProducerEvidence]:
        return self._evidence.producers

    def _missing(self, missing: BoolArray) -> Iterator[Finding]:
        """Yield what a recorded cause can have taken from what is lost."""
        total = int(np.count_nonzero(missing))
        removed = self._removable(missing, total)
        causes = "; ".join(each.cause for each in self._queue.effective_removals)
        where = _where(missing, self._producers)
        if 0 < removed < total:
            where = f"which of these {total} were removed is not known"
        found = self._find(FindingName.REMOVED, missing)
        yield replace(found, count=removed, detail=causes)
        found = self._find(FindingName.LOST, missing)
        yield replace(found, count=total - removed, detail=where)

    def _removable(self, missing: BoolArray, total: int) -> int:
        """Return how many of these the recorded causes can have removed together."""
        if not total:
            return 0
        old = np.zeros(len(missing), np.bool_)
        others = 0
        for removal in self._queue.removals:
            if removal.sent_before_ns is not None:
                old |= self._last_sent_ns() < removal.sent_before_ns
            elif removal.at_most is None:
                return total
            else:
                others += removal.at_most
        return min(total, others + int(np.count_nonzero(missing & old)))

    def _last_sent_ns(self) -> IntArray:
        sent_ns = np.concatenate([each.sent_ns for each in self._producers])
        np.maximum.at(sent_ns, self._sends.copy_place, self._sends.copy_sent_ns)
        return sent_ns

    def _reordered(self) -> Finding:
        late = _late(self._evidence, self._queue, self._sends, self._deliveries)
        where = np.flatnonzero(~late.flagged)
        messages = []
        for at in where[:_NAMED].tolist():
            place = int(self._sends.starts[late.producer[at]] + late.sequence[at])
            named = _name(self._evidence, self._queue.name, place)
            messages.append(replace(named, detail=f"after sequence {late.behind[at]}"))
        name = FindingName.REORDERED
        return Finding(name, len(where), FINDINGS[name], self._queue.name, tuple(messages))

    def _find(self, name: FindingName, mask: BoolArray) -> Finding:
        return self._count(name, mask.astype(np.int64))

    def _count(self, name: FindingName, counts: npt.NDArray[Any]) -> Finding:
        """Return a finding: ``counts`` says how many there are of each message."""
        where = np.flatnonzero(counts)
        queue = self._queue.name
        messages = tuple(_name(self._evidence, queue, int(place)) for place in where[:_NAMED])
        return Finding(name, int(counts.sum()), FINDINGS[name], queue, messages)

    def _reported(self, name: FindingName, also: Sequence[tuple[int, Incident]] = ()) -> Finding:
        found = [*_incidents(self._queue, name, also)]
        queue = self._queue.name
        messages = tuple(_name_incident(self._evidence, queue, each) for each in found[:_NAMED])
        return Finding(name, len(found), FINDINGS[name], queue, messages)


def _incidents(
    queue: QueueEvidence, name: FindingName, also: Sequence[tuple[int, Incident]]
) -> Iterator[Incident]:
    """Yield the incidents of one finding, once for each message that it is about.

    What is not acknowledged comes again on the next channel, and to the next consumer: the same
    message counts as often as the one channel that received it most often. ``also`` holds further
    ones, each with the number of its consumer.
    """
    incidents = [
        (number, incident)
        for number, consumer in enumerate(queue.consumers)
        for incident in consumer.incidents
        if incident.finding == name
    ]
    incidents += also
    channels: dict[tuple[int, int], Counter[Incident]] = {}
    for number, incident in incidents:
        channel = channels.setdefault((number, incident.channel), Counter())
        channel[replace(incident, at_ns=0, channel=0)] += 1
    left = Counter[Incident]()
    for channel in channels.values():
        for each, count in channel.items():
            left[each] = max(left[each], count)
    for _, incident in incidents:
        same = replace(incident, at_ns=0, channel=0)
        if left[same]:
            left[same] -= 1
            yield incident


def _where(missing: BoolArray, producers: Sequence[ProducerEvidence]) -> str:
    """Describe whether what is missing lies at the start, in the middle or at the end."""
    if missing.all():
        return "all of what was sent"
    start = middle = end = 0
    wholes = []  # producers of which nothing is there
    at = 0
    for number, producer in enumerate(producers):
        mine = missing[at : at + len(producer.state)]
        at += len(mine)
        where, present = np.flatnonzero(mine), np.flatnonzero(~mine)
        if not len(present):
            wholes.append(f"all {len(where)} of producer {number}")
            continue
        before, behind = int((where < present[0]).sum()), int((where > present[-1]).sum())
        start, end = start + before, end + behind
        middle += len(where) - before - behind
    counts = ((start, "at the start"), (middle, "in the middle"), (end, "at the end"))
    parts = ", ".join(f"{n} {place}" for n, place in counts if n)
    return "; ".join(([f"{parts} of what was sent"] if parts else []) + wholes)


def _name(evidence: Evidence, queue: str | None, place: int) -> NamedMessage:
    """Name the message at a place of the arrays that hold all producers' messages in a row."""
    for number, producer in enumerate(evidence.producers):
        if place < len(producer.state):
            return NamedMessage(
                queue,
                number,
                place,
                evidence.recipe.message_id(number, place),
                int(producer.sent_ns[place]) or None,
            )
        place -= len(producer.state)
    raise IndexError(place)


def _name_incident(evidence: Evidence, queue: str | None, incident: Incident) -> NamedMessage:
    producer, sequence = incident.producer, incident.sequence
    if producer is None or sequence is None:
        return NamedMessage(queue, None, None, None, None, incident.detail)
    sent_ns = None
    if producer < len(evidence.producers):
        sent = evidence.producers[producer].sent_ns
        sent_ns = int(sent[sequence]) or None if sequence < len(sent) else None
    message_id = evidence.recipe.message_id(producer, sequence)
    return NamedMessage(queue, producer, sequence, message_id, sent_ns, incident.detail)


def _add(one: Finding, other: Finding) -> Finding:
    messages = (one.messages + other.messages)[:_NAMED]
    return replace(one, count=one.count + other.count, messages=messages)
