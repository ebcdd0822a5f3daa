"""What may be let go while a run is under way, and what a verdict says of what comes again."""

from dataclasses import replace

import numpy as np
import pytest
from support.evidence import COUNT, D, again, consumer, incident, producer, queue
from support.histories import RECIPE

from rmqbench import pieces
from rmqbench.pieces import piece_of
from rmqbench.verdict.clean import Recorded, clean_parts
from rmqbench.verdict.evidence import (
    ACKED,
    AGAIN,
    DELIVERED,
    LET_GO,
    NACKED,
    REDELIVERED,
    SENT,
    Drain,
    Evidence,
    Incident,
    ProducerChannel,
)
from rmqbench.verdict.findings import FindingName
from rmqbench.verdict.rules import judge_evidence

FEW = 2
OPEN = Drain(False, 0, "it goes on")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", FEW)


def all_in_order(count=COUNT, **more):
    return consumer([D(sequence) for sequence in range(count)], **more)


def evidence(*queues, producers=None):
    return Evidence(RECIPE, producers or [producer()], queues or (queue(all_in_order()),))


def clean(of):
    return [each.part.first for each in clean_parts(of)]


EVERY = list(range(0, COUNT - 1, FEW))


def but(*firsts):
    return [first for first in EVERY if first not in firsts]


def test_what_was_confirmed_and_delivered_once_is_clean():
    assert clean(evidence()) == EVERY
    first = next(clean_parts(evidence(queue(all_in_order(begins=1_000)))))
    ((recorded,),) = first.received
    assert recorded == Recorded(FEW, 1_001, 1_002)
    assert first.sent.rows == FEW


@pytest.mark.parametrize(
    "sent",
    [
        producer({2: SENT}),
        producer({3: NACKED | SENT}),
        producer({2: 0, 3: 0}),
        producer(copies=[(2, 2)]),
        producer(channels=(0, 3)),
    ],
    ids=["not confirmed", "nacked", "not sent", "sent again", "on two channels"],
)
def test_what_is_not_all_confirmed_at_once_is_not_clean(sent):
    assert clean(evidence(producers=[sent])) == but(2)


@pytest.mark.parametrize(
    "received",
    [
        consumer([D(n) for n in range(COUNT) if n != 3]),
        consumer([*(D(n) for n in range(COUNT)), again(3)]),
        consumer([*(D(n) for n in range(COUNT)), D(3)]),
        consumer(
            [D(n) for n in range(COUNT)],
            incidents=(incident(FindingName.MISROUTED, 5, 0, 3),),
        ),
        consumer([D(n, channel=1 + (n > 2)) for n in range(COUNT)]),
    ],
    ids=["not delivered", "redelivered", "duplicate", "an incident", "on two channels"],
)
def test_what_was_not_delivered_just_once_is_not_clean(received):
    assert clean(evidence(queue(received))) == but(2)
    assert clean(evidence(queue(all_in_order()), queue(received, name="other"))) == but(2)


def test_what_was_not_acknowledged_is_not_clean():
    assert clean(evidence(queue(all_in_order(acked=False)))) == []


def test_what_came_in_another_order_is_not_clean_where_order_is_judged():
    swapped = consumer([D(n) for n in (0, 1, 3, 2, *range(4, COUNT))])
    assert clean(evidence(queue(swapped))) == but(2)
    assert clean(evidence(queue(swapped, consumer([])))) == EVERY


def test_what_came_with_the_flag_at_first_is_clean():
    """A queue that recovers sets it on all that it has."""
    flagged = consumer([again(n) if n == 3 else D(n) for n in range(COUNT)])
    found = {each.part.first: each.received for each in clean_parts(evidence(queue(flagged)))}
    assert list(found) == EVERY
    assert [found[first][0][0].flagged for first in EVERY[:2]] == [0, 1]


def test_of_a_producer_or_a_queue_that_cannot_be_read_nothing_is_clean():
    assert clean(evidence(producers=[producer(readable=False)])) == []
    assert clean(evidence(queue(all_in_order(), complete=False))) == []


# --- the verdict on what was let go ---------------------------------------------------------------


def segments(rows):
    found = np.zeros(piece_of(COUNT + FEW - 1), LET_GO)
    found["start"] = np.arange(len(found)) * FEW
    for segment, recorded in rows.items():
        found[segment] = (
            segment * FEW,
            recorded.rows,
            recorded.earliest_ns,
            recorded.last_ns,
            recorded.flagged,
        )
    return found


def let_go(of):
    """Return evidence after all that is clean was let go, its rows freed."""
    found = list(clean_parts(of))
    rows = {piece_of(each.part.first): each.sent for each in found}
    producers = [_freed(of.producers[0], rows, ("state", "sent_ns"))]
    queues = []
    for index, each_queue in enumerate(of.queues):
        consumers = []
        for number, one in enumerate(each_queue.consumers):
            rows = {
                piece_of(each.part.first): each.received[index][number]
                for each in found
                if each.received[index][number] is not None
            }
            consumers.append(_freed(one, rows, ("state", "stamp", "first_ns")))
        queues.append(replace(each_queue, consumers=consumers))
    return replace(of, producers=producers, queues=queues)


def _freed(worker, rows, columns):
    changed = {name: getattr(worker, name).copy() for name in columns}
    for segment in rows:
        for column in changed.values():
            column[segment * FEW : (segment + 1) * FEW] = 0
    return replace(worker, let_go=segments(rows), **changed)


