"""What running brokers do and nobody would guess; the scripts of tests/parts compare it."""

import pika
import pytest
from pika.spec import Basic, Channel, Queue
from support.amqp_client import Client

from rmqbench.simulation import ModelBroker
from rmqbench.simulation.truth import Removed

VERSIONS = ("3.10.8", "4.0.5", "4.3.6")


@pytest.fixture
def client_of(time):
    """Open a client of a model of some version."""
    return lambda version: Client(ModelBroker(time, version=version)).open(channels=3)


def close(client, channel):
    client.call(Channel.Close(0, "", 0, 0), channel)
    client.call(Channel.Open(), channel)


def got(client, queue="q", many=1, **settings):
    """Get messages; return body, flag and headers of each."""
    there = []
    for _ in range(many):
        each = client.get(queue, **settings)
        headers = each.properties.headers or {}
        counts = {name: int(headers[name]) for name in headers if name.endswith("count")}
        there.append((int(each.body), each.method.redelivered, counts))
    return there


# --- consumers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_quorum_queue_counts_whoever_holds_something_as_a_consumer(client_of, version):
    client = client_of(version)
    client.declare(quorum=True)
    client.publish(1, 2, 3, 4)
    client.get()
    client.get()
    client.consume(channel=2, prefetch=1)
    client.call(Basic.Cancel("c"), 2)
    assert client.counts() == (1, 3)
    client.ack(1)
    client.ack(1, channel=2)
    assert client.counts() == (1, 1)


def test_those_who_wait_behind_a_single_active_consumer_of_a_quorum_queue_do_not_count(client):
    client.declare(quorum=True, arguments={"x-single-active-consumer": True})
    client.consume(tag="a")
    client.consume(tag="b")
    assert client.counts() == (0, 1)


@pytest.mark.parametrize(("version", "goes_on"), [*zip(VERSIONS, (False, True, True), strict=True)])
def test_before_4_the_next_single_active_consumer_of_a_classic_queue_is_forgotten(
    client_of, version, goes_on
):
    client = client_of(version)
    client.declare(arguments={"x-single-active-consumer": True})
    client.consume(tag="a", prefetch=1)
    client.consume(tag="b", prefetch=1, channel=2)
    client.publish(1, 2)
    client.take()
    client.call(Basic.Cancel("a"))
    assert client.bodies() == ([2] if goes_on else [])
    client.ack(1)
    assert client.bodies() == ([] if goes_on else [2])


# --- the end of a channel -----------------------------------------------------------------------


def test_a_quorum_queue_keeps_what_a_failed_channel_holds_until_the_client_answers(client):
    client.declare(quorum=True)
    client.publish(1, 2)
    client.consume(channel=2, prefetch=2)
    client.take()
    client.ack(99, channel=2)
    assert client.counts() == (0, 1)
    client.ack(1, channel=2)  # nobody reads it any more
    client.send(Channel.CloseOk(), 2)
    assert client.counts() == (2, 0)


def test_a_quorum_queue_goes_on_delivering_to_a_failed_channel(broker, client):
    client.declare(quorum=True)
    client.consume(channel=2, no_ack=True)
    client.consume(tag="d", channel=2, prefetch=1)
    client.ack(99, channel=2)
    client.publish(1, 2)
    assert client.bodies() == []
    assert broker.counts("q") == (0, 1, 2)  # the one without acknowledgement is gone
    client.session.disconnected()
    assert broker.counts("q") == (1, 0, 0)


def test_a_classic_queue_takes_back_at_once_what_a_failed_channel_holds(client):
    client.declare()
    client.publish(1, 2)
    client.consume(channel=2, prefetch=2)
    client.ack(99, channel=2)
    assert client.counts() == (2, 0)


