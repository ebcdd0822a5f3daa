"""The hunt: try schedules that nobody has thought of, and make smaller what fails.

It knows no broker: whoever starts it says how a schedule is run, on a broker of its own each time.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from rmqbench.broker import Broker
from rmqbench.errors import FaultUnavailable, RmqbenchError, UsageError
from rmqbench.hunt.schedule import Schedule
from rmqbench.hunt.shrinking import shrink, tries_for
from rmqbench.hunt.signature import Signature, known_as, signatures_of
from rmqbench.results.result import Result
from rmqbench.runner.run import Progress, run
from rmqbench.verdict.findings import Judgement

__all__ = ["Find", "Hunt", "Replay", "Runs", "broker_of", "replay_schedule", "runs_on"]

_AGAIN: Final = 3  # how often a schedule that failed is run again, to know how often it does
_MOST_FAILED: Final = 5  # schedules in a row that could not be run
_CONFIRMED: Final = 5  # how often the smallest is run in the end


class Runs(Protocol):
    """Runs a schedule on a fresh broker, and keeps the evidence in a directory."""

    def __call__(self, schedule: Schedule, directory: Path) -> Result:
        """Return what came of it; raise RmqbenchError where it could not be begun."""


@dataclass(frozen=True)
class Replay:
    """How often a schedule was run and what came of it: how often each failure showed.

    ``inconclusive`` counts as neither; ``errors`` are sentences of runs that could not be begun.
    """

    runs: int
    shown: dict[Signature, int]
    inconclusive: int
    errors: tuple[str, ...] = ()

    @property
    def conclusive(self) -> int:
        """How many of the runs say anything."""
        return self.runs - self.inconclusive - len(self.errors)

    def of(self, signature: Signature) -> str:
        """Return how often it showed, in words."""
        return f"{self.shown.get(signature, 0)} of {self.conclusive}"

    def rate(self, signature: Signature) -> float:
        """Return how often it showed of all times."""
        return self.shown.get(signature, 0) / max(1, self.conclusive)


@dataclass(frozen=True)
class Find:
    """A failure that a hunt has found.

    ``original`` is the schedule that showed it first, of ``messages``; ``smallest`` what is left of
    it, of which ``confirmed`` says how often it shows (None: it was not asked any more). ``known``
    names exhibits of the museum that look the same.
    """

    signature: Signature
    messages: int
    original: Path
    smallest: Path
    steps: int
    confirmed: Replay | None
    known: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "finding": self.signature.finding,
            "kind": self.signature.kind,
            "role": self.signature.role,
            "messages": self.messages,
            "original": str(self.original),
            "smallest": str(self.smallest),
            "steps": self.steps,
            "reproduced": self.confirmed and self.confirmed.shown.get(self.signature, 0),
            "of": self.confirmed and self.confirmed.conclusive,
            "known": list(self.known),
        }


@dataclass
class Hunt:
    """A hunt under way, or over. ``directory`` keeps schedules, and the evidence of what failed.

    ``say`` takes a line on what happens; ``goes_on`` says whether there is time for another
    schedule, ``may_shrink`` whether there is for another try at making one smaller. ``tried`` are
    schedules, ``messages`` what was confirmed and judged of them, ``left_out`` those with a fault
    that is not to be had here, ``errors`` why some could not be run. ``under_way`` says what is
    being run.
    """

    runs: Runs
    directory: Path
    goes_on: Callable[[], bool]
    may_shrink: Callable[[], bool] = lambda: True
    say: Callable[[str], None] = lambda _: None
    tried: int = 0
    messages: int = 0
    inconclusive: int = 0
    left_out: int = 0
    errors: list[str] = field(default_factory=list)
    finds: list[Find] = field(default_factory=list)
    under_way: str = ""
    _failed_in_a_row: int = field(default=0, init=False)

    @property
    def judged(self) -> int:
        """How many schedules were run to their end."""
        return self.tried - self.left_out - len(self.errors)

    def go(self, schedules: Iterable[Schedule]) -> None:
        """Try schedules until the time is over; what fails in a new way is made smaller.

        An interrupt is raised on: what has been found until then stays. Raise RmqbenchError where
        several in a row could not be run.
        """
        for schedule in schedules:
            if not self.goes_on():
                return
            self._try(schedule)

    def _try(self, schedule: Schedule) -> None:
        path = self.directory / f"schedule-{self.tried}.json"
        schedule.write(path)  # before it is run: whatever happens, it can be done again
        self.under_way = f"{path.stem}: {schedule}"
        self.say(self.under_way)
        self.tried += 1
        evidence = self.directory / path.stem
        try:
            result = self.runs(schedule, evidence)
        except UsageError:
            raise
        except FaultUnavailable as error:  # of this machine or version: others can run it
            self.say(f"{path.stem} is left out: {error.what}")
            self.left_out += 1
            return
        except RmqbenchError as error:
            self.errors.append(f"{path.stem}: {error.what}")
            self.say(f"{path.stem} could not be run: {error.what}")
            self._failed_in_a_row += 1
            if self._failed_in_a_row == _MOST_FAILED:  # it is not the schedule
                raise
            return
        self._failed_in_a_row = 0
        replace(schedule, broker=broker_of(result)).write(path)
        self.messages += result.confirmed
        self.say(f"{path.stem}: {result.outcome}" + (f": {result.why}" if result.why else ""))
        if result.outcome is not Judgement.FAIL:
            self.inconclusive += result.outcome is Judgement.INCONCLUSIVE
            shutil.rmtree(evidence, ignore_errors=True)
            return
        for signature, count in signatures_of(schedule.scenario, result).items():
            if all(each.signature != signature for each in self.finds):
                known = known_as(signature, str(result.broker.get("version")))
                names = tuple(each.reference for each in known)
                self._follow(Find(signature, count, path, path, schedule.steps, None, names))

    def _follow(self, find: Find) -> None:
        """Make the schedule of a find smaller, and find out how often it fails."""
        signature, place = find.signature, len(self.finds)
        self.finds.append(find)
        path = self.directory / f"find-{place}.json"

        def note(smaller: Schedule) -> None:
            smaller.write(path)
            self.finds[place] = replace(find, smallest=path, steps=smaller.steps)
            self.say(f"{path.stem}: {smaller}")

        schedule = Schedule.read(find.original)
        note(schedule)
        again = self._replay(schedule, _AGAIN, goes_on=self.may_shrink)
        rate = (1 + again.shown.get(signature, 0)) / (1 + again.conclusive)
        self.say(f"{path.stem}: {signature}; again {again.of(signature)} times; making it smaller")
        smallest = shrink(
            schedule,
            lambda each: signature in self._replay(each, 1).shown,
            tries=tries_for(rate),
            goes_on=self.may_shrink,
            note=note,
        )
        confirmed = self._replay(smallest, _CONFIRMED)
        self.finds[place] = replace(self.finds[place], confirmed=confirmed)
        self.say(f"{path.stem}: {signature}: reproduced {confirmed.of(signature)}")

    def _replay(
        self, schedule: Schedule, repeat: int, goes_on: Callable[[], bool] = lambda: True
    ) -> Replay:
        candidate = self.directory / "candidate"
        self.under_way = f"again: {schedule}"
        try:
            return replay_schedule(
                schedule, self.runs, repeat, lambda _: candidate, goes_on=goes_on
            )
        finally:
            shutil.rmtree(candidate, ignore_errors=True)


def runs_on(
    opening: Callable[[], AbstractContextManager[Broker]],
    watch: Callable[[Progress], None] = lambda _: None,
) -> Runs:
    """Return what runs a schedule on a broker that is opened for it, and ended with it.

    ``watch`` is called with how far each is.
    """

    def runs(schedule: Schedule, directory: Path) -> Result:
        with opening() as broker:
            scenario, run_id = schedule.scenario, schedule.run
            return run(scenario, broker, directory=directory, run_id=run_id, watch=watch)

    return runs


def replay_schedule(
    schedule: Schedule,
    runs: Runs,
    repeat: int,
    place: Callable[[int], Path],
    *,
    goes_on: Callable[[], bool] = lambda: True,
    came: Callable[[Result], None] = lambda _: None,
) -> Replay:
    """Run a schedule so often, or until it does not go on, and return what failed how often.

    The evidence of a run lies in its ``place``, which is emptied before. ``came`` takes each
    result.
    """
    shown: Counter[Signature] = Counter()
    inconclusive, errors, count = 0, [], 0
    for number in range(1, repeat + 1):
        if not goes_on():
            break
        count, directory = number, place(number)
        shutil.rmtree(directory, ignore_errors=True)
        try:
            result = runs(schedule, directory)
        except (UsageError, FaultUnavailable):
            raise
        except RmqbenchError as error:
            errors.append(error.what)
            continue
        came(result)
        shown.update(signatures_of(schedule.scenario, result).keys())
        inconclusive += result.outcome is Judgement.INCONCLUSIVE
    return Replay(count, dict(shown), inconclusive, tuple(errors))


def broker_of(result: Result) -> dict[str, str]:
    """Return on what a schedule was run, as it stands in its file."""
    told = ("version", "how", "image_digest")
    return {name: str(result.broker[name]) for name in told if result.broker.get(name)}
