"""What can be found, what each finding does to the verdict, and the verdict itself: values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from rmqbench.text import counted, utc, visible, visible_line

__all__ = [
    "FINDINGS",
    "OUTCOMES",
    "Effect",
    "Explanation",
    "Finding",
    "FindingName",
    "Judgement",
    "NamedMessage",
    "Verdict",
    "VerdictError",
]


class Effect(StrEnum):
    """What a finding does to the verdict."""

    FAILS = "fails"
    ALLOWED = "allowed"
    INCONCLUSIVE = "inconclusive"


class FindingName(StrEnum):
    """The name of a finding: the outcome of a publish that is not confirmed, or of a queue."""

    NACKED = "nacked"
    RETURNED = "returned"
    INDETERMINATE = "indeterminate"
    UNSENT = "unsent"
    CONTRADICTED = "contradicted"

    LOST = "lost"
    REMOVED = "removed"
    CORRUPTED = "corrupted"
    DUPLICATE = "duplicate"
    REDELIVERED = "redelivered"
    REDELIVERED_AFTER_ACK = "redelivered after ack"
    REPEATED = "repeated"
    REORDERED = "reordered"
    MISROUTED = "misrouted"
    PHANTOM = "phantom"
    FOREIGN = "foreign"
    SURVIVED = "survived"
    VANISHED = "vanished"
    NACKED_BUT_DELIVERED = "nacked but delivered"
    STUCK = "stuck"
    UNSERVED = "unserved"


class Judgement(StrEnum):
    """What a verdict comes to."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


OUTCOMES: Mapping[FindingName, Effect] = MappingProxyType(
    {
        FindingName.NACKED: Effect.FAILS,
        FindingName.RETURNED: Effect.FAILS,
        FindingName.INDETERMINATE: Effect.FAILS,
        FindingName.UNSENT: Effect.FAILS,
        FindingName.CONTRADICTED: Effect.FAILS,
    }
)
"""Outcomes of a publish other than confirmed; a scenario with a fault expects some of them.

One that is contradicted has another outcome, too: the broker said two things of it.
"""

FINDINGS: Mapping[FindingName, Effect] = MappingProxyType(
    {
        FindingName.LOST: Effect.FAILS,
        FindingName.REMOVED: Effect.FAILS,
        FindingName.CORRUPTED: Effect.FAILS,
        FindingName.DUPLICATE: Effect.FAILS,
        FindingName.REDELIVERED: Effect.ALLOWED,
        FindingName.REDELIVERED_AFTER_ACK: Effect.FAILS,
        FindingName.REPEATED: Effect.FAILS,
        FindingName.REORDERED: Effect.FAILS,
        FindingName.MISROUTED: Effect.FAILS,
        FindingName.PHANTOM: Effect.FAILS,
        FindingName.FOREIGN: Effect.INCONCLUSIVE,
        FindingName.SURVIVED: Effect.ALLOWED,
        FindingName.VANISHED: Effect.ALLOWED,
        FindingName.NACKED_BUT_DELIVERED: Effect.ALLOWED,
        FindingName.STUCK: Effect.INCONCLUSIVE,
        FindingName.UNSERVED: Effect.FAILS,
    }
)
"""Every finding about a queue, and what it does to the verdict by default."""

