"""One connection: how it begins, how it is kept alive, and how it ends."""

import pika.frame
import pytest
from pika.spec import Basic, Channel, Connection, Queue
from support.amqp_client import Client, NotOpenError

from rmqbench.amqp.framing import PROTOCOL_HEADER, make_frame
from rmqbench.simulation import ModelBroker
from rmqbench.simulation.truth import Connected, Disconnected


def closed(client, channel=0):
    """Return code and text of the exception that came."""
    kind = Channel.Close if channel else Connection.Close
    (got,) = client.take(kind)
    assert got.channel == channel
    return got.method.reply_code, got.method.reply_text


# --- the handshake ------------------------------------------------------------------------------


def test_the_server_introduces_itself_as_rabbitmq(broker):
    start = Client(broker).open().start
    assert (start.version_major, start.version_minor) == (0, 9)
    assert start.mechanisms.split() == [b"PLAIN"]
    properties = start.server_properties
    assert properties["product"] == "RabbitMQ"
    assert properties["version"] == "4.3.6"
    assert properties["cluster_name"]
    assert properties["capabilities"] == dict.fromkeys(
        [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ],
        True,
    )


def test_another_protocol_is_answered_with_the_right_header_and_the_end(broker):
    got = []
    session = broker.connect(got.append, lambda: got.append(None))
    session.receive(b"AMQP\x00\x01\x00\x00")
    assert got == [PROTOCOL_HEADER, None]


def test_what_is_not_amqp_ends_the_connection(broker):
    got = []
    session = broker.connect(got.append, lambda: got.append(None))
    session.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert got == [PROTOCOL_HEADER, None]
    session.receive(b"more")
    assert got == [PROTOCOL_HEADER, None]


def refusal(client):
    """Return code and text with which a connection is not opened."""
    with pytest.raises(NotOpenError) as refused:
        client.open()
    answer = refused.value.answer
    return answer and (answer.reply_code, answer.reply_text)


def test_a_wrong_password_is_refused_in_words_if_the_client_hears_of_it(broker):
    client = Client(broker, password="wrong")
    assert refusal(client) == (
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see "
        "the broker logfile.",
    )
    client.send(Connection.CloseOk(), 0)
    assert client.lost


def test_a_wrong_password_ends_the_connection_if_the_client_does_not(broker):
    client = Client(broker, password="wrong", capabilities={})
    assert refusal(client) is None
    assert client.lost


def test_users_can_be_given(time):
    broker = ModelBroker(time, users={"me": "mine"}, virtual_hosts=("/", "here"))
    client = Client(broker, user="me", password="mine", host="here").open()
    assert client.declare().queue == "q"
    assert list(broker.hosts["here"].queues) == ["q"]


@pytest.mark.parametrize("channel", [0, 1])
def test_methods_come_in_their_order(broker, channel):
    client = Client(broker)
    client.send_bytes(PROTOCOL_HEADER)
    client.take()
    method = Channel.Open() if channel else Connection.Open("/")
    client.send(method, channel)
    assert closed(client)[0] == 504


def test_a_content_on_channel_0_is_unexpected(client):
    client.send_bytes(make_frame(3, 0, b"x"))
    assert closed(client)[0] == 505


def test_another_mechanism_is_unknown(broker):
    client = Client(broker)
    client.send_bytes(PROTOCOL_HEADER)
    client.take()
    client.send(Connection.StartOk({}, "EXTERNAL", "", "en_US"), 0)
    assert closed(client) == (503, "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'")


def test_an_unknown_virtual_host_is_not_allowed(broker):
    client = Client(broker, host="nowhere")
    assert refusal(client) == (530, "NOT_ALLOWED - vhost nowhere not found")


@pytest.mark.parametrize(
    ("name", "value"),
    [("frame_max", 131073), ("frame_max", 0), ("channel_max", 2048), ("frame_max", 100)],
)
def test_a_client_may_not_ask_for_what_was_not_offered(broker, name, value):
    client = Client(broker, **{name: value})
    code, text = refusal(client)
    assert code == 530
    assert text.startswith(f"NOT_ALLOWED - negotiated {name} = {value} ")
    client.send(Connection.CloseOk(), 0)
    assert client.lost


