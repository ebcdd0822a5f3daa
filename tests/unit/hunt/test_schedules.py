"""A schedule is drawn from a seed, stands in a file, and replays from it."""

import json
from collections import Counter

import pytest

from rmqbench.errors import UsageError
from rmqbench.faults import FAULTS
from rmqbench.hunt import Schedule, draw
from rmqbench.hunt.drawing import _FAULTS, _PAYLOADS, _SETTLING

SEEDS = range(400)


@pytest.fixture(scope="module")
def drawn():
    return [draw(seed) for seed in SEEDS]


def test_a_seed_is_a_schedule(drawn):
    assert [draw(seed) for seed in SEEDS] == drawn
    assert len({str(each.scenario) for each in drawn}) > len(drawn) * 0.99


def test_a_schedule_comes_back_from_its_file(drawn, tmp_path):
    path = tmp_path / "schedule.json"
    for each in drawn:
        each.write(path)
        assert Schedule.read(path) == each
    assert list(tmp_path.iterdir()) == [path]


def test_all_that_may_be_drawn_is(drawn):
    seen = Counter(fault.name for each in drawn for fault in each.scenario.faults)
    seen.update(each.scenario.payload for each in drawn)
    seen.update(queue.settle for each in drawn for queue in each.scenario.queues)
    seen.update(queue.kind for each in drawn for queue in each.scenario.queues)
    wanted = {*_FAULTS, *_PAYLOADS, *_SETTLING, "classic", "quorum", "lazy"}
    assert wanted <= seen.keys()
    assert _FAULTS.keys() <= FAULTS.keys()
    assert any(any(each.scenario.origins) for each in drawn)
    assert any(each.scenario.delays for each in drawn)
    assert any(each.scenario.consume == "during" for each in drawn)
    assert any(queue.settings for each in drawn for queue in each.scenario.queues)


def test_what_a_fault_is_allowed_is_allowed_and_no_more(drawn):
    for each in drawn:
        expected = [FAULTS[fault.name].expected for fault in each.scenario.faults]
        by_design = {"removed"} if any(each.scenario.origins) else set()
        assert {*each.scenario.allowed} - by_design == {*frozenset().union(*expected)}
        assert "lost" not in each.scenario.allowed


def test_a_line_says_what_a_schedule_does(drawn):
    for each in drawn:
        said = str(each)
        assert f"{each.scenario.messages:,} messages" in said
        assert all(f"{fault.name} during {fault.phase}" in said for fault in each.scenario.faults)


def test_on_what_it_was_run_is_in_its_file(drawn, tmp_path):
    path = tmp_path / "schedule.json"
    Schedule(drawn[0].scenario, drawn[0].run, broker={"version": "4.3.6"}).write(path)
    assert json.loads(path.read_text())["broker"] == {"version": "4.3.6"}
    assert Schedule.read(path).broker == {"version": "4.3.6"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no schedule"),
        ("[]", "is no schedule"),
        ("{}", "is no schedule"),
        ('{"format": 2}', "reads format 1"),
        ('{"format": 1, "run": "x", "scenario": {"name": "x"}}', "is no schedule"),
        ('{"format": 1, "run": "x", "scenario": {"name": "x", "colour": 3}}', "colour"),
        ('{"format": 1, "run": "x", "scenario": {"name": "x", "messages": 0}}', "messages"),
    ],
)
def test_what_is_no_schedule_is_refused(tmp_path, text, words):
    path = tmp_path / "schedule.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        Schedule.read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        Schedule.read(tmp_path / "nothing.json")


def test_a_phase_lasts_until_all_that_strikes_in_it_has_struck(drawn):
    """What ends before it is struck says nothing."""
    struck = [each for each in drawn if any(f.phase == "publish" for f in each.scenario.faults)]
    assert len(struck) > 20
    for schedule in struck:
        scenario = schedule.scenario
        often = sum(fault.phase == "publish" for fault in scenario.faults)
        assert scenario.messages / scenario.publish_rate >= 2.9 * often
    slowed = 0
    for schedule in drawn:
        for queue in schedule.scenario.queues:
            often = sum(
                fault.queue == queue.name and fault.phase == "drain" and fault.after_messages > 0
                for fault in schedule.scenario.faults
            )
            if "late" in queue.settle:
                assert queue.consume_rate is None
            elif often:
                assert schedule.scenario.messages / queue.consume_rate >= 2.9 * often
                slowed += 1
    assert slowed > 10


def test_the_chaos_of_quorum_queues_is_for_schedules_that_have_one(drawn):
    chaotic = [s for s in drawn if any(f.name == "quorum-chaos" for f in s.scenario.faults)]
    assert chaotic
    for schedule in chaotic:
        assert any(queue.kind == "quorum" for queue in schedule.scenario.queues)