def receive(of, number, sequence, at_ns, *, flagged=True, stamp=7):
    """Record a delivery as a recorder does that has let go what it knew of the message."""
    one = of.queues[0].consumers[number]
    assert not one.state[sequence]
    one.state[sequence] = DELIVERED | ACKED | (REDELIVERED if flagged else 0)
    one.first_ns[sequence], one.stamp[sequence] = at_ns, stamp


def said(of):
    return judge_evidence(of).found()


CASES = {
    "all": evidence,
    "some lost": lambda: evidence(queue(consumer([D(n) for n in range(COUNT) if n not in (3, 6)]))),
    "some late": lambda: evidence(
        queue(consumer([D(n) for n in (1, 0, *range(2, COUNT - 3), COUNT - 1, COUNT - 2)]))
    ),
    "two consumers": lambda: evidence(
        queue(
            consumer([D(n) for n in range(0, COUNT, 2)]),
            consumer([D(n) for n in range(1, COUNT, 2)]),
        )
    ),
    "indeterminate": lambda: evidence(producers=[producer({5: SENT})]),
    "not drained": lambda: evidence(queue(all_in_order(), drain=OPEN)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_verdict_is_the_same_whether_evidence_was_let_go_or_not(case):
    whole, rest = case(), let_go(case())
    assert sum(int((each.let_go["rows"] > 0).sum()) for each in rest.producers) > 0
    one, other = judge_evidence(whole), judge_evidence(rest)
    assert (one.outcome, one.found()) == (other.outcome, other.found())
    assert [each.detail for each in one.findings] == [each.detail for each in other.findings]


@pytest.mark.parametrize(
    ("flagged", "expected"),
    [(True, {"redelivered": 1, "repeated": 1}), (False, {"duplicate": 1})],
)
def test_what_comes_again_on_the_channel_that_had_it_all(flagged, expected):
    rest = let_go(evidence())
    receive(rest, 0, 3, 50_000, flagged=flagged)
    assert said(rest) == expected


def test_what_comes_again_on_a_channel_behind_its_clean_end_is_after_its_acknowledgement():
    first, second = all_in_order(), consumer([], begins=60_000)
    rest = let_go(evidence(queue(first, second)))
    receive(rest, 1, 3, 70_000)
    assert said(rest) == {"redelivered": 1, "redelivered after ack": 1}


def test_what_comes_again_where_nobody_knows_who_had_it_counts_all_the_same():
    shared = queue(consumer([D(0), D(2)]), consumer([D(1), D(3), *map(D, range(4, COUNT))]))
    rest = let_go(evidence(shared))
    receive(rest, 0, 3, 50_000)
    receive(rest, 0, 1, 50_001, flagged=False)
    assert said(rest) == {"redelivered": 1, "duplicate": 1}


def test_without_the_flag_once_more_is_none_too_many_where_the_first_may_have_had_it():
    """Of two consumers nobody knows who was first; that is so of what was let go, too."""
    flagged = queue(consumer([again(n) for n in range(COUNT)], closed=()), consumer([], closed=()))
    rest = let_go(evidence(flagged))
    receive(rest, 1, 3, 50_000, flagged=False)
    assert said(rest) == {"redelivered": 1}


def test_rows_that_nobody_freed_count_once():
    """Who was killed frees nothing."""
    whole = evidence()
    freed = let_go(whole)
    (left,) = whole.queues
    (one,) = left.consumers
    (gone,) = freed.queues[0].consumers
    kept = replace(one, let_go=gone.let_go)
    assert said(replace(freed, queues=[replace(left, consumers=[kept])])) == {}


def test_what_came_again_while_the_last_of_its_segment_came_counts():
    """Its row may not have been there when rows were read, just before the columns."""
    rest = let_go(evidence())
    (of,) = rest.queues
    (one,) = of.consumers
    row = np.zeros(1, AGAIN)
    row["place"], row["at_ns"], row["channel"], row["stamp"] = 2, one.let_go["earliest_ns"][1], 1, 7
    row["at_ns"] += 1
    again = replace(one, again=row)
    assert said(replace(rest, queues=[replace(of, consumers=[again])])) == {"duplicate": 1}


def test_columns_that_hold_nothing_are_not_looked_at():
    rest = let_go(evidence())
    receive(rest, 0, 3, 50_000)
    (of,) = rest.queues
    (one,) = of.consumers
    nothing = np.zeros(len(one.let_go), np.bool_)
    assert said(replace(rest, queues=[replace(of, consumers=[replace(one, holds=nothing)])])) == {}


def test_incidents_of_what_was_let_go_count():
    rest = let_go(evidence())
    (of,) = rest.queues
    (one,) = of.consumers
    told = Incident(FindingName.CORRUPTED, 50_000, 0, 3, "the body")
    told = replace(rest, queues=[replace(of, consumers=[replace(one, incidents=(told,))])])
    assert said(told) == {"corrupted": 1}


def test_where_the_first_channel_of_a_producer_is_not_known_it_is_judged_all_the_same():
    """What was let go before the first channel that is known is of none."""
    known = let_go(evidence())
    cut_off = [replace(each, channels=(ProducerChannel(2, 4),)) for each in known.producers]
    assert said(replace(known, producers=cut_off)) == {}
