"""The feed of ``rmqbench gui`` at a real broker: what it hands over, holds and acknowledges."""

import contextlib
import time

import pika
import pytest
from support.tools import QUEUE, frames_of, numbered, publish, wait_until

from rmqbench.amqp.admin import admin
from rmqbench.amqp.connection import Connection
from rmqbench.amqp.topology import Queue, Topology, counts, declare, ready_count
from rmqbench.clients import recovery
from rmqbench.clients.recovery import Recovery
from rmqbench.errors import ConnectionLost, QueueLocked, QueueNotFound
from rmqbench.gui.feed import Activity, Feed
from rmqbench.proxy import Proxy

pytestmark = pytest.mark.usefixtures("work_queue")


def wait_for_rest(endpoint, count):
    """Wait until nobody consumes the queue any more, and just so many messages are in it."""
    wait_until(lambda: counts(endpoint, QUEUE) == (count, 0), f"{count} messages to be left")


def taken(feed, count):
    """Take until so many are there, and mark nothing."""
    batches = []
    wait_until(
        lambda: batches.append(feed.next_batch(1000)) or sum(map(size, batches)) >= count,
        f"{count} messages",
    )
    return [batch for batch in batches if batch is not None]


def size(batch):
    return 0 if batch is None else len(batch.messages)


def bodies(batches):
    return [message.body for batch in batches for message in batch.messages]


@pytest.fixture
def patient_stop(monkeypatch):
    """A feed that stops has all the time to acknowledge what is due."""
    monkeypatch.setattr("rmqbench.gui.feed._STOP_S", 60.0)


@pytest.mark.usefixtures("patient_stop")
def test_everything_is_handed_over_in_order(vhost):
    publish(vhost, *numbered(2500))
    seen = []
    with Feed(vhost, QUEUE, prefetch=100) as feed:
        while len(seen) < 2500:
            for batch in taken(feed, 1):
                seen += bodies([batch])
                feed.mark_shown(batch)
    assert seen == numbered(2500)
    assert feed.shown == feed.acknowledged == 2500
    wait_for_rest(vhost, 0)


def test_only_what_was_shown_is_acknowledged(vhost):
    publish(vhost, *numbered(30))
    with Feed(vhost, QUEUE, prefetch=10) as feed:
        wait_until(lambda: feed.waiting == 10, "the prefetch")
        first, second = feed.next_batch(4), feed.next_batch(1000)
        assert (size(first), size(second), feed.next_batch(1000)) == (4, 6, None)
        time.sleep(0.3)
        assert (feed.waiting, feed.acknowledged) == (0, 0)
        feed.mark_shown(first)
        wait_until(lambda: feed.waiting == 4, "as many again")
    assert (feed.shown, feed.acknowledged) == (4, 4)
    wait_for_rest(vhost, 26)


def test_what_is_not_taken_is_held_by_the_prefetch_and_goes_back(vhost):
    publish(vhost, *numbered(30))
    with Feed(vhost, QUEUE, prefetch=10) as feed:
        wait_until(lambda: feed.waiting == 10, "the prefetch")
        wait_until(lambda: ready_count(vhost, QUEUE) == 20, "the others to be ready")
        assert feed.waiting == 10
    assert feed.acknowledged == 0
    wait_for_rest(vhost, 30)


