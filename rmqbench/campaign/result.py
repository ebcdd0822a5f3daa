"""What came of a campaign: of each run, of those that are alike, and of all together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from rmqbench.campaign.plan import PlannedRun
from rmqbench.errors import RmqbenchError
from rmqbench.results.result import Result
from rmqbench.verdict.findings import Judgement

__all__ = ["Alike", "CampaignResult", "RunOutcome", "RunState", "Spread"]

_WORST_FIRST = (1, 5, 4, 2, 3)  # lost, outcomes unknown, no broker, wrong usage, inconclusive


class RunState(StrEnum):
    """What became of a run: its verdict, or why there is none."""

    PASS = Judgement.PASS.value
    FAIL = Judgement.FAIL.value
    INCONCLUSIVE = Judgement.INCONCLUSIVE.value
    ERROR = "ERROR"
    INTERRUPTED = "INTERRUPTED"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True)
class RunOutcome:
    """One run of a campaign, and what became of it.

    ``title`` is that of all its repeats, ``name`` its own. ``directory`` is the name of its
    directory beneath that of the campaign, ``exit_code`` what ``rmqbench run`` would have ended
    with (None: it has not come to its end), ``why`` a sentence where it did not pass. ``began`` is
    a time of day in UTC, ``seconds`` is how long all of it took. The rates are those of the
    publishing and of the first queue's consumers.
    """

    name: str
    title: str
    settings: Mapping[str, Any] = field(hash=False)
    directory: str
    repeat: int = 1
    state: RunState = RunState.NOT_RUN
    exit_code: int | None = None
    why: str = ""
    rabbitmq: str = ""
    began: str = ""
    seconds: float | None = None
    messages: int | None = None
    confirmed: int | None = None
    publish_rate_per_s: float | None = None
    consume_rate_per_s: float | None = None

    @classmethod
    def of(cls, planned: PlannedRun, **more: Any) -> Self:
        """Return what became of a planned run; without ``more`` it was not run."""
        return cls(
            name=planned.name,
            title=planned.title,
            settings=planned.settings,
            directory=planned.directory_name,
            repeat=planned.repeat,
            **more,
        )

    @classmethod
    def judged(cls, planned: PlannedRun, result: Result, began: str, seconds: float) -> Self:
        """Return what became of a run that came to a verdict."""
        return cls.of(
            planned,
            state=RunState(result.outcome.value),
            exit_code=result.exit_code,
            why="" if result.passed else result.why,
            rabbitmq=result.broker["version"],
            began=began,
            seconds=seconds,
            messages=result.messages,
            confirmed=result.confirmed,
            publish_rate_per_s=result.publish.rate_per_s,
            consume_rate_per_s=result.consume.rate_per_s,
        )

    @classmethod
    def failed(cls, planned: PlannedRun, error: Exception, began: str, seconds: float) -> Self:
        """Return what became of a run that came to no verdict."""
        code, why = RmqbenchError.exit_code, f"{type(error).__name__}: {error}"
        if isinstance(error, RmqbenchError):
            code, why = error.exit_code, str(error)
        return cls.of(
            planned,
            state=RunState.ERROR,
            exit_code=code,
            why=why,
            began=began,
            seconds=seconds,
        )

    @property
    def has_verdict(self) -> bool:
        """Whether it came to its end, and need not be run again."""
        return self.state in (RunState.PASS, RunState.FAIL, RunState.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some numbers, and the least and the greatest of them."""

    median: float
    least: float
    most: float

    @property
    def percent(self) -> float:
        """How far the least and the greatest are apart, in percent of the median."""
        return 100 * (self.most - self.least) / self.median if self.median else 0.0

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Return the spread of the numbers that are known; None if none is."""
        known = [value for value in values if value is not None]
        return cls(statistics.median(known), min(known), max(known)) if known else None


@dataclass(frozen=True)
class Alike:
    """The repeats of one run. The spreads are of those that passed; None if none did."""

    title: str
    settings: Mapping[str, Any] = field(hash=False)
    runs: tuple[RunOutcome, ...] = field(repr=False)

    @property
    def passed(self) -> int:
        """How many of them passed."""
        return sum(each.state is RunState.PASS for each in self.runs)

    @property
    def publish_rate_per_s(self) -> Spread | None:
        """How fast they published."""
        return self._spread(lambda each: each.publish_rate_per_s)

    @property
    def consume_rate_per_s(self) -> Spread | None:
        """How fast they consumed the first queue."""
        return self._spread(lambda each: each.consume_rate_per_s)

    @property
    def seconds(self) -> Spread | None:
        """How long they took."""
        return self._spread(lambda each: each.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the runs as plain values."""
        spreads = {
            name: None if spread is None else asdict(spread)
            for name, spread in (
                ("publish_rate_per_s", self.publish_rate_per_s),
                ("consume_rate_per_s", self.consume_rate_per_s),
                ("seconds", self.seconds),
            )
        }
        return {
            "title": self.title,
            "settings": dict(self.settings),
            "repeats": len(self.runs),
            "passed": self.passed,
            **spreads,
        }

    def _spread(self, number: Callable[[RunOutcome], float | None]) -> Spread | None:
        return Spread.of(number(each) for each in self.runs if each.state is RunState.PASS)


@dataclass(frozen=True)
class CampaignResult:
    """What has become of a campaign so far. ``directory`` holds ``campaign.json``, which is this.

    ``runs`` are all of the plan, in its order, those that were not run included.
    """

    name: str
    directory: Path
    runs: tuple[RunOutcome, ...]

    @property
    def finished(self) -> bool:
        """Whether each run came to a verdict or an error."""
        return all(each.exit_code is not None for each in self.runs)

    @property
    def exit_code(self) -> int:
        """The worst of all runs: 1, 5, 4, 2, 3, 0; at least 3 where not all were run."""
        codes = {each.exit_code for each in self.runs}
        if not self.finished:
            codes.add(RmqbenchError.exit_code)
        return next((code for code in _WORST_FIRST if code in codes), 0)

    @property
    def alike(self) -> tuple[Alike, ...]:
        """The runs with the same settings together, in the order of their first ones."""
        together: dict[str, list[RunOutcome]] = {}
        for each in self.runs:  # the names of their directories end with the number of the repeat
            together.setdefault(each.directory.rpartition("-")[0], []).append(each)
        return tuple(
            Alike(runs[0].title, runs[0].settings, tuple(runs)) for runs in together.values()
        )

    def count(self, state: RunState) -> int:
        """Return how many runs are in a state."""
        return sum(each.state is state for each in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as they stand in ``campaign.json``."""
        return {
            "campaign": self.name,
            "finished": self.finished,
            "exit_code": self.exit_code,
            "states": {state.value: self.count(state) for state in RunState},
            "runs": [asdict(each) for each in self.runs],
            "alike": [each.as_dict() for each in self.alike],
            "directory": str(self.directory),
        }
