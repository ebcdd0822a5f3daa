"""``rmqbench judge``: the verdict on a run that is over, from its directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.json_file import JsonOption, require_writable
from rmqbench.cli.output import say

__all__ = ["app"]

app = new_app()


@app.command(cls=Command)
def judge(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The directory of a run, finished or not.")
    ],
    json_file: JsonOption = None,
) -> None:
    """Judge a run by its directory, as the run itself did, and write its result.json.

    It needs no broker. A run that was killed is judged, too: inconclusive
    where evidence is missing, and it says which.

    Exit codes are those of rmqbench run.

    Example: rmqbench judge evidence/monday
    """
    from rmqbench.cli.running import show_result
    from rmqbench.results.judging import judge as judge_directory
    from rmqbench.run_directory import RunDirectory

    require_writable(json_file)
    result = judge_directory(directory)
    written = True
    try:
        RunDirectory(result.directory).write_result(result.as_dict())
    except OSError as error:
        written = False
        say(f"result.json could not be written to {result.directory} ({error.strerror}).")
    show_result(result, json_file, written=written)
