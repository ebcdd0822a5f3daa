"""Connections of ours that end too early, or only for us and not yet for the broker.

What was delivered on them is nobody's until the broker has noticed: neither lost nor proven away.
"""

from dataclasses import replace
from unittest import mock

import pytest
from support.oracle import disagreements
from support.simulated import Act, History, QueuePlan, play

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
from rmqbench.simulation import SeededBehaviour
from rmqbench.simulation.truth import ChannelClosed, Connected, Delivered, Removed
from rmqbench.verdict.findings import Judgement

pytestmark = pytest.mark.simulation

PASS = Judgement.PASS
UNDER_WAY_S, ARRIVED_S = 0.004, 0.016  # after it was sent, on a link of 5 to 15 ms
SINGLE = (("x-single-active-consumer", True),)
both_ways = pytest.mark.parametrize("vector", [True, False], ids=["vector", "pika"])


def first(kind, played):
    """Return when the first event of a kind was, as acts count."""
    return min(each.at for each in played.broker.truth.of(kind)) - played.began_at


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("dies", [False, True], ids=["notices", "dies"])
@both_ways
def test_a_half_open_consumer_of_ours_is_waited_for_until_the_broker_must_have_noticed(
    kind, dies, vector
):
    """One that dies meanwhile cannot close its connection: only the broker's heartbeat ends it."""
    half_open = Act(0.4, "swallow")
    history = History(
        seed=1,
        queues=(QueuePlan("work", kind, prefetch=3),),
        vector=vector,
        delivery_delay_s=0.2,
        most_at_once=2,
        acts=(half_open, Act(0.5, "slay")) if dies else (half_open,),
    )
    played = play(history)
    assert played.result.verdict.outcome is PASS, played.result.verdict
    assert played.seconds > 30, "so long a heartbeat takes"


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_whenever_a_link_falls_silent_nothing_is_lost_nor_proven_too_early(kind):
    """Also while a consumer is being cancelled, or a message is on its way to ``basic.get``."""
    history = History(
        seed=1,
        messages=3,
        queues=(QueuePlan("work", kind, prefetch=3),),
        latency_s=0.02,
    )
    calm = play(history)
    connected = [each.at for each in calm.broker.truth.of(Connected) if "consumer" in each.name]
    begins_s = min(connected) - calm.began_at
    for at_ms in range(int(1000 * begins_s), int(1000 * calm.seconds), 18):
        played = play(replace(history, acts=(Act(at_ms / 1000, "swallow"),)))
        assert not disagreements(played), at_ms
        assert played.result.verdict.outcome is PASS, f"{at_ms}: {played.result.verdict}"


# --- a quorum queue whose leader is too busy to say what it holds ---------------------------------


@pytest.mark.parametrize("arguments", [(), SINGLE], ids=["plain", "single active consumer"])
@pytest.mark.parametrize(("consumers", "seed"), [(1, 0), (1, 1), (2, 2), (2, 3)])
@pytest.mark.parametrize("begins_s", [8.0, 30.0])
def test_what_a_half_open_consumer_holds_is_not_overlooked_by_a_busy_leader(
    consumers, seed, begins_s, arguments
):
    """Its figures are zeros, and a get finds nothing: all is held by whom the zeros leave out."""
    queue = QueuePlan("work", "quorum", arguments, consumers=consumers)
    history = History(seed=seed, messages=6, queues=(queue,), latency_s=0.01)
    swallow = Act(first(Delivered, play(history)) + UNDER_WAY_S, "swallow")
    played = play(replace(history, acts=(swallow, Act(begins_s, "busy", lasting_s=30.0))))
    assert not disagreements(played)
    assert played.result.verdict.outcome is PASS, played.result.verdict


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("after_s", [UNDER_WAY_S, ARRIVED_S])
@pytest.mark.parametrize("lasting_s", [120.0, 200.0])
def test_a_leader_that_stays_busy_is_not_believed_where_it_cannot_be_asked_for_a_message(
    prefetch, after_s, lasting_s
):
    """It refuses ``basic.get``, for it has a single active consumer."""
    queue = QueuePlan("work", "quorum", SINGLE, prefetch=prefetch)
    history = History(seed=1, messages=10, queues=(queue,), latency_s=0.01)
    swallow = Act(first(Delivered, play(history)) + after_s, "swallow")
    played = play(replace(history, acts=(swallow, Act(8.0, "busy", lasting_s=lasting_s))))
    assert played.result.verdict.count("lost") == 0
    assert not disagreements(played)


def test_on_a_slow_link_a_busy_leader_is_not_overlooked_either():
    """What the link itself needs differs by more than what a busy leader takes."""
    history = History(
        seed=829,
        messages=6,
        queues=(QueuePlan("work", "quorum", consumers=3, prefetch=1),),
        delivery_delay_s=0.1,
        recovery_s=2.0,
        latency_s=0.3,
        version="3.10.8",
        acts=(
            Act(7.9817, "swallow", 1),
            Act(8.0817, "busy", 1, 30.0),
            Act(8.0817, "swallow", 2),
        ),
    )
    played = play(history)
    assert not disagreements(played)
    assert played.result.verdict.outcome is PASS, played.result.verdict


@pytest.mark.parametrize("lasting_s", [5.0, 60.0])
def test_on_a_slow_link_a_single_active_queue_is_proven(lasting_s):
    queue = QueuePlan("work", "quorum", SINGLE, prefetch=1)
    history = History(seed=422, messages=6, queues=(queue,), latency_s=0.3)
    calm = play(history)
    stall = Act(first(Delivered, calm), "stall", lasting_s=lasting_s)
    for played in (calm, play(replace(history, acts=(stall,)))):
        assert not disagreements(played)
        assert played.result.verdict.outcome is PASS, played.result.verdict


