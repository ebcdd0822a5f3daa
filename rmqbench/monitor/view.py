"""The whole picture for a given width and height: what is shown, and what is left out first."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from rmqbench.monitor.cards import CONSUMERS, Pen
from rmqbench.monitor.controls import Controls
from rmqbench.monitor.layout import Drawing, fill, fit
from rmqbench.monitor.model import Connection, Picture, Queue, matching, sorted_queues
from rmqbench.monitor.short import line

__all__ = ["Dashboard", "Scene", "clock_time", "render"]

_MOST_CARDS = 24
"""Where the height has no limit (a pipe), more queues than this are shown as lines."""
_TALL = 32
_TIDY = 10
_TO_ASCII = str.maketrans({"●": "o", "▲": "!", "■": "#", "→": ">", "·": "-", "…": "~"})


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what is shown around it; ``trouble`` is why there is no newer one."""

    url: str
    picture: Picture | None = None
    vhost: str | None = None
    pattern: str | None = None
    controls: Controls = field(default_factory=Controls)
    live: bool = False
    keys: bool = False
    trouble: str = ""


class Dashboard:
    """A scene as something that rich can show: it fills the height, if there is one."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw everything for the width and, if the scene is live, the height of the terminal."""
        width = options.max_width
        height = options.size.height if self._scene.live else None
        drawing = self._drawing(console, options, height)
        drawing = fill(drawing, width, None if height is None else max(height - 1, 0))
        drawing += console.render_lines(_footer(self._scene, width), options.update(height=None))
        for number, each in enumerate(drawing):
            yield from map(_as_ascii, each) if options.ascii_only else each
            if not self._scene.live or number < len(drawing) - 1:
                yield Segment.line()

    def _drawing(self, console: Console, options: ConsoleOptions, height: int | None) -> Drawing:
        scene = self._scene
        heading: Drawing = []
        if scene.trouble:
            text = Text(line(scene.trouble), "bold red")
            heading = console.render_lines(text, options.update(height=None))
        if scene.picture is None:
            asking = Text("" if scene.trouble else f"Asking {line(scene.url)} …", "dim")
            return heading + console.render_lines(asking, options.update(height=None))
        rest = None if height is None else height - 1 - len(heading)
        drawing = self._picture(console, options, scene.picture, rest)
        if scene.trouble:
            dim = Style(dim=True)
            drawing = [list(Segment.apply_style(each, post_style=dim)) for each in drawing]
        return heading + drawing

    def _picture(
        self, console: Console, options: ConsoleOptions, picture: Picture, height: int | None
    ) -> Drawing:
        scene = self._scene
        places = {each.vhost for each in picture.queues} | {"/"}
        pen = Pen(console, options, several=len(places) > 1)
        where = f" at {line(scene.url)}"
        if scene.vhost is not None:
            where += f" · virtual host {line(scene.vhost)}"
        drawing = pen.head(picture, where, tall=height is None or height >= _TALL)
        queues = sorted_queues(matching(picture.queues, scene.pattern), scene.controls.sort)
        rest = None if height is None else max(height - len(drawing), 0)
        drawing += self._queues(pen, queues, rest)
        rest = None if height is None else max(height - len(drawing), 0)
        return drawing + _connections(pen, picture.connections, rest)

    def _queues(self, pen: Pen, queues: Sequence[Queue], rest: int | None) -> Drawing:
        """Draw cards with all details, with fewer, or lines: the first for which there is room."""
        if not queues:
            return self._no_queues(pen)
        if rest is None:
            if len(queues) <= _MOST_CARDS:
                return pen.queue_cards(queues, CONSUMERS)
            return pen.queue_rows(queues, self._title(len(queues)))
        kept = min(len(self._scene.picture.connections) + 3, 6) if self._scene.picture else 0
        kept = kept if rest >= kept + _TIDY else 0
        for consumers, room in (
            (CONSUMERS, rest - kept),
            (1, rest - kept),
            (0, rest - kept),
            (1, rest),
            (0, rest),
        ):
            if pen.cards_height(queues, consumers) <= room:
                return pen.queue_cards(queues, consumers)
        room = max(rest - kept - 3, 1)
        shown = queues if len(queues) <= room else queues[: max(room - 1, 0)]
        hidden = len(queues) - len(shown)
        more = f"… and {hidden:,} more (sorted by {self._scene.controls.sort}; --filter narrows)"
        return pen.queue_rows(shown, self._title(len(queues)), more if hidden else "")

    def _title(self, count: int) -> str:
        pattern = f" · filter {line(self._scene.pattern)}" if self._scene.pattern else ""
        return f"{count:,}{pattern}"

    def _no_queues(self, pen: Pen) -> Drawing:
        pattern = self._scene.pattern
        words = f"No queue matches {line(pattern)}." if pattern else "There are no queues."
        return pen.words(words)


