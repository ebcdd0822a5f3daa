"""Put a page together: all of it inline, what is from outside escaped, no script but our own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import rmqbench
from rmqbench.report.html.scales import milliseconds_text
from rmqbench.report.html.view import RunView

__all__ = ["page"]

_HERE = files("rmqbench.report.html")


def page(runs: Sequence[RunView], title: str = "") -> str:
    """Return a page about one run, or several, as a text."""
    script = Markup(_read("uplot/uPlot.iife.min.js") + "\n" + _read("script.js"))
    style = Markup(_read("uplot/uPlot.min.css") + "\n" + _read("style.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title or (runs[0].title if len(runs) == 1 else f"{len(runs)} runs"),
            version=rmqbench.__version__,
            policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
            style=style,
            script=script,
            runs=runs,
            overview=_overview(runs),
        )
    )


@dataclass(frozen=True, slots=True)
class _OverviewRow:
    outcome: str
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Overview:
    """A table of all runs, a row each."""

    headings: Sequence[str]
    rows: Sequence[_OverviewRow]


def _overview(runs: Sequence[RunView]) -> _Overview:
    rows = []
    for each in runs:
        result = each.result
        confirm = result.confirm_latency
        cells = (
            each.title,
            str(result.broker.get("version")),
            f"{result.messages:,}",
            f"{result.publish.rate_per_s:,.0f}/s",
            f"{result.consume.rate_per_s:,.0f}/s",
            "-" if confirm is None else milliseconds_text(confirm.p99_ms),
        )
        rows.append(_OverviewRow(each.outcome, cells))
    headings = ("run", "RabbitMQ", "messages", "published", "consumed", "confirm, p99")
    return _Overview(headings, rows)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rmqbench.report.html", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["milliseconds"] = milliseconds_text
    return environment


@cache
def _read(name: str) -> str:
    return _HERE.joinpath(name).read_text(encoding="utf-8")
