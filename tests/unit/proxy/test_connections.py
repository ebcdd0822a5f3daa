"""Alterations of a connection: asked for while it runs, and of which connections."""

import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")

from support.altered import (
    GREETING,
    HEARTBEAT,
    data_of,
    decode,
    deliveries,
    method,
    publish,
    sequences,
)

from rmqbench.proxy import (
    drop,
)
from rmqbench.proxy.alterations import AlterationPlan
from rmqbench.proxy.altering import (
    UNKNOWN_TAG,
    AlteredConnection,
    Reset,
)


def consume(channel):
    return pika.frame.Method(channel, pika.spec.Basic.Consume(queue="q", consumer_tag="c"))


@pytest.mark.parametrize("plan", [(), (drop("publish", 99),)], ids=["no plan", "plan"])
def test_an_unknown_tag_is_acknowledged_between_messages_on_each_consuming_channel(plan):
    connection = AlteredConnection(AlterationPlan(plan), 1)
    connection.from_client(GREETING + consume(1).marshal() + consume(2).marshal())
    frames = publish(1, 0)
    passed = data_of(connection.from_client(b"".join(frames[:2]) + frames[2][:50]).to_broker)
    passed += data_of(connection.acknowledge_unknown().to_broker)
    passed += data_of(connection.from_client(frames[2][50:] + frames[3]).to_broker)
    acks = [each for each in decode(passed) if isinstance(each[1], pika.spec.Basic.Ack)]
    assert sorted(channel for channel, _ in acks) == [1, 2]
    assert {one.delivery_tag for _, one in acks} == {UNKNOWN_TAG}
    assert connection.from_client(HEARTBEAT).to_broker == (HEARTBEAT,)


def test_a_channel_that_is_closed_consumes_no_more():
    connection = AlteredConnection(AlterationPlan(()), 1)
    connection.from_client(GREETING + consume(1).marshal() + consume(2).marshal())
    connection.from_broker(method(1, pika.spec.Channel.Close, 406, "PRECONDITION_FAILED", 0, 0))
    connection.from_client(method(2, pika.spec.Channel.Close, 200, "", 0, 0))
    assert connection.consuming == set()
    assert connection.acknowledge_unknown().to_broker == ()


@pytest.mark.parametrize("plan", [(), (drop("delivery", 99),)], ids=["no plan", "plan"])
def test_a_cut_inside_a_frame_ends_amid_the_next_one(plan):
    connection = AlteredConnection(AlterationPlan(plan), 1)
    (first,) = deliveries(1)
    connection.from_broker(first[:10])
    connection.cut_inside_frame()
    *data, end = connection.from_broker(first[10:]).to_client
    assert end == Reset()
    size = 8 + int.from_bytes(first[3:7], "big")
    assert data == [first[: size // 2]]
    assert connection.from_client(HEARTBEAT).to_broker == ()


def start_ok(name):
    properties = {"connection_name": name}
    return method(0, pika.spec.Connection.StartOk, properties, "PLAIN", "\0a\0b", "en_US")


@pytest.mark.parametrize(("name", "expected"), [("consumer 1", [1]), ("producer 1", [0, 1])])
def test_only_connections_of_the_right_name_are_altered(name, expected):
    plan = AlterationPlan([drop("delivery", 1)])
    connection = AlteredConnection(plan, 1, only=lambda name: name.startswith("consumer"))
    connection.from_client(GREETING + start_ok(name))
    assert sequences(connection.from_broker(b"".join(deliveries(2))).to_client) == expected
