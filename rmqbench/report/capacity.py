"""A search for the capacity for people: its trials, and the rate that it found."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rmqbench.capacity import CapacityResult, Trial
from rmqbench.report.terminal import STYLES, unbroken
from rmqbench.text import counted, visible_line
from rmqbench.verdict.findings import Judgement

__all__ = ["capacity_view", "trial_line"]

_WORDS = {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE", 5: "FAIL"}


def capacity_view(result: CapacityResult) -> RenderableType:
    """Show the rate that was found, with its spread, and the trials."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("search", "rate/s", "measured", "own lag p99", ""):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for each in result.trials:
        table.add_row(
            str(each.search),
            f"{each.rate_per_s:,.0f}",
            _milliseconds(each.ms),
            _milliseconds(each.lag_p99_ms),
            Text(_what(each), "" if each.kept else STYLES["INCONCLUSIVE" if each.late else "FAIL"]),
        )
    word = _WORDS[result.exit_code]
    lines = [unbroken(f"{line}", "") for line in _remarks(result)]
    return Group(
        table,
        Text.assemble((f"{word} ", STYLES[word]), (visible_line(_headline(result)), "bold")),
        *lines,
        unbroken(f"The evidence lies in {result.directory}", "dim"),
    )


def trial_line(trial: Trial) -> str:
    """Describe one trial in a line."""
    measured = "" if trial.ms is None else f" ({_milliseconds(trial.ms)})"
    return visible_line(
        f"search {trial.search}, {trial.rate_per_s:,.0f}/s: {_what(trial)}{measured}"
    )


def _headline(result: CapacityResult) -> str:
    limits = " and ".join(result.limits)
    if result.failed:
        return result.failed
    if result.rate_per_s is None:
        return f"No rate was found that keeps {limits}."
    spread = ""
    if len(result.rates_per_s) > 1:
        least, most = min(result.rates_per_s), max(result.rates_per_s)
        searches = counted(len(result.rates_per_s), "search", "searches")
        spread = f" (median of {searches}, {least:,.0f} to {most:,.0f}/s)"
    return f"{result.rate_per_s:,.0f}/s keeps {limits}{spread}"


def _remarks(result: CapacityResult) -> Iterator[str]:
    if result.limited_by_rmqbench:
        yield (
            "At the next higher rate rmqbench itself was late: the broker may do more. Give it "
            "more processors or more producers (--producers, --processes)."
        )
    if not result.finished and not result.failed:
        yield "It was ended before all searches were done."


def _what(trial: Trial) -> str:
    if trial.kept:
        return "kept"
    if trial.verdict == Judgement.INCONCLUSIVE:
        return "its verdict is open"
    return "not known: rmqbench was late" if trial.late else "not kept"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3g} ms" if value < 1000 else f"{value:,.0f} ms"
