"""Judge a run: compare what became of each publish with what each queue delivered.

Pure functions over arrays. Nothing is inferred from counters, rates or the Management API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import count_where
from rmqbench.text import counted, grouped
from rmqbench.verdict.deliveries import Altered, BoolArray, QueueDeliveries, Sends
from rmqbench.verdict.evidence import (
    CONFIRMED,
    NACKED,
    REDELIVERED,
    RETURNED,
    SENT,
    ConsumerEvidence,
    Evidence,
    Incident,
    QueueEvidence,
    Unserved,
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
from rmqbench.verdict.missing import Missing
from rmqbench.verdict.order import late_deliveries
from rmqbench.verdict.parts import ConsumerParts, Part, Parts

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
    parts = Parts(evidence)
    outcomes = _OutcomeJudge(evidence)
    queues = [_QueueJudge(evidence, queue, parts.count) for queue in evidence.queues]
    for part in parts:
        if part.let_go is not None and all(each.passes(part) for each in queues):
            continue
        # First what was received: of a run that is under way it was sent by now, or never was.
        received = [each.received(part) for each in queues]
        now = part.as_of_now()
        masks = _outcomes(now)
        outcomes.take(now, masks)
        sends = Sends(evidence.recipe, now)
        for each, consumers in zip(queues, received, strict=True):
            each.take(sends, consumers, masks)
    findings = [*outcomes.findings(), *(found for each in queues for found in each.findings())]
    findings = [_with_effect(f, allowed) for f in findings if f.count]
    failing = [f for f in findings if f.effect is Effect.FAILS]
    silent = [number for number, each in enumerate(evidence.producers) if not each.ended]
    open_questions = [
        *_of_silent(silent),
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
    return {
        queue.name: int(late_deliveries(evidence, queue).flagged.sum()) if _has_flags(queue) else 0
        for queue in evidence.queues
    }


def _has_flags(queue: QueueEvidence) -> bool:
    """Whether any delivery of a queue may have had the flag: without one, none need be ordered."""
    return any(
        len(each.again) or count_where(each.state, lambda state: state & REDELIVERED)
        for each in queue.consumers
    )


def _of_silent(producers: Sequence[int]) -> Iterator[str]:
    if producers:
        who = grouped(f"producer {number}" for number in producers)
        its, it = ("its", "it") if len(producers) == 1 else ("their", "they")
        yield (
            f"{who} did not record {its} end: what {it} did not send, and what {it} did not hear "
            "of, is not judged"
        )


def _with_effect(finding: Finding, allowed: frozenset[str]) -> Finding:
    if finding.effect is not Effect.FAILS or finding.name not in allowed:
        return finding
    return replace(finding, effect=Effect.ALLOWED)


@dataclass(frozen=True, eq=False)
class _Outcomes:
    """Masks over the messages of a part: which were confirmed, and what of the others."""

    confirmed: BoolArray
    others: dict[FindingName, BoolArray]


def _outcomes(part: Part) -> _Outcomes:
    state = part.producer.state
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
            FindingName.UNSENT: ~sent & (np.arange(len(part)) < (part.producer.wanted or 0)),
        },
    )


@dataclass(eq=False)
class _Found:
    """How often something was found so far, and the places of the first messages."""

    count: int = 0
    places: list[int] = field(default_factory=list)

    def add(self, part: Part, counts: npt.NDArray[Any]) -> None:
        """Add what was found in a part: whether, or how often, of each message."""
        where = np.flatnonzero(counts)
        if len(where):
            self.count += int(counts[where].sum())
            self.places += (part.start + where[: _NAMED - len(self.places)]).tolist()


class _OutcomeJudge:
    """Judges what became of the publishes."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._found = {(name, ended): _Found() for name in OUTCOMES for ended in (True, False)}

    def take(self, part: Part, outcomes: _Outcomes) -> None:
        """Judge a part."""
        for name, mask in outcomes.others.items():
            self._found[name, part.producer.ended].add(part, mask)

    def findings(self) -> Iterator[Finding]:
        """Yield every finding, counts of 0 included."""
        for (name, ended), found in self._found.items():
            # Of a producer that did not record its end the rest is not known.
            known = ended or name in _SAID_BY_BROKER
            effect = OUTCOMES[name] if known else Effect.INCONCLUSIVE
            messages = tuple(_name(self._evidence, None, place) for place in found.places)
            yield Finding(name, found.count, effect, messages=messages)
        name = FindingName.CONTRADICTED
        told = [
            incident
            for producer in self._evidence.producers
            for incident in producer.incidents
            if incident.finding is FindingName.CONTRADICTED
        ]
        messages = tuple(_name_incident(self._evidence, None, each) for each in told[:_NAMED])
        yield Finding(name, len(told), OUTCOMES[name], messages=messages)


