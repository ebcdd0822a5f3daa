"""Messages that are given back: where they go, how they are flagged, and how often they may."""

import pytest
from pika.spec import Basic, Channel
from support.amqp_client import Client

from rmqbench.simulation import ModelBroker
from rmqbench.simulation.truth import Removed, Requeued


@pytest.fixture
def given_back(time):
    """Deliver three of five messages, give some of them back, and return what comes then."""

    def given_back(kind, act, version="4.3.6", **settings):
        client = Client(ModelBroker(time, version=version)).open(channels=2)
        client.declare(quorum=kind == "quorum", **settings)
        client.publish(1, 2, 3, 4, 5)
        client.consume(prefetch=3)
        client.call(Basic.Cancel("c"))
        assert client.bodies() == [1, 2, 3]
        act(client)
        client.take()
        client.consume(tag="d", channel=2, prefetch=0)
        return client.flags()

    return given_back


def nack(*tags, multiple=False):
    return lambda client: [client.send(Basic.Nack(tag, multiple, True)) for tag in tags]


def reject(*tags):
    return lambda client: [client.send(Basic.Reject(tag, True)) for tag in tags]


def close(client):
    client.call(Channel.Close(0, "", 0, 0))


def test_a_classic_queue_puts_messages_back_to_their_places(given_back):
    back = [(1, True), (2, True), (3, True), (4, False), (5, False)]
    for act in (nack(3, multiple=True), nack(3, 1, 2), reject(2, 3, 1), close):
        assert given_back("classic", act) == back
    assert given_back("classic", lambda client: client.send(Basic.Recover(True))) == back
    assert given_back("classic", nack(2)) == [(2, True), (4, False), (5, False)]


def test_a_quorum_queue_lines_them_up_ahead_in_the_order_in_which_they_came_back(given_back):
    back = [(1, True), (2, True), (3, True), (4, False), (5, False)]
    for act in (nack(3, multiple=True), close):
        assert given_back("quorum", act) == back
    mixed = [(3, True), (1, True), (2, True), (4, False), (5, False)]
    assert given_back("quorum", nack(3, 1, 2)) == mixed
    assert given_back("quorum", reject(3, 1, 2)) == mixed


def test_a_quorum_queue_without_a_delivery_limit_puts_them_behind_all_others(given_back):
    behind = [(4, False), (5, False), (1, True), (2, True), (3, True)]
    assert given_back("quorum", nack(3, multiple=True), version="3.10.8") == behind
    assert given_back("quorum", reject(1, 2, 3), version="3.10.8") == behind
    unlimited = {"x-delivery-limit": -1}
    assert given_back("quorum", nack(1, 2, 3), arguments=unlimited) == behind
    ahead = [(1, True), (2, True), (3, True), (4, False), (5, False)]
    assert given_back("quorum", close, version="3.10.8") == ahead
    assert given_back("quorum", nack(1, 2, 3), "3.10.8", arguments={"x-delivery-limit": 9}) == ahead


def test_a_flag_is_set_on_what_came_back_only(client, declare):
    declare()
    client.publish(1)
    assert client.get().method.redelivered is False
    client.send(Basic.Reject(1, True))
    assert client.get().method.redelivered is True


def test_what_comes_back_is_delivered_again_at_once(broker, client, declare):
    declare()
    client.publish(1)
    client.consume(prefetch=1)
    client.send(Basic.Nack(1, False, True))
    deliveries = client.take(Basic.Deliver)
    assert [(each.method.delivery_tag, each.method.redelivered) for each in deliveries] == [
        (1, False),
        (2, True),
    ]
    assert [each.cause for each in broker.truth.of(Requeued)] == ["nack"]


@pytest.mark.parametrize("method", [Basic.Nack(1, False, False), Basic.Reject(1, False)])
def test_what_is_rejected_for_good_is_removed(broker, client, declare, method):
    declare()
    client.publish(1, 2)
    client.consume(prefetch=1)
    client.send(method)
    assert client.bodies() == [1, 2]
    assert [(each.message, each.cause) for each in broker.truth.of(Removed)] == [(1, "rejected")]


# --- counts and limits of quorum queues ---------------------------------------------------------


def headers_after(time, version, *acts, **settings):
    """Return the headers of a message of a quorum queue that was given back."""
    client = Client(ModelBroker(time, version=version)).open()
    client.declare(quorum=True, **settings)
    client.publish(1)
    headers = []
    for number, act in enumerate((*acts, None), 1):
        headers.append(client.get().properties.headers)
        if act:
            client.send(act(number))
    return headers


def nacked(tag):
    return Basic.Nack(tag, False, True)


def rejected(tag):
    return Basic.Reject(tag, True)


def test_deliveries_are_counted_in_headers_as_the_version_does(time):
    assert headers_after(time, "3.10.8", nacked, rejected) == [
        {"x-delivery-count": 0},
        {"x-delivery-count": 1},
        {"x-delivery-count": 2},
    ]
    assert headers_after(time, "4.0.5", nacked, rejected) == [
        None,
        {"x-delivery-count": 1},
        {"x-delivery-count": 2},
    ]
    assert headers_after(time, "4.3.6", nacked, rejected) == [
        None,
        {"x-acquired-count": 1},
        {"x-acquired-count": 2, "x-delivery-count": 1},
    ]


def test_a_classic_queue_counts_nothing(client):
    client.declare()
    client.publish(1)
    client.get()
    client.send(Basic.Reject(1, True))
    assert client.get().properties.headers is None


def removed_after(time, version, method, **settings):
    """Return how often a message was delivered until it was removed."""
    broker = ModelBroker(time, version=version)
    client = Client(broker).open()
    client.declare(quorum=True, **settings)
    client.publish(1)
    for number in range(1, 60):
        if not isinstance(client.get().method, Basic.GetOk):
            assert [each.cause for each in broker.truth.of(Removed)] == ["delivery_limit"]
            return number - 1
        client.send(method(number))
    return None


def test_the_delivery_limit_is_20_from_4_0_on(time):
    assert removed_after(time, "3.10.8", nacked) is None
    assert removed_after(time, "4.0.5", nacked) == 21
    assert removed_after(time, "4.0.5", rejected) == 21
    assert removed_after(time, "4.3.6", rejected) == 21


def test_from_4_3_on_a_nack_does_not_count(time):
    assert removed_after(time, "4.3.6", nacked) is None


def test_a_delivery_limit_can_be_given_and_taken_away(time):
    assert removed_after(time, "3.10.8", nacked, arguments={"x-delivery-limit": 2}) == 3
    assert removed_after(time, "4.3.6", rejected, arguments={"x-delivery-limit": 0}) == 1
    assert removed_after(time, "4.3.6", rejected, arguments={"x-delivery-limit": -1}) is None
    assert removed_after(time, "3.10.8", rejected, arguments={"x-delivery-limit": -1}) == 1


def test_consumers_that_die_count_against_the_limit(broker):
    client = Client(broker).open()
    client.declare(quorum=True, arguments={"x-delivery-limit": 2})
    client.publish(1, 2)
    for _ in range(3):
        client = Client(broker).open()
        client.consume()
        assert client.bodies() == [1, 2]
        client.session.disconnected()
    assert broker.counts("q") == (0, 0, 0)
    assert [each.message for each in broker.truth.of(Removed)] == [1, 2]
