"""What a stop or a kill of the node leaves, and a leader that stands still."""

import random

import pika
import pytest
from pika.spec import Basic, Channel, Connection, Queue
from support.amqp_client import Client

from rmqbench.simulation import Behaviour, ModelBroker, SeededBehaviour
from rmqbench.simulation.truth import (
    Confirmed,
    Deleted,
    Recovered,
    Removed,
    Resumed,
    Stalled,
    Started,
    Stopped,
    Stored,
)


@pytest.fixture
def again(broker):
    """Connect anew."""

    def again(**settings):
        return Client(broker).open(**settings)

    return again


def test_a_kill_ends_connections_without_a_word(broker, client):
    broker.kill()
    assert client.lost
    assert client.got == []
    client.send_bytes(b"more")
    client.session.disconnected()


def test_a_stop_closes_connections_in_words(broker, client):
    broker.stop()
    (close,) = client.take(Connection.Close)
    assert (close.method.reply_code, close.method.reply_text) == (
        320,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
    )
    assert client.lost


@pytest.mark.parametrize("clean", [False, True])
def test_confirmed_persistent_messages_survive_in_durable_queues(
    broker, publisher, declare, time, again, clean
):
    declare()
    publisher.publish(*range(20))
    broker.restart(down_s=2, clean=clean)
    with pytest.raises(ConnectionRefusedError):
        again()
    time.advance(2)
    client = again()
    client.consume()
    assert client.bodies() == list(range(20))
    kinds = [type(each) for each in broker.truth.events]
    assert kinds.index(Stopped) < kinds.index(Started) < kinds.index(Recovered)


def test_a_kill_flags_all_that_a_classic_queue_recovers(broker, publisher, time, again):
    publisher.declare()
    publisher.publish(1, 2)
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    client = again()
    client.consume()
    assert client.flags() == [(1, True), (2, True)]


def test_a_quorum_queue_flags_only_what_was_delivered(broker, publisher, time, again):
    publisher.declare(quorum=True)
    publisher.publish(1, 2, 3)
    publisher.consume(prefetch=2)
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    client = again()
    client.consume()
    assert client.flags() == [(1, True), (2, True), (3, False)]


def test_a_stop_flags_only_what_was_delivered(broker, publisher, declare, time, again):
    declare()
    publisher.publish(1, 2)
    publisher.consume(prefetch=1)
    broker.restart(down_s=1, clean=True)
    time.advance(1)
    client = again()
    client.consume()
    assert client.flags() == [(1, True), (2, False)]


def test_transient_messages_are_gone_from_a_classic_queue(broker, client, time, again):
    client.declare("classic")
    client.declare("quorum", quorum=True)
    for queue in ("classic", "quorum"):
        client.publish(1, key=queue, properties=pika.BasicProperties())
    broker.restart(down_s=1, clean=True)
    time.advance(1)
    assert (broker.counts("classic").ready, broker.counts("quorum").ready) == (0, 1)
    assert [(each.queue, each.cause) for each in broker.truth.of(Removed)] == [
        ("classic", "restart")
    ]


def test_transient_queues_and_exchanges_are_gone(broker, client, time, again):
    client.declare("brief", durable=False)
    client.declare()
    client.bind("x", key="k")
    client.call(pika.spec.Exchange.Declare(exchange="brief"))
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    assert [each.queue for each in broker.truth.of(Deleted)] == ["brief"]
    assert "brief" not in broker.hosts["/"].exchanges
    client = again()
    client.publish(1, exchange="x", key="k")
    assert client.counts() == (1, 0)


def test_unconfirmed_messages_may_be_gone_after_a_kill(time):
    class Forgetful(Behaviour):
        def confirm_delay_s(self, queue, message):
            return 1.0

        def survives_kill(self, queue, message):
            return message % 2 == 0

    broker = ModelBroker(time, behaviour=Forgetful())
    client = Client(broker).open(confirm=True)
    client.declare()
    client.publish(1, 2, 3, 4)
    time.advance(0.5)
    client.publish(5, 6)
    time.advance(0.6)
    assert client.confirms() == [("ack", 4, True)]
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    client = Client(broker).open()
    client.consume()
    assert client.bodies() == [1, 2, 3, 4, 6]
    time.advance(10)
    assert len(list(broker.truth.of(Confirmed))) == 1


