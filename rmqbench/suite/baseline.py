"""The baseline that a benchmark's gate compares with.

``--benchmark-compare-fail`` alone is enough: it compares with the run that was saved last, and the
first run, for which there is none, is saved. pytest-benchmark compares by a test's name only; here
runs under other conditions are refused, because seconds of 1,000 messages say nothing about 20,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rmqbench.pytest_plugin.reporting import say

__all__ = ["CONDITIONS", "Conditions", "Gate"]

Conditions = Mapping[str, str | int | None]
"""What must be the same for two runs to be compared, under names that a person understands."""

CONDITIONS = "conditions"
"""Where they stand in a benchmark's ``extra_info``."""


class Gate:
    """What ``--benchmark-compare`` and ``--benchmark-compare-fail`` mean for this suite.

    To be made when it is known that a benchmark of the suite is about to run.
    """

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._first = False
        benchmarks: Any = session.config.pluginmanager.get_plugin("pytest-benchmark")
        self._benchmarks = benchmarks
        if benchmarks.disabled or not benchmarks.compare_fail:
            return
        if not benchmarks.compare and any(True for _ in benchmarks.storage.load()):
            benchmarks.compare = True  # with the last one
            benchmarks.handle_loading()
        elif not benchmarks.compared_mapping and benchmarks.compare in ([], True):
            self._first = True
            benchmarks.compare_fail = None  # it would end pytest with an internal error
            self._say(f"no baseline is in {benchmarks.storage} yet: this run is to become it")

    def require_comparable(self, test: str, conditions: Conditions) -> None:
        """Fail the test, before it has cost anything, if it cannot be compared as was asked for."""
        benchmarks = self._benchmarks
        if benchmarks.disabled or not benchmarks.compare:
            return
        if benchmarks.compare_fail and not benchmarks.compared_mapping:
            pytest.fail(
                f"--benchmark-compare={benchmarks.compare} names nothing in {benchmarks.storage}."
                " Leave it out to compare with the last run, or to make a first one.",
                pytrace=False,
            )
        for path, compared in benchmarks.compared_mapping.items():
            if test in compared:
                there = compared[test]["extra_info"].get(CONDITIONS, {})
                differences = "; ".join(_differences(there, conditions))
            else:
                differences = "it has no such test" if benchmarks.compare_fail else ""
            if differences:
                pytest.fail(
                    f"Not compared with the baseline {path}: {differences}. Name a like run by"
                    " --benchmark-compare=NUMBER, or make a new baseline: run once with"
                    " --benchmark-autosave and without comparing.",
                    pytrace=False,
                )

    def save_first(self) -> None:
        """Make the first run the baseline, unless it failed; before the benchmarks are saved."""
        if not self._first or not self._benchmarks.benchmarks:
            return
        if self._session.testsfailed:
            self._say("a test failed: this run does not become the baseline")
        elif not (self._benchmarks.save or self._benchmarks.autosave):
            self._benchmarks.save = "baseline"

    def fail(self, why: str) -> None:
        """Fail the session, whose tests may all have passed."""
        self._session.shouldfail = why
        self._session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _say(self, text: str) -> None:
        say(self._session.config, text)


def _differences(there: Conditions, here: Conditions) -> list[str]:
    return [
        f"{name} {_shown(there.get(name))} there, {_shown(value)} here"
        for name, value in here.items()
        if there.get(name) != value
    ]


def _shown(value: str | int | None) -> str:
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else value
