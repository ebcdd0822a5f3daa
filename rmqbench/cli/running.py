"""Run a scenario for the command line: show how far it is, then its result, and exit."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from rmqbench.cli.evidence import Evidence
from rmqbench.cli.json_file import is_stdout, require_writable, write_file
from rmqbench.cli.output import say, write_out
from rmqbench.cli.signals import interrupts_told
from rmqbench.errors import RmqbenchError
from rmqbench.text import visible_line

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from rmqbench.broker import Broker
    from rmqbench.results.result import Result
    from rmqbench.scenarios import Scenario

__all__ = ["INTERRUPTED", "run_and_exit", "show_result"]

INTERRUPTED = "interrupted: deleting what the run made."
_AGAIN = " A second Ctrl-C leaves it behind."


def run_and_exit(
    scenario: Scenario,
    broker: AbstractContextManager[Broker],
    evidence: Evidence,
    json_file: Path | None,
    every: int,
    *,
    in_place: bool = False,
    executor: Executor | None = None,
) -> NoReturn:
    """Open the broker, run the scenario, show its result and exit with the verdict's code."""
    from rich.console import Console

    from rmqbench.cli.progress import shown_progress
    from rmqbench.runner.possible import require_possible
    from rmqbench.runner.run import run

    require_writable(json_file)
    evidence.require_free()
    require_possible(scenario, in_place=in_place, elsewhere=executor is not None)
    with broker as opened, interrupts_told(INTERRUPTED + ("" if opened.owned else _AGAIN)):
        say(visible_line(f"RabbitMQ {opened.version} at {opened.endpoint}: {opened.how}"))
        with shown_progress(Console(stderr=True), every=every) as watch:
            result = run(
                scenario,
                opened,
                directory=evidence.directory,
                in_place=in_place,
                watch=watch,
                executor=executor,
            )
    evidence.tidy()
    written = (result.directory / "result.json").exists()
    if not written:
        say(f"result.json could not be written to {result.directory}.")
    show_result(result, json_file, written=written)


def show_result(result: Result, json_file: Path | None, *, written: bool = True) -> NoReturn:
    """Show the result, write it where asked to, and exit with the verdict's code.

    Only where a result that passed could not be written, here or before (``written``), it is 3.
    """
    from rich.console import Console

    from rmqbench.report.terminal import render, result_view

    text = json.dumps(result.as_dict(), indent=2) + "\n"
    where = f"It is in {result.directory}" if written else "The evidence is kept."
    if is_stdout(json_file):
        written &= write_out(text, where)
    else:
        # Rendered first: rich exits with 1, which is a verdict, where nobody reads its output.
        terminal = Console()
        colour = terminal.is_terminal and not terminal.no_color
        write_out(render([result_view(result)], width=terminal.width, colour=colour), where)
        if json_file is not None:
            written &= write_file(json_file, text, where)
    raise typer.Exit(result.exit_code or (0 if written else RmqbenchError.exit_code))
