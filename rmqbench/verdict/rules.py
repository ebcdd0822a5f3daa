"""Judge a run: compare what became of each publish with what each queue delivered.

Pure functions over arrays. Nothing is inferred from counters, rates or the Management API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rmqbench.text import visible
from rmqbench.verdict.evidence import (
    ConsumerEvidence,
    Evidence,
    ProducerEvidence,
    QueueEvidence,
    Removal,
)
from rmqbench.verdict.ledger import (
    CONFIRMED,
    FIRST_REDELIVERED,
    NACKED,
    RETURNED,
    SENT,
    SENT_AGAIN,
    Incident,
)

__all__ = [
    "FINDINGS",
    "OUTCOMES",
    "Finding",
    "NamedMessage",
    "Verdict",
    "VerdictError",
    "judge",
]

Effect = Literal["fails", "allowed", "inconclusive"]
Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]
BoolArray = npt.NDArray[np.bool_]

OUTCOMES: Mapping[str, Effect] = {
    "nacked": "fails",
    "returned": "fails",
    "indeterminate": "fails",
    "unsent": "fails",
}
"""Outcomes of a publish other than confirmed; a scenario with a fault expects some of them."""

FINDINGS: Mapping[str, Effect] = {
    "lost": "fails",
    "removed": "fails",
    "corrupted": "fails",
    "duplicate": "fails",
    "redelivered": "allowed",
    "redelivered after ack": "fails",
    "reordered": "fails",
    "misrouted": "fails",
    "phantom": "fails",
    "foreign": "allowed",
    "survived": "allowed",
    "vanished": "allowed",
    "nacked but delivered": "allowed",
    "stuck": "inconclusive",
}
"""Every finding about a queue, and what it does to the verdict by default."""

_NAMED = 5  # messages named for each finding


@dataclass(frozen=True, slots=True)
class NamedMessage:
    """One message that a finding is about; the fields that cannot be known are None."""

    queue: str | None
    producer: int | None
    sequence: int | None
    message_id: str | None
    sent_ns: int | None
    detail: str = ""

    def __str__(self) -> str:
        """Name the message in one line, as a failing verdict shows it."""
        parts = []
        if self.queue is not None:
            parts.append(f"queue {self.queue}")
        if self.sequence is not None:
            parts.append(f"producer {self.producer} sequence {self.sequence}")
            parts.append(f"message_id {self.message_id}")
        if self.sent_ns:
            parts.append(f"sent at {np.datetime64(self.sent_ns, 'ns')}Z")
        if self.detail:
            parts.append(self.detail)
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Finding:
    """One name of the table, how often it was found, and the first messages it is about."""

    name: str
    count: int
    effect: Effect
    queue: str | None = None
    messages: tuple[NamedMessage, ...] = ()
    detail: str = ""


class VerdictError(AssertionError):
    """A run that was required to pass did not; the text is the whole verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


