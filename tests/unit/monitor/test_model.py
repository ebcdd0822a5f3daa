"""What is made of the Management API's answers."""

import json

import pytest

from rmqbench.monitor.controls import Controls, after
from rmqbench.monitor.model import (
    as_json,
    matching,
    sorted_queues,
)

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pictures import NODE, connection, consumer, picture, queue, text


@pytest.mark.parametrize(
    ("ready", "unacknowledged", "colour"),
    [
        (0, 0, "green"),
        (999, 0, "green"),
        (0, 1000, "yellow"),
        (9_000, 999, "yellow"),
        (9_000, 1000, "red"),
        (10**7, 0, "red"),
    ],
)
def test_depth_is_a_colour(ready, unacknowledged, colour):
    (found,) = picture(queue(ready=ready, unacknowledged=unacknowledged)).queues
    assert found.depth == colour


@pytest.mark.parametrize(
    ("rates", "state"),
    [
        ({}, "idle"),
        ({"publish": 3}, "publishing"),
        ({"deliver": 3}, "consuming"),
        ({"ack": 0.2}, "consuming"),
        ({"publish": 3, "deliver": 3}, "publishing, consuming"),
    ],
)
def test_rates_tell_the_state(rates, state):
    assert picture(queue(**rates)).queues[0].state == state


@pytest.mark.parametrize("state", ["down", "crashed", "minority", "stopped"])
def test_a_queue_that_does_not_work_is_red_and_says_so(state):
    shown = picture(queue(state=state))
    assert shown.queues[0].depth == "red"
    assert f"│ {state} " in text(shown)


def test_a_consumer_is_found_with_its_connection():
    shown = picture(queue(), connections=[connection()], consumers=[consumer()])
    (found,) = shown.queues[0].consumers
    assert (found.tag, found.connection, found.host) == ("tag-1", "billing", "127.0.0.1:5000")
    assert shown.queues[0].consumer_count == 1


def test_the_summary_adds_up_what_is_there():
    shown = picture(
        queue("a", ready=5, publish=2), queue("b", unacknowledged=7), connections=[connection()]
    )
    summary = shown.summary
    assert (summary.queues, summary.active, summary.connections) == (2, 1, 1)
    assert (summary.ready, summary.unacknowledged, summary.publish_rate) == (5, 7, 2)


def test_an_alarm_of_the_health_check_goes_before_the_nodes_older_flag():
    raised = NODE | {"mem_alarm": True}
    assert picture(nodes=[raised], alarms=None).nodes[0].alarms == ("memory",)
    assert picture(nodes=[raised], alarms=[]).nodes[0].alarms == ()
    disk = [{"node": "rabbit@here", "resource": "disk"}]
    shown = picture(alarms=disk)
    assert shown.nodes[0].alarms == ("disk",)
    assert "disk alarm: publishers are blocked (rabbit@here)" in text(shown)
    assert "Nodes · alarm" in text(shown)


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(sorted({*queue(), *connection(), *consumer(), *NODE, "rate"})), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JUNK, max_size=4))
def test_whatever_the_api_answers_is_a_picture(junk):
    queues, connections, consumers, nodes = (
        [*junk, *(whole | each for each in junk if isinstance(each, dict))]
        for whole in (queue(), connection(), consumer(), NODE)
    )
    shown = picture(*queues, connections=connections, consumers=consumers, nodes=nodes, alarms=junk)
    assert "figures of" in text(shown, width=60)
    json.dumps(as_json(shown, None, "depth"), allow_nan=False)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (None, ["Orders.eu", "orders.us", "a[1]"]),
        ("ORDERS", ["Orders.eu", "orders.us"]),
        ("*.us", ["orders.us"]),
        ("orders", ["Orders.eu", "orders.us"]),
        ("orders*", ["Orders.eu", "orders.us"]),
        ("orders.?u", ["Orders.eu"]),
        ("order?", []),
        ("[1]", ["a[1]"]),
    ],
)
def test_a_filter_is_a_part_of_the_name_or_a_pattern(pattern, names):
    shown = picture(queue("Orders.eu"), queue("orders.us"), queue("a[1]"))
    assert [each.name for each in matching(shown.queues, pattern)] == names


def test_queues_are_sorted_by_depth_rate_or_name():
    shown = picture(
        queue("b", ready=1), queue("c", publish=9), queue("a", ready=1), queue("d", ready=5)
    )
    names = {by: "".join(q.name for q in sorted_queues(shown.queues, by)) for by in after_sorts()}
    assert names == {"depth": "dabc", "rate": "cabd", "name": "abcd"}


def after_sorts():
    controls = Controls()
    for _ in range(3):
        yield controls.sort
        controls = after(controls, "s")
    assert controls == Controls()
