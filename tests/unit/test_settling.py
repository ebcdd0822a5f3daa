"""What consumers do with messages: by weight, and the same of a message wherever it is computed."""

import uuid
from collections import Counter

import numpy as np
import pytest

from rmqbench.errors import UsageError
from rmqbench.scenarios import ConsumedQueue, reliability
from rmqbench.settling import Action, Settling
from rmqbench.splitmix import drawn, seed_of, seeds_of

RUN = uuid.UUID("01234567-89ab-4cde-8f01-23456789abcd")


def actions_of(text, count=90_000):
    seeds = seeds_of(RUN, 2)
    return Settling.of(text).actions_of(np.full(count, seeds[1]), np.arange(count))


def test_actions_are_chosen_by_weight():
    found = Counter(actions_of("ack*4,late*5").tolist())
    assert found.keys() == {Action.ACK, Action.LATE}
    assert found[Action.LATE] == pytest.approx(50_000, rel=0.02)
    assert set(actions_of("reject").tolist()) == {Action.REJECT}


def test_the_action_of_a_message_is_that_of_the_documented_numbers():
    seed = seed_of(RUN, 1) ^ 2**64 - 1
    expected = [
        Action.REQUEUE if (drawn(seed, sequence) >> 32) * 3 >> 32 < 1 else Action.ACK
        for sequence in range(1000)
    ]
    assert actions_of("requeue,ack*2", 1000).tolist() == expected


def test_actions_do_not_follow_sizes():
    """Both are drawn for a run: large messages must not be those that are rejected."""
    sizes = np.array([drawn(seed_of(RUN, 1), n) >> 32 for n in range(90_000)]) < 1 << 31
    late = actions_of("ack,late") == Action.LATE
    assert (sizes & late).sum() == pytest.approx(22_500, rel=0.04)


@pytest.mark.parametrize("text", ["", "ack,", "hold", "ack*0", "ACK", "ack*x", "late*1*2", None])
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
