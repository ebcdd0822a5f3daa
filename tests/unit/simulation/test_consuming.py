"""Deliveries, prefetch, acknowledgements, and who gets what."""

import pytest
from pika.spec import Basic, Channel, Connection, Queue
from support.amqp_client import Client

from rmqbench.simulation import Behaviour, ModelBroker
from rmqbench.simulation.truth import Acknowledged, Delivered


def exception(client):
    (close,) = client.take(Channel.Close, Connection.Close)
    return close.method.reply_code, close.method.reply_text.partition(" - ")[2]


# --- order and credit ---------------------------------------------------------------------------


def test_messages_come_in_the_order_in_which_they_were_published(client, declare):
    declare()
    client.publish(1, 2, 3)
    client.consume()
    client.publish(4)
    assert client.flags() == [(1, False), (2, False), (3, False), (4, False)]


def test_a_consumer_has_no_more_than_its_prefetch(broker, client, declare):
    declare()
    client.publish(1, 2, 3, 4, 5)
    client.consume(prefetch=2)
    assert client.bodies() == [1, 2]
    client.ack(1)
    assert client.bodies() == [3]
    client.ack(3, multiple=True)
    assert client.bodies() == [4, 5]
    assert broker.counts("q") == (0, 2, 1)


def test_prefetch_is_each_consumers_own_and_holds_for_later_ones(client, declare):
    declare()
    client.publish(*range(10))
    client.consume(tag="a", prefetch=2)
    client.consume(tag="b", prefetch=3)
    tags = [each.method.consumer_tag for each in client.take(Basic.Deliver)]
    assert (tags.count("a"), tags.count("b")) == (2, 3)


def test_a_get_does_not_use_the_prefetch(client, declare):
    declare()
    client.publish(1, 2, 3)
    client.consume(prefetch=1)
    assert client.bodies() == [1]
    assert client.get().body == b"2"
    client.ack(2)
    assert client.bodies() == []
    client.ack(1)
    assert client.bodies() == [3]


def test_consumers_take_turns(client, declare):
    declare()
    client.consume(tag="a")
    client.consume(tag="b")
    client.publish(1, 2, 3, 4)
    tags = [each.method.consumer_tag for each in client.take(Basic.Deliver)]
    assert tags == ["a", "b", "a", "b"]


def test_who_has_no_credit_is_passed_over(client, declare):
    declare()
    client.consume(tag="a", prefetch=1)
    client.consume(tag="b", prefetch=10)
    client.publish(1, 2, 3, 4)
    tags = [each.method.consumer_tag for each in client.take(Basic.Deliver)]
    assert tags == ["a", "b", "b", "b"]


def test_who_has_credit_again_stands_behind_the_others(client, declare):
    declare()
    client.consume(tag="a", prefetch=1)
    client.consume(tag="b", prefetch=10)
    client.publish(1, 2, 3)
    client.take()
    client.ack(1)
    client.publish(4, 5)
    tags = [each.method.consumer_tag for each in client.take(Basic.Deliver)]
    assert tags == ["b", "a"]


def test_a_higher_priority_comes_first_while_it_has_credit(client, declare):
    declare()
    client.consume(tag="low")
    client.consume(tag="high", prefetch=2, arguments={"x-priority": 5})
    client.publish(1, 2, 3)
    tags = [each.method.consumer_tag for each in client.take(Basic.Deliver)]
    assert tags == ["high", "high", "low"]


def test_a_single_active_consumer_has_all_until_it_is_gone(client, declare):
    declare(arguments={"x-single-active-consumer": True})
    client.consume(tag="a", prefetch=2)
    client.consume(tag="b", prefetch=2)
    client.publish(1, 2, 3)
    assert [each.method.consumer_tag for each in client.take(Basic.Deliver)] == ["a", "a"]
    client.call(Basic.Cancel("a"))
    assert [each.method.consumer_tag for each in client.take(Basic.Deliver)] == ["b"]


def test_automatic_acknowledgement_forgets_at_once(broker, client, declare):
    declare()
    client.consume(prefetch=1, no_ack=True)
    client.publish(1, 2, 3)
    assert client.bodies() == [1, 2, 3]
    assert broker.counts("q") == (0, 0, 1)
    assert len(list(broker.truth.of(Acknowledged))) == 3
    client.ack(1)
    assert exception(client) == (406, "unknown delivery tag 1")


def test_each_channel_numbers_its_deliveries(client, declare):
    declare()
    client.publish(1, 2)
    client.consume(channel=1, prefetch=1)
    client.consume(channel=2, prefetch=1)
    came = [(each.channel, each.method.delivery_tag) for each in client.take(Basic.Deliver)]
    assert came == [(1, 1), (2, 1)]


def test_deliveries_may_be_slow_and_come_in_bursts(time):
    class Slow(Behaviour):
        def delivery_delay_s(self, queue):
            return 1.0

        def burst(self, queue):
            return 2

    client = Client(ModelBroker(time, behaviour=Slow())).open()
    client.declare()
    client.consume()
    client.publish(*range(5))
    assert client.bodies() == []
    for expected in ([0, 1], [2, 3], [4], []):
        time.advance(1)
        assert client.bodies() == expected


