"""What the subcommands share: told in-process, without a broker."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import typer
from typer.testing import CliRunner

from rmqbench import cli
from rmqbench.amqp import topology
from rmqbench.broker import Broker
from rmqbench.cli import consume, options
from rmqbench.clients.taker import Tally
from rmqbench.endpoint import Endpoint
from rmqbench.errors import QueueNotFound, UsageError


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
    broker = Broker("external", Endpoint(), "3.10\nPASS\x1b[2J", "by name")
    monkeypatch.setattr(options, "open_broker", lambda *_, **__: nullcontext(broker))
    with options.chosen_broker("amqp://h", None, "", None):
        pass
    assert capsys.readouterr().err == (
        "RabbitMQ 3.10\\nPASS\\x1b[2J at amqp://guest@localhost:5672: by name\n"
    )


@pytest.mark.parametrize("command", [("run", "faults"), ("broker", "start")], ids=" ".join)
def test_a_broker_of_our_own_is_not_looked_for_at_rmqbench_url(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_broker(spec: str, **_: object) -> NoReturn:
        opened.append(spec)
        raise UsageError("That is enough.")

    monkeypatch.setattr(options, "open_broker", open_broker)
    monkeypatch.setattr(cli.broker, "open_broker", open_broker)
    monkeypatch.setenv("RMQBENCH_URL", "amqp://elsewhere")
    monkeypatch.delenv("RMQBENCH_BROKER", raising=False)
    CliRunner().invoke(cli.app, command)
    monkeypatch.setenv("RMQBENCH_BROKER", "local")
    CliRunner().invoke(cli.app, command)
    assert opened == ["auto", "local"]


NAMED = [
    (["--url", "amqp://b"], "http://b:15672"),
    (["--host", "b"], "http://b:15672"),
    (["--port", "5673"], "http://localhost:15672"),
    (["--url", "amqp://b", "--management-url", "http://m"], "http://m"),
    ([], "http://a:1"),
]


@pytest.mark.parametrize(("options", "asked"), NAMED, ids=str)
@pytest.mark.parametrize("broker", ["amqp://a", ""])
def test_a_named_broker_is_never_judged_by_the_management_api_of_another_one(
    monkeypatch: pytest.MonkeyPatch, options: list[str], asked: str, broker: str
) -> None:
    found: list[str | None] = []

    def find(endpoint: Endpoint, *_: object) -> NoReturn:
        found.append(endpoint.management_url)
        raise UsageError("That is enough.")

    monkeypatch.setattr(cli.cleanup, "find", find)
    monkeypatch.setenv("RMQBENCH_URL", broker)
    monkeypatch.setenv("RMQBENCH_MANAGEMENT_URL", "http://a:1")
    CliRunner().invoke(cli.app, ["cleanup", "exchanges", "--dry-run", *options])
    assert found == [asked]


@pytest.mark.parametrize(
    ("url", "broker", "asked"),
    [("amqp://b", None, None), (None, "amqp://b", None), (None, None, "http://a:1")],
)
def test_nor_is_a_run(
    monkeypatch: pytest.MonkeyPatch, url: str | None, broker: str | None, asked: str | None
) -> None:
    opened: list[str | None] = []

    def open_broker(*_: object, management_url: str | None, **__: object) -> NoReturn:
        opened.append(management_url)
        raise UsageError("That is enough.")

    monkeypatch.setattr(options, "open_broker", open_broker)
    monkeypatch.setenv("RMQBENCH_URL", "amqp://a")
    monkeypatch.setenv("RMQBENCH_MANAGEMENT_URL", "http://a:1")
    with pytest.raises(UsageError), options.chosen_broker(url, broker, "", None):
        pass
    assert opened == [asked]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--version"], 0), (["run", "faults", "--list"], 0), (["--help"], 3)],
    ids=["version", "list", "help"],
)
def test_a_closed_output_is_no_verdict(arguments: list[str], code: int) -> None:
    program = [sys.executable, "-m", "rmqbench", *arguments]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.returncode == code, told
    assert b"Traceback" not in told


@pytest.mark.parametrize(("value", "wanted"), [("0", False), ("1", True), (None, True)])
def test_rmqbench_vector_counts_for_the_tools_as_for_a_run(
    monkeypatch: pytest.MonkeyPatch, value: str | None, wanted: bool
) -> None:
    plans: list[Any] = []
    broker = Broker("external", Endpoint(), "3.10.8", "by name")
    declared = SimpleNamespace(notes=())
    monkeypatch.setattr(topology, "counts", lambda *_: (0, 0))
    monkeypatch.setattr(topology, "declare", lambda *_: declared)
    monkeypatch.setattr(cli.produce, "open_broker", lambda _: nullcontext(broker))
    monkeypatch.setattr(cli.produce, "_publish", lambda plan, *_: plans.append(plan))
    monkeypatch.setattr(consume, "Taker", lambda subscription, *_: plans.append(subscription))
    monkeypatch.setattr(consume, "_take", lambda *_: None)
    monkeypatch.delenv("RMQBENCH_VECTOR", raising=False)
    if value is not None:
        monkeypatch.setenv("RMQBENCH_VECTOR", value)
    for command in ("produce", "consume"):
        assert CliRunner().invoke(cli.app, command).exit_code == 0
    assert [plan.vector for plan in plans] == [wanted, wanted]


class BrokenTaker:
    """Ends like a taker with a bug, or early without an error."""

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
    takers: list[Any] = [BrokenTaker(KeyError("tag"))]
    with pytest.raises(typer.Exit) as caught:
        consume._take(takers, Tally(expect), "Worker", expect, 10, as_json=False)
    assert caught.value.exit_code == 3
    output = capsys.readouterr()
    assert output.out.startswith("consumed=0, ")
    assert "Error: A worker ended by KeyError: 'tag'" in output.err


def test_fewer_than_expected_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    takers: list[Any] = [BrokenTaker(None)]
    with pytest.raises(typer.Exit) as caught:
        consume._take(takers, Tally(10), "Worker", 10, 10, as_json=False)
    assert caught.value.exit_code == 3
    consume._take(takers, Tally(), "Worker", None, 10, as_json=False)
