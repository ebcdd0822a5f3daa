"""``rmqbench replay``: run a schedule of a hunt again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import with_options
from rmqbench.cli.evidence import DirectoryOption, Evidence
from rmqbench.cli.json_file import JsonOption, require_writable, write_text_and_json
from rmqbench.cli.options import OwnBrokerOptions
from rmqbench.cli.output import say
from rmqbench.cli.running import INTERRUPTED
from rmqbench.cli.signals import interrupts_told
from rmqbench.errors import RmqbenchError
from rmqbench.text import visible_line

if TYPE_CHECKING:
    from rmqbench.results.result import Result

__all__ = ["app"]

app = new_app()


@app.command(cls=Command)
@with_options(OwnBrokerOptions)
def replay(
    own: OwnBrokerOptions,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A schedule that rmqbench hunt wrote.")
    ],
    repeat: Annotated[
        int, typer.Option(min=1, help="How often it is run, each time on a new broker.")
    ] = 1,
    directory: DirectoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Replay a schedule of a hunt: does it fail here, and how often?

    Exit codes: 1 it failed, once or more often, 0 it never did, 3 nothing is known.

    Example: rmqbench replay find-0.json --repeat 5 --image rabbitmq:4-management
    """
    from rmqbench.hunt import Schedule, replay_schedule, runs_on

    schedule = Schedule.read(file)
    require_writable(json_file)
    Evidence(directory, 1, 1).require_free()
    place = Evidence.made(directory, f"replay-{file.stem}")
    say(visible_line(f"{file.name}: {schedule}"))

    def came(result: Result) -> None:
        say(visible_line(f"{result.outcome}: {result.why or 'nothing was lost'}"))

    with interrupts_told(INTERRUPTED):
        found = replay_schedule(
            schedule, runs_on(own.open), repeat, lambda number: place / f"run-{number}", came=came
        )
    told = {
        "file": str(file),
        "runs": found.runs,
        "inconclusive": found.inconclusive,
        "errors": list(found.errors),
        "shown": {str(each): count for each, count in found.shown.items()},
    }
    lines = [f"{each}: {found.of(each)} times" for each in found.shown]
    lines += [f"It could not be run: {each}" for each in found.errors]
    word = "PASS: nothing failed" if found.conclusive else "INCONCLUSIVE: nothing is known"
    lines = lines or [f"{word}, {found.conclusive} of {found.runs} runs say anything"]
    text = "".join(f"{visible_line(each)}\n" for each in lines)
    written = write_text_and_json(text, told, json_file)
    say(visible_line(f"The evidence lies in {place}"))
    code = 1 if found.shown else 0 if found.conclusive else 3
    raise typer.Exit(code or (0 if written else RmqbenchError.exit_code))
