"""Whatever a proxy does to messages on their way: the verdict names exactly that, and no more."""

import shutil
import time

import pytest

from rmqbench.proxy import Proxy, drop, flip, forge, repeat, swap
from rmqbench.proxy.alterations import Swap

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.random

COUNT = 50
FORGED = (7, 1, time.time_ns())  # no such producer was there

ON_THE_WAY_IN = ("drop", "repeat", "swap", "flip", "forge")
# A second message with the tag of the first may come after its acknowledgement, and be a 406.
ON_THE_WAY_OUT = ("drop", "swap", "flip")


@st.composite
def plans(draw, actions):
    """Ordinals, at least three apart so that no alteration meets another, and what to do there."""
    gaps = draw(st.lists(st.integers(3, 15), max_size=5))
    places = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    return [(place, draw(st.sampled_from(actions))) for place in places if place <= COUNT - 10]


def alterations(what, plan, recipe):
    make = {
        "drop": lambda nth: drop(what, nth),
        "repeat": lambda nth: repeat(what, nth),
        "swap": lambda nth: swap(what, nth),
        "flip": lambda nth: flip(what, nth, byte=nth, mask=1),
        "forge": lambda nth: forge(what, nth, recipe.body(*FORGED), recipe.properties(*FORGED)),
    }
    return [make[action](nth) for nth, action in plan]


def altered(messages, plan):
    """What a list of (sequence, bytes turned over) becomes; a forged one has the sequence None."""
    messages = list(messages)
    for nth, action in reversed(plan):  # from the end: places before it stay what they are
        at = nth - 1
        sequence, harmed = messages[at]
        match action:
            case "drop":
                del messages[at]
            case "repeat":
                messages.insert(at, messages[at])
            case "swap":
                messages[at], messages[at + 1] = messages[at + 1], messages[at]
            case "flip":
                messages[at] = (sequence, harmed ^ {nth})
            case "forge":
                messages.insert(at + 1, (None, frozenset()))
    return messages


def findings(messages):
    """What an honest judge would find in these deliveries."""
    sequences = [sequence for sequence, _ in messages if sequence is not None]
    late, highest, seen = 0, -1, set()
    for sequence in sequences:
        if sequence not in seen:
            late += sequence < highest
        highest = max(highest, sequence)
        seen.add(sequence)
    counts = {
        "lost": COUNT - len(seen),
        "duplicate": len(sequences) - len(seen),
        "reordered": late,
        "corrupted": sum(bool(harmed) for _, harmed in messages),
        "phantom": len(messages) - len(sequences),
    }
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("by_hand", ["classic"], indirect=True)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(published=plans(ON_THE_WAY_IN), delivered=plans(ON_THE_WAY_OUT))
def test_the_verdict_matches_the_plan(by_hand, published, delivered):
    for each in by_hand.directory.iterdir():
        shutil.rmtree(each)
    by_hand.reports.clear()
    recipe = by_hand.recipe
    plan = [*alterations("publish", published, recipe), *alterations("delivery", delivered, recipe)]
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        assert by_hand.publish(endpoint=proxy.endpoint).error is None
        assert by_hand.consume(endpoint=proxy.endpoint, idle_s=1.5).error is None
    done = {each.alteration for each in proxy.applied}
    # A swap whose neighbour does not come within half a second is let go.
    assert all(isinstance(each, Swap) for each in plan if each not in done)
    published = [e for e in published if alterations("publish", [e], recipe)[0] in done]
    delivered = [e for e in delivered if alterations("delivery", [e], recipe)[0] in done]
    arrived = altered(((sequence, frozenset()) for sequence in range(COUNT)), published)
    assert by_hand.ready() == 0
    assert by_hand.found() == findings(altered(arrived, delivered))