@dataclass(frozen=True)
class Verdict:
    """PASS, FAIL or INCONCLUSIVE, and why.

    ``findings`` holds only what was found (counts above 0). ``evidence_at`` says where the
    evidence lies.
    """

    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()
    evidence_at: str = ""

    @property
    def passed(self) -> bool:
        """Whether the outcome is PASS."""
        return self.outcome == "PASS"

    @property
    def exit_code(self) -> int:
        """The command line's exit code: 0 pass, 1 fail, 3 inconclusive."""
        return {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[self.outcome]

    def count(self, name: str, queue: str | None = None) -> int:
        """Sum the count of one finding, over all queues or of one.

        The outcome of a publish (``unsent``, …) is counted once, not once a queue.
        """
        if name not in FINDINGS and name not in OUTCOMES:
            raise KeyError(f"{name!r} is no finding; there are {', '.join(_ALL)}")
        if name in OUTCOMES:
            queue = None
        return sum(f.count for f in self.findings if f.name == name and queue in (None, f.queue))

    def counts(self, queue: str | None = None) -> dict[str, int]:
        """Give a number for every name there is, over all queues or of one."""
        return {name: self.count(name, queue) for name in _ALL}

    def found(self, queue: str | None = None) -> dict[str, int]:
        """Give only what was found, as :meth:`counts` does."""
        return {name: count for name, count in self.counts(queue).items() if count}

    def require_pass(self) -> None:
        """Raise VerdictError (an AssertionError) unless the outcome is PASS."""
        if not self.passed:
            raise VerdictError(self)

    def __str__(self) -> str:
        """Tell the outcome, its reasons, and the first few messages of each finding."""
        lines = [f"{self.outcome}: " + ("; ".join(self.reasons) or "nothing was found")]
        for finding in self.findings:
            where = f" in {finding.queue}" if finding.queue else ""
            why = "" if finding.effect == "fails" else f" ({finding.effect})"
            detail = f": {finding.detail}" if finding.detail else ""
            lines.append(f"  {finding.count} {finding.name}{where}{why}{detail}")
            lines += [f"    {message}" for message in finding.messages]
            if finding.messages and finding.count > len(finding.messages):
                lines.append(f"    … and {finding.count - len(finding.messages)} more")
        if self.evidence_at:
            lines.append(f"  The evidence lies in {self.evidence_at}")
        return visible("\n".join(lines))


_ALL = (*OUTCOMES, *FINDINGS)


def judge(evidence: Evidence, *, allowed: Iterable[str] = (), evidence_at: str = "") -> Verdict:
    """Judge a run by its evidence.

    ``allowed`` names findings that fail by default and that this scenario expects.
    """
    allowed = frozenset(allowed)
    unknown = allowed - set(_ALL)
    if unknown:
        raise KeyError(f"no such finding: {', '.join(sorted(unknown))}")
    findings = [
        *_judge_outcomes(evidence),
        *(f for queue in evidence.queues for f in _judge_queue(evidence, queue)),
    ]
    findings = [_with_effect(f, allowed) for f in findings if f.count]
    failing = [f for f in findings if f.effect == "fails"]
    open_questions = [
        *evidence.missing,
        *(
            f"queue {q.name} was not drained: {q.drain.detail}"
            for q in evidence.queues
            if not q.drain.proven
        ),
    ]
    outcome: Outcome = "PASS"
    reasons = [f"{f.count} {f.name}" + (f" in {f.queue}" if f.queue else "") for f in failing]
    if failing:
        outcome = "FAIL"
    elif open_questions:
        outcome = "INCONCLUSIVE"
    return Verdict(
        outcome=outcome,
        findings=tuple(findings),
        reasons=(*reasons, *open_questions, *(evidence.troubles if outcome != "PASS" else ())),
        evidence_at=evidence_at,
    )


def _with_effect(finding: Finding, allowed: frozenset[str]) -> Finding:
    if finding.effect != "fails" or finding.name not in allowed:
        return finding
    return replace(finding, effect="allowed")


def _judge_outcomes(evidence: Evidence) -> Iterator[Finding]:
    for name, masks in _outcomes(evidence.producers).items():
        if name == "confirmed":
            continue
        where = np.flatnonzero(masks)
        yield Finding(
            name,
            len(where),
            OUTCOMES[name],
            messages=tuple(_name(evidence, None, int(p)) for p in where[:_NAMED]),
        )


def _outcomes(producers: Sequence[ProducerEvidence]) -> dict[str, BoolArray]:
    """Give a mask for each outcome of a publish, over all producers' messages in a row."""
    state = np.concatenate([p.state for p in producers])
    sent = state & SENT != 0
    returned = state & RETURNED != 0
    nacked = (state & NACKED != 0) & ~returned
    confirmed = (state & CONFIRMED != 0) & ~returned & ~nacked
    return {
        "nacked": nacked,
        "returned": returned,
        "indeterminate": sent & ~returned & ~nacked & ~confirmed,
        "unsent": ~sent,
        "confirmed": confirmed,
    }


def _judge_queue(evidence: Evidence, queue: QueueEvidence) -> Iterator[Finding]:
    outcomes = _outcomes(evidence.producers)
    state = np.concatenate([p.state for p in evidence.producers])
    seen = _Seen.merge(queue.consumers, len(state))

    def find(name: str, mask: BoolArray, counts: npt.NDArray[Any] | None = None) -> Finding:
        where = np.flatnonzero(mask)
        count = len(where) if counts is None else int(counts[mask].sum())
        return Finding(
            name,
            count,
            FINDINGS[name],
            queue.name,
            tuple(_name(evidence, queue.name, int(place)) for place in where[:_NAMED]),
        )

    def tell(name: str, counts: Callable[[Incident], bool] = lambda _: True) -> Finding:
        found = [i for i in _incidents(queue.consumers, name) if counts(i)]
        return Finding(
            name,
            len(found),
            FINDINGS[name],
            queue.name,
            tuple(_name_incident(evidence, queue.name, i) for i in found[:_NAMED]),
        )

    missing = outcomes["confirmed"] & ~seen.delivered
    if queue.routed and queue.drain.proven:
        total = int(np.count_nonzero(missing))
        removed = min(total, _removable(queue.removals, total))
        causes = "; ".join(removal.cause for removal in queue.removals)
        where = _where(missing, evidence.producers)
        if 0 < removed < total:
            where = f"which of these {total} were removed is not known"
        yield replace(find("removed", missing), count=removed, detail=causes)
        yield replace(find("lost", missing), count=total - removed, detail=where)
    if queue.routed:
        yield find("survived", outcomes["indeterminate"] & seen.delivered)
        if queue.drain.proven:
            yield find("vanished", outcomes["indeterminate"] & ~seen.delivered)
        yield find("nacked but delivered", outcomes["nacked"] & seen.delivered)
    twice = (state & SENT_AGAIN != 0) & (seen.unflagged_again > 0)
    duplicates = seen.unflagged_again - twice
    yield find("duplicate", duplicates > 0, duplicates)
    yield find("redelivered", seen.flagged_again > 0, seen.flagged_again)
    # Of a message that was published twice the other copy may have been acknowledged.
    once = state & SENT_AGAIN == 0
    yield _add(
        tell("redelivered after ack", lambda incident: _sent_once(evidence, incident)),
        find("redelivered after ack", seen.after_ack & once),
    )
    yield _add(tell("phantom"), find("phantom", outcomes["unsent"] & seen.delivered))
    if queue.only_consumer:
        yield tell("reordered", lambda incident: _same_channel(evidence, incident))
    yield tell("misrouted") if queue.routed else find("misrouted", seen.delivered)
    yield tell("foreign")
    yield tell("corrupted")
    if not queue.drain.proven:
        yield Finding(
            "stuck",
            max(1, queue.drain.ready),
            FINDINGS["stuck"],
            queue.name,
            detail=queue.drain.detail,
        )


def _removable(removals: Sequence[Removal], most: int) -> int:
    """Count the messages that the recorded causes can have removed together."""
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
        """Tell first deliveries from later ones by the time at which each consumer had its first.

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
    """Give the incidents of one finding, once for each message that it is about.

    What is not acknowledged comes again on the next channel, and to the next consumer: as often as
    one channel received the same, there is of it. Each "redelivered after ack" is one of its own.
    """
    incidents = [
        (number, incident)
        for number, consumer in enumerate(consumers)
        for incident in consumer.incidents
        if incident.finding == name
    ]
    if name == "redelivered after ack":
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
    """Tell whether the message of an incident was published once."""
    assert incident.producer is not None
    assert incident.sequence is not None
    return not evidence.producers[incident.producer].state[incident.sequence] & SENT_AGAIN


def _same_channel(evidence: Evidence, incident: Incident) -> bool:
    """Tell whether a late message and the one it was late for were published on one channel."""
    assert incident.producer is not None
    assert incident.sequence is not None
    producer = evidence.producers[incident.producer]
    if producer.channel_starts is None:
        return False
    pair = (incident.sequence, int(incident.detail))
    if any(producer.state[s] & SENT_AGAIN for s in pair):
        return False
    early, late = np.searchsorted(producer.channel_starts, pair, side="right")
    return bool(early == late)


def _where(missing: BoolArray, producers: Sequence[ProducerEvidence]) -> str:
    """Say whether what is missing is at the start, in the middle or at the end of what was sent."""
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
    if incident.finding == "reordered":
        detail = f"after sequence {detail}"
    message_id = evidence.recipe.message_id(producer, sequence)
    return NamedMessage(queue, producer, sequence, message_id, sent_ns, detail)


def _add(one: Finding, other: Finding) -> Finding:
    messages = (one.messages + other.messages)[:_NAMED]
    return replace(one, count=one.count + other.count, messages=messages)
