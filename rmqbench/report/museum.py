"""The museum for people: its exhibits, and what came of reproducing one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rmqbench.museum import Exhibit, Reproduction
from rmqbench.report.terminal import STYLES, unbroken
from rmqbench.text import visible_line

__all__ = ["exhibit_view", "museum_view", "reproductions_view"]


def museum_view(exhibits: Sequence[Exhibit]) -> RenderableType:
    """Show all exhibits: a line with the names of each, and two on what it is."""
    return Group(
        *(line for each in exhibits for line in _entry(each)),
        unbroken(
            "rmqbench museum EXHIBIT tells of one; rmqbench reproduce EXHIBIT shows it.", "dim"
        ),
    )


def _entry(exhibit: Exhibit) -> Iterator[RenderableType]:
    yield Text.assemble((_names(exhibit), "bold"), (f"  {exhibit.seconds} s", "dim"))
    yield Padding(Text(exhibit.title), (0, 0, 0, 2))
    yield Padding(Text(f"RabbitMQ {_affected(exhibit)}", "dim"), (0, 0, 1, 2))


def exhibit_view(exhibit: Exhibit) -> RenderableType:
    """Show all that is known of an exhibit."""
    measured = [f"{version}: {often}" for version, often in exhibit.measured.items()]
    facts = (
        ("What is lost", exhibit.lost),
        ("Affected", _affected(exhibit)),
        ("Mended in", exhibit.fixed),
        ("Reproduced", ", ".join(measured)),
    )
    return Group(
        Text(f"{_names(exhibit)}: {exhibit.title}", "bold"),
        *(Text(f"{name}: {said}") for name, said in facts if said),
        Text("\nWhat it looked like", "bold"),
        Padding(Text(_flowing(exhibit.looked_like)), (0, 0, 0, 2)),
        Text("\nWhy", "bold"),
        Padding(Text(_flowing(exhibit.why)), (0, 0, 0, 2)),
        Text(""),
        *(unbroken(page, "") for page in exhibit.pages),
        unbroken(f"Reproduce it: rmqbench reproduce {exhibit.reference or exhibit.name}", ""),
    )


def reproductions_view(reproductions: Sequence[Reproduction]) -> RenderableType:
    """Show what came of it on each version, and how often it showed."""
    by_version: dict[str, list[Reproduction]] = {}
    for each in reproductions:
        by_version.setdefault(str(each.result.broker.get("version")), []).append(each)
    return Group(*_said(by_version))


def _said(by_version: dict[str, list[Reproduction]]) -> Iterator[RenderableType]:
    for those in by_version.values():
        shown = [each for each in those if each.count]
        (first, *_) = shown or those
        line = visible_line(first.said)
        word, _, rest = line.partition(":")
        often = f" (reproduced {len(shown)} of {len(those)})" if len(those) > 1 else ""
        yield Text.assemble((word, STYLES[word]), (f":{rest}{often}", "bold"))
        yield unbroken(f"The evidence lies in {visible_line(str(first.result.directory))}", "dim")


def _names(exhibit: Exhibit) -> str:
    return " ".join(filter(None, (exhibit.reference and f"#{exhibit.reference}", exhibit.name)))


def _affected(exhibit: Exhibit) -> str:
    return ", ".join(exhibit.affected) or "all, by design"


def _flowing(text: str) -> str:
    return " ".join(text.split())
