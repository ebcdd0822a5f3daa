"""``rmqbench run FILE.toml`` in this process, without a broker."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from support.campaigns import LOST, a_result

from rmqbench import cli
from rmqbench.broker import Broker
from rmqbench.campaign import brokers, running
from rmqbench.endpoint import Endpoint
from rmqbench.errors import UsageError

NIGHTLY = 'scenario = ["reliability", "online"]\nbroker = "amqp://ann:${OUR_PASSWORD}@h"\n'


@pytest.fixture
def runs(monkeypatch):
    """What becomes of each run, in turn; then all pass."""
    ends = []

    @contextmanager
    def open_broker(spec, **_):
        yield Broker("external", Endpoint.from_url(spec), "4.0", "by name")

    def run(scenario, broker, *, directory, in_place, watch, executor):
        directory.mkdir()
        end = ends.pop(0) if ends else a_result()
        if isinstance(end, BaseException):
            raise end
        return end

    monkeypatch.setattr(brokers, "open_broker", open_broker)
    monkeypatch.setattr(running, "run", run)
    monkeypatch.setenv("OUR_PASSWORD", "hidden")
    return ends


@pytest.fixture
def file(tmp_path, runs):
    path = tmp_path / "nightly.toml"
    path.write_text(NIGHTLY)
    return path


@pytest.fixture
def invoke(capsys):
    """Run a command in this process, and return how it ended and what it said."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.app(["run", *map(str, arguments)])
        return SimpleNamespace(code=caught.value.code, **capsys.readouterr()._asdict())

    return run


def test_all_runs_are_shown_in_one_table(invoke, file, tmp_path):
    ended = invoke(file, "--directory", tmp_path / "camp")
    assert ended.code == 0
    assert ended.out.startswith("PASS nightly, 2 runs: 2 PASS\n")
    assert "\nRabbitMQ 4.0 at amqp://ann@h:5672: by name\n" in f"\n{ended.err}"
    assert "[1/2] reliability\nPASS reliability: published 1,000/s" in ended.err
    assert "[2/2] online\nPASS online: published 1,000/s" in ended.err


def test_the_exit_code_is_that_of_the_worst_run(invoke, file, tmp_path, runs):
    runs.append(a_result(LOST))
    ended = invoke(file, "--directory", tmp_path / "camp", "--json", tmp_path / "out.json")
    assert ended.code == 1
    written = json.loads((tmp_path / "out.json").read_text())
    assert [run["state"] for run in written["runs"]] == ["FAIL", "PASS"]
    kept = json.loads((tmp_path / "camp" / "campaign.json").read_text())
    assert kept == {"format": 1, **written}


def test_json_to_standard_output_is_json_alone(invoke, file, tmp_path):
    ended = invoke(file, "--directory", tmp_path / "camp", "--json", "-")
    assert json.loads(ended.out)["exit_code"] == 0


def test_a_result_that_could_not_be_written_is_no_success(invoke, file, tmp_path):
    ended = invoke(file, "--directory", tmp_path / "camp", "--json", "/dev/full")
    assert ended.code == 3
    assert "could not be written out" in ended.err


def test_with_fail_fast_the_rest_is_not_run(invoke, file, tmp_path, runs):
    runs.append(a_result(LOST))
    ended = invoke(file, "--directory", tmp_path / "camp", "--fail-fast")
    assert ended.code == 1
    assert ended.out.startswith("FAIL nightly, 2 runs: 1 FAIL, 1 NOT RUN\n")


@pytest.mark.parametrize(
    ("interrupt", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)]
)
def test_an_interrupt_shows_what_is_there_and_how_to_go_on(
    invoke, file, tmp_path, runs, interrupt, code
):
    runs += [a_result(), interrupt]
    camp = tmp_path / "camp"
    ended = invoke(file, "--directory", camp, "--json", tmp_path / "out.json")
    assert ended.code == code
    assert ended.out.startswith("INCONCLUSIVE nightly, 2 runs: 1 PASS, 1 INTERRUPTED\n")
    assert json.loads((tmp_path / "out.json").read_text())["finished"] is False
    assert f"Go on with: rmqbench run {file} --directory {camp} --resume\n" in ended.err
    again = invoke(file, "--directory", camp, "--resume")
    assert again.code == 0
    assert "1 of 2 runs came to a verdict before.\n" in again.err
    assert "[2/2] online\n" in again.err


def test_a_list_opens_nothing_and_writes_nothing(invoke, file, tmp_path, monkeypatch):
    monkeypatch.setattr(brokers, "open_broker", None)
    ended = invoke(file, "--list", "--directory", tmp_path / "camp")
    assert ended.code == 0
    assert ended.out.startswith("nightly: 2 runs\n")
    assert not (tmp_path / "camp").exists()


def test_a_password_is_nowhere(invoke, file, tmp_path, runs):
    runs.append(a_result(LOST))
    ended = invoke(file, "--directory", tmp_path / "camp", "--json", tmp_path / "out.json")
    listed = invoke(file, "--list")
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for text in (ended.out, ended.err, listed.out, listed.err, *written):
        assert "hidden" not in text
    assert "${OUR_PASSWORD}" in listed.out


def test_a_file_that_cannot_be_written_is_refused_before_any_run(invoke, file, tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        invoke(file, "--directory", tmp_path / "camp", "--json", tmp_path / "no" / "x")
    assert not (tmp_path / "camp").exists()


def test_the_help_of_run_names_the_file_and_a_typo_is_no_file(invoke):
    assert "FILE.toml" in invoke("--help").out
    assert "FILE.toml" in invoke("any.toml", "--help").out
    assert "No such command" in invoke("nightly.tml").err
    with pytest.raises(UsageError, match="cannot be read"):
        invoke("not-there.toml")
