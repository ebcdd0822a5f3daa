"""A node of our own is started again where its ports were taken, and waited for with a limit."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import psutil
import pytest

from rmqbench.broker.reaper import Reaper
from rmqbench.broker.starting import PortsTaken, running_node, wait_until_ready
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable, DeadlineExceeded

NOT_STARTED = [
    BrokerUnavailable("Its disk is full."),
    DeadlineExceeded("It took too long."),
    KeyboardInterrupt(),
]


class FakeNode:
    def __init__(self, reaper: Reaper, failure: BaseException | None) -> None:
        self.reaper = reaper
        self._failure = failure
        self.story: list[str] = []

    def start(self) -> None:
        self.story.append("start")
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        assert os.getpid() == psutil.Process(self.reaper.pid).ppid(), "the reaper ended before it"
        self.story.append("close")


class Nodes:
    """Makes nodes whose starts end as the list says."""

    def __init__(self, *failures: BaseException | None) -> None:
        self._failures = list(failures)
        self.made: list[FakeNode] = []

    def __call__(self, reaper: Reaper) -> FakeNode:
        self.made.append(FakeNode(reaper, self._failures.pop(0)))
        return self.made[-1]

    @property
    def stories(self) -> list[list[str]]:
        return [node.story for node in self.made]


def test_a_node_whose_ports_were_taken_is_replaced_twice() -> None:
    nodes = Nodes(PortsTaken("Port 1."), PortsTaken("Port 2."), None)
    with running_node(nodes) as node:
        assert node is nodes.made[2]
        assert nodes.stories == [["start", "close"], ["start", "close"], ["start"]]
    assert node.story == ["start", "close"]
    assert not psutil.pid_exists(node.reaper.pid)


def test_a_third_time_is_the_last() -> None:
    nodes = Nodes(PortsTaken("Port 1."), PortsTaken("Port 2."), PortsTaken("Port 3."))
    with pytest.raises(BrokerUnavailable, match="Port 3"), running_node(nodes):
        pytest.fail("it was not started")
    assert nodes.stories == 3 * [["start", "close"]]


@pytest.mark.parametrize("failure", NOT_STARTED, ids=lambda error: type(error).__name__)
def test_a_node_that_fails_for_another_reason_is_not_replaced(failure: BaseException) -> None:
    nodes = Nodes(failure)
    with pytest.raises(type(failure)), running_node(nodes):
        pytest.fail("it was not started")
    assert nodes.stories == [["start", "close"]]
    assert not psutil.pid_exists(nodes.made[0].reaper.pid)


def fail_in(nodes: Nodes) -> None:
    with running_node(nodes):
        raise PortsTaken("By the caller, of another node.")


def test_an_error_of_the_caller_starts_nothing_again() -> None:
    nodes = Nodes(None)
    with pytest.raises(PortsTaken, match="By the caller"):
        fail_in(nodes)
    assert nodes.stories == [["start", "close"]]


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


def test_readiness_that_never_comes_names_the_last_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint("127.0.0.1", server.getsockname()[1])

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with pytest.raises(
            DeadlineExceeded, match=r"a node to be ready\. The last attempt: 127\.0"
        ):
            wait_until_ready(endpoint, lambda: None, 0.5, "a node")
        server.shutdown(socket.SHUT_RDWR)
        thread.join(20.0)
