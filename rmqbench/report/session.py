"""All runs of a pytest session for people: a row each, and details of those that did not pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from rmqbench.report.rows import Rows
from rmqbench.report.terminal import STYLES, describe_broker, milliseconds, result_view
from rmqbench.results.result import Result
from rmqbench.text import counted, visible

__all__ = ["ShownResult", "session_view"]

_HEADINGS = ("verdict", "messages", "published/s", "consumed/s", "confirm p99", "found", "run")
_NUMBERS = frozenset(_HEADINGS[1:5])


class ShownResult(NamedTuple):
    """A result, the name of its test, and what became of that where the outcome would mislead.

    ``broker`` is the name of the one that it ran on, where the test ran on several.
    """

    test: str
    result: Result
    remark: str = ""
    broker: str = ""

    @property
    def alike(self) -> str:
        """The name of the test without that of the broker: the same on each."""
        name = re.escape(self.broker)
        return re.sub(rf"\[{name}\]|(?<=\[){name}-|-{name}(?=[-\]])", "", self.test, count=1)


def session_view(shown: Sequence[ShownResult]) -> RenderableType:
    """Show the brokers once, a row of each run, and all of those that did not pass."""
    brokers = dict.fromkeys(describe_broker(each.result) for each in shown)
    several = len(brokers) > 1
    numbers = {broker: str(number) for number, broker in enumerate(brokers, 1)}
    headings = (*_HEADINGS[:1], "broker", *_HEADINGS[1:]) if several else _HEADINGS
    rows = [
        _row(each, numbers[describe_broker(each.result)] if several else None) for each in shown
    ]
    return Group(
        *(
            Text(visible(f"broker {numbers[each]}: {each}" if several else each), "dim")
            for each in brokers
        ),
        Rows(headings, rows, numbers=_NUMBERS, styles=STYLES, overflows=True),
        *_matrix(shown),
        *(Text(visible(f"note: {note}"), "dim") for note in _notes(shown)),
        *(
            Group(Text(""), result_view(each.result, each.test, each.remark))
            for each in shown
            if not each.result.passed or each.remark
        ),
    )


def _row(each: ShownResult, broker: str | None) -> Sequence[str]:
    result = each.result
    confirm = result.confirm_latency
    found = ", ".join(f"{count:,} {name}" for name, count in result.verdict.found().items())
    return [
        f"{result.outcome} ({each.remark})" if each.remark else result.outcome.value,
        *([] if broker is None else [broker]),
        f"{result.messages:,}",
        f"{result.publish.rate_per_s:,.0f}",
        f"{result.consume.rate_per_s:,.0f}",
        "-" if confirm is None else f"{milliseconds(confirm.p99_ms)} ms",
        found or "-",
        each.test,
    ]


def _matrix(shown: Sequence[ShownResult]) -> Iterator[RenderableType]:
    """Yield a table of each test on each broker, where there are several: what it published."""
    brokers = dict.fromkeys(each.broker for each in shown if each.broker)
    if len(brokers) < 2:
        return
    cells: dict[str, dict[str, list[str]]] = {}
    for each in shown:
        passed = each.result.passed and not each.remark
        cell = f"{each.result.publish.rate_per_s:,.0f}" if passed else each.result.outcome.value
        cells.setdefault(each.alike, {}).setdefault(each.broker, []).append(cell)
    rows = [
        [*(" ".join(of_test.get(broker, ["-"])) for broker in brokers), test]
        for test, of_test in cells.items()
    ]
    yield Text("\npublished/s, by broker", "bold")
    yield Rows([*brokers, "run"], rows, numbers=frozenset(brokers), styles=STYLES, overflows=True)


def _notes(shown: Sequence[ShownResult]) -> Iterator[str]:
    """Yield what is to be known of runs that passed; what is said of several, once."""
    passed = [each for each in shown if each.result.passed and not each.remark]
    said: dict[str, int] = {}
    for each in passed:
        for note in dict.fromkeys(each.result.notes):
            said[note] = said.get(note, 0) + 1
    for note, count in said.items():
        yield note if count == 1 else f"{note} ({counted(count, 'run')})"