# --- what a queue drops because our own look gave it back -----------------------------------------


@pytest.mark.parametrize("what", ["cut", "swallow"])
def test_a_look_whose_connection_ended_counts_against_the_delivery_limit(what):
    """The message comes back while the drain asks, and the queue drops it at its return."""
    history = History(
        seed=92,
        messages=1,
        queues=(QueuePlan("work", "quorum", (("x-delivery-limit", 0),), prefetch=3),),
        publish_again=True,
        latency_s=0.05,
        delivery_delay_s=0.05,
        recovery_s=6.0,
        acts=(Act(0.5, "kill", lasting_s=0.3),),
    )
    with mock.patch.object(SeededBehaviour, "count_while_recovering", return_value=0):
        calm = play(history)
        got = next(e for e in calm.broker.truth.of(Delivered) if e.consumer_tag is None)
        end = Act(got.at - calm.began_at + 0.002, what)
        played = play(replace(history, acts=(*history.acts, end)))
    (removal,) = played.broker.truth.of(Removed)
    assert removal.cause == "delivery_limit"
    assert not disagreements(played)
    assert played.result.verdict.found() == {"removed": 1}


# --- another round, once the broker has noticed ---------------------------------------------------


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("seed", range(3))
def test_whoever_waits_behind_a_half_open_single_active_consumer_gets_its_turn(seed, kind):
    queue = QueuePlan("work", kind, SINGLE, prefetch=3)
    history = History(seed=seed, messages=10, queues=(queue,), latency_s=0.01)
    swallow = Act(first(Delivered, play(history)) + ARRIVED_S, "swallow")
    played = play(replace(history, acts=(swallow,)))
    assert played.seconds > 60, "so long a heartbeat takes"
    assert not disagreements(played)
    assert played.result.verdict.outcome is PASS, played.result.verdict


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("what", ["cut", "slay"])
def test_a_consumer_that_ended_before_all_was_published_is_followed_by_another(kind, what):
    """However long ago that was: here longer than a queue's patience lasts."""
    history = History(
        seed=3,
        messages=700,
        queues=(QueuePlan("work", kind), QueuePlan("audit", kind)),
        during=True,
        latency_s=0.01,
        publish_rate=20.0,
        acts=(Act(0.02, what, which=1), Act(0.02, what, which=1)),
    )
    played = play(history)
    assert not disagreements(played)
    assert played.result.verdict.outcome is PASS, played.result.verdict


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("what", ["kill", "stop", "stall"])
@pytest.mark.parametrize("lasting_s", [3.0, 9.0])
def test_a_short_absence_during_a_long_wait_does_not_end_a_drain(kind, what, lasting_s):
    """While a half-open consumer is waited for, or just when it is gone."""
    history = History(
        seed=1, messages=6, queues=(QueuePlan("work", kind, prefetch=10),), latency_s=0.01
    )
    swallow = Act(first(Delivered, play(history)) + UNDER_WAY_S, "swallow")
    silent = play(replace(history, acts=(swallow,)))
    noticed_s = max(e.at for e in silent.broker.truth.of(Delivered)) - silent.began_at
    for at_s in (50.0, noticed_s - 0.1, noticed_s + 0.1):
        absence = Act(at_s, what, lasting_s=lasting_s)
        played = play(replace(history, acts=(swallow, absence)))
        assert not disagreements(played), at_s
        assert played.result.verdict.outcome is PASS, f"{at_s}: {played.result.verdict}"


@pytest.mark.parametrize("arguments", [(), SINGLE], ids=["plain", "single active consumer"])
@pytest.mark.parametrize("lasting_s", [31.0, 36.0, 45.0])
def test_a_queue_that_stood_still_for_longer_than_a_consumer_waits_gets_another(
    lasting_s, arguments
):
    history = History(
        seed=1,
        messages=6,
        queues=(QueuePlan("work", "quorum", arguments),),
        latency_s=0.01,
        delivery_delay_s=0.5,
        most_at_once=1,
    )
    calm = play(history)
    begins_s = min(e.at for e in calm.broker.truth.of(Connected) if "consumer" in e.name)
    stall = Act(begins_s - calm.began_at + 0.05, "stall", lasting_s=lasting_s)
    played = play(replace(history, acts=(stall,)))
    assert not disagreements(played)
    assert played.result.verdict.outcome is PASS, played.result.verdict


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_fell_silent_together_is_waited_for_together(kind):
    """However many queues there are: all their consumers are being cancelled at the moment."""
    queues = tuple(QueuePlan(f"q{number}", kind, prefetch=3) for number in range(6))
    history = History(seed=2, messages=5, queues=queues, during=True, latency_s=0.05)
    calm = play(history)
    consumers = {e.session for e in calm.broker.truth.of(Connected) if "consumer" in e.name}
    closed = [e.at for e in calm.broker.truth.of(ChannelClosed) if e.session in consumers]
    at_s = min(closed) - calm.began_at - 0.06
    acts = tuple(Act(at_s, "swallow", which) for which in range(len(queues)))
    played = play(replace(history, acts=acts))
    assert 95 < played.seconds < 190
    assert not disagreements(played)
    assert played.result.verdict.outcome is PASS, played.result.verdict
