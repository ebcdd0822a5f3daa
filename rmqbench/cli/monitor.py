"""``rmqbench monitor``: the broker at a glance, in a terminal or as text."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from rich.console import Console

from rmqbench.cli.connecting import PasswordOption, UsernameOption
from rmqbench.cli.output import let_go_of_stdout
from rmqbench.endpoint import Endpoint, host_and_port
from rmqbench.errors import RmqbenchError
from rmqbench.management.client import Management
from rmqbench.monitor.controls import Controls
from rmqbench.monitor.model import DEEP, VERY_DEEP, Picture, as_json
from rmqbench.monitor.screen import watch
from rmqbench.monitor.source import ask
from rmqbench.monitor.view import Scene, clock_time, render

__all__ = ["HELP", "management_endpoint", "monitor"]

_DEFAULT_URL = "http://localhost:15672"
_PORT = 15672
_WIDTH = 120  # where nothing tells one

HELP = (
    "Show queues, consumers, connections and nodes, and how they change.\n\n"
    f"A queue is green (●), yellow (▲) from {DEEP:,} messages on, red (■) from {VERY_DEEP:,} on, "
    "ready and unacknowledged counted together; one that the broker cannot run is red too. The "
    "broker renews its figures every 5 s.\n\n"
    "Keys: q quit, p pause, + and - interval, s sort (by depth, rate, name). Ctrl-C ends it as q "
    "does, with exit code 0.\n\n"
    "Example: rmqbench monitor --host rabbit.example:15672 --username ann --filter 'orders.*'"
)


def monitor(
    host: Annotated[
        str | None,
        typer.Option(
            show_default=_DEFAULT_URL,
            metavar="URL",
            help="The Management API; http:// and port 15672 need not be written. Without it, the "
            "environment variable RMQBENCH_MANAGEMENT_URL or RMQBENCH_URL.",
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--watch", min=0, max=86_400, help="Seconds between two pictures; 0 is --once."
        ),
    ] = 3.0,
    once: Annotated[bool, typer.Option("--once", help="One picture, then exit.")] = False,
    username: UsernameOption = None,
    password: PasswordOption = None,
    vhost: Annotated[
        str | None, typer.Option(show_default="all", help="Only this virtual host.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="NAME",
            help="Only queues whose name holds this, or matches it where it has * or ?.",
        ),
    ] = None,
    as_json_: Annotated[
        bool, typer.Option("--json", help="One picture as an object of JSON, then exit.")
    ] = False,
) -> None:
    """Show the broker until somebody ends it."""
    endpoint = management_endpoint(host, username, password)
    management = Management(endpoint)
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
            if console.is_terminal and sys.stdout.isatty() and not console.is_dumb_terminal:
                watch(console, fetch, scene)
            else:
                _write_on(console, scene, fetch, seconds)


def management_endpoint(host: str | None, username: str | None, password: str | None) -> Endpoint:
    """Give the address of the Management API, and the login, from options and environment.

    Options go first. A login from RMQBENCH_URL is only used for the broker that it is of: with
    --host, --username or --password that variable does not count.
    """
    url = host or os.environ.get("RMQBENCH_MANAGEMENT_URL")
    broker = os.environ.get("RMQBENCH_URL")
    if broker and not (host or username or password):
        known = Endpoint.from_url(broker, url)
    else:
        fallback = os.environ.get("RMQBENCH_PASSWORD") or Endpoint().password
        known = Endpoint(password=fallback, management_url=url)
    url, user_in_url, password_in_url = _parted(_completed(known.management_url or _DEFAULT_URL))
    return Endpoint(
        host=known.host,
        username=username or user_in_url or known.username,
        password=password or password_in_url or known.password,
        management_url=url,
    )


def _completed(url: str) -> str:
    """Add what need not be written; an address that is wrong is left for Management to refuse."""
    if "://" in url:
        return url
    if url.count(":") > 1 and not any(each in url for each in "[]@/"):
        url = host_and_port(url)
    with suppress(ValueError):
        parts = urlsplit(f"http://{url}")
        port = "" if parts.port else f":{_PORT}"
        return f"http://{parts.netloc}{port}{parts.path}"
    return f"http://{url}"


def _parted(url: str) -> tuple[str, str | None, str | None]:
    """Take the login out of an address: an option may stand in place of a part of it."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.username is not None and parts.hostname:
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            return bare, unquote(parts.username), unquote(parts.password or "")
    return url, None, None


def _text(console: Console, scene: Scene, picture: Picture | None, trouble: str = "") -> str:
    terminal = console.is_terminal and sys.stdout.isatty() and not console.is_dumb_terminal
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
    """Give the width of the terminal, also of the one at the other end of ``| less``."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    for stream in (sys.__stdout__, sys.__stderr__, sys.__stdin__):
        with suppress(OSError, ValueError, AttributeError):  # closed, missing, or no terminal
            if columns := os.get_terminal_size(stream.fileno()).columns:  # type: ignore[union-attr]
                return columns
    return _WIDTH


def _write_on(
    console: Console, scene: Scene, fetch: Callable[[], Picture], interval_s: float
) -> None:
    """Write one picture after another, until nobody reads them; the first must come about."""
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
    """Write to standard output; say whether anybody is there to read it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        let_go_of_stdout()
        return False
    return True
