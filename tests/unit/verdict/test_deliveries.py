"""What came again, and what came changed: each finding by its name and its exact count."""

import time

import numpy as np
import pytest
from support.evidence import (
    ALTERED,
    COUNT,
    OK,
    REPORTED_COPY,
    D,
    again,
    all_but,
    consumer,
    found,
    incident,
    producer,
    queue,
    verdict_of,
)
from support.histories import RECIPE, sent_ns

from rmqbench.verdict.evidence import (
    ACKED,
    AGAIN,
    DELIVERED,
    REDELIVERED,
    ConsumerChannel,
    ConsumerEvidence,
    Evidence,
    ProducerEvidence,
    Restart,
)
from rmqbench.verdict.findings import FindingName
from rmqbench.verdict.rules import judge_evidence

# --- again, to one consumer -----------------------------------------------------------------------


def test_again_without_the_flag_is_a_duplicate_each_time():
    assert found(D(2), D(2), D(2)) == {"duplicate": 2}


def test_again_with_the_flag_on_another_channel_is_redelivered_each_time():
    assert found(D(2), again(2, channel=2), again(2, channel=3), closed=()) == {"redelivered": 2}


def test_the_flag_on_a_first_delivery_is_no_finding():
    assert found(*(again(sequence) for sequence in range(COUNT))) == {}


def test_first_with_the_flag_and_again_without_is_a_duplicate():
    assert found(again(2), D(2)) == {"duplicate": 1}


@pytest.mark.parametrize("acked", [True, False], ids=["acked", "held"])
@pytest.mark.parametrize(
    "bursts",
    [
        [[*all_but(), *map(again, range(COUNT))]],
        [[one for n in range(COUNT) for one in (D(n), again(n))]],
        [all_but(), [again(n) for n in range(COUNT)]],
        [*all_but(), *map(again, range(COUNT))],
        [*all_but(), [again(n) for n in reversed(range(COUNT))]],
    ],
    ids=["one burst", "in turn", "two bursts", "alone", "backwards"],
)
def test_again_with_the_flag_on_its_channel_is_repeated_however_it_comes(bursts, acked):
    expected = {"redelivered": COUNT, "repeated": COUNT}
    assert found(*bursts, acked=acked) == expected
    later = [
        [one._replace(channel=2) for one in (burst if isinstance(burst, list) else [burst])]
        for burst in bursts
    ]
    assert found(*later, acked=acked) == expected


def test_again_on_the_channel_of_a_later_delivery_is_repeated():
    assert found(D(2), again(2, channel=2), again(2, channel=2), closed=()) == {
        "redelivered": 2,
        "repeated": 1,
    }


def test_repeated_stays_so_when_the_consumer_goes_on_with_another_channel():
    there = [D(2), again(2), D(3, channel=2)]
    assert found(*there, closed=()) == {"redelivered": 1, "repeated": 1}


def test_again_without_the_flag_on_its_channel_is_a_duplicate_and_nothing_else():
    assert found([D(2), D(2)]) == {"duplicate": 1}


# --- copies ---------------------------------------------------------------------------------------

THRICE = {"copies": ((2, 2), (2, 3)), "channels": (0, 5, 7)}  # message 2, on three channels


def thrice(*more, copies=(0, 1, 2)):
    """Return all deliveries of a producer that sent message 2 three times, in their order."""
    there = [D(n) for n in range(10)]
    there[7:7] = [D(2, copy=2)] if 2 in copies else []
    there[5:5] = [D(2, copy=1)] if 1 in copies else []
    if 0 not in copies:
        there.remove(D(2))
    return [*there, *more]


@pytest.mark.parametrize("copies", [(0, 1, 2), (0, 2), (1,), (2,), (1, 2)])
def test_copies_that_arrive_once_each_are_no_finding(copies):
    assert found(*thrice(copies=copies), producers=[producer(**THRICE)]) == {}


