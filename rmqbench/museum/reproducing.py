"""Run an exhibit against a broker, and say whether it shows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rmqbench.runner.run as runner
from rmqbench.broker import Broker
from rmqbench.museum.catalogue import Exhibit
from rmqbench.results.result import Result
from rmqbench.runner.live import Progress
from rmqbench.text import counted
from rmqbench.verdict.findings import Judgement

__all__ = ["Reproduction", "reproduce"]


@dataclass(frozen=True)
class Reproduction:
    """What came of an exhibit on one broker.

    ``count`` is how many messages show what it is about. ``expected`` says whether the version is
    affected (None: its version cannot be read).
    """

    exhibit: Exhibit
    result: Result
    count: int
    expected: bool | None

    @property
    def outcome(self) -> Judgement:
        """FAIL where it shows; else what the verdict on the run is."""
        return Judgement.FAIL if self.count else self.result.outcome

    @property
    def passed(self) -> bool:
        """Whether it does not show, and nothing else is wrong."""
        return self.outcome is Judgement.PASS

    @property
    def shows_something_else(self) -> bool:
        """Whether the run failed, but not by what the exhibit is about."""
        return not self.count and self.result.outcome is Judgement.FAIL

    @property
    def exit_code(self) -> int:
        """The command line's exit code."""
        return 1 if self.count else self.result.exit_code

    @property
    def said(self) -> str:
        """All of it in a line."""
        what = f"{self.exhibit.shows} in {self.exhibit.queue}"
        if self.count:
            of = counted(self.result.confirmed, "confirmed message", form=",")
            said = f"{self.count:,} of {of} {what}"
            said += "" if self.expected is not False else "; it was not known to be affected"
        elif self.shows_something_else:
            said = f"none {what}, but: {self.result.why}"
        else:
            said = f"none {what}" + ("; it is known to be affected" if self.expected else "")
        return f"{self.outcome}: RabbitMQ {self.result.broker.get('version')}: {said}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values; the result of the run is in its directory."""
        return {
            "exhibit": self.exhibit.name,
            "reference": self.exhibit.reference,
            "rabbitmq": self.result.broker.get("version"),
            "outcome": self.outcome.value,
            "finding": self.exhibit.shows,
            "count": self.count,
            "confirmed": self.result.confirmed,
            "expected": self.expected,
            "directory": str(self.result.directory),
        }


def reproduce(
    exhibit: Exhibit,
    broker: Broker,
    *,
    directory: str | os.PathLike[str] | Path | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Reproduction:
    """Run an exhibit's workload on a broker, and return whether it shows.

    Raise RmqbenchError where the run could not be begun: an exhibit with a fault strikes only a
    broker of our own.
    """
    result = runner.run(
        exhibit.workload, broker, directory=directory, watch=watch, run_id=exhibit.run_id
    )
    return Reproduction(
        exhibit,
        result,
        result.verdict.count(exhibit.finding, exhibit.queue),
        exhibit.affects(broker.version),
    )
