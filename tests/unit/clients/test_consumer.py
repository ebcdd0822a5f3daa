"""A consumer acknowledges what its handler has taken, and nothing else."""

import uuid
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rmqbench.amqp.network import REAL_NETWORK
from rmqbench.amqp.shape import Deliveries
from rmqbench.clients import consumer as consumers
from rmqbench.clients.consumer import Consumer, Subscription, Taken
from rmqbench.clients.lifetime import Churn
from rmqbench.clients.rate import Pace
from rmqbench.endpoint import Endpoint
from rmqbench.errors import ConnectionLost
from rmqbench.message import Recipe

RECIPE = Recipe(uuid.UUID(int=1))


class Link:
    """A connection and its channels in one; each turn does the next step of its script."""

    raw_delivery = None
    more_is_there = False

    def __init__(self, steps):
        self.steps = list(steps)
        self.tags = 0
        self.acks = []  # tag, multiple
        self.dies = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def channel(self):
        return self

    def basic_qos(self, prefetch_count):
        pass

    def add_on_cancel_callback(self, callback):
        pass

    def expect_deliveries(self, channel, handler):
        self.on_deliveries = handler

    def basic_consume(self, queue, on_message, auto_ack, consumer_tag, arguments, callback):
        self.on_message = on_message
        callback(None)
        return consumer_tag

    def cancel(self, channel, tag, callback):
        callback(None)

    def close_channel(self, channel, timeout_s):
        if self.dies:
            lose(self)

    def wait_until(self, condition, timeout_s, what):
        assert condition(), what

    def turn(self):
        self.steps.pop(0)(self)

    def basic_ack(self, tag, multiple=False):
        self.acks.append((tag, multiple))


class Chooser:
    """Takes as many of each piece as it was told beforehand; its places are the tags."""

    def __init__(self, *taken):
        self.left = list(taken)
        self.acknowledged = []
        self.channels = 0

    def begin(self):
        self.channels += 1

    def end(self):
        self.ended = True

    def take(self, method, properties, body):
        return Taken(np.array([method.delivery_tag])) if self.left.pop(0) else None

    def take_many(self, deliveries):
        places = deliveries.tags[: self.left.pop(0)]
        return len(places), places

    def acknowledge(self, places):
        self.acknowledged += places.tolist()


def receive(link):
    link.tags += 1
    link.on_message(link, SimpleNamespace(delivery_tag=link.tags, redelivered=False), None, b"")


def receive_many(count, sent_ns=0):
    def step(link):
        tags = link.tags + np.arange(1, count + 1)
        link.tags += count
        zeros = np.zeros(count, np.int64)
        sent = zeros + sent_ns
        link.on_deliveries(Deliveries(1, tags, zeros > 0, zeros, zeros, sent, zeros, RECIPE))

    return step


def in_bulk(step, more=True):
    """Do a step, after which more is there already."""

    def bulk(link):
        step(link)
        link.more_is_there = more

    return bulk


def lose(link):
    raise ConnectionLost("The connection ended.")


def die(link):
    """Answer nothing more."""
    link.dies = True


@pytest.fixture
def subscribe(monkeypatch):
    """Have a handler take what comes over these connections, one after the other."""

    def subscribe(handler, *scripts, network=REAL_NETWORK, **changes):
        links = [Link(script) for script in scripts]
        left, opened = iter(links), []

        def connect(*_, **__):
            opened.append(next(left))
            return opened[-1]

        monkeypatch.setattr(consumers, "Connection", connect)
        consumer = Consumer(
            Subscription(Endpoint(), "work.queue", "name", "tag", **changes),
            handler,
            network=network,
        )
        assert consumer.run(lambda _: bool(opened[-1].steps)) is None
        return consumer, links

    return subscribe


def test_all_that_was_taken_is_acknowledged_with_one_frame(subscribe):
    handler = Chooser(3, 1, 2)
    consumer, (link,) = subscribe(handler, [receive_many(3), receive, receive_many(2)])
    assert link.acks == [(3, True), (4, True), (6, True)]
    assert handler.acknowledged == [1, 2, 3, 4, 5, 6]
    assert consumer.delivered == 6


def test_what_comes_in_bulk_is_acknowledged_together_up_to_a_share_of_the_prefetch(subscribe):
    bulk = [in_bulk(receive_many(count)) for count in (6, 3, 2, 5)]
    handler = Chooser(6, 3, 2, 5, 1)
    _, (link,) = subscribe(handler, [*bulk, in_bulk(receive_many(1), more=False)], prefetch=80)
    assert link.acks == [(11, True), (17, True)]
    assert handler.acknowledged == list(range(1, 18))


@pytest.mark.parametrize(("age_ms", "pause_ms"), [(0, 0), (8, 1), (800, 100), (-80, -10)])
def test_messages_wait_for_others_no_longer_than_for_a_share_of_their_age(
    subscribe, age_ms, pause_ms
):
    now_ns = 1_790_000_000_000_000_000
    clock = replace(REAL_NETWORK.clock, time_ns=lambda: now_ns)
    script = [receive_many(3, now_ns - age_ms * 1_000_000)]
    network = replace(REAL_NETWORK, clock=clock)
    _, (link,) = subscribe(Chooser(3), script, network=network)
    assert link.longest_pause_s == pytest.approx(pause_ms / 1000)