def test_without_confirms_nothing_is_sure_to_survive(time):
    class Forgetful(Behaviour):
        def survives_kill(self, queue, message):
            return False

    broker = ModelBroker(time, behaviour=Forgetful())
    client = Client(broker).open()
    client.declare()
    client.publish(1, 2)
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    assert broker.counts("q").ready == 0


def test_an_acknowledgement_may_be_forgotten_by_a_kill(time):
    class Forgetful(Behaviour):
        def ack_survives_kill(self, queue, message):
            return message != 2

    broker = ModelBroker(time, behaviour=Forgetful())
    client = Client(broker).open(confirm=True)
    client.declare()
    client.publish(1, 2, 3)
    client.consume()
    client.ack(3, multiple=True)
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    client = Client(broker).open()
    client.consume()
    assert client.flags() == [(2, True)]


def test_after_a_start_messages_may_be_held_back_and_counts_be_too_low(time):
    behaviour = SeededBehaviour(random.Random(3), recovery_s=4.0)
    broker = ModelBroker(time, behaviour=behaviour)
    client = Client(broker).open(confirm=True)
    client.declare()
    client.publish(*range(100))
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    (recovered,) = broker.truth.of(Recovered)
    assert recovered.ready == 100
    assert recovered.held_s > 0.5
    client = Client(broker).open()
    counts = {client.counts()[0] for _ in range(5)}
    assert len(counts) > 1
    assert max(counts) <= 100
    assert isinstance(client.get().method, Basic.GetEmpty)
    client.consume()
    assert client.bodies() == []
    time.advance(4)
    assert client.bodies() == list(range(100))


def test_a_stopped_node_is_not_stopped_again(broker):
    broker.stop()
    broker.kill()
    broker.start()
    broker.start()
    assert len(list(broker.truth.of(Stopped))) == len(list(broker.truth.of(Started))) == 1


def test_a_time_to_live_goes_on_while_the_node_is_down(broker, client, time):
    client.declare(arguments={"x-message-ttl": 1000})
    client.publish(1)
    broker.restart(down_s=5, clean=True)
    time.advance(3)
    assert not list(broker.truth.of(Removed))
    time.advance(3)
    assert [each.cause for each in broker.truth.of(Removed)] == ["expired"]


# --- a leader that stands still -----------------------------------------------------------------


@pytest.fixture
def stalled(broker, client):
    """A quorum queue with three messages that stands still for ten seconds."""
    client.declare(quorum=True)
    client.publish(1, 2, 3)
    broker.stall("q", 10)
    return client


def test_a_stalled_leader_makes_a_passive_declare_answer_0_after_a_quarter_of_a_second(
    broker, stalled, time
):
    stalled.send(Queue.Declare(queue="q", passive=True))
    stalled.send(Basic.Qos(0, 7))
    time.advance(0.2)
    assert stalled.got == []
    time.advance(0.1)
    answer, after = stalled.take()
    assert (answer.method.message_count, answer.method.consumer_count) == (0, 0)
    assert isinstance(after.method, Basic.QosOk)
    assert broker.counts("q").ready == 3
    time.advance(10)
    assert stalled.counts() == (3, 0)


def test_a_stalled_leader_delivers_nothing_and_confirms_nothing(broker, stalled, publisher, time):
    publisher.publish(4)
    stalled.send(Basic.Consume(queue="q", consumer_tag="c"))
    stalled.send(Basic.Get(queue="q"), 2)
    time.advance(9)
    assert publisher.confirms() == []
    assert stalled.got == []
    time.advance(1)
    assert publisher.confirms() == [("ack", 1, False)]
    assert isinstance(stalled.take(Basic.ConsumeOk)[0].method, Basic.ConsumeOk)
    assert stalled.bodies() == [1, 2, 3, 4]
    assert isinstance(stalled.take()[0].method, Basic.GetEmpty)
    assert [type(each) for each in broker.truth.of(Stalled | Resumed)] == [Stalled, Resumed]


