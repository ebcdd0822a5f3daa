"""Confirms settle what was published, and are believed no further than they go together."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.confirms import ack, confirms, nack

from rmqbench.clients.producer import _Origin, _Settling
from rmqbench.clock import REAL_CLOCK
from rmqbench.errors import BrokerError
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.run_directory.recorder import PublishRecorder
from rmqbench.verdict.evidence import CONFIRMED, NACKED

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import example, given, settings
from hypothesis import strategies as st

COUNT = 20
NOTHING = np.empty(0, np.int64)
TOLD_TWICE = "first confirmed, then confirmed"


class Channel:
    """One publishing channel of a producer, of which so many messages were sent."""

    def __init__(self, directory, sent=0, again=NOTHING, first=0):
        PublishLedger.create(directory, COUNT)
        self.recorder = PublishRecorder(directory)
        self.ledger = self.recorder.ledger
        self.settling = _Settling(self.recorder, again, first, _Origin(0, 3, REAL_CLOCK))
        self.settling.take(sent)

    def settle(self, *rows):
        self.settling.settle(confirms(*rows))

    def places(self, bit):
        return np.flatnonzero(self.ledger.state & bit).tolist()

    @property
    def told(self):
        return [(each.sequence, each.detail) for each in self.ledger.incidents()]


@pytest.fixture
def channel(tmp_path):
    made = []

    def channel(sent, **more):
        made.append(Channel(tmp_path / "producer", sent, **more))
        return made[-1]

    yield channel
    for each in made:
        each.recorder.close()


# --- tags and sequence numbers --------------------------------------------------------------------


def test_tags_follow_the_order_of_sending_from_one_on(channel):
    there = channel(0)
    assert there.settling.take(3).tolist() == [0, 1, 2]
    assert there.settling.take(2).tolist() == [3, 4]
    there.settle(ack(4), ack(1))
    assert there.places(CONFIRMED) == [0, 3]
    assert np.flatnonzero(there.ledger.settled_after_ns).tolist() == [0, 3]
    assert (there.settling.sent, there.settling.settled) == (5, 2)


def test_a_later_channel_begins_its_tags_anew(channel):
    there = channel(0, first=7)
    assert there.settling.take(3).tolist() == [7, 8, 9]
    there.settle(ack(1), ack(3))
    assert there.places(CONFIRMED) == [7, 9]


def test_what_is_sent_again_comes_first_and_has_the_first_tags(channel):
    there = channel(0, again=np.array([2, 5, 6]), first=9)
    assert there.settling.take(2).tolist() == [2, 5]
    assert there.settling.take(3).tolist() == [6, 9, 10]
    there.settle(ack(2), nack(3), ack(4))
    assert there.places(CONFIRMED) == [5, 9]
    assert there.places(NACKED) == [6]
    there.settle(ack(5, multiple=True))
    assert there.places(CONFIRMED) == [2, 5, 9, 10]
    assert there.settling.settled == 5
    assert there.told == []


def test_multiple_covers_all_up_to_its_tag(channel):
    there = channel(10)
    there.settle(ack(4, multiple=True))
    assert there.places(CONFIRMED) == [0, 1, 2, 3]
    there.settle(ack(7, multiple=True), ack(9))
    assert there.places(CONFIRMED) == [0, 1, 2, 3, 4, 5, 6, 8]
    assert (there.settling.settled, there.told) == (8, [])


def test_multiple_covers_what_was_settled_alone_and_is_no_contradiction(channel):
    there = channel(10)
    there.settle(ack(2), nack(3), ack(6, multiple=True))
    assert there.places(CONFIRMED) == [0, 1, 3, 4, 5]
    assert there.places(NACKED) == [2]
    assert (there.settling.settled, there.told) == (6, [])


def test_multiple_with_tag_0_covers_all_that_were_sent(channel):
    there = channel(6)
    there.settle(ack(2), ack(0, multiple=True))
    assert there.places(CONFIRMED) == [0, 1, 2, 3, 4, 5]
    assert (there.settling.settled, there.told) == (6, [])


def test_a_nack_is_told_from_an_ack_in_the_same_burst(channel):
    there = channel(8)
    there.settle(ack(1), nack(3, multiple=True), ack(5), nack(7), ack(8, True))
    assert there.places(CONFIRMED) == [0, 3, 4, 5, 7]
    assert there.places(NACKED) == [1, 2, 6]
    assert (there.settling.settled, there.told) == (8, [])


# --- contradictions -------------------------------------------------------------------------------


@pytest.mark.parametrize("bursts", ["one", "many"])
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([ack(1), ack(1), ack(2)], [(0, "first confirmed, then confirmed")]),
        ([ack(1), nack(1)], [(0, "first confirmed, then refused")]),
        ([nack(1), ack(1)], [(0, "first refused, then confirmed")]),
        ([nack(1), nack(1)], [(0, "first refused, then refused")]),
        ([ack(3, True), ack(2)], [(1, TOLD_TWICE)]),
        ([ack(3, True), ack(2, True)], [(1, TOLD_TWICE)]),
        ([ack(3, True), nack(2)], [(1, "first confirmed, then refused")]),
        ([ack(2), ack(2, True)], [(1, TOLD_TWICE)]),
        ([ack(1)] * 3, [(0, TOLD_TWICE)] * 2),
    ],
)
def test_what_is_said_twice_is_reported_each_time(channel, rows, told, bursts):
    there = channel(3)
    for burst in [rows] if bursts == "one" else [[row] for row in rows]:
        there.settle(*burst)
    assert there.told == told
    incidents = list(there.ledger.incidents())
    assert {(each.finding, each.producer, each.channel) for each in incidents} == {
        ("contradicted", 0, 3)
    }


def test_what_is_settled_stays_as_it_is_and_counts_once(channel):
    there = channel(3)
    there.settle(nack(1))
    there.settle(ack(1), ack(2), ack(2, multiple=True))
    there.settle(ack(2))
    assert there.places(NACKED) == [0]
    assert there.places(CONFIRMED) == [1]
    assert there.settling.settled == 2


@pytest.mark.parametrize(
    ("row", "tag"),
    [
        (ack(4), 4),
        (ack(4, multiple=True), 4),
        (nack(10**12), 10**12),
        (ack(0), 0),
        (nack(0), 0),
        (ack(-1), 2**64 - 1),  # as numpy reads a long-long-unsigned of 64 ones
        (ack(-(2**63), multiple=True), 2**63),
    ],
)
def test_a_tag_that_was_never_given_is_reported_and_an_error(channel, row, tag):
    """What came before it counts, what comes behind it does not, however the stream was cut."""
    there = channel(3)
    with pytest.raises(BrokerError, match=f"delivery tag {tag}, but only 3 messages"):
        there.settle(ack(1), row, ack(2))
    assert there.places(CONFIRMED) == [0]
    assert there.told == [(None, f"delivery tag {tag}, of 3 published")]


@pytest.mark.parametrize("row", [ack(1), ack(0, multiple=True), nack(0, multiple=True)])
def test_before_anything_was_sent_nothing_can_be_confirmed(channel, row):
    there = channel(0)
    with pytest.raises(BrokerError, match="only 0 messages were published"):
        there.settle(row)
    assert len(there.told) == 1


# --- compared with a slow and simple rule ---------------------------------------------------------


def slowly(sent, rows):
    """Settle one tag after the other; return what was said first, and who was told of again."""
    said, told = {}, []
    for number, multiple, refused in rows:
        word = "refused" if refused else "confirmed"
        tag = sent if multiple and not number else number
        if tag in said and number:
            told.append((tag - 1, f"first {said[tag]}, then {word}"))
        for one in range(1, tag + 1) if multiple else [tag]:
            said.setdefault(one, word)
    return said, told


ROWS = st.tuples(st.integers(0, COUNT), st.booleans(), st.sampled_from([False] * 4 + [True]))


@settings(max_examples=300)
@given(
    sent=st.integers(1, COUNT),
    rows=st.lists(ROWS, min_size=1, max_size=30),
    cuts=st.sets(st.integers(1, 29)),
)
@example(sent=3, rows=[ack(1), ack(1), ack(2)], cuts=set())
@example(sent=3, rows=[ack(3, True), ack(2), ack(2)], cuts={1})
@example(sent=3, rows=[ack(0, True), ack(0, True)], cuts=set())
def test_confirms_settle_the_same_however_they_are_cut_into_bursts(sent, rows, cuts):
    rows = [
        (min(tag, sent) if tag or multiple else 1, multiple, nack) for tag, multiple, nack in rows
    ]
    said, told = slowly(sent, rows)
    with tempfile.TemporaryDirectory() as scratch:
        there = Channel(Path(scratch) / "producer", sent)
        for begin, end in pairwise(sorted({0, *(c for c in cuts if c < len(rows)), len(rows)})):
            there.settle(*rows[begin:end])
        settled = {
            place + 1: "confirmed" if there.ledger.state[place] == CONFIRMED else "refused"
            for place in np.flatnonzero(there.ledger.state).tolist()
        }
        assert settled == said
        assert sorted(there.told) == sorted(told)
        assert there.settling.settled == len(said)
        there.recorder.close()
