"""``rmqbench export``: results for machines, and for pages that others make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.json_file import is_stdout, require_writable, write_file
from rmqbench.cli.output import say, write_out
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.text import visible_line

__all__ = ["app"]

app = new_app()

_FORMATS = ("markdown", "prometheus", "csv", "hdr")


@app.command(cls=Command)
def export(
    runs: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Directories of runs, finished or not.")
    ],
    form: Annotated[str, typer.Option("--as", help="markdown, prometheus, csv or hdr.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default="standard output",
            help="Where to; of csv a directory, in which each run has one where there are several.",
        ),
    ] = None,
) -> None:
    """Write what came of runs as Markdown, Prometheus' text, CSV or HDR histograms.

    The exit code is 0, whatever the verdicts.

    Example: rmqbench export evidence/monday --as markdown >> "$GITHUB_STEP_SUMMARY"
    """
    if form not in _FORMATS:
        raise UsageError(f"There is no format {form!r}.", f"There are {', '.join(_FORMATS)}.")
    if form == "csv":
        _write_tables(runs, output)
        return
    require_writable(output)
    text = _text_of(runs, form)
    written = (
        write_out(text) if output is None or is_stdout(output) else write_file(output, text, "")
    )
    raise typer.Exit(0 if written else RmqbenchError.exit_code)


def _text_of(runs: list[Path], form: str) -> str:
    from rmqbench.report.formats.hdr import hdr_log
    from rmqbench.report.formats.markdown import markdown
    from rmqbench.report.formats.prometheus import prometheus
    from rmqbench.results.judging import judge

    if form == "hdr":
        if len(runs) > 1:
            raise UsageError("A log of histograms is of one run.", "Export each by itself.")
        return hdr_log(runs[0])
    results = [("" if len(runs) == 1 else each.name, judge(each)) for each in runs]
    return markdown(results) if form == "markdown" else prometheus(results)


def _write_tables(runs: list[Path], output: Path | None) -> None:
    from rmqbench.report.formats.tables import csv_files

    if output is None or is_stdout(output):
        raise UsageError("CSV is several files.", "Name a directory for them: -o DIRECTORY")
    for run in runs:
        place = output if len(runs) == 1 else output / run.name
        files = csv_files(run)
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
        say(visible_line(f"{', '.join(files)} in {place}"))
