"""A hunt finds what fails, makes it smaller, says how often it fails, and keeps what it came to."""

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rmqbench.errors import BrokerError, FaultUnavailable, UsageError
from rmqbench.hunt import Hunt, Schedule, draw, replay_schedule
from rmqbench.hunt.signature import Signature, known_as, signatures_of
from rmqbench.museum import exhibit
from rmqbench.verdict.findings import FINDINGS, Finding, FindingName, Judgement

LOST = Signature("lost", "classic", "work")


def a_result(*findings, outcome=None, version="4.3.6"):
    found = tuple(
        Finding(FindingName(name), count, FINDINGS[FindingName(name)], queue)
        for name, queue, count in findings
    )
    judged = outcome or (Judgement.FAIL if findings else Judgement.PASS)
    return SimpleNamespace(
        verdict=SimpleNamespace(findings=found),
        broker={"version": version, "how": "made up"},
        confirmed=1000,
        outcome=judged,
        why="",
    )


def loses_ints(schedule):
    """Lose what a classic queue holds when its node is killed, if that are integers."""
    scenario = schedule.scenario
    if scenario.payload == "ints" and any(f.name == "kill-broker" for f in scenario.faults):
        return [("lost", q.name, 7) for q in scenario.queues if q.kind != "quorum"]
    return []


class Brokers:
    """Run schedules on nothing, and keep count of what was asked."""

    def __init__(self, loses=loses_ints, *, every=1, version="4.3.6"):
        self.loses, self.every, self.version = loses, every, version
        self.run = []

    def __call__(self, schedule, directory):
        assert not directory.exists(), "nobody's evidence is written over"
        directory.mkdir(parents=True)
        (directory / "run.json").touch()
        self.run.append(schedule)
        found = self.loses(schedule) if len(self.run) % self.every == 0 else []
        return a_result(*found, version=self.version)


def hunted(runs, directory, many=40, seeds=None, **changes):
    left = iter(range(many))
    hunt = Hunt(runs, directory, lambda: next(left, None) is not None, **changes)
    hunt.go(map(draw, seeds or itertools.count()))
    return hunt


def test_what_fails_is_found_once_and_made_as_small_as_it_goes(tmp_path):
    runs = Brokers()
    hunt = hunted(runs, tmp_path, many=60)
    assert hunt.tried == 60
    assert hunt.messages == 60_000
    found = {each.signature: each for each in hunt.finds}
    assert LOST in found
    assert len(found) == len(hunt.finds), "each once"
    find = found[LOST]
    assert (find.steps, find.known) == (1, ())
    assert find.messages in {7, 14, 21}, "7 of each queue"
    smallest = Schedule.read(find.smallest).scenario
    assert len(smallest.queues) == 1
    assert [each.name for each in smallest.faults] == ["kill-broker"]
    assert find.confirmed.of(LOST) == "5 of 5"
    assert loses_ints(Schedule.read(find.original)), "the original is kept"


def test_each_schedule_is_written_before_it_is_run(tmp_path):
    def loses(schedule):
        newest = max(tmp_path.glob("schedule-*.json"), key=lambda path: path.stat().st_mtime_ns)
        assert Schedule.read(newest).run == schedule.run
        raise BrokerError("It died.")

    hunt = hunted(Brokers(loses), tmp_path, many=3)
    assert hunt.errors == [f"schedule-{number}: It died." for number in range(3)]
    assert (hunt.tried, hunt.messages, hunt.finds) == (3, 0, [])


def test_where_nothing_can_be_run_it_ends(tmp_path):
    def loses(schedule):
        raise BrokerError("It does not start.")

    hunt = Hunt(Brokers(loses), tmp_path, lambda: True)
    with pytest.raises(BrokerError, match="does not start"):
        hunt.go(map(draw, itertools.count()))
    assert (hunt.tried, len(hunt.errors)) == (5, 5)

    def refuses(schedule):
        raise UsageError("There is no such broker.")

    hunt = Hunt(Brokers(refuses), tmp_path / "other", lambda: True)
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError):
        hunt.go(map(draw, itertools.count()))
    assert hunt.tried == 1


def test_a_schedule_whose_fault_is_not_to_be_had_here_is_left_out(tmp_path):
    def lacks(schedule):
        if any(each.name == "power-cut" for each in schedule.scenario.faults):
            raise FaultUnavailable("No power can be cut here: it needs root.")
        return []

    hunt = hunted(Brokers(lacks), tmp_path, many=60)
    assert 0 < hunt.left_out < 30
    assert (hunt.tried, hunt.judged, hunt.errors) == (60, 60 - hunt.left_out, [])


