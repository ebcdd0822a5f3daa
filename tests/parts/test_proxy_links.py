"""The proxy itself: connections that end, slow links, and its own end."""

import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pika
import pytest

from rmqbench.amqp.admin import admin
from rmqbench.endpoint import Endpoint
from rmqbench.errors import UsageError
from rmqbench.proxy import (
    Proxy,
    cut,
    cut_inside,
    drop,
)
from rmqbench.waiting import wait_until

COUNT = 50


# --- connections that end -----------------------------------------------------------------------


@pytest.fixture
def endpoint(rmqbench_broker):
    return rmqbench_broker.endpoint


@contextmanager
def client(endpoint, **changes):
    """Yield an open pika connection, and end it afterwards, whatever became of it."""
    login = pika.PlainCredentials(endpoint.username, endpoint.password)
    settings = {"heartbeat": 0, "blocked_connection_timeout": 30, "socket_timeout": 30} | changes
    connection = pika.BlockingConnection(
        pika.ConnectionParameters(
            endpoint.host, endpoint.port, endpoint.virtual_host, login, **settings
        )
    )
    try:
        yield connection
    finally:
        with suppress(pika.exceptions.AMQPError):
            connection.close()


def exchange(endpoint, sent=b"AMQP\x00\x00\x09\x01", timeout_s=30.0):
    """Send something raw, and return all that comes back, and how it ended."""
    received = b""
    with socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s) as raw:
        raw.sendall(sent)
        try:
            while data := raw.recv(65536):
                received += data
        except TimeoutError:
            return received, "silence"
        except ConnectionResetError:
            return received, "reset"
    return received, "end"


@pytest.mark.parametrize("at", [0, 1, 100])
def test_a_cut_lets_exactly_so_many_bytes_pass(endpoint, at):
    with Proxy(endpoint, [cut("to_client", at)]) as proxy:
        received, end = exchange(proxy.endpoint)
        assert (len(received), end) == (at, "reset")
        assert [each.alteration for each in proxy.applied] == [cut("to_client", at)]
        with client(proxy.endpoint) as connection:
            connection.channel()


@pytest.mark.parametrize("at", [4, 8])
def test_a_cut_on_the_way_to_the_broker_ends_both_sides(endpoint, at):
    with Proxy(endpoint, [cut("to_broker", at)]) as proxy:
        assert exchange(proxy.endpoint)[1] == "reset"


@pytest.mark.parametrize("what", ["delivery", "publish", "confirm"])
def test_a_cut_inside_ends_the_connection_amid_the_message(endpoint, what, monkeypatch):
    monkeypatch.setattr("rmqbench.proxy.proxy._ARRIVE_S", 1.0)  # the client reads before the end
    with Proxy(endpoint, [cut_inside(what, 2)]) as proxy, client(proxy.endpoint) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True).method.queue
        received = []

        def use():
            channel.basic_publish("", queue, b"first")
            channel.basic_publish("", queue, b"second")
            channel.basic_consume(queue, lambda *it: received.append(it[3]), auto_ack=True)
            connection.process_data_events(10)
            connection.process_data_events(10)

        with pytest.raises(pika.exceptions.AMQPConnectionError):
            use()
        assert received == ([b"first"] if what == "delivery" else [])
        assert [each.alteration for each in proxy.applied] == [cut_inside(what, 2)]


def test_a_reset_ends_all_connections_and_new_ones_are_accepted(endpoint):
    with Proxy(endpoint) as proxy:
        assert proxy.reset() == 0
        with client(proxy.endpoint) as one, client(proxy.endpoint) as other:
            assert proxy.reset() == 2
            for connection in (one, other):
                with pytest.raises(pika.exceptions.AMQPConnectionError):
                    connection.channel()
        with client(proxy.endpoint) as connection:
            connection.channel()


def test_what_vanished_is_silent_and_not_closed(endpoint):
    with Proxy(endpoint) as proxy:
        raw = socket.create_connection((proxy.endpoint.host, proxy.endpoint.port), timeout=10)
        with raw:
            raw.sendall(b"AMQP\x00\x00\x09\x01")
            assert raw.recv(11)[:1] == b"\x01"  # the broker is there
            assert proxy.vanish() == 1
            raw.sendall(b"nonsense at which the broker would hang up" * 100)
            got = raw.recv(65536)  # what was on its way before
            assert got
            raw.settimeout(1)
            with pytest.raises(TimeoutError):
                raw.recv(65536)
            with client(proxy.endpoint) as connection:
                connection.channel()


