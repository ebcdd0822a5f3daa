"""Put a page together: all of it inline, what is from outside escaped, no script but our own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import rmqbench
from rmqbench.comparing import compare
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.open_files import allow_open_files
from rmqbench.payload import DEFAULT
from rmqbench.report.comparison import said_of
from rmqbench.report.html.scales import milliseconds_text, short
from rmqbench.report.html.view import RunView
from rmqbench.report.terminal import describe_scenario
from rmqbench.results.result import Result
from rmqbench.verdict.findings import Effect

__all__ = ["page"]

_HERE = files("rmqbench.report.html")
_HEADINGS = ("run", "RabbitMQ", "messages", "published", "consumed", "confirm, p99")
_FAILING = 2  # findings named in a cell of the matrix
_OPEN_FILES = 8192  # of a run with a thousand workers; each has several columns


@dataclass(frozen=True, slots=True)
class _Part:
    """A run on the page: its row in the table of several, and all that is said of it."""

    outcome: str
    number: int
    title: str
    cells: Sequence[str]
    body: Markup
    result: Result | None = None

    @property
    def version(self) -> str:
        """The version of RabbitMQ."""
        return "" if self.result is None else str(self.result.broker.get("version"))


@dataclass(frozen=True, slots=True)
class _Cell:
    """What runs that are alike came to on one version of RabbitMQ: the worst outcome, figures."""

    outcome: str
    said: str
    lines: Sequence[str]
    number: int  # of a run with that outcome, on this page


@dataclass(frozen=True, slots=True)
class _Versions:
    """A row for all runs that are alike, with a cell for each version of RabbitMQ."""

    versions: Sequence[str]
    rows: Sequence[tuple[str, Sequence[_Cell | None]]]


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
            matrix=_matrix(parts),
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
        return _Part("NOT READ", number, title or str(path), [title or str(path), *["-"] * 5], said)
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
    return _Part(view.outcome, number, view.title, cells, Markup(body), result)


def _by_version(parts: Sequence[_Part]) -> dict[str, dict[str, list[_Part]]]:
    """Return the runs by what was run, and then by the version of RabbitMQ."""
    sides: dict[str, dict[str, list[_Part]]] = {}
    for part in parts:
        if part.result is not None:
            of_alike = sides.setdefault(_what_was_run(part.result), {})
            of_alike.setdefault(part.version, []).append(part)
    return sides


def _what_was_run(result: Result) -> str:
    scenario = result.scenario
    said = [describe_scenario(result)]
    if scenario.get("duration_s") is None:
        said.append(f"{result.messages:,} messages")
    else:
        said.append(f"{scenario['duration_s']:g} s")
    if scenario.get("publish_rate") is not None:
        rate = scenario["publish_rate"]
        said.append(f"{rate:g} messages/s" if isinstance(rate, float) else f"{rate} messages/s")
    if scenario.get("size_bytes") is not None:
        said.append(f"{scenario['size_bytes']} bytes")
    if scenario.get("payload", DEFAULT) != DEFAULT:
        said.append(f"payload {scenario['payload']}")
    return ", ".join(said)


def _matrix(parts: Sequence[_Part]) -> _Versions | None:
    """Return all runs by version; None where there is only one."""
    versions = list(dict.fromkeys(part.version for part in parts if part.version))
    if len(versions) < 2:
        return None
    rows = [
        (what, [_cell(of_what[each]) if each in of_what else None for each in versions])
        for what, of_what in _by_version(parts).items()
    ]
    return _Versions(versions, rows)


def _cell(parts: Sequence[_Part]) -> _Cell:
    outcomes = [part.outcome for part in parts]
    worst = next((each for each in ("FAIL", "INCONCLUSIVE") if each in outcomes), "PASS")
    count, first = outcomes.count(worst), parts[outcomes.index(worst)]
    said = worst if count == len(outcomes) else f"{worst}, {count} of {len(outcomes)}"
    results = [part.result for part in parts if part.result is not None]
    published, consumed = (
        _per_second(median(rates)) for rates in zip(*map(_rates, results), strict=True)
    )
    lines = [*_failing(first.result), f"{published} published", f"{consumed} consumed"]
    waited = [each.confirm_latency.p99_ms for each in results if each.confirm_latency is not None]
    known = [each for each in waited if each is not None]  # else it was never reached
    if known:
        lines.append(f"confirm p99 {milliseconds_text(median(known))}")
    return _Cell(worst, said, lines, first.number)


def _failing(result: Result | None) -> Iterator[str]:
    """Yield what failed, in a few words."""
    found = () if result is None else result.verdict.findings
    names = dict.fromkeys(each.name for each in found if each.effect is Effect.FAILS)
    if result is not None and names:
        counts = [f"{result.verdict.count(name):,} {name}" for name in names]
        yield ", ".join(counts[:_FAILING])


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}/s"


def _rates(result: Result) -> tuple[float, float]:
    return result.publish.rate_per_s, result.consume.rate_per_s


def _changes(parts: Sequence[_Part]) -> Iterator[_Changes]:
    """Yield what changed from the first version of RabbitMQ to each other, scenario by scenario."""
    sides = {
        what: {
            version: [part.result.as_dict() for part in of_version if part.result is not None]
            for version, of_version in of_what.items()
        }
        for what, of_what in _by_version(parts).items()
    }
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
