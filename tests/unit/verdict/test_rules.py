"""Hand-written histories, and what the verdict must say of each: the name and the exact count."""

from dataclasses import replace

import numpy as np
import pytest
from support.evidence import (
    COUNT,
    D,
    again,
    all_but,
    consumer,
    incident,
    producer,
    queue,
    verdict_of,
)
from support.histories import RECIPE

from rmqbench.verdict.evidence import (
    CONFIRMED,
    LET_GO,
    NACKED,
    REJECTED,
    REQUEUED,
    RETURNED,
    SENT,
    Drain,
    Removal,
    Unserved,
)
from rmqbench.verdict.findings import FINDINGS, OUTCOMES, FindingName, VerdictError


def test_everything_confirmed_and_delivered_once_is_a_pass():
    verdict = verdict_of()
    assert (verdict.outcome, verdict.exit_code, verdict.found()) == ("PASS", 0, {})
    verdict.require_pass()


# --- what is missing ------------------------------------------------------------------------------


def test_confirmed_and_never_delivered_is_lost_and_named():
    verdict = verdict_of(queue(consumer(all_but(4))))
    assert (verdict.outcome, verdict.exit_code, verdict.found()) == ("FAIL", 1, {"lost": 1})
    text = str(verdict)
    assert "queue work.queue, producer 0 sequence 4" in text
    assert RECIPE.message_id(0, 4) in text
    assert "sent at 2026-09-21T" in text
    assert "somewhere" in text
    with pytest.raises(VerdictError, match=r"1 lost in work\.queue"):
        verdict.require_pass()


def test_delivered_unacknowledged_and_never_again_is_lost_too():
    """The queue owes it until somebody is through with it."""
    verdict = verdict_of(queue(consumer(all_but(4), closed=()), consumer([D(4)], acked=False)))
    assert verdict.found() == {"lost": 1}
    text = str(verdict)
    assert "sequence 4" in text
    assert "1 of them had been delivered, were not acknowledged, and did not come again" in text


@pytest.mark.parametrize("settled", ["acknowledged by another", "automatically", "rejected"])
def test_what_a_consumer_was_through_with_is_not_owed(settled):
    left = consumer([D(4)], acked=False, closed=())
    more = {}
    others = [consumer(all_but(4), closed=())]
    if settled == "acknowledged by another":
        others.append(consumer([again(4)], begins=2_000))
    elif settled == "automatically":
        more["auto_ack"] = True
    else:
        left.state[4] |= REJECTED
    found = verdict_of(queue(left, *others, **more)).found()
    assert "lost" not in found


def test_what_is_owed_is_not_missed_from_a_queue_that_may_hold_it():
    unproven = Drain(False, detail="somebody holds it")
    verdict = verdict_of(queue(consumer(acked=False), drain=unproven))
    assert "lost" not in verdict.found()
    assert verdict.outcome == "INCONCLUSIVE"


def test_what_was_given_back_may_come_again_once():
    """On the same channel, or to another consumer: neither repeated nor after its ack."""
    one = consumer([*all_but(), again(4), again(5), again(5)])
    one.state[4:6] |= REQUEUED
    found = verdict_of(queue(one)).found()
    assert found == {"redelivered": 3, "repeated": 1}
    one, other = consumer(closed=(1,)), consumer([again(4)], begins=9_500)
    one.state[4] |= REQUEUED
    assert verdict_of(queue(one, other)).found() == {"redelivered": 1}


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
    verdict = verdict_of(queue(consumer(all_but(*places))))
    assert verdict.found() == {"lost": len(places)}
    assert where in str(verdict)