def _connections(pen: Pen, connections: Sequence[Connection], rest: int | None) -> Drawing:
    """Draw as many connections as there is room for, or no card if there is room for none."""
    if not connections or (rest is not None and rest < 4):
        return []
    shown, more = connections, ""
    if rest is not None and len(connections) > rest - 3:
        shown = connections[: rest - 4]
        more = f"… and {len(connections) - len(shown):,} more"
    return pen.connections(shown, f"{len(connections):,}", more)


def _footer(scene: Scene, width: int) -> Text:
    """Return the longest version that fits: keys on the left, the time on the right."""
    controls = scene.controls
    time = clock_time(scene.picture.time_s) if scene.picture else ""
    every = f"{controls.interval_s:g} s"
    for keys, right in _footers(scene, every, time):
        left = Text(" ")
        for number, (key, words) in enumerate(keys):
            left.append("   " if number else "")
            left.append(key, "bold").append(" " if key and words else "").append(words, "dim")
        end = Text.assemble(("PAUSED" if controls.paused else "", "bold reverse"), " ")
        end.append(right, "dim").append(" ")
        if left.cell_len + end.cell_len <= width:
            break
    return fit(fit(left, max(width - end.cell_len, 0)).append_text(end), width)


def _footers(
    scene: Scene, every: str, time: str
) -> Iterator[tuple[Sequence[tuple[str, str]], str]]:
    controls = scene.controls
    if not scene.live:
        yield [("", f"sorted by {controls.sort}")], f"figures of {time}"
        return
    if not scene.keys:
        yield [("", f"every {every}"), ("", f"sorted by {controls.sort}")], f"figures of {time}"
        yield [("", every), ("", controls.sort)], time
        return
    paused = "resume" if controls.paused else "pause"
    yield (
        [
            ("q", "quit"),
            ("p", paused),
            ("+ -", f"every {every}"),
            ("s", f"sorted by {controls.sort}"),
        ],
        f"figures of {time}" if time else "",
    )
    yield [("q", "quit"), ("p", paused), ("+-", every), ("s", controls.sort)], time
    yield [("q", ""), ("p", ""), ("+-", every), ("s", controls.sort)], time


def clock_time(time_s: float) -> str:
    """Return the local time of day."""
    return datetime.fromtimestamp(time_s).strftime("%H:%M:%S")


def render(scene: Scene, *, width: int, colour: bool, encoding: str = "utf-8") -> str:
    """Return a scene as text of a given width, with escape sequences only if ``colour``."""
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding, errors="replace", newline="\n")
    console = Console(
        file=file, width=width, force_terminal=colour, highlight=False, legacy_windows=False
    )
    console.print(Dashboard(scene), end="")
    file.flush()
    text = buffer.getvalue().decode(encoding)
    return text if colour else "".join(f"{each.rstrip()}\n" for each in text.splitlines())


def _as_ascii(segment: Segment) -> Segment:
    return Segment(segment.text.translate(_TO_ASCII), segment.style, segment.control)
