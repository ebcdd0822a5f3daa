"""Waits end, and say what they waited for."""

from __future__ import annotations

import socket

import pytest

from rmqbench.broker.waiting import wait_until, wait_until_ready
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable, DeadlineExceeded


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


def test_a_wait_in_vain_says_what_for_and_how_long() -> None:
    clock = Clock()
    with pytest.raises(DeadlineExceeded, match=r"Waited 2 s for the moon, in vain"):
        wait_until(lambda: False, 2.0, "the moon", clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(2.0)


def test_a_node_that_ended_is_not_waited_for() -> None:
    def dead() -> None:
        raise BrokerUnavailable("It ended.")

    with pytest.raises(BrokerUnavailable, match="It ended"):
        wait_until_ready(Endpoint("127.0.0.1", 1), dead, 60.0, "a node")


def test_readiness_that_never_comes_says_why() -> None:
    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(DeadlineExceeded, match=r"a node to be ready.*Nothing ever listened"):
            wait_until_ready(endpoint, lambda: None, 0.3, "a node")
