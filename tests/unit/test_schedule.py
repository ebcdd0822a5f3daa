"""A schedule says when each message is due, and how many are due by then: the same either way."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.errors import UsageError
from rmqbench.schedule import Schedule, Stretch

rates = st.floats(0.1, 50_000)
stretches = st.builds(Stretch, st.floats(0.1, 600), rates, rates)
schedules = st.lists(stretches, min_size=1, max_size=4).map(lambda those: Schedule(tuple(those)))


def numbers_of(schedule):
    """Some numbers of messages: the first ones, the last ones, and some between."""
    last = int(schedule.messages) - 1
    return np.unique(np.clip([0, 1, 2, last // 3, last // 2, last - 1, last], 0, max(last, 0)))


@given(schedules)
def test_the_first_message_is_due_at_the_start_and_all_before_the_end(schedule):
    due = schedule.due_s(numbers_of(schedule))
    assert due[0] == 0
    assert (np.diff(due) >= 0).all()
    assert due[-1] <= schedule.duration_s


@given(schedules)
def test_by_the_time_a_message_is_due_it_is_counted_and_none_behind_it(schedule):
    for number, due_s in zip(
        numbers_of(schedule).tolist(), schedule.due_s(numbers_of(schedule)).tolist(), strict=True
    ):
        assert schedule.due_by(due_s + 1e-6) >= number + 1
        assert schedule.due_by(due_s - 1e-6) <= number


@given(schedules, st.floats(0, 1000))
def test_nothing_is_due_before_the_start_and_no_more_than_all_behind_the_end(schedule, more_s):
    assert schedule.due_by(-0.001 - more_s) == 0
    assert schedule.due_by(schedule.duration_s + more_s) == schedule.messages
    assert schedule.messages == math.ceil(
        sum(each.seconds * (each.first_per_s + each.last_per_s) / 2 for each in schedule.stretches)
        - 1e-9
    )


@given(schedules, st.integers(1, 7))
def test_producers_share_a_schedule_and_take_turns(schedule, producers):
    shares = [schedule.share(number, producers) for number in range(producers)]
    assert sum(each.messages for each in shares) == schedule.messages
    count = min(int(schedule.messages), 50)
    for number, each in enumerate(shares):
        own = np.arange(len(range(number, count, producers)))
        assert each.due_s(own) == pytest.approx(schedule.due_s(own * producers + number))
    at_s = schedule.duration_s / 3
    assert sum(each.due_by(at_s) for each in shares) == schedule.due_by(at_s)


@given(schedules)
def test_what_is_written_down_of_it_is_read_again(schedule):
    assert Schedule.from_list(json.loads(json.dumps(schedule.as_list()))) == schedule


def test_a_rate_without_an_end_goes_on():
    steady = Schedule.of(5000)
    assert steady.messages == steady.duration_s == math.inf
    assert steady.due_by(1000.0) == 5_000_001
    assert steady.due_s(np.array([5_000_000]))[0] == 1000
    assert Schedule.from_list(steady.as_list()) == steady


@pytest.mark.parametrize(
    ("rate", "duration_s", "expected"),
    [
        ("5000", 2.0, [(2, 5000, 5000)]),
        (5000.0, 2.0, [(2, 5000, 5000)]),
        ("5000/s", None, [(math.inf, 5000, 5000)]),
        ("1000,5000,10000", 30.0, [(10, 1000, 1000), (10, 5000, 5000), (10, 10000, 10000)]),
        ("1000:10000", 60.0, [(60, 1000, 10000)]),
        ("1000:10000@60s,10000@5m", None, [(60, 1000, 10000), (300, 10000, 10000)]),
        ("1000:10000@60s,10000@5m", 360.0, [(60, 1000, 10000), (300, 10000, 10000)]),
        ("10@1m,20,30", 100.0, [(60, 10, 10), (20, 20, 20), (20, 30, 30)]),
    ],
)
def test_a_rate_is_read_as_people_write_it(rate, duration_s, expected):
    assert Schedule.of(rate, duration_s).stretches == tuple(Stretch(*each) for each in expected)


@pytest.mark.parametrize(
    ("rate", "duration_s", "why"),
    [
        ("fast", 1.0, "'fast' is no number"),
        ("1:2:3", 1.0, "'2:3' is no number"),
        ("", 1.0, "'' is no number"),
        ("5,,6", 1.0, "'' is no number"),
        ("inf", 1.0, "'inf' is no number"),
        (math.nan, None, "'nan' is no number"),
        ("0", 1.0, "in '0' a rate or a time is not more than 0"),
        ("-5", 1.0, "in '-5' a rate"),
        ("5:0", 1.0, "in '5:0' a rate"),
        ("5@0s", None, "in '5@0s' a rate or a time"),
        ("5@soon", None, "'soon' is no duration"),
        ("5@", None, "'' is no duration"),
        ("1000,5000", None, "nothing says how long its parts last"),
        ("1000:5000", None, "nothing says how long"),
        ("5@3s,6", None, "nothing says how long"),
        ("5@3s", 4.0, "its parts last 3 s, and the duration is 4 s"),
        ("5@3s,6", 3.0, "its parts last 3 s, and the duration is 3 s"),
    ],
)
def test_what_is_no_rate_is_refused_with_the_reason(rate, duration_s, why):
    with pytest.raises(UsageError) as error:
        Schedule.of(rate, duration_s)
    assert why in error.value.what
    assert "1000,5000,10000" in error.value.remedy
