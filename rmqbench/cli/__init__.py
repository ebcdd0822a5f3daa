"""The command line ``rmqbench``: a command reads its options and calls the library.

A command is imported when it is called, and what connects when it runs: ``--help`` is quick.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer

import rmqbench
from rmqbench.cli.commands import Group, ImportedCommands
from rmqbench.cli.output import ReaderGone, prepare_streams, say, settle_stdout, write_out
from rmqbench.cli.signals import uninterrupted
from rmqbench.endpoint import hide_password
from rmqbench.errors import RmqbenchError
from rmqbench.text import visible

__all__ = ["COMMANDS", "app", "main"]

COMMANDS = {
    "run": "Run a scenario and judge it, or all runs of a campaign: rmqbench run FILE.toml.",
    "judge": "Judge a run by its directory, as the run itself did, and write its result.json.",
    "report": "Write an HTML page about runs, with charts; it needs nothing else to be read.",
    "export": "Write what came of runs as Markdown, Prometheus' text, CSV or HDR histograms.",
    "compare": "Compare runs with others, or do runs on two brokers in turn and compare these.",
    "explain": "Explain a verdict, or show the life of one message, from a run's directory alone.",
    "museum": "List the exhibits: real ways in which RabbitMQ lost messages; or tell of one.",
    "reproduce": "Reproduce an exhibit of the museum: does this RabbitMQ lose messages as that "
    "one did?",
    "hunt": "Hunt for losses: random workloads and faults, each on a new broker, each judged.",
    "replay": "Replay a schedule of a hunt: does it fail here, and how often?",
    "broker": "Start a RabbitMQ of our own, or fetch one.",
    "produce": "Publish messages to an exchange with a work and an audit queue, each confirmed.",
    "consume": "Consume a queue and acknowledge each message, until --expect or Ctrl-C.",
    "monitor": "Show queues, consumers, connections and nodes, and how they change.",
    "gui": "Show the messages of a queue live, in a window.",
    "cleanup": "List queues and exchanges, ask, and delete them with everything in them.",
}
"""The first sentence of each command's help; to import the commands for it would take too long."""


class _Commands(Group):
    """All commands; only the one that is called is imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = ImportedCommands(__name__, COMMANDS)

    def summaries(self) -> Mapping[str, str]:
        """Return the first sentence of each command's help without importing any."""
        return COMMANDS


app = typer.Typer(
    cls=_Commands,
    name="rmqbench",
    help="Does your RabbitMQ lose messages, and how fast is it?\n\n"
    "Exit codes: 0 pass, 1 fail, 2 wrong usage, 3 inconclusive, 4 no broker, 5 fail, but nothing "
    "is known to be lost, 130 Ctrl-C, 143 SIGTERM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        write_out(f"{rmqbench.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    if not show_traceback:
        # pika logs what it raises, too.
        logging.getLogger("pika").setLevel(logging.CRITICAL)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    with uninterrupted():
        prepare_streams()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # there is no SIGHUP on Windows
            signal.signal(getattr(signal, name), _terminate)
    warnings.showwarning = _show_warning
    try:
        code = _run()
    finally:
        settle_stdout()
    sys.exit(code)


def _run() -> int | str | None:
    """Run the command that the arguments name, and return the exit code."""
    try:
        app()
    except Exception as error:
        return _explain(error)
    except SystemExit as end:
        if isinstance(end.__context__, ReaderGone):  # typer makes a 1 of it
            return 0  # a help text of which somebody has read enough
        return end.code
    return 0


def _explain(error: Exception) -> int:
    """Print what went wrong, and return the exit code: never 1, which is a verdict."""
    expected = isinstance(error, RmqbenchError | OSError)  # OSError: a full disk, for example
    if "--traceback" in sys.argv or not expected:
        traceback.print_exception(error)
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        say(f"Error: {error.strerror or error}{where}.")
    elif isinstance(error, RmqbenchError):  # its remedy may hold an example of a URL, to be seen
        say(f"Error: {visible(f'{hide_password(error.what)} {error.remedy}'.rstrip())}")
    return error.exit_code if isinstance(error, RmqbenchError) else RmqbenchError.exit_code


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    say(f"Warning: {visible(str(message))}")


def _terminate(number: int, _frame: object) -> NoReturn:
    """End as for Ctrl-C, so that everything that was started is ended too."""
    raise SystemExit(128 + number)
