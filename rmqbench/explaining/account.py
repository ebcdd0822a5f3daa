"""Explain a run by its directory: the whole verdict, and the life of one of its messages."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rmqbench.explaining.facts import Facts, time_of_day
from rmqbench.explaining.lives import Life, life_of, which_message
from rmqbench.explaining.verdicts import explained
from rmqbench.run_directory.reading import read_run
from rmqbench.text import visible_line
from rmqbench.verdict.findings import Effect, Explanation, Verdict
from rmqbench.verdict.rules import judge_evidence

__all__ = ["Account", "explain"]

_WIDTH = 80
_LABEL = 10


@dataclass(frozen=True)
class Account:
    """What a run's directory tells: the verdict with its explanations, or the life of a message.

    ``str()`` is the text of ``rmqbench explain``, 80 columns wide.
    """

    run: str
    began_ns: int
    directory: Path
    verdict: Verdict
    message: Life | None = None

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """What each finding means, and what would settle each open reason."""
        return self.verdict.explanations

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as ``rmqbench explain --json`` writes it."""
        return {
            "run": self.run,
            "began_ns": self.began_ns,
            "directory": str(self.directory),
            "verdict": self.verdict.outcome.value,
            "reasons": list(self.verdict.reasons),
            "explanations": [each.as_dict() for each in self.explanations],
            "message": self.message.as_dict() if self.message else None,
        }

    def text(self, width: int = _WIDTH) -> str:
        """Write it for a person, ``width`` columns wide; commands and names are not broken."""
        width = max(width, 4 * _LABEL)
        lines = self._of_message(self.message, width) if self.message else self._of_verdict(width)
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def __str__(self) -> str:
        """Write it for a person, 80 columns wide."""
        return self.text().rstrip("\n")

    # --- the verdict ----------------------------------------------------------------------------

    def _of_verdict(self, width: int) -> Iterator[str]:
        verdict = self.verdict
        yield from _wrapped(f"{verdict.outcome}: {verdict.why}", width, "", "  ")
        yield from self._where(width)
        said: dict[object, str] = {}
        for each in sorted(self.explanations, key=_rank):
            yield ""
            same = (each.finding and (each.finding.name, each.finding.effect), each.causes)
            as_for = said.setdefault(same, each.about) if each.finding else each.about
            yield from _explanation(each, width, "" if as_for == each.about else as_for)

    def _where(self, width: int) -> Iterator[str]:
        day = f"{datetime.fromtimestamp(self.began_ns // 1_000_000_000, UTC):%Y-%m-%d}"
        began = f"{day} {time_of_day(self.began_ns, 3)} UTC"
        yield from _wrapped(f"Run {self.run} began at {began}.", width, "", "  ")
        yield visible_line(f"The evidence lies in {self.directory}")

    # --- a message ------------------------------------------------------------------------------

    def _of_message(self, life: Life, width: int) -> Iterator[str]:
        yield f"Message {life.message_id}: producer {life.producer}, sequence {life.sequence}"
        yield from self._where(width)
        yield ""
        since = max(
            (len(_seconds(each.time_ns, life.began_ns)) for each in life.moments), default=0
        )
        for each in life.moments:
            seconds = _seconds(each.time_ns, life.began_ns).rjust(since)
            head = f"{time_of_day(each.time_ns, 3)}  {seconds}  "
            what = f"[{each.what}]" if each.around else each.what
            yield from _wrapped(what, width, head, " " * len(head))
        if not life.moments:
            yield "Nothing of it is on record."
        yield ""
        for end in life.ends:
            yield from _wrapped(end, width, "", "  ")


def explain(directory: str | os.PathLike[str], message_id: str | None = None) -> Account:
    """Explain the run whose directory this is, finished or not.

    Without a message it is the whole verdict; with one (its ``message_id``, or
    ``producer:sequence``) it is the life of that message. Nothing is written. Raise UsageError
    where it is no run's directory or there is no such message, AccessRefused or MessageTooLarge
    where the broker let nothing be published.
    """
    path = Path(directory).absolute()
    record = read_run(path)
    record.require_published()
    allowed = record.description["allowed"]
    verdict = judge_evidence(record.evidence, allowed=allowed, evidence_at=str(path))
    facts = Facts(record, verdict)
    life = None
    if message_id is not None:
        life = life_of(facts, which_message(facts, message_id))
    run = str(record.description["run"])
    return Account(run, facts.began_ns, path, explained(record, verdict), life)


def _rank(each: Explanation) -> int:
    """Return what comes first: findings that fail, open reasons, then what is only counted."""
    if each.finding is None:
        return 1
    return [Effect.FAILS, None, Effect.INCONCLUSIVE, Effect.ALLOWED].index(each.finding.effect)


def _explanation(each: Explanation, width: int, as_for: str) -> Iterator[str]:
    finding = each.finding
    if finding is None:
        yield from _wrapped(each.about, width, "", "  ")
        yield from _labelled("Needed", each.meaning, width)
        return
    detail = f": {finding.detail}" if finding.detail else ""
    effect = "" if finding.effect is Effect.FAILS else f" ({finding.effect})"
    yield from _wrapped(f"{each.about}{effect}{detail}", width, "", "  ")
    if as_for:
        yield from _labelled("Likely", f"The same holds as for {as_for}.", width)
        return
    yield from _labelled("Meaning", each.meaning, width)
    yield from _labelled("Promise", each.promise, width)
    yield f"{'':{_LABEL + 2}}{each.page}"
    for number, cause in enumerate(each.causes, 1):
        yield from _labelled("Likely" if number == 1 else "", f"{number}. {cause}", width, "   ")
    if not each.causes:
        yield from _labelled("Likely", "Nothing in the evidence explains it.", width)
    yield from _labelled("Look at", f"{each.look_at}.", width)
    if each.command:
        yield visible_line(f"  {'Next':{_LABEL}}{each.command}")


def _labelled(label: str, text: str, width: int, deeper: str = "") -> Iterator[str]:
    head = f"  {label:{_LABEL}}"
    yield from _wrapped(text, width, head, " " * len(head) + deeper)


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    """Break a text into lines; what others wrote in it is shown, and never obeyed."""
    return textwrap.wrap(
        visible_line(text),
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first]


def _seconds(time_ns: int, began_ns: int) -> str:
    return f"{(time_ns - began_ns) / 1e9:+.3f} s"
