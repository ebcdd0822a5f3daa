"""Order: the first deliveries of one publishing channel, from one queue, to its only consumer."""

from unittest import mock

import pytest
from support.evidence import COUNT, D, again, all_but, consumer, producer, queue, verdict_of
from support.histories import RECIPE

from rmqbench import pieces
from rmqbench.verdict import order, rules
from rmqbench.verdict.evidence import Evidence
from rmqbench.verdict.order import late_deliveries
from rmqbench.verdict.rules import reordered_redeliveries

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st


def late(*consumers, producers=None, only=True):
    """Return how many came too late, without the flag and with it."""
    producers = producers or [producer()]
    work = queue(*consumers, only_consumer=only)
    evidence = Evidence(RECIPE, producers, [work])
    counted = verdict_of(work, producers=producers).found()
    assert set(counted) <= {"reordered", "lost", "redelivered"}
    return counted.get("reordered", 0), reordered_redeliveries(evidence)["work.queue"]


def in_order(*sequences, **more):
    """Return deliveries of these, one after the other."""
    return [D(sequence, **more) for sequence in sequences]


@pytest.mark.parametrize("burst", [True, False], ids=["one burst", "alone"])
@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        (range(COUNT), 0),
        ((0, 1, 2, 5, 9), 0),
        ((5, 3), 1),
        ((5, 3, 4, 6), 2),
        ((9, 8, 7), 2),
        ((8, 3, 9, 7), 2),
    ],
)
def test_a_lower_sequence_number_than_one_that_was_there_is_reordered(sequences, expected, burst):
    there = in_order(*sequences)
    assert late(consumer([there] if burst else there)) == (expected, 0)


def test_what_a_reordered_message_came_behind_is_told():
    verdict = verdict_of(queue(consumer([*in_order(8, 3, 4), *in_order(9, 7)])))
    (found,) = (each for each in verdict.findings if each.name == "reordered")
    assert found.effect == "fails"
    assert [(each.sequence, each.detail) for each in found.messages] == [
        (3, "after sequence 8"),
        (4, "after sequence 8"),
        (7, "after sequence 9"),
    ]


def test_what_comes_late_with_the_flag_is_counted_apart_and_allowed():
    there = [D(5), again(3), again(4), D(2), D(6)]
    assert late(consumer(there)) == (1, 2)
    verdict = verdict_of(queue(consumer([*all_but(3), again(3)])))
    assert (verdict.outcome, verdict.found()) == ("PASS", {})


def test_what_came_with_the_flag_counts_as_there_for_what_follows():
    assert late(consumer([again(5), D(3)])) == (1, 0)


def test_only_first_deliveries_are_compared():
    there = [*all_but(), again(3, channel=2), again(2, channel=2)]
    assert late(consumer(there, closed=())) == (0, 0)


def test_producers_that_alternate_are_each_in_order():
    there = [D(n, producer=number) for n in range(COUNT) for number in (1, 0)]
    there[4], there[6] = there[6], there[4]  # messages 2 and 3 of producer 1
    seen = consumer(there, counts=(COUNT, COUNT))
    assert late(seen, producers=[producer(), producer()]) == (1, 0)


# --- publishing channels --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "expected"),
    [((0,), 1), ((0, 5), 0), ((0, 4), 0), ((0, 2), 1), ((0, 3), 1), ((0, 7), 1), ((0, 2, 6), 0)],
)
def test_order_is_promised_within_one_publishing_channel_only(channels, expected):
    there = consumer(in_order(6, 3))
    assert late(there, producers=[producer(channels=channels)]) == (expected, 0)


def test_behind_the_highest_of_another_channel_each_is_compared_with_its_own():
    # 6 is of the second channel; of the first 4 came before 2 and 3.
    there = consumer(in_order(0, 6, 4, 2, 3, 5))
    assert late(there, producers=[producer(channels=(0, 5))]) == (3, 0)


def test_where_the_channels_are_not_known_no_order_is_judged():
    assert late(consumer(in_order(6, 3)), producers=[producer(channels=())]) == (0, 0)


# --- copies ---------------------------------------------------------------------------------------

SENT_AGAIN = {"copies": ((3, 2), (4, 2)), "channels": (0, 6)}  # 3 and 4 again, then 6 and on


def test_a_copy_is_in_the_order_of_the_channel_on_which_it_was_sent():
    sent_again = [producer(**SENT_AGAIN)]
    right = [*in_order(0, 1, 2, 3, 4, 5), *in_order(3, 4, copy=1), *in_order(6, 7)]
    assert late(consumer(right), producers=sent_again) == (0, 0)
    wrong = [*in_order(0, 1, 2, 3, 4, 5), *in_order(4, 3, copy=1), *in_order(6, 7)]
    assert late(consumer(wrong), producers=sent_again) == (1, 0)
    behind = [*in_order(0, 1, 2, 3, 4, 5, 6), *in_order(3, 4, copy=1), *in_order(7)]
    assert late(consumer(behind), producers=sent_again) == (2, 0)


