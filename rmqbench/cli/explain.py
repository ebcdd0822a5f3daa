"""``rmqbench explain``: what a verdict means, and the life of a single message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.json_file import JsonOption, is_stdout, require_writable, write_file
from rmqbench.cli.output import write_out
from rmqbench.errors import RmqbenchError

__all__ = ["app"]

app = new_app()


@app.command(cls=Command)
def explain(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The directory of a run, finished or not.")
    ],
    message: Annotated[
        str | None,
        typer.Argument(
            metavar="MESSAGE",
            help="A message_id as a verdict prints it, or PRODUCER:SEQUENCE.",
            show_default=False,
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Explain a verdict, or show the life of one message, from a run's directory alone.

    Of each finding: what it means, what RabbitMQ promises, the likeliest
    causes that the evidence shows, and what to do next. Of a message: all
    that happened to it, and around it, in the order of time.

    It needs no broker and writes nothing into the directory. The exit code
    is 0, whatever the verdict.

    Example: rmqbench explain evidence/monday 0:17
    """
    from rich.console import Console

    from rmqbench.explaining import explain as explain_directory

    require_writable(json_file)
    account = explain_directory(directory, message)
    written = True
    text = json.dumps(account.as_dict(), indent=2) + "\n"
    if is_stdout(json_file):
        written = write_out(text)
    else:
        write_out(account.text(Console().width))
        if json_file is not None:
            written = write_file(json_file, text, "")
    raise typer.Exit(0 if written else RmqbenchError.exit_code)
