"""Waits end, and say what they waited for."""

from __future__ import annotations

import threading
import time

import pytest

from rmqbench.errors import BrokerUnavailable, DeadlineExceeded
from rmqbench.waiting import wait_for_call, wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_condition_that_holds_is_not_waited_for() -> None:
    clock = Clock()
    wait_until(lambda: True, 0.0, "nothing", clock=clock, sleep=clock.sleep)
    assert clock.slept == []


def test_a_condition_is_tried_once_more_at_the_end() -> None:
    clock = Clock()
    wait_until(lambda: clock.now >= 1.0, 1.0, "one", every_s=0.3, clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(1.0)


def test_a_wait_that_reaches_its_limit_says_what_for_and_how_long() -> None:
    clock = Clock()
    with pytest.raises(DeadlineExceeded, match=r"^Timed out after 2 s waiting for the moon\.$"):
        wait_until(lambda: False, 2.0, "the moon", clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(2.0)


@pytest.fixture
def never() -> threading.Event:
    """An event that no test sets: what waits for it blocks until the process ends."""
    return threading.Event()


def test_a_call_returns_what_it_returns_and_raises_what_it_raises() -> None:
    def fail() -> None:
        raise LookupError("lost")

    assert wait_for_call(lambda: 7, 20.0, "seven") == 7
    with pytest.raises(LookupError, match="lost"):
        wait_for_call(fail, 20.0, "nothing")


def test_a_timeout_of_the_call_itself_is_not_taken_for_the_limit() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        wait_for_call(fail, 20.0, "nothing")


def test_a_call_that_ends_is_noticed_at_once() -> None:
    took = []
    for _ in range(20):
        began = time.perf_counter()
        wait_for_call(lambda: None, 20.0, "nothing")
        took.append(time.perf_counter() - began)
    assert min(took) < 0.02  # and not with the next look, 50 ms later


def test_a_call_that_blocks_is_left_at_its_limit_and_does_not_keep_the_process(
    never: threading.Event,
) -> None:
    with pytest.raises(DeadlineExceeded, match=r"^Timed out after 0\.2 s waiting for an answer\.$"):
        wait_for_call(never.wait, 0.2, "an answer")
    (left,) = [one for one in threading.enumerate() if one.name == "rmqbench: an answer"]
    assert left.daemon
    never.set()
    left.join(20.0)
    assert not left.is_alive()


def test_a_call_is_given_up_as_soon_as_the_check_says_so(never: threading.Event) -> None:
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise BrokerUnavailable("It is silent.")

    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="It is silent"):
        wait_for_call(never.wait, 600.0, "an answer", check=check)
    assert time.monotonic() - began < 60
    assert looks == 3
    never.set()
