"""What a queue's own settings may have taken, and how much each can have taken at the most."""

from dataclasses import replace

import pytest
from support.evidence import COUNT, OK, D, all_but, consumer, producer, queue, verdict_of
from support.histories import sent_ns

from rmqbench.verdict.evidence import Removal
from rmqbench.verdict.removals import (
    Circumstances,
    keeps_dead_letters,
    may_remove,
    removals_by_settings,
)

# 100 messages of 50 bytes; the queue was asked 10 s after time 0 and is still there; one channel
# ended with up to 20 unacknowledged messages.
KNOWN = Circumstances(
    arrived=100,
    arrived_bytes=5000,
    largest_bytes=50,
    foreign=0,
    there=True,
    emptied_ns=10 * 10**9,
    given_back=1,
    prefetch=20,
    looks=0,
)


def removals(arguments, known=KNOWN, **changes):
    return removals_by_settings([("", arguments)], replace(known, **changes))


@pytest.mark.parametrize(
    ("arguments", "causes"),
    [
        ({}, []),
        ({"x-message-ttl": 5}, ["x-message-ttl=5"]),
        ({"x-delivery-limit": 7}, ["x-delivery-limit=7"]),
        ({"x-max-length": 8}, ["x-max-length=8 with overflow drop-head"]),
        ({"x-max-length-bytes": 9}, ["x-max-length-bytes=9 with overflow drop-head"]),
        (
            {"x-max-length": 8, "x-overflow": "drop-head"},
            ["x-max-length=8 with overflow drop-head"],
        ),
        ({"x-max-length": 8, "x-overflow": "reject-publish"}, []),
        ({"x-max-length": 8, "x-overflow": "reject-publish-dlx"}, []),
        ({"x-max-length": "8", "x-message-ttl": True, "x-expires": None}, []),
        ({"x-queue-type": "quorum", "x-max-priority": 5}, []),
    ],
)
def test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else(arguments, causes):
    assert [removal.cause for removal in removals(arguments)] == causes


@pytest.mark.parametrize(
    ("arguments", "may"),
    [({}, False), ({"x-queue-type": "quorum"}, False), ({"x-max-length": 1}, True)],
)
def test_which_arguments_may_drop_messages_is_known_before_anything_happened(arguments, may):
    assert may_remove(arguments) is may


def test_expires_explains_what_is_missing_only_where_the_queue_is_gone():
    assert removals({"x-expires": 6}) == ()
    assert removals({"x-expires": 6}, there=False) == (Removal("x-expires=6"),)


@pytest.mark.parametrize(("length", "at_most"), [(0, 100), (8, 92), (100, 0), (500, 0)])
def test_max_length_took_at_most_what_arrived_beyond_it(length, at_most):
    (removal,) = removals({"x-max-length": length})
    assert removal.at_most == at_most


@pytest.mark.parametrize(("size", "at_most"), [(0, 100), (49, 100), (50, 99), (499, 91), (5000, 0)])
def test_max_length_bytes_took_at_most_what_arrived_beyond_what_fits(size, at_most):
    (removal,) = removals({"x-max-length-bytes": size})
    assert removal.at_most == at_most


@pytest.mark.parametrize(
    ("limit", "at_most"), [(5000, 0), (4999, 76), (200, 99), (199, 100), (0, 100)]
)
def test_of_mixed_sizes_those_that_all_fit_lost_none_and_else_the_largest_may_fill_it(
    limit, at_most
):
    (removal,) = removals({"x-max-length-bytes": limit}, largest_bytes=200)
    assert removal.at_most == at_most


@pytest.mark.parametrize(
    ("arguments", "foreign", "at_most"),
    [
        ({"x-max-length": 98}, 1, 3),
        ({"x-max-length": 8}, 500, 100),
        ({"x-max-length": 105}, 4, 0),
        ({"x-max-length-bytes": 5000}, 1, 100),  # it may be of any size
    ],
)
def test_foreign_messages_take_the_room_of_the_run_s(arguments, foreign, at_most):
    (removal,) = removals(arguments, foreign=foreign)
    assert removal.at_most == at_most


def test_a_ttl_took_only_what_was_sent_so_long_before_the_last_look():
    (removal,) = removals({"x-message-ttl": 4_000})
    assert (removal.at_most, removal.sent_before_ns) == (None, 6 * 10**9)
    assert removals({"x-message-ttl": 4_000}, emptied_ns=None) == ()


@pytest.mark.parametrize(
    ("limit", "given_back", "at_most"),
    [
        (0, 0, 0),
        (0, 3, 60),
        (1, 1, 0),
        (1, 3, 30),
        (2, 3, 20),
        (3, 3, 0),
        (20, 0, 0),
        (20, 41, 39),
    ],
)
def test_a_delivery_limit_took_only_what_was_given_back_so_often(limit, given_back, at_most):
    (removal,) = removals({"x-delivery-limit": limit}, given_back=given_back)
    assert removal.at_most == at_most
    assert removals({"x-delivery-limit": -1}, given_back=given_back) == ()


