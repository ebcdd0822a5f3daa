"""``rmqbench reproduce``: show an exhibit of the museum, or that it is mended."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import with_options
from rmqbench.cli.evidence import DirectoryOption, Evidence
from rmqbench.cli.json_file import JsonOption, is_stdout, require_writable, write_file
from rmqbench.cli.options import OwnBrokerOptions
from rmqbench.cli.output import say, write_out
from rmqbench.cli.running import INTERRUPTED
from rmqbench.cli.signals import interrupts_told
from rmqbench.errors import RmqbenchError
from rmqbench.text import visible_line

if TYPE_CHECKING:
    from rmqbench.broker import Broker
    from rmqbench.museum import Exhibit, Reproduction

__all__ = ["app"]

app = new_app()


@app.command(cls=Command)
@with_options(OwnBrokerOptions)
def reproduce(
    own: OwnBrokerOptions,
    name: Annotated[
        str,
        typer.Argument(
            metavar="EXHIBIT", help="By its name or number: rmqbench museum lists them."
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE", show_default="none", help="Another image, on which it is run as well."
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, help="How often it is run, each time on a new broker.")
    ] = 1,
    directory: DirectoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Reproduce an exhibit of the museum: does this RabbitMQ lose messages as that one did?

    Exit codes are those of rmqbench run: 1 it does, once or more often, 0 it
    never does. With --against they are of the first broker.

    Example: rmqbench reproduce 14576 --image rabbitmq:4.0.5-management
    --against rabbitmq:4.3.6-management
    """
    from rmqbench.museum import exhibit

    shown = exhibit(name)
    require_writable(json_file)
    Evidence(directory, 1, 1).require_free()
    sides = [own] if against is None else [own, OwnBrokerOptions("container", against)]
    several = repeat * len(sides) > 1
    place = Evidence.made(directory, shown.name) if several else directory
    say(visible_line(f"{shown.reference or shown.name}: {shown.title}"))
    found: list[Reproduction] = []
    with interrupts_told(INTERRUPTED):
        for number, side in enumerate((side for side in sides for _ in range(repeat)), 1):
            where = place / f"run-{number}" if several and place is not None else place
            found.append(_run(shown, side.open(), where))
            if several:
                say(visible_line(found[-1].said))
    written = _show(found, json_file)
    codes = {each.exit_code for each in found[:repeat]}
    code = 1 if 1 in codes else max(codes)
    raise typer.Exit(code or (0 if written else RmqbenchError.exit_code))


def _run(
    shown: Exhibit, opening: AbstractContextManager[Broker], where: Path | None
) -> Reproduction:
    from rich.console import Console

    from rmqbench.cli.progress import shown_progress
    from rmqbench.museum import reproduce as reproduce_exhibit

    with opening as broker:
        say(visible_line(f"RabbitMQ {broker.version} at {broker.endpoint}: {broker.how}"))
        with shown_progress(Console(stderr=True), every=10_000) as watch:
            return reproduce_exhibit(shown, broker, directory=where, watch=watch)


def _show(found: list[Reproduction], json_file: Path | None) -> bool:
    """Show what came of it, write it where asked to, and return whether all was written."""
    from rich.console import Console

    from rmqbench.report.museum import reproductions_view
    from rmqbench.report.terminal import render

    text = json.dumps([each.as_dict() for each in found], indent=2) + "\n"
    if is_stdout(json_file):
        return write_out(text)
    terminal = Console()
    colour = terminal.is_terminal and not terminal.no_color
    written = write_out(render([reproductions_view(found)], width=terminal.width, colour=colour))
    if json_file is not None:
        written &= write_file(json_file, text, "The evidence is kept.")
    return written