def test_a_node_that_is_down_refuses_connections(broker):
    broker.kill()
    with pytest.raises(ConnectionRefusedError):
        Client(broker)


# --- frames and methods -------------------------------------------------------------------------


def test_frames_are_no_larger_than_the_client_asked_for(broker):
    client = Client(broker, frame_max=4096).open()
    client.declare()
    body = bytes(range(256)) * 64
    client.publish(body)
    client.raw = b""
    assert client.get().body == body
    sizes = []
    while client.raw:
        taken, _ = pika.frame.decode_frame(client.raw)
        sizes.append(taken)
        client.raw = client.raw[taken:]
    assert max(sizes) == 4096


def test_a_frame_that_is_too_large_ends_the_connection(broker):
    client = Client(broker, frame_max=4096).open()
    client.send_bytes(make_frame(3, 1, bytes(4097)))
    code, text = closed(client)
    assert code == 501
    assert text.startswith("FRAME_ERROR")


def test_what_is_no_frame_ends_the_connection(client):
    client.send_bytes(b"nonsense" * 4)
    assert closed(client)[0] == 501


@pytest.mark.parametrize("kind", [2, 3])
def test_a_content_without_its_method_is_unexpected(client, kind):
    client.send_bytes(make_frame(kind, 1, bytes(20)))
    assert closed(client)[0] == 505


def test_a_method_within_a_content_is_unexpected(client):
    client.send_bytes(pika.frame.Method(1, Basic.Publish(routing_key="q")).marshal())
    client.send(Basic.Qos(0, 1))
    assert closed(client)[0] == 505


@pytest.mark.parametrize("channel", [0, 1])
def test_a_method_that_cannot_be_read_ends_the_connection(client, channel):
    method = Connection.UpdateSecret if channel == 0 else Queue.Declare
    client.send_bytes(make_frame(1, channel, method.INDEX.to_bytes(4, "big") + b"\xff"))
    assert closed(client)[0] == 502


def test_a_channel_must_be_opened(client):
    client.send(Basic.Qos(0, 1), 9)
    assert closed(client) == (504, "CHANNEL_ERROR - expected 'channel.open'")


def test_a_channel_is_opened_once(client):
    client.send(Channel.Open(), 1)
    assert closed(client) == (504, "CHANNEL_ERROR - second 'channel.open' seen")


def test_channels_are_limited(broker):
    client = Client(broker, channel_max=2).open(channels=2)
    client.send(Channel.Open(), 3)
    assert closed(client)[0] == 530


@pytest.mark.parametrize("method", [Queue.DeclareOk("q", 0, 0), Channel.OpenOk()])
def test_a_method_that_only_servers_send_is_invalid(client, method):
    client.send(method, 1)
    assert closed(client)[0] == 503


def test_flow_is_answered_when_it_is_to_go_on(client):
    assert client.call(Channel.Flow(True)).active is True
    client.send(Channel.Flow(False))
    assert closed(client)[0] == 540


# --- the end ------------------------------------------------------------------------------------


def test_a_client_closes_and_the_server_ends_the_connection(broker, client):
    assert isinstance(client.call(Connection.Close(200, "bye", 0, 0), 0), Connection.CloseOk)
    assert client.lost
    kinds = [type(event).__name__ for event in broker.truth.events]
    assert kinds[-3:] == ["ChannelClosed", "ChannelClosed", "Disconnected"]


def test_a_channel_closes_and_may_be_opened_again(client):
    assert isinstance(client.call(Channel.Close(200, "bye", 0, 0)), Channel.CloseOk)
    assert isinstance(client.call(Channel.Open()), Channel.OpenOk)


def test_after_an_exception_of_the_channel_nothing_of_it_is_read_until_it_is_confirmed(client):
    client.declare()
    client.declare("missing", passive=True)
    assert client.counts(channel=2) == (0, 0)
    client.publish(1)
    client.send(Basic.Qos(0, 1))
    assert client.got == []
    assert client.counts(channel=2) == (0, 0)
    client.send(Channel.CloseOk())
    assert isinstance(client.call(Channel.Open()), Channel.OpenOk)


