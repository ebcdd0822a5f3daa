"""What becomes of a publish: confirmed, nacked, returned, or refused."""

import pika
import pytest
from pika.spec import Basic, Channel
from support.amqp_client import Client

from rmqbench.simulation import Behaviour, ModelBroker
from rmqbench.simulation.truth import Confirmed, Published, Returned, Routed, Stored


class Slow(Behaviour):
    """Takes a while to write, each message as long as it says (in seconds)."""

    def __init__(self, *delays, grouped=True):
        self.delays, self.grouped = list(delays), grouped

    def confirm_delay_s(self, queue, message):
        return self.delays[message - 1]

    def groups_confirms(self):
        return self.grouped


def slow(time, *delays, quorum=False, **settings):
    client = Client(ModelBroker(time, behaviour=Slow(*delays, **settings))).open(confirm=True)
    client.declare(quorum=quorum)
    return client


def test_a_publish_is_confirmed(publisher, declare):
    declare()
    publisher.publish(1)
    assert publisher.confirms() == [("ack", 1, False)]


def test_confirms_that_are_due_together_are_one(publisher, declare):
    declare()
    publisher.publish(1, 2, 3)
    assert publisher.confirms() == [("ack", 3, True)]
    publisher.publish(4)
    assert publisher.confirms() == [("ack", 4, False)]


def test_without_confirm_mode_nothing_is_confirmed(broker, client, declare):
    declare()
    client.publish(1)
    assert client.got == []
    assert next(broker.truth.of(Published)).tag == 0


def test_each_channel_counts_its_own_publishes(broker, client, declare):
    declare()
    publisher = Client(broker).open(channels=2, confirm=True)
    publisher.publish(1)
    publisher.publish(2, 3, channel=2)
    acks = publisher.take(Basic.Ack)
    assert [(each.channel, each.method.delivery_tag) for each in acks] == [(1, 1), (2, 2)]


def test_a_confirm_comes_when_the_queue_has_written(time):
    client = slow(time, 0.5)
    client.publish(1)
    time.advance(0.4)
    assert client.confirms() == []
    time.advance(0.2)
    assert client.confirms() == [("ack", 1, False)]


def test_confirms_may_come_in_another_order(time):
    client = slow(time, 0.3, 0.1, 0.1, 0.2)
    client.publish(1, 2, 3, 4)
    time.advance(0.15)
    assert client.confirms() == [("ack", 2, False), ("ack", 3, False)]
    time.advance(1)
    assert client.confirms() == [("ack", 4, False), ("ack", 1, False)]


def test_messages_that_are_written_together_are_confirmed_together(time):
    client = slow(time, 0.1, 0.1, 0.2, 0.1)
    client.publish(1, 2, 3, 4)
    time.advance(0.1)
    assert client.confirms() == [("ack", 2, True), ("ack", 4, False)]


def test_confirms_need_not_be_grouped(time):
    client = slow(time, 0, 0, 0, grouped=False)
    client.publish(1, 2, 3)
    assert client.confirms() == [("ack", 1, False), ("ack", 2, False), ("ack", 3, False)]


def test_a_group_covers_nothing_that_is_not_settled(time):
    client = slow(time, 0.2, 0, 0)
    client.publish(1, 2, 3)
    assert client.confirms() == [("ack", 2, False), ("ack", 3, False)]
    time.advance(1)
    client = slow(time, 0, 0.2, 0)
    client.publish(1, 2, 3)
    assert client.confirms() == [("ack", 1, True), ("ack", 3, False)]
    (first, last) = client.session.broker.truth.of(Confirmed)
    assert (first.messages, last.messages) == ((1,), (3,))


def test_a_transient_message_is_confirmed_at_once_by_a_classic_queue(time):
    client = slow(time, 0.5)
    client.publish(1, properties=pika.BasicProperties())
    assert client.confirms() == [("ack", 1, False)]


def test_a_confirm_waits_for_every_queue_that_a_message_was_routed_to(time):
    class OneIsSlow(Behaviour):
        def confirm_delay_s(self, queue, message):
            return 1.0 if queue == "slow" else 0.0

    broker = ModelBroker(time, behaviour=OneIsSlow())
    client = Client(broker).open(confirm=True)
    for queue in ("quick", "slow"):
        client.declare(queue)
        client.bind("x", queue, "k")
    client.publish(1, exchange="x", key="k")
    assert client.confirms() == []
    assert broker.counts("quick").ready == 1
    time.advance(1)
    assert client.confirms() == [("ack", 1, False)]


