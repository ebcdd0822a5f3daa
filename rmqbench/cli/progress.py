"""Progress of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from rmqbench.cli.output import say
from rmqbench.runner import run as runner
from rmqbench.text import visible

__all__ = ["shown_progress"]

Watch = Callable[[runner.Progress], None]


@contextmanager
def shown_progress(
    console: Console, *, every: int, clock: Callable[[], float] = time.monotonic
) -> Iterator[Watch]:
    """Yield the function to be called with the progress of a run.

    If ``console`` is no terminal, a line is printed every ``every`` messages of a phase.
    """
    if console.is_terminal:
        with _bar(console, clock) as watch:
            yield watch
    else:
        yield _Lines(every, clock)


@contextmanager
def _bar(console: Console, clock: Callable[[], float]) -> Iterator[Watch]:
    progress = _Live(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        get_time=clock,
    )
    tasks = {}

    def watch(now: runner.Progress) -> None:
        if now.phase not in tasks:
            name = escape(visible(now.phase))
            tasks[now.phase] = progress.add_task(name, total=now.total)
        progress.update(tasks[now.phase], completed=now.done)
        if now.so_far is not None:
            progress.console.print(escape(visible(now.so_far)), highlight=False)
        if now.live is not None:
            progress.line = str(now.live)

    with progress:
        yield watch


class _Live(Progress):
    """Bars, and beneath them a line with what can be seen of the run."""

    line = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bars and the line."""
        yield from super().get_renderables()
        if self.line:
            yield Text(self.line, "dim")


class _Rate(ProgressColumn):
    """Messages a second, over the last moments."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")


class _Lines:
    """Print a line after every N messages of a phase, and at its end; phases may overlap."""

    def __init__(self, every: int, clock: Callable[[], float]) -> None:
        self._every = every
        self._clock = clock
        self._started: dict[str, float] = {}
        self._next: dict[str, int] = {}

    def __call__(self, now: runner.Progress) -> None:
        if now.so_far is not None:
            say(visible(now.so_far))
        if now.phase not in self._started:
            self._started[now.phase], self._next[now.phase] = self._clock(), self._every
        due = self._next[now.phase]
        total = float("inf") if now.total is None else now.total
        if now.done < min(due, total) or due > total + self._every:
            return
        seconds = self._clock() - self._started[now.phase]
        rate = f", {now.done / seconds:,.0f}/s" if seconds > 0 else ""
        of = "" if now.total is None else f" of {now.total:,}"
        say(f"{visible(now.phase)}: {now.done:,}{of}{rate}")
        due = now.done - now.done % self._every + self._every
        if now.total is not None and now.done >= now.total:
            due = now.total + self._every + 1
        self._next[now.phase] = due