_COMES_AGAIN = (FindingName.DUPLICATE, FindingName.REPEATED, FindingName.REDELIVERED_AFTER_ACK)


@dataclass(frozen=True, eq=False)
class _Received:
    """What the consumers of a queue have received of a part, and those of its dead letters."""

    consumers: Sequence[ConsumerEvidence]
    dead_letters: Sequence[_Received]


class _QueueJudge:
    """Judges one queue."""

    def __init__(self, evidence: Evidence, queue: QueueEvidence, count: int) -> None:
        """``count`` is the number of all producers' messages."""
        self._evidence = evidence
        self._queue = queue
        self._dead_letters = [_QueueJudge(evidence, each, count) for each in queue.dead_letters]
        self._consumers = ConsumerParts(queue.consumers, count)
        self._found = {name: _Found() for name in FINDINGS}
        self._excused = _Found()  # redelivered after their acknowledgement, with an excuse
        self._owed = _Found()  # of what is missing: delivered, and to be delivered again
        self._missing = Missing(queue.removals)
        self._altered: list[Altered] = []

    def passes(self, part: Part) -> bool:
        """Whether nothing came again of a part that was let go: then there is nothing to judge."""
        if self._consumers.receive_none_of(part):
            self._missing.pass_over(part)
            return True
        return False

    def received(self, part: Part) -> _Received:
        """Return what its consumers have received of a part by now, also of its dead letters."""
        dead_letters = [each.received(part) for each in self._dead_letters]
        return _Received(self._consumers.of(part), dead_letters)

    def take(
        self, sends: Sends, received: _Received, outcomes: _Outcomes
    ) -> tuple[BoolArray, BoolArray]:
        """Judge a part, of which that was :meth:`received`.

        Return with which messages its consumers were through, and which came at all.
        """
        queue, part = self._queue, sends.part
        deliveries = QueueDeliveries(
            sends,
            received.consumers,
            auto_ack=queue.auto_ack,
            close_takes_acks=queue.close_takes_acks,
            rejecting_settles=not self._dead_letters,
        )
        delivered = deliveries.delivered
        if queue.gets_all:
            settled, came = deliveries.settled, delivered
            if self._dead_letters:
                everywhere, anywhere = self._dead_lettered(sends, received, outcomes)
                settled, came = settled | everywhere, delivered | anywhere
            self._judge_publishes(sends, settled, came, outcomes)
            if self._is_drained:
                self._owed.add(part, outcomes.confirmed & ~settled & delivered)
        self._add(FindingName.PHANTOM, part, part.producer.readable & ~sends.sent & delivered)
        self._altered += deliveries.altered_send_times()
        if deliveries.any_repeated:
            self._add(FindingName.DUPLICATE, part, deliveries.duplicates)
            self._add(FindingName.REDELIVERED, part, deliveries.redelivered)
            self._add(FindingName.REPEATED, part, deliveries.repeated)
            after_ack, excused = deliveries.after_ack(self._evidence.restarts)
            self._add(FindingName.REDELIVERED_AFTER_ACK, part, after_ack)
            self._excused.add(part, excused)
        return deliveries.settled, delivered

    @property
    def _is_drained(self) -> bool:
        return all(each.drained for each in (self._queue, *self._queue.dead_letters))

    def _judge_publishes(
        self, sends: Sends, settled: BoolArray, came: BoolArray, outcomes: _Outcomes
    ) -> None:
        """Judge with which messages of a part it was through, and which came out of it at all."""
        part = sends.part
        indeterminate = outcomes.others[FindingName.INDETERMINATE]
        nacked = outcomes.others[FindingName.NACKED]
        if self._is_drained:
            missing = outcomes.confirmed & ~settled
            self._add(FindingName.LOST, part, missing)
            self._missing.add(sends, missing)
            self._add(FindingName.VANISHED, part, indeterminate & ~came)
        self._add(FindingName.SURVIVED, part, indeterminate & came)
        self._add(FindingName.NACKED_BUT_DELIVERED, part, nacked & came)

    def _dead_lettered(
        self, sends: Sends, received: _Received, outcomes: _Outcomes
    ) -> tuple[BoolArray, BoolArray]:
        """Judge the dead letters of a part.

        Return with which all queues that get them are through, and which have come to any of them.
        """
        settled, came = zip(
            *(
                judge.take(sends, each, outcomes)
                for judge, each in zip(self._dead_letters, received.dead_letters, strict=True)
            ),
            strict=True,
        )
        return np.logical_and.reduce(settled), np.logical_or.reduce(came)

    def _add(self, name: FindingName, part: Part, counts: npt.NDArray[Any]) -> None:
        self._found[name].add(part, counts)

    def findings(self) -> Iterator[Finding]:
        """Yield every finding of the queue, counts of 0 included."""
        queue = self._queue
        yield from self._what_is_missing()
        for name in (FindingName.VANISHED, FindingName.SURVIVED, FindingName.NACKED_BUT_DELIVERED):
            yield self._finding(name, self._found[name])
        yield from self._about_deliveries()
        for judge in self._dead_letters:
            for found in judge._about_deliveries():
                # Published until it is confirmed, or before the source's end of it was on its disk.
                # The further copy may be flagged: RabbitMQ 4.3 flags some dead letters at once.
                may_repeat = queue.keeps_dead_letters or bool(self._evidence.restarts)
                is_allowed = may_repeat and found.name in _COMES_AGAIN
                effect = Effect.ALLOWED if is_allowed else found.effect
                detail = "; ".join(filter(None, (f"dead letters of {queue.name}", found.detail)))
                yield replace(found, effect=effect, detail=detail)
        yield self._reordered()
        yield self._reported(FindingName.MISROUTED)
        yield self._reported(FindingName.FOREIGN)
        yield self._unserved()
        if not queue.drain.proven:
            yield Finding(
                FindingName.STUCK,
                max(1, queue.drain.ready),
                FINDINGS[FindingName.STUCK],
                queue.name,
                detail=queue.drain.detail,
            )

    def _about_deliveries(self) -> Iterator[Finding]:
        """Yield what is wrong with what was delivered, whatever should have been."""
        for name in (
            *(FindingName.DUPLICATE, FindingName.REDELIVERED, FindingName.REPEATED),
            FindingName.REDELIVERED_AFTER_ACK,
        ):
            yield self._finding(name, self._found[name])
        yield replace(
            self._finding(FindingName.REDELIVERED_AFTER_ACK, self._excused),
            effect=Effect.ALLOWED,
            detail="the node restarted in between, or may have",
        )
        phantoms = self._finding(FindingName.PHANTOM, self._found[FindingName.PHANTOM])
        yield _add(self._reported(FindingName.PHANTOM), phantoms)
        yield self._reported(FindingName.CORRUPTED, self._altered_in_order())

    def _what_is_missing(self) -> Iterator[Finding]:
        """Yield what of that which is missing a recorded cause can have taken, and what is lost.

        What the queue keeps, and gives to nobody, is neither.
        """
        found, missing = self._found[FindingName.LOST], self._missing
        held = min(self._queue.drain.held, found.count)
        removed = min(missing.removable(), found.count - held)
        causes = "; ".join(each.cause for each in self._queue.effective_removals)
        where = missing.where(self._evidence.producers)
        if 0 < removed < found.count:
            where = f"which of these {found.count} were removed is not known"
        if self._owed.count:
            where += (
                f"; {self._owed.count} of them had been delivered, were not acknowledged, and did "
                "not come again"
            )
        yield replace(self._finding(FindingName.REMOVED, found), count=removed, detail=causes)
        lost = self._finding(FindingName.LOST, found)
        yield replace(lost, count=found.count - removed - held, detail=where)
        unserved = replace(lost, name=FindingName.UNSERVED, count=held)
        yield replace(unserved, detail="the queue keeps them, and dead-letters them no more")

    def _unserved(self) -> Finding:
        """Return how many messages were ready while nobody was given any, for a consumer's time.

        Whom the broker takes for its consumer, who is gone or is another's, may be served.
        """
        name, consumers = FindingName.UNSERVED, self._queue.consumers
        those = [
            each
            for consumer in consumers
            for each in consumer.unserved
            if not any(
                _received_between(one, each) or _broke_off_before(one, each) for one in consumers
            )
            and not self._queue.drain.others
        ]
        longest = max(((each.until_ns - each.since_ns) / 1e9 for each in those), default=0.0)
        return Finding(
            name,
            max((each.ready for each in those), default=0),
            FINDINGS[name],
            self._queue.name,
            detail=f"ready, and no consumer was given any for {longest:g} s",
        )

    def _reordered(self) -> Finding:
        late = late_deliveries(self._evidence, self._queue)
        where = np.flatnonzero(~late.flagged)
        messages = []
        for at in where[:_NAMED].tolist():
            named = _name_message(
                self._evidence, self._queue.name, int(late.producer[at]), int(late.sequence[at])
            )
            messages.append(replace(named, detail=f"after sequence {late.behind[at]}"))
        name = FindingName.REORDERED
        return Finding(name, len(where), FINDINGS[name], self._queue.name, tuple(messages))

    def _finding(self, name: FindingName, found: _Found) -> Finding:
        queue = self._queue.name
        messages = tuple(_name(self._evidence, queue, place) for place in found.places)
        return Finding(name, found.count, FINDINGS[name], queue, messages)

    def _altered_in_order(self) -> list[tuple[int, Incident]]:
        """Return them by consumer: the first deliveries by their messages, the others by time."""
        in_order = sorted(
            self._altered,
            key=lambda each: (each.consumer, each.again, each.again and each.incident.at_ns),
        )
        return [(each.consumer, each.incident) for each in in_order]

    def _reported(self, name: FindingName, also: Sequence[tuple[int, Incident]] = ()) -> Finding:
        found = [*_incidents(self._queue, name, also)]
        queue = self._queue.name
        messages = tuple(_name_incident(self._evidence, queue, each) for each in found[:_NAMED])
        return Finding(name, len(found), FINDINGS[name], queue, messages)


