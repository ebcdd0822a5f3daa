"""What outlives the node: ten messages in a classic and in a quorum queue, some of them held."""

import pika
from pika.spec import Basic

__all__ = ["killed", "stopped"]

REST_S = 12.0
"""A younger quorum queue may be lost with its node (a defect of RabbitMQ)."""

NAMES = ("classic", "quorum")


def killed(client, kind):
    """What a classic queue knows of acknowledgements a second ago may be gone: none is sent."""
    yield from _restarted(client, client.node.kill, acknowledged={"quorum"})


def stopped(client, kind):
    yield from _restarted(client, client.node.stop, acknowledged=set(NAMES))


def _restarted(client, end, acknowledged):
    for name in NAMES:
        client.declare(name, arguments={"x-queue-type": name})
        client.declare(f"{name}.untouched", arguments={"x-queue-type": name})
    client.declare("transient", durable=False, exclusive=True, arguments={})
    client.sleep(REST_S)
    for name in NAMES:
        client.publish(*range(10), key=name)
        client.publish(10, key=name, properties=pika.BasicProperties())
        client.publish(*range(3), key=f"{name}.untouched")
    yield
    for channel, name in enumerate(NAMES, 2):
        yield client.consume(name, tag=name, channel=channel, prefetch=5)
        if name in acknowledged:
            client.ack(2, multiple=True, channel=channel)
        client.send(Basic.Nack(4, False, True), channel)
        yield client.counts(name)
    end()
    client.sleep(0.5)
    yield
    client.node.start()
    second = client.other().open(channels=3, confirm=True)
    client.sleep(2.0)
    for name in NAMES:
        yield second.counts(name), second.counts(f"{name}.untouched")
        for _ in range(12):
            yield second.get(name, channel=2)
        for _ in range(4):
            yield second.get(f"{name}.untouched", channel=2)
        second.publish(20, key=name)
        yield second.counts(name)
