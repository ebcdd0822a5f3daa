"""Charts as inline SVG that needs no script.

An SVG holds the shapes alone, and is stretched to the width that there is. What is written stands
beside it in HTML, at percentages of that width: so it is as large on a telephone as anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from rmqbench.report.html.scales import Linear, Log, Scale, Tick, milliseconds_text, short
from rmqbench.results.series import Density, IntArray, Series
from rmqbench.results.steps import Counts, count_of, percentile_of

__all__ = ["Band", "Bar", "Chart", "Mark", "Row", "density", "lines", "percentiles", "placed"]

Rows = Sequence[Sequence[str]]

_WIDTH, _HEIGHT = 1000, 300  # of the shapes' own coordinates
_MOST_LINES = 8
_LEVELS = 8  # of darkness
_CURVE = 80  # twentieths of a power of ten, to 99.99 percent
_TABLE_ROWS = 60
_LEAST_BAND = 0.002  # of the width: what lasts no time is seen all the same


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time in which something was the matter, in seconds from the start."""

    begin_s: float
    end_s: float
    text: str
    kind: str = "fault"


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time on a row, from 0 to 1 of its width, with what it was."""

    begin: float
    end: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on a row, from 0 to 1 of its width; ``link`` is the id of what tells more."""

    at: float
    kind: str
    text: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Somebody's time: their bars, and what happened to them at a moment."""

    name: str
    bars: Sequence[Bar] = ()
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its shapes, its axes, its legend, and a table of the same.

    ``width`` and ``height`` are those of the shapes' own coordinates. ``data`` is for a script that
    draws it again where somebody looks closer; None: nothing does.
    """

    title: str
    shapes: Markup
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    x_title: str
    y_title: str
    headings: Sequence[str]
    rows: Rows
    legend: Sequence[str] = ()
    legend_bad: bool = False
    bands: Sequence[Bar] = ()
    data: Mapping[str, object] | None = None
    width: int = _WIDTH
    height: int = _HEIGHT


def lines(
    title: str, series: Sequence[Series], until_s: float, bands: Sequence[Band], unit: str
) -> Chart | None:
    """Draw values over time, each series as a line; None where nothing is known."""
    known = _few([each for each in series if np.isfinite(each.values).any()])
    if not known:
        return None
    x = Linear(0.0, max(until_s, 0.001))
    highest = max(float(np.nanmax(each.values)) for each in known)
    y = Linear(0.0, highest * 1.05 or 1.0)
    shapes = [
        Markup('<path class="line c{}" d="{}"/>').format(number, _path(each, x, y))
        for number, each in enumerate(known)
    ]
    return Chart(
        title=title,
        shapes=Markup("").join(shapes),
        x_ticks=x.ticks(8),
        y_ticks=y.ticks(5),
        x_title="seconds",
        y_title=unit,
        headings=("seconds", *(each.name for each in known)),
        rows=list(_rows_of(known)),
        legend=[each.name for each in known],
        bands=placed(bands, x),
        data=_data(known, until_s, bands, unit),
    )


def _few(series: list[Series]) -> list[Series]:
    """Return the highest few of many series, and one that is the sum of the others."""
    if len(series) <= _MOST_LINES:
        return series
    highest = sorted(series, key=lambda each: -float(np.nanmax(each.values)))
    kept = {id(each) for each in highest[: _MOST_LINES - 1]}
    others = [each for each in series if id(each) not in kept]
    alike = [each for each in others if len(each.values) == len(others[0].values)]
    total = np.nansum([each.values for each in alike], axis=0)
    together = Series(f"{len(others)} others together", others[0].seconds, total)
    return [*(each for each in series if id(each) in kept), together]


def density(title: str, of: Density, until_s: float, bands: Sequence[Band]) -> Chart:
    """Draw how many messages took how long, over time: the darker, the more; the bad ones apart."""
    rows, columns = of.counts.shape
    x, y = Linear(0.0, max(until_s, 0.001)), Log(float(of.edges_ms[0]), float(of.edges_ms[-1]))
    shapes = [*_heat(of.counts, "heat"), *_heat(of.bad, "heat bad")]
    left, right = x.at(float(of.edges_s[0])), x.at(float(of.edges_s[-1]))
    # The cells have coordinates of their own, and stand between the first and the last message.
    inner = Markup(
        '<svg x="{:.2f}" y="0" width="{:.2f}" height="{}" viewBox="0 0 {} {}"'
        ' preserveAspectRatio="none">{}</svg>'
    ).format(
        left * _WIDTH, (right - left) * _WIDTH, _HEIGHT, columns, rows, Markup("").join(shapes)
    )
    return Chart(
        title=title,
        shapes=inner,
        x_ticks=x.ticks(8),
        y_ticks=y.ticks(6),
        x_title="seconds, when messages were due",
        y_title="latency",
        headings=("latency up to", "messages"),
        rows=[
            (milliseconds_text(float(edge)), f"{int(count):,}")
            for edge, count in zip(of.edges_ms[1:], of.counts.sum(axis=1), strict=True)
            if count
        ],
        legend_bad=bool(of.bad.any()),
        bands=placed(bands, x),
    )


def percentiles(
    title: str, curves: Mapping[str, Counts], missing: Mapping[str, int], rows: Rows
) -> Chart | None:
    """Draw which share of the messages took no longer than what, the last thousandth as wide.

    Those that are ``missing`` took longer than any: a line ends where they begin. ``rows`` are the
    numbers behind it.
    """
    shares = [1 - 10 ** -(step / 20) for step in range(_CURVE + 1)]
    values = {
        name: [_at(counts, share, missing.get(name, 0)) for share in shares]
        for name, counts in curves.items()
    }
    every = [value for each in values.values() for value in each if value]
    if not every:
        return None
    x, y = Linear(0.0, _CURVE / 20), Log(min(every) * 0.9, max(every) * 1.1)
    shapes = []
    for number, each in enumerate(values.values()):
        points = [
            f"{x.at(step / 20) * _WIDTH:.1f} {(1 - y.at(value)) * _HEIGHT:.1f}"
            for step, value in enumerate(each)
            if value is not None
        ]
        shapes.append(Markup('<path class="line c{}" d="M{}"/>').format(number, "L".join(points)))
    shown = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
    return Chart(
        title=title,
        shapes=Markup("").join(shapes),
        x_ticks=[Tick(x.at(-math.log10(1 - each / 100)), f"{each:g}%") for each in shown],
        y_ticks=y.ticks(6),
        x_title="share of the messages",
        y_title="latency",
        headings=rows[0],
        rows=rows[1:],
        legend=list(values),
    )


def _at(counts: Counts, share: float, missing: int) -> float | None:
    """Return what so large a share took at the most, in milliseconds; None among the missing."""
    count = count_of(counts)
    among = share * (count + missing) / count
    return None if among > 1 else percentile_of(counts, max(100 * among, 1e-9)) / 1e6


def _heat(counts: IntArray, kind: str) -> Iterator[Markup]:
    """Yield the cells of each darkness as one shape."""
    if not (most := int(counts.max())):
        return
    levels = np.ceil(_LEVELS * np.log1p(counts) / math.log1p(most)).astype(np.int64)
    for level in range(1, _LEVELS + 1):
        if cells := "".join(_cells(levels == level)):
            yield Markup('<path class="{} h{}" transform="translate(0 .5)" d="{}"/>').format(
                kind, level, cells
            )


def placed(bands: Sequence[Band], x: Scale) -> list[Bar]:
    """Return where bands stand."""
    return [
        Bar(
            x.at(each.begin_s),
            max(x.at(each.end_s), x.at(each.begin_s) + _LEAST_BAND),
            each.kind,
            each.text,
        )
        for each in bands
    ]


def _path(series: Series, x: Linear, y: Linear) -> str:
    """Return a line through the values, broken where one is not known; one alone is a dot."""
    parts: list[str] = []
    pen = "M"
    for second, value in zip(series.seconds.tolist(), series.values.tolist(), strict=True):
        if math.isfinite(value):
            parts.append(f"{pen}{x.at(second) * _WIDTH:.1f} {(1 - y.at(value)) * _HEIGHT:.1f}")
            parts += ["h0"] if pen == "M" else []
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _cells(where: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterator[str]:
    """Yield lines as wide as a row, one for cells side by side; the first row is the lowest."""
    height = len(where)
    for row, cells in enumerate(where):
        ends = np.flatnonzero(np.diff(np.concatenate(([False], cells, [False]))))
        for first, last in ends.reshape(-1, 2).tolist():
            yield f"M{first} {height - 1 - row}h{last - first}"


def _rows_of(series: Sequence[Series]) -> Iterator[Sequence[str]]:
    """Yield a row for each of some moments, the same of all series where they have the same."""
    seconds = series[0].seconds
    every = max(1, -(-len(seconds) // _TABLE_ROWS))
    for at in range(0, len(seconds), every):
        second = float(seconds[at])
        row = [f"{second:.1f}"]
        for each in series:
            nearest = int(np.argmin(np.abs(each.seconds - second)))
            value = float(each.values[nearest])
            row.append(short(round(value, 1)) if math.isfinite(value) else "-")
        yield row


def _data(
    series: Sequence[Series], until_s: float, bands: Sequence[Band], unit: str
) -> Mapping[str, object]:
    """Return what a script needs to draw lines again: all series at the same moments."""
    seconds = np.unique(np.concatenate([each.seconds for each in series]))
    columns: list[list[float | None]] = []
    for each in series:
        values = dict(zip(each.seconds.tolist(), each.values.tolist(), strict=True))
        found = (values.get(second) for second in seconds.tolist())
        columns.append(
            [
                None if value is None or not math.isfinite(value) else round(value, 1)
                for value in found
            ]
        )
    return {
        "x": [round(second, 2) for second in seconds.tolist()],
        "y": columns,
        "names": [each.name for each in series],
        "until": round(until_s, 2),
        "unit": unit,
        "bands": [[round(b.begin_s, 2), round(b.end_s, 2), b.text, b.kind] for b in bands],
    }
