"""A hunter that knows nothing finds what a simulated broker does wrong, and makes it small."""

import itertools

import pytest
from support.simulated import Act, History, QueuePlan, play

from rmqbench.hunt import Hunt, Schedule, draw
from rmqbench.settling import Settling

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")

from rmqbench.simulation import Misdeed

pytestmark = pytest.mark.simulation

MOST_SCHEDULES = 15
ACTS = {
    "kill-broker": "kill",
    "kill-newborn": "kill",
    "power-cut": "kill",
    "quorum-chaos": "stall",
    "restart-broker": "stop",
    "kill-consumer": "slay",
    "half-open": "swallow",
    "pause-broker": "stall",
    "memory-alarm": "block",
}
BEGINS_S = {"publish": 0.0, "backlog": 0.6, "drain": 0.7}


def settled(queue):
    return Settling.of(queue.settle).choices


def history_of(schedule, misdeeds):
    """Return the like of a schedule for the simulated broker: with few messages, on a short day."""
    scenario = schedule.scenario
    acts = [
        Act(
            BEGINS_S[fault.phase] + 0.3 * (fault.after_messages or 0) / scenario.messages,
            ACTS.get(fault.name, "close"),
        )
        for fault in scenario.faults
    ]
    queues = [
        QueuePlan(
            queue.name,
            queue.declared().type,
            consumers=queue.consumers,
            prefetch=min(queue.prefetch, 10),
            settle=",".join(dict.fromkeys(each.action.value for each in settled(queue))),
        )
        for queue, gets_all in zip(scenario.queues, scenario.gets_all, strict=True)
        if gets_all
    ]
    return History(
        seed=schedule.run.int % 10_000,
        messages=max(10, scenario.messages // 200),
        producers=min(scenario.producers, 2),
        queues=tuple(queues),
        during=scenario.consume == "during",
        acts=tuple(acts),
        misdeeds=misdeeds,
    )


def hunt_for(misdeed, directory, *, only_if_killed):
    def runs(schedule, _):
        was_killed = any(each.name == "kill-broker" for each in schedule.scenario.faults)
        misdeeds = ((misdeed, 3),) if was_killed or not only_if_killed else ()
        return play(history_of(schedule, misdeeds)).result

    tried = iter(range(MOST_SCHEDULES))
    hunt = Hunt(runs, directory, lambda: next(tried, None) is not None)
    hunt.go(map(draw, itertools.count(5000)))
    return hunt


@pytest.mark.parametrize("only_if_killed", [True, False], ids=["where it was killed", "always"])
@pytest.mark.parametrize(
    ("misdeed", "finding"),
    [
        (Misdeed.LOSE, "lost"),
        pytest.param(Misdeed.DOUBLE, "duplicate", marks=pytest.mark.slow),
        pytest.param(Misdeed.ALTER, "corrupted", marks=pytest.mark.slow),
        pytest.param(Misdeed.REPEAT, "repeated", marks=pytest.mark.slow),
        pytest.param(Misdeed.MISROUTE_KEY, "misrouted", marks=pytest.mark.slow),
    ],
)
def test_what_a_broker_does_wrong_is_found_within_a_budget_and_made_small(
    tmp_path, misdeed, finding, only_if_killed
):
    hunt = hunt_for(misdeed, tmp_path, only_if_killed=only_if_killed)
    found = [each for each in hunt.finds if each.signature.finding == finding]
    assert found, f"not within {hunt.tried} schedules"
    for each in found:
        smallest = Schedule.read(each.smallest)
        assert each.steps <= 3
        assert len(smallest.scenario.queues) <= 2
        assert each.confirmed.of(each.signature) == "5 of 5"


def test_an_honest_broker_has_nothing_to_be_found(tmp_path):
    def runs(schedule, _):
        return play(history_of(schedule, ())).result

    tried = iter(range(15))
    hunt = Hunt(runs, tmp_path, lambda: next(tried, None) is not None)
    hunt.go(map(draw, itertools.count(9000)))
    assert (hunt.tried, hunt.errors) == (15, [])
    assert hunt.messages > 100
    # A producer may find nobody there; of what it has published, nothing is wrong.
    assert {each.signature.finding for each in hunt.finds} <= {"unsent"}
