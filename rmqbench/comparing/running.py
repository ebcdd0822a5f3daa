"""Run a scenario on two brokers in turn, so that what disturbs the one disturbs the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rmqbench.broker import Broker
from rmqbench.results.result import Result
from rmqbench.runner.run import Progress, run
from rmqbench.scenarios import Scenario

__all__ = ["run_in_turn"]

Following = Callable[[str, int], AbstractContextManager[Callable[[Progress], None]]]
"""Yields, around a run, what is called with its progress: of which side, and which of its runs."""


def run_in_turn(
    scenario: Scenario,
    base: Broker,
    new: Broker,
    directory: Path,
    *,
    repeats: int = 5,
    following: Following = lambda side, number: nullcontext(lambda _: None),
    done: Callable[[str, int, Result], None] = lambda side, number, result: None,
) -> tuple[list[Result], list[Result]]:
    """Run a scenario on each broker so often, and return the results of either side.

    Base and new take turns, and so does which of them is first: what grows over time is on both
    sides then. The runs lie beneath ``directory``, as ``base-1``, ``new-1`` and so on.
    """
    sides: dict[str, list[Result]] = {"base": [], "new": []}
    brokers = {"base": base, "new": new}
    for number in range(1, repeats + 1):
        order = ("base", "new") if number % 2 else ("new", "base")
        for side in order:
            with following(side, number) as watch:
                result = run(
                    scenario,
                    brokers[side],
                    directory=directory / f"{side}-{number}",
                    watch=watch,
                )
            sides[side].append(result)
            done(side, number, result)
    return sides["base"], sides["new"]
