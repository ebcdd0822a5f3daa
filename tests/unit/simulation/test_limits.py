"""Greatest lengths, times to live, dead letters, and policies."""

import pika
import pytest
from pika.spec import Basic, Exchange, Queue
from support.amqp_client import Client

from rmqbench.simulation import Content, ModelBroker
from rmqbench.simulation.truth import DeadLettered, Deleted, Refused, Removed


def removed(broker):
    return [(each.message, each.cause) for each in broker.truth.of(Removed)]


def ready(client, queue="q"):
    """Get and keep all that is ready."""
    bodies = []
    while isinstance((got := client.get(queue)).method, Basic.GetOk):
        bodies.append(int(got.body))
    return bodies


# --- length -------------------------------------------------------------------------------------


def test_beyond_its_length_a_queue_drops_its_head(broker, publisher, declare):
    declare(arguments={"x-max-length": 2})
    publisher.publish(1, 2, 3, 4)
    assert publisher.confirms() == [("ack", 4, True)]
    assert removed(broker) == [(1, "maxlen"), (2, "maxlen")]
    assert ready(publisher) == [3, 4]


def test_only_ready_messages_count(broker, client, declare):
    declare(arguments={"x-max-length": 1})
    client.consume(prefetch=2)
    client.publish(1, 2, 3, 4)
    assert client.bodies() == [1, 2]
    assert removed(broker) == [(3, "maxlen")]


@pytest.mark.parametrize(
    ("version", "kind", "properties"),
    [("4.3.6", "classic", 0), ("4.0.5", "quorum", 0), ("4.3.6", "quorum", 3)],
)
def test_length_in_bytes_counts_bodies_and_in_quorum_queues_of_4_3_properties(
    time, version, kind, properties
):
    """Delivery mode 2 alone is three bytes of properties."""
    broker = ModelBroker(time, version=version)
    client = Client(broker).open()
    most = 10 + 3 * properties
    client.declare(quorum=kind == "quorum", arguments={"x-max-length-bytes": most})
    client.publish(b"55555", b"4444", b"1")
    assert not removed(broker)
    client.publish(b"1")
    assert removed(broker) == [(1, "maxlen")]
    client.publish(b"55555")
    assert removed(broker)[1:] == [(2, "maxlen")]
    assert broker.counts("q").ready == 3


def test_what_is_given_back_may_be_too_much(broker, client, declare):
    declare(arguments={"x-max-length": 1})
    client.publish(1)
    client.get()
    client.publish(2)
    client.send(Basic.Nack(1, False, True))
    assert removed(broker) == [(1, "maxlen")]


