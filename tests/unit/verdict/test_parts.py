"""Parts hold all of the evidence, each message and each row once, counted from their first."""

import numpy as np
import pytest
from support.evidence import consumer, producer
from support.histories import RECIPE

from rmqbench import pieces
from rmqbench.verdict.evidence import AGAIN, Evidence
from rmqbench.verdict.parts import ConsumerParts, Parts

COUNTS = (7, 1, 4)
MOST = 3


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", MOST)


def evidence(*copies, wanted=None):
    first, *others = COUNTS
    sent = [producer(count=first, copies=copies, wanted=wanted), *map(_of, others)]
    return Evidence(RECIPE, sent, [])


def _of(count):
    return producer(count=count)


def test_each_message_is_in_one_part_of_its_producer():
    parts = Parts(evidence())
    assert parts.count == sum(COUNTS)
    found = [(part.number, part.first, part.start, len(part)) for part in parts]
    assert found == [
        (0, 0, 0, 3),
        (0, 3, 3, 3),
        (0, 6, 6, 1),
        (1, 0, 7, 1),
        (2, 0, 8, 3),
        (2, 3, 11, 1),
    ]
    assert [part.start for part in reversed(parts)] == [11, 8, 7, 6, 3, 0]


def test_a_part_has_what_became_of_its_messages():
    whole = evidence()
    for part in Parts(whole):
        these = slice(part.first, part.first + len(part))
        sent = whole.producers[part.number]
        assert part.producer.sent_ns.tolist() == sent.sent_ns[these].tolist()
        assert part.producer.state.tolist() == sent.state[these].tolist()


def test_copies_are_in_the_part_of_their_message_and_in_their_order():
    parts = Parts(evidence((5, 2), (0, 2), (5, 3), (4, 3)))
    found = [part.producer.copies[["sequence", "channel"]].tolist() for part in parts]
    assert found == [[(0, 2)], [(1, 3), (2, 2), (2, 3)], [], [], [], []]


def test_what_a_producer_was_to_send_ends_in_the_middle_of_a_part():
    wanted = [part.producer.wanted for part in Parts(evidence(wanted=4))]
    assert wanted[:3] == [4, 1, -2]


def test_what_came_again_is_in_the_part_of_its_message_and_what_there_is_not_in_none():
    rows = np.zeros(5, AGAIN)
    rows["place"], rows["at_ns"] = [8, -1, 3, 12, 8], range(5)
    came = consumer([], counts=COUNTS)
    came = type(came)(came.state, came.stamp, came.first_ns, rows)
    consumers = ConsumerParts([came], sum(COUNTS))
    found = [consumers.of(part)[0].again[["place", "at_ns"]].tolist() for part in Parts(evidence())]
    assert found == [[], [(0, 2)], [], [], [(0, 0), (0, 4)], []]
