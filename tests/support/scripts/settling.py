"""What becomes of deliveries: order and flags when they are given back, by whom and when."""

import pika
from pika.spec import Basic, Channel, Confirm, Queue

from support.scripts.basics import reopened

__all__ = ["SCRIPTS"]


def close(client, channel):
    """Close a channel and open it again."""
    client.call(Channel.Close(0, "", 0, 0), channel)
    return client.call(Channel.Open(), channel)


def giving_back_among_several(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(8))
    yield client.consume(tag="a", channel=2, prefetch=2)
    yield client.consume(tag="b", channel=3, prefetch=3)
    client.send(Basic.Nack(1, False, True), 2)
    yield client.counts()
    client.send(Basic.Nack(2, False, True), 3)
    yield client.counts()
    client.send(Basic.Reject(2, True), 2)
    yield client.counts()
    client.send(Basic.Nack(0, True, True), 3)
    yield client.counts()
    yield close(client, 2)
    yield client.counts()
    yield close(client, 3)
    yield client.counts()
    for _ in range(9):
        yield client.get()


def closing_with_unacked(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(6))
    yield client.consume(tag="a", channel=2, prefetch=4)
    yield client.get(channel=3)
    client.ack(2, channel=2)
    yield client.counts()
    yield close(client, 2)
    yield client.counts()
    yield close(client, 3)
    yield client.counts()
    yield client.consume(tag="c", channel=2)
    client.send(Basic.Nack(3, True, True), 2)
    yield client.counts()


def closing_the_connection(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(5))
    second = client.other().open(channels=2)
    yield second.consume(tag="a", prefetch=3)  # channels of a connection end in any order
    yield client.counts()
    second.leave()
    client.sleep(0.3)
    yield client.counts()
    for _ in range(6):
        yield client.get()


def dying_under_way(client, kind):
    """A second consumer gets what the first one leaves behind."""
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(4))
    yield client.consume(tag="a", channel=2, prefetch=3)
    yield client.consume(tag="b", channel=3, prefetch=10)
    yield close(client, 2)
    yield client.counts()
    client.ack(0, multiple=True, channel=3)
    yield client.counts()


def counting_deliveries(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1)
    yield client.get()
    client.send(Basic.Nack(1, False, True))
    yield client.counts()
    yield client.get()
    client.send(Basic.Reject(2, True))
    yield client.counts()
    yield client.get(channel=2)
    yield close(client, 2)
    yield client.counts()
    yield client.get()
    client.send(Basic.Recover(True))
    yield client.counts()
    yield client.consume(tag="a", channel=2)
    yield close(client, 2)
    yield client.counts()
    yield client.get(no_ack=True)


def rejecting_to_others(client, kind):
    """A message dies with its failures counted, or not."""
    client.declare("dead", arguments={"x-queue-type": kind})
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    client.declare(arguments={"x-queue-type": kind, **arguments})
    client.publish(*range(6))
    for _ in range(6):
        client.get()
    client.send(Basic.Reject(1, False))
    yield client.counts("dead")
    client.send(Basic.Nack(2, False, False))
    yield client.counts("dead")
    client.send(Basic.Reject(3, True))
    yield client.counts()
    yield client.get()
    client.send(Basic.Nack(7, False, False))
    yield client.counts("dead")
    client.send(Basic.Nack(4, False, True))
    yield client.counts()
    yield client.get()
    client.send(Basic.Nack(8, False, False))
    yield client.counts("dead")
    client.get(channel=2)
    yield close(client, 3)
    client.send(Basic.Nack(6, True, False))
    yield client.counts("dead")
    for _ in range(7):
        yield client.get("dead", channel=2)
    yield close(client, 2)
    yield client.counts("dead")
    for _ in range(7):
        yield client.get("dead")


def acknowledging(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(9))
    yield client.consume(tag="a", channel=2, prefetch=6)
    client.ack(3, multiple=True, channel=2)
    yield client.counts()
    client.ack(5, channel=2)
    yield client.counts()
    client.ack(5, channel=2)
    yield
    yield reopened(client, 2)
    yield client.counts()
    yield client.consume(tag="a", channel=2, prefetch=2)
    client.ack(0, multiple=True, channel=2)
    yield client.counts()
    client.ack(0, channel=2)
    yield
    yield reopened(client, 2)
    yield client.counts()
    client.ack(0, multiple=True, channel=2)
    yield client.counts()
    client.send(Basic.Nack(7, True, True), 2)
    yield
    yield reopened(client, 2)
    client.send(Basic.Reject(1, False), 3)
    yield
    yield reopened(client, 3)
    yield client.counts()


def acknowledging_on_another_channel(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(3))
    yield client.get(channel=2)
    client.ack(1, channel=3)
    yield
    yield reopened(client, 3)
    client.ack(1, channel=2)
    yield client.counts()


def cancelling(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(6))
    yield client.consume(tag="a", channel=2, prefetch=3)
    client.send(Basic.Cancel("a"), 2)
    yield client.counts()
    yield client.call(Basic.Cancel("a"), 2)
    client.ack(1, channel=2)
    yield client.counts()
    client.send(Basic.Nack(2, False, True), 2)
    yield client.counts()
    yield client.consume(tag="b", channel=3, prefetch=2)
    yield client.counts()
    client.send(Basic.Consume(queue="q", consumer_tag="b"), 3)
    yield
    client.sleep(0.1)
    yield


