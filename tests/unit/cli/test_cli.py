"""What the commands share, in this process and without a broker."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import typer
from typer.testing import CliRunner

import rmqbench.broker
import rmqbench.gui
from rmqbench import cli, scenarios
from rmqbench.amqp import topology
from rmqbench.broker import Broker
from rmqbench.cli import consume, produce, run, running
from rmqbench.cli.evidence import Evidence
from rmqbench.clients import counting_consumer
from rmqbench.clients.counting_consumer import Tally
from rmqbench.endpoint import Endpoint
from rmqbench.errors import QueueNotFound, RmqbenchError, UsageError
from rmqbench.scenarios import Scenario


def test_no_error_tells_the_password_of_a_url_that_was_taken_for_a_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = QueueNotFound("There is no queue 'amqp://ann:secret@h'.", "Write amqp://user:pw@host.")
    assert cli._explain(error) == 2
    assert capsys.readouterr().err == (
        "Error: There is no queue 'amqp://ann:***@h'. Write amqp://user:pw@host.\n"
    )


def test_a_brokers_line_feed_forges_no_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def enough(*_: object, **__: object) -> NoReturn:
        raise UsageError("That is enough.")

    broker = Broker("external", Endpoint(), "3.10\nPASS\x1b[2J", "by name")
    monkeypatch.setattr("rmqbench.runner.run.run", enough)
    evidence = Evidence(None, 10, 30)
    with pytest.raises(UsageError):
        running.run_and_exit(Scenario("any"), nullcontext(broker), evidence, None, 10)
    assert capsys.readouterr().err == (
        "RabbitMQ 3.10\\nPASS\\x1b[2J at amqp://guest@localhost:5672: by name\n"
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("reliability", "--directory", "."), "is not empty"),
        (("faults", "--directory", "."), "is not empty"),
        (("storm", "--directory", "."), "is not empty"),
        (("reliability", "--directory", "./of a user/run"), "cannot be made"),
    ],
)
def test_a_directory_that_cannot_serve_is_refused_before_a_broker_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("of a user").write_text("")
    monkeypatch.setattr("rmqbench.broker.open_broker", lambda *_, **__: Unopened())
    ended = CliRunner().invoke(cli.app, ["run", *command, "--broker", "local"])
    assert isinstance(ended.exception, UsageError)
    assert said in str(ended.exception)


class Unopened(AbstractContextManager[Broker]):
    """A broker that nobody may open."""

    def __enter__(self) -> NoReturn:
        raise AssertionError("it was opened")

    def __exit__(self, *_: object) -> None:
        raise AssertionError("it was opened")


@pytest.mark.parametrize("name", run.DEFAULTS)
def test_the_defaults_in_the_help_are_the_scenarios(name: str) -> None:
    assert getattr(scenarios, name)(**run.DEFAULTS[name]) == getattr(scenarios, name)()


@pytest.mark.parametrize(("value", "wanted"), [("0", False), ("1", True), (None, True)])
def test_rmqbench_vector_counts_for_the_tools_as_for_a_run(
    monkeypatch: pytest.MonkeyPatch, value: str | None, wanted: bool
) -> None:
    plans: list[Any] = []
    broker = Broker("external", Endpoint(), "3.10.8", "by name")
    declared = SimpleNamespace(notes=())
    monkeypatch.setattr(topology, "counts", lambda *_: (0, 0))
    monkeypatch.setattr(topology, "declare", lambda *_: declared)
    monkeypatch.setattr(rmqbench.broker, "open_broker", lambda _: nullcontext(broker))
    monkeypatch.setattr(produce, "_publish", lambda plan, *_: plans.append(plan))
    monkeypatch.setattr(
        counting_consumer, "CountingConsumer", lambda subscription, *_: plans.append(subscription)
    )
    monkeypatch.setattr(consume, "_take", lambda *_: None)
    monkeypatch.delenv("RMQBENCH_VECTOR", raising=False)
    if value is not None:
        monkeypatch.setenv("RMQBENCH_VECTOR", value)
    for command in ("produce", "consume"):
        assert CliRunner().invoke(cli.app, command).exit_code == 0
    assert [plan.vector for plan in plans] == [wanted, wanted]


class BrokenConsumer:
    """Ends like a consumer with a bug, or early without an error."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure

    def run(self) -> None:
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("expect", [None, 10])
def test_a_worker_that_breaks_is_no_success(
    capsys: pytest.CaptureFixture[str], expect: int | None
) -> None:
    consumers: list[Any] = [BrokenConsumer(KeyError("tag"))]
    with pytest.raises(typer.Exit) as caught:
        consume._take(consumers, Tally(expect), "Worker", expect, 10, as_json=False)
    assert caught.value.exit_code == 3
    output = capsys.readouterr()
    assert output.out.startswith("consumed=0, ")
    assert "Error: A worker ended by KeyError: 'tag'" in output.err


def test_fewer_than_expected_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    consumers: list[Any] = [BrokenConsumer(None)]
    with pytest.raises(typer.Exit) as caught:
        consume._take(consumers, Tally(10), "Worker", 10, 10, as_json=False)
    assert caught.value.exit_code == 3
    consume._take(consumers, Tally(), "Worker", None, 10, as_json=False)


def test_a_python_without_tk_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rmqbench.gui.window", raising=False)
    monkeypatch.delattr(rmqbench.gui, "window", raising=False)
    monkeypatch.setitem(sys.modules, "tkinter", None)
    result = CliRunner().invoke(cli.app, ["gui"])
    assert isinstance(result.exception, RmqbenchError)
    assert "apt install python3-tk" in result.exception.remedy


def test_the_help_says_that_messages_are_taken() -> None:
    assert "It consumes like a worker" in CliRunner().invoke(cli.app, ["gui", "--help"]).stdout
