"""Hand-written histories, and what the verdict must say of each: the name and the exact count."""

import uuid

import numpy as np
import pytest

from rmqbench.message import Recipe
from rmqbench.verdict.evidence import (
    CONFIRMED,
    FIRST_REDELIVERED,
    NACKED,
    RETURNED,
    SENT,
    SENT_AGAIN,
    ConsumerEvidence,
    Drain,
    Evidence,
    Incident,
    ProducerEvidence,
    QueueEvidence,
    Removal,
)
from rmqbench.verdict.findings import FINDINGS, OUTCOMES, FindingName, VerdictError
from rmqbench.verdict.rules import judge_evidence

RECIPE = Recipe(uuid.UUID(int=0xABC << 80))
COUNT = 10
OK = SENT | CONFIRMED


def producer(changes=None, **more):
    """Ten publishes, all confirmed but for ``changes``: place -> state bits."""
    state = np.full(COUNT, OK, np.uint8)
    for place, bits in (changes or {}).items():
        state[place] = bits
    return ProducerEvidence(state, np.arange(COUNT) + 1_790_000_000_000_000_000, **more)


def consumer(counts=1, flagged=None, incidents=(), acked=0, at=5, closed=()):
    """One consumer's deliveries: ``counts`` for all or by place, ``flagged`` by place."""
    delivered = np.zeros(COUNT, np.uint8)
    if isinstance(counts, dict):
        for place, n in counts.items():
            delivered[place] = n
    else:
        delivered[:] = counts
    redelivered = np.zeros(COUNT, np.uint8)
    for place, bits in (flagged or {}).items():
        redelivered[place] = bits
    return ConsumerEvidence(
        delivered,
        redelivered,
        np.full(COUNT, acked, np.uint8),
        np.where(delivered > 0, at, 0).astype(np.int64),
        incidents,
        closed,
    )


def queue(*consumers, name="work.queue", drain=Drain(True), **more):
    consumers = consumers or (consumer(),)
    return QueueEvidence(
        name, consumers, drain, only_consumer=more.pop("only", len(consumers) == 1), **more
    )


def verdict_of(producers=None, queues=None, *, missing=(), allowed=()):
    return judge_evidence(
        Evidence(RECIPE, producers or [producer()], queues or [queue()], missing),
        allowed=allowed,
        evidence_at="somewhere",
    )


def found(verdict):
    """Only what was found: name -> count."""
    return {name: count for name, count in verdict.counts().items() if count}


def all_but(*places):
    return {place: 1 for place in range(COUNT) if place not in places}


def test_everything_confirmed_and_delivered_once_is_a_pass():
    verdict = verdict_of()
    assert (verdict.outcome, verdict.exit_code, found(verdict)) == ("PASS", 0, {})
    verdict.require_pass()


def test_confirmed_and_never_delivered_is_lost_and_named():
    verdict = verdict_of(queues=[queue(consumer(all_but(4)))])
    assert (verdict.outcome, verdict.exit_code, found(verdict)) == ("FAIL", 1, {"lost": 1})
    text = str(verdict)
    assert "queue work.queue, producer 0 sequence 4" in text
    assert RECIPE.message_id(0, 4) in text
    assert "sent at 2026-09-21T" in text
    assert "somewhere" in text
    with pytest.raises(VerdictError, match=r"1 lost in work\.queue"):
        verdict.require_pass()


@pytest.mark.parametrize(
    ("places", "where"),
    [
        ((0, 1), "2 at the start"),
        ((4,), "1 in the middle"),
        ((9,), "1 at the end"),
        ((0, 5, 8, 9), "1 at the start, 1 in the middle, 2 at the end"),
        (tuple(range(10)), "all of what was sent"),
    ],
)
def test_a_loss_is_placed_at_the_start_in_the_middle_or_at_the_end(places, where):
    verdict = verdict_of(queues=[queue(consumer(all_but(*places)))])
    assert found(verdict) == {"lost": len(places)}
    assert where in str(verdict)


