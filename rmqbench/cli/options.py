"""Options that several subcommands share, each written once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from rmqbench.broker import DEFAULT_IMAGE, Broker, open_broker
from rmqbench.errors import UsageError
from rmqbench.text import visible_line

__all__ = [
    "DEFAULT_IMAGE",
    "BrokerOption",
    "ImageOption",
    "JsonOption",
    "ManagementUrlOption",
    "UrlOption",
    "chosen_broker",
    "own_broker",
    "say",
]

UrlOption = Annotated[
    str | None,
    typer.Option(
        show_default=False,
        metavar="URL",
        help="A broker that is there: amqp(s)://user:password@host:port/vhost. Instead of it, the "
        "environment variable RMQBENCH_URL, which keeps the password out of the process list.",
    ),
]
BrokerOption = Annotated[
    str | None,
    typer.Option(
        show_default="auto",
        metavar="auto|container|local",
        help="A broker of our own: in a container, or a private node on this machine. Instead of "
        "it, the environment variable RMQBENCH_BROKER.",
    ),
]
ImageOption = Annotated[
    str,
    typer.Option(envvar="RMQBENCH_IMAGE", show_envvar=True, help="The image of a container."),
]
ManagementUrlOption = Annotated[
    str | None,
    typer.Option(
        show_default=False,
        metavar="URL",
        help="The Management API of the broker; by default port 15672 there. Instead of it, where "
        "no option names the broker, the environment variable RMQBENCH_MANAGEMENT_URL.",
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the result to a file as JSON; - is stdout."),
]


@contextmanager
def chosen_broker(
    url: str | None, broker: str | None, image: str, management_url: str | None
) -> Iterator[Broker]:
    """Open the broker that the options name, and say on stderr which one it is.

    Without an option the environment is asked: RMQBENCH_URL, then RMQBENCH_BROKER. Only then does
    its Management API count: that of another broker would answer for the one that is named.
    """
    if url and broker:
        raise UsageError("--url and --broker name two brokers.", "Give one of them.")
    if not url and not broker:
        url, broker = os.environ.get("RMQBENCH_URL"), os.environ.get("RMQBENCH_BROKER")
        management_url = management_url or os.environ.get("RMQBENCH_MANAGEMENT_URL")
    spec = url or broker or "auto"
    with open_broker(spec, image=image, management_url=management_url, say=say) as opened:
        say(visible_line(f"RabbitMQ {opened.version} at {opened.endpoint}: {opened.how}"))
        yield opened


def own_broker(broker: str | None) -> str:
    """Give what to start where the broker must be of our own: RMQBENCH_URL does not count then."""
    return broker or os.environ.get("RMQBENCH_BROKER") or "auto"


def say(text: str) -> None:
    """Tell a person something that is not the output; nobody has to listen."""
    with suppress(BrokenPipeError):
        typer.echo(text, err=True)
