"""What takes messages away: lengths, times to live, delivery limits, and dead letters."""

import pika
from pika.spec import Basic, Channel, Queue

from support.scripts.basics import reopened

__all__ = ["SCRIPTS"]


def a_delivery_limit(client, kind):
    if kind == "classic":
        return
    client.declare("dead", arguments={"x-queue-type": kind})
    arguments = {
        "x-delivery-limit": 1,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    client.declare(arguments={"x-queue-type": kind, **arguments})
    client.publish(*range(4))
    for _ in range(2):
        for _ in range(4):
            client.get(channel=2)
        client.call(Channel.Close(0, "", 0, 0), 2)
        client.call(Channel.Open(), 2)
        yield client.counts()
        yield client.counts("dead")
    for _ in range(5):
        yield client.get("dead")


def a_delivery_limit_and_nacks(client, kind):
    arguments = {"x-delivery-limit": 2} if kind == "quorum" else {}
    client.declare(arguments={"x-queue-type": kind, **arguments})
    client.publish(1, 2)
    yield client.consume(channel=2, prefetch=1)
    for tag, how in enumerate(
        (
            Basic.Nack(1, False, True),
            Basic.Reject(2, True),
            Basic.Nack(3, False, True),
            Basic.Reject(4, True),
            Basic.Reject(5, True),
            Basic.Reject(6, True),
            Basic.Ack(7),
        )
    ):
        client.send(how, 2)
        yield tag, client.counts()


def a_negative_delivery_limit(client, kind):
    if kind == "classic":
        return
    client.declare(arguments={"x-queue-type": kind, "x-delivery-limit": -1})
    client.publish(1, 2)
    yield client.consume(channel=2, prefetch=1)
    for tag in (1, 2):
        client.send(Basic.Reject(tag, True), 2)
        yield client.counts()


def a_length_in_bytes(client, kind):
    client.declare(arguments={"x-queue-type": kind, "x-max-length-bytes": 10})
    client.publish(b"1" * 4, b"2" * 4, b"3" * 4)
    yield client.counts()
    client.publish(b"4" * 11)
    yield client.counts()
    client.publish(b"5" * 10)
    yield client.counts()
    for _ in range(3):
        yield client.get()


def a_length_without_room(client, kind):
    client.declare(arguments={"x-queue-type": kind, "x-max-length": 0})
    client.publish(1, 2)
    yield client.counts()
    yield client.consume(channel=2, prefetch=1)
    client.publish(3)
    client.publish(4)
    yield client.counts()
    client.send(Basic.Nack(1, False, True), 2)
    yield client.counts()


def a_length_with_a_consumer(client, kind):
    """Only what is ready counts."""
    client.declare(arguments={"x-queue-type": kind, "x-max-length": 2})
    yield client.consume(channel=2, prefetch=3)
    client.publish(*range(5))
    yield client.counts()
    client.publish(5, 6)
    yield client.counts()
    client.send(Basic.Nack(3, True, True), 2)
    yield client.counts()
    client.ack(0, multiple=True, channel=2)
    yield client.counts()


def a_length_with_dead_letters(client, kind):
    client.declare("dead")
    arguments = {
        "x-max-length": 2,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    client.declare(arguments={"x-queue-type": kind, **arguments})
    client.publish(*range(5))
    client.sleep(0.2)
    yield client.counts()
    yield client.counts("dead")
    for _ in range(4):
        yield client.get("dead")


def refusing_with_a_consumer(client, kind):
    arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
    client.declare(arguments={"x-queue-type": kind, **arguments})
    yield client.consume(channel=2, prefetch=1)
    for body in range(5):
        client.publish(body)
        client.sleep(0.05)
        yield client.counts()
    client.ack(1, channel=2)
    client.sleep(0.2)
    yield client.counts()
    client.publish(9)
    yield client.counts()


def living_shortly(client, kind):
    client.declare("dead")
    arguments = {
        "x-message-ttl": 300,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    client.declare(arguments={"x-queue-type": kind, **arguments})
    client.publish(1, 2)
    yield client.counts()
    yield client.get()
    client.sleep(0.7)
    yield client.counts()
    client.publish(3, properties=pika.BasicProperties(expiration="60000", delivery_mode=2))
    client.send(Basic.Nack(1, False, True))
    client.sleep(0.7)
    yield client.counts()
    yield client.counts("dead")
    for _ in range(4):
        yield client.get("dead")


def living_no_time(client, kind):
    client.declare(arguments={"x-queue-type": kind, "x-message-ttl": 0})
    client.publish(1, 2)
    client.sleep(0.2)
    yield client.counts()
    yield client.consume(channel=2, prefetch=1)
    client.publish(3, 4)
    client.sleep(0.2)
    yield client.counts()


def expiring_behind_others(client, kind):
    """What has expired stays until it comes to the head."""
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1)
    client.publish(2, properties=pika.BasicProperties(expiration="200", delivery_mode=2))
    client.publish(3)
    client.sleep(0.5)
    yield client.counts()
    yield client.get()
    client.sleep(0.3)
    yield client.counts()
    yield client.get()
    yield client.get()


def queues_that_expire(client, kind):
    client.declare(arguments={"x-queue-type": kind, "x-expires": 800})
    client.declare("used", arguments={"x-queue-type": kind, "x-expires": 800})
    client.publish(1, 2)
    client.consume("used", channel=2)
    yield client.counts()
    wait_s = 1.8 if kind == "classic" else 7.5  # a quorum queue looks every 5 s
    client.sleep(wait_s)
    yield client.call(Queue.Declare(queue="used", passive=True), 3)
    yield client.call(Queue.Declare(queue="q", passive=True), 3)
    yield reopened(client, 3)
    client.publish(3, mandatory=True)
    yield
    client.call(Basic.Cancel("c"), 2)
    client.sleep(wait_s)
    yield client.call(Queue.Declare(queue="used", passive=True), 3)


def deleting_itself(client, kind):
    if kind == "quorum":
        return
    client.declare(auto_delete=True, arguments={})
    client.publish(1, 2)
    yield client.consume(tag="a", channel=2, prefetch=1)
    yield client.consume(tag="b", channel=3, prefetch=1)
    yield client.call(Basic.Cancel("a"), 2)
    yield client.counts()
    yield client.call(Basic.Cancel("b"), 3)
    client.sleep(0.2)
    client.publish(3, mandatory=True)
    yield
    yield client.call(Queue.Declare(queue="q", passive=True), 3)


def declaring_otherwise(client, kind):
    arguments = {"x-queue-type": kind, "x-max-length": 5, "x-message-ttl": 60000}
    yield client.declare(arguments=arguments)
    yield client.declare(arguments=arguments)
    yield client.declare(arguments={**arguments, "x-message-ttl": 1000})
    yield reopened(client)
    without = {"x-queue-type": kind, "x-message-ttl": 60000}
    yield client.declare(arguments=without)
    yield reopened(client)
    yield client.declare(arguments={**arguments, "x-overflow": "reject-publish"})
    yield reopened(client)
    other = "classic" if kind == "quorum" else "quorum"
    yield client.declare(arguments={**arguments, "x-queue-type": other})
    yield reopened(client)
    yield client.declare(arguments={**arguments, "x-max-length": "5"})
    yield reopened(client)
    yield client.declare(arguments={**arguments, "x-nobody-knows": 1})
    yield client.declare(durable=False, arguments=arguments)
    yield reopened(client)
    yield client.declare("p", arguments={"x-queue-type": "odd"})
    yield reopened(client)
    yield client.declare("p", arguments={"x-queue-type": kind, "x-overflow": "odd"})
    yield reopened(client)
    yield client.declare("p", arguments={"x-queue-type": kind, "x-message-ttl": "5"})
    yield reopened(client)
    yield client.declare("p", arguments={"x-queue-type": kind, "x-expires": 0})
    yield reopened(client)
    client.send(Queue.Declare(queue="q", passive=True, durable=False))
    yield


SCRIPTS = (
    a_delivery_limit,
    a_delivery_limit_and_nacks,
    a_negative_delivery_limit,
    a_length_in_bytes,
    a_length_with_a_consumer,
    a_length_with_dead_letters,
    a_length_without_room,
    declaring_otherwise,
    deleting_itself,
    expiring_behind_others,
    living_no_time,
    living_shortly,
    queues_that_expire,
    refusing_with_a_consumer,
)