def test_a_loss_is_placed_within_what_each_producer_sent():
    def placed(*places):
        delivered, nothing = np.ones(2 * COUNT, np.uint8), np.zeros(2 * COUNT, np.uint8)
        delivered[list(places)] = 0
        here = ConsumerEvidence(delivered, nothing, nothing, delivered.astype(np.int64))
        (lost,) = verdict_of([producer(), producer()], [queue(here)]).findings
        return lost.detail

    assert placed(9, 10) == "1 at the start, 1 at the end of what was sent"
    assert placed(*range(10)) == "all 10 of producer 0"
    assert placed(4, *range(10, 20)) == "1 in the middle of what was sent; all 10 of producer 1"


def test_a_message_missing_from_both_queues_counts_twice():
    queues = [queue(consumer(all_but(3))), queue(consumer(all_but(3)), name="audit.queue")]
    verdict = verdict_of(queues=queues)
    assert verdict.count("lost") == 2
    assert verdict.count("lost", "audit.queue") == 1


def test_nothing_is_lost_before_the_drain_is_proven():
    drain = Drain(False, 3, "3 messages are still ready")
    verdict = verdict_of(queues=[queue(consumer(all_but(3)), drain=drain)])
    assert (verdict.outcome, verdict.exit_code) == ("INCONCLUSIVE", 3)
    assert found(verdict) == {"stuck": 3}
    with pytest.raises(VerdictError, match="3 messages are still ready"):
        verdict.require_pass()


def test_a_queue_that_could_not_be_asked_is_stuck_although_no_message_was_counted():
    verdict = verdict_of(queues=[queue(drain=Drain(False, 0, "it could not be asked"))])
    assert (verdict.outcome, found(verdict)) == ("INCONCLUSIVE", {"stuck": 1})


def test_one_drained_queue_does_not_speak_for_the_other():
    other = queue(name="audit.queue", drain=Drain(False, 0, "not asked"))
    verdict = verdict_of(queues=[queue(), other])
    assert verdict.outcome == "INCONCLUSIVE"
    assert "queue audit.queue was not drained: not asked" in str(verdict)


def test_missing_evidence_is_inconclusive():
    verdict = verdict_of(missing=("the ledger of consumer 3 cannot be read",))
    assert verdict.outcome == "INCONCLUSIVE"
    assert "consumer 3" in str(verdict)


def test_a_failing_finding_outranks_inconclusive():
    drain = Drain(False, 1, "not asked")
    queues = [queue(consumer({**all_but(), 2: 2}), drain=drain)]
    verdict = verdict_of(queues=queues, missing=("something",))
    assert verdict.outcome == "FAIL"
    assert found(verdict) == {"duplicate": 1, "stuck": 1}


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        (SENT | NACKED, "nacked"),
        (SENT | RETURNED | CONFIRMED, "returned"),
        (SENT | RETURNED, "returned"),
        (SENT | NACKED | CONFIRMED, "nacked"),
        (SENT | RETURNED | NACKED, "returned"),
        (SENT, "indeterminate"),
        (0, "unsent"),
    ],
)
def test_each_outcome_but_confirmed_fails_unless_it_is_expected(bits, name):
    producers = [producer({2: bits, 7: bits})]
    queues = [queue(consumer(all_but(2, 7)))]
    verdict = verdict_of(producers, queues)
    assert verdict.outcome == "FAIL"
    assert {outcome: verdict.count(outcome) for outcome in (*OUTCOMES, "lost")} == {
        **dict.fromkeys((*OUTCOMES, "lost"), 0),
        name: 2,
    }
    assert "producer 0 sequence 2" in str(verdict)
    assert verdict_of(producers, queues, allowed=[name]).outcome == "PASS"


def test_an_indeterminate_publish_survives_or_vanishes():
    producers, queues = [producer({2: SENT, 7: SENT})], [queue(consumer(all_but(7)))]
    verdict = verdict_of(producers, queues, allowed=["indeterminate"])
    assert found(verdict) == {"indeterminate": 2, "survived": 1, "vanished": 1}
    assert verdict.passed


def test_nothing_has_vanished_before_the_drain_is_proven():
    queues = [queue(consumer(all_but(7)), drain=Drain(False, 1, "1 message is still ready"))]
    verdict = verdict_of([producer({2: SENT, 7: SENT})], queues, allowed=["indeterminate"])
    assert found(verdict) == {"indeterminate": 2, "survived": 1, "stuck": 1}
    assert verdict.outcome == "INCONCLUSIVE"


