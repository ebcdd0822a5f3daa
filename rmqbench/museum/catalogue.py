"""An exhibit: what was lost, on which versions, and the workload that shows it; read from a file.

A new exhibit is a TOML file beside the others, and nothing else.
"""

from __future__ import annotations

import sys
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import dacite

from rmqbench.errors import UsageError
from rmqbench.scenarios import Scenario
from rmqbench.verdict.findings import FINDINGS, FindingName
from rmqbench.version import version_number
from rmqbench.workloads import scenario_of

__all__ = ["Exhibit", "Measured", "exhibit", "exhibits"]

_LATER = " and later"


@dataclass(frozen=True)
class Measured:
    """How often an exhibit showed on a version, and of how many messages, the ``least`` and most.

    0 of ``runs`` times: the version has it mended.
    """

    shown: int
    runs: int
    least: int = 0
    most: int = 0

    def __str__(self) -> str:
        """Return it as ``5 of 5 times, 457 messages``."""
        if not self.shown:
            return f"{self.shown} of {self.runs} times"
        many = f"{self.least:,}" if self.least == self.most else f"{self.least:,} to {self.most:,}"
        return f"{self.shown} of {self.runs} times, {many} messages"


@dataclass(frozen=True)
class Exhibit:
    """What the museum knows of one way to lose messages.

    ``reference`` is its number at rabbitmq-server, or its name where it has none. ``affected`` are
    ranges of versions, ``"4.0.0 - 4.0.9"``, both included, or ``"4.0.0 and later"``; none: all of
    them, by design. ``shows`` names the finding, in ``queue``. ``run`` is the UUID from which all
    messages are computed, so that the same are lost again. ``seconds`` is about how long it takes.
    ``measured`` says by version how often it showed.
    """

    name: str
    title: str
    shows: str
    queue: str
    lost: str
    looked_like: str
    why: str
    seconds: int
    scenario: Mapping[str, Any]
    reference: str = ""
    pages: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()
    fixed: str = ""
    run: str = ""
    measured: dict[str, Measured] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UsageError for a file that describes nothing that could be shown."""
        if self.shows not in FINDINGS:
            raise UsageError(f"The exhibit {self.name} shows {self.shows!r}, which is no finding.")
        scenario = self.workload
        if self.queue not in scenario.queue_names:
            raise UsageError(f"The exhibit {self.name} has no queue {self.queue!r}.")
        for each in self.affected:
            _range(each)
        self.run_id  # noqa: B018  it is read, or refused

    @property
    def finding(self) -> FindingName:
        """What it shows."""
        return FindingName(self.shows)

    @property
    def workload(self) -> Scenario:
        """The scenario that shows it."""
        return scenario_of({"name": self.name, **self.scenario}, f"The exhibit {self.name}")

    @property
    def run_id(self) -> uuid.UUID | None:
        """The run from which its messages are computed; None: another each time."""
        try:
            return uuid.UUID(self.run) if self.run else None
        except ValueError:
            raise UsageError(f"The exhibit {self.name} has a run that is no UUID.") from None

    def affects(self, version: str) -> bool | None:
        """Whether a version of RabbitMQ is affected; None where the version cannot be read."""
        number = version_number(version)
        if number is None:
            return None
        ranges = [_range(each) for each in self.affected]
        return not ranges or any(first <= number <= last for first, last in ranges)


def exhibit(name: str) -> Exhibit:
    """Return an exhibit by its name or reference; raise UsageError where there is none."""
    for each in exhibits():
        if name.removeprefix("#") in (each.name, each.reference):
            return each
    names = ", ".join(each.reference or each.name for each in exhibits())
    raise UsageError(f"The museum has no exhibit {name!r}.", f"It has {names}: rmqbench museum.")


@cache
def exhibits() -> tuple[Exhibit, ...]:
    """Return all exhibits, in the order of their files."""
    place = files("rmqbench.museum") / "exhibits"
    found = sorted(each.name for each in place.iterdir() if each.name.endswith(".toml"))
    return tuple(_read(name, (place / name).read_text(encoding="utf-8")) for name in found)


def _read(name: str, text: str) -> Exhibit:
    try:
        return dacite.from_dict(
            Exhibit, tomllib.loads(text), dacite.Config(strict=True, cast=[tuple])
        )
    except (dacite.DaciteError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The exhibit {name} cannot be read: {error}.") from None


def _range(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    first, _, last = text.removesuffix(_LATER).partition(" - ")
    numbers = version_number(first), version_number(last or first)
    if numbers[0] is None or numbers[1] is None:
        raise UsageError(
            f"{text!r} is no range of versions.", f"Write it as 4.0.0 - 4.0.9, or 4.0.0{_LATER}."
        )
    return numbers[0], (sys.maxsize,) if text.endswith(_LATER) else numbers[1]