def test_a_get_is_refused_by_the_leader_of_a_single_active_consumer(broker, client, time):
    """Not before it goes on."""
    client.declare(quorum=True, arguments={"x-single-active-consumer": True})
    broker.stall("q", 10)
    client.send(Basic.Get(queue="q"))
    time.advance(9)
    assert client.got == []
    time.advance(1)
    (refusal,) = client.take()
    assert isinstance(refusal.method, Channel.Close)
    assert refusal.method.reply_code == 405


def test_a_cancel_is_answered_when_a_stalled_leader_goes_on(broker, client, time):
    client.declare(quorum=True)
    client.consume(tag="c")
    client.take()
    broker.stall("q", 10)
    client.send(Basic.Cancel("c"))
    time.advance(9)
    assert client.got == []
    time.advance(1)
    assert [type(each.method) for each in client.take()] == [Basic.CancelOk]
    assert client.counts() == (0, 0)


def test_acknowledgements_wait_for_a_stalled_leader(broker, client, time):
    client.declare(quorum=True)
    client.publish(1, 2)
    client.consume(prefetch=1)
    broker.stall("q", 10)
    client.ack(1)
    assert broker.counts("q") == (1, 1, 1)
    time.advance(10)
    assert client.bodies() == [1, 2]
    broker.stall("q", 10)
    client.call(Channel.Close(0, "", 0, 0))
    time.advance(10)
    assert broker.counts("q") == (1, 0, 0)


def test_a_kill_ends_a_stall(broker, stalled, publisher, time, again):
    publisher.publish(4)
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    client = again()
    assert client.counts() == (3, 0)
    time.advance(20)
    assert client.counts() == (3, 0)
    assert [each.message for each in broker.truth.of(Stored)] == [1, 2, 3]
    assert not list(broker.truth.of(Resumed))


def test_what_was_unacknowledged_while_a_leader_stood_still_survives_a_kill(
    broker, client, time, again
):
    client.declare(quorum=True)
    client.publish(1, 2)
    client.consume(prefetch=1)
    broker.stall("q", 10)
    client.ack(1)
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    client = again()
    client.consume()
    assert client.flags() == [(1, True), (2, False)]


def test_a_classic_queue_that_stands_still_answers_nothing(broker, client, time):
    client.declare()
    client.publish(1)
    broker.stall("q", 2)
    client.send(Queue.Declare(queue="q", passive=True))
    time.advance(1)
    assert client.got == []
    time.advance(1)
    assert client.take()[0].method.message_count == 1


def test_purging_waits_for_a_stalled_leader(stalled, time):
    stalled.send(Queue.Purge(queue="q"))
    assert stalled.got == []
    time.advance(10)
    assert stalled.take()[0].method.message_count == 3


def test_a_durable_auto_delete_queue_survives_the_death_of_its_consumer_with_the_node(
    broker, client, time
):
    client.declare(auto_delete=True)
    client.publish(1)
    client.consume()
    broker.restart(down_s=1, clean=False)
    time.advance(1)
    assert broker.counts("q") == (1, 0, 0)


def test_a_burst_that_was_due_does_not_outlive_the_node(time):
    class Slow(Behaviour):
        def delivery_delay_s(self, queue):
            return 5.0

    broker = ModelBroker(time, behaviour=Slow())
    client = Client(broker).open()
    client.declare()
    client.publish(1)
    client.consume()
    time.advance(4)
    broker.restart(down_s=0.5, clean=False)
    time.advance(0.5)
    client = Client(broker).open()
    client.consume()
    time.advance(4.9)
    assert client.bodies() == []
    time.advance(0.1)
    assert client.bodies() == [1]


def test_a_queue_that_was_deleted_while_it_stood_still_confirms_what_was_under_way(
    broker, stalled, publisher, time
):
    publisher.publish(4)
    broker.delete("q")
    assert publisher.confirms() == [("ack", 1, False)]
    time.advance(20)


def test_a_refusal_that_had_to_wait_ends_its_channel(stalled, time):
    stalled.send(Queue.Declare(queue="q", passive=True))
    stalled.send(Queue.Declare(queue="none", passive=True))
    stalled.send(Basic.Qos(0, 1))
    time.advance(1)
    assert [type(each.method) for each in stalled.take()] == [Queue.DeclareOk, Channel.Close]