def test_nacked_and_delivered_all_the_same_is_counted():
    verdict = verdict_of([producer({2: SENT | NACKED})], allowed=["nacked"])
    assert found(verdict) == {"nacked": 1, "nacked but delivered": 1}
    assert verdict.passed


def test_a_cause_that_the_run_recorded_turns_lost_into_removed():
    queues = [queue(consumer(all_but(1, 2)), removals=(Removal("the run purged it"),))]
    assert found(verdict_of(queues=queues)) == {"removed": 2}
    assert "the run purged it" in str(verdict_of(queues=queues))
    assert verdict_of(queues=queues).outcome == "FAIL"
    assert verdict_of(queues=queues, allowed=["removed"]).outcome == "PASS"


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((0,), {"lost": 4}),
        ((1,), {"removed": 1, "lost": 3}),
        ((4,), {"removed": 4}),
        ((9,), {"removed": 4}),
        ((1, 2), {"removed": 3, "lost": 1}),
        ((1, None), {"removed": 4}),
    ],
)
def test_what_is_missing_beyond_what_the_causes_can_have_removed_is_lost(bounds, expected):
    removals = tuple(Removal(f"cause {n}", bound) for n, bound in enumerate(bounds))
    queues = [queue(consumer(all_but(1, 2, 3, 4)), removals=removals)]
    verdict = verdict_of(queues=queues, allowed=["removed"])
    assert found(verdict) == expected
    assert verdict.outcome == ("FAIL" if "lost" in expected else "PASS")
    # Where only some were removed, it does not pretend to know which.
    unknown = "which of these 4 were removed is not known" in str(verdict)
    assert unknown == (len(expected) == 2)


def test_a_cause_that_removed_nothing_is_no_finding():
    assert found(verdict_of(queues=[queue(removals=(Removal("the run purged it", 5),))])) == {}


def test_again_without_the_flag_is_a_duplicate_each_time():
    verdict = verdict_of(queues=[queue(consumer({**all_but(), 2: 3}))])
    assert (verdict.outcome, found(verdict)) == ("FAIL", {"duplicate": 2})


def test_again_with_the_flag_is_redelivered_and_allowed():
    verdict = verdict_of(queues=[queue(consumer({**all_but(), 2: 3}, flagged={2: 2}))])
    assert (verdict.outcome, found(verdict)) == ("PASS", {"redelivered": 2})


def test_the_flag_on_a_first_delivery_is_no_finding():
    flagged = dict.fromkeys(range(COUNT), FIRST_REDELIVERED | 1)
    assert found(verdict_of(queues=[queue(consumer(flagged=flagged))])) == {}


def test_first_with_the_flag_and_again_without_is_a_duplicate():
    queues = [queue(consumer({**all_but(), 2: 2}, flagged={2: FIRST_REDELIVERED | 1}))]
    assert found(verdict_of(queues=queues)) == {"duplicate": 1}


def test_we_published_it_twice_so_twice_is_right_and_thrice_is_not():
    twice = [queue(consumer({**all_but(), 2: 2}))]
    thrice = [queue(consumer({**all_but(), 2: 3}))]
    producers = [producer({2: OK | SENT_AGAIN})]
    assert found(verdict_of(producers, twice)) == {}
    assert found(verdict_of(producers, thrice)) == {"duplicate": 1}


def test_between_consumers_the_later_one_had_it_again():
    early = consumer({0: 1, 1: 1}, at=5)
    late = consumer(all_but(), flagged={0: FIRST_REDELIVERED | 1}, at=9)
    assert found(verdict_of(queues=[queue(early, late)])) == {"redelivered": 1, "duplicate": 1}
    assert found(verdict_of(queues=[queue(late, early)])) == {"redelivered": 1, "duplicate": 1}


def test_again_elsewhere_after_an_ack_on_a_channel_closed_in_order_is_a_finding():
    early = consumer({0: 1}, acked=1, at=5, closed=(1,))
    late = consumer(all_but(), flagged={0: FIRST_REDELIVERED | 1}, at=9)
    assert found(verdict_of(queues=[queue(early, late)])) == {
        "redelivered": 1,
        "redelivered after ack": 1,
    }
    died = consumer({0: 1}, acked=1, at=5, closed=())
    assert found(verdict_of(queues=[queue(died, late)])) == {"redelivered": 1}
    again = consumer({0: 1}, acked=2, at=5, closed=(1,))
    assert found(verdict_of(queues=[queue(again, late)])) == {"redelivered": 1}


