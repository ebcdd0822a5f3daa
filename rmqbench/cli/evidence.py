"""Where the evidence of runs is kept, and how much of earlier ones: options of all that run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from rmqbench.cli.output import say

__all__ = ["DirectoryOption", "Evidence", "KeepDaysOption", "KeepOption"]

DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        help="Where the evidence is kept.",
        show_default="a new one in ~/.local/state/rmqbench/runs",
    ),
]
KeepOption = Annotated[
    int,
    typer.Option(min=1, help="Without --directory: how many runs that passed are kept, at most."),
]
KeepDaysOption = Annotated[
    float,
    typer.Option(min=1, help="Without --directory: how long any run is kept, in days."),
]


@dataclass(frozen=True)
class Evidence:
    """Where the evidence of a run is kept, and how much of earlier runs."""

    directory: Path | None
    keep: int
    keep_days: float

    @staticmethod
    def made(directory: Path | None, name: str) -> Path:
        """Make the directory of several runs: the one that was named, or one among the user's."""
        from rmqbench.run_directory import RunDirectory
        from rmqbench.run_directory.keeping import make_among_runs

        if directory is None:
            return make_among_runs(name)
        return RunDirectory.make(directory, name).path

    def require_free(self) -> None:
        """Raise UsageError where the directory that was named holds something."""
        from rmqbench.run_directory import RunDirectory

        if self.directory is not None:
            RunDirectory.require_free(self.directory)

    def tidy(self) -> None:
        """Remove earlier runs, unless the person has said where this one is to lie."""
        from rmqbench.run_directory.keeping import runs_directory, tidy

        if self.directory is None and (removed := len(tidy(self.keep, self.keep_days))):
            runs = "1 earlier run was" if removed == 1 else f"{removed} earlier runs were"
            say(f"{runs} removed from {runs_directory()}.")
