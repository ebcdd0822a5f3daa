"""What the terminal shows: lines while it waits, a line of each run, a table at the end.

A run is made where its test runs, which with pytest-xdist is a worker without a terminal. In either
case its result travels with the test's report to the process that has one.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

import pytest

from rmqbench.pytest_plugin.settings import read

if TYPE_CHECKING:
    from rmqbench.results.result import Result

__all__ = ["PendingResults", "ResultReporter", "say", "worker_name"]

_ATTRIBUTE = "rmqbench_results"
_UNLIMITED = 10_000  # columns: a line is never broken, so that its path can be copied


class _Shown(NamedTuple):
    """A result under the name of its test; ``remark`` is what became of that test.

    ``broker`` is the name of the one that it ran on, where the test ran on several.
    """

    test: str
    result: Result
    remark: str = ""
    broker: str = ""


def say(config: pytest.Config, text: str) -> None:
    """Print a line at once, also while pytest captures what is printed.

    A worker of pytest-xdist has no terminal: there it goes to the standard error, which is that of
    the process that has started it.
    """
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        if worker := worker_name(config):
            print(f"rmqbench ({worker}): {text}", file=sys.stderr, flush=True)
        elif reporter is not None:
            _write(reporter, f"rmqbench: {text}\n")


def worker_name(config: pytest.Config) -> str | None:
    """Return the name of this worker of pytest-xdist; None in the process that shows results."""
    given: Mapping[str, str] | None = getattr(config, "workerinput", None)
    return None if given is None else given["workerid"]


def _write(reporter: pytest.TerminalReporter, text: str) -> None:
    """Write whole lines, below what pytest has written of a line of its own."""
    reporter.ensure_newline()
    if reporter._tw.width_of_current_line:  # pytest forgets the dots of -q and of pytest-xdist
        reporter.line("")
    reporter.write(text, flush=True)


@final
class PendingResults:
    """Results of the test that runs in this process, until its next report takes them along."""

    def __init__(self) -> None:
        self._shown: list[_Shown] = []

    def add(self, test: str, result: Result, broker: str) -> None:
        """Keep a result for the next report."""
        self._shown.append(_Shown(test, result, broker=broker))

    def take(self) -> list[_Shown]:
        """Return what was kept, and keep it no longer."""
        taken, self._shown = self._shown, []
        return taken

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the results to the report as text, which is all that may go between processes."""
        report = yield
        if taken := self.take():
            vars(report)[_ATTRIBUTE] = _packed(taken)
        return report


@final
class ResultReporter:
    """Shows a line of each run as soon as its test has ended, and a table of all at the end."""

    def __init__(self, config: pytest.Config, pending: PendingResults) -> None:
        self._config = config
        self._pending = pending
        self._running: dict[str, list[pytest.TestReport]] = {}
        self._shown: list[_Shown] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the reports of a test's phases until it has ended."""
        self._running.setdefault(report.nodeid, []).append(report)

    @pytest.hookimpl(trylast=True)  # after pytest itself has written how far it has come
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Show a line of each run of the test."""
        shown = _shown_in(self._running.pop(nodeid, []))
        self._shown += shown
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if not shown or reporter is None:
            return
        from rmqbench.report.terminal import render, result_line  # noqa: PLC0415  # imports much

        lines = [result_line(each.result, each.test, each.remark) for each in shown]
        text = render(lines, width=_UNLIMITED, colour=reporter.hasmarkup)
        _write(reporter, text)

    @pytest.hookimpl(tryfirst=True)  # a benchmark's gate that fails ends the summary
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show a row of each run, and all of those that did not pass; with ``-q`` lines must do."""
        unfinished = [each._replace(remark="the test did not end") for each in self._pending.take()]
        shown = self._shown + unfinished
        if shown and (file := read(self._config, "report")) is not None:
            self._write_page(file, shown)
        if shown and (file := read(self._config, "markdown")) is not None:
            self._append_markdown(file, shown)
        if not shown or terminalreporter.verbosity < 0:
            return
        from rmqbench.report.session import ShownResult, session_view  # noqa: PLC0415  # much
        from rmqbench.report.terminal import render  # noqa: PLC0415

        terminalreporter.section("rmqbench")
        view = session_view([ShownResult(*each) for each in shown])
        width, colour = terminalreporter._tw.fullwidth, terminalreporter.hasmarkup
        terminalreporter.write(render([view], width=width, colour=colour))

    def _write_page(self, file: str, shown: list[_Shown]) -> None:
        """Write a page about all runs, and say where it is, or why there is none."""
        from rmqbench.errors import RmqbenchError  # noqa: PLC0415  # most sessions need none of it
        from rmqbench.report.html.page import page  # noqa: PLC0415
        from rmqbench.text import counted  # noqa: PLC0415

        try:
            text = page([(each.result.directory, each.test) for each in shown])
            Path(file).write_text(text, encoding="utf-8")
            said = f"a page about {counted(len(shown), 'run')}: {file}"
        except (OSError, RmqbenchError) as error:
            said = f"the page {file} could not be written: {error}"
        say(self._config, said)

    def _append_markdown(self, file: str, shown: list[_Shown]) -> None:
        """Append a table of all runs to a file, as GitHub's summary of a job is one."""
        from rmqbench.report.formats.markdown import markdown  # noqa: PLC0415  # imports much

        try:
            with Path(file).open("a", encoding="utf-8") as summary:
                summary.write(markdown([(each.test, each.result) for each in shown]))
        except OSError as error:
            say(self._config, f"the table {file} could not be written: {error}")


def _shown_in(reports: list[pytest.TestReport]) -> list[_Shown]:
    """Return the results that came with a test's reports, with what became of the test."""
    failed = any(report.failed for report in reports)
    passed = all(report.passed for report in reports)
    found: list[_Shown] = []
    for report in reports:
        if packed := getattr(report, _ATTRIBUTE, None):
            found += _unpacked(packed)
    return [each._replace(remark=_remark(each.result, failed, passed)) for each in found]


def _packed(shown: list[_Shown]) -> str:
    import base64  # noqa: PLC0415  # most sessions have no result
    import pickle  # noqa: PLC0415

    return base64.b64encode(pickle.dumps(shown)).decode()


def _unpacked(packed: str) -> list[_Shown]:
    import base64  # noqa: PLC0415
    import pickle  # noqa: PLC0415

    shown: list[_Shown] = pickle.loads(base64.b64decode(packed))
    return shown


def _remark(result: Result, failed: bool, passed: bool) -> str:
    """Return what became of the test, where the verdict alone lets one think otherwise."""
    if failed and result.passed:
        return "the test failed"
    if passed and not result.passed:
        return "the test passed"
    return ""