@pytest.mark.parametrize("copies", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_a_copy_that_arrives_twice_is_a_duplicate_also_where_others_never_arrived(copies):
    for copy in copies:
        there = thrice(D(2, copy=copy), copies=copies)
        assert found(*there, producers=[producer(**THRICE)]) == {"duplicate": 1}


@pytest.mark.parametrize("copy", [0, 1, 2])
def test_a_copy_that_comes_again_with_the_flag_is_redelivered_once(copy):
    there = thrice(again(2, copy=copy, channel=2))
    assert found(*there, producers=[producer(**THRICE)], closed=()) == {"redelivered": 1}


def test_the_flag_on_the_first_delivery_of_each_copy_is_no_finding():
    there = [one._replace(flagged=True) for one in thrice()]
    assert found(*there, producers=[producer(**THRICE)]) == {}


def test_a_copy_after_the_acknowledgement_of_another_is_no_redelivery():
    here, there = consumer(all_but()), consumer([again(2, copy=1)], begins=5_000)
    verdict = verdict_of(queue(here, there), producers=[producer(copies=((2, 2),))])
    assert verdict.found() == {}
    same = consumer([again(2, copy=0)], begins=5_000)
    verdict = verdict_of(queue(here, same), producers=[producer(copies=((2, 2),))])
    assert verdict.found() == {"redelivered": 1, "redelivered after ack": 1}


# --- changed on the way ---------------------------------------------------------------------------


def test_a_send_time_that_was_never_sent_is_corrupted_though_its_checksum_is_right():
    there = [one._replace(copy=ALTERED) if one.sequence == 3 else one for one in all_but()]
    verdict = verdict_of(queue(consumer(there)))
    assert verdict.found() == {"corrupted": 1}
    assert "the send time in the head of the body" in str(verdict)
    assert "producer 0 sequence 3" in str(verdict)


def test_one_flipped_bit_of_the_send_time_is_seen_in_every_place():
    head = RECIPE.head(0, 3, sent_ns(3))
    stamp = int.from_bytes(head[40:], "big")
    flipped = [sent_ns(3) ^ (1 << bit) for bit in range(63)]
    stamps = RECIPE.stamps(0, np.full(63, 3), np.array(flipped))
    assert stamp not in stamps.tolist()


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        ([[D(3, copy=ALTERED), D(4, copy=ALTERED)]], {"corrupted": 2}),
        ([D(3), D(3, copy=ALTERED)], {"corrupted": 1, "duplicate": 1}),
        ([D(3, copy=ALTERED), D(3)], {"corrupted": 1, "duplicate": 1}),
        ([D(3, copy=ALTERED), D(3, copy=ALTERED)], {"corrupted": 2, "duplicate": 1}),
        ([D(3), again(3, copy=ALTERED, channel=2)], {"corrupted": 1, "redelivered": 1}),
        (
            # What was not acknowledged comes again as it is: one message is corrupted.
            [D(3, copy=ALTERED), again(3, copy=ALTERED, channel=2)],
            {"corrupted": 1, "redelivered": 1},
        ),
        ([D(3, copy=ALTERED), again(3, channel=2)], {"corrupted": 1, "redelivered": 1}),
    ],
)
def test_what_came_changed_counts_exactly_also_where_it_comes_again(deliveries, expected):
    assert found(*deliveries, closed=()) == expected


@pytest.mark.parametrize(
    "deliveries",
    [
        [D(3, copy=REPORTED_COPY)],
        [D(3), D(3, copy=REPORTED_COPY)],
        [D(3, copy=REPORTED_COPY), D(3)],
    ],
)
def test_what_had_is_corrupted_otherwise_is_reported_and_not_found_once_more(deliveries):
    told = [incident(FindingName.CORRUPTED, 1_001, 0, 3, detail="the head", channel=1)]
    expected = {"corrupted": 1} | ({"duplicate": 1} if len(deliveries) > 1 else {})
    assert found(*deliveries, incidents=told) == expected


def test_a_send_time_of_another_copy_is_right_and_of_none_is_corrupted():
    producers = [producer(copies=((2, 2),), channels=(0, 5))]
    assert found(D(2, copy=1), producers=producers) == {}
    assert found(D(2, copy=2), producers=producers) == {"corrupted": 1}
    assert found(D(2), D(2, copy=2), producers=producers) == {"corrupted": 1}


def test_a_send_time_of_another_message_s_copy_is_corrupted():
    producers = [producer(copies=((2, 2),), channels=(0, 5))]
    assert found(D(3, copy=1), producers=producers) == {"corrupted": 1}


def test_what_was_never_sent_has_no_send_time_to_be_changed():
    assert found(D(3), producers=[producer({3: 0})]) == {"phantom": 1, "unsent": 1}


# --- between consumers ----------------------------------------------------------------------------


def shared(*consumers, **more):
    """Return what is found where consumers share a queue."""
    return verdict_of(queue(*consumers), **more).found()


@pytest.mark.parametrize("flagged", ["early", "late"])
def test_between_consumers_one_delivery_without_the_flag_is_none_too_many(flagged):
    """Who received a message earlier may record it later."""
    early = consumer([D(0, flagged == "early")], closed=())
    late = consumer([D(0, flagged == "late"), *all_but(0)], begins=5_000, closed=())
    assert shared(early, late) == {"redelivered": 1}
    assert shared(late, early) == {"redelivered": 1}


