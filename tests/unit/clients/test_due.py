"""A producer sends what is due, and knows by how much it is itself late."""

import math

import numpy as np
import pytest

from rmqbench.clients.due import Due
from rmqbench.schedule import Schedule


class Told:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Told()


def due_of(clock, rate=100):
    due = Due(Schedule.of(rate), clock)
    due.start()
    return due


def test_without_a_schedule_all_is_due_and_nobody_is_late(clock):
    due = Due(None, clock)
    due.start()
    assert due.count(10**9) > 10**9
    assert due.wait_s(5) is due.wait_s(None) is None
    assert due.lag_ns(np.arange(3)) is None


def test_what_is_due_is_counted_from_the_first_that_was_never_sent(clock):
    due = due_of(clock)
    assert due.count(0) == 1
    clock.now += 0.5
    assert due.count(0) == 51
    assert due.count(51) == due.count(60) == 0


def test_an_interruption_does_not_move_what_is_due(clock):
    due = due_of(clock)
    clock.now += 60
    assert due.count(1) == 6000


def test_it_is_late_by_the_time_since_a_message_was_due(clock):
    due = due_of(clock)
    clock.now += 0.025
    assert due.lag_ns(np.array([0, 1, 2])) == pytest.approx([25e6, 15e6, 5e6])


def test_it_is_not_late_by_the_time_in_which_others_held_it(clock):
    due = due_of(clock)
    clock.now += 1.003
    due.held(1.0)
    assert due.lag_ns(np.array([0])) == pytest.approx([3e6], rel=1e-3)
    assert due.lag_ns(np.array([50])) == [0], "since it was due, it was held all the time"
    clock.now += 0.004
    assert due.lag_ns(np.array([100])) == pytest.approx([7e6 - 3e6], rel=1e-3)


def test_of_what_was_held_again_and_again_the_times_between_are_its_own(clock):
    """Each message is held for 4 ms, and the producer needs 16 ms for it: four times too long."""
    due = due_of(clock, 250)
    lags = []
    for number in range(100):
        clock.now += 0.004
        due.held(0.004)
        clock.now += 0.016
        lags += (due.lag_ns(np.array([number])) / 1e9).tolist()
    late = [0.02 * (number + 1) - 0.004 * number for number in range(100)]
    assert lags == pytest.approx([each * 0.8 for each in late], rel=0.1, abs=0.012)


def test_little_is_kept_of_what_was_held(clock):
    due = due_of(clock, 1000)
    for number in range(20_000):
        clock.now += 0.001
        due.held(0.0005)
        due.lag_ns(np.array([number]))
    assert len(due._until_s) < 10
    for _ in range(20_000):
        clock.now += 0.001
        due.held(0.001)
    assert len(due._until_s) < 5000


def test_it_waits_until_the_next_is_due_and_no_longer(clock):
    due = due_of(clock)
    due.lag_ns(np.array([0]))
    assert due.wait_s(1) == pytest.approx(0.01)
    clock.now += 0.004
    assert due.wait_s(1) == pytest.approx(0.006)
    clock.now += 0.1
    assert due.wait_s(1) == 0
    assert due.wait_s(None) == math.inf, "it is held, and waits for something to happen"


def test_what_is_due_within_half_a_millisecond_goes_together(clock):
    due = due_of(clock, 100_000)
    due.lag_ns(np.array([0]))
    assert due.wait_s(1) == pytest.approx(0.0005)
