"""What consumers do with messages: by weight, and the same of a message wherever it is computed."""

import uuid
from collections import Counter

import numpy as np
import pytest

from rmqbench.errors import UsageError
from rmqbench.queues import ConsumedQueue, ConsumerSettings
from rmqbench.scenarios import reliability
from rmqbench.settling import Action, Choice, Settling
from rmqbench.splitmix import drawn, seed_of, seeds_of

RUN = uuid.UUID("01234567-89ab-4cde-8f01-23456789abcd")


def chosen(text, count=90_000):
    """The choices of so many messages of producer 1, in their order."""
    settling = Settling.of(text)
    indices = settling.chosen(np.full(count, seeds_of(RUN, 2)[1]), np.arange(count))
    return [settling.choices[index] for index in indices.tolist()]


def actions_of(text, count=90_000):
    return [each.action for each in chosen(text, count)]


def test_actions_are_chosen_by_weight():
    found = Counter(actions_of("ack*4,late*5"))
    assert found.keys() == {Action.ACK, Action.LATE}
    assert found[Action.LATE] == pytest.approx(50_000, rel=0.02)
    assert set(actions_of("reject")) == {Action.REJECT}


def test_an_action_may_wait():
    found = Counter(chosen("requeue@3s,ack@0.5s*2,reject"))
    assert found.keys() == {
        Choice(Action.REQUEUE, 3.0),
        Choice(Action.ACK, 0.5, 2),
        Choice(Action.REJECT),
    }
    assert Settling.of("requeue@3s,ack@2m*2").longest_delay_s == 120
    assert not Settling.of("ack@1s").only_acknowledges


def test_the_action_of_a_message_is_that_of_the_documented_numbers():
    seed = seed_of(RUN, 1) ^ 2**64 - 1
    expected = [
        Action.REQUEUE if (drawn(seed, sequence) >> 32) * 3 >> 32 < 1 else Action.ACK
        for sequence in range(1000)
    ]
    assert actions_of("requeue,ack*2", 1000) == expected


def test_actions_do_not_follow_sizes():
    """Both are drawn for a run: large messages must not be those that are rejected."""
    sizes = np.array([drawn(seed_of(RUN, 1), n) >> 32 for n in range(90_000)]) < 1 << 31
    late = np.array([each is Action.LATE for each in actions_of("ack,late")])
    assert (sizes & late).sum() == pytest.approx(22_500, rel=0.04)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ack,",
        "hold",
        "ack*0",
        "ACK",
        "ack*x",
        "late*1*2",
        "late@1s",
        "ack@",
        "crash*0",
        "ack*2@1s",
        None,
    ],
)
def test_what_is_no_way_to_settle_is_refused(text):
    with pytest.raises(UsageError, match="is no way to settle a message"):
        ConsumedQueue("q", settle=text)


def test_only_acknowledging_is_known_as_that():
    assert Settling.of("ack").only_acknowledges
    assert Settling.of("ack*2,ack").only_acknowledges
    assert not Settling.of("ack*1000,reject").only_acknowledges


def test_what_settles_itself_cannot_be_settled():
    with pytest.raises(UsageError, match="with auto_ack there is nothing to settle"):
        reliability(auto_ack=True, settle="late")


def test_consumers_of_a_queue_may_differ():
    queue = ConsumedQueue(
        "q",
        consumers=3,
        settle="late",
        settings=(ConsumerSettings(settle="requeue@3s"), ConsumerSettings(priority=100)),
    )
    assert queue.settlings == (Settling.of("requeue@3s"), Settling.of("late"))
    with pytest.raises(UsageError, match="There are 2 settings for 1 consumers"):
        ConsumedQueue("q", settings=queue.settings)
    with pytest.raises(UsageError, match="has a single active consumer"):
        ConsumedQueue(
            "q",
            arguments={"x-single-active-consumer": True},
            settings=(ConsumerSettings(polls_every_s=1.0),),
        )
    with pytest.raises(UsageError, match="with auto_ack there is nothing to settle"):
        ConsumedQueue("q", auto_ack=True, settings=(ConsumerSettings(settle="reject"),))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"prefetch": 0}, "prefetch"),
        ({"prefetch": 70_000}, "prefetch"),
        ({"priority": 1 << 31}, "priority"),
        ({"joins_after_s": -1.0}, "joins_after_s"),
        ({"joins_after_s": float("inf")}, "joins_after_s"),
        ({"settle": "hold"}, "is no way to settle"),
        ({"cancels_every": 0}, "cancels_every"),
        ({"polls_every_s": 0.0}, "polls_every_s"),
        ({"polls_every_s": float("inf")}, "polls_every_s"),
        ({"polls_every_s": 1.0, "priority": 1}, "there is no consumer"),
        ({"polls_every_s": 1.0, "cancels_every": 1}, "there is no consumer"),
    ],
)
def test_settings_that_no_broker_takes_are_refused(settings, match):
    with pytest.raises(UsageError, match=match):
        ConsumerSettings(**settings)
