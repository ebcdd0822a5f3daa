"""``rmqbench compare`` and ``export``, as a person or a job types them."""

import json

import pytest
from support.histories import Consumed, History, Published, Queued
from support.timelines import OK, run_of
from support.tools import rmqbench as command

import rmqbench


def made_up(path, rate):
    """Write a run that passed, and a result of it with another rate."""
    consumed = Consumed([(0, n, False) for n in range(10)])
    history = History([Published([OK] * 10)], [Queued("work", [consumed])])
    run_of(path, history, scenario=rmqbench.reliability(messages=10).as_dict())
    result = rmqbench.judge(path).as_dict()
    result["publish"]["rate_per_s"] = rate
    (path / "result.json").write_text(json.dumps(result))


@pytest.fixture
def sides(tmp_path):
    """Five runs of a base and five of a new side, which is a fifth slower."""
    for number in range(5):
        made_up(tmp_path / "base" / f"run-{number}", 1000.0 + number)
        made_up(tmp_path / "new" / f"run-{number}", 800.0 + number)
    return str(tmp_path / "base"), str(tmp_path / "new")


def test_a_fifth_less_fails_and_says_why(sides, tmp_path):
    file = tmp_path / "out.json"
    gate = ("--fail-if", "publish.rate_per_s < 0.9", "--json", str(file))
    ended = command("compare", *sides, *gate)
    assert ended.returncode == 1, ended.stderr
    told = " ".join(ended.stdout.split())
    assert told.startswith(f"FAIL base {sides[0]} (5 runs), new {sides[1]} (5 runs) ")
    assert "publish.rate_per_s < 0.9: publish.rate_per_s is 0.8" in told
    assert "change -20.0%, more than noise (chance 0.004)" in told
    assert json.loads(file.read_text())["exit_code"] == 1
    backwards = command("compare", *reversed(sides), *gate[:2])
    assert backwards.returncode == 0, backwards.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{base}", "rabbitmq:4"), "one is a directory, the other a broker"),
        (("{base}", "{new}", "--fail-if", "rate"), "'rate' is no condition"),
        (("{base}", "{new}", "--fail-if", "publish.speed < 1"), "has no 'speed'"),
        (("{base}", "{tmp}/empty"), "There is no result.json in"),
        (("local", "local", "--scenario", "faults"), "There is no scenario 'faults' to compare"),
        (("local", "nonsense"), "'nonsense' is no broker"),
    ],
)
def test_what_cannot_be_compared_is_told(sides, tmp_path, arguments, said):
    (tmp_path / "empty").mkdir()
    places = {"base": sides[0], "new": sides[1], "tmp": str(tmp_path)}
    ended = command("compare", *(each.format(**places) for each in arguments))
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr


@pytest.mark.slow
def test_two_brokers_take_turns_and_the_same_one_is_no_change(vhost, tmp_path):
    place = tmp_path / "compare"
    ended = command(
        *("compare", vhost.url(), vhost.url(), "--messages", "3000", "--directory", str(place)),
        *("--fail-if", "publish.rate_per_s < 0.8", "--json", "-"),
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    compared = json.loads(ended.stdout)
    assert compared["in_pairs"]
    assert compared["runs"] == {"base": 5, "new": 5}
    began = {
        path.parent.name: json.loads(path.read_text().splitlines()[0])["time_ns"]
        for path in place.glob("*/journal.jsonl")
    }
    assert sorted(began, key=began.get)[:4] == ["base-1", "new-1", "new-2", "base-2"]


@pytest.mark.parametrize("form", ["markdown", "prometheus", "hdr"])
def test_what_is_exported_goes_to_a_file_or_to_standard_output(sides, tmp_path, form):
    if form == "hdr":
        pytest.importorskip("hdrh", reason="the dev extra brings hdrhistogram")
    run = f"{sides[0]}/run-0"
    shown = command("export", run, "--as", form)
    assert shown.returncode == 0, shown.stderr
    command("export", run, "--as", form, "-o", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == shown.stdout != ""


def test_csv_goes_to_a_directory_for_each_run(sides, tmp_path):
    runs = (f"{sides[0]}/run-0", f"{sides[0]}/run-1")
    ended = command("export", *runs, "--as", "csv", "-o", str(tmp_path / "csv"))
    assert ended.returncode == 0, ended.stderr
    for number in (0, 1):
        assert (tmp_path / "csv" / f"run-{number}" / "rates.csv").exists()
    for wrong, said in (
        (("--as", "csv"), "CSV is several files"),
        (("--as", "xml"), "There is no format 'xml'"),
        (("--as", "hdr"), "is of one run"),
    ):
        ended = command("export", *runs, *wrong)
        assert ended.returncode == 2
        assert said in ended.stderr
