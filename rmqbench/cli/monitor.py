"""``rmqbench monitor``: the broker at a glance, in a terminal or as text."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import ConnectionOptions, with_options
from rmqbench.cli.output import let_go_of_stdout
from rmqbench.errors import RmqbenchError

if TYPE_CHECKING:
    from rich.console import Console

    from rmqbench.monitor.model import Picture
    from rmqbench.monitor.view import Scene

__all__ = ["app"]

app = new_app()

_WIDTH = 120  # of an output that has none


@app.command(cls=Command)
@with_options(ConnectionOptions)
def monitor(
    connection: ConnectionOptions,
    seconds: Annotated[
        float,
        typer.Option("--watch", min=0, max=86_400, help="Seconds between refreshes; 0 is --once."),
    ] = 3.0,
    once: Annotated[bool, typer.Option("--once", help="One snapshot, then exit.")] = False,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="NAME",
            help="Only queues whose name contains this, or matches it if it has * or ?.",
        ),
    ] = None,
    as_json_: Annotated[
        bool, typer.Option("--json", help="One snapshot as a JSON object, then exit.")
    ] = False,
) -> None:
    """Show queues, consumers, connections and nodes, and how they change.

    A queue is green (●), yellow (▲) from 1,000 messages on, red (■) from
    10,000 on, ready and unacknowledged counted together; one that the broker
    cannot run is red too. The broker renews its figures every 5 s.

    Keys: q quit, p pause, + and - interval, s sort (by depth, rate, name).
    Ctrl-C ends it as q does, with exit code 0.

    Example: rmqbench monitor --host rabbit.example:15672 --username ann --filter 'orders.*'
    """
    from rich.console import Console

    from rmqbench.management.client import Management
    from rmqbench.monitor.controls import Controls
    from rmqbench.monitor.model import as_json
    from rmqbench.monitor.screen import watch
    from rmqbench.monitor.source import ask
    from rmqbench.monitor.view import Scene

    management = Management(connection.management_endpoint())
    vhost = connection.vhost
    once = once or as_json_ or seconds == 0
    scene = Scene(
        management.url, vhost=vhost, pattern=pattern, controls=Controls(interval_s=seconds)
    )

    def fetch() -> Picture:
        return ask(management, vhost)

    console = Console()
    if as_json_:
        _write(json.dumps(as_json(fetch(), pattern, scene.controls.sort), indent=2) + "\n")
    elif once:
        _write(_text(console, scene, fetch()))
    else:
        with suppress(KeyboardInterrupt):
            if _is_live(console):
                watch(console, fetch, scene)
            else:
                _write_on(console, scene, fetch, seconds)


def _is_live(console: Console) -> bool:
    """Whether what is printed can be drawn over again."""
    return console.is_terminal and sys.stdout.isatty() and not console.is_dumb_terminal


def _text(console: Console, scene: Scene, picture: Picture | None, trouble: str = "") -> str:
    from rmqbench.monitor.view import Scene, render

    terminal = _is_live(console)
    return render(
        Scene(
            scene.url,
            picture,
            vhost=scene.vhost,
            pattern=scene.pattern,
            controls=scene.controls,
            trouble=trouble,
        ),
        width=_width(),
        colour=terminal,
        encoding=sys.stdout.encoding or "utf-8",
    )


def _width() -> int:
    """Return the width of the terminal, even of the one behind ``| less``."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    for number in (1, 2, 0):
        with suppress(OSError):  # it is no terminal
            if columns := os.get_terminal_size(number).columns:
                return columns
    return _WIDTH


def _write_on(
    console: Console, scene: Scene, fetch: Callable[[], Picture], interval_s: float
) -> None:
    """Write one picture after another, until nobody reads them; the first must succeed."""
    from rmqbench.monitor.view import clock_time

    picture: Picture | None = None
    lost_at = trouble = ""
    while True:
        try:
            picture, lost_at, trouble = fetch(), "", ""
        except RmqbenchError as error:
            if picture is None:
                raise
            lost_at = lost_at or clock_time(time.time())
            trouble = f"The Management API has not answered since {lost_at}: {error.what}"
        if not _write(_text(console, scene, picture, trouble) + "─" * _width() + "\n"):
            return
        time.sleep(interval_s)


def _write(text: str) -> bool:
    """Write to standard output; return whether anybody reads it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        let_go_of_stdout()
        return False
    return True
