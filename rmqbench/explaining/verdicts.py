"""Explain a verdict: each of its findings, and each reason for which it is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from rmqbench.explaining.commands import explain_message, run_again
from rmqbench.explaining.facts import Facts, span
from rmqbench.explaining.meanings import MEANINGS, page_of_removal
from rmqbench.explaining.reasons import what_settles
from rmqbench.run_directory.records import RunRecord
from rmqbench.verdict.findings import Effect, Explanation, Finding, FindingName, Verdict

__all__ = ["explained", "open_question"]

_MOST_CAUSES = 3


def explained(record: RunRecord, verdict: Verdict) -> Verdict:
    """Return the verdict on a run, with the explanations of all that it says."""
    facts = Facts(record, verdict)
    findings = tuple(_explain(facts, finding) for finding in verdict.findings)
    return replace(verdict, explanations=(*findings, *_open_questions(facts)))


def open_question(reason: str) -> Explanation:
    """Return a reason for which a verdict is open, with what would settle it."""
    return Explanation(about=reason, meaning=what_settles(reason))


def in_words(finding: Finding) -> str:
    """Return a finding as a verdict says it."""
    return f"{finding.count} {finding.name}" + (f" in {finding.queue}" if finding.queue else "")


def _explain(facts: Facts, finding: Finding) -> Explanation:
    meaning = MEANINGS[finding.name]
    found = (cause for ask in meaning.causes for cause in ask(facts, finding))
    page = meaning.page
    if finding.name is FindingName.REMOVED and (queue := facts.queue_of(finding)):
        removals = queue.evidence.effective_removals
        page = page_of_removal(removals[0].cause) if removals else page
    look_at = meaning.look_at.format(
        log=facts.broker_log, when=_when(facts, finding), queue=finding.queue or "a queue"
    )
    return Explanation(
        about=in_words(finding),
        meaning=meaning.sentence if facts.confirms else meaning.unconfirmed or meaning.sentence,
        finding=finding,
        promise=meaning.weaker if meaning.weaker and _gave_up(facts, finding) else meaning.promise,
        page=page,
        causes=tuple(islice(found, _MOST_CAUSES)),
        look_at=look_at,
        command=_next(facts, finding, again=meaning.again),
    )


def _gave_up(facts: Facts, finding: Finding) -> bool:
    """Whether the run's own settings give up a part of what RabbitMQ promises to keep."""
    queue = facts.queue_of(finding)
    kept = facts.confirms and (facts.recipe.persistent or (queue and queue.kind == "quorum"))
    return not kept or (queue is not None and (queue.auto_ack or not queue.durable))


def _next(facts: Facts, finding: Finding, *, again: bool) -> str:
    if (
        again
        and finding.effect is Effect.FAILS
        and (command := run_again(facts.record.description))
    ):
        return command
    named = (each.message_id for each in finding.messages if each.message_id is not None)
    message_id = next(named, None)
    return explain_message(facts.record.directory.path, message_id) if message_id else ""


def _when(facts: Facts, finding: Finding) -> str:
    """Return when to look at the broker's log: when these were sent, or the node restarted."""
    times = [each.sent_ns for each in finding.messages if each.sent_ns]
    if finding.name is FindingName.UNSENT:
        times = [each.end.time_ns for each in facts.record.producers if each.end]
    sent_ns = facts.concerned_sent_ns(finding)
    if sent_ns is not None:
        sent_ns = sent_ns[sent_ns > 0]
        times = [int(sent_ns.min()), int(sent_ns.max())] if len(sent_ns) else times
    restarts = [span([each.after_ns]) for each in facts.restarts[-1:]]
    sent = span(times or [facts.began_ns])
    return " and ".join(dict.fromkeys([sent, *restarts]))


def _open_questions(facts: Facts) -> Iterator[Explanation]:
    """Yield what would settle each reason that is neither a failing finding nor a trouble."""
    known = {in_words(each) for each in facts.verdict.findings}
    known |= set(facts.record.evidence.troubles)
    for reason in _unlike(facts.verdict.reasons, known):
        yield open_question(reason)


def _unlike(reasons: Sequence[str], known: set[str]) -> Iterator[str]:
    return (reason for reason in dict.fromkeys(reasons) if reason not in known)
