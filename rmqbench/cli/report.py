"""``rmqbench report``: runs as one page for people, made of their directories alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.json_file import is_stdout, require_writable, write_file
from rmqbench.cli.output import say, write_out
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.text import counted, visible_line

__all__ = ["app"]

app = new_app()


@app.command(cls=Command)
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Directories of runs, finished or not; of a campaign or a search for the "
            "capacity: all of its runs.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is stdout.")
    ] = Path("report.html"),
    title: Annotated[
        str, typer.Option(help="The title of the page.", show_default="what was run")
    ] = "",
) -> None:
    """Write an HTML page about runs, with charts; it needs nothing else to be read.

    The exit code is 0, whatever the verdicts.

    Example: rmqbench report evidence/monday -o monday.html
    """
    from rmqbench.report.html.page import page

    require_writable(output)
    directories = [each for run in runs for each in _runs_in(run)]
    text = page([(each, "") for each in directories], title)
    if is_stdout(output):
        written = write_out(text)
    else:
        written = write_file(output, text, "")
        if written:
            say(visible_line(f"{counted(len(directories), 'run')} in {output}"))
    raise typer.Exit(0 if written else RmqbenchError.exit_code)


def _runs_in(directory: Path) -> Iterator[Path]:
    """Yield a run's directory itself, or those of all runs of a campaign or a search."""
    from rmqbench.run_directory.keeping import CAMPAIGN_FILE, CAPACITY_FILE

    for name, key in ((CAMPAIGN_FILE, "runs"), (CAPACITY_FILE, "trials")):
        if not (path := directory / name).is_file():
            continue
        try:
            known = json.loads(path.read_text(encoding="utf-8"))[key]
            found = [directory / str(each["directory"]) for each in known]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} cannot be read: {error}.", "Name the runs.") from None
        there = [each for each in found if (each / "run.json").is_file()]
        if not there:
            raise UsageError(f"{directory} holds no run that was begun.", "Name another one.")
        yield from there
        return
    yield directory