_ALL = (*OUTCOMES, *FINDINGS)
_EXIT_CODES = {Judgement.PASS: 0, Judgement.FAIL: 1, Judgement.INCONCLUSIVE: 3}
_OUTCOMES_UNKNOWN = 5  # the exit code of a FAIL in which nothing is known to be lost
_UNKNOWN = frozenset({FindingName.INDETERMINATE, FindingName.UNSENT})
_ARRIVED_OR_NOT = frozenset({FindingName.SURVIVED, FindingName.VANISHED})
_WHAT_TO_DO = (
    "Where the broker was away, or did not answer in time, publish again what is unknown "
    "(--publish-again, publish_again=True), or give the broker more time to come back (stall_s)."
)
_EXPLAINED = 3  # how many findings, or reasons, are explained in the text of a verdict


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
            parts.append(f"sent at {utc(self.sent_ns)}")
        if self.detail:
            parts.append(self.detail)
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Finding:
    """One name of the table, how often it was found, and the first messages it is about."""

    name: FindingName
    count: int
    effect: Effect
    queue: str | None = None
    messages: tuple[NamedMessage, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one finding means, or one reason for which a verdict is open (``finding`` is None).

    ``about`` is the finding or the reason in words. ``meaning`` is a sentence; of a reason it says
    what would make the verdict conclusive. ``promise`` is what RabbitMQ promises, ``page`` where it
    does. ``causes`` are those that the evidence shows, the most telling one first. ``look_at`` says
    where to look, ``command`` is what to type next ("": nothing).
    """

    about: str
    meaning: str
    finding: Finding | None = None
    promise: str = ""
    page: str = ""
    causes: tuple[str, ...] = ()
    look_at: str = ""
    command: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as it stands in ``result.json``."""
        finding = self.finding
        return {
            "about": self.about,
            "finding": finding.name.value if finding else None,
            "queue": finding.queue if finding else None,
            "effect": finding.effect.value if finding else None,
            "meaning": self.meaning,
            "promise": self.promise,
            "page": self.page,
            "causes": list(self.causes),
            "look_at": self.look_at,
            "command": self.command,
        }

    def lines(self) -> Iterator[str]:
        """Yield the least that has to be said: at most three lines."""
        if self.finding is None:
            yield f"Needed for a verdict: {self.meaning}"
        else:
            yield self.meaning
            if self.causes:
                yield f"Likely: {self.causes[0]}"
            elif self.look_at:
                yield f"Nothing in the evidence explains it. Look at {self.look_at}."
        if self.command:
            yield f"Next: {self.command}"
        elif self.causes and self.look_at:
            yield f"Next: look at {self.look_at}."


class VerdictError(AssertionError):
    """A run that was required to pass did not; the text is the whole verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


@dataclass(frozen=True)
class Verdict:
    """PASS, FAIL or INCONCLUSIVE, and why.

    ``findings`` holds only what was found (counts above 0). ``evidence_at`` is where the evidence
    lies. ``explanations`` are of each finding, in the same order, then of the reasons for which it
    is open; they decide nothing.
    """

    outcome: Judgement
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()
    evidence_at: str = ""
    explanations: tuple[Explanation, ...] = field(default=(), compare=False, repr=False)

    @property
    def passed(self) -> bool:
        """Whether the outcome is PASS."""
        return self.outcome is Judgement.PASS

    @property
    def exit_code(self) -> int:
        """The command line's exit code: 0 pass, 1 fail, 3 inconclusive, 5 outcomes unknown."""
        return _OUTCOMES_UNKNOWN if self.outcomes_unknown else _EXIT_CODES[self.outcome]

    @property
    def outcomes_unknown(self) -> bool:
        """Whether it fails only by what was not sent, or by publishes whose outcome is not known.

        The broker was away, for example, or did not answer in time: nothing is known to be lost.
        """
        return self.outcome is Judgement.FAIL and {f.name for f in self._failing} <= _UNKNOWN

    def count(self, name: str, queue: str | None = None) -> int:
        """Return the count of one finding, over all queues or of one.

        The outcome of a publish (``unsent``, …) is counted once, not once a queue. Raise KeyError
        for what is no finding.
        """
        if name not in _ALL:
            raise KeyError(f"{name!r} is no finding; there are {', '.join(_ALL)}")
        if name in OUTCOMES:
            queue = None
        return sum(f.count for f in self.findings if f.name == name and queue in (None, f.queue))

    def counts(self, queue: str | None = None) -> dict[str, int]:
        """Return a number for every name there is, over all queues or of one."""
        return {name.value: self.count(name, queue) for name in _ALL}

    def found(self, queue: str | None = None) -> dict[str, int]:
        """Return only what was found, as :meth:`counts` does."""
        return {name: count for name, count in self.counts(queue).items() if count}

    def left_open(self, why: Explanation) -> Verdict:
        """Return this verdict with one more reason for which it cannot be a pass."""
        return replace(
            self,
            outcome=Judgement.INCONCLUSIVE if self.passed else self.outcome,
            reasons=(*self.reasons, why.about),
            explanations=(*self.explanations, why),
        )

    def require_pass(self) -> None:
        """Raise VerdictError (an AssertionError) unless the outcome is PASS."""
        if not self.passed:
            raise VerdictError(self)

    def __str__(self) -> str:
        """Write the outcome, its reasons, and the first few messages of each finding."""
        lines = [f"{self.outcome}: {self.why}"]
        explained = self._explained()
        for finding in self.findings:
            where = f" in {finding.queue}" if finding.queue else ""
            why = "" if finding.effect is Effect.FAILS else f" ({finding.effect})"
            detail = f": {finding.detail}" if finding.detail else ""
            lines.append(f"  {finding.count} {finding.name}{where}{why}{detail}")
            lines += [f"    {message}" for message in finding.messages]
            if finding.messages and finding.count > len(finding.messages):
                lines.append(f"    … and {finding.count - len(finding.messages)} more")
            lines += [f"    {line}" for line in explained.get(finding, ())]
        lines += [f"  {line}" for line in explained.get(None, ())]
        if self.outcomes_unknown:
            lines.append(f"  {_WHAT_TO_DO}")
        if self.evidence_at:
            lines.append(f"  The evidence lies in {self.evidence_at}")
        return visible("\n".join(lines))

    @property
    def why(self) -> str:
        """The reasons for the outcome, in a line."""
        reasons = [*self._in_words(), *self.reasons]
        if self.outcomes_unknown:  # said in words
            counts = {f"{f.count} {f.name}" for f in self._failing}
            reasons = [reason for reason in reasons if reason not in counts]
        otherwise = "what was found is allowed" if self.findings else "nothing was found"
        return "; ".join(reasons) or otherwise

    def _explained(self) -> dict[Finding | None, list[str]]:
        """Return the lines that explain the first few findings that fail, else the open reasons.

        What is true of two queues alike is said of the first.
        """
        wanted = Effect.FAILS if self.outcome is Judgement.FAIL else None
        alike: dict[object, Explanation] = {}
        for each in self.explanations:
            if (each.finding.effect if each.finding else None) is wanted:
                name = each.finding and each.finding.name
                alike.setdefault((name, each.meaning, each.causes[:1]), each)
        said: dict[Finding | None, list[str]] = {}
        for each in [*alike.values()][:_EXPLAINED]:
            said.setdefault(each.finding, []).extend(map(visible_line, each.lines()))
        return said

    @property
    def _failing(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.effect is Effect.FAILS)

    def _in_words(self) -> Iterator[str]:
        """Describe outcomes that are not known, and how many of these messages arrived."""
        if not self.outcomes_unknown:
            return
        if unknown := self.count(FindingName.INDETERMINATE):
            queues = [f.queue for f in self.findings if f.name in _ARRIVED_OR_NOT]
            arrived = {q: self.count(FindingName.SURVIVED, q) for q in dict.fromkeys(queues)}
            publishes = counted(unknown, "publish", "publishes")
            yield f"the outcome of {publishes} is unknown{_how_many(arrived)}"
        if unsent := self.count(FindingName.UNSENT):
            yield f"{counted(unsent, 'message was', 'messages were')} not sent"
        yield "nothing is known to be lost"


def _how_many(arrived: Mapping[str | None, int]) -> str:
    """Return in brackets how many messages arrived in each queue, or in all of them alike."""
    if not arrived:
        return ""
    (first, count), *others = arrived.items()
    if set(arrived.values()) == {count}:
        return f" ({count} of them arrived)"
    rest = "".join(f", {count} in {queue}" for queue, count in others)
    return f" ({count} of them arrived in {first}{rest})"
