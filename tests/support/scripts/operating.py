"""What the operator does: policies, purges, connections closed, and an alarm."""

from pika.spec import Basic, Channel, Connection

__all__ = ["SCRIPTS"]


def a_policy_for_the_length(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.declare("other", arguments={"x-queue-type": kind, "x-max-length": 2})
    for name in ("q", "other"):
        client.publish(*range(5), key=name)
    yield client.counts(), client.counts("other")
    client.node.set_policy("p", ".*", {"max-length": 3})
    client.sleep(0.3)
    yield client.counts(), client.counts("other")
    for name in ("q", "other"):
        client.publish(5, key=name)
    yield client.counts(), client.counts("other")
    client.node.set_operator_policy("o", "^q$", {"max-length": 1})
    client.sleep(0.3)
    yield client.counts(), client.counts("other")
    client.node.clear_operator_policy("o")
    client.sleep(0.3)
    client.publish(6, 7, 8)
    yield client.counts()
    client.node.clear_policy("p")
    client.sleep(0.3)
    client.publish(9)
    yield client.counts()
    for _ in range(5):
        yield client.get()


def a_policy_for_the_life(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1)
    client.node.set_operator_policy("o", ".*", {"message-ttl": 500})
    client.sleep(0.2)
    client.publish(2)
    yield client.counts()
    client.sleep(1.5)
    yield client.counts()
    client.node.clear_operator_policy("o")
    client.sleep(0.3)
    client.publish(3)
    client.sleep(0.8)
    yield client.counts()
    for _ in range(3):
        yield client.get()


def a_policy_to_refuse(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(1)
    client.node.set_policy("p", ".*", {"max-length": 2, "overflow": "reject-publish"})
    client.sleep(0.3)
    for body in range(2, 6):
        client.publish(body)
        client.sleep(0.1)
        yield client.counts()
    if kind == "quorum":  # in 3.10.8 its publishers never learn that they may publish again
        return
    client.node.clear_policy("p")
    client.sleep(0.3)
    client.get(no_ack=True)
    client.sleep(0.2)
    client.publish(6)
    yield client.counts()
    for _ in range(4):
        yield client.get()


def connections_closed(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(4))
    yield client.consume(channel=2, prefetch=2)
    client.node.close_connections("enough for today")
    client.sleep(0.3)
    yield
    client.send(Connection.CloseOk(), 0)
    client.sleep(0.3)
    yield
    second = client.other().open(channels=2)
    yield second.counts()
    for _ in range(5):
        yield second.get()


def an_alarm(client, kind):
    client.declare(arguments={"x-queue-type": kind})
    client.publish(*range(3))
    second = client.other().open(channels=1)
    yield second.consume(prefetch=2)
    client.node.alarm(True)
    client.sleep(1.0)
    yield
    client.publish(3)
    client.sleep(0.5)
    yield
    client.send(Basic.Qos(0, 7), 2)  # nothing of the connection is read any more
    second.ack(1)
    client.sleep(0.3)
    yield
    third = client.other().open(channels=1)
    third.publish(4)
    client.sleep(0.5)
    yield
    client.node.alarm(False)
    client.sleep(1.0)
    yield
    yield client.counts()
    client.publish(5)
    yield client.counts()
    yield client.call(Channel.Close(0, "", 0, 0))


SCRIPTS = (
    a_policy_for_the_length,
    a_policy_for_the_life,
    a_policy_to_refuse,
    connections_closed,
)
NEEDING_THE_NODE = (an_alarm,)
"""They change the node itself, which must be ours."""
