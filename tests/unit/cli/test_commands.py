"""Commands are imported when they are called, and their help is plain, whole and quick."""

from __future__ import annotations

import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from support.cost import least_cpu_s, loaded_by, ours_in, packages
from typer.main import get_command
from typer.testing import CliRunner

from rmqbench import cli
from rmqbench.cli.commands import Command, Group, new_app
from rmqbench.monitor.model import DEEP, VERY_DEEP

HEAVY = {
    *("docker", "numpy", "pika", "psutil", "pydantic", "requests", "rich", "testcontainers"),
    *("distributed", "tkinter", "urllib3"),
}
RUN = "from rmqbench.__main__ import main; main()"
# Of rmqbench's other rooms a help needs these.
BENEATH = {"rmqbench", "rmqbench.__main__", "rmqbench.endpoint", "rmqbench.errors", "rmqbench.text"}
OF_RUN = {"rmqbench.units"}
HELPS = ["", *cli.COMMANDS, "run stress", "run faults", "broker start"]


def shown(app: Any, *arguments: str) -> str:
    ended = CliRunner().invoke(app, [*arguments])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def in_one_line(text: str) -> str:
    return " ".join(text.split())


# --- what is imported ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", HELPS)
def test_a_help_imports_its_command_and_nothing_heavy(command: str) -> None:
    loaded = loaded_by(RUN, *command.split(), "--help")
    assert packages(loaded) & HEAVY == set()
    ours = ours_in(loaded)
    needed = BENEATH | OF_RUN if command.startswith("run") else BENEATH
    needed = needed | {"rmqbench.units"} if command == "produce" else needed
    assert {each for each in ours if not each.startswith("rmqbench.cli")} == needed
    called = {f"rmqbench.cli.{each}" for each in command.split()[:1]}
    assert {each for each in ours if each.rpartition(".")[2] in cli.COMMANDS} == called


NOT_EVERYWHERE = {"distributed", "pydantic", "tkinter"}


@pytest.mark.parametrize("name", sorted(HEAVY - NOT_EVERYWHERE))
def test_what_is_called_heavy_would_be_seen(name: str) -> None:
    assert name in packages(loaded_by(f"import {name}"))


def test_a_help_costs_little_more_than_typer_itself() -> None:
    help_of = [sys.executable, "-m", "rmqbench"]
    typer_alone, *helps = least_cpu_s(
        [sys.executable, "-c", "import typer"],
        [*help_of, "--help"],
        [*help_of, "run", "stress", "--help"],
    )
    assert max(helps) < 2.5 * typer_alone, (typer_alone, helps)


# --- the list of commands -----------------------------------------------------------------------


def test_every_command_is_listed_with_the_first_sentence_of_its_help() -> None:
    modules = {each.name for each in pkgutil.iter_modules(cli.__path__)}
    named = {each for each in modules if hasattr(import_module(f"rmqbench.cli.{each}"), "app")}
    assert named == set(cli.COMMANDS)
    for name, sentence in cli.COMMANDS.items():
        first = shown(cli.app, name, "--help").split("\n\n")[1]
        assert in_one_line(first) == sentence


def test_the_list_has_a_whole_sentence_of_each_command() -> None:
    told = in_one_line(shown(cli.app, "--help"))
    for name, sentence in cli.COMMANDS.items():
        assert f" {name} {sentence}" in told
    assert "drained: every one must arrive, once and intact." in in_one_line(
        shown(cli.app, "run", "--help")
    )


def test_the_help_and_the_page_of_options_name_every_exit_code() -> None:
    page = (Path(__file__).parents[3] / ".github" / "docs" / "options.md").read_text()
    codes = {"0", "1", "2", "3", "4", "5", "130", "143"}
    told = shown(cli.app, "--help").split("Exit codes:")[1].split("Options:")[0]
    options = page.split("Exit codes of `run`")[1].split("\n\n")[0]
    for text in (told, options):
        assert set(re.findall(r"\b\d+\b", text)) == codes


@pytest.mark.parametrize("words", [["rum", "stress"], ["run", "reliabilty"]])
def test_a_mistyped_command_is_answered_with_the_one_that_is_meant(words: list[str]) -> None:
    ended = CliRunner().invoke(cli.app, words)
    assert ended.exit_code == 2
    assert ended.output.endswith(("Did you mean 'run'?\n", "Did you mean 'reliability'?\n"))


def test_completion_knows_the_commands() -> None:
    asked = {"_RMQBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "rmqbench run str"}
    ended = CliRunner().invoke(cli.app, [], prog_name="rmqbench", env={**asked, "COMP_CWORD": "2"})
    assert ended.output.split() == ["stress"]


# --- how a help looks ---------------------------------------------------------------------------


def example() -> typer.Typer:
    app = new_app()

    @app.command(cls=Command)
    def act(
        where: Annotated[str, typer.Argument(metavar="WHERE", help="The place.")],
        host: Annotated[str, typer.Option(help="Its host.", rich_help_panel="Connection")] = "h",
        often: Annotated[int, typer.Option(help="How often.", min=1)] = 3,
        secret: Annotated[bool, typer.Option("--secret", hidden=True)] = False,
    ) -> None:
        """Act."""

    return app


def test_options_of_a_panel_stand_under_its_heading() -> None:
    headings = [each for each in shown(example(), "--help").splitlines() if each[:1].strip()]
    assert headings[1:] == ["Arguments:", "Options:", "Connection:"]
    own, shared = shown(example(), "--help").split("Options:")[1].split("Connection:")
    assert "--often" in own
    assert "[default: 3; x>=1]" in own
    assert "--help" in own
    assert "--host" in shared
    assert "--secret" not in own + shared


def test_every_command_of_ours_has_such_a_help() -> None:
    def below(command: Any) -> None:
        for each in command.commands.values():
            if hasattr(each, "commands"):
                assert isinstance(each, Group)
                below(each)
            else:
                assert isinstance(each, Command)

    below(get_command(cli.app))


def test_nothing_is_cut_short_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = shown(cli.app, "run", "stress", "--help")
    assert max(map(len, told.splitlines())) <= 80
    assert "…" not in told.replace("://…", "")
    assert "a new one in ~/.local/state/rmqbench/runs)" in in_one_line(told)
    assert "[IPv6]:port" in told


def test_the_help_of_monitor_names_the_depths_that_it_colours() -> None:
    told = in_one_line(shown(cli.app, "monitor", "--help"))
    assert f"yellow (▲) from {DEEP:,} messages on, red (■) from {VERY_DEEP:,} on" in told