def test_the_broker_does_not_hear_that_a_client_of_a_vanished_connection_is_gone(endpoint):
    with Proxy(endpoint) as proxy:
        with client(proxy.endpoint) as connection:
            channel = connection.channel()
            queue = channel.queue_declare("", exclusive=True).method.queue
            assert proxy.vanish() == 1
            connection._impl._terminate_stream(pika.exceptions.StreamLostError("gone"))
        time.sleep(0.3)  # it would have heard by then
        with client(endpoint) as other, pytest.raises(pika.exceptions.ChannelClosed) as caught:
            other.channel().queue_declare(queue, passive=True)
        assert caught.value.reply_code == 405  # its owner is still connected

    def gone():
        with client(endpoint) as other, pytest.raises(pika.exceptions.ChannelClosed) as caught:
            other.channel().queue_declare(queue, passive=True)
        return caught.value.reply_code == 404

    wait_until(gone, 60, "the broker to hear of it")


def test_a_frame_is_cut_on_each_connection(endpoint):
    with Proxy(endpoint) as proxy, client(proxy.endpoint) as one, client(proxy.endpoint) as other:
        assert proxy.cut_inside_frame() == 2
        for connection in (one, other):
            with pytest.raises(pika.exceptions.AMQPConnectionError):
                connection.channel()
        with client(proxy.endpoint) as connection:
            connection.channel()


def test_an_unknown_tag_closes_each_consuming_channel_and_no_other(endpoint):
    with Proxy(endpoint) as proxy, client(proxy.endpoint) as one, client(proxy.endpoint) as other:
        idle = one.channel()
        assert proxy.acknowledge_unknown() == 0
        consuming = [connection.channel() for connection in (one, other)]
        for channel in consuming:
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.basic_consume(queue, lambda *_: None)
        assert proxy.acknowledge_unknown() == 2
        for channel in consuming:
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
                channel.basic_qos(prefetch_count=1)
            assert caught.value.reply_code == 406
            assert "unknown delivery tag" in caught.value.reply_text
        idle.queue_declare("", exclusive=True)
        assert proxy.acknowledge_unknown() == 0


# --- slow links ---------------------------------------------------------------------------------


def round_trip(channel):
    started = time.monotonic()
    channel.queue_declare("", exclusive=True, auto_delete=True)
    return time.monotonic() - started


def test_latency_comes_and_goes_for_present_connections_and_new_ones(endpoint):
    with Proxy(endpoint) as proxy, client(proxy.endpoint) as connection:
        channel = connection.channel()
        proxy.set_latency(0.1)
        assert 0.2 <= round_trip(channel) < 20
        proxy.set_latency(0.1, jitter_s=0.05)
        assert all(0.1 <= round_trip(channel) < 20 for _ in range(5))
        started = time.monotonic()
        with client(proxy.endpoint):
            assert time.monotonic() - started >= 0.4
        proxy.set_latency(0)
        round_trip(channel)
        assert min(round_trip(channel) for _ in range(20)) < 0.2


@pytest.mark.parametrize("by_hand", ["classic"], indirect=True)
def test_jitter_changes_no_order(by_hand):
    with Proxy(by_hand.place.endpoint) as proxy:
        proxy.set_latency(0.02, jitter_s=0.02)
        by_hand.publish(endpoint=proxy.endpoint, window=4)
        by_hand.consume(endpoint=proxy.endpoint, prefetch=4, expected=COUNT)
    assert by_hand.found() == {}


def test_a_slow_link_takes_its_time_and_loses_nothing(endpoint):
    body = bytes(200_000)
    with Proxy(endpoint) as proxy, client(proxy.endpoint) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True).method.queue
        proxy.set_rate(400_000)
        started = time.monotonic()
        channel.basic_publish("", queue, body)
        there = time.monotonic()
        assert channel.basic_get(queue, auto_ack=True)[2] == body
        back = time.monotonic()
        assert 0.45 <= there - started < 20
        assert 0.45 <= back - there < 20
        proxy.set_rate(None)
        took = []
        for _ in range(5):
            started = time.monotonic()
            channel.basic_publish("", queue, body)
            took.append(time.monotonic() - started)
        assert min(took) < 0.4


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda proxy: proxy.set_latency(-1),
        lambda proxy: proxy.set_latency(0, jitter_s=-1),
        lambda proxy: proxy.set_rate(0),
    ],
)
def test_a_link_that_cannot_be_is_refused(nonsense):
    with pytest.raises(UsageError):
        nonsense(Proxy(Endpoint()))


