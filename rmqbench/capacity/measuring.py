"""Measure the capacity: trials on one broker, each a run that is judged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from rmqbench.broker import Broker
from rmqbench.capacity.result import CapacityResult, Trial
from rmqbench.capacity.search import Search
from rmqbench.errors import UsageError
from rmqbench.run_directory import RunDirectory
from rmqbench.run_directory.keeping import CAPACITY_FILE, make_among_runs
from rmqbench.run_directory.whole_file import write_whole
from rmqbench.runner.run import Progress, run
from rmqbench.scenarios import Scenario
from rmqbench.verdict.findings import Judgement

__all__ = ["measure_capacity"]

_NEAR = 1.25  # how far from the rate of the search before the next one looks first

Following = Callable[[int, float], AbstractContextManager[Callable[[Progress], None]]]
"""Yields, around a trial, what is called with its progress: of which search, at which rate."""


def measure_capacity(
    scenario: Scenario,
    broker: Broker,
    *,
    searches: int = 3,
    precision: float = 0.05,
    directory: str | os.PathLike[str] | None = None,
    following: Following = lambda search, rate: nullcontext(lambda _: None),
    changed: Callable[[CapacityResult], None] = lambda _: None,
    in_place: bool = False,
    executor: Executor | None = None,
) -> CapacityResult:
    """Search for the highest ``publish_rate`` at which a scenario keeps its limits.

    It begins with the scenario's own rate, and searches several times, each to a ``precision``
    (0.05: five percent): how far they are apart is how sure the result is. ``changed`` is called
    after each trial. A trial whose verdict is no PASS, for a lost message for example, ends it; one
    that is INCONCLUSIVE is done once more before.

    Raise UsageError for a scenario without limits, or with steps or ramps in its rate.
    """
    start = _require_searchable(scenario, searches, precision)
    place = _made(directory, scenario.name)
    result = CapacityResult(scenario.limits, scenario.as_dict(), _described(broker), (), (), place)
    factor, again = 2.0, False
    least = scenario.producers / (scenario.duration_s or 1.0)  # each producer needs a message
    for number in range(1, searches + 1):
        search = Search(start, factor=factor, precision=precision, least=least)
        while (rate := search.rate) is not None:
            with following(number, rate) as watch:
                judged = run(
                    replace(scenario, publish_rate=rate),
                    broker,
                    directory=place / f"trial-{len(result.trials) + 1:02}",
                    in_place=in_place,
                    watch=watch,
                    executor=executor,
                )
            trial = Trial.of(number, rate, judged)
            result = replace(result, trials=(*result.trials, trial))
            is_open = judged.verdict.outcome is Judgement.INCONCLUSIVE
            if judged.verdict.outcome is Judgement.FAIL or (is_open and again):
                failed = f"{trial.directory}, at {rate:,.0f}/s: {judged.verdict.why}"
                code = judged.verdict.exit_code
                result = replace(result, failed=failed, failed_code=code)
            _keep(result, changed)
            if result.failed:
                return result
            again = is_open
            if not is_open:
                search.tell(kept=trial.kept)
        if search.kept:
            start, factor = search.kept, _NEAR
            result = replace(result, rates_per_s=(*result.rates_per_s, search.kept))
    result = replace(result, finished=True)
    _keep(result, changed)
    return result


def _keep(result: CapacityResult, changed: Callable[[CapacityResult], None]) -> None:
    """Write down how far it has come, so that nothing is lost with whoever waits for it."""
    write_whole(result.directory / CAPACITY_FILE, json.dumps(result.as_dict(), indent=2) + "\n")
    changed(result)


def _require_searchable(scenario: Scenario, searches: int, precision: float) -> float:
    schedule = scenario.schedule
    if not scenario.limits or schedule is None or scenario.duration_s is None:
        raise UsageError(
            "The capacity is the highest rate that keeps a limit, and there is none.",
            "Give limits, such as 'delivery.p99_ms <= 20', and a duration for each trial.",
        )
    (first, *more) = schedule.stretches
    if more or first.first_per_s != first.last_per_s:
        raise UsageError(
            f"The rate {scenario.publish_rate!r} has steps or ramps.",
            "Give the one rate at which the search is to begin.",
        )
    if searches < 1 or not 0.001 <= precision <= 1:
        raise UsageError(
            f"{searches} searches to a precision of {precision:g} cannot be made.",
            "Make one at least, to a precision from 0.001 to 1.",
        )
    return first.first_per_s


def _made(directory: str | os.PathLike[str] | None, name: str) -> Path:
    if directory is None:
        return make_among_runs(f"capacity-{name}")
    return RunDirectory.make(directory, name).path


def _described(broker: Broker) -> dict[str, str]:
    return {
        "kind": broker.kind,
        "version": broker.version,
        "how": broker.how,
        "endpoint": str(broker.endpoint),
    }
