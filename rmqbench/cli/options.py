"""The options that choose a broker to run on: one of our own, or one that is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rmqbench.cli.connecting import ConnectionOptions, endpoint_of
from rmqbench.cli.output import say
from rmqbench.errors import BrokerUnavailable, UsageError

if TYPE_CHECKING:
    from rmqbench.broker import Broker

__all__ = ["BrokerOptions", "OwnBrokerOptions"]

_PANEL = "Broker of our own"


@dataclass(frozen=True)
class OwnBrokerOptions:
    """Which broker is to be started; RMQBENCH_URL does not count where it must be our own."""

    broker: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            show_default="auto",
            metavar="auto|container|local",
            help="In a container, or a private node on this machine. Or set the "
            "environment variable RMQBENCH_BROKER.",
        ),
    ] = None
    image: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            show_default="rabbitmq:4-management",
            help="The image of a container. Or set the environment variable RMQBENCH_IMAGE.",
        ),
    ] = None

    def open(self) -> AbstractContextManager[Broker]:
        """Return the broker, which is started as its context begins and ended with it."""
        spec = self.broker or os.environ.get("RMQBENCH_BROKER") or "auto"
        if "://" in spec:
            raise UsageError(
                "A broker at a URL is not ours to start and stop.",
                "Choose --broker auto, container or local.",
            )
        return _own(_open(spec, self.image, None))


@dataclass(frozen=True)
class BrokerOptions(ConnectionOptions, OwnBrokerOptions):
    """Which broker is to be tested: the one that is named, or one of our own."""

    def open(self) -> AbstractContextManager[Broker]:
        """Return the broker, which is opened as its context begins.

        Without an option the environment is asked: RMQBENCH_URL, then RMQBENCH_BROKER.
        """
        spec, management_url = self.broker, self.management_url
        if self.given and spec:
            raise UsageError(
                f"--{self.given[0]} and --broker name two brokers.", "Give one of them."
            )
        if self.given or (not spec and os.environ.get("RMQBENCH_URL")):
            endpoint = self.endpoint()
            spec, management_url = endpoint.url(), endpoint.management_url
        elif not spec:
            spec = os.environ.get("RMQBENCH_BROKER") or "auto"
            management_url = management_url or os.environ.get("RMQBENCH_MANAGEMENT_URL")
        if spec.startswith(("amqp://", "amqps://")):
            spec = endpoint_of(spec, management_url).url()
        if self.management_url and spec in ("auto", "container", "local"):
            raise UsageError(
                f"--management-url is for a broker that is there, and --broker {spec} starts one.",
                "Name the broker, too (--url or --host), or leave it out.",
            )
        return _open(spec, self.image, management_url)


def _open(
    spec: str, image: str | None, management_url: str | None
) -> AbstractContextManager[Broker]:
    from rmqbench.broker import open_broker

    if spec in ("auto", "container"):
        image = image or os.environ.get("RMQBENCH_IMAGE")
    return open_broker(spec, image=image, management_url=management_url, say=say)


@contextmanager
def _own(opening: AbstractContextManager[Broker]) -> Iterator[Broker]:
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(opening)
        except BrokerUnavailable as error:  # one of the usual ways out is none here
            only = " This command needs a broker of our own, so a URL does not help."
            remedy = error.remedy + (only if "URL" in error.remedy else "")
            raise BrokerUnavailable(error.what, remedy) from error
        yield broker
