"""The command ``rmqbench monitor``, without a broker."""

import json

import pytest
from support.pictures import picture, queue
from typer.testing import CliRunner

import rmqbench.monitor.source
from rmqbench.cli import app
from rmqbench.errors import ManagementUnavailable, UsageError
from rmqbench.monitor.source import ask

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")


@pytest.fixture
def command(monkeypatch):
    """Run the command in this process, on a picture, and give what it wrote."""
    for name in ("RMQBENCH_URL", "RMQBENCH_MANAGEMENT_URL", "RMQBENCH_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    shown = picture(queue("orders", ready=1234), queue("mails"))
    monkeypatch.setattr(rmqbench.monitor.source, "ask", lambda *_: shown)
    return lambda *arguments: CliRunner().invoke(app, ["monitor", *arguments])


@pytest.mark.parametrize(("pattern", "names"), [("RDE", ["orders"]), ("m*s", ["mails"])])
def test_json_holds_what_the_filter_leaves(command, pattern, names):
    shown = json.loads(command("--json", "--filter", pattern).stdout)
    assert [each["name"] for each in shown["queues"]] == names
    assert shown["time"] == "2023-11-14T22:13:20.000+00:00"
    assert shown["summary"]["queues"] == 2


@pytest.mark.parametrize("arguments", [["--once"], ["--watch", "0"]])
def test_once_is_one_picture(command, arguments):
    ended = command(*arguments)
    assert ended.exit_code == 0
    assert ended.stdout.count("RabbitMQ 4.1.2") == 1
    assert "\x1b" not in ended.stdout


def test_a_negative_interval_is_refused(command):
    assert command("--watch", "-1").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["--host", "127.0.0.1:1"], ManagementUnavailable, "answers at http://127.0.0.1:1"),
        (
            ["--management-url", "amqp://127.0.0.1"],
            UsageError,
            "not the address of a Management API",
        ),
        (["--host", "127.0.0.1:x"], UsageError, "not the address of a broker"),
    ],
)
def test_a_trouble_is_an_error_of_ours(command, monkeypatch, arguments, kind, words):
    monkeypatch.setattr(rmqbench.monitor.source, "ask", ask)
    with pytest.raises(kind, match=words):
        raise command("--once", *arguments).exception