def _received_between(consumer: ConsumerEvidence, unserved: Unserved) -> bool:
    """Whether a consumer received, or may have received, anything while another was unserved."""
    gone = consumer.let_go[consumer.let_go["rows"] > 0]
    spans = (
        (consumer.first_ns, consumer.first_ns),
        (consumer.again["at_ns"], consumer.again["at_ns"]),
        (gone["earliest_ns"], gone["last_ns"]),
    )
    return any(
        bool(((first <= unserved.until_ns) & (last > unserved.since_ns)).any())
        for first, last in spans
    )


def _broke_off_before(consumer: ConsumerEvidence, unserved: Unserved) -> bool:
    """Whether a channel of a consumer was not closed cleanly that was open in that time."""
    return any(
        each.closed_ns is None and each.opened_ns < unserved.until_ns for each in consumer.channels
    )


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


def _name(evidence: Evidence, queue: str | None, place: int) -> NamedMessage:
    """Name the message at a place of the arrays that hold all producers' messages in a row."""
    for number, producer in enumerate(evidence.producers):
        if place < len(producer.state):
            return _name_message(evidence, queue, number, place)
        place -= len(producer.state)
    raise IndexError(place)


def _name_message(
    evidence: Evidence, queue: str | None, producer: int, sequence: int
) -> NamedMessage:
    message_id = evidence.recipe.message_id(producer, sequence)
    sent_ns = int(evidence.producers[producer].sent_ns[sequence]) or None
    return NamedMessage(queue, producer, sequence, message_id, sent_ns)


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
