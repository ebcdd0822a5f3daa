"""Rows of cells for a terminal of any width."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from rmqbench.text import visible_line

__all__ = ["Rows"]


class Rows:
    """A table where it fits, else a line for each row; no column is ever dropped.

    ``numbers`` are the headings of columns of numbers, ``styles`` those of cells by their text. One
    that ``overflows`` is always a table: its last column is left to the terminal to break.
    """

    def __init__(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        numbers: Collection[str] = (),
        styles: Mapping[str, str] | None = None,
        overflows: bool = False,
    ) -> None:
        self._headings = headings
        self._rows = [[visible_line(cell) for cell in row] for row in rows]
        self._numbers = numbers
        self._styles = styles or {}
        self._overflows = overflows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or the lines, as :mod:`rich` asks for them."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in self._headings:
            justify: Literal["right", "left"] = "right" if heading in self._numbers else "left"
            table.add_column(heading, justify=justify, no_wrap=True)
        for row in self._rows:
            table.add_row(*(Text(cell, self._styles.get(cell, "")) for cell in row))
        unlimited = options.update(max_width=10_000)
        if self._overflows:
            yield from console.render(table, unlimited)
            return
        if console.measure(table, options=unlimited).maximum <= options.max_width:
            yield table
            return
        for first, second, *others in self._rows:
            rest = zip(self._headings[2:], others, strict=True)
            said = ", ".join(f"{heading} {cell}".strip() for heading, cell in rest)
            yield Text(f"{first} {second.strip()}: {said}".strip())
