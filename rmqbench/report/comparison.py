"""A comparison for people: a table of what changed, and which conditions are met."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from rmqbench.comparing import Change, Comparison
from rmqbench.report.rows import Rows
from rmqbench.report.terminal import STYLES, unbroken
from rmqbench.text import counted, visible_line

__all__ = ["comparison_view", "said_of"]

_NUMBERS = ("base", "new", "change")
_WORDS = {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}


def comparison_view(compared: Comparison) -> RenderableType:
    """Show each figure on both sides, the change, and whether it is more than noise."""
    rows = [
        (
            each.figure,
            _number(each.base),
            _number(each.new),
            "-" if each.ratio is None else f"{100 * (each.ratio - 1):+.1f}%",
            said_of(each),
        )
        for each in compared.changes
    ]
    word = _WORDS[compared.exit_code]
    base, new = (counted(count, "run") for count in compared.runs)
    turns = ", done in turn" if compared.in_pairs else ""
    headline = f"base {compared.base} ({base}), new {compared.new} ({new}){turns}"
    return Group(
        Text.assemble((f"{word} ", STYLES[word]), (visible_line(headline), "bold")),
        Rows(("figure", "base", "new", "change", ""), rows, numbers=_NUMBERS),
        *(unbroken(f"not alike: {each}", STYLES["INCONCLUSIVE"]) for each in compared.unlike),
        *(unbroken(f"did not pass: {each}", STYLES["FAIL"]) for each in compared.not_passed),
        *(unbroken(f"{each.condition}: {each.why}", STYLES["FAIL"]) for each in compared.failed),
    )


def said_of(change: Change) -> str:
    """Return whether a change is more than noise, in a few words."""
    if change.chance is None:
        return "too few runs to say"
    return f"{'noise' if change.is_noise else 'more than noise'} (chance {change.chance:.3f})"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