def test_between_consumers_each_further_one_without_the_flag_is_a_duplicate():
    early, late = consumer([D(0)], closed=()), consumer(begins=5_000, closed=())
    assert shared(early, late) == shared(late, early) == {"duplicate": 1}
    third = consumer([D(0)], begins=9_000, closed=())
    assert shared(early, late, third) == {"duplicate": 2}
    flagged = consumer([again(0)], begins=9_000, closed=())
    assert shared(early, late, flagged) == {"duplicate": 1, "redelivered": 1}


def test_within_a_consumer_the_order_is_certain_also_where_another_had_it_flagged():
    early = consumer([again(0)], closed=())
    late = consumer([again(0), D(0), *all_but(0)], begins=5_000, closed=())
    assert shared(early, late) == {"duplicate": 1, "redelivered": 1}


# --- after its acknowledgement --------------------------------------------------------------------

LATE = {"begins": 5_000}
AFTER = {"redelivered": 1, "redelivered after ack": 1}


def test_again_on_a_channel_that_opened_after_a_clean_close_is_a_finding():
    assert shared(consumer([D(0)]), consumer([again(0), *all_but(0)], **LATE)) == AFTER
    # Of the later channel it does not matter how it ended: its delivery was one too many.
    late = consumer([again(0), *all_but(0)], **LATE, closed=())
    assert shared(consumer([D(0)]), late) == AFTER


def test_a_killed_consumer_proves_nothing():
    died = consumer([D(0)], closed=())
    assert shared(died, consumer([again(0), *all_but(0)], **LATE)) == {"redelivered": 1}


def test_again_between_two_channels_that_both_closed_cleanly_is_a_finding():
    """Neither has given it back."""
    early = consumer([*all_but(0), D(0)])
    beside = consumer([again(0)], begins=1_100, opened={1: 900})
    assert shared(early, beside) == shared(beside, early) == AFTER


@pytest.mark.parametrize("closed", [(1,), (2,)])
def test_again_while_the_other_channel_was_open_is_none_unless_both_closed_cleanly(closed):
    early = consumer([*all_but(0), D(0)], closed=closed)
    closed = () if 1 in closed else (1,)
    beside = consumer([again(0)], begins=1_100, opened={1: 900}, closed=closed)
    assert shared(early, beside) == {"redelivered": 1}


@pytest.mark.parametrize(
    ("left", "expected"),
    [(200_000_000, AFTER), (100_001_500, {"redelivered": 1}), (None, {"redelivered": 1})],
    ids=["long there", "there by other clocks", "it is not known"],
)
def test_a_quorum_queue_may_lose_acknowledgements_with_their_channel(left, expected):
    """What comes while the consumer that had it is there was given back by nobody."""
    early = consumer([*all_but(0), D(0)], left=left)
    beside = consumer([again(0)], begins=1_600, opened={1: 900})
    of_quorum = queue(early, beside, close_takes_acks=False)
    assert verdict_of(of_quorum).found() == expected
    late = consumer([again(0)], **LATE)
    of_quorum = queue(consumer(left=1_000), late, close_takes_acks=False)
    assert verdict_of(of_quorum).found() == {"redelivered": 1}
    of_quorum = queue(consumer(left=1_000), late, close_takes_acks=False, auto_ack=True)
    assert verdict_of(of_quorum).found() == {"redelivered": 1}


@pytest.mark.parametrize("closed", [(1,), (2,)])
def test_of_a_quorum_queue_too_both_channels_must_have_been_closed_cleanly(closed):
    early = consumer([*all_but(0), D(0)], left=10**9, closed=closed)
    beside = consumer([again(0)], begins=1_600, opened={1: 900}, closed=(3 - closed[0],))
    of_quorum = queue(early, beside, close_takes_acks=False)
    assert verdict_of(of_quorum).found() == {"redelivered": 1}


def test_again_without_the_flag_is_a_duplicate_and_not_after_its_acknowledgement():
    assert shared(consumer([D(0)]), consumer(**LATE)) == {"duplicate": 1}


def test_each_redelivery_after_an_acknowledgement_counts():
    late = [consumer([again(0)], begins=begins, closed=()) for begins in (5_000, 6_000)]
    assert shared(consumer(), *late) == {"redelivered": 2, "redelivered after ack": 2}


def test_of_what_a_lost_channel_and_then_a_clean_one_received_nothing_was_after_its_ack():
    assert found(D(4), again(4, channel=2), closed=(2,)) == {"redelivered": 1}
    second = consumer([again(4)], begins=910, closed=())
    first = consumer([*all_but(), again(4, channel=2)], begins=900, closed=(2,))
    assert shared(first, second) == {"redelivered": 2}


