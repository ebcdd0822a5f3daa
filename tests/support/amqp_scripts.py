"""The same acts on the model and on a real broker, with answers that can be compared.

A script is a generator that is given a client and the kind of its queues. At each ``yield`` the
player notes what was yielded and all that has come since.
"""

import socket

import pika
from pika.spec import Basic, Channel, Confirm, Queue

from rmqbench.simulation import ModelBroker
from support.amqp_client import Client, VirtualTime

QUIET_S = 0.12
"""So long nothing has come where nothing more is expected; in the model so much time passes."""


class ModelClient(Client):
    """A client of the model, in which time passes with each act."""

    def __init__(self, version):
        self.time = VirtualTime()
        self.broker = ModelBroker(self.time, version=version)
        super().__init__(self.broker)

    def send_bytes(self, data):
        super().send_bytes(data)
        self.time.advance(QUIET_S)

    def sleep(self, seconds):
        self.time.advance(seconds)

    def other(self):
        """Return a second client of the same broker."""
        second = ModelClient.__new__(ModelClient)
        second.time, second.broker = self.time, self.broker
        Client.__init__(second, self.broker)
        return second


class SocketClient(Client):
    """A client of a real broker, over a plain socket."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self._socket = socket.create_connection((endpoint.host, endpoint.port), 10)
        super().__init__(
            self, user=endpoint.username, password=endpoint.password, host=endpoint.virtual_host
        )

    def connect(self, send, lost):
        return self

    def send_bytes(self, data):
        if not self.lost:
            self._socket.sendall(data)
        self.sleep(QUIET_S)

    def sleep(self, seconds):
        """Read until nothing has come for so long."""
        self._socket.settimeout(seconds)
        while not self.lost:
            try:
                data = self._socket.recv(1 << 20)
            except TimeoutError:
                return
            except ConnectionResetError:
                data = b""
            if data:
                self._on_bytes(data)
            else:
                self._on_lost()

    def disconnected(self):
        self._socket.close()
        self.lost = True

    def other(self):
        return SocketClient(self.endpoint)


def play(script, client, kind):
    """Play a script; return what was noted at each of its steps."""
    client.open(channels=3)
    client.call(Confirm.Select())
    notes = []
    settled = set()
    for result in script(client, kind):
        came = [_plain(each, settled) for each in client.take()]
        notes.append((_plain(result, settled), [each for each in came if each is not None]))
        confirmed = sorted(settled)
        if confirmed:
            notes.append(("settled", confirmed))
    client.session.disconnected()
    return notes


_SHOWN = (
    "NAME",
    "consumer_tag",
    "consumer_count",
    "delivery_tag",
    "exchange",
    "message_count",
    "redelivered",
    "reply_code",
    "reply_text",
    "routing_key",
    "class_id",
    "method_id",
)


def _plain(got, settled):
    """Return what is to be compared; confirms are noted in ``settled`` tag by tag."""
    method = getattr(got, "method", got)
    if isinstance(method, Basic.Ack | Basic.Nack):
        tag, name = method.delivery_tag, method.NAME
        known = {each for each, _ in settled}
        tags = [t for t in range(1, tag + 1) if t not in known] if method.multiple else [tag]
        settled.update((each, name) for each in tags)
        return None
    shown = {name: getattr(method, name) for name in _SHOWN if hasattr(method, name)}
    if not shown:
        return got
    if hasattr(got, "body"):
        shown |= {"channel": got.channel, "body": got.body}
        headers = dict((got.properties and got.properties.headers) or {})
        for death in headers.get("x-death", ()):
            del death["time"]
        shown["headers"] = headers
    return shown


# --- the scripts --------------------------------------------------------------------------------


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
    yield reopened(client, 2)
    second = client.other().open()
    second.declare("mine", exclusive=True, durable=False)
    client.send(Basic.Get(queue="mine"), 2)
    yield
    yield reopened(client, 2)
    second.session.disconnected()
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