# --- the proxy itself ---------------------------------------------------------------------------


def test_a_broker_that_is_not_there_closes_the_client_at_once():
    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        started = time.monotonic()
        with Proxy(Endpoint(host="127.0.0.1", port=taken.getsockname()[1])) as proxy:
            received, end = exchange(proxy.endpoint)
    assert received == b""
    assert end != "silence"
    assert time.monotonic() - started < 20


def test_the_proxy_ends_with_its_connections_and_its_thread(endpoint):
    before = set(threading.enumerate())
    with Proxy(endpoint) as proxy:
        raw = socket.create_connection((proxy.endpoint.host, proxy.endpoint.port), timeout=5)
        raw.sendall(b"AMQP\x00\x00\x09\x01")
        raw.recv(11)
    with raw:
        while raw.recv(65536):
            pass
    assert not set(threading.enumerate()) - before
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((proxy.endpoint.host, proxy.endpoint.port), timeout=5)
    with pytest.raises(RuntimeError, match="inside of its with statement"):
        proxy.reset()


def test_tls_is_refused():
    with pytest.raises(UsageError, match="cannot read"):
        Proxy(Endpoint(tls=True))


def test_a_proxy_that_was_not_entered_has_no_endpoint():
    with pytest.raises(RuntimeError, match="enter the proxy first"):
        _ = Proxy(Endpoint()).endpoint


def test_the_endpoint_keeps_login_and_virtual_host():
    broker = Endpoint("example.org", 1234, "me", "secret", "mine")
    with Proxy(broker) as proxy:
        assert proxy.endpoint == replace(broker, host="127.0.0.1", port=proxy.endpoint.port)


def test_a_half_closed_client_still_gets_its_answer():
    def answer(listener):
        peer, _ = listener.accept()
        with peer:
            while peer.recv(65536):
                pass
            peer.sendall(b"heard to the end")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with (
            Proxy(Endpoint(host="127.0.0.1", port=listener.getsockname()[1])) as proxy,
            socket.create_connection(("127.0.0.1", proxy.endpoint.port), timeout=5) as raw,
        ):
            raw.sendall(b"AMQP\x00\x00\x09\x01" + b"half a frame")
            raw.shutdown(socket.SHUT_WR)
            received = b""
            while data := raw.recv(65536):
                received += data
        thread.join(5)
    assert received == b"heard to the end"


def test_only_connections_of_the_right_name_are_altered(by_hand):
    def all_there():
        return by_hand.ready() == COUNT

    by_hand.publish()
    with Proxy(
        by_hand.place.endpoint, [drop("delivery", 1)], only=lambda name: "consumer" in name
    ) as proxy:
        with admin(proxy.endpoint, name="somebody else") as channel:
            _, _, body = next(channel.consume(by_hand.queue))
            assert by_hand.recipe.read_head(body).sequence == 0
            channel.cancel()
        wait_until(all_there, 20, "what somebody else had to be given back")
        by_hand.consume(endpoint=proxy.endpoint, expected=COUNT - 1)
        assert len(proxy.applied) == 1
    assert by_hand.found() == {"lost": 1}


def test_what_goes_wrong_in_only_is_told_at_the_end(endpoint):
    def fail(name):
        raise LookupError(name)

    def use():
        with (
            Proxy(endpoint, only=fail) as proxy,
            pytest.raises(pika.exceptions.AMQPConnectionError),
            client(proxy.endpoint),
        ):
            pass

    with pytest.raises(LookupError):
        use()


@pytest.mark.parametrize("plan", [(), (drop("delivery", 10**9), drop("publish", 10**9))])
def test_a_client_that_does_not_read_stops_the_broker_and_not_the_proxy(endpoint, plan):
    """More than all buffers hold is delivered, and is there when it is read at last."""
    count, body = 60, bytes(1 << 20)
    with Proxy(endpoint, plan) as proxy, client(proxy.endpoint) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for _ in range(count):
            channel.basic_publish("", queue, body)
        received = []
        channel.basic_consume(queue, lambda *it: received.append(it[3]), auto_ack=True)
        time.sleep(1)
        with client(proxy.endpoint) as other:
            other.channel()
        deadline = time.monotonic() + 90
        while len(received) < count and time.monotonic() < deadline:
            connection.process_data_events(1)
        assert received == [body] * count
