"""Markdown, as GitHub shows it in the summary of a job, and GitLab in a comment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rmqbench.report.html.scales import milliseconds_text
from rmqbench.report.terminal import describe_scenario
from rmqbench.results.result import Result
from rmqbench.text import visible_line

__all__ = ["markdown"]

_MARKS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "❔"}
_HEADINGS = ("", "run", "RabbitMQ", "messages", "published/s", "consumed/s", "confirm p99", "found")


def markdown(results: Sequence[tuple[str, Result]]) -> str:
    """Return a table of runs, a row each, and why those that did not pass did not.

    ``results`` are pairs of a title ("": what was run) and a result.
    """
    lines = ["### rmqbench", "", *_table(_HEADINGS, (_row(title, each) for title, each in results))]
    for title, result in results:
        if not result.passed:
            name = _escaped(title or describe_scenario(result))
            lines += ["", "<details>", f"<summary>{result.outcome}: {name}</summary>", ""]
            lines += [*_fenced(f"{result.why}\n\n{result.verdict}"), "</details>"]
    return "\n".join(lines) + "\n"


def _row(title: str, result: Result) -> Sequence[str]:
    latency = result.confirm_latency
    found = ", ".join(f"{count:,} {name}" for name, count in result.verdict.found().items())
    return (
        f"{_MARKS[result.outcome]} {result.outcome}",
        title or describe_scenario(result),
        result.broker["version"],
        f"{result.messages:,}",
        f"{result.publish.rate_per_s:,.0f}",
        f"{result.consume.rate_per_s:,.0f}",
        "" if latency is None else milliseconds_text(latency.p99_ms),
        found,
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    """Return a text that means nothing in Markdown or HTML."""
    plain = visible_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|!~])", r"\\\1", plain)


def _fenced(text: str) -> Iterator[str]:
    """Yield a text between fences that are longer than any in it."""
    longest = max((len(each) for each in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from (f"{fence}text", text, fence)