def test_what_came_elsewhere_before_its_ack_did_not_come_after_it():
    early = consumer({0: 1}, flagged={0: FIRST_REDELIVERED | 1}, at=5)
    late = consumer(all_but(), flagged={0: FIRST_REDELIVERED | 1}, acked=1, at=9, closed=(1,))
    assert found(verdict_of(queues=[queue(early, late)])) == {"redelivered": 1}


def test_again_elsewhere_without_the_flag_is_a_duplicate_and_no_redelivery_after_its_ack():
    early = consumer({0: 1}, acked=1, at=5, closed=(1,))
    late = consumer(all_but(), at=9)
    assert found(verdict_of(queues=[queue(early, late)])) == {"duplicate": 1}


def test_published_twice_and_redelivered_is_redelivered_only():
    queues = [queue(consumer({**all_but(), 2: 3}, flagged={2: 1}))]
    assert found(verdict_of([producer({2: OK | SENT_AGAIN})], queues)) == {"redelivered": 1}


def test_of_what_one_consumer_received_twice_it_is_not_known_which_it_acknowledged():
    # The first lost its connection, the second too, then the first had it again.
    first = consumer({**all_but(4), 4: 2}, flagged={4: 1}, acked=2, closed=(2,), at=5)
    second = consumer({4: 1}, flagged={4: FIRST_REDELIVERED | 1}, at=7)
    assert found(verdict_of(queues=[queue(first, second)])) == {"redelivered": 2}


def test_of_what_was_published_twice_the_other_copy_may_have_been_acknowledged():
    first = consumer(acked=1, closed=(1,), at=5)
    second = consumer({2: 1}, flagged={2: FIRST_REDELIVERED | 1}, at=9)
    queues = [queue(first, second)]
    assert found(verdict_of(queues=queues)) == {"redelivered": 1, "redelivered after ack": 1}
    assert found(verdict_of([producer({2: OK | SENT_AGAIN})], queues)) == {"redelivered": 1}
    told = [queue(consumer(incidents=(Incident(FindingName.REDELIVERED_AFTER_ACK, 5, 0, 2),)))]
    assert found(verdict_of(queues=told)) == {"redelivered after ack": 1}
    assert found(verdict_of([producer({2: OK | SENT_AGAIN})], told)) == {}


def test_a_flag_without_its_delivery_hides_no_duplicate():
    # Its writer was killed after the flag and before the count.
    torn = consumer(0, flagged={4: FIRST_REDELIVERED | 1})
    whole = consumer({**all_but(4), 4: 2})
    assert found(verdict_of(queues=[queue(torn, whole)])) == {"duplicate": 1}


@pytest.mark.parametrize(
    ("finding", "fails"),
    [
        ("corrupted", True),
        ("misrouted", True),
        ("phantom", True),
        ("redelivered after ack", True),
        ("foreign", False),
    ],
)
def test_what_a_consumer_reported_is_found(finding, fails):
    incidents = (
        Incident(FindingName(finding), 5, 0, 3, "a detail"),
        Incident(FindingName(finding), 6, 0, 4, "another"),
    )
    verdict = verdict_of(queues=[queue(consumer(incidents=incidents))])
    assert found(verdict) == {finding: 2}
    assert verdict.outcome == ("FAIL" if fails else "PASS")
    assert "a detail" in str(verdict)


def test_reordered_is_judged_for_an_only_consumer():
    incidents = (Incident(FindingName.REORDERED, 5, 0, 3, behind=6),)
    one = verdict_of(queues=[queue(consumer(incidents=incidents))])
    assert (one.outcome, found(one)) == ("FAIL", {"reordered": 1})
    assert "after sequence 6" in str(one)
    shared = verdict_of(queues=[queue(consumer(incidents=incidents), only=False)])
    assert found(shared) == {}


