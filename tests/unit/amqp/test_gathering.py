"""When a stream is dense, a pause lets it gather; when that costs bandwidth, there is none."""

import socket
from types import SimpleNamespace

import pytest

from rmqbench.amqp.gathering import ENOUGH_BYTES, Gathering

DENSE, MUCH, BURST = 1 << 14, 1 << 15, 1 << 20


class Pauses:
    """Gathers, and keeps how long each pause was; ``during`` is called as each half of it ends."""

    def __init__(self):
        self.during = lambda: None
        self._slept = 0.0
        self.gathering = Gathering(SimpleNamespace(sleep=self._sleep))

    def _sleep(self, seconds):
        self._slept += seconds
        self.during()

    def __call__(self, received, burst_bytes=BURST, most_s=0.006):
        self._slept = 0.0
        self.gathering.pause(received, burst_bytes, most_s)
        return self._slept


@pytest.fixture
def pause():
    return Pauses()


@pytest.fixture
def source(pause):
    """A socket that the pauses look at, and one that sends to it."""
    near, far = socket.socketpair()
    with near, far:
        pause.gathering.source = near
        yield far


def test_while_the_stream_stays_dense_the_pause_grows_up_to_a_limit(pause):
    pauses = [pause(DENSE, most_s=1.0) for _ in range(20)]
    assert pauses[0] == pytest.approx(0.0005)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(0.02)


def test_no_pause_is_longer_than_it_may_be_and_a_short_one_is_none(pause):
    assert max(pause(DENSE, most_s=0.003) for _ in range(20)) == pytest.approx(0.003)
    assert [pause(DENSE, most_s=0.0004) for _ in range(20)] == [0.0] * 20


@pytest.mark.parametrize("received", [0, 300, 1023, ENOUGH_BYTES, 10 * ENOUGH_BYTES])
def test_what_is_sparse_or_enough_is_followed_by_no_pause(pause, received):
    assert pause(received) == 0
    assert pause(DENSE) > 0
    assert pause(received) == 0


@pytest.mark.parametrize("received", [300, ENOUGH_BYTES])
def test_behind_it_the_pause_is_a_shorter_one(pause, received):
    for _ in range(10):
        pause(DENSE)
    pause(received)
    assert pause(DENSE) == pytest.approx(0.0045)


def test_more_than_may_gather_shortens_the_pause(pause):
    long = [pause(DENSE) for _ in range(10)][-1]
    assert pause(DENSE, DENSE - 1) == pytest.approx(long / 2)
    assert Pauses()(DENSE, 0) == 0


def test_where_a_full_socket_gathers_nothing_more_the_pause_shrinks(pause, source):
    source.sendall(bytes(1 << 15))
    pauses = [pause(MUCH) for _ in range(20)]
    assert max(pauses[2:]) < 0.002


def test_a_socket_that_still_gathers_is_left_alone(pause, source):
    pause.during = lambda: source.sendall(bytes(2048))
    assert [pause(MUCH) for _ in range(10)][-1] == pytest.approx(0.006)


def test_a_little_that_came_is_no_full_socket(pause, source):
    source.sendall(bytes((1 << 15) - 1))
    assert [pause(MUCH) for _ in range(10)][-1] == pytest.approx(0.006)


def test_nobody_looks_into_a_socket_from_which_little_came(pause, source):
    source.sendall(bytes(1 << 15))
    assert [pause(MUCH - 1) for _ in range(10)][-1] == pytest.approx(0.006)
