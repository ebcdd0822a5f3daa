"""The command line ``rmqbench``: a command reads its options and calls the library.

What connects is imported by the command that runs, so that ``--help`` and completion are quick.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
import warnings
from typing import Annotated, NoReturn

import typer

import rmqbench
from rmqbench.cli import broker, cleanup, consume, explain, gui, judge, monitor, produce, run
from rmqbench.cli.output import ReaderGone, prepare_streams, say, settle_stdout, write_out
from rmqbench.cli.signals import uninterrupted
from rmqbench.endpoint import hide_password
from rmqbench.errors import RmqbenchError
from rmqbench.text import visible

__all__ = ["app", "main"]

app = typer.Typer(
    name="rmqbench",
    help="Does your RabbitMQ lose messages, and how fast is it?\n\n"
    "Exit codes: 0 pass, 1 fail, 2 wrong usage, 3 inconclusive, 4 no broker, 5 fail, but nothing "
    "is known to be lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(run.app, name="run")
app.command("judge")(judge.judge)
app.command("explain")(explain.explain)
app.add_typer(broker.app, name="broker")
app.command("produce")(produce.produce)
app.command("consume")(consume.consume)
app.command("monitor", help=monitor.HELP)(monitor.monitor)
app.command("gui")(gui.gui)
app.command("cleanup")(cleanup.cleanup)


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
        if isinstance(end.__context__, ReaderGone):  # typer and rich make a 1 of it
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
