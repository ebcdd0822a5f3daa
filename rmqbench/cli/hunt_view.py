"""What can be seen of a hunt while it is under way: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rmqbench.cli.output import say
from rmqbench.text import counted, visible_line

if TYPE_CHECKING:
    from rmqbench.hunt import Hunt
    from rmqbench.runner.run import Progress

__all__ = ["HuntView", "tally"]

_PER_SECOND = 4


class HuntView:
    """Says what a hunt does. On a terminal a few lines stand beneath, with how far it is.

    ``left`` says how much time there is, in words.
    """

    def __init__(self, console: Console, left: Callable[[], str]) -> None:
        self._console = console
        self._left = left
        self._hunt: Hunt | None = None
        self._progress: Progress | None = None

    @contextmanager
    def shown(self, hunt: Hunt) -> Iterator[None]:
        """Show a hunt until the end of it; where there is no terminal, rich shows nothing."""
        self._hunt = hunt
        with Live(
            console=self._console,
            get_renderable=self._lines,
            refresh_per_second=_PER_SECOND,
            transient=True,
        ):
            yield

    def say(self, line: str) -> None:
        """Print a line, above those that stay; it is about the next run."""
        self._progress = None
        say(visible_line(line))

    def watch(self, progress: Progress) -> None:
        """Take how far a run is."""
        self._progress = progress

    def _lines(self) -> RenderableType:
        hunt, progress = self._hunt, self._progress
        assert hunt is not None, "it is shown"
        lines = [Text(f"{tally(hunt)}; {self._left()}", "bold")]
        lines += [Text(f"  {each.signature}", "red") for each in hunt.finds]
        if hunt.under_way:
            lines.append(Text(visible_line(hunt.under_way), "dim"))
        if progress is not None:
            of = "" if progress.total is None else f" of {progress.total:,}"
            line = visible_line(f"{progress.phase}: {progress.done:,}{of}")
            lines.append(Text(f"  {line}", "dim"))
        for text in lines:
            text.no_wrap, text.overflow = True, "ellipsis"
        return Group(*lines)


def tally(hunt: Hunt) -> str:
    """Return in words how much was tried, and what was found."""
    found = f"{len(hunt.finds)} found" if hunt.finds else "nothing found"
    open_ones = f", {hunt.inconclusive} inconclusive" if hunt.inconclusive else ""
    failed = f", {len(hunt.errors)} could not be run" if hunt.errors else ""
    return (
        f"{counted(hunt.judged, 'schedule')} tried, "
        f"{counted(hunt.messages, 'message', form=',')} judged: {found}{open_ones}{failed}"
    )
