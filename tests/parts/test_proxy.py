"""The proxy between the parts and a real broker: each alteration is found, and nothing else is."""

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
    delay,
    drop,
    flip,
    forge,
    misroute,
    repeat,
    swap,
)
from rmqbench.verdict.ledger import CONFIRMED, NACKED, SENT, PublishLedger
from rmqbench.waiting import wait_until

COUNT = 50
NOW = time.time_ns()

classic = pytest.mark.parametrize("by_hand", ["classic"], indirect=True)


def consume_through(by_hand, *plan, expected=COUNT, **changes):
    """Publish, consume through a proxy, and return what it says that it did."""
    by_hand.publish()
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        by_hand.consume(endpoint=proxy.endpoint, expected=expected, idle_s=1, **changes)
    return [each.alteration for each in proxy.applied]


def publish_through(by_hand, *plan, expected=COUNT, **changes):
    """Publish through a proxy, consume, and return what it says that it did."""
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        report = by_hand.publish(endpoint=proxy.endpoint, **changes)
    by_hand.consume(expected=expected, idle_s=1)
    assert report.error is None
    return [each.alteration for each in proxy.applied]


@pytest.fixture
def patient(monkeypatch):
    """What changes places waits for the next one as long as a slow machine may need."""
    monkeypatch.setattr("rmqbench.proxy.proxy._HOLD_S", 10.0)


def states(by_hand):
    return PublishLedger.read(by_hand.directory / "producer").state


# --- nothing ------------------------------------------------------------------------------------


def test_through_a_proxy_without_a_plan_nothing_is_found(by_hand):
    with Proxy(by_hand.place.endpoint) as proxy:
        assert proxy.endpoint.port != by_hand.place.endpoint.port
        assert by_hand.publish(endpoint=proxy.endpoint).error is None
        assert by_hand.consume(endpoint=proxy.endpoint, expected=COUNT).error is None
        assert proxy.applied == ()
    assert by_hand.found() == {}


def test_a_plan_that_finds_nothing_to_alter_alters_nothing(by_hand):
    plan = [drop("delivery", 1000), repeat("publish", 1000), swap("confirm", 1000)]
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        by_hand.publish(endpoint=proxy.endpoint)
        by_hand.consume(endpoint=proxy.endpoint, expected=COUNT)
        assert proxy.applied == ()
    assert by_hand.found() == {}


@pytest.mark.parametrize("size", [200_000, 5_000_000])
@classic
def test_messages_of_many_frames_pass_whole(by_hand, size):
    by_hand.recipe = replace(by_hand.recipe, size_bytes=size)
    plan = [flip("delivery", 3, byte=size - 1)]
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        by_hand.publish(endpoint=proxy.endpoint, count=5)
        by_hand.consume(endpoint=proxy.endpoint, expected=5)
    assert by_hand.found() == {"corrupted": 1, "unsent": COUNT - 5}
    assert f"byte {size - 1} of the body" in str(by_hand.judge())


# --- deliveries ---------------------------------------------------------------------------------


def test_a_dropped_delivery_is_lost(by_hand):
    plan = [drop("delivery", 3), drop("delivery", 20)]
    assert consume_through(by_hand, *plan, expected=COUNT - 2) == plan
    assert by_hand.found() == {"lost": 2}
    assert "sequence 2," in str(by_hand.judge())


@classic
def test_a_repeated_delivery_is_a_duplicate(by_hand):
    plan = [repeat("delivery", 3), repeat("delivery", COUNT)]
    assert consume_through(by_hand, *plan, expected=None) == plan
    assert by_hand.found() == {"duplicate": 2}


@pytest.mark.usefixtures("patient")
@classic
def test_swapped_deliveries_are_reordered_and_nothing_else(by_hand):
    plan = [swap("delivery", 3), swap("delivery", 30)]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"reordered": 2}
    assert by_hand.ready() == 0


@classic
def test_a_delivery_that_nothing_follows_does_not_change_places(by_hand):
    # It comes after half a second, while the consumer still waits.
    assert consume_through(by_hand, swap("delivery", COUNT)) == []
    assert by_hand.found() == {}


@classic
def test_a_prefetch_of_one_lets_nothing_change_places(by_hand):
    by_hand.publish(count=3)
    started = time.monotonic()
    with Proxy(by_hand.place.endpoint, [swap("delivery", 2)]) as proxy:
        by_hand.consume(endpoint=proxy.endpoint, prefetch=1, expected=3)
    assert proxy.applied == ()
    assert time.monotonic() - started >= 0.5
    assert by_hand.found() == {"unsent": COUNT - 3}


@pytest.mark.parametrize("byte", [0, 24, 43, 44, 54])
@classic
def test_a_flipped_byte_of_a_delivery_is_corrupted(by_hand, byte):
    plan = [flip("delivery", 5, byte=byte, mask=1)]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"corrupted": 1}
    assert "sequence 4," in str(by_hand.judge())


@classic
def test_a_flipped_byte_of_the_properties_is_corrupted(by_hand):
    # The first letter of the content type, behind the flags (2 bytes) and its length (1).
    plan = [flip("delivery", 5, byte=3, mask=1, part="header")]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"corrupted": 1}
    assert "the property content_type" in str(by_hand.judge())


@classic
def test_a_forged_delivery_is_a_phantom(by_hand):
    message = (7, 1, NOW)
    body, properties = by_hand.recipe.body(*message), by_hand.recipe.properties(*message)
    plan = [forge("delivery", 5, body, properties)]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"phantom": 1}


