"""Declaring, publishing, consuming, and the limits of queues, each in a short script."""

import pika
from pika.spec import Basic, Channel, Confirm, Queue

__all__ = ["SCRIPTS", "reopened"]


def reopened(client, channel=1):
    """Confirm that a channel was closed, and open it again."""
    client.send(Channel.CloseOk(), channel)
    answer = client.call(Channel.Open(), channel)
    if channel == 1:
        client.call(Confirm.Select(), channel)
    return answer


def declaring(client, kind):
    arguments = {"x-queue-type": kind}
    yield client.declare(arguments=arguments)
    yield client.declare(arguments=arguments)
    yield client.counts()
    yield client.declare(arguments={**arguments, "x-max-length": 5})
    yield reopened(client)
    yield client.declare(arguments=arguments, auto_delete=True)
    yield reopened(client)
    yield client.declare("amq.mine")
    yield reopened(client)
    yield client.declare("none", passive=True)
    yield reopened(client)
    yield client.declare("bad", arguments={**arguments, "x-max-length": -1})
    yield reopened(client)
    yield client.bind("x", key="k")
    yield client.call(Queue.Bind(queue="q", exchange="missing", routing_key="k"))
    yield reopened(client)
    yield client.call(Queue.Unbind(queue="q", exchange="x", routing_key="k"))
    yield client.call(Queue.Purge(queue="none"))
    yield reopened(client)
    yield client.call(Queue.Delete(queue="none"))
    yield client.call(Queue.Delete(queue="q"))


def publishing(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1, 2, 3)
    yield client.counts()
    client.publish(b"", mandatory=True)
    yield
    client.publish(b"x", key="nowhere", mandatory=True)
    yield
    client.publish(b"x", key="nowhere")
    yield
    client.publish(b"x", exchange="missing")
    yield
    yield reopened(client)
    client.publish(b"x", properties=pika.BasicProperties(expiration="soon"))
    yield
    yield reopened(client)
    for _ in range(5):
        yield client.get()


def consuming(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(8))
    yield client.consume(prefetch=3)
    yield client.counts()
    client.ack(1)
    yield client.counts()
    client.ack(3, multiple=True)
    yield client.counts()
    yield client.call(Basic.Cancel("c"))
    yield client.counts()
    yield client.consume(tag="b", channel=2, prefetch=2)
    yield client.counts(channel=3)
    client.ack(99)
    yield
    yield reopened(client)
    yield client.counts(channel=3)
    client.ack(2, multiple=True, channel=2)
    yield client.counts(channel=3)


def giving_back(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(6))
    for _ in range(4):
        yield client.get(channel=2)
    client.send(Basic.Nack(3, False, True), 2)
    yield client.counts()
    client.send(Basic.Reject(1, True), 2)
    yield client.counts()
    client.send(Basic.Nack(4, True, True), 2)
    yield client.counts()
    for _ in range(7):
        yield client.get(channel=3)
    client.send(Basic.Recover(True), 3)
    yield client.counts()
    yield client.consume(channel=2, prefetch=2)
    yield client.call(Channel.Close(0, "", 0, 0), 2)
    yield client.consume(channel=3, no_ack=True)


def rejecting(client, kind):
    client.declare("dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    client.declare(arguments={"x-queue-type": kind, **arguments})
    client.publish(1, 2, 3)
    for _ in range(3):
        client.get()
    client.send(Basic.Reject(1, False))
    yield client.counts("dead")
    client.send(Basic.Nack(3, True, False))
    yield client.counts("dead")
    for _ in range(4):
        yield client.get("dead", no_ack=True)


def dropping(client, kind):
    client.declare(arguments={"x-queue-type": kind, "x-max-length": 3})
    client.publish(*range(6))
    yield client.counts()
    for _ in range(4):
        yield client.get()
    client.publish(6)
    client.send(Basic.Nack(3, True, True))
    yield client.counts()
    yield client.consume(no_ack=True)


def refusing(client, kind):
    arguments = {"x-max-length": 3, "x-overflow": "reject-publish"}
    client.declare(arguments={"x-queue-type": kind, **arguments})
    for body in range(7):
        client.publish(body)
        yield client.counts()
    for body in range(7, 11):
        client.get(no_ack=True)
        client.sleep(0.3)
        client.publish(body)
        yield client.counts()


def expiring(client, kind):
    client.declare(arguments={"x-queue-type": kind, "x-message-ttl": 1000})
    client.publish(1, 2)
    client.publish(3, properties=pika.BasicProperties(expiration="300", delivery_mode=2))
    yield client.get()
    yield client.counts()
    client.sleep(1.5)
    yield client.counts()
    client.send(Basic.Nack(1, False, True))
    client.sleep(0.3)
    yield client.counts()
    yield client.get()


def limited(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1)
    for tag in range(1, 25):
        got = client.get()
        yield got
        if not isinstance(got.method, Basic.GetOk):
            return
        client.send(Basic.Reject(tag, True))


def nacking_often(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1)
    for tag in range(1, 25):
        got = client.get()
        yield got
        if not isinstance(got.method, Basic.GetOk):
            return
        client.send(Basic.Nack(tag, False, True))


def dying_often(client, kind):
    arguments = {"x-delivery-limit": 2} if kind == "quorum" else {}
    client.declare(arguments={"x-queue-type": kind, **arguments})
    client.publish(1)
    for _ in range(4):
        yield client.consume(channel=2)
        client.call(Channel.Close(0, "", 0, 0), 2)
        client.call(Channel.Open(), 2)
        yield client.counts()


def taking_turns(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.consume(tag="a", prefetch=2)
    client.consume(tag="b", channel=2, prefetch=3)
    for body in range(7):
        client.publish(body)
        yield
    client.ack(1)
    for body in range(7, 10):
        client.publish(body)
        yield
    yield client.call(Basic.Cancel("a"))
    yield client.counts()


def deleting(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1, 2, 3)
    client.consume(prefetch=1)
    client.take()
    yield client.call(Queue.Purge(queue="q"), 2)
    yield client.call(Queue.Delete(queue="q"), 2)
    client.ack(1)
    yield client.declare("other")
    yield client.call(Queue.Delete(queue="other", if_empty=True))


def excluding(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1)
    yield client.consume(exclusive=True)
    client.send(Basic.Consume(queue="q", consumer_tag="d"), 2)
    yield
    if kind == "classic":  # quorum queues do not mind
        yield reopened(client, 2)
    second = client.other().open()
    second.declare("mine", exclusive=True, durable=False)
    client.send(Basic.Get(queue="mine"), 2)
    yield
    yield reopened(client, 2)
    second.leave()
    client.sleep(0.5)
    yield client.declare("mine", channel=2, passive=True)


def single_active(client, kind):
    client.declare(arguments={"x-queue-type": kind, "x-single-active-consumer": True})
    client.publish(*range(4))
    yield client.consume(tag="a", prefetch=1)
    yield client.consume(tag="b", channel=2, prefetch=1)
    client.ack(1)
    yield
    yield client.call(Basic.Cancel("a"))
    yield client.counts(channel=3)


SCRIPTS = (
    consuming,
    declaring,
    deleting,
    dropping,
    dying_often,
    excluding,
    expiring,
    giving_back,
    limited,
    nacking_often,
    publishing,
    refusing,
    rejecting,
    single_active,
    taking_turns,
)
