"""The house has floors: a module imports from beneath, or beside it without a circle."""

import ast
from pathlib import Path

import pytest

import rmqbench

PACKAGE = Path(rmqbench.__file__).parent
FLOORS = {
    "message": 0,
    "frames": 0,
    "errors": 0,
    "endpoint": 0,
    "text": 0,
    "ledger": 1,
    "evidence": 1,
    "verdict": 1,
    "figures": 1,
    "result": 1,
    "run_directory": 1,
    "amqp": 2,
    "broker": 2,
    "topology": 2,
    "connection": 2,
    "pace": 2,
    "pause": 2,
    "vector": 2,
    "subscriber": 2,
    "taker": 2,
    "recovery": 2,
    "producer": 2,
    "consumer": 2,
    "management": 2,
    "monitor": 2,
    "testing": 2,
    "scenario": 3,
    "workers": 3,
    "isolation": 3,
    "drain": 3,
    "disturbance": 3,
    "faults": 3,
    "strikes": 3,
    "runner": 3,
    "cleanup": 3,
    "report": 4,
    "dashboard": 4,
    "pytest_plugin": 4,
    "cli": 4,
    "gui": 4,
    "__main__": 5,
    "__init__": 5,
}
OUTSIDE = {
    "pika": {
        "frames",
        "message",
        "amqp",
        "connection",
        "producer",
        "consumer",
        "subscriber",
        "topology",
        "testing",
    },
    "requests": {"management"},
    "rich": {"report", "cli", "dashboard"},
    "tkinter": {"gui"},
    "typer": {"cli"},
}
"""Who may import what from outside."""

BYTES = {"pika", "pika.frame", "pika.spec", "urllib.parse"}
NO_IO = {"socket", "ssl", "requests", "pika", "subprocess", "urllib", "http", "asyncio"}


def part_of(path):
    """Give the name of the module or package just under the root."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Give all modules that a file imports, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            if node.module == "rmqbench":
                yield from (f"rmqbench.{alias.name}" for alias in node.names)
            else:
                yield node.module


def parts():
    """Give each part and the parts that it imports."""
    graph = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = (name.split(".") for name in imports_of(path))
        wanted = {name[1] for name in names if name[0] == "rmqbench" and len(name) > 1}
        graph.setdefault(part_of(path), set()).update(wanted & set(FLOORS))
    return graph


GRAPH = parts()


def test_every_part_has_its_floor():
    assert set(GRAPH) == set(FLOORS)


@pytest.mark.parametrize("part", GRAPH)
def test_a_part_imports_nothing_from_above(part):
    above = {other for other in GRAPH[part] if FLOORS[other] > FLOORS[part]}
    assert not above


def test_no_part_needs_itself():
    waiting = {part: others - {part} for part, others in GRAPH.items()}
    while free := [part for part, others in waiting.items() if not others]:
        for part in free:
            del waiting[part]
        for others in waiting.values():
            others.difference_update(free)
    assert not waiting, f"in a circle: {waiting}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_what_is_foreign_stays_with_those_who_know_it(path):
    part = part_of(path)
    for name in imports_of(path):
        top = name.split(".")[0]
        if top in OUTSIDE and part != "broker":
            assert part in OUTSIDE[top], f"{part} imports {name}"
        if FLOORS[part] <= 1 and name not in BYTES:
            assert top not in NO_IO, f"{part} is to do no input or output, and imports {name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_a_module_is_at_most_a_few_hundred_lines(path):
    assert len(path.read_text().splitlines()) <= 500