def test_order_is_promised_within_one_publishing_channel_only():
    incidents = (Incident(FindingName.REORDERED, 5, 0, 3, behind=6),)
    queues = [queue(consumer(incidents=incidents))]
    assert found(verdict_of([producer(channel_starts=(0, 5))], queues)) == {}
    assert found(verdict_of([producer(channel_starts=(0, 2))], queues)) == {"reordered": 1}
    assert found(verdict_of([producer(channel_starts=None)], queues)) == {}
    assert found(verdict_of([producer({3: OK | SENT_AGAIN})], queues)) == {}
    assert found(verdict_of([producer({6: OK | SENT_AGAIN})], queues)) == {}
    assert found(verdict_of([producer({4: OK | SENT_AGAIN})], queues)) == {"reordered": 1}


def test_all_of_the_run_in_a_queue_that_no_binding_leads_to_is_misrouted():
    stray = queue(consumer({3: 1, 4: 1}), name="stray.queue", routed=False)
    verdict = verdict_of(queues=[queue(), stray])
    assert (verdict.outcome, found(verdict)) == ("FAIL", {"misrouted": 2})
    empty = queue(consumer(0), name="stray.queue", routed=False)
    assert found(verdict_of(queues=[queue(), empty])) == {}


def test_delivered_although_never_sent_is_a_phantom():
    verdict = verdict_of([producer({3: 0})], allowed=["unsent"])
    assert (verdict.outcome, found(verdict)) == ("FAIL", {"phantom": 1, "unsent": 1})


def test_a_foreign_message_seen_by_one_consumer_after_the_other_counts_once():
    seen = (
        Incident(FindingName.FOREIGN, 5, detail="x"),
        Incident(FindingName.FOREIGN, 5, detail="x"),
    )
    queues = [queue(consumer(incidents=seen), consumer(0, incidents=seen))]
    assert found(verdict_of(queues=queues)) == {"foreign": 2}


def test_a_foreign_message_that_came_twice_is_named_once():
    seen = (Incident(FindingName.FOREIGN, 5, detail="the same bytes"),)
    verdict = verdict_of(queues=[queue(consumer(incidents=seen), consumer(0, incidents=seen))])
    assert verdict.count("foreign") == 1
    assert str(verdict).count("the same bytes") == 1


@pytest.mark.parametrize("name", ["foreign", "corrupted", "misrouted", "phantom"])
def test_what_is_told_again_on_the_next_channel_counts_once(name):
    """What was not acknowledged when a connection ended comes again to the same consumer."""
    about = {} if name == "foreign" else {"producer": 0, "sequence": 3}
    incidents = [Incident(FindingName(name), at, detail="x", channel=at, **about) for at in (1, 2)]
    verdict = verdict_of(queues=[queue(consumer(incidents=incidents))])
    assert found(verdict) == {name: 1}


def test_each_redelivery_after_an_acknowledgement_counts():
    name = "redelivered after ack"
    incidents = [Incident(FindingName(name), at, 0, 3, channel=at) for at in (1, 2)]
    assert found(verdict_of(queues=[queue(consumer(incidents=incidents))])) == {name: 2}


def test_a_name_with_escape_sequences_is_shown_and_not_obeyed():
    verdict = verdict_of(queues=[queue(consumer(all_but(1)), name="\x1b[31mred")])
    assert "\x1b" not in str(verdict)
    assert "\\x1b[31mred" in str(verdict)


def test_a_message_of_the_second_producer_is_named_with_its_number():
    columns = [np.concatenate([c, c]) for c in vars(consumer()).values() if hasattr(c, "dtype")]
    columns[0][13] = 0
    queues = [queue(ConsumerEvidence(*columns))]
    verdict = verdict_of([producer(), producer()], queues)
    assert "producer 1 sequence 3" in str(verdict)


def test_there_is_a_number_for_every_name():
    names = {*OUTCOMES, *FINDINGS}
    assert set(verdict_of().counts()) == names
    assert len(names) == 18
    with pytest.raises(KeyError, match="losst"):
        verdict_of().count("losst")
    with pytest.raises(KeyError, match="losst"):
        verdict_of(allowed=["losst"])


def test_only_the_first_messages_of_many_are_named():
    verdict = verdict_of(queues=[queue(consumer(0))])
    assert "… and 5 more" in str(verdict)