def test_a_consumer_goes_on_over_another_connection_when_one_has_lived_long_enough(monkeypatch):
    """All that came on the first one is acknowledged, and the rest comes on the second one."""
    links = [Link([receive_many(2), receive_many(3)]), Link([receive_many(4), lambda _: None])]
    left, now = iter(links), [0.0]
    handler = Chooser(2, 3, 4)

    def connect(*_, **__):
        now[0] = 100.0 * (links.index(link := next(left)))
        return link

    def go_on(_):
        now[0] += 1.0
        return handler.left != []

    monkeypatch.setattr(consumers, "Connection", connect)
    clock = replace(REAL_NETWORK.clock, monotonic=lambda: now[0])
    subscription = Subscription(Endpoint(), "work.queue", "n", "t", churn=Churn(1 / 3, 1))
    consumer = Consumer(subscription, handler, network=replace(REAL_NETWORK, clock=clock))
    assert consumer.run(go_on) is None
    assert [link.acks for link in links] == [[(2, True), (5, True)], [(4, True)]]
    assert handler.channels == 2
    assert consumer.interruptions == ()


def test_what_waits_for_the_rate_is_acknowledged_before_a_connection_is_left(monkeypatch):
    links = [Link([receive_many(2), *[lambda _: None] * 9]), Link([lambda _: None] * 9)]
    left, now = iter(links), [0.0]
    acknowledged_at, paces_begun = [], []

    class Noted(Pace):
        def start(self):
            paces_begun.append(now[0])
            super().start()

    class Noting(Chooser):
        def acknowledge(self, places):
            acknowledged_at.append(now[0])

    def go_on(_):
        now[0] += 1.0
        return now[0] < 8

    monkeypatch.setattr(consumers, "Connection", lambda *_, **__: next(left))
    monkeypatch.setattr(consumers, "Pace", Noted)
    clock = replace(REAL_NETWORK.clock, monotonic=lambda: now[0])
    subscription = Subscription(
        Endpoint(), "work.queue", "n", "t", churn=Churn(1 / 3, 1), rate=1 / 5
    )
    consumer = Consumer(subscription, Noting(2), network=replace(REAL_NETWORK, clock=clock))
    assert consumer.run(go_on) is None
    assert acknowledged_at == [5.0], "the first may pass after five seconds, and the life is three"
    assert next(left, None) is None, "the second connection took the place of the first"
    assert paces_begun == [0.0], "the pace goes on over connections"


def test_what_has_come_in_bulk_is_acknowledged_at_the_end(subscribe):
    _, (link,) = subscribe(Chooser(3), [in_bulk(receive_many(3))])
    assert link.acks == [(3, True)]


@pytest.mark.parametrize("prefetch", [1, 7, 8])
def test_with_a_small_prefetch_each_turn_is_acknowledged(subscribe, prefetch):
    _, (link,) = subscribe(Chooser(1, 1), [in_bulk(receive_many(1))] * 2, prefetch=prefetch)
    assert link.acks == [(1, True), (2, True)]


def test_of_many_messages_only_those_that_were_taken_are_acknowledged(subscribe):
    handler = Chooser(2, 0, 1, 3)
    consumer, (link,) = subscribe(handler, [receive_many(5), receive, receive, receive_many(3)])
    assert link.acks == [(tag, False) for tag in (1, 2, 7, 8, 9, 10)]
    assert handler.acknowledged == [1, 2, 7, 8, 9, 10]
    assert consumer.delivered == 6


def test_many_messages_of_which_none_was_taken_are_held(subscribe):
    handler = Chooser(2, 0, 1)
    _, (link,) = subscribe(handler, [receive_many(2), receive_many(3), receive])
    assert link.acks == [(2, True), (6, False)]


def test_what_was_taken_before_a_message_is_held_is_acknowledged_all_the_same(subscribe):
    def receive_both(link):
        receive_many(2)(link)
        receive(link)

    _, (link,) = subscribe(Chooser(2, 0), [receive_both])
    assert link.acks == [(1, False), (2, False)]


def test_on_a_new_channel_nothing_is_held_any_more(subscribe):
    handler = Chooser(1, 2)
    consumer, links = subscribe(handler, [receive_many(3), lose], [receive_many(2)])
    assert links[0].acks == [(1, False)]
    assert links[1].acks == [(2, True)]
    assert handler.channels == 2
    assert len(consumer.interruptions) == 1


def test_the_end_of_a_connection_before_the_broker_took_the_last_acknowledgements_is_told(
    subscribe,
):
    """What was acknowledged in vain comes again, and is taken again."""
    handler = Chooser(2, 1, 2)
    consumer, links = subscribe(handler, [receive_many(2), receive, die], [receive_many(2)])
    assert links[0].acks == [(2, True), (3, True)]
    assert links[1].acks == [(2, True)]
    assert handler.channels == 2
    assert len(consumer.interruptions) == 1


def test_with_automatic_acknowledgement_the_handler_is_told_and_nothing_is_sent(subscribe):
    handler = Chooser(2, 1)
    _, (link,) = subscribe(handler, [receive_many(2), receive], auto_ack=True)
    assert link.acks == []
    assert handler.acknowledged == [1, 2, 3]


def test_over_its_rate_it_holds_back_and_acknowledges_in_the_end(subscribe):
    handler = Chooser(2, 1)
    seen = []

    def look(link):
        seen.append((subscriber_of(link).holds_back, list(link.acks)))

    def subscriber_of(link):
        return link.on_deliveries.__self__

    _, (link,) = subscribe(handler, [receive_many(2), look, receive], rate=0.001)
    assert seen == [(True, [])]
    assert link.acks == [(3, True)]