# --- acknowledgements ---------------------------------------------------------------------------


def test_an_acknowledged_message_is_forgotten(broker, client, declare):
    declare()
    client.publish(1, 2, 3)
    client.consume()
    client.ack(2)
    assert broker.counts("q").unacked == 2
    client.ack(3, multiple=True)
    assert broker.counts("q").unacked == 0
    assert [each.message for each in broker.truth.of(Acknowledged)] == [2, 1, 3]


def test_tag_0_with_multiple_acknowledges_all(broker, client, declare):
    declare()
    client.ack(0, multiple=True)
    client.publish(1, 2, 3)
    client.consume()
    client.ack(0, multiple=True)
    assert broker.counts("q").unacked == 0


@pytest.mark.parametrize("multiple", [False, True])
def test_a_tag_is_known_until_it_is_acknowledged(client, declare, multiple):
    declare()
    client.publish(1, 2)
    client.consume()
    client.ack(1)
    client.ack(1, multiple)
    assert exception(client) == (406, "unknown delivery tag 1")


@pytest.mark.parametrize(
    "method", [Basic.Ack(7), Basic.Nack(7), Basic.Reject(7), Basic.Ack(7, multiple=True)]
)
def test_a_tag_that_was_never_given_is_unknown(client, method):
    client.send(method)
    assert exception(client) == (406, "unknown delivery tag 7")


def test_a_tag_is_known_on_its_own_channel_only(client, declare):
    declare()
    client.publish(1)
    client.consume()
    client.ack(1, channel=2)
    assert exception(client) == (406, "unknown delivery tag 1")


# --- get, consume, cancel -----------------------------------------------------------------------


def test_get_answers_one_message_and_how_many_are_left(client, declare):
    declare()
    client.publish(1, 2, 3)
    got = client.get()
    assert (got.body, got.method.message_count, got.method.redelivered) == (b"1", 2, False)
    assert (got.method.exchange, got.method.routing_key) == ("", "q")
    assert client.get(no_ack=True).body == b"2"
    assert client.get().body == b"3"
    assert isinstance(client.get().method, Basic.GetEmpty)


def test_a_cancelled_consumer_keeps_what_it_has(broker, client, declare):
    declare()
    client.publish(1, 2)
    client.consume(prefetch=1)
    assert client.call(Basic.Cancel("c")).consumer_tag == "c"
    assert broker.counts("q") == (1, 1, 0)
    client.ack(1)
    assert broker.counts("q") == (1, 0, 0)
    assert isinstance(client.call(Basic.Cancel("unknown")), Basic.CancelOk)


def test_a_consumer_without_a_tag_gets_one(client, declare):
    declare()
    assert client.consume(tag="").consumer_tag.startswith("amq.ctag-")


def test_a_consumer_tag_is_used_once_on_a_channel(client, declare):
    declare()
    client.consume(channel=2)
    client.consume()
    client.send(Basic.Consume(queue="q", consumer_tag="c"))
    assert exception(client) == (530, "attempt to reuse consumer tag 'c'")


@pytest.mark.parametrize("first", [False, True])
def test_an_exclusive_consumer_of_a_classic_queue_is_alone(client, first):
    client.declare()
    client.consume(exclusive=first)
    client.send(Basic.Consume(queue="q", consumer_tag="d", exclusive=not first))
    assert exception(client) == (403, "queue 'q' in vhost '/' in exclusive use")


def test_a_quorum_queue_does_not_look_at_exclusive(client):
    client.declare(quorum=True)
    client.consume(exclusive=True)
    assert client.consume(tag="d", exclusive=True).consumer_tag == "d"


def test_prefetch_by_size_is_not_implemented(client):
    client.send(Basic.Qos(prefetch_size=1))
    assert exception(client)[0] == 540


def test_recover_without_requeue_is_not_implemented(client):
    client.send(Basic.Recover(requeue=False))
    assert exception(client)[0] == 540


def test_a_quorum_queue_with_a_single_active_consumer_has_no_get(client):
    client.declare(quorum=True, arguments={"x-single-active-consumer": True})
    client.send(Basic.Get(queue="q"))
    assert exception(client)[0] == 405


def test_nowait_is_not_answered(client):
    client.declare(nowait=True)
    client.send(Basic.Consume(queue="q", consumer_tag="c", nowait=True))
    client.send(Basic.Cancel("c", nowait=True))
    client.send(Queue.Purge(queue="q", nowait=True))
    client.send(Queue.Delete(queue="q", nowait=True))
    assert client.got == []


def test_the_truth_knows_what_was_sent_to_whom(broker, client, declare):
    declare()
    client.publish(b"x")
    client.consume(tag="mine")
    (sent,) = broker.truth.of(Delivered)
    assert sent[1:10] == (1, "q", "mine", 1, 1, 1, False, "", "q")
    assert sent.content.body == b"x"
