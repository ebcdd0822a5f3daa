"""A message ends in one place: settled where it was delivered, or with all that get it dead."""

from dataclasses import replace

import pytest
from support.evidence import COUNT, D, all_but, consumer, producer, queue, verdict_of

from rmqbench.verdict.evidence import DELIVERED, REJECTED, SENT, Drain, Restart


def rejecting(*sequences, **more):
    """Return a consumer that received everything, rejected these, and acknowledged the others."""
    received = consumer(**more)
    state = received.state.copy()
    for sequence in sequences:
        state[sequence] = DELIVERED | REJECTED
    return replace(received, state=state)


def dead(name, deliveries, **more):
    """Return what a queue received of the dead letters of another."""
    receivers = consumer(deliveries)
    return queue(receivers, name=name, gets_all=False, only_consumer=False, **more)


def judged(own, *dead_letters, drain=Drain(True), producers=None, restarts=(), **more):
    """Judge a queue, work, of which others, which get nothing else, get the dead letters."""
    names = dict.fromkeys(each.name for each in dead_letters)
    others = [queue(consumer([]), name=n, gets_all=False) for n in names if n != "work"]
    work = queue(own, name="work", drain=drain, dead_letters=dead_letters, **more)
    return verdict_of(work, *others, producers=producers, restarts=restarts)


def test_what_was_rejected_and_came_to_the_queue_that_gets_it_has_ended():
    verdict = judged(rejecting(3, 7), dead("parked", [D(3), D(7)]))
    assert (verdict.outcome, verdict.found()) == ("PASS", {})


def test_what_was_rejected_and_came_nowhere_is_lost_by_the_queue_that_gave_it_up():
    verdict = judged(rejecting(3, 7), dead("parked", [D(7)]))
    assert verdict.found() == {"lost": 1}
    assert verdict.count("lost", "work") == 1
    assert "producer 0 sequence 3" in str(verdict)


def test_without_a_queue_of_the_run_that_gets_it_a_rejected_message_has_ended():
    assert judged(rejecting(3)).found() == {}


def test_it_must_come_to_each_of_the_queues_that_get_it():
    verdict = judged(rejecting(3, 7), dead("a", [D(3), D(7)]), dead("b", [D(3)]))
    assert verdict.found() == {"lost": 1}


def test_what_was_never_delivered_may_have_been_dead_lettered():
    """It expired, or was one too many."""
    assert judged(consumer(all_but(0, 1)), dead("parked", [D(0), D(1)])).found() == {}


def test_a_queue_that_gets_only_dead_letters_misses_none_of_what_is_published():
    assert judged(consumer(), dead("parked", [])).found() == {}


def test_a_message_may_come_to_its_own_queue_again_as_a_dead_letter():
    assert judged(rejecting(*range(COUNT)), dead("work", all_but())).found() == {}


@pytest.mark.parametrize(("keeps", "outcome"), [(True, "PASS"), (False, "FAIL")])
def test_a_dead_letter_that_comes_twice_is_a_duplicate_unless_it_is_published_until_it_is_there(
    keeps, outcome
):
    twice = dead("parked", [D(3), D(3)])
    verdict = judged(rejecting(3), twice, keeps_dead_letters=keeps)
    assert (verdict.outcome, verdict.count("duplicate", "parked")) == (outcome, 1)
    assert "dead letters of work" in str(verdict)


@pytest.mark.parametrize(
    ("finding", "again"),
    [
        ("duplicate", D(3)),
        ("repeated", D(3, flagged=True)),
        ("redelivered after ack", D(3, channel=2, flagged=True)),
    ],
)
def test_a_dead_letter_may_come_twice_where_the_node_restarted(finding, again):
    """It was published before its end was on the disk of the queue that gave it up.

    RabbitMQ 4.3.6 flags some dead letters as redelivered when they come first.
    """
    twice = dead("parked", [D(3), again])
    assert judged(rejecting(3), twice).outcome == "FAIL"
    for more in ({"restarts": (Restart(0, 10**18),)}, {"keeps_dead_letters": True}):
        verdict = judged(rejecting(3), twice, **more)
        assert (verdict.outcome, verdict.count(finding, "parked")) == ("PASS", 1)


def test_a_dead_letter_that_was_delivered_and_never_settled_is_still_owed():
    received = consumer([D(3)], acked=False, closed=())
    parked = queue(received, name="parked", gets_all=False, only_consumer=False)
    assert judged(rejecting(3), parked).found() == {"lost": 1}


def test_a_dead_letter_that_was_never_sent_is_a_phantom():
    verdict = judged(
        consumer(all_but(4)), dead("parked", [D(4)]), producers=[producer({4: 0}, wanted=4)]
    )
    assert verdict.found() == {"phantom": 1}
    assert verdict.count("phantom", "parked") == 1


def test_an_indeterminate_publish_survives_also_as_a_dead_letter():
    producers = [producer({4: SENT, 5: SENT})]
    verdict = judged(consumer(all_but(4, 5)), dead("parked", [D(4)]), producers=producers)
    assert verdict.found() == {"indeterminate": 2, "survived": 1, "vanished": 1}


@pytest.mark.parametrize("open_in", ["the drain", "the evidence"])
def test_nothing_is_missed_before_the_queues_that_get_it_are_drained(open_in):
    how = {"drain": Drain(False, 1, "1 is ready")} if open_in == "the drain" else {}
    parked = dead("parked", [], complete=open_in != "the evidence", **how)
    assert judged(rejecting(3), parked).count("lost") == 0


@pytest.mark.parametrize(("held", "lost"), [(0, 3), (2, 1), (3, 0), (100, 0)])
def test_what_the_queue_keeps_is_unserved_and_not_lost(held, lost):
    drain = Drain(True, held=held)
    verdict = judged(rejecting(1, 2, 3), dead("parked", []), drain=drain)
    assert (verdict.count("lost"), verdict.count("unserved")) == (lost, 3 - lost)
    assert verdict.outcome == "FAIL"


def test_a_redelivery_of_a_dead_letter_after_its_acknowledgement_is_excused_by_a_restart():
    again = dead("parked", [D(3), D(3, channel=2, flagged=True)])
    verdict = judged(rejecting(3), again)
    assert verdict.count("redelivered after ack") == 1
    assert verdict.outcome == "FAIL"
    assert judged(rejecting(3), again, restarts=(Restart(0, 10**18),)).outcome == "PASS"