def test_a_loss_is_placed_within_what_each_producer_sent():
    def placed(*places):
        there = [D(n % COUNT, producer=n // COUNT) for n in range(2 * COUNT) if n not in places]
        seen = consumer(there, counts=(COUNT, COUNT))
        (lost,) = verdict_of(queue(seen), producers=[producer(), producer()]).findings
        return lost.detail

    assert placed(9, 10) == "1 at the start, 1 at the end of what was sent"
    assert placed(*range(10)) == "all 10 of producer 0"
    assert placed(4, *range(10, 20)) == "1 in the middle of what was sent; all 10 of producer 1"


def test_a_message_missing_from_both_queues_counts_twice():
    audit = queue(consumer(all_but(3)), name="audit.queue")
    verdict = verdict_of(queue(consumer(all_but(3))), audit)
    assert verdict.count("lost") == 2
    assert verdict.count("lost", "audit.queue") == 1


def test_nothing_is_lost_before_the_drain_is_proven():
    drain = Drain(False, 3, "3 messages are still ready")
    verdict = verdict_of(queue(consumer(all_but(3)), drain=drain))
    assert (verdict.outcome, verdict.exit_code) == ("INCONCLUSIVE", 3)
    assert verdict.found() == {"stuck": 3}
    with pytest.raises(VerdictError, match="3 messages are still ready"):
        verdict.require_pass()


def test_a_queue_that_could_not_be_asked_is_stuck_although_no_message_was_counted():
    verdict = verdict_of(queue(drain=Drain(False, 0, "it could not be asked")))
    assert (verdict.outcome, verdict.found()) == ("INCONCLUSIVE", {"stuck": 1})


def test_one_drained_queue_does_not_speak_for_the_other():
    other = queue(name="audit.queue", drain=Drain(False, 0, "not asked"))
    verdict = verdict_of(queue(), other)
    assert verdict.outcome == "INCONCLUSIVE"
    assert "queue audit.queue was not drained: not asked" in str(verdict)


def test_messages_that_nobody_was_given_are_unserved():
    """Consumer 0 has all from 1,001 on, a nanosecond each, and consumer 1 waits for its first."""
    waited = Unserved(ready=7, since_ns=5_000, until_ns=9_000)
    verdict = verdict_of(queue(consumer(), consumer([], unserved=[waited])))
    assert (verdict.outcome, verdict.found()) == ("FAIL", {"unserved": 7})
    assert "ready, and no consumer was given any for 4e-06 s" in str(verdict)
    later = replace(waited, ready=8, until_ns=9_500)
    verdict = verdict_of(queue(consumer(unserved=[later]), consumer([], unserved=[waited])))
    assert verdict.found() == {"unserved": 8}


@pytest.mark.parametrize("who", ["another's", "one that broke off", "nobody"])
def test_whom_the_broker_takes_for_a_consumer_may_be_served(who):
    """As before a single active consumer whose connection is half-open."""
    waited = Unserved(ready=7, since_ns=5_000, until_ns=9_000)
    first = consumer(closed=() if who == "one that broke off" else (1,))
    drain = Drain(True, others=int(who == "another's"))
    verdict = verdict_of(queue(first, consumer([], unserved=[waited]), drain=drain))
    assert verdict.count("unserved") == (7 if who == "nobody" else 0)


LET_GO_AT_5_TO_8_US = np.array([(0, COUNT, 5_000, 8_000, 0)], LET_GO)


@pytest.mark.parametrize(
    ("other", "last_ns"),
    [
        (consumer(), 1_000 + COUNT),
        (consumer([*all_but(), D(0, flagged=True)]), 1_000 + COUNT + 1),
        (replace(consumer(), let_go=LET_GO_AT_5_TO_8_US), 8_000),
    ],
    ids=["first", "again", "let go"],
)
def test_a_consumer_is_not_unserved_while_another_is_served(other, last_ns):
    """As one that waits for the single active consumer of its queue to go."""

    def unserved_since(since_ns):
        waited = Unserved(7, since_ns, since_ns + 500)
        return verdict_of(queue(other, consumer([], unserved=[waited]))).found().get("unserved", 0)

    assert unserved_since(last_ns - 1) == 0
    assert unserved_since(last_ns) == 7


def test_missing_evidence_is_inconclusive():
    verdict = verdict_of(missing=("the ledger of consumer 3 cannot be read",))
    assert verdict.outcome == "INCONCLUSIVE"
    assert "consumer 3" in str(verdict)


def test_a_failing_finding_outranks_inconclusive():
    drain = Drain(False, 1, "not asked")
    twice = queue(consumer([*all_but(), D(2)]), drain=drain)
    verdict = verdict_of(twice, missing=("something",))
    assert verdict.outcome == "FAIL"
    assert verdict.found() == {"duplicate": 1, "stuck": 1}


def test_a_cause_that_the_run_recorded_turns_lost_into_removed():
    purged = queue(consumer(all_but(1, 2)), removals=(Removal("the run purged it"),))
    assert verdict_of(purged).found() == {"removed": 2}
    assert "the run purged it" in str(verdict_of(purged))
    assert verdict_of(purged).outcome == "FAIL"
    assert verdict_of(purged, allowed=["removed"]).outcome == "PASS"


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
    verdict = verdict_of(
        queue(consumer(all_but(1, 2, 3, 4)), removals=removals), allowed=["removed"]
    )
    assert verdict.found() == expected
    assert verdict.outcome == ("FAIL" if "lost" in expected else "PASS")
    # Where only some were removed, it does not pretend to know which.
    unknown = "which of these 4 were removed is not known" in str(verdict)
    assert unknown == (len(expected) == 2)


def test_a_cause_that_removed_nothing_is_no_finding():
    assert verdict_of(queue(removals=(Removal("the run purged it", 5),))).found() == {}


def test_a_cause_that_can_have_removed_nothing_is_not_named():
    removals = (Removal("max-length=10", 0), Removal("the run purged it", 1))
    verdict = verdict_of(queue(consumer(all_but(1)), removals=removals))
    assert "the run purged it" in str(verdict)
    assert "max-length" not in str(verdict)


# --- what became of a publish ---------------------------------------------------------------------


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
    missing = queue(consumer(all_but(2, 7)))
    verdict = verdict_of(missing, producers=producers)
    assert verdict.outcome == "FAIL"
    assert {outcome: verdict.count(outcome) for outcome in (*OUTCOMES, "lost")} == {
        **dict.fromkeys((*OUTCOMES, "lost"), 0),
        name: 2,
    }
    assert "producer 0 sequence 2" in str(verdict)
    assert verdict_of(missing, producers=producers, allowed=[name]).outcome == "PASS"


def test_an_indeterminate_publish_survives_or_vanishes():
    verdict = verdict_of(
        queue(consumer(all_but(7))),
        producers=[producer({2: SENT, 7: SENT})],
        allowed=["indeterminate"],
    )
    assert verdict.found() == {"indeterminate": 2, "survived": 1, "vanished": 1}
    assert verdict.passed


def test_nothing_has_vanished_before_the_drain_is_proven():
    verdict = verdict_of(
        queue(consumer(all_but(7)), drain=Drain(False, 1, "1 message is still ready")),
        producers=[producer({2: SENT, 7: SENT})],
        allowed=["indeterminate"],
    )
    assert verdict.found() == {"indeterminate": 2, "survived": 1, "stuck": 1}
    assert verdict.outcome == "INCONCLUSIVE"


def test_nacked_and_delivered_all_the_same_is_counted():
    verdict = verdict_of(producers=[producer({2: SENT | NACKED})], allowed=["nacked"])
    assert verdict.found() == {"nacked": 1, "nacked but delivered": 1}
    assert verdict.passed


def test_what_the_broker_contradicted_fails_each_time_that_it_did():
    told = tuple(
        incident(FindingName.CONTRADICTED, at, 0, 3, detail="first confirmed, then refused")
        for at in (1, 2)
    )
    unknown = incident(FindingName.CONTRADICTED, 3, detail="delivery tag 99, of 10 published")
    verdict = verdict_of(producers=[producer(incidents=(*told, unknown))])
    assert (verdict.outcome, verdict.found()) == ("FAIL", {"contradicted": 3})
    assert "producer 0 sequence 3" in str(verdict)
    assert "first confirmed, then refused" in str(verdict)
    assert "delivery tag 99, of 10 published" in str(verdict)


def test_what_the_broker_said_fails_also_of_a_producer_that_left_no_word():
    told = (incident(FindingName.CONTRADICTED, 1, 0, 3),)
    verdict = verdict_of(producers=[producer(incidents=told, ended=False)])
    assert (verdict.outcome, verdict.found()) == ("FAIL", {"contradicted": 1})


def test_delivered_although_never_sent_is_a_phantom():
    verdict = verdict_of(producers=[producer({3: 0})], allowed=["unsent"])
    assert (verdict.outcome, verdict.found()) == ("FAIL", {"phantom": 1, "unsent": 1})


# --- what a consumer reported ---------------------------------------------------------------------


@pytest.mark.parametrize("finding", ["corrupted", "misrouted", "phantom", "foreign"])
def test_what_a_consumer_reported_is_found(finding):
    incidents = (
        incident(FindingName(finding), 5, 0, 3, detail="a detail"),
        incident(FindingName(finding), 6, 0, 4, detail="another"),
    )
    verdict = verdict_of(queue(consumer(incidents=incidents)))
    assert verdict.found() == {finding: 2}
    assert verdict.outcome == ("INCONCLUSIVE" if finding == "foreign" else "FAIL")
    assert "a detail" in str(verdict)


def test_what_is_not_of_this_run_leaves_the_verdict_open_and_says_so():
    verdict = verdict_of(queue(consumer(incidents=[incident(FindingName.FOREIGN, 5)])))
    assert verdict.outcome == "INCONCLUSIVE"
    assert "queue work.queue delivered 1 message that is not of this run" in verdict.reasons


def test_a_foreign_message_seen_by_one_consumer_after_the_other_counts_once():
    seen = [incident(FindingName.FOREIGN, 5, detail="the same bytes")] * 2
    verdict = verdict_of(queue(consumer(incidents=seen), consumer([], incidents=seen)))
    assert verdict.found() == {"foreign": 2}
    assert str(verdict).count("the same bytes") == 2


@pytest.mark.parametrize("name", ["foreign", "corrupted", "misrouted", "phantom"])
def test_what_is_told_again_on_the_next_channel_counts_once(name):
    """What was not acknowledged when a connection ended comes again to the same consumer."""
    about = {} if name == "foreign" else {"producer": 0, "sequence": 3}
    told = [incident(FindingName(name), at, detail="x", channel=at, **about) for at in (1, 2)]
    verdict = verdict_of(queue(consumer(incidents=told)))
    assert verdict.found() == {name: 1}


# --- the verdict as a text ------------------------------------------------------------------------


def test_a_name_with_escape_sequences_is_shown_and_not_obeyed():
    verdict = verdict_of(queue(consumer(all_but(1)), name="\x1b[31mred"))
    assert "\x1b" not in str(verdict)
    assert "\\x1b[31mred" in str(verdict)


def test_a_message_of_the_second_producer_is_named_with_its_number():
    there = [D(n, producer=number) for number in (0, 1) for n in range(COUNT)]
    there.remove(D(3, producer=1))
    verdict = verdict_of(
        queue(consumer(there, counts=(COUNT, COUNT))), producers=[producer(), producer()]
    )
    assert verdict.found() == {"lost": 1}
    assert "producer 1 sequence 3" in str(verdict)


def test_there_is_a_number_for_every_name():
    names = {*OUTCOMES, *FINDINGS}
    assert set(verdict_of().counts()) == names
    assert len(names) == 21
    with pytest.raises(KeyError, match="losst"):
        verdict_of().count("losst")
    with pytest.raises(KeyError, match="losst"):
        verdict_of(allowed=["losst"])


def test_only_the_first_messages_of_many_are_named():
    assert "… and 5 more" in str(verdict_of(queue(consumer([]))))


def test_what_is_allowed_is_counted_all_the_same():
    verdict = verdict_of(queue(consumer([*all_but(), D(2)])), allowed=["duplicate"])
    assert (verdict.outcome, verdict.found()) == ("PASS", {"duplicate": 1})


def test_a_redelivery_alone_is_allowed_and_what_is_worse_about_it_is_not():
    later = queue(consumer([*all_but(), again(2, channel=2)], closed=()))
    assert verdict_of(later).outcome == "PASS"
    repeated = queue(consumer([*all_but(), again(2)]))
    assert verdict_of(repeated).outcome == "FAIL"