def consuming_without_acks(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(3))
    yield client.consume(tag="a", channel=2, prefetch=1, no_ack=True)
    client.publish(3, 4)
    yield client.counts()
    yield client.call(Basic.Cancel("a"), 2)
    client.publish(5)
    yield client.counts()
    yield client.get(channel=2, no_ack=True)
    yield client.get(channel=2, no_ack=True)
    client.ack(1, channel=2)
    yield


def failing_with_a_consumer(client, kind):
    """A quorum queue hears of a channel's failure when the client has answered it."""
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(4))
    yield client.consume(tag="a", channel=2, prefetch=2)
    yield client.get(channel=2)
    client.ack(99, channel=2)
    yield
    yield client.counts()
    client.publish(4)
    yield client.counts()
    yield reopened(client, 2)
    yield client.counts()
    for _ in range(6):
        yield client.get()


def closing_with_several_kinds(client, kind):
    """The order in which a channel gives back what it has."""
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(20))
    for _ in range(12):
        client.get(channel=2)
    yield client.consume(tag="b", channel=2, prefetch=2)
    yield client.consume(tag="a", channel=2, prefetch=2)
    client.ack(5, channel=2)
    yield client.counts()
    yield close(client, 2)
    yield client.counts()
    for _ in range(4):
        yield client.get(channel=2)
    yield client.consume(tag="b", channel=2, prefetch=2)
    yield client.consume(tag="a", channel=2, prefetch=2)
    client.send(Basic.Nack(7, True, True), 2)
    yield client.counts()
    yield client.call(Basic.Cancel("b"), 2)
    yield client.call(Basic.Cancel("a"), 2)
    client.send(Basic.Nack(0, True, True), 2)
    yield client.counts()
    for _ in range(4):
        yield client.get(channel=2)
    client.send(Basic.Recover(True), 2)
    yield client.counts()
    for _ in range(20):
        yield client.get(channel=3)


def getting(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    yield client.get()
    client.publish(*range(3))
    yield client.get()
    yield client.get(no_ack=True)
    yield client.counts()
    yield client.get(channel=2)
    yield client.get(channel=3)
    client.ack(1, multiple=True)
    yield client.counts()
    yield close(client, 2)
    yield client.counts()
    yield client.get("none")
    yield reopened(client)


def qualities(client, kind):
    """The prefetch of a consumer is the one of its channel when it began."""
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(9))
    yield client.consume(tag="a", channel=2, prefetch=1)
    yield client.consume(tag="b", channel=2, prefetch=3)
    client.ack(1, channel=2)
    yield client.counts()
    client.ack(3, multiple=True, channel=2)
    yield client.counts()


def priorities_of_consumers(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    yield client.consume(tag="a", channel=2, prefetch=2)
    yield client.consume(tag="b", channel=3, prefetch=2, arguments={"x-priority": 5})
    for body in range(5):
        client.publish(body)
        yield client.counts()
    client.ack(1, channel=3)
    yield client.counts()
    client.publish(9)
    yield client.counts()


def purging_under_way(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(6))
    yield client.consume(tag="a", channel=2, prefetch=2)
    client.send(Basic.Nack(1, False, True), 2)
    yield client.counts()
    yield client.call(Queue.Purge(queue="q"))
    yield client.counts()
    client.publish(7, 8)
    yield client.counts()
    yield client.call(Basic.Cancel("a"), 2)
    yield close(client, 2)
    yield client.counts()
    for _ in range(5):
        yield client.get()


def deleting_under_way(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(6))
    yield client.consume(tag="a", channel=2, prefetch=2)
    yield client.consume(tag="b", channel=3, prefetch=2)
    yield client.call(Queue.Delete(queue="q"))
    client.ack(1, channel=2)
    yield
    client.publish(7)
    client.publish(8, mandatory=True)
    yield
    yield client.declare(arguments={"x-queue-type": kind})
    client.send(Basic.Nack(2, False, True), 3)
    yield client.counts()
    client.publish(9)
    yield client.counts()
    yield client.get()


def returning(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.bind("x", key="k")
    client.bind("f", kind="fanout")
    client.publish(1, exchange="x", key="k", mandatory=True)
    yield client.counts()
    client.publish(2, 3, exchange="x", key="other", mandatory=True)
    yield
    client.publish(4, exchange="x", key="other")
    yield
    client.publish(5, exchange="f", key="any", mandatory=True)
    yield client.counts()
    yield client.call(Queue.Unbind(queue="q", exchange="f", routing_key=""))
    client.publish(6, exchange="f", mandatory=True)
    yield
    client.publish(b"", key="none", mandatory=True)
    yield
    client.publish(7, channel=2, key="none", mandatory=True)
    yield
    yield client.call(Confirm.Select(), 2)
    client.publish(8, channel=2, key="none", mandatory=True, properties=pika.BasicProperties())
    yield


def one_queue_of_several_refuses(client, kind):
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    client.declare(arguments={"x-queue-type": kind, **arguments})
    client.declare("other", arguments={"x-queue-type": kind})
    client.bind("x", kind="fanout")
    client.bind("x", "other", kind="fanout")
    for body in range(4):
        client.publish(body, exchange="x")
        yield client.counts("other")
    client.sleep(0.2)
    yield client.counts("q")


SCRIPTS = (
    acknowledging,
    acknowledging_on_another_channel,
    cancelling,
    closing_the_connection,
    closing_with_several_kinds,
    closing_with_unacked,
    consuming_without_acks,
    counting_deliveries,
    deleting_under_way,
    dying_under_way,
    failing_with_a_consumer,
    getting,
    giving_back_among_several,
    one_queue_of_several_refuses,
    priorities_of_consumers,
    purging_under_way,
    qualities,
    rejecting_to_others,
    returning,
)
