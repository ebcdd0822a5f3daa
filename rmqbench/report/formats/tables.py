"""CSV: what charts are drawn from, a row each second, and the percentiles of each latency."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from rmqbench.management.sampler import read_samples
from rmqbench.results.judging import judge
from rmqbench.results.latencies import Percentiles
from rmqbench.results.result import Result
from rmqbench.results.series import Series, TimeAxis, figures, rates, time_axis
from rmqbench.run_directory.reading import read_run

__all__ = ["csv_files"]

_SECOND_NS = 1_000_000_000


def csv_files(directory: Path) -> dict[str, str]:
    """Return the tables of a run by their file names, as texts.

    Times are seconds from the start of the run, but for ``time_ns`` (Unix). An empty cell is not
    known.
    """
    result = judge(directory)
    record = read_run(directory)
    samples = read_samples(directory)
    whole = time_axis(record, samples)
    each_second = TimeAxis(whole.start_ns, _SECOND_NS, max(1, math.ceil(whole.seconds)))
    broker = figures(record, whole, samples)
    return {
        "rates.csv": _over_time(rates(record, each_second, samples)),
        "depth.csv": _over_time(broker["depth"]),
        "memory.csv": _over_time(broker["memory"]),
        "latency.csv": _latencies(result),
        "events.csv": _text(
            ("second", "time_ns", "kind", "event"),
            (
                (f"{whole.second(each.time_ns):.6f}", each.time_ns, each.kind, each.event)
                for each in result.events
            ),
        ),
    }


def _over_time(series: Sequence[Series]) -> str:
    """Return a column for each series; all have the same moments."""
    rows = zip(
        *(each.seconds.tolist() for each in series[:1]),
        *(each.values.tolist() for each in series),
        strict=True,
    )
    return _text(
        ("second", *(each.name for each in series)),
        (
            [f"{second:.3f}", *("" if math.isnan(each) else f"{each:.3f}" for each in values)]
            for second, *values in rows
        ),
    )


def _latencies(result: Result) -> str:
    known: list[tuple[str, str, Percentiles | None]] = [("confirm", "", result.confirm_latency)]
    for name, queue in result.queues.items():
        known.append(("delivery", name, queue.delivery_latency))
        known.append(("acknowledge", name, queue.acknowledge_latency))
    known.append(("lag", "", result.lag))
    names = tuple(Percentiles.__slots__)
    rows = [
        (latency, queue, *("" if (v := getattr(each, name)) is None else v for name in names))
        for latency, queue, each in known
        if each is not None
    ]
    return _text(("latency", "queue", *names), rows)


def _text(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_harmless(each) for each in headings])
    writer.writerows([_harmless(each) for each in row] for row in rows)
    return file.getvalue()


def _harmless(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{cell}"
    return cell