def test_where_the_highest_was_sent_again_the_others_are_compared_all_the_same():
    sent_again = [producer(copies=((5, 2),), channels=(0, 6))]
    # The copy of 5 that came is of the second channel: nothing came before 3 and 2 but 4.
    there = [*in_order(0, 1, 4), D(5, copy=1), *in_order(2, 3)]
    assert late(consumer(there), producers=sent_again) == (2, 0)
    there = [D(5, copy=1), *in_order(0, 1, 2, 3, 4)]
    assert late(consumer(there), producers=sent_again) == (0, 0)
    there = [D(5), *in_order(0, 1, 2, 3, 4), D(5, copy=1)]
    assert late(consumer(there), producers=sent_again) == (5, 0)


def test_a_copy_that_comes_late_with_the_flag_is_counted_apart():
    there = [*in_order(0, 1, 2, 3, 4, 5, 6), again(3, copy=1), D(4, copy=1)]
    assert late(consumer(there), producers=[producer(**SENT_AGAIN)]) == (1, 1)


# --- whose order ----------------------------------------------------------------------------------


def test_a_shared_queue_promises_no_order():
    assert late(consumer(in_order(6, 3)), only=False) == (0, 0)
    assert late(consumer(in_order(6, 3)), consumer(in_order(9, 8)), only=False) == (0, 0)


def test_an_only_consumer_is_judged_over_all_its_rounds():
    first, second = consumer(in_order(0, 1, 5)), consumer(in_order(2, 3, 6), begins=5_000)
    assert late(first, second) == late(second, first) == (2, 0)
    flagged = consumer([again(2), again(3), D(6)], begins=5_000)
    assert late(first, flagged) == (0, 2)
    assert late(first, consumer(in_order(6, 7), begins=5_000)) == (0, 0)


def test_what_a_later_round_received_again_came_first_in_the_earlier_one():
    first, second = consumer(closed=()), consumer([again(3)], begins=5_000, closed=())
    assert late(first, second) == late(second, first) == (0, 0)


def test_an_only_consumer_is_judged_over_all_its_channels():
    there = [*in_order(0, 1, 5), *in_order(2, 3, channel=2)]
    assert late(consumer(there, closed=())) == (2, 0)


# --- compared with a slow and simple rule ---------------------------------------------------------


def slowly(deliveries, channel_of):
    """Return how many came too late, without the flag and with it, one delivery after another."""
    seen, highest, counts = set(), {}, [0, 0]
    for one in deliveries:
        if (one.sequence, one.copy) in seen:
            continue
        seen.add((one.sequence, one.copy))
        channel = channel_of(one)
        counts[one.flagged] += one.sequence < highest.get(channel, -1)
        highest[channel] = max(one.sequence, highest.get(channel, -1))
    return tuple(counts)


@given(
    deliveries=st.lists(
        st.tuples(st.integers(0, COUNT - 1), st.booleans(), st.integers(0, 2)), max_size=25
    ),
    second=st.integers(1, COUNT),
    third=st.integers(1, COUNT),
    sent_again=st.booleans(),
)
def test_any_order_is_judged_as_by_a_slow_and_simple_rule(deliveries, second, third, sent_again):
    firsts = (0, *sorted((second, third)))
    before = firsts[1] if sent_again else 0
    copies = tuple((n, channel) for channel in (2, 3) for n in range(COUNT) if n < before)
    copied = {n for n, _ in copies}
    deliveries = [D(n, flag, copy if n in copied else 0) for n, flag, copy in deliveries]

    def channel_of(one):
        return 1 + one.copy if one.copy else sum(first <= one.sequence for first in firsts)

    sent = [producer(copies=copies, channels=firsts)]
    work = queue(consumer(deliveries))
    late = reordered_redeliveries(Evidence(RECIPE, sent, [work]))["work.queue"]
    said = verdict_of(work, producers=sent).count("reordered"), late
    assert said == slowly(deliveries, channel_of)


def test_where_nothing_had_the_flag_no_delivery_is_put_in_order(monkeypatch):
    monkeypatch.setattr(rules, "late_deliveries", None)
    work = queue(consumer(in_order(3, 1, 2)))
    assert reordered_redeliveries(Evidence(RECIPE, [producer()], [work])) == {"work.queue": 0}


@pytest.mark.parametrize(
    "deliveries",
    [
        in_order(*range(COUNT)),
        in_order(1, 4),
        [each for n in range(COUNT) for each in (D(n, producer=1), D(n))],
    ],
    ids=["one producer", "some of it", "two in turn"],
)
def test_what_is_plainly_in_order_needs_no_more_than_a_glance(monkeypatch, deliveries):
    def never(*_):
        raise AssertionError("it is gone through part by part")

    monkeypatch.setattr(order, "_backwards", never)
    two = [producer(), producer()]
    evidence = Evidence(RECIPE, two, [queue(consumer(deliveries, counts=(COUNT, COUNT)))])
    with mock.patch.object(pieces, "PIECE", 3):
        assert not len(late_deliveries(evidence, evidence.queues[0]).sequence)
