"""Whatever clients and the operator do, the sums of the truth add up."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from pika.spec import Basic, Channel, Confirm
from support.amqp_client import Client, VirtualTime

from rmqbench.simulation import ModelBroker, SeededBehaviour
from rmqbench.simulation.truth import (
    Acknowledged,
    Confirmed,
    Delivered,
    Nacked,
    Published,
    Refused,
    Removed,
    Requeued,
    Returned,
    Routed,
    Stored,
)

ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "publish",
                "publish",
                "publish",
                "consume",
                "get",
                "ack",
                "ack",
                "nack",
                "reject",
                "recover",
                "cancel",
                "close",
                "gone",
                "purge",
                "kill",
                "stop",
                "stall",
                "wait",
                "policy",
            ]
        ),
        st.integers(0, 1 << 16),
    ),
    max_size=40,
)


class World:
    """One queue, one publisher and one consumer, who come again when they are gone."""

    def __init__(self, seed, kind, arguments):
        self.time = VirtualTime()
        behaviour = SeededBehaviour(
            random.Random(seed),
            confirm_delay_s=0.5,
            delivery_delay_s=0.3,
            most_at_once=3,
            grouped=0.5,
            recovery_s=1.0,
        )
        self.broker = ModelBroker(self.time, behaviour=behaviour)
        self.publisher, self.consumer = self.connect(), self.connect()
        self.publisher.call(Confirm.Select())
        self.publisher.declare(quorum=kind == "quorum", arguments=arguments)

    def connect(self):
        return Client(self.broker).open()

    def revive(self):
        """Connect anew where a connection or a channel was lost."""
        if not self.broker.running:
            self.time.advance(3)
        if self.publisher.lost:
            self.publisher = self.connect()
            self.publisher.call(Confirm.Select())
        if self.consumer.lost or not self.consumer.session.channels:  # it used a tag twice
            self.consumer.session.disconnected()
            self.consumer = self.connect()

    def tags(self):
        session = self.consumer.session
        return list(session.channels[1].unacked)

    def act(self, name, number):
        self.revive()
        self.consumer.take()
        tags = self.tags()
        if name in {"ack", "nack", "reject"}:
            if tags:
                self.settle(name, tags[number % len(tags)], number)
        elif name in {"purge", "kill", "stop", "stall", "wait", "policy"}:
            self.operate(name, number)
        else:
            self.use(name, number)

    def settle(self, name, tag, number):
        several, requeue = bool(number & 1), bool(number & 2)
        self.consumer.send(
            {
                "ack": Basic.Ack(tag, several),
                "nack": Basic.Nack(tag, several, requeue),
                "reject": Basic.Reject(tag, requeue),
            }[name]
        )

    def use(self, name, number):
        publisher, consumer = self.publisher, self.consumer
        several = bool(number & 1)
        match name:
            case "publish":
                key = "q" if number % 7 else "nowhere"
                publisher.publish(*[b"x"] * (number % 5), key=key, mandatory=several)
            case "consume" if "c" not in consumer.session.channels[1].consumers:
                consumer.send(Basic.Qos(0, number % 4))
                consumer.send(Basic.Consume(queue="q", consumer_tag="c", no_ack=number % 5 == 4))
            case "get":
                consumer.send(Basic.Get(queue="q", no_ack=several))
            case "recover":
                consumer.send(Basic.Recover(True))
            case "cancel":
                consumer.send(Basic.Cancel("c"))
            case "close":
                consumer.send(Channel.Close(0, "", 0, 0))
                consumer.send(Channel.Open())
            case "gone":
                lost = publisher if several else consumer
                lost.session.disconnected()
                lost.lost = True

    def operate(self, name, number):
        broker = self.broker
        match name:
            case "purge":
                broker.purge("q")
            case "kill" | "stop":
                broker.restart(down_s=2, clean=name == "stop")
            case "stall":
                broker.stall("q", number % 3)
            case "wait":
                self.time.advance(number % 2000 / 1000)
            case "policy":
                broker.set_policy("p", "", {"max-length": number % 20})

    def counted(self, kind):
        return Counter(each.message for each in self.broker.truth.of(kind))


@settings(max_examples=200)
@given(
    ACTS,
    st.integers(0, 1 << 32),
    st.sampled_from(["classic", "quorum"]),
    st.sampled_from([{}, {"x-message-ttl": 700}, {"x-max-length": 5}, {"x-delivery-limit": 1}]),
    st.booleans(),
)
def test_the_sums_add_up(acts, seed, kind, arguments, reject):
    if reject and "x-max-length" in arguments:
        arguments = {**arguments, "x-overflow": "reject-publish"}
    if kind == "classic" and "x-delivery-limit" in arguments:
        arguments = {}
    world = World(seed, kind, arguments)
    for name, number in acts:
        world.act(name, number)
    world.revive()
    world.time.advance(10)
    broker, counted = world.broker, world.counted
    world.publisher.session.disconnected()
    world.consumer.session.disconnected()
    ready, unacked, _ = broker.counts("q")
    assert unacked == 0
    last = world.connect()
    last.consume(no_ack=True)
    world.time.advance(1000)
    assert len(last.take(Basic.Deliver)) == ready
    assert broker.counts("q") == (0, 0, 1)

    stored, gone = counted(Stored), counted(Acknowledged) + counted(Removed)
    assert max([*stored.values(), *gone.values()], default=1) == 1
    assert not gone - stored
    assert stored.total() == gone.total()

    published = counted(Published)
    assert max(published.values(), default=1) == 1
    routed = counted(Routed)
    assert not counted(Returned) & routed
    assert not (stored + counted(Refused)) - routed

    events = broker.truth.events
    told = [
        message
        for each in events
        if isinstance(each, Confirmed | Nacked)
        for message in each.messages
    ]
    assert len(told) == len(set(told))
    refused = set(counted(Refused))
    for each in events:
        if isinstance(each, Confirmed):
            assert not refused & set(each.messages)

    for message, times in counted(Delivered).items():
        assert times <= 1 + counted(Requeued)[message]
    assert not set(counted(Delivered)) - set(stored)


@given(ACTS, st.integers(0, 1 << 32), st.sampled_from(["classic", "quorum"]))
def test_first_deliveries_keep_the_order_where_nothing_jumps_ahead(acts, seed, kind):
    world = World(seed, kind, {})
    for name, number in acts:
        world.act(name, number)
    seen = set()
    firsts = []
    for each in world.broker.truth.of(Delivered):
        if each.message not in seen:
            seen.add(each.message)
            firsts.append(each.message)
    assert firsts == sorted(firsts)
