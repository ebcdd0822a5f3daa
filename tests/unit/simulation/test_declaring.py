"""Exchanges, queues and bindings: what is declared, and what is refused in which words."""

import pika
import pytest
from pika.spec import Basic, Exchange, Queue
from support.amqp_client import Client

from rmqbench.simulation import ModelBroker
from rmqbench.simulation.truth import Declared, Deleted


def refused(answer):
    return answer.reply_code, answer.reply_text.partition(" - ")[2]


@pytest.fixture
def refusal(broker):
    """Call a method on a connection of its own, and return code and text of the exception."""

    def refusal(method):
        return refused(Client(broker).open().call(method))

    return refusal


def test_declaring_tells_how_much_is_ready_and_who_consumes(client, declare):
    answer = declare()
    assert (answer.queue, answer.message_count, answer.consumer_count) == ("q", 0, 0)
    client.publish(1, 2, 3)
    client.consume(prefetch=1)
    answer = declare()
    assert (answer.message_count, answer.consumer_count) == (2, 1)
    assert client.counts() == (2, 1)


def test_a_queue_without_a_name_gets_one(client):
    name = client.declare("").queue
    assert name.startswith("amq.gen-")
    assert client.declare("").queue != name
    client.declare("other")
    client.publish(b"1", key="other")
    assert client.get("").body == b"1"  # no name stands for the queue declared last


@pytest.mark.parametrize(
    ("first", "then", "text"),
    [
        (
            {"arguments": {"x-queue-mode": "lazy"}},
            {},
            "'x-queue-mode' for queue 'q' in vhost '/': received none but current is the value "
            "'lazy' of type 'longstr'",
        ),
        (
            {},
            {"arguments": {"x-max-length": 5}},
            "'x-max-length' for queue 'q' in vhost '/': received the value '5' of type 'signedint' "
            "but current is none",
        ),
        (
            {"quorum": True},
            {},
            "'x-queue-type' for queue 'q' in vhost '/': received none but current is the value "
            "'quorum' of type 'longstr'",
        ),
        (
            {},
            {"durable": False},
            "'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
        ),
        (
            {},
            {"auto_delete": True},
            "'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'",
        ),
    ],
)
def test_a_queue_is_declared_again_only_as_it_is(client, first, then, text):
    client.declare(**first)
    assert client.declare(**first).queue == "q"
    assert refused(client.declare(**then)) == (406, f"inequivalent arg {text}")


def test_a_classic_queue_is_one_with_and_without_its_type(client):
    client.declare()
    assert client.declare(arguments={"x-queue-type": "classic"}).queue == "q"


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        ({"queue": "amq.mine"}, 403, "queue name 'amq.mine' contains reserved prefix 'amq.*'"),
        (
            {"queue": "q", "arguments": {"x-max-length": -1}},
            406,
            "invalid arg 'x-max-length' for queue 'q' in vhost '/': {value_negative,-1}",
        ),
        (
            {"queue": "q", "arguments": {"x-queue-type": "quorum"}},
            406,
            "invalid property 'non-durable' for queue 'q' in vhost '/'",
        ),
        (
            {
                "queue": "q",
                "durable": True,
                "arguments": {"x-queue-type": "quorum", "x-queue-mode": "lazy"},
            },
            406,
            "invalid arg 'x-queue-mode' for queue 'q' in vhost '/' of queue type "
            "rabbit_quorum_queue",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(refusal, settings, code, text):
    assert refusal(Queue.Declare(**settings)) == (code, text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x-queue-type": "odd"}, "'x-queue-type' for queue 'q' in vhost '/': "),
        ({"x-expires": 0}, "'x-expires' for queue 'q' in vhost '/': {value_zero,0}"),
        ({"x-max-length": "5"}, "'x-max-length' for queue 'q' in vhost '/': "),
        ({"x-max-length": True}, "'x-max-length' for queue 'q' in vhost '/': "),
        ({"x-overflow": "odd"}, "'x-overflow' for queue 'q' in vhost '/': "),
        ({"x-dead-letter-routing-key": "k"}, "'x-dead-letter-routing-key' for queue 'q' in "),
    ],
)
def test_arguments_are_checked(refusal, arguments, text):
    code, refused_for = refusal(Queue.Declare(queue="q", durable=True, arguments=arguments))
    assert code == 406
    assert refused_for.startswith(f"invalid arg {text}")


def test_a_queue_is_bound_by_its_name_where_neither_is_given(client):
    name = client.declare("").queue
    client.call(Queue.Bind(queue="", exchange="amq.direct", routing_key=""))
    client.publish(1, exchange="amq.direct", key=name)
    assert client.get(name).body == b"1"