@pytest.mark.parametrize(
    "restart",
    [
        Restart(3_000, 3_000),
        Restart(500, 3_000),
        Restart(3_000, 9_000),
        Restart(500, 9_000),
    ],
    ids=["certain", "from before on", "until after", "any time"],
)
def test_a_restart_in_between_excuses_it_and_it_is_counted(restart):
    verdict = verdict_of(queue(consumer(), consumer([again(0)], **LATE)), restarts=(restart,))
    assert (verdict.outcome, verdict.found()) == ("PASS", AFTER)
    assert "the node restarted in between, or may have" in str(verdict)


@pytest.mark.parametrize(
    "restart",
    [Restart(500, 500), Restart(200, 900), Restart(6_000, 6_000), Restart(5_500, 9_000)],
    ids=["before", "before, at some time", "after", "after, at some time"],
)
def test_a_restart_before_or_after_excuses_nothing(restart):
    verdict = verdict_of(queue(consumer(), consumer([again(0)], **LATE)), restarts=(restart,))
    assert (verdict.outcome, verdict.found()) == ("FAIL", AFTER)


def test_one_restart_excuses_what_came_after_it_and_nothing_else():
    late = [consumer([again(0)], begins=begins, closed=()) for begins in (5_000, 7_000)]
    verdict = verdict_of(queue(consumer(), *late), restarts=(Restart(6_000, 6_000),))
    effects = {
        finding.effect: finding.count
        for finding in verdict.findings
        if finding.name == "redelivered after ack"
    }
    assert effects == {"fails": 1, "allowed": 1}


# --- many -----------------------------------------------------------------------------------------


def test_more_deliveries_than_a_byte_counts_are_each_counted():
    assert found(*[D(0)] * 600) == {"duplicate": 599}
    assert found([D(0), *[again(0)] * 600]) == {"redelivered": 600, "repeated": 600}


def test_more_channels_than_a_byte_counts_are_told_apart():
    there = [D(0), *(again(0, channel=channel) for channel in range(2, 601))]
    assert found(*there, closed=()) == {"redelivered": 599}
    assert found(*there, again(0, channel=600), closed=()) == {"redelivered": 600, "repeated": 1}
    # Channel 257 is not channel 1.
    assert found(D(0), again(0, channel=257), closed=()) == {"redelivered": 1}


def test_more_consumers_than_a_byte_counts_have_each_received_it():
    others = [consumer([again(0)], begins=begins, closed=()) for begins in range(5_000, 5_255)]
    assert shared(consumer(closed=()), *others) == {"redelivered": 255}


def large(messages, consumers, repeats=0):
    """Return the evidence of a queue that many consumers shared, each message delivered once.

    Of ``repeats`` messages each consumer had one more, with the flag, on a channel that died.
    """
    stamps = RECIPE.stamps(0, np.arange(messages), sent_ns(np.arange(messages)))
    mine = np.arange(messages) % consumers
    there = []
    for number in range(consumers):
        here = mine == number
        again_here = np.zeros(repeats, AGAIN)
        again_here["place"] = np.flatnonzero(here)[:repeats]
        again_here["stamp"] = stamps[again_here["place"]]
        again_here["at_ns"], again_here["channel"], again_here["flags"] = 10**10, 2, REDELIVERED
        state = np.where(here, DELIVERED | ACKED, 0).astype(np.uint8)
        channels = (ConsumerChannel(1, 1), ConsumerChannel(2, 10**10 - 1, 10**11))
        first_ns = np.where(here, np.arange(messages) + 1, 0)
        there.append(
            ConsumerEvidence(
                state,
                np.where(here, stamps, 0).astype(np.uint32),
                first_ns,
                again_here,
                (),
                channels,
            )
        )
    sent = ProducerEvidence(np.full(messages, OK, np.uint8), sent_ns(np.arange(messages)))
    only = consumers == 1
    return Evidence(RECIPE, [sent], [queue(*there, only_consumer=only)])


def judged_in_s(evidence):
    began = time.process_time()
    verdict = judge_evidence(evidence)
    return time.process_time() - began, verdict.found()


def test_a_thousand_consumers_are_merged_exactly_and_in_seconds():
    took_s, found = judged_in_s(large(20_000, 1_000, repeats=3))
    assert found == {"redelivered": 3_000}
    assert took_s < 10


def test_a_million_messages_are_judged_in_seconds():
    took_s, found = judged_in_s(large(1_000_000, 1))
    assert found == {}
    assert took_s < 10
