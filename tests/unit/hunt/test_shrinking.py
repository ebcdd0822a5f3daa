"""What is made smaller still shows what it showed, and nothing of it is there for nothing."""

import random

import pytest

from rmqbench.hunt import draw
from rmqbench.hunt.shrinking import candidates, shrink, tries_for

SEEDS = range(60)


def needs_a_kill(scenario):
    """Whether it has what such a failure needs: as the payload loss, which a real broker had."""
    return (
        scenario.payload == "ints"
        and any(each.name == "kill-broker" for each in scenario.faults)
        and any(each.kind != "quorum" and "late" in each.settle for each in scenario.queues)
        and (scenario.messages or 0) >= 100
    )


def needs_dead_letters(scenario):
    return any(scenario.origins) and any(each.kind == "quorum" for each in scenario.queues)


def drawn(needs, many):
    found = (draw(seed) for seed in range(100_000))
    return [next(each for each in found if needs(each.scenario)) for _ in range(many)]


@pytest.mark.parametrize("needs", [needs_a_kill, needs_dead_letters])
def test_what_is_left_shows_it_and_nothing_less_does(needs):
    for schedule in drawn(needs, 12):
        asked = []

        def shows(each, asked=asked):
            asked.append(each)
            return needs(each.scenario)

        smallest = shrink(schedule, shows)
        assert needs(smallest.scenario)
        assert not any(needs(each) for each in candidates(smallest.scenario))
        assert len(asked) < 150
        assert smallest.steps <= 1
        assert smallest.run == schedule.run, "the same messages"
        assert smallest.seed is None or smallest == schedule


def test_all_that_it_was_not_about_is_plain():
    (schedule,) = drawn(needs_a_kill, 1)
    smallest = shrink(schedule, lambda each: needs_a_kill(each.scenario)).scenario
    (queue,), (fault,) = smallest.queues, smallest.faults
    assert (queue.consumers, queue.prefetch, queue.settings) == (1, 1000, ())
    assert (smallest.producers, smallest.consume) == (1, "after")
    assert 100 <= smallest.size_bytes < 200
    assert fault.name == "kill-broker"
    assert not fault.after_messages
    assert 100 <= smallest.messages < 200


def test_what_is_not_about_the_time_that_dead_letters_wait_has_them_wait_for_none():
    (schedule,) = drawn(lambda scenario: scenario.delays, 1)
    smallest = shrink(schedule, lambda each: any(each.scenario.origins)).scenario
    assert smallest.delays == ()
    (queue,) = smallest.queues
    assert queue.arguments["x-dead-letter-exchange"] == ""
    assert queue.arguments["x-dead-letter-routing-key"] == queue.name


def test_every_candidate_is_a_scenario_that_can_be_run():
    for seed in SEEDS:
        scenario = draw(seed).scenario
        for each in candidates(scenario):
            assert each != scenario
            assert each.most_messages >= each.producers


def test_what_shows_now_and_then_is_tried_again():
    source = random.Random(1)
    (schedule,) = drawn(needs_a_kill, 1)

    def shows(each):
        return needs_a_kill(each.scenario) and source.random() < 0.7

    smallest = shrink(schedule, shows, tries=tries_for(0.7))
    assert needs_a_kill(smallest.scenario)
    assert len(smallest.scenario.queues) == len(smallest.scenario.faults) == 1


def test_it_ends_with_its_time_and_has_what_it_has_come_to():
    (schedule,) = drawn(needs_a_kill, 1)
    noted, left = [], iter(range(10))
    smallest = shrink(
        schedule,
        lambda each: needs_a_kill(each.scenario),
        goes_on=lambda: next(left, None) is not None,
        note=noted.append,
    )
    assert smallest == noted[-1]
    assert needs_a_kill(smallest.scenario)
    unchanged = shrink(schedule, lambda each: True, goes_on=lambda: False)
    assert unchanged == schedule


def test_with_fewer_messages_a_fault_strikes_as_far_on_as_before():
    scenario = next(
        each.scenario
        for each in map(draw, range(1000))
        if any(fault.after_messages == each.scenario.messages for fault in each.scenario.faults)
    )
    fewer = next(each for each in candidates(scenario) if each.messages != scenario.messages)
    assert any(each.after_messages == fewer.messages for each in fewer.faults)


def test_a_fault_of_a_queue_that_is_gone_is_for_the_first_one():
    scenario = next(
        each.scenario
        for each in map(draw, range(1000))
        if len(each.scenario.queues) > 1
        and not any(each.scenario.origins)
        and any(fault.queue == each.scenario.queues[-1].name for fault in each.scenario.faults)
    )
    gone = scenario.queues[-1].name
    fewer = [each for each in candidates(scenario) if gone not in each.queue_names]
    assert fewer
    assert all(fault.queue != gone for each in fewer for fault in each.faults)


@pytest.mark.parametrize(("rate", "tries"), [(1, 1), (0.9, 2), (0.5, 5), (0.1, 5), (0, 5), (2, 1)])
def test_the_rarer_it_shows_the_more_often_it_is_tried(rate, tries):
    assert tries_for(rate) == tries


def test_a_newborn_fault_that_is_gone_takes_its_declaration_with_it():
    scenario = next(
        each.scenario
        for each in map(draw, range(1000))
        if sum(fault.name == "kill-newborn" for fault in each.scenario.faults) == 1
    )
    without = [
        each
        for each in candidates(scenario)
        if not any(fault.kind.within_s for fault in each.faults)
    ]
    assert without
    assert not any(each.declare_last for each in without)