def test_only_the_evidence_of_what_failed_is_kept(tmp_path):
    hunted(Brokers(), tmp_path, many=40)
    kept = {each.name for each in tmp_path.iterdir() if each.is_dir()}
    failed = {
        path.stem for path in tmp_path.glob("schedule-*.json") if loses_ints(Schedule.read(path))
    }
    assert kept == failed
    assert failed


def test_what_is_open_counts_as_neither(tmp_path):
    runs = lambda schedule, directory: a_result(outcome=Judgement.INCONCLUSIVE)  # noqa: E731
    assert hunted(runs, tmp_path, many=5).inconclusive == 5
    found = replay_schedule(draw(1), runs, 4, lambda number: tmp_path / f"run-{number}")
    assert (found.runs, found.inconclusive, found.conclusive, found.shown) == (4, 4, 0, {})


def test_how_often_it_fails_is_measured_and_said(tmp_path):
    hunt = hunted(Brokers(every=2), tmp_path, many=200)
    find = next(each for each in hunt.finds if each.signature == LOST)
    assert find.confirmed.of(LOST) in {"2 of 5", "3 of 5"}


def test_a_find_that_there_is_no_time_for_is_kept_as_it_is(tmp_path):
    hunt = hunted(Brokers(), tmp_path, many=60, may_shrink=lambda: False)
    find = next(each for each in hunt.finds if each.signature == LOST)
    assert Schedule.read(find.smallest) == Schedule.read(find.original)
    assert find.confirmed.of(LOST) == "5 of 5"


def test_an_interrupt_leaves_what_was_found(tmp_path):
    class Interrupted(Brokers):
        def __call__(self, schedule, directory):
            if directory.name == "candidate" and len(self.run) > 60:
                raise KeyboardInterrupt
            return super().__call__(schedule, directory)

    hunt = Hunt(Interrupted(), tmp_path, lambda: True)
    with pytest.raises(KeyboardInterrupt):
        hunt.go(map(draw, itertools.count()))
    assert hunt.finds
    assert all(Schedule.read(each.smallest) for each in hunt.finds)
    assert not (tmp_path / "candidate").exists()
    json.dumps([each.as_dict() for each in hunt.finds])


def test_it_does_not_slip_into_another_failure(tmp_path):
    """What is left when all is taken away fails, too, but in another way."""

    def loses(schedule):
        found = loses_ints(schedule)
        small = (schedule.scenario.messages or 0) < 500
        return [("duplicate", schedule.scenario.queues[0].name, 1)] if small else found

    hunt = hunted(Brokers(loses), tmp_path, many=60)
    find = next(each for each in hunt.finds if each.signature == LOST)
    assert Schedule.read(find.smallest).scenario.messages >= 500


# --- signatures -----------------------------------------------------------------------------------


def test_a_failure_is_known_by_what_was_found_and_in_which_queue():
    scenario = next(
        each.scenario
        for each in map(draw, itertools.count())
        if any(each.scenario.origins) and not each.scenario.declare_last
    )
    dead = len(scenario.queues) - 1
    source = scenario.origins[dead][0]
    found = signatures_of(
        scenario,
        a_result(
            ("lost", scenario.queues[source].name, 3),
            ("duplicate", scenario.queues[dead].name, 2),
            ("redelivered", scenario.queues[source].name, 9),
        ),
    )
    kinds = [scenario.queues[at].declared().type for at in (source, dead)]
    assert found == {
        Signature("lost", kinds[0], "dead letters"): 3,
        Signature("duplicate", kinds[1], "dead letters"): 2,
    }
    assert {str(each).partition(" in")[0] for each in found} == {"lost", "duplicate"}


@pytest.mark.parametrize(
    ("name", "version", "known"),
    [("payload", "4.0.5", True), ("payload", "4.3.6", False), ("newborn", "4.3.6", True)],
)
def test_what_the_museum_has_is_recognised(name, version, known):
    shown = exhibit(name)
    role = "newborn" if name == "newborn" else "work"
    signature = Signature(shown.shows, shown.workload.queues[0].kind, role)
    assert (shown in known_as(signature, version)) is known


def test_what_happens_to_a_young_queue_is_another_failure():
    scenario = next(each.scenario for each in map(draw, itertools.count()) if loses_ints(each))
    lost = a_result(("lost", scenario.queue_names[0], 1))
    (aged,) = signatures_of(scenario, lost)
    (young,) = signatures_of(replace(scenario, rest_s=0.0), lost)
    assert (aged.role, young.role) == ("work", "newborn")


def test_what_the_museum_has_by_design_is_not_taken_for_known():
    assert all(each.reference for each in known_as(LOST, "4.0.5"))
