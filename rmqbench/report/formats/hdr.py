"""HDR histograms, a line each, for other tools to draw and to merge (https://hdrhistogram.org)."""

from __future__ import annotations

from pathlib import Path

from rmqbench.errors import UsageError
from rmqbench.results.series import curves, time_axis
from rmqbench.results.steps import middles_of
from rmqbench.run_directory.reading import read_run

__all__ = ["hdr_log"]

_LONGEST_US = 24 * 3600 * 1_000_000
_DIGITS = 3


def hdr_log(directory: Path) -> str:
    """Return the latencies of a run as a log of histograms, in microseconds, tagged by their names.

    They are exact to a sixty-fourth, as counted for charts. Raise UsageError where the extra of
    this is not installed.
    """
    try:
        from hdrh.histogram import HdrHistogram  # noqa: PLC0415  # an extra
    except ImportError:
        raise UsageError(
            "HdrHistogram, which writes these files, is not installed.",
            "Install it: pip install 'rmqbench[hdr]'",
        ) from None
    record = read_run(directory)
    axis = time_axis(record)
    lines = ["#[Histogram log format version 1.2]", f"#[StartTime: {axis.start_ns / 1e9:.3f}]"]
    lines.append(
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
    )
    for name, counts in curves(record).items():
        histogram = HdrHistogram(1, _LONGEST_US, _DIGITS)
        for value_ns, count in middles_of(counts):
            histogram.record_value(min(max(1, round(value_ns / 1000)), _LONGEST_US), count)
        tag = "".join(each if each not in ", \n\r" else "-" for each in name)
        encoded = histogram.encode().decode()
        most_ms = histogram.get_max_value() / 1000
        lines.append(f"Tag={tag},0.000,{axis.seconds:.3f},{most_ms:.3f},{encoded}")
    return "\n".join(lines) + "\n"
