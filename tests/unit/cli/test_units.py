"""Rates and durations are options like others: what is wrong is said with their names."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from rmqbench import cli
from rmqbench.cli import run as run_command
from rmqbench.scenarios import Scenario


@pytest.mark.parametrize("name", ["reliability", "online", "stress"])
def test_they_reach_the_scenario(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[Scenario] = []
    monkeypatch.setattr(
        run_command, "run_and_exit", lambda scenario, *_, **__: asked.append(scenario)
    )
    options = ("--duration", "1m30s", "--rate", "200/s", "--churn", "0.5/s")
    ended = CliRunner().invoke(cli.app, ["run", name, *options])
    assert ended.exit_code == 0, ended.output
    (scenario,) = asked
    assert (scenario.duration_s, scenario.publish_rate, scenario.churn) == (90, "200/s", 0.5)
    assert scenario.messages is None


@pytest.mark.parametrize(("option", "example"), [("--duration", "90s or 8h"), ("--churn", "50/s")])
def test_what_is_wrong_is_said_with_the_option_and_an_example(option: str, example: str) -> None:
    ended = CliRunner().invoke(cli.app, ["run", "reliability", option, "soon"])
    assert ended.exit_code == 2
    told = " ".join(ended.output.split())
    assert f"Invalid value for '{option}'" in told
    assert f"Write it such as {example}" in told
