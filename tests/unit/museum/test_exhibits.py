"""What stands in the museum can be read, told and run; what does not is refused."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from rmqbench.cli import app
from rmqbench.errors import UsageError
from rmqbench.museum import catalogue, exhibit, exhibits
from rmqbench.museum.catalogue import Measured
from rmqbench.workloads import scenario_of, tables_of


@pytest.mark.parametrize("shown", exhibits(), ids=lambda each: each.name)
def test_an_exhibit_is_whole(shown):
    assert shown.workload.name == shown.name
    unlike = any(queue.settings or queue.settle != "ack" for queue in shown.workload.queues)
    is_plain = not (shown.workload.faults or unlike or any(shown.workload.origins))
    assert not is_plain, "each has something that strikes"
    assert shown.pages
    assert shown.affected or not shown.reference, "what is no bug is so by design"
    assert bool(shown.reference) is bool(shown.fixed)
    for version, measured in shown.measured.items():
        assert bool(measured.shown) is shown.affects(version)
        assert measured.shown <= measured.runs
        assert measured.least <= measured.most <= shown.workload.messages


def test_an_exhibit_has_a_name_and_a_number():
    assert exhibit("payload") is exhibit("14576") is exhibit("#14576")
    names = [name for each in exhibits() for name in (each.name, each.reference) if name]
    assert len({*names}) == len(names)
    with pytest.raises(UsageError, match=r"no exhibit '1'.*It has 14149, 14576, 15725, "):
        exhibit("1")


@pytest.mark.parametrize(
    ("version", "is_affected"),
    [
        ("3.12.14", False),
        ("3.13.0", True),
        ("4.0.5", True),
        ("4.0.10", False),
        ("4.1.4", True),
        ("4.1.5", False),
        ("4.1.4-rc.1", True),
        ("4.1.5+1", False),
        ("4.10.1", False),
        ("main", None),
    ],
)
def test_which_versions_are_affected(version, is_affected):
    assert exhibit("payload").affects(version) is is_affected


@pytest.mark.parametrize(
    ("version", "is_affected"), [("3.13.7", False), ("4.0.0", True), ("4.3.6", True), ("9.1", True)]
)
def test_a_range_may_have_no_end(version, is_affected):
    assert exhibit("crash-loop").affects(version) is is_affected


def test_by_design_is_everywhere():
    assert exhibit("transient").affects("5.0.0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shows": "gone"}, "shows 'gone', which is no finding"),
        ({"queue": "audit"}, "has no queue 'audit'"),
        ({"affected": ("4",)}, "'4' is no range of versions"),
        ({"run": "x"}, "has a run that is no UUID"),
        ({"scenario": {"message": 3}}, r"The exhibit payload is none: .*message"),
        ({"scenario": {"messages": "3"}}, r"wrong value type for field .messages"),
        ({"scenario": {"messages": 0}}, "The exhibit payload: messages is 0"),
    ],
)
def test_what_could_not_be_shown_is_refused(change, said):
    with pytest.raises(UsageError, match=said):
        replace(exhibit("payload"), **change)


@pytest.mark.parametrize("text", ["name =", 'name = "x"', 'name = "x"\nnumber = 3'])
def test_a_file_that_is_no_exhibit_is_named(text):
    with pytest.raises(UsageError, match=r"The exhibit new\.toml cannot be read"):
        catalogue._read("new.toml", text)


@pytest.mark.parametrize("shown", exhibits(), ids=lambda each: each.name)
def test_a_workload_is_the_same_after_it_was_written_as_json(shown):
    workload = shown.workload
    assert scenario_of(json.loads(json.dumps(tables_of(workload)))) == workload


def test_how_often_is_said_in_words():
    assert str(Measured(5, 5, 457, 457)) == "5 of 5 times, 457 messages"
    assert str(Measured(4, 5, 1000, 2000)) == "4 of 5 times, 1,000 to 2,000 messages"
    assert str(Measured(0, 5)) == "0 of 5 times"


def test_the_museum_lists_all_and_tells_of_one():
    listed = CliRunner().invoke(app, ["museum"])
    assert listed.exit_code == 0
    told = CliRunner().invoke(app, ["museum", "14576"])
    for each in exhibits():
        assert each.name in listed.stdout
        assert each.title.split()[0] in listed.stdout
    assert "4.0.5: 5 of 5 times, 457 messages" in told.stdout
    assert "rmqbench reproduce 14576" in told.stdout


def test_an_exhibit_that_is_not_there_and_a_broker_that_is_not_ours_are_refused():
    assert isinstance(CliRunner().invoke(app, ["museum", "7"]).exception, UsageError)
    runner = CliRunner().invoke(app, ["reproduce", "payload", "--broker", "amqp://here"])
    assert isinstance(runner.exception, UsageError)
    assert "not ours to start and stop" in str(runner.exception)
