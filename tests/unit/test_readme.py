"""The README knows every option, file and command there is."""

import re
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from rmqbench import pytest_plugin
from rmqbench.broker import DEFAULT_IMAGE
from rmqbench.cli import app
from rmqbench.cli.connecting import ConnectionOptions
from rmqbench.faults import FAULTS
from rmqbench.verdict.findings import FINDINGS, OUTCOMES

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", pytest_plugin.settings.OPTIONS)
def test_every_option_is_in_the_table_with_its_three_names(name):
    variable = f"rmqbench_{name.replace('-', '_')}"
    row = f"| `--rmqbench-{name}` | `{variable}` | `{variable.upper()}` |"
    assert row in README


def test_the_defaults_in_the_table_are_the_codes():
    assert f"| `{DEFAULT_IMAGE}` |" in README
    settings = pytest_plugin.Settings()
    assert f"| {settings.min_publish_rate:,.0f} messages a second |" in README
    assert f"| {settings.min_consume_rate:,.0f} messages a second |" in README


@pytest.mark.parametrize("name", [*OUTCOMES, *FINDINGS])
def test_every_finding_is_explained(name):
    cells = re.findall(r"^\| ([a-z, ]+) \|", README, re.MULTILINE)
    assert name in {each.strip() for cell in cells for each in cell.split(",")}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_in_the_table(name):
    cells = re.findall(r"^\| (`[a-z`, -]+) \|", README, re.MULTILINE)
    assert any(f"`{name}`" in cell for cell in cells)


def fixtures():
    source = Path(pytest_plugin.__file__).read_text(encoding="utf-8")
    return re.findall(r"@pytest\.fixture.*\ndef (\w+)", source)


@pytest.mark.parametrize("name", fixtures())
def test_every_fixture_is_named(name):
    assert f"| `{name}` |" in README


def commands():
    found = []
    for name, command in get_command(app).commands.items():
        below = getattr(command, "commands", {"": None})
        found += [f"rmqbench {name} {each}".strip() for each in below]
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_is_shown(command):
    assert command in README


@pytest.mark.parametrize("command", commands())
def test_the_help_of_every_command_has_an_example_of_it(command):
    told = CliRunner().invoke(app, [*command.split()[1:], "--help"]).output
    assert f"Example: {command}" in " ".join(told.split())


TOOLS = ["produce", "consume", "monitor", "gui", "cleanup"]
CONNECTION = {f"--{name.replace('_', '-')}" for name in ConnectionOptions.__dataclass_fields__}


def rows_of(tool):
    """The rows of the table whose heading is the tool."""
    found = re.search(rf"^\| `rmqbench {tool}` \|.*\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert found, f"there is no table of rmqbench {tool}"
    return found[1].splitlines()[1:]


@pytest.mark.parametrize("name", sorted(CONNECTION))
def test_every_connection_option_is_in_their_table(name):
    table = README.partition("### Naming a broker")[2].partition("### ")[0]
    assert re.search(rf"^\| .*`{name}`.* \|", table, re.MULTILINE)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_table_of_a_tool_has_its_options_and_defaults(tool):
    rows = rows_of(tool)
    options = [p for p in get_command(app).commands[tool].params if p.opts[0].startswith("--")]
    for option in options:
        name = option.opts[0]
        if name in {"--help", *CONNECTION} or option.hidden:
            continue
        here = [row for row in rows if f"`{name}`" in row] or [
            row for row in README.splitlines() if f"`{name}` is accepted" in row
        ]
        assert here, f"{tool} {name} is in no row"
        if option.default not in (None, False, True):
            assert str(option.default).removesuffix(".0") in here[0], (
                f"{tool} {name}: {option.default}"
            )


@pytest.mark.parametrize("tool", TOOLS)
def test_the_table_of_a_tool_has_no_option_that_is_not_there(tool):
    params = get_command(app).commands[tool].params
    there = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    for row in rows_of(tool):
        assert set(re.findall(r"`(--[a-z-]+)", row)) <= there, row