@pytest.mark.parametrize(
    ("version", "order"),
    [
        ("3.10.8", [0, 9, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8, 14, 15, 12, 13]),
        ("4.3.6", [12, 13, 14, 15, 0, 9, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_a_channel_gives_back_to_a_quorum_queue_consumer_by_consumer(client_of, version, order):
    client = client_of(version)
    client.declare(quorum=True)
    client.publish(*range(16))
    for _ in range(12):
        client.get(channel=2)
    client.consume(tag="b", channel=2, prefetch=2)
    client.consume(tag="a", channel=2, prefetch=2)
    close(client, 2)
    assert [body for body, _, _ in got(client, many=16)] == order


def test_a_nack_of_many_is_as_one_for_each_consumer(client, declare):
    """Who has been settled with gets the next one before the others are."""
    declare()
    client.publish(*range(4))
    client.consume(tag="b", prefetch=1, channel=2)
    client.consume(tag="a", prefetch=1, channel=2)
    client.take()
    client.send(Basic.Nack(2, True, True), 2)
    delivered = [(each.method.consumer_tag, int(each.body)) for each in client.take()]
    assert delivered == [("a", 1), ("b", 0)]


def test_what_is_recovered_is_given_back_one_by_one(client, declare):
    declare()
    client.publish(*range(3))
    client.consume(prefetch=2)
    client.take()
    client.call(Basic.Recover(True))
    assert client.bodies() == [0, 1]


@pytest.mark.parametrize(("version", "order"), [("3.10.8", [2, 3, 1]), ("4.0.5", [1, 2, 3])])
@pytest.mark.parametrize("clean", [True, False], ids=["stop", "kill"])
def test_what_was_enqueued_anew_stays_behind_the_others_over_a_restart(
    client_of, version, order, clean
):
    client = client_of(version)
    client.declare(quorum=True)
    client.publish(1, 2, 3)
    client.get()
    client.send(Basic.Nack(1, False, True))
    broker = client.session.broker
    broker.restart(down_s=0, clean=clean)
    broker.timer.advance(1)
    again = Client(broker).open()
    assert [body for body, _, _ in got(again, many=3)] == order


# --- dead letters -------------------------------------------------------------------------------

DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


@pytest.mark.parametrize(
    ("version", "source", "target", "expected"),
    [
        ("3.10.8", "quorum", "quorum", [(1, False, {"x-delivery-count": 0})] * 2),
        ("4.0.5", "classic", "classic", [(1, False, {})] * 2),
        ("4.0.5", "quorum", "classic", [(1, False, {})] * 2),
        ("4.0.5", "quorum", "quorum", [(1, True, {"x-delivery-count": 1})] * 2),
        ("4.3.6", "classic", "classic", [(1, True, {}), (1, False, {})]),
        ("4.3.6", "quorum", "classic", [(1, True, {}), (1, False, {})]),
        (
            "4.3.6",
            "quorum",
            "quorum",
            [(1, True, {"x-acquired-count": 1, "x-delivery-count": 1}), (1, False, {})],
        ),
    ],
)
def test_the_first_delivery_of_a_dead_letter_may_be_flagged(
    client_of, version, source, target, expected
):
    """First by basic.reject, then by basic.nack, both without requeue."""
    client = client_of(version)
    client.declare("dead", quorum=target == "quorum")
    client.declare(quorum=source == "quorum", arguments=DEAD)
    for kill, wanted in zip((Basic.Reject, Basic.Nack), expected, strict=True):
        client.publish(1)
        settled = kill(client.get().method.delivery_tag, requeue=False)
        client.send(settled)
        assert got(client, "dead", no_ack=True) == [wanted]


@pytest.mark.parametrize(("version", "shown"), [*zip(VERSIONS, (False, True, True), strict=True)])
def test_the_last_death_is_in_headers_of_its_own_since_3_13(client_of, version, shown):
    client = client_of(version)
    client.declare("dead")
    client.declare(arguments=DEAD)
    client.publish(1)
    client.get()
    client.send(Basic.Reject(1, False))
    headers = client.get("dead").properties.headers
    assert ("x-last-death-queue" in headers) is shown
    assert headers["x-first-death-queue"] == "q"


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "left"), [("classic", [3, 4]), ("quorum", [0, 1])])
def test_a_quorum_queue_delivers_what_is_given_back_before_it_drops_what_is_too_much(
    broker, client, kind, left
):
    client.declare(quorum=kind == "quorum", arguments={"x-max-length": 2})
    client.consume(prefetch=2)
    client.publish(*range(5))
    client.take()
    client.send(Basic.Nack(2, True, True))
    assert client.bodies() == left
    assert len(list(broker.truth.of(Removed))) == (3 if kind == "classic" else 1)


@pytest.mark.parametrize(("kind", "left"), [("classic", 1), ("quorum", 2)])
def test_what_comes_to_the_head_expired_is_counted_by_the_basic_get_before_it(
    client, time, kind, left
):
    client.declare(quorum=kind == "quorum")
    client.publish(1)
    client.publish(2, properties=pika.BasicProperties(expiration="100", delivery_mode=2))
    client.publish(3)
    time.advance(1)
    assert client.get().method.message_count == left
    assert client.counts()[0] == 1


def test_of_a_policy_and_an_operator_policy_the_lower_number_holds(broker, client, declare):
    declare()
    broker.set_policy("p", "q", {"max-length": 3, "overflow": "reject-publish"})
    broker.set_policy("o", "q", {"max-length": 2, "overflow": "drop-head"}, operator=True)
    client.publish(*range(5))
    assert client.counts()[0] == 2
    broker.clear_policy("o", operator=True)
    broker.set_policy("p", "q", {"max-length": 1})
    assert client.counts()[0] == 1
    broker.set_policy("o", "other", {"max-length": 0}, operator=True)
    assert client.counts()[0] == 1


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (5, 6, "received '6' but current is '5'"),
        (5, None, "received none but current is the value '5' of type 'signedint'"),
        (None, 6, "received the value '6' of type 'signedint' but current is none"),
    ],
)
def test_an_argument_that_differs_is_named_with_its_type_only_where_the_other_one_is_missing(
    client, first, second, why
):
    for value in (first, second):
        arguments = {} if value is None else {"x-max-length": value}
        answer = client.declare(arguments=arguments)
    assert answer.reply_text.endswith(why)


def test_a_channel_that_is_not_closed_cannot_be_answered_to(client):
    answer = client.call(Channel.CloseOk())
    assert (answer.reply_code, answer.reply_text) == (503, "COMMAND_INVALID - unimplemented method")


def test_a_queue_that_is_gone_is_settled_with_in_silence(client, declare):
    declare()
    client.publish(1, 2)
    client.consume(prefetch=2, channel=2)
    client.call(Queue.Delete(queue="q"))
    client.take()
    client.ack(1, channel=2)
    client.send(Basic.Nack(2, False, True), 2)
    assert client.take() == []
