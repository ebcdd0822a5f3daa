"""Where runs lie for which no directory was named, and which of them are kept."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import platformdirs

__all__ = ["CAMPAIGN_FILE", "CAPACITY_FILE", "make_among_runs", "runs_directory", "tidy"]

CAMPAIGN_FILE = "campaign.json"
"""What became of the runs of a campaign, in its directory, beneath which they lie."""

CAPACITY_FILE = "capacity.json"
"""What became of the trials of a search for the capacity, in its directory, likewise."""

_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-[\w-]+")
_OF_MANY = (CAMPAIGN_FILE, CAPACITY_FILE)
_DAY_S = 24 * 60 * 60


def runs_directory() -> Path:
    """Return the directory of the user's runs: ``~/.local/state/rmqbench/runs`` on Linux."""
    return platformdirs.user_state_path("rmqbench", appauthor=False) / "runs"


def make_among_runs(name: str) -> Path:
    """Make a directory for a new run, named by the time and ``name``, so that they sort.

    Where a user has no home to write to it is a temporary directory, which nobody tidies.
    """
    name = re.sub(r"[^\w-]+", "-", name)
    path = runs_directory() / f"{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}-{name}"
    try:
        path.mkdir(parents=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"rmqbench-{name}-"))
    return path


def tidy(keep: int, keep_days: float) -> list[Path]:
    """Remove old runs from the user's directory of runs, and return which.

    Removed are those that passed, but for the newest ``keep``, and any that was last written to
    more than ``keep_days`` ago. A run that is under way is written to all the time. A campaign, or
    a search for the capacity, counts as one run. What is neither is never touched.
    """
    runs = sorted(_runs(runs_directory()), key=lambda path: path.name, reverse=True)
    passed = [path for path in runs if _has_passed(path)]
    oldest_s = time.time() - keep_days * _DAY_S
    old = [path for path in runs if _last_written_s(path) < oldest_s]
    removed = []
    for path in dict.fromkeys([*passed[keep:], *old]):
        with suppress(OSError):  # somebody else's run tidies, too
            shutil.rmtree(path)
            removed.append(path)
    return removed


def _runs(directory: Path) -> Iterator[Path]:
    with suppress(OSError):
        for path in directory.iterdir():
            described = any((path / name).is_file() for name in ("run.json", *_OF_MANY))
            known = _NAME.fullmatch(path.name) and described
            if known and not path.is_symlink():
                yield path


def _has_passed(path: Path) -> bool:
    good = {"result.json": ("outcome", "PASS"), **dict.fromkeys(_OF_MANY, ("exit_code", 0))}
    for name, (key, value) in good.items():
        with suppress(OSError, ValueError, TypeError, KeyError):
            return bool(json.loads((path / name).read_text(encoding="utf-8"))[key] == value)
    return False


def _last_written_s(path: Path) -> float:
    """Return when something was last written; infinite where it is going away meanwhile."""
    times = []
    with suppress(OSError):
        times = [path.stat().st_mtime, *(each.stat().st_mtime for each in path.iterdir())]
    return max(times, default=math.inf)