@pytest.mark.parametrize(
    "method",
    [
        Queue.Declare(queue="none", passive=True),
        Queue.Purge(queue="none"),
        Queue.Bind(queue="none", exchange="amq.direct"),
        Basic.Get(queue="none"),
        Basic.Consume(queue="none"),
    ],
)
def test_a_queue_that_is_not_there_is_not_found(refusal, method):
    assert refusal(method) == (404, "no queue 'none' in vhost '/'")


def test_a_queue_that_is_not_there_is_deleted_all_the_same(client):
    assert client.call(Queue.Delete(queue="none")).message_count == 0


def test_an_exclusive_queue_is_locked_for_others_and_ends_with_its_connection(broker, client):
    client.declare(exclusive=True, durable=False)
    other = Client(broker).open()
    code, text = refused(other.call(Basic.Get(queue="q")))
    assert code == 405
    assert text.startswith("cannot obtain exclusive access to locked queue 'q' in vhost '/'.")
    client.session.disconnected()
    assert [each.cause for each in broker.truth.of(Deleted)] == ["exclusive"]
    assert Client(broker).open().declare(durable=False).queue == "q"


def test_an_auto_delete_queue_ends_with_its_last_consumer(broker, client):
    client.declare(auto_delete=True)
    client.consume(tag="a")
    client.consume(tag="b")
    client.call(Basic.Cancel("a"))
    assert client.counts() == (0, 1)
    client.call(Basic.Cancel("b"))
    assert not broker.hosts["/"].queues
    assert [each.cause for each in broker.truth.of(Deleted)] == ["auto-delete"]


# --- deleting and purging -----------------------------------------------------------------------


def test_deleting_tells_how_much_was_ready_and_cancels_consumers(broker, client, declare):
    declare()
    client.publish(1, 2, 3)
    client.consume(tag="mine", prefetch=1)
    answer = client.call(Queue.Delete(queue="q"), 2)
    assert answer.message_count == 2
    (cancel,) = client.take(Basic.Cancel)
    assert (cancel.channel, cancel.method.consumer_tag) == (1, "mine")
    client.ack(1)  # of a queue that is gone: no error
    assert client.call(Queue.Declare(queue="other")).queue == "other"
    assert [each.queue for each in broker.truth.of(Declared)] == ["q", "other"]


def test_a_client_that_does_not_hear_of_cancels_is_told_nothing(broker):
    client = Client(broker, capabilities={}).open()
    client.declare()
    client.consume()
    client.call(Queue.Delete(queue="q"))
    assert client.got == []


def test_a_classic_queue_is_deleted_only_if_empty_or_unused_where_asked(broker):
    for flag, what in (("if_empty", "not empty"), ("if_unused", "in use")):
        client = Client(broker).open(channels=2)
        client.declare()
        client.publish(1, 2)
        client.consume(prefetch=1)
        answer = client.call(Queue.Delete(queue="q", **{flag: True}), 2)
        assert refused(answer) == (406, f"queue 'q' in vhost '/' {what}")
        client.session.disconnected()


@pytest.mark.parametrize(("flag", "name"), [("if_empty", "if-empty"), ("if_unused", "if-unused")])
def test_a_quorum_queue_knows_no_such_conditions(client, flag, name):
    client.declare(quorum=True)
    assert refused(client.call(Queue.Delete(queue="q", **{flag: True}))) == (
        540,
        f"cannot delete queue 'q' in vhost '/'. queue.delete operations with {name} flag set are "
        "not supported by quorum queues",
    )


def test_purging_removes_what_is_ready_and_nothing_else(broker, client, declare):
    declare()
    client.publish(1, 2, 3)
    client.consume(prefetch=1)
    assert client.call(Queue.Purge(queue="q")).message_count == 2
    assert broker.counts("q") == (0, 1, 1)
    assert broker.purge("q") == 0


# --- exchanges and bindings ---------------------------------------------------------------------


def routed(client, exchange, keys, **settings):
    """Publish each key once, and return those that have come to the queue."""
    for number, key in enumerate(keys):
        client.publish(number, exchange=exchange, key=key, **settings)
    came = []
    while isinstance((got := client.get()).method, Basic.GetOk):
        came.append(keys[int(got.body)])
        client.ack(got.method.delivery_tag)
    return came


def test_the_default_exchange_leads_to_the_queue_of_the_same_name(client, declare):
    declare("a")
    declare("b")
    client.publish(1, key="a")
    client.publish(2, key="b")
    assert client.get("b").body == b"2"


