"""A campaign for people: one table of all its runs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from rmqbench.campaign.plan import Campaign
from rmqbench.campaign.result import Alike, CampaignResult, RunOutcome, RunState, Spread
from rmqbench.report.rows import Rows
from rmqbench.report.terminal import STYLES, unbroken
from rmqbench.text import counted, visible, visible_line

__all__ = ["campaign_view", "outcome_line", "plan_view"]

_HEADINGS = ("verdict", "run", "published/s", "consumed/s", "seconds")
_WORDS = {0: "PASS", 1: "FAIL", 5: "FAIL (outcomes unknown)", 4: "ERROR", 2: "ERROR"}
_OPEN = "INCONCLUSIVE"
_STYLES = {**STYLES, RunState.ERROR.value: STYLES["FAIL"]}
_NUMBERS = {"published/s", "consumed/s", "seconds", "messages"}
_UNKNOWN = "-"


def campaign_view(result: CampaignResult) -> RenderableType:
    """Show all runs in one table, the median of those that are alike, and what did not pass."""
    bad = [each for each in result.runs if each.state not in (RunState.PASS, RunState.NOT_RUN)]
    return Group(
        _headline(result),
        Rows(
            _HEADINGS,
            [row for alike in result.alike for row in _rows(alike)],
            numbers=_NUMBERS,
            styles=_STYLES,
        ),
        *(
            unbroken(f"{each.state} {each.name}: {_what(each, result)}", _style(each))
            for each in bad
        ),
        unbroken(f"The evidence lies in {result.directory}", "dim"),
    )


def outcome_line(outcome: RunOutcome) -> str:
    """Describe what became of one run in a line."""
    figures = [f"{outcome.seconds:.1f} s"] if outcome.seconds is not None else []
    if outcome.publish_rate_per_s is not None and outcome.consume_rate_per_s is not None:
        figures = [
            f"published {outcome.publish_rate_per_s:,.0f}/s",
            f"consumed {outcome.consume_rate_per_s:,.0f}/s",
            *figures,
        ]
    said = [", ".join(figures), outcome.why]
    return visible_line(": ".join([f"{outcome.state} {outcome.name}", *filter(None, said)]))


def plan_view(campaign: Campaign) -> RenderableType:
    """Show which runs there would be, in their order."""
    rows = [
        (
            f"{each.repeats} times" if each.repeats > 1 else "once",
            each.title,
            each.broker.name,
            _UNKNOWN if each.scenario.messages is None else f"{each.scenario.messages:,}",
        )
        for each in campaign.runs
        if each.repeat == 1
    ]
    return Group(
        Text(visible(f"{campaign.name}: {counted(len(campaign.runs), 'run')}"), "bold"),
        Rows(("how often", "run", "broker", "messages"), rows, numbers=_NUMBERS),
    )


def _headline(result: CampaignResult) -> Text:
    word = _WORDS.get(result.exit_code, _OPEN)
    states = [(state, result.count(state)) for state in RunState]
    said = ", ".join(f"{count} {state}" for state, count in states if count)
    runs = counted(len(result.runs), "run")
    style = _STYLES[word.partition(" ")[0]]
    return Text.assemble((f"{word} ", style), (visible(f"{result.name}, {runs}: {said}"), "bold"))


def _rows(alike: Alike) -> Iterator[tuple[str, ...]]:
    """Yield a row for each run, and one for all that are alike."""
    for each in alike.runs:
        yield (
            each.state.value,
            each.name,
            _number(each.publish_rate_per_s),
            _number(each.consume_rate_per_s),
            _number(each.seconds, 1),
        )
    if alike.passed > 1:
        of = "" if alike.passed == len(alike.runs) else f" of {len(alike.runs)}"
        yield (
            "",
            f"  median of {alike.passed}{of} (spread)",
            _spread(alike.publish_rate_per_s),
            _spread(alike.consume_rate_per_s),
            _spread(alike.seconds, 1),
        )


def _style(each: RunOutcome) -> str:
    return _STYLES.get(each.state.value, STYLES[_OPEN])


def _what(each: RunOutcome, result: CampaignResult) -> str:
    """Return why a run did not pass, and where its evidence is, if there is any."""
    there = (result.directory / each.directory).exists()
    return f"{each.why} ({each.directory})" if there else each.why


def _number(value: float | None, digits: int = 0) -> str:
    return _UNKNOWN if value is None else f"{value:,.{digits}f}"


def _spread(spread: Spread | None, digits: int = 0) -> str:
    if spread is None:
        return _UNKNOWN
    return f"{_number(spread.median, digits)} ({spread.percent:.0f}%)"
