"""Judge a run: compare what became of each publish with what each queue delivered.

Pure functions over arrays. Nothing is inferred from counters, rates or the Management API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.verdict.evidence import (
    CONFIRMED,
    FIRST_REDELIVERED,
    NACKED,
    RETURNED,
    SENT,
    SENT_AGAIN,
    ConsumerEvidence,
    Evidence,
    Incident,
    ProducerEvidence,
    QueueEvidence,
    Removal,
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

__all__ = ["judge_evidence"]

BoolArray = npt.NDArray[np.bool_]

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
    findings = [
        *_judge_outcomes(evidence),
        *(f for queue in evidence.queues for f in _judge_queue(evidence, queue)),
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


def _with_effect(finding: Finding, allowed: frozenset[str]) -> Finding:
    if finding.effect is not Effect.FAILS or finding.name not in allowed:
        return finding
    return replace(finding, effect=Effect.ALLOWED)


def _judge_outcomes(evidence: Evidence) -> Iterator[Finding]:
    outcomes = _outcomes(evidence.producers)
    ended = np.concatenate([np.full(len(p.state), p.ended) for p in evidence.producers])
    for name, effect in OUTCOMES.items():
        # Of a producer that did not record its end the rest is not known.
        silent = Effect.FAILS if name in _SAID_BY_BROKER else Effect.INCONCLUSIVE
        for mask, with_effect in ((ended, effect), (~ended, silent)):
            where = np.flatnonzero(outcomes.masks[name] & mask)
            messages = tuple(_name(evidence, None, int(p)) for p in where[:_NAMED])
            yield Finding(name, len(where), with_effect, messages=messages)


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


def _judge_queue(evidence: Evidence, queue: QueueEvidence) -> Iterator[Finding]:
    outcomes = _outcomes(evidence.producers)
    indeterminate = outcomes.masks[FindingName.INDETERMINATE]
    nacked = outcomes.masks[FindingName.NACKED]
    state = np.concatenate([p.state for p in evidence.producers])
    seen = _Seen.merge(queue.consumers, len(state))

    def find(name: FindingName, mask: BoolArray, counts: npt.NDArray[Any] | None = None) -> Finding:
        where = np.flatnonzero(mask)
        count = len(where) if counts is None else int(counts[mask].sum())
        return Finding(
            name,
            count,
            FINDINGS[name],
            queue.name,
            tuple(_name(evidence, queue.name, int(place)) for place in where[:_NAMED]),
        )

    def reported(
        name: FindingName, is_meant: Callable[[Incident], bool] = lambda _: True
    ) -> Finding:
        found = [i for i in _incidents(queue.consumers, name) if is_meant(i)]
        return Finding(
            name,
            len(found),
            FINDINGS[name],
            queue.name,
            tuple(_name_incident(evidence, queue.name, i) for i in found[:_NAMED]),
        )

    readable = np.concatenate([np.full(len(p.state), p.readable) for p in evidence.producers])
    never_sent = (state & SENT == 0) & readable
    missing = outcomes.confirmed & ~seen.delivered
    all_is_out = queue.drain.proven and queue.complete
    if queue.routed and all_is_out:
        total = int(np.count_nonzero(missing))
        removed = min(total, _removable(queue.removals, total))
        causes = "; ".join(removal.cause for removal in queue.removals)
        where = _where(missing, evidence.producers)
        if 0 < removed < total:
            where = f"which of these {total} were removed is not known"
        yield replace(find(FindingName.REMOVED, missing), count=removed, detail=causes)
        yield replace(find(FindingName.LOST, missing), count=total - removed, detail=where)
    if queue.routed:
        yield find(FindingName.SURVIVED, indeterminate & seen.delivered)
        if all_is_out:
            yield find(FindingName.VANISHED, indeterminate & ~seen.delivered)
        yield find(FindingName.NACKED_BUT_DELIVERED, nacked & seen.delivered)
    twice = (state & SENT_AGAIN != 0) & (seen.unflagged_again > 0)
    duplicates = seen.unflagged_again - twice
    yield find(FindingName.DUPLICATE, duplicates > 0, duplicates)
    yield find(FindingName.REDELIVERED, seen.flagged_again > 0, seen.flagged_again)
    # Of a message that was published twice the other copy may have been acknowledged.
    once = state & SENT_AGAIN == 0
    after_ack = FindingName.REDELIVERED_AFTER_ACK
    yield _add(
        reported(after_ack, lambda incident: _sent_once(evidence, incident)),
        find(after_ack, seen.after_ack & once),
    )
    phantoms = find(FindingName.PHANTOM, never_sent & seen.delivered)
    yield _add(reported(FindingName.PHANTOM), phantoms)
    if queue.only_consumer:
        yield reported(FindingName.REORDERED, lambda incident: _same_channel(evidence, incident))
    if queue.routed:
        yield reported(FindingName.MISROUTED)
    else:
        yield find(FindingName.MISROUTED, seen.delivered)
    yield reported(FindingName.FOREIGN)
    yield reported(FindingName.CORRUPTED)
    if not queue.drain.proven:
        yield Finding(
            FindingName.STUCK,
            max(1, queue.drain.ready),
            FINDINGS[FindingName.STUCK],
            queue.name,
            detail=queue.drain.detail,
        )


def _removable(removals: Sequence[Removal], most: int) -> int:
    """Return how many messages the recorded causes can have removed together."""
    return sum(most if removal.at_most is None else removal.at_most for removal in removals)


@dataclass(frozen=True, eq=False)
class _Seen:
    """The deliveries of one queue, merged over its consumers: arrays over all messages."""

    delivered: BoolArray
    unflagged_again: npt.NDArray[np.int16]
    flagged_again: npt.NDArray[np.int16]
    after_ack: BoolArray

    @classmethod
    def merge(cls, consumers: Sequence[ConsumerEvidence], size: int) -> _Seen:
        """Separate first deliveries from later ones, by when each consumer had its first.

        A consumer's own later deliveries are certain; between consumers, whoever was earlier had
        the message first.
        """
        total = np.zeros(size, np.int16)
        flagged = np.zeros(size, np.int16)
        first_ns = np.full(size, np.iinfo(np.int64).max)
        first_flagged = np.zeros(size, np.bool_)
        for consumer in consumers:
            here = consumer.delivered > 0
            total += consumer.delivered
            # A writer that was killed may have left a flag without its delivery.
            flagged += np.where(here, consumer.redelivered & ~np.uint8(FIRST_REDELIVERED), 0)
            earlier = here & (consumer.first_ns < first_ns)
            first_ns[earlier] = consumer.first_ns[earlier]
            first_flagged[earlier] = consumer.redelivered[earlier] & FIRST_REDELIVERED != 0
        delivered = total > 0
        after_ack = np.zeros(size, np.bool_)
        if len(consumers) > 1:
            for consumer in consumers:
                # Of one that it received twice it is not known which delivery it acknowledged.
                done = consumer.delivered == 1
                done &= np.isin(consumer.acked, np.asarray(consumer.closed_channels, np.uint8))
                for other in consumers:
                    if other is not consumer:
                        again = (other.redelivered > 0) & (other.first_ns > consumer.first_ns)
                        after_ack |= done & again
        return cls(
            delivered=delivered,
            unflagged_again=total - flagged - (delivered & ~first_flagged),
            flagged_again=flagged - (delivered & first_flagged),
            after_ack=after_ack,
        )


def _incidents(consumers: Sequence[ConsumerEvidence], name: str) -> Iterator[Incident]:
    """Yield the incidents of one finding, once for each message that it is about.

    What is not acknowledged comes again on the next channel, and to the next consumer: the same
    message counts as often as the one channel that received it most often. Each "redelivered after
    ack" counts by itself.
    """
    incidents = [
        (number, incident)
        for number, consumer in enumerate(consumers)
        for incident in consumer.incidents
        if incident.finding == name
    ]
    if name is FindingName.REDELIVERED_AFTER_ACK:
        yield from (incident for _, incident in incidents)
        return
    channels: dict[tuple[int, int], Counter[Incident]] = {}
    for number, incident in incidents:
        channel = channels.setdefault((number, incident.channel), Counter())
        channel[replace(incident, at_ns=0, channel=0)] += 1
    left = reduce(or_, channels.values(), Counter[Incident]())
    for _, incident in incidents:
        same = replace(incident, at_ns=0, channel=0)
        if left[same]:
            left[same] -= 1
            yield incident


def _sent_once(evidence: Evidence, incident: Incident) -> bool:
    """Whether the message of an incident was published once."""
    assert incident.producer is not None
    assert incident.sequence is not None
    return not evidence.producers[incident.producer].state[incident.sequence] & SENT_AGAIN


def _same_channel(evidence: Evidence, incident: Incident) -> bool:
    """Whether a late message and the one it was late for were published on one channel."""
    assert incident.producer is not None
    assert incident.sequence is not None
    producer = evidence.producers[incident.producer]
    if producer.channel_starts is None:
        return False
    assert incident.behind is not None
    pair = (incident.sequence, incident.behind)
    if any(producer.state[s] & SENT_AGAIN for s in pair):
        return False
    early, late = np.searchsorted(producer.channel_starts, pair, side="right")
    return bool(early == late)


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


def _name_incident(evidence: Evidence, queue: str, incident: Incident) -> NamedMessage:
    producer, sequence = incident.producer, incident.sequence
    if producer is None or sequence is None:
        return NamedMessage(queue, None, None, None, None, incident.detail)
    sent_ns = None
    if producer < len(evidence.producers):
        sent = evidence.producers[producer].sent_ns
        sent_ns = int(sent[sequence]) or None if sequence < len(sent) else None
    detail = incident.detail
    if incident.finding is FindingName.REORDERED:
        detail = f"after sequence {incident.behind}"
    message_id = evidence.recipe.message_id(producer, sequence)
    return NamedMessage(queue, producer, sequence, message_id, sent_ns, detail)


def _add(one: Finding, other: Finding) -> Finding:
    messages = (one.messages + other.messages)[:_NAMED]
    return replace(one, count=one.count + other.count, messages=messages)