def test_a_direct_exchange_compares_keys(client, declare):
    declare()
    client.bind("x", key="a")
    assert routed(client, "x", ["a", "b", "a.b", ""]) == ["a"]


def test_a_fanout_exchange_leads_everywhere(client, declare):
    declare()
    client.bind("x", kind="fanout")
    assert routed(client, "x", ["a", ""]) == ["a", ""]


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("a.*", ["a.b"]),
        ("a.#", ["a", "a.b", "a.b.c"]),
        ("#", ["a", "a.b", "a.b.c", ""]),
        ("#.c", ["a.b.c"]),
        ("*.b.#", ["a.b", "a.b.c"]),
        ("a.b", ["a.b"]),
    ],
)
def test_a_topic_exchange_compares_words(client, pattern, keys):
    client.declare()
    client.bind("x", key=pattern, kind="topic")
    assert routed(client, "x", ["a", "a.b", "a.b.c", ""]) == keys


@pytest.mark.parametrize(
    ("binding", "comes"),
    [
        ({"a": "1", "b": "2"}, True),
        ({"a": "1", "b": "3"}, False),
        ({"x-match": "any", "a": "1", "b": "3"}, True),
        ({"x-match": "any", "c": "1"}, False),
        ({"a": None}, True),
        ({"x-own": "1"}, True),
        ({"x-match": "all-with-x", "x-own": "1"}, False),
    ],
)
def test_a_headers_exchange_compares_headers(client, binding, comes):
    client.declare()
    client.bind("x", kind="headers", **binding)
    properties = pika.BasicProperties(headers={"a": "1", "b": "2"})
    assert bool(routed(client, "x", ["k"], properties=properties)) == comes


def test_a_message_comes_once_to_a_queue_however_many_bindings_lead_there(client, declare):
    declare()
    for key in ("a", "#", "*"):
        client.bind("x", key=key, kind="topic")
    assert routed(client, "x", ["a"]) == ["a"]


def test_exchanges_may_be_bound_to_exchanges(client):
    client.declare()
    client.bind("last", key="a")
    client.call(Exchange.Declare(exchange="first", type="fanout"))
    client.call(Exchange.Bind(destination="last", source="first", routing_key=""))
    assert routed(client, "first", ["a", "b"]) == ["a"]
    client.call(Exchange.Unbind(destination="last", source="first", routing_key=""))
    assert routed(client, "first", ["a"]) == []


def test_an_alternate_exchange_gets_what_is_bound_to_nothing(client):
    client.declare()
    client.bind("rest", kind="fanout")
    client.call(
        Exchange.Declare(exchange="x", type="direct", arguments={"alternate-exchange": "rest"})
    )
    assert routed(client, "x", ["a"]) == ["a"]


def test_an_unbound_queue_gets_nothing_more(client, declare):
    declare()
    client.bind("x", key="a")
    client.call(Queue.Unbind(queue="q", exchange="x", routing_key="a"))
    assert routed(client, "x", ["a"]) == []


def test_an_exchange_is_declared_again_only_as_it_is(refusal, client):
    client.call(Exchange.Declare(exchange="x", type="direct", durable=True))
    assert refusal(Exchange.Declare(exchange="x", type="fanout", durable=True)) == (
        406,
        "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'fanout' but current is "
        "'direct'",
    )


def test_exchanges_are_not_found_or_refused_in_rabbitmqs_words(refusal):
    assert refusal(Exchange.Declare(exchange="x", passive=True)) == (
        404,
        "no exchange 'x' in vhost '/'",
    )
    assert refusal(Exchange.Declare(exchange="amq.mine"))[0] == 403
    assert refusal(Exchange.Delete(exchange="amq.direct"))[0] == 403
    assert refusal(Exchange.Delete(exchange=""))[0] == 403
    assert refusal(Exchange.Declare(exchange="x", type="strange"))[0] == 503


def test_a_deleted_exchange_is_gone(client, refusal):
    client.declare()
    client.bind("x", key="a")
    assert refusal(Exchange.Delete(exchange="x", if_unused=True)) == (
        406,
        "exchange 'x' in vhost '/' in use",
    )
    client.call(Exchange.Delete(exchange="x"))
    assert client.call(Exchange.Delete(exchange="x")) is not None
    assert refusal(Exchange.Declare(exchange="x", passive=True))[0] == 404


def test_an_older_version_says_so(time):
    assert Client(ModelBroker(time, version="3.10.8")).open().start.server_properties[
        "version"
    ] == ("3.10.8")
