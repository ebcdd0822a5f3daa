"""The directory of a campaign: what became of its runs, written down after each of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import filelock

from rmqbench.campaign.plan import Campaign, PlannedRun
from rmqbench.campaign.result import CampaignResult, RunOutcome, RunState
from rmqbench.errors import UsageError
from rmqbench.run_directory.keeping import CAMPAIGN_FILE, make_among_runs
from rmqbench.run_directory.whole_file import write_whole

__all__ = ["CampaignDirectory"]

_FORMAT: Final = 1
_LOCK_FILE = "campaign.lock"


class CampaignDirectory:
    """Knows what became of each run of a campaign; each run's directory is beneath.

    ``known`` is what became of runs at an earlier attempt; only what has a verdict counts.
    """

    def __init__(self, path: Path, campaign: Campaign, known: list[RunOutcome]) -> None:
        self.path = path
        self._campaign = campaign
        judged = {each.directory: each for each in known if each.has_verdict}
        self._outcomes: dict[str, RunOutcome] = {}
        for planned in campaign.runs:
            fresh = RunOutcome.of(planned)
            if (before := judged.get(fresh.directory)) is not None:
                # The name depends on what the other runs of the file are like.
                fresh = replace(before, name=fresh.name, title=fresh.title)
            self._outcomes[fresh.directory] = fresh

    @classmethod
    @contextmanager
    def opened(
        cls, directory: str | os.PathLike[str] | None, campaign: Campaign, *, resume: bool
    ) -> Iterator[CampaignDirectory]:
        """Make the directory of a campaign, or with ``resume`` take the one that is there.

        Without a ``directory`` it is one among the user's runs. Raise UsageError for one that
        holds something else, or that another process works in.
        """
        path = _made(directory, campaign.name, resume=resume)
        try:
            lock = filelock.FileLock(path / _LOCK_FILE).acquire(timeout=0)
        except filelock.Timeout:
            raise UsageError(
                f"Another process runs the campaign in {path}.", "Wait for it, or end it."
            ) from None
        with lock:
            place = cls(path, campaign, _read(path) if resume else [])
            place.write()
            yield place

    def result(self) -> CampaignResult:
        """Return what has become of the campaign so far."""
        return CampaignResult(self._campaign.name, self.path, tuple(self._outcomes.values()))

    def outcome(self, planned: PlannedRun) -> RunOutcome:
        """Return what has become of one run."""
        return self._outcomes[planned.directory_name]

    def note(self, outcome: RunOutcome) -> None:
        """Write down what became of a run."""
        self._outcomes[outcome.directory] = outcome
        self.write()

    def write(self) -> None:
        """Write ``campaign.json``; it is there only as a whole."""
        text = json.dumps({"format": _FORMAT, **self.result().as_dict()}, indent=2) + "\n"
        write_whole(self.path / CAMPAIGN_FILE, text)

    def room_for(self, planned: PlannedRun) -> Path:
        """Return where a run is to lie; what is there of an earlier attempt gets another name."""
        path = self.path / planned.directory_name
        if path.exists():
            number = 1
            while (aside := path.with_name(f"{path.name}.earlier-{number}")).exists():
                number += 1
            path.rename(aside)
        return path


def _made(directory: str | os.PathLike[str] | None, name: str, *, resume: bool) -> Path:
    """Make the directory of a campaign, or see that the one that is there may be used."""
    if directory is None:
        if resume:
            raise UsageError("It is not said which campaign is to go on.", "Name its directory.")
        return make_among_runs(f"campaign-{name}")
    path = Path(directory).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        there = [each.name for each in path.iterdir() if each.name != _LOCK_FILE]
    except OSError as error:
        raise UsageError(
            f"The campaign's directory cannot be made: {error}.", "Name another one."
        ) from None
    if CAMPAIGN_FILE in there and not resume:
        raise UsageError(
            f"The directory {path} holds a campaign.",
            "Name a new one, or go on with that one: --resume, in Python resume=True.",
        )
    if there and CAMPAIGN_FILE not in there:
        raise UsageError(f"The directory {path} is not empty.", "Name a new one for each campaign.")
    return path


def _read(path: Path) -> list[RunOutcome]:
    """Read what is written down of an earlier attempt; nothing where there was none."""
    path = path / CAMPAIGN_FILE
    if not path.exists():
        return []
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        if written["format"] != _FORMAT:
            raise UsageError(
                f"{path} is in format {written['format']}, and this rmqbench reads format "
                f"{_FORMAT}.",
                "Name a new directory.",
            )
        return [_outcome(each) for each in written["runs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} cannot be read: {type(error).__name__}: {error}.", "Name a new directory."
        ) from None


def _outcome(written: dict[str, Any]) -> RunOutcome:
    known = {each.name for each in fields(RunOutcome)}
    values = {key: value for key, value in written.items() if key in known}
    return RunOutcome(**{**values, "state": RunState(values["state"])})
