"""``rmqbench hunt``: look for losses that nobody has thought of."""

from __future__ import annotations

import itertools
import shlex
import time
from collections.abc import Iterator
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
from rmqbench.text import counted, visible_line

if TYPE_CHECKING:
    from rmqbench.hunt import Hunt

__all__ = ["app"]

app = new_app()


@app.command(cls=Command)
@with_options(OwnBrokerOptions)
def hunt(
    own: OwnBrokerOptions,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="For how long schedules are tried.")
    ] = 30.0,
    shrink_minutes: Annotated[
        float, typer.Option(min=0, help="For how long each find is made smaller, at most.")
    ] = 20.0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, show_default="by the time", help="Seed of the first schedule."),
    ] = None,
    directory: DirectoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Hunt for losses: random workloads and faults, each on a new broker, each judged.

    What fails is made smaller for as long as it fails in the same way, and ends
    in a line that replays it. Exit codes: 1 something failed, 0 nothing did, 3
    nothing is known.

    Example: rmqbench hunt --minutes 60 --image rabbitmq:4-management
    """
    from rich.console import Console

    from rmqbench.cli.hunt_view import HuntView
    from rmqbench.hunt import Hunt, draw, runs_on

    require_writable(json_file)
    Evidence(directory, 1, 1).require_free()
    place = Evidence.made(directory, "hunt")
    first = int(time.time()) if seed is None else seed
    clock = _Clock(minutes * 60, shrink_minutes * 60)
    view = HuntView(Console(stderr=True), clock.left)
    hunting = Hunt(
        runs_on(own.open, view.watch),
        place,
        goes_on=clock.goes_on,
        may_shrink=lambda: clock.may_shrink(len(hunting.finds)),
        say=view.say,
    )
    say(visible_line(f"Hunting for {minutes:g} minutes, from seed {first} on; kept in {place}"))
    try:
        with interrupts_told(INTERRUPTED), view.shown(hunting):
            hunting.go(draw(number) for number in itertools.count(first))
    finally:
        written = _show(hunting, own, json_file)
    conclusive = hunting.judged - hunting.inconclusive
    code = 1 if hunting.finds else 0 if conclusive else 3
    raise typer.Exit(code or (0 if written else RmqbenchError.exit_code))


class _Clock:
    """How long schedules are tried, and how long each find is made smaller."""

    def __init__(self, hunt_s: float, shrink_s: float) -> None:
        self._until = time.monotonic() + hunt_s
        self._shrink_s = shrink_s
        self._finds = 0
        self._shrink_from = self._shrink_until = 0.0

    def goes_on(self) -> bool:
        """Whether there is time for another schedule; what was made smaller takes none of it."""
        now = time.monotonic()
        if self._shrink_until:
            self._until += now - self._shrink_from
            self._shrink_until = 0.0
        return now < self._until

    def may_shrink(self, finds: int) -> bool:
        """Whether there is time for the latest of so many finds."""
        now = time.monotonic()
        if finds != self._finds:
            self._shrink_from = now if not self._shrink_until else self._shrink_from
            self._finds, self._shrink_until = finds, now + self._shrink_s
        return now < self._shrink_until

    def left(self) -> str:
        """Return how much time there is for what is under way, in words."""
        now = time.monotonic()
        if self._shrink_until:
            return f"{_minutes(self._shrink_until - now)} left to make it smaller"
        return f"{_minutes(self._until - now)} left"


def _minutes(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def _show(hunting: Hunt, own: OwnBrokerOptions, json_file: Path | None) -> bool:
    """Show what a hunt has found; return whether all was written that was asked for."""
    told = {
        "schedules": hunting.judged,
        "messages": hunting.messages,
        "inconclusive": hunting.inconclusive,
        "errors": hunting.errors,
        "finds": [each.as_dict() for each in hunting.finds],
    }
    text = "".join(f"{visible_line(line)}\n" for line in _said(hunting, own))
    return write_text_and_json(text, told, json_file)


def _said(hunting: Hunt, own: OwnBrokerOptions) -> Iterator[str]:
    from rmqbench.cli.hunt_view import tally

    for find in hunting.finds:
        often = f", reproduced {find.confirmed.of(find.signature)}" if find.confirmed else ""
        known = f"; looks like #{', #'.join(find.known)}, which is known" if find.known else ""
        yield f"FAIL: {find.signature}{often}, in {counted(find.steps, 'step')}{known}"
        words = ["rmqbench", "replay", str(find.smallest), "--repeat", "5"]
        words += ["--broker", own.broker] if own.broker else []
        words += ["--image", own.image] if own.image else []
        yield f"  {shlex.join(words)}"
    yield tally(hunting)