def test_one_queue_that_refuses_makes_it_a_nack_although_another_has_it(broker, publisher):
    publisher.declare("full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    publisher.declare("roomy")
    for queue in ("full", "roomy"):
        publisher.bind("x", queue, "k")
    publisher.publish(1, exchange="x", key="k")
    assert publisher.confirms() == [("nack", 1, False)]
    assert (broker.counts("full").ready, broker.counts("roomy").ready) == (0, 1)


def test_acks_and_nacks_that_are_due_together_cover_only_their_own(broker, publisher):
    publisher.declare("full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    publisher.declare()
    data = []
    publisher._cut = lambda piece: data.append(piece) or []
    publisher.publish(1, 2)
    publisher.publish(3, key="full")
    publisher.publish(4)
    publisher.publish(5, key="full")
    publisher.session.receive(b"".join(data))
    assert publisher.confirms() == [
        ("ack", 2, True),
        ("ack", 4, False),
        ("nack", 3, False),
        ("nack", 5, False),
    ]


def test_deleting_a_queue_confirms_what_was_under_way(time):
    client = slow(time, 0.5)
    client.publish(1)
    client.session.broker.delete("q")
    time.advance(1)
    assert client.confirms() == [("ack", 1, False)]


def test_what_cannot_be_routed_is_confirmed(broker, publisher):
    publisher.publish(1, key="nowhere")
    assert publisher.confirms() == [("ack", 1, False)]
    assert not list(broker.truth.of(Routed))


def test_what_cannot_be_routed_and_is_mandatory_is_returned_first(broker, publisher):
    publisher.publish(b"body", key="nowhere", mandatory=True)
    returned, ack = publisher.got
    assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE")
    assert (returned.method.exchange, returned.method.routing_key) == ("", "nowhere")
    assert (returned.body, returned.properties.delivery_mode) == (b"body", 2)
    assert ack.method.delivery_tag == 1
    assert [each.message for each in broker.truth.of(Returned)] == [1]


def test_what_is_mandatory_and_routed_is_not_returned(publisher, declare):
    declare()
    publisher.publish(1, mandatory=True)
    assert publisher.take(Basic.Return) == []


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        ({"exchange": "none"}, 404, "NOT_FOUND - no exchange 'none' in vhost '/'"),
        (
            {"properties": pika.BasicProperties(expiration="soon")},
            406,
            "PRECONDITION_FAILED - invalid expiration 'soon': no_integer",
        ),
        (
            {"exchange": "inner"},
            403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'",
        ),
    ],
)
def test_a_publish_that_is_refused_ends_its_channel(broker, client, settings, code, text):
    client.call(pika.spec.Exchange.Declare(exchange="inner", internal=True))
    client.publish(1, **settings)
    (close,) = client.take(Channel.Close)
    assert (close.method.reply_code, close.method.reply_text) == (code, text)
    assert (close.method.class_id, close.method.method_id) == (60, 40)
    assert not list(broker.truth.of(Published))


@pytest.mark.parametrize(
    ("expiration", "why"),
    [("", "no_integer"), ("5s", '{leftover_string,"s"}'), ("-1", "{value_negative,-1}")],
)
def test_an_expiration_is_a_number_of_milliseconds(client, expiration, why):
    client.publish(1, properties=pika.BasicProperties(expiration=expiration))
    (close,) = client.take(Channel.Close)
    text = f"PRECONDITION_FAILED - invalid expiration '{expiration}': {why}"
    assert close.method.reply_text == text


def test_what_the_channel_is_owed_comes_before_its_end(publisher):
    publisher.declare()
    data = []
    publisher._cut = lambda piece: data.append(piece) or []
    publisher.publish(1)
    publisher.publish(2, exchange="none")
    publisher.session.receive(b"".join(data))
    assert [type(each.method) for each in publisher.got] == [Basic.Ack, Channel.Close]


def test_immediate_is_not_implemented(client):
    client.publish(1, immediate=True)
    (close,) = client.got
    assert close.method.reply_code == 540


@pytest.mark.parametrize(("version", "most"), [("3.10.8", 128 << 20), ("4.3.6", 16 << 20)])
def test_a_message_has_a_greatest_size(time, version, most):
    broker = ModelBroker(time, version=version)
    assert broker.max_message_bytes == most
    broker.max_message_bytes = 1000
    client = Client(broker).open()
    client.declare()
    client.publish(bytes(1000))
    assert client.got == []
    client.publish(bytes(1001))
    (close,) = client.got
    text = "PRECONDITION_FAILED - message size 1001 is larger than max size 1000"
    assert close.method.reply_text == text


def test_an_empty_body_is_a_body(client, declare):
    declare()
    client.publish(b"")
    assert client.get().body == b""


def test_content_is_delivered_to_the_byte(broker, client, declare):
    declare()
    properties = pika.BasicProperties(
        content_type="a/b",
        content_encoding="c",
        headers={"n": 1, "t": {"x": [1, "2", None]}},
        delivery_mode=2,
        priority=3,
        correlation_id="d",
        reply_to="e",
        expiration="100000",
        message_id="f",
        timestamp=17,
        type="g",
        user_id="guest",
        app_id="h",
        cluster_id="i",
    )
    client.publish(bytes(range(256)), properties=properties)
    got = client.get()
    assert got.properties == properties
    assert got.body == bytes(range(256))
    assert next(broker.truth.of(Published)).content.body == got.body


def test_the_truth_tells_each_step_in_its_order(broker, publisher, declare):
    declare()
    start = len(broker.truth.events)
    publisher.publish(b"x")
    kinds = [type(each) for each in broker.truth.events[start:]]
    assert kinds == [Published, Routed, Stored, Confirmed]
    published = broker.truth.events[start]
    assert (published.message, published.session, published.channel, published.tag) == (1, 1, 1, 1)