def test_both_sides_may_close_a_channel_at_once(client):
    client.declare("missing", passive=True)
    assert isinstance(client.call(Channel.Close(200, "", 0, 0)), Channel.CloseOk)
    client.send(Channel.CloseOk())
    assert isinstance(client.call(Channel.Open()), Channel.OpenOk)


def test_after_an_exception_of_the_connection_nothing_is_read(broker, client):
    client.send(Channel.Flow(False))
    assert closed(client)[0] == 540
    client.declare("late", channel=2)
    assert client.got == []
    assert not client.lost
    client.send(Connection.CloseOk(), 0)
    assert client.lost
    assert not broker.hosts["/"].queues


def test_a_client_that_is_gone_leaves_its_messages_ready(broker, client):
    client.declare()
    client.publish(1, 2)
    client.consume()
    assert broker.counts("q") == (0, 2, 1)
    client.session.disconnected()
    client.session.disconnected()
    assert broker.counts("q") == (2, 0, 0)
    assert len(list(broker.truth.of(Disconnected))) == 1
    assert [each.name for each in broker.truth.of(Connected)] == ["test"]


def test_the_operator_closes_connections(broker, client):
    broker.close_connections("because")
    assert closed(client) == (320, "CONNECTION_FORCED - because")
    client.send(Connection.CloseOk(), 0)
    assert client.lost


# --- heartbeats and alarms ----------------------------------------------------------------------


def test_a_heartbeat_comes_each_interval_where_nothing_else_does(broker, time):
    client = Client(broker, heartbeat=10).open()
    for _ in range(4):
        time.advance(5)
        client.send_bytes(make_frame(8, 0, b""))
    assert client.heartbeats == 2
    assert not client.lost


def test_two_missed_heartbeats_end_the_connection_without_a_word(broker, time):
    client = Client(broker, heartbeat=10).open()
    time.advance(20)
    assert not client.lost
    time.advance(11)
    assert client.lost
    assert client.got == []


def test_any_bytes_are_a_heartbeat(broker, time):
    client = Client(broker, heartbeat=10).open()
    for _ in range(10):
        time.advance(9)
        client.send(Basic.Qos(0, 1))
    assert not client.lost
    client.session.disconnected()
    time.advance(1000)
    assert not client.lost  # the client's own end is no news to it


def test_without_an_interval_there_are_no_heartbeats(client, time):
    time.advance(10_000)
    assert client.heartbeats == 0
    assert not client.lost


def test_an_alarm_blocks_who_publishes_and_nobody_else(broker, client, publisher):
    client.declare()
    publisher.publish(1)
    assert publisher.confirms()
    client.consume()
    broker.block("low on disk")
    assert client.take(Connection.Blocked) == []
    publisher.publish(2, 3)
    (blocked,) = publisher.take(Connection.Blocked)
    assert blocked.method.reason == "low on disk"
    publisher.publish(4)
    assert publisher.confirms() == []  # the header of 2 is read, and its body is not
    assert client.bodies() == [1]
    client.ack(1, multiple=True)
    assert broker.counts("q").unacked == 0
    broker.unblock()
    assert len(publisher.take(Connection.Unblocked)) == 1
    assert publisher.confirms() == [("ack", 4, True)]
    assert client.bodies() == [2, 3, 4]


def test_a_message_without_a_body_is_the_last_one_that_an_alarm_lets_through(broker, publisher):
    publisher.declare()
    broker.block()
    publisher.publish(b"", b"")
    assert len(publisher.take(Connection.Blocked)) == 1
    assert broker.counts("q").ready == 1
    broker.unblock()
    assert broker.counts("q").ready == 2


def test_who_does_not_want_to_hear_of_an_alarm_is_blocked_in_silence(broker, time):
    client = Client(broker, capabilities={}).open()
    client.declare()
    broker.block()
    client.publish(1, 2)
    assert client.got == []
    assert broker.counts("q").ready == 0
    broker.unblock()
    assert client.got == []
    assert broker.counts("q").ready == 2
