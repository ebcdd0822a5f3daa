"""Beside plain pika on the same broker, in turn: what the vector path is for."""

import pytest
from compare import Load, Ours, PlainPika, measure, ratios

pytestmark = pytest.mark.stress  # rates mean nothing beside other tests


def test_the_vector_path_leaves_plain_pika_far_behind(rmqbench_broker):
    """Floors well below what is measured (see figures.md): a busy machine must not fail this."""
    endpoint = rmqbench_broker.endpoint
    clients = [Ours(endpoint, Load(50_000)), PlainPika(endpoint, Load(2_000))]
    figures = measure(rmqbench_broker, clients, rounds=1)
    publish, _, _ = ratios(figures, Ours.name, PlainPika.name, "publish")
    consume, _, _ = ratios(figures, Ours.name, PlainPika.name, "consume")
    assert publish > 5
    assert consume > 1
    for half in ("publish", "consume"):
        ((_, mine),) = figures[Ours.name, half]
        ((_, theirs),) = figures[PlainPika.name, half]
        assert mine < theirs / 5, f"CPU of a {half}"