def test_a_classic_queue_that_rejects_nacks_what_it_has_no_room_for(broker, publisher):
    publisher.declare(arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    publisher.publish(1, 2, 3)
    assert publisher.confirms() == [("ack", 2, True), ("nack", 3, False)]
    assert [each.message for each in broker.truth.of(Refused)] == [3]
    publisher.get(no_ack=True)
    publisher.publish(4)
    assert publisher.confirms() == [("ack", 4, False)]


def test_a_quorum_queue_that_rejects_takes_one_more_and_waits_until_it_is_low(broker, publisher):
    publisher.declare(quorum=True, arguments={"x-max-length": 5, "x-overflow": "reject-publish"})
    for body in range(8):
        publisher.publish(body)
    assert [kind for kind, *_ in publisher.confirms()] == ["ack"] * 6 + ["nack"] * 2
    publisher.get(no_ack=True)
    publisher.publish(8)
    assert publisher.confirms() == [("nack", 9, False)]
    publisher.get(no_ack=True)
    publisher.publish(9)
    assert publisher.confirms() == [("ack", 10, False)]


# --- time to live -------------------------------------------------------------------------------


def test_messages_expire_with_the_queues_time_to_live(broker, client, time, declare):
    declare(arguments={"x-message-ttl": 1000})
    client.publish(1)
    time.advance(0.6)
    client.publish(2)
    time.advance(0.6)
    assert removed(broker) == [(1, "expired")]
    assert client.counts() == (1, 0)
    time.advance(0.5)
    assert client.counts() == (0, 0)


def test_a_message_may_have_a_shorter_life_of_its_own(broker, client, time, declare):
    declare(arguments={"x-message-ttl": 1000})
    client.publish(1, properties=pika.BasicProperties(expiration="500"))
    client.publish(2, properties=pika.BasicProperties(expiration="5000"))
    time.advance(0.6)
    assert removed(broker) == [(1, "expired")]
    time.advance(0.5)
    assert removed(broker) == [(1, "expired"), (2, "expired")]


def test_a_message_expires_at_the_head_only(broker, client, time, declare):
    declare()
    client.publish(1)
    client.publish(2, properties=pika.BasicProperties(expiration="500"))
    time.advance(1)
    assert broker.counts("q").ready == 2
    assert client.get().body == b"1"
    assert isinstance(client.get().method, Basic.GetEmpty)
    assert removed(broker) == [(2, "expired")]


def test_what_is_unacknowledged_does_not_expire_until_it_is_given_back(
    broker, client, time, declare
):
    declare(arguments={"x-message-ttl": 1000})
    client.publish(1)
    client.get()
    time.advance(5)
    assert removed(broker) == []
    client.send(Basic.Nack(1, False, True))
    assert removed(broker) == [(1, "expired")]


def test_a_time_to_live_of_0_expires_what_cannot_be_delivered_at_once(
    broker, client, time, declare
):
    declare(arguments={"x-message-ttl": 0})
    client.publish(1)
    time.advance(0)
    assert removed(broker) == [(1, "expired")]
    client.consume()
    client.publish(2)
    assert client.bodies() == [2]


def test_a_queue_that_nobody_uses_expires(broker, client, time, kind, declare):
    """A quorum queue looks every 5 s."""
    declare(arguments={"x-expires": 1000})
    for _ in range(5):
        time.advance(0.8)
        client.get()
    client.consume()
    time.advance(10)  # it is 14
    client.call(Basic.Cancel("c"))
    time.advance(0.9)
    assert client.counts() == (0, 0)
    time.advance(0.9 if kind == "classic" else 4.9)
    assert "q" in broker.hosts["/"].queues
    time.advance(0.2)
    assert "q" not in broker.hosts["/"].queues
    assert [each.cause for each in broker.truth.of(Deleted)] == ["expires"]


# --- dead letters -------------------------------------------------------------------------------


@pytest.fixture
def letters(client, declare):
    """Declare a queue whose dead letters come to the queue ``dead``."""

    def letters(**arguments):
        client.declare("dead")
        client.bind("dlx", "dead", kind="fanout")
        declare(arguments={"x-dead-letter-exchange": "dlx", **arguments})

    return letters


def test_a_rejected_message_becomes_a_dead_letter(broker, client, letters):
    letters()
    client.publish(1)
    client.get()
    client.send(Basic.Reject(1, False))
    got = client.get("dead")
    headers = got.properties.headers
    (death,) = headers["x-death"]
    assert (death["count"], death["queue"], death["reason"]) == (1, "q", "rejected")
    assert (death["exchange"], death["routing-keys"]) == ("", ["q"])
    assert headers["x-first-death-queue"] == headers["x-last-death-queue"] == "q"
    assert headers["x-first-death-reason"] == "rejected"
    assert (got.method.exchange, got.method.routing_key) == ("dlx", "q")
    assert [each[1:] for each in broker.truth.of(DeadLettered)] == [(1, "q", "dlx")]


def test_what_overflows_or_expires_becomes_a_dead_letter(client, time, letters):
    letters(**{"x-max-length": 1, "x-message-ttl": 1000})
    client.publish(1, 2)
    time.advance(2)
    reasons = [client.get("dead").properties.headers["x-last-death-reason"] for _ in range(2)]
    assert reasons == ["maxlen", "expired"]


def test_what_was_delivered_too_often_becomes_a_dead_letter(client):
    client.declare("dead")
    client.declare(
        quorum=True,
        arguments={
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "dead",
            "x-delivery-limit": 0,
        },
    )
    client.publish(1)
    client.get()
    client.send(Basic.Reject(1, True))
    assert client.get("dead").properties.headers["x-last-death-reason"] == "delivery_limit"


def test_deaths_are_counted_for_each_queue_and_reason(client, time, declare):
    client.declare("dead", arguments={"x-dead-letter-exchange": "", "x-message-ttl": 0})
    client.bind("dlx", "dead", kind="fanout")
    declare(arguments={"x-dead-letter-exchange": "dlx"})
    client.publish(1)
    for times in (1, 2):
        got = client.get()
        client.send(Basic.Reject(got.method.delivery_tag, False))
        time.advance(0)  # it expires in the queue of dead letters, and comes back by its key
        got = client.get()
        headers = got.properties.headers
        assert [(each["queue"], each["reason"], each["count"]) for each in headers["x-death"]] == [
            ("dead", "expired", times),
            ("q", "rejected", times),
        ]
        assert (headers["x-first-death-queue"], headers["x-last-death-queue"]) == ("q", "dead")
        client.send(Basic.Nack(got.method.delivery_tag, False, True))


def test_what_a_queue_has_no_room_for_may_be_nacked_and_become_a_dead_letter(broker, publisher):
    publisher.declare("dead")
    overflow = {"x-max-length": 1, "x-overflow": "reject-publish-dlx"}
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    publisher.declare(arguments={**overflow, **dead})
    publisher.publish(1, 2)
    assert publisher.confirms() == [("ack", 1, True), ("nack", 2, False)]
    assert publisher.get("dead").body == b"2"


def test_a_dead_letter_has_no_expiration_any_more(client, time, letters):
    letters()
    client.publish(1, properties=pika.BasicProperties(expiration="500"))
    time.advance(1)
    properties = client.get("dead").properties
    assert properties.expiration is None
    assert properties.headers["x-death"][0]["original-expiration"] == "500"


def test_a_message_that_dies_in_a_circle_by_itself_is_dropped(broker, client, time):
    client.declare(
        arguments={
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "q",
            "x-message-ttl": 1000,
        }
    )
    client.publish(1)
    time.advance(5)
    assert removed(broker) == [(1, "expired")]
    client.publish(2)
    client.get()
    client.send(Basic.Reject(1, False))
    assert broker.counts("q").ready == 1  # a client rejected it: no circle by itself


def test_a_dead_letter_exchange_that_is_not_there_drops(broker, client, declare):
    declare(arguments={"x-dead-letter-exchange": "none"})
    client.publish(1)
    client.get()
    client.send(Basic.Reject(1, False))
    assert removed(broker) == [(1, "rejected")]
    assert not list(broker.truth.of(DeadLettered))


# --- policies and the operator ------------------------------------------------------------------


def test_a_policy_holds_from_now_on(broker, client, declare):
    declare()
    client.publish(1, 2, 3)
    broker.set_policy("short", "^q$", {"max-length": 1})
    assert removed(broker) == [(1, "maxlen"), (2, "maxlen")]
    broker.clear_policy("short")
    client.publish(4, 5)
    assert broker.counts("q").ready == 3


def test_a_policy_is_for_the_queues_whose_names_match(broker, client):
    client.declare("one")
    client.declare("two")
    broker.set_policy("short", "^o", {"max-length": 0})
    for queue in ("one", "two"):
        client.publish(1, key=queue)
    assert (broker.counts("one").ready, broker.counts("two").ready) == (0, 1)


def test_the_lower_of_argument_and_policy_holds(broker, client, declare):
    declare(arguments={"x-max-length": 2})
    broker.set_policy("longer", "", {"max-length": 5})
    client.publish(1, 2, 3, 4)
    assert broker.counts("q").ready == 2
    broker.set_policy("shorter", "", {"max-length": 1}, priority=1)
    assert broker.counts("q").ready == 1


def test_an_argument_wins_where_there_is_no_lower_one(broker, publisher, declare):
    declare(arguments={"x-max-length": 0, "x-overflow": "drop-head"})
    broker.set_policy("reject", "", {"overflow": "reject-publish"})
    publisher.publish(1)
    assert publisher.confirms() == [("ack", 1, False)]


def test_a_policy_gives_a_time_to_live_to_what_comes_later(broker, client, time, declare):
    declare()
    client.publish(1)
    broker.set_policy("ttl", "", {"message-ttl": 100})
    client.publish(2)
    time.advance(1)
    assert client.get().body == b"1"
    assert isinstance(client.get().method, Basic.GetEmpty)


def test_a_stricter_delivery_limit_holds_and_none_is_the_loosest(broker, client):
    client.declare(quorum=True, arguments={"x-delivery-limit": 3})
    queue = broker.hosts["/"].queues["q"]
    for policy, limit in ((1, 1), (9, 3), (-1, 3)):
        broker.set_policy("limit", "", {"delivery-limit": policy})
        assert queue.limits.delivery_limit == limit


def test_a_policy_sets_the_delivery_limit(broker, client):
    client.declare(quorum=True)
    broker.set_policy("limit", "", {"delivery-limit": 0})
    client.publish(1)
    client.get()
    client.send(Basic.Reject(1, True))
    assert removed(broker) == [(1, "delivery_limit")]


def test_the_operator_purges_deletes_and_publishes(broker, client, declare):
    declare()
    number = broker.publish("", "q", Content(b"\x00\x00", b"9"))
    assert number == 1
    assert client.get().body == b"9"
    client.publish(1, 2)
    assert broker.purge("q") == 2
    client.publish(3)
    assert broker.delete("q") == 1
    assert client.call(Queue.Declare(queue="q", passive=True)).reply_code == 404


def test_a_virtual_host_is_deleted_with_its_queues_and_connections(broker, time):
    broker.add_virtual_host("here")
    broker.add_virtual_host("here")
    client = Client(broker, host="here").open()
    client.declare()
    broker.delete_virtual_host("here")
    assert client.lost
    assert [each.cause for each in broker.truth.of(Deleted)] == ["delete"]
    assert list(broker.hosts) == ["/"]


def test_exchanges_that_are_to_go_with_their_last_binding_do(broker, client):
    client.declare()
    client.call(Exchange.Declare(exchange="x", type="fanout", auto_delete=True))
    client.call(Queue.Bind(queue="q", exchange="x"))
    client.call(Queue.Delete(queue="q"))
    assert "x" not in broker.hosts["/"].exchanges


def test_the_model_starts_with_the_exchanges_of_the_specification(time):
    names = ModelBroker(time).hosts["/"].exchanges
    assert {"amq.direct", "amq.fanout", "amq.topic", "amq.headers"} <= set(names)
