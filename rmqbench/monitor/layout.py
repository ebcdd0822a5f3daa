"""Lines of exact width, and cards made of them: what the view is built from.

A card is rendered to lines of segments at once, so that its height is known and cards can be put
side by side. No line is wider than asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, TypeVar

from rich.box import ROUNDED
from rich.console import Console, ConsoleOptions, Group
from rich.panel import Panel
from rich.segment import Segment
from rich.text import Text

__all__ = ["Column", "Drawing", "beside", "card", "fill", "fit", "pair", "table", "tiles"]

Item = TypeVar("Item")
Drawing = list[list[Segment]]
"""Lines of segments, all of the same width."""

_GAP = 2
_LONG_NAME = 72  # even with more room, so that the figures stay near the names
FRAME = 4
"""The width that the border and the padding of a card take."""


def fit(text: Text, width: int, *, right: bool = False) -> Text:
    """Return a text of exactly this width; one that is too long ends with ``…``."""
    text = text.copy()
    text.no_wrap = True
    text.truncate(max(width, 0), overflow="ellipsis")
    missing = max(width - text.cell_len, 0)
    if right:
        text.pad_left(missing)
    else:
        text.pad_right(missing)
    return text


def pair(left: Text, right: Text, width: int) -> Text:
    """Return a line with one text at each end; the left one is cut if there is no room."""
    right = fit(right, min(right.cell_len, width))
    return Text.assemble(fit(left, width - right.cell_len - 1), " ", right)


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column of a table; where there is no room, those with the highest ``rank`` are left out."""

    heading: str
    width: int
    rank: int
    cell: Callable[[Item], Text]
    right: bool = False


def table(
    items: Iterable[Item], name: Column[Item], others: Sequence[Column[Item]], width: int
) -> list[Text]:
    """Return a heading and a line for each item; the name takes the room that is left."""
    chosen: list[Column[Item]] = []
    room = width - name.width
    for column in sorted(others, key=lambda each: each.rank):
        if column.width + _GAP > room:
            break
        room -= column.width + _GAP
        chosen.append(column)
    columns = [each for each in others if each in chosen]

    name_width = min(width - sum(each.width + _GAP for each in columns), _LONG_NAME)

    def row(first: Text, cells: Iterable[tuple[Text, Column[Item]]]) -> Text:
        line = Text().append_text(fit(first, name_width))
        for text, column in cells:
            line.append(" " * _GAP).append_text(fit(text, column.width, right=column.right))
        return line

    headings = ((Text(each.heading, "dim"), each) for each in columns)
    lines = [row(Text(name.heading, "dim"), headings)]
    for item in items:
        lines.append(row(name.cell(item), ((each.cell(item), each) for each in columns)))
    return lines


def tiles(rows: Iterable[Sequence[tuple[Text, str]]], width: int) -> list[Text]:
    """Return rows of figures, each above its label, broken where the width ends."""
    lines: list[Text] = []
    for row in rows:
        values, labels = Text(), Text()
        for value, label in row:
            cells = max(value.cell_len, len(label), 6) + _GAP
            if labels.cell_len and labels.cell_len + cells - _GAP > width:
                lines += _cut(values, labels, width)
                values, labels = Text(), Text()
            values.append_text(fit(value, cells))
            labels.append_text(fit(Text(label, "dim"), cells))
        lines += _cut(values, labels, width)
    return lines


def _cut(values: Text, labels: Text, width: int) -> list[Text]:
    for text in (values, labels):
        text.rstrip()  # the gap after the last one may not fit
    return [fit(values, width), fit(labels, width)]


def card(
    console: Console,
    options: ConsoleOptions,
    lines: Sequence[Text],
    width: int,
    *,
    title: Text,
    subtitle: Text | None = None,
    border: str = "dim",
    height: int = 0,
) -> Drawing:
    """Draw a card around lines, at least ``height`` lines high with its border."""
    panel = Panel(
        Group(*lines),
        box=ROUNDED,
        title=_heading(title, width),
        title_align="left",
        subtitle=None if subtitle is None else _heading(subtitle, width),
        subtitle_align="right",
        border_style=border,
        padding=(0, 1),
        width=width,
        height=max(height, len(lines) + 2),
    )
    return console.render_lines(panel, options.update(width=width, height=None))


def _heading(text: Text, width: int) -> Text:
    text = text.copy()
    text.truncate(max(width - 6, 1), overflow="ellipsis")
    return text


def beside(drawings: Sequence[Drawing], gap: int = 1) -> Drawing:
    """Return drawings side by side; shorter ones are filled up with blank lines."""
    widths = [Segment.get_line_length(each[0]) for each in drawings]
    joined: Drawing = []
    for lines in zip_longest(*drawings):
        row: list[Segment] = []
        for line, width in zip(lines, widths, strict=True):
            if row:
                row.append(Segment(" " * gap))
            row += [Segment(" " * width)] if line is None else line
        joined.append(row)
    return joined


def fill(drawing: Drawing, width: int, height: int | None = None) -> Drawing:
    """Return lines cut or padded to a width, and as many as the height."""
    drawing = drawing if height is None else drawing[:height]
    drawing = [Segment.adjust_line_length(line, width) for line in drawing]
    missing = 0 if height is None else height - len(drawing)
    return drawing + [[Segment(" " * width)] for _ in range(missing)]
