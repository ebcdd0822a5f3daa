"""A broker that is not ours is listened to all along, and what breaks that is written down."""

import threading
import time
from contextlib import ExitStack

import pytest

from rmqbench.clock import REAL_CLOCK
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable, ConnectionLost
from rmqbench.run_directory.journal import Restarted
from rmqbench.runner import watch as watching
from rmqbench.runner.watch import BrokerWatch
from rmqbench.waiting import wait_until

LOST = ConnectionLost("The connection ended.")
AWAY = BrokerUnavailable("Nobody is there.")


class Broker:
    """A broker and all connections to it; ``lose`` ends the one that is open."""

    def __init__(self):
        self.there = True
        self.received_bytes = 1
        self.turns = 0
        self.made = []  # what each connection came to
        self.settings = {}
        self._lost = threading.Event()

    def connection(self, endpoint, **settings):
        self.settings = settings
        return self

    def open(self, timeout_s):
        self.made.append("open" if self.there else "refused")
        if not self.there:
            raise AWAY
        self._lost.clear()
        return self

    def turn(self):
        time.sleep(0.005)
        self.turns += 1
        if self._lost.is_set():
            raise LOST

    def lose(self, error=LOST):
        self._lost.set()

    def let_it_turn(self):
        """Wait until what is there now has been looked at."""
        seen = self.turns
        wait_until(lambda: self.turns > seen + 1, 5, "two turns")

    def close(self):
        self.made.append("closed")

    def abort(self):
        self.made.append("ended")


@pytest.fixture
def broker(monkeypatch):
    broker = Broker()
    monkeypatch.setattr(watching, "Connection", broker.connection)
    monkeypatch.setattr(watching, "_FIRST_PAUSE_S", 0.01)
    return broker


@pytest.fixture
def watched(broker):
    """Watch the broker; the entries are those that were written."""
    with ExitStack() as stack:
        entries = []
        watch = BrokerWatch(Endpoint(), REAL_CLOCK, entries.append)
        watch.entries = entries
        watch.end = stack.close
        stack.enter_context(watch)
        wait_until(lambda: broker.made, 5, "a connection")
        yield watch


def threads():
    return [each for each in threading.enumerate() if each.name == "broker watch"]


def test_as_long_as_the_broker_is_there_nothing_is_written(watched, broker):
    broker.let_it_turn()
    watched.end()
    assert (watched.broke, watched.entries) == (False, [])
    assert broker.made == ["open", "closed"]
    assert threads() == []


def test_a_broken_connection_may_have_been_a_restart_between_these_moments(watched, broker):
    broker.let_it_turn()
    heard_ns = time.time_ns()
    broker.received_bytes += 1
    broker.let_it_turn()
    before_ns = time.time_ns()
    broker.there = False
    broker.lose()
    wait_until(lambda: "refused" in broker.made, 5, "it to be noticed")
    assert watched.broke
    assert watched.entries == [], "it is not over yet"
    back_ns = time.time_ns()
    broker.there = True
    wait_until(lambda: watched.entries, 10, "what was seen")
    (entry,) = watched.entries
    assert isinstance(entry, Restarted)
    assert heard_ns <= entry.after_ns <= before_ns
    assert entry.before_ns >= back_ns


def test_what_is_not_heard_of_any_more_may_have_been_started_anew_since_then(watched, broker):
    """The connection is half-open at first: nothing comes, and nothing says that it is over."""
    broker.let_it_turn()
    silent_since_ns = time.time_ns()
    broker.let_it_turn()
    broker.lose()
    wait_until(lambda: watched.entries, 5, "what was seen")
    assert watched.entries[0].after_ns <= silent_since_ns


def test_each_break_is_written(watched, broker):
    for number in (1, 2, 3):
        broker.lose()
        wait_until(lambda number=number: len(watched.entries) == number, 5, "the break")
    after = [each.after_ns for each in watched.entries]
    assert after == sorted(after)


def test_a_broker_that_is_gone_for_good_does_not_hold_up_the_end(watched, broker):
    broker.there = False
    broker.lose()
    wait_until(lambda: broker.made.count("refused") >= 3, 5, "some attempts")
    began = time.monotonic()
    watched.end()
    assert time.monotonic() - began < 1
    assert threads() == []


def test_it_does_not_knock_more_and_more_at_a_broker_that_refuses_it(watched, broker, monkeypatch):
    pauses = []
    monkeypatch.setattr(watched._over, "wait", pauses.append)
    broker.there = False
    broker.lose()
    wait_until(lambda: len(pauses) >= 12, 5, "pauses")
    monkeypatch.undo()
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.08]
    assert max(pauses) == watching._LONGEST_PAUSE_S


def test_whatever_ends_a_connection_does_not_end_the_watch(watched, broker, monkeypatch):
    monkeypatch.setattr(broker, "turn", lambda: 1 / 0)
    wait_until(lambda: broker.made.count("open") >= 2, 5, "another connection")
    assert watched.broke
    assert broker.made.count("ended") >= 1
    monkeypatch.undo()
