"""Going on after an interruption, and a limit on messages a second: by a clock that is told."""

import pytest
from support.clocks import ToldClock

from rmqbench.clients.rate import Pace
from rmqbench.clients.recovery import Recovery, why_it_ended
from rmqbench.errors import (
    AccessRefused,
    BrokerUnavailable,
    ConnectionLost,
    MessageTooLarge,
    QueueLocked,
    QueueNotFound,
    UsageError,
)

LOST = ConnectionLost("The connection ended.", "See the broker's log.")
AWAY = BrokerUnavailable("Nobody is there.")


@pytest.fixture
def clock():
    return ToldClock()


@pytest.fixture
def recovery(clock):
    return Recovery(30.0, clock=clock.clock)


def work_of(recovery, *steps):
    """Make a piece of work: each attempt does the next step, and the last one over and over."""
    left = list(steps)

    def work():
        step = left.pop(0) if len(left) > 1 else left[0]
        if callable(step):
            step = step()
        if isinstance(step, Exception):
            raise step

    return work


def connect_and_lose(recovery):
    def step():
        recovery.connected()
        return LOST

    return step


def test_to_wait_for_oneself_is_no_success_and_begins_the_limit_anew(recovery, clock):
    def refused():
        recovery.connected()
        clock.now += 29.0
        recovery.waited()
        assert recovery.idle_s == 0.0
        return AccessRefused("No.")

    assert isinstance(recovery.run(work_of(recovery, refused)), AccessRefused)
    assert not clock.slept


@pytest.mark.parametrize("refusal", [AccessRefused("No."), QueueLocked("Mine.")])
def test_a_refusal_is_believed_unless_something_went_well_before(recovery, clock, refusal):
    def refused():
        recovery.connected()
        return refusal

    def went_well():
        recovery.connected()
        recovery.progressed()
        return LOST

    assert recovery.run(work_of(recovery, refused, None)) is refusal
    assert not clock.slept
    assert recovery.run(work_of(recovery, went_well, refused, None)) is None


def test_a_login_that_is_refused_after_an_interruption_is_tried_again(recovery):
    """A broker that is starting may say so."""
    steps = (connect_and_lose(recovery), AccessRefused("No."), None)
    assert recovery.run(work_of(recovery, *steps)) is None


def test_whoever_sleeps_may_end_it(clock):
    asked = []
    recovery = Recovery(30.0, clock=clock.clock, sleep=lambda _: len(asked) == 2)

    def work():
        asked.append("attempt")
        recovery.connected()
        raise LOST

    assert recovery.run(work) is LOST
    assert asked == ["attempt"] * 2


def test_what_goes_well_is_done_once(recovery, clock):
    assert recovery.run(work_of(recovery, None)) is None
    assert (recovery.interruptions, clock.slept) == ([], [])


def test_what_was_never_connected_is_not_tried_again(recovery, clock):
    assert recovery.run(work_of(recovery, AWAY)) is AWAY
    assert (recovery.interruptions, clock.slept) == ([], [])


def test_after_an_interruption_it_connects_again(recovery, clock):
    assert recovery.run(work_of(recovery, connect_and_lose(recovery), AWAY, None)) is None
    assert [each.why for each in recovery.interruptions] == ["The connection ended."]
    assert recovery.interruptions[0].at_ns == clock.began_ns
    assert clock.slept == [0.1, 0.2]


def test_each_lost_connection_is_an_interruption_and_no_failed_attempt_is(recovery):
    lose = connect_and_lose(recovery)
    recovery.run(work_of(recovery, lose, AWAY, AWAY, lose, AWAY, None))
    assert [each.why for each in recovery.interruptions] == ["The connection ended."] * 2


@pytest.mark.parametrize(
    "error",
    [UsageError("No."), QueueNotFound("There is no queue 'q'."), MessageTooLarge("Too large.")],
)
def test_an_error_that_stays_is_final(recovery, clock, error):
    def step():
        recovery.connected()
        return error

    assert recovery.run(work_of(recovery, step)) is error
    assert clock.slept == []
    assert recovery.run(work_of(recovery, connect_and_lose(recovery), error)) is error


def test_the_pauses_grow_up_to_a_bound(recovery, clock):
    recovery.run(work_of(recovery, connect_and_lose(recovery), AWAY))
    assert clock.slept[:7] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2, 2])
    assert max(clock.slept) == 2


def test_the_limit_ends_it_with_the_last_error(recovery, clock):
    began = clock.now
    assert recovery.run(work_of(recovery, connect_and_lose(recovery), AWAY)) is AWAY
    assert 28 <= clock.now - began <= 30


def test_a_connection_that_is_no_progress_does_not_put_the_limit_off(recovery, clock):
    began = clock.now
    assert recovery.run(work_of(recovery, connect_and_lose(recovery))) is LOST
    assert clock.now - began <= 30
    assert len(recovery.interruptions) == len(clock.slept) + 1


def test_progress_begins_limit_and_pauses_anew(recovery, clock):
    def come_on():
        clock.now += 20
        recovery.connected()
        recovery.progressed()
        return LOST

    steps = [connect_and_lose(recovery), AWAY, AWAY, come_on, come_on, None]
    assert recovery.run(work_of(recovery, *steps)) is None
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.1])


def test_time_before_the_first_connection_is_not_counted(recovery, clock):
    def connect_late():
        clock.now += 29.95
        recovery.connected()
        assert recovery.idle_s == 0
        return LOST

    assert recovery.run(work_of(recovery, connect_late, None)) is None


def test_what_is_not_ours_passes_through(recovery):
    def fail():
        recovery.connected()
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        recovery.run(fail)


def test_without_a_rate_any_number_may_pass(clock):
    pace = Pace(None, clock.monotonic)
    pace.spend(10**9)
    assert pace.allowance() > 10**9


def test_so_many_a_second_may_pass_and_no_more(clock):
    pace = Pace(100, clock.monotonic)
    assert pace.allowance() == 0
    clock.now += 0.5
    assert pace.allowance() == 50
    pace.spend(50)
    assert pace.allowance() == 0
    clock.now += 0.25
    assert pace.allowance() == 25


def test_what_was_taken_beyond_the_pace_is_waited_for(clock):
    pace = Pace(100, clock.monotonic)
    pace.spend(30)
    clock.now += 0.25
    assert pace.allowance() < 0
    clock.now += 0.25
    assert pace.allowance() == 20


def test_what_an_interruption_cost_is_not_made_up_for(clock):
    pace = Pace(100, clock.monotonic)
    clock.now += 60
    pace.start()
    assert pace.allowance() == 0
    clock.now += 0.125
    assert pace.allowance() == 12


def test_to_a_client_of_a_run_a_queue_that_is_not_there_is_one_that_was_deleted():
    gone = QueueNotFound("There is no queue 'q'.", "rmqbench produce declares its queues.")
    said = (
        "There is no queue 'q'. It was declared for the run: somebody, or a fault, has deleted it."
    )
    assert why_it_ended(gone) == said
    assert why_it_ended(LOST) == str(LOST)