@classic
def test_a_misrouted_delivery_is_misrouted(by_hand):
    plan = [misroute("delivery", 5, routing_key="elsewhere"), misroute("delivery", 6, "other")]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"misrouted": 2}


@classic
def test_a_delayed_delivery_is_nothing_but_late(by_hand):
    started = time.monotonic()
    plan = [delay("delivery", 5, 0.7)]
    assert consume_through(by_hand, *plan) == plan
    assert time.monotonic() - started >= 0.7
    assert by_hand.found() == {}


@pytest.mark.usefixtures("patient")
@classic
def test_all_at_once_is_found_each_by_its_name(by_hand):
    message = (7, 1, NOW)
    body, properties = by_hand.recipe.body(*message), by_hand.recipe.properties(*message)
    plan = [
        drop("delivery", 3),
        flip("delivery", 5, byte=50),
        misroute("delivery", 7, "other"),
        swap("delivery", 9),
        repeat("delivery", 12),
        forge("delivery", 14, body, properties),
    ]
    assert consume_through(by_hand, *plan, expected=COUNT - 1) == plan
    names = ("lost", "corrupted", "misrouted", "reordered", "duplicate", "phantom")
    assert by_hand.found() == dict.fromkeys(names, 1)


# --- publishes and confirms ---------------------------------------------------------------------


def test_a_dropped_publish_is_lost_although_confirmed(by_hand):
    plan = [drop("publish", 3), drop("publish", COUNT)]
    assert publish_through(by_hand, *plan, expected=COUNT - 2) == plan
    assert (states(by_hand) == SENT | CONFIRMED).all()
    assert by_hand.found() == {"lost": 2}
    assert "1 in the middle, 1 at the end" in str(by_hand.judge())


@pytest.mark.parametrize("window", [1, 7])
@classic
def test_confirms_are_renumbered_for_any_window(by_hand, window, request):
    if window > 1:
        request.getfixturevalue("patient")
    plan = [drop("publish", 3), repeat("publish", 9), drop("publish", 20), swap("publish", 30)]
    done = publish_through(by_hand, *plan, window=window, expected=COUNT - 2)
    assert (states(by_hand) == SENT | CONFIRMED).all()
    # With a window of one no next publish comes before the confirm: nothing changes places.
    assert done == (plan if window > 1 else plan[:3])
    found = {"lost": 2, "duplicate": 1, "reordered": 1}
    if window == 1:
        del found["reordered"]
    assert by_hand.found() == found


@classic
def test_a_repeated_publish_is_a_duplicate(by_hand):
    plan = [repeat("publish", 3)]
    assert publish_through(by_hand, *plan, expected=None) == plan
    assert by_hand.found() == {"duplicate": 1}


@pytest.mark.usefixtures("patient")
@classic
def test_swapped_publishes_are_reordered(by_hand):
    plan = [swap("publish", 3)]
    assert publish_through(by_hand, *plan) == plan
    assert by_hand.found() == {"reordered": 1}


@classic
def test_a_flipped_byte_of_a_publish_is_corrupted(by_hand):
    plan = [flip("publish", 5, byte=50)]
    assert publish_through(by_hand, *plan) == plan
    assert by_hand.found() == {"corrupted": 1}


@classic
def test_a_forged_publish_is_a_phantom(by_hand):
    message = (7, 1, NOW)
    body, properties = by_hand.recipe.body(*message), by_hand.recipe.properties(*message)
    plan = [forge("publish", 5, body, properties)]
    assert publish_through(by_hand, *plan) == plan
    assert (states(by_hand) == SENT | CONFIRMED).all()
    assert by_hand.found() == {"phantom": 1}


@classic
def test_a_misrouted_publish_is_returned(by_hand):
    plan = [misroute("publish", 5, routing_key="nowhere")]
    assert publish_through(by_hand, *plan, expected=COUNT - 1) == plan
    assert by_hand.found() == {"returned": 1}


@classic
def test_a_delayed_publish_is_nothing_but_late(by_hand):
    started = time.monotonic()
    plan = [delay("publish", 5, 0.7)]
    assert publish_through(by_hand, *plan) == plan
    assert time.monotonic() - started >= 0.7
    assert by_hand.found() == {}


@classic
def test_a_dropped_confirm_leaves_its_publish_indeterminate(by_hand):
    with Proxy(by_hand.place.endpoint, [drop("confirm", 10)]) as proxy:
        report = by_hand.publish(endpoint=proxy.endpoint, stall_s=6)
    by_hand.consume(expected=COUNT)
    assert "and none came" in report.error
    assert len(proxy.applied) == 1
    assert by_hand.found() == {"indeterminate": 1, "survived": 1}


@pytest.mark.parametrize("kind", [repeat, swap, lambda *which: delay(*which, 0.3)])
@pytest.mark.usefixtures("patient")
@classic
def test_confirms_in_another_order_or_twice_are_no_finding(by_hand, kind):
    plan = [kind("confirm", 10)]
    assert publish_through(by_hand, *plan) == plan
    assert (states(by_hand) == SENT | CONFIRMED).all()
    assert by_hand.found() == {}


@pytest.mark.parametrize("arguments", [{"x-max-length": 20, "x-overflow": "reject-publish"}])
@classic
def test_nacks_are_renumbered_too(by_hand):
    publish_through(by_hand, drop("publish", 3), window=1, expected=20)
    assert (states(by_hand)[:21] == SENT | CONFIRMED).all()
    assert (states(by_hand)[21:] == SENT | NACKED).all()
    assert by_hand.found() == {"lost": 1, "nacked": COUNT - 21}


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


@classic
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