def test_before_4_0_a_negative_delivery_limit_takes_what_is_given_back_at_all():
    before = {"given_back": 0, "looks": 0, "negative_is_none": False}
    (removal,) = removals({"x-delivery-limit": -1}, requeued=3, requeuers=1, **before)
    assert (removal.cause, removal.at_most) == ("x-delivery-limit=-1", 3)
    assert removals({"x-max-length": -1}, **before) == ()


@pytest.mark.parametrize(
    ("limit", "given_back", "looks", "at_most"), [(0, 0, 1, 1), (1, 0, 1, 0), (1, 1, 1, 10)]
)
def test_a_look_may_have_given_one_message_back(limit, given_back, looks, at_most):
    (removal,) = removals({"x-delivery-limit": limit}, given_back=given_back, looks=looks)
    assert removal.at_most == at_most


def test_a_policy_is_a_cause_as_an_argument_is_and_says_whose():
    settings = [("", {"x-max-length": 8}), ("policy 'short'", {"message-ttl": 5, "max-length": 9})]
    assert [each.cause for each in removals_by_settings(settings, KNOWN)] == [
        "x-max-length=8 with overflow drop-head",
        "message-ttl=5 (policy 'short')",
    ]


@pytest.mark.parametrize(
    ("argument", "policy", "operator", "cause"),
    [
        (8, 9, 10, "x-max-length=8 with overflow drop-head"),
        (8, 8, 8, "x-max-length=8 with overflow drop-head"),
        (8, 7, 9, "max-length=7 with overflow drop-head (policy p)"),
        (None, 7, 6, "max-length=6 with overflow drop-head (operator policy o)"),
        (8, -1, None, "x-max-length=8 with overflow drop-head"),
    ],
)
def test_of_several_limits_the_least_took_all_that_any_of_them_took(
    argument, policy, operator, cause
):
    settings = [
        ("", {"x-max-length": argument}),
        ("policy p", {"max-length": policy}),
        ("operator policy o", {"max-length": operator}),
    ]
    least = min(each for each in (argument, policy, operator) if each and each > 0)
    assert removals_by_settings(settings, KNOWN) == (Removal(cause, 100 - least),)


def test_what_happens_to_a_full_queue_an_argument_says_before_a_policy():
    rejecting = ("policy 'p'", {"overflow": "reject-publish", "max-length": 9})
    assert removals_by_settings([("", {}), rejecting], KNOWN) == ()
    arguments = ("", {"x-overflow": "drop-head"})
    assert len(removals_by_settings([arguments, rejecting], KNOWN)) == 1


# --- and what the verdict makes of it -------------------------------------------------------------


def missing(*but, removal, producers=None):
    """Return what is found where these are missing and this may have taken them."""
    here = queue(consumer(all_but(*but)), removals=(removal,))
    return verdict_of(here, producers=producers).found()


def test_what_was_sent_too_late_for_a_ttl_is_lost():
    old = Removal("x-message-ttl=1", None, sent_ns(4))
    assert missing(1, 3, removal=old) == {"removed": 2}
    assert missing(4, 9, removal=old) == {"lost": 2}
    assert missing(3, 4, removal=old) == {"removed": 1, "lost": 1}


def test_of_what_was_sent_again_a_ttl_counts_from_the_last_copy():
    old = Removal("x-message-ttl=1", None, sent_ns(4))
    sent_again = [producer({3: OK}, copies=((3, 2),), channels=(0, 5))]
    assert missing(3, removal=old, producers=sent_again) == {"lost": 1}
    assert missing(2, removal=old, producers=sent_again) == {"removed": 1}


def test_a_copy_of_no_message_makes_none_of_another_producer_younger():
    old = Removal("x-message-ttl=1", None, sent_ns(9) + 1)
    there = [D(n, producer=number) for number in (0, 1) for n in range(COUNT)]
    there.remove(D(9))
    here = queue(consumer(there, counts=(COUNT, COUNT)), removals=(old,))
    stray = producer(copies=((-1, 2),))
    assert verdict_of(here, producers=[producer(), stray]).found() == {"removed": 1}


def test_a_ttl_and_a_bound_explain_together_what_each_can_have_taken():
    causes = (Removal("x-message-ttl=1", None, sent_ns(4)), Removal("a purge", 1))
    here = queue(consumer(all_but(2, 3, 7, 8)), removals=causes)
    assert verdict_of(here).found() == {"removed": 3, "lost": 1}


@pytest.mark.parametrize(("bound", "expected"), [(None, {"removed": COUNT}), (0, {"lost": COUNT})])
def test_a_cause_without_a_bound_explains_all_and_one_of_0_nothing(bound, expected):
    assert missing(*range(COUNT), removal=Removal("expires=6", bound)) == expected


@pytest.mark.parametrize(
    ("kind", "strategy", "overflow", "expected"),
    [
        ("quorum", "at-least-once", "reject-publish", True),
        ("quorum", "at-least-once", "drop-head", False),
        ("quorum", "at-most-once", "reject-publish", False),
        ("quorum", None, "reject-publish", False),
        ("classic", "at-least-once", "reject-publish", False),
    ],
)
def test_only_a_quorum_queue_that_is_told_to_keeps_its_dead_letters(
    kind, strategy, overflow, expected
):
    arguments = {"x-dead-letter-strategy": strategy, "x-overflow": overflow}
    assert keeps_dead_letters(kind, arguments) is expected