@pytest.mark.usefixtures("patient_stop")
def test_after_a_lost_connection_it_goes_on_and_nothing_is_lost(
    vhost, rmqbench_broker, monkeypatch
):
    monkeypatch.setattr(recovery, "_FIRST_PAUSE_S", 2.0)  # long enough to be seen
    publish(vhost, *numbered(20))
    with Feed(vhost, QUEUE, name="Auditor", prefetch=10) as feed:
        wait_until(lambda: feed.waiting == 10, "the prefetch")
        feed.mark_shown(feed.next_batch(10))
        wait_until(lambda: feed.acknowledged == 10, "the acknowledgement")
        stale = taken(feed, 1)
        with rmqbench_broker.management as management:
            # Both are listed some seconds late, the consumer by its tag.
            named, tags = [], []

            def listed():
                named[:] = [
                    each["name"]
                    for each in management.connections(vhost.virtual_host)
                    if each.get("client_properties", {}).get("connection_name") == "Auditor"
                ]
                tags[:] = [e["consumer_tag"] for e in management.consumers(vhost.virtual_host)]
                return named and tags

            wait_until(listed, "the connection and its consumer to be listed")
            assert tags == ["Auditor"]
            management.close_connection(named[0], "for a test")
        seen = []
        wait_until(
            lambda: seen.append(feed.state) or seen[-1].activity is Activity.RECONNECTING,
            "the loss",
        )
        assert "for a test" in seen[-1].why
        wait_until(lambda: feed.state.activity is Activity.CONSUMING, "a new connection")
        feed.mark_shown(stale[0])  # over a channel that is gone: nothing to acknowledge
        assert feed.acknowledged == 10
        again = taken(feed, 10)
        assert bodies(again) == numbered(20)[10:]
        assert again[0].messages[0].redelivered
        for batch in again:
            feed.mark_shown(batch)
    assert feed.acknowledged == 20
    wait_for_rest(vhost, 0)


def test_a_queue_that_goes_and_comes_back_is_shown_again(vhost, rmqbench_broker):
    with Feed(vhost, QUEUE) as feed:
        with admin(vhost) as channel:
            channel.queue_delete(QUEUE)
        wait_until(lambda: feed.state.activity is Activity.NO_QUEUE, "the queue to be missed")
        assert QUEUE in feed.state.why
        declare(vhost, Topology(queues=(Queue(QUEUE),)), rmqbench_broker.version)
        publish(vhost, b"new")
        assert bodies(taken(feed, 1)) == [b"new"]
        wait_until(lambda: feed.state.activity is Activity.CONSUMING, "it to be told")


def test_a_queue_that_was_never_there_is_an_error(vhost):
    with pytest.raises(QueueNotFound, match=r"no\.queue"), Feed(vhost, "no.queue"):
        pass


def test_a_queue_that_another_consumes_alone_is_an_error(vhost):
    feed = Feed(vhost, QUEUE)
    with admin(vhost) as channel:
        channel.basic_consume(QUEUE, lambda *_: None, exclusive=True)
        with pytest.raises(QueueLocked, match=QUEUE), feed:
            pass
    assert feed.state.activity is Activity.ENDED


def test_a_connection_that_ends_before_anything_is_consumed_is_an_error(vhost, monkeypatch):
    connected = Recovery.connected
    with Proxy(vhost) as proxy:

        def connected_once(recovery):
            connected(recovery)
            assert proxy.cut_inside_frame() == 1  # of the channel's opening
            monkeypatch.undo()

        monkeypatch.setattr(Recovery, "connected", connected_once)
        feed = Feed(proxy.endpoint, QUEUE)
        with pytest.raises(ConnectionLost), feed:
            pass
    assert feed.state.activity is Activity.ENDED


def test_of_a_huge_body_the_beginning_is_kept(vhost):
    publish(vhost, b"x" * 8_000_000)
    with Feed(vhost, QUEUE) as feed:
        message = taken(feed, 1)[0].messages[0]
    assert (message.size_bytes, len(message.body)) == (8_000_000, 16_384)


def test_a_message_that_cannot_be_read_ends_it_and_is_not_acknowledged(vhost):
    """It has a header with a time that Python cannot hold."""
    frames = b"".join(frames_of(b"x", pika.BasicProperties(headers={"x": 2**63 - 1})))
    with Connection(vhost, name="hostile") as connection:
        connection.channel()
        connection.send([frames.replace(b"\x01xl", b"\x01xT")])
    feed = Feed(vhost, QUEUE)
    with contextlib.suppress(Exception), feed:
        wait_until(lambda: feed.failure, "the failure")
    assert "that the broker sent cannot be read" in str(feed.failure)
    assert feed.state.activity is Activity.ENDED
    wait_for_rest(vhost, 1)
