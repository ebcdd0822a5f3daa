"""What the options, the environment and the ini file ask for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from rmqbench.scenarios import Scenario

__all__ = [
    "OPTIONS",
    "AskedBroker",
    "Settings",
    "brokers_of",
    "declare",
    "read",
    "require_valid",
    "settings_of",
]

_Number = TypeVar("_Number", int, float)

OPTIONS = {
    "broker": "the broker to test: auto, container, local, or amqp(s)://user:password@host/vhost; "
    "may be given several times",
    "image": "the image of a container broker; may be given several times",
    "management-url": "the Management API of a broker given by URL",
    "executor": "the scheduler of a Dask cluster, on whose hosts producers and consumers work: tcp://…",
    "markdown": "append a Markdown table of all runs of the session to this file",
    "report": "write an HTML page about all runs of the session to this file",
    "messages": "how many messages each scenario publishes, instead of its own number",
    "rate": "the latency scenario's rate: 5000, steps (1000,5000), ramps (1000:5000@60s)",
    "p99-ms": "the latency scenario's limit: how many milliseconds 99% of the deliveries may take",
    "min-publish-rate": "the stress scenario's floor for confirmed publishes, messages a second",
    "min-consume-rate": "the stress scenario's floor for the drain, messages a second",
}

MIN_PUBLISH_RATE = 2_000.0
MIN_CONSUME_RATE = 4_000.0
"""Messages a second that a machine of two cores clearly exceeds, with the broker on it too."""


_SEVERAL = ("broker", "image")  # may be given more than once


@dataclass(frozen=True, slots=True)
class AskedBroker:
    """A broker that is asked for: what :func:`rmqbench.open_broker` takes."""

    broker: str
    image: str | None = None

    @property
    def name(self) -> str:
        """What tells it from the others: its image, or its place without the login."""
        return self.image or re.sub(r"^amqps?://(?:.*@)?", "", self.broker)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options, the environment and the ini file ask for. Rates are messages a second.

    ``rate`` is as :mod:`rmqbench.schedule` reads it.
    """

    broker: str = "auto"
    image: str | None = None
    management_url: str | None = None
    executor: str | None = None
    markdown: str | None = None
    report: str | None = None
    messages: int | None = None
    rate: str | None = None
    p99_ms: float | None = None
    min_publish_rate: float = MIN_PUBLISH_RATE
    min_consume_rate: float = MIN_CONSUME_RATE
    require_broker: bool = False

    @property
    def may_be_a_container(self) -> bool:
        """Whether the broker is, or may be, a container: it has an image then."""
        return self.broker in ("auto", "container")

    def apply(self, scenario: Scenario) -> Scenario:
        """Return the scenario with the number of messages that was asked for."""
        return scenario if self.messages is None else replace(scenario, messages=self.messages)


def declare(parser: pytest.Parser) -> None:
    """Declare the options and their ini settings."""
    group = parser.getgroup("rmqbench", "rmqbench: does RabbitMQ lose messages?")
    for name, text in OPTIONS.items():
        action = "append" if name in _SEVERAL else "store"
        group.addoption(
            f"--rmqbench-{name}", default=None, metavar="VALUE", help=text, action=action
        )
        parser.addini(f"rmqbench_{name.replace('-', '_')}", text, default="")


def read(config: pytest.Config, name: str) -> str | None:
    """Return what one option asks for: itself, else the environment, else the ini file.

    Of one that may be given several times it is the first.
    """
    return next(iter(read_all(config, name)), None)


def read_all(config: pytest.Config, name: str) -> list[str]:
    """Return all that an option asks for; in the environment and the ini file, words."""
    variable = f"rmqbench_{name.replace('-', '_')}"
    option: str | list[str] | None = config.getoption(f"--rmqbench-{name}")
    if option:
        return option if isinstance(option, list) else [option]
    elsewhere = os.environ.get(variable.upper()) or config.getini(variable) or ""
    return elsewhere.split() if name in _SEVERAL else [elsewhere] if elsewhere else []


def brokers_of(config: pytest.Config) -> list[AskedBroker]:
    """Return the brokers that are asked for: each image is one, and each that is no container."""
    images = read_all(config, "image")
    asked: list[AskedBroker] = []
    for broker in read_all(config, "broker") or ["auto"]:
        with_images = images if broker in ("auto", "container") else []
        asked += [AskedBroker(broker, image) for image in with_images] or [AskedBroker(broker)]
    return list(dict.fromkeys(asked))


def settings_of(config: pytest.Config) -> Settings:
    """Return all settings, defaults where nothing was asked for. Raise pytest.UsageError."""
    return Settings(
        broker=read(config, "broker") or "auto",
        image=read(config, "image"),
        management_url=read(config, "management-url"),
        executor=read(config, "executor"),
        markdown=read(config, "markdown"),
        report=read(config, "report"),
        messages=_number(config, "messages", int),
        rate=read(config, "rate"),
        p99_ms=_number(config, "p99-ms", float),
        min_publish_rate=_number(config, "min-publish-rate", float) or MIN_PUBLISH_RATE,
        min_consume_rate=_number(config, "min-consume-rate", float) or MIN_CONSUME_RATE,
        require_broker=os.environ.get("RMQBENCH_REQUIRE_BROKER", "") not in ("", "0"),
    )


def require_valid(config: pytest.Config) -> None:
    """Raise pytest.UsageError where the options make no sense, before anything is begun."""
    settings = settings_of(config)
    if config.getoption("--rmqbench-image") and not any(each.image for each in brokers_of(config)):
        from rmqbench.endpoint import shown_url  # noqa: PLC0415  # only for this error

        raise pytest.UsageError(
            f"--rmqbench-image is for a container, and the broker is {shown_url(settings.broker)}"
        )


def _number(config: pytest.Config, name: str, kind: Callable[[str], _Number]) -> _Number | None:
    given = read(config, name)
    if given is None:
        return None
    try:
        number = kind(given)
    except ValueError:
        number = kind("0")
    if not 0 < number < float("inf"):
        raise pytest.UsageError(f"--rmqbench-{name} is {given!r}: give a number above 0")
    return number
