"""Put a page together: all of it inline, what is from outside escaped, no script but our own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import rmqbench
from rmqbench.comparing import compare
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.open_files import allow_open_files
from rmqbench.report.comparison import said_of
from rmqbench.report.html.scales import milliseconds_text, short
from rmqbench.report.html.view import RunView
from rmqbench.report.terminal import describe_scenario

__all__ = ["page"]

_HERE = files("rmqbench.report.html")
_HEADINGS = ("run", "RabbitMQ", "messages", "published", "consumed", "confirm, p99")
_OPEN_FILES = 8192  # of a run with a thousand workers; each has several columns


@dataclass(frozen=True, slots=True)
class _Part:
    """A run on the page: its row in the table of several, and all that is said of it."""

    outcome: str
    title: str
    cells: Sequence[str]
    body: Markup
    alike: str = ""  # what runs have in common that are compared
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What changed from one version of RabbitMQ to another, in runs that are alike."""

    title: str
    rows: Sequence[Sequence[str]]


def page(runs: Sequence[tuple[Path, str]], title: str = "") -> str:
    """Return a page about runs, each a directory and a title ("": what was run), as a text.

    One that cannot be read is on it with the reason, where there are others. Raise RmqbenchError
    where there is none.
    """
    with suppress(UsageError):  # then as many as there may be must do
        allow_open_files(_OPEN_FILES)
    alone = len(runs) == 1
    parts = [_part(path, number, name, alone=alone) for number, (path, name) in enumerate(runs, 1)]
    script = Markup(_read("uplot/uPlot.iife.min.js") + "\n" + _read("script.js"))
    style = Markup(_read("uplot/uPlot.min.css") + "\n" + _read("style.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title or (parts[0].title if len(parts) == 1 else f"{len(parts)} runs"),
            version=rmqbench.__version__,
            policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
            style=style,
            script=script,
            parts=parts,
            headings=_HEADINGS,
            changes=list(_changes(parts)),
        )
    )


def _part(path: Path, number: int, title: str, *, alone: bool) -> _Part:
    """Return a run's part; its evidence is read, and let go of, before the next one's."""
    try:
        view = RunView(path, number, title)
        body = _environment().get_template("run.html.j2").render(it=view)
    except RmqbenchError as error:
        if alone:
            raise
        said = Markup("<p>{}</p>").format(str(error))
        return _Part("NOT READ", title or str(path), [title or str(path), *["-"] * 5], said)
    result = view.result
    confirm = result.confirm_latency
    cells = (
        view.title,
        str(result.broker.get("version")),
        f"{result.messages:,}",
        f"{result.publish.rate_per_s:,.0f}/s",
        f"{result.consume.rate_per_s:,.0f}/s",
        "-" if confirm is None else milliseconds_text(confirm.p99_ms),
    )
    alike = describe_scenario(result)
    return _Part(view.outcome, view.title, cells, Markup(body), alike, result.as_dict())


def _changes(parts: Sequence[_Part]) -> Iterator[_Changes]:
    """Yield what changed from the first version of RabbitMQ to each other, scenario by scenario."""
    sides: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for part in parts:
        if part.result:
            version = str(part.result["broker"].get("version"))
            sides.setdefault(part.alike, {}).setdefault(version, []).append(part.result)
    for alike, versions in sides.items():
        (base, of_base), *others = versions.items()
        for new, of_new in others:
            compared = compare(of_base, of_new, names=(base, new))
            rows = [
                (
                    each.figure,
                    short(each.base or 0.0),
                    short(each.new or 0.0),
                    f"{100 * ((each.ratio or 1.0) - 1):+.1f}%",
                    said_of(each),
                )
                for each in compared.changes
            ]
            if rows:
                yield _Changes(f"{alike}: from RabbitMQ {base} to {new}", rows)


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
