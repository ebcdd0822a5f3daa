"""What consumers have received is watched at the cost of what is new, and counted exactly."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from rmqbench.run_directory.ledger import BLOCK, DeliveryLedger
from rmqbench.run_directory.recorder import DeliveryRecorder
from rmqbench.runner.received import Received
from rmqbench.verdict.evidence import DELIVERED

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

COUNT = 3 * BLOCK + 7
EDGES = [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 1, COUNT - 1]


class Watched:
    """Consumers that share a queue, and whoever watches them."""

    def __init__(self, directory, consumers):
        self.received = Received()
        self.recorders = []
        for number in range(consumers):
            self.begin(directory / str(number))

    def begin(self, directory):
        DeliveryLedger.create(directory, COUNT)
        self.recorders.append(DeliveryRecorder(directory, (COUNT,)))
        self.received.add(DeliveryLedger.read(directory))

    def deliver(self, consumer, sequences):
        n = len(sequences)
        self.recorders[consumer].record(
            np.zeros(n, np.int64),
            np.array(sequences, np.int64),
            np.zeros(n, np.bool_),
            np.zeros(n, np.uint32),
            7,
        )

    def close(self):
        for each in self.recorders:
            each.close()


@pytest.fixture
def watched(tmp_path):
    made = []

    def watched(consumers):
        made.append(Watched(tmp_path, consumers))
        return made[-1]

    yield watched
    for each in made:
        each.close()


class Counting:
    """A column that counts how many places of it were looked at."""

    def __init__(self, column):
        self.column, self.looked_at = column, 0

    def __getitem__(self, at):
        found = self.column[at]
        self.looked_at += len(found)
        return found


def columns_of(received):
    """Replace the columns of its ledgers by some that count."""
    for ledger in received._ledgers:
        ledger.arrays.clear()
        ledger.stamp = ledger.first_ns = None
        ledger.state = Counting(ledger.state)
    return [ledger.state for ledger in received._ledgers]


deliveries = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.sampled_from(EDGES), min_size=1, max_size=9)),
    max_size=12,
)


@settings(max_examples=60)
@given(consumers=st.integers(1, 3), deliveries=deliveries, data=st.data())
def test_each_message_counts_once_whoever_receives_it_and_whenever_one_looks(
    consumers, deliveries, data
):
    with tempfile.TemporaryDirectory() as scratch:
        watched = Watched(Path(scratch), consumers)
        came = [set() for _ in watched.recorders]
        for consumer, sequences in deliveries:
            if data.draw(st.integers(0, 5)) == 0:  # another takes the place of one that died
                watched.begin(Path(scratch) / str(len(came)))
                came.append(set())
            watched.deliver(consumer % len(came), sequences)
            came[consumer % len(came)] |= set(sequences)
            if data.draw(st.booleans()):
                watched.received.look()
                assert watched.received.distinct == len(set().union(*came))
                assert watched.received.total == sum(map(len, came))
        watched.received.recount()
        assert watched.received.distinct == len(set().union(*came))
        assert watched.received.total == sum(map(len, came))
        watched.close()


def test_of_an_only_consumer_no_place_is_looked_at(watched):
    watched = watched(1)
    (column,) = columns_of(watched.received)
    watched.deliver(0, EDGES)
    watched.received.look()
    assert watched.received.distinct == len(EDGES)
    assert column.looked_at == 0


def test_of_several_only_the_blocks_are_looked_at_in_which_something_is_new(watched):
    watched = watched(2)
    columns = columns_of(watched.received)
    for sequence, looked_at in ((5, BLOCK), (BLOCK, 2 * BLOCK), (6, 3 * BLOCK)):
        watched.deliver(1, [sequence])
        for _ in range(3):
            watched.received.look()
            assert [each.looked_at for each in columns] == [looked_at] * 2
    assert watched.received.distinct == 3


@pytest.mark.parametrize("consumers", [1, 2])
def test_what_a_killed_consumer_recorded_and_had_not_counted_is_counted_in_the_end(
    watched, consumers
):
    watched = watched(consumers)
    watched.deliver(0, [1, 2])
    watched.received.look()
    watched.recorders[0].ledger.state[[2, 3, BLOCK]] = DELIVERED
    watched.received.look()
    assert watched.received.distinct == 2
    watched.received.recount()
    assert watched.received.distinct == 4
    watched.begin(watched.recorders[0].ledger.directory / "next")
    watched.deliver(consumers, [2, 9])
    watched.received.look()
    assert watched.received.distinct == 5
