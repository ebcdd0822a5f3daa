"""A client that speaks to a model of RabbitMQ by bytes, each marshalled and read by pika."""

import heapq
import itertools

import pika.frame
import pika.spec
from pika.spec import Basic, Channel, Confirm, Connection, Exchange, Queue

from rmqbench.amqp.framing import PROTOCOL_HEADER

CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}
UNASKED = Basic.Deliver | Basic.Ack | Basic.Nack | Basic.Return | Basic.Cancel
PERSISTENT = pika.BasicProperties(delivery_mode=2)


class VirtualTime:
    """A clock that stands still until it is advanced."""

    def __init__(self):
        self._now = 0.0
        self._due = []
        self._number = itertools.count()

    def now(self):
        return self._now

    def call_later(self, delay_s, callback):
        due = [self._now + delay_s, next(self._number), callback]
        heapq.heappush(self._due, due)
        return _Due(due)

    def advance(self, seconds):
        """Let time pass, and have happen what is due."""
        until = self._now + seconds
        while self._due and self._due[0][0] <= until:
            at, _, callback = heapq.heappop(self._due)
            self._now = max(self._now, at)
            if callback is not None:
                callback()
        self._now = until


class _Due:
    def __init__(self, due):
        self._due = due

    def cancel(self):
        self._due[2] = None


class NotOpenError(Exception):
    """The connection was not opened; ``answer`` says why, or is None."""

    def __init__(self, answer):
        super().__init__(answer)
        self.answer = answer


class Got:
    """What came: a method, and its content where it carries one."""

    def __init__(self, channel, method):
        self.channel, self.method = channel, method
        self.properties, self.body, self.missing = None, b"", 0

    def __repr__(self):
        return f"{self.channel}: {self.method!r} {self.body!r}"


class Client:
    """One connection. ``got`` holds what has come and was not taken."""

    def __init__(self, broker, cut=None, **settings):
        self.got, self.lost, self.heartbeats, self.raw = [], False, 0, b""
        self._cut = cut or (lambda data: [data])
        self._buffer, self._open = b"", {}
        self.settings = {
            "user": "guest",
            "password": "guest",
            "host": "/",
            "frame_max": 131072,
            "channel_max": 2047,
            "heartbeat": 0,
            "capabilities": CAPABILITIES,
            **settings,
        }
        self.session = broker.connect(self._on_bytes, self._on_lost)

    def _on_bytes(self, data):
        assert not self.lost, "bytes after the end"
        self.raw += data
        self._buffer += data
        while True:
            taken, frame = pika.frame.decode_frame(self._buffer)
            if frame is None:
                return
            self._buffer = self._buffer[taken:]
            self._on_frame(frame)

    def _on_frame(self, frame):
        if isinstance(frame, pika.frame.Heartbeat):
            self.heartbeats += 1
        elif isinstance(frame, pika.frame.Method):
            got = Got(frame.channel_number, frame.method)
            self.got.append(got)
            if isinstance(frame.method, Basic.Deliver | Basic.GetOk | Basic.Return):
                self._open[frame.channel_number] = got
        elif isinstance(frame, pika.frame.Header):
            got = self._open[frame.channel_number]
            got.properties, got.missing = frame.properties, frame.body_size
        elif isinstance(frame, pika.frame.Body):
            got = self._open[frame.channel_number]
            got.body += frame.fragment
            got.missing -= len(frame.fragment)
            assert got.missing >= 0

    def _on_lost(self):
        assert not self.lost, "lost twice"
        self.lost = True

    def send_bytes(self, data):
        for piece in self._cut(data):
            self.session.receive(piece)

    def send(self, method, channel=1):
        self.send_bytes(pika.frame.Method(channel, method).marshal())

    def call(self, method, channel=1):
        """Send a method, and return the method that came as an answer (the last one)."""
        self.send(method, channel)
        answer = self.answer(channel)
        return None if answer is None else answer.method

    def answer(self, channel=1):
        """Remove and return the last that came on a channel, or on channel 0, as an answer."""
        for at in reversed(range(len(self.got))):
            got = self.got[at]
            if got.channel in (channel, 0) and not isinstance(got.method, UNASKED):
                return self.got.pop(at)
        return None

    def take(self, *kinds):
        """Remove and return what has come of some kinds, all by default."""
        taken = [each for each in self.got if not kinds or isinstance(each.method, kinds)]
        self.got = [each for each in self.got if each not in taken]
        return taken

    def open(self, *, channels=1, confirm=False):
        """Open the connection and its first channels."""
        asked = self.settings
        self.send_bytes(PROTOCOL_HEADER)
        self.start = self.got.pop().method
        tune = self.call(
            Connection.StartOk(
                {"connection_name": "test", "capabilities": asked["capabilities"]},
                "PLAIN",
                f"\0{asked['user']}\0{asked['password']}",
                "en_US",
            ),
            0,
        )
        if not isinstance(tune, Connection.Tune):
            raise NotOpenError(tune)
        self.send(
            Connection.TuneOk(asked["channel_max"], asked["frame_max"], asked["heartbeat"]), 0
        )
        answer = self.call(Connection.Open(asked["host"]), 0)
        if not isinstance(answer, Connection.OpenOk):
            raise NotOpenError(answer)
        for number in range(1, channels + 1):
            assert isinstance(self.call(Channel.Open(), number), Channel.OpenOk)
            if confirm:
                assert isinstance(self.call(Confirm.Select(), number), Confirm.SelectOk)
        return self

    # --- what a client does ---------------------------------------------------------------------

    def declare(self, name="q", channel=1, **settings):
        arguments = settings.pop("arguments", {})
        if settings.pop("quorum", False):
            arguments = {"x-queue-type": "quorum", **arguments}
        settings = {"durable": True, **settings, "arguments": arguments}
        return self.call(Queue.Declare(queue=name, **settings), channel)

    def counts(self, name="q", channel=1):
        """Return the ready messages and the consumers that a passive declare answers."""
        answer = self.call(Queue.Declare(queue=name, passive=True), channel)
        return answer.message_count, answer.consumer_count

    def bind(self, exchange, queue="q", key="", kind="direct", **arguments):
        self.call(Exchange.Declare(exchange=exchange, type=kind, durable=True))
        return self.call(
            Queue.Bind(queue=queue, exchange=exchange, routing_key=key, arguments=arguments)
        )

    def publish(self, *bodies, key="q", exchange="", channel=1, properties=PERSISTENT, **settings):
        """Publish bodies, all in one piece."""
        data = b""
        for body in bodies:
            sent = str(body).encode() if isinstance(body, int) else body
            method = Basic.Publish(exchange=exchange, routing_key=key, **settings)
            data += pika.frame.Method(channel, method).marshal()
            data += pika.frame.Header(channel, len(sent), properties).marshal()
            most = self.settings["frame_max"] - 8
            for at in range(0, len(sent), most):
                data += pika.frame.Body(channel, sent[at : at + most]).marshal()
        self.send_bytes(data)

    def consume(self, queue="q", tag="c", channel=1, prefetch=None, **settings):
        if prefetch is not None:
            self.call(Basic.Qos(0, prefetch), channel)
        return self.call(Basic.Consume(queue=queue, consumer_tag=tag, **settings), channel)

    def get(self, queue="q", channel=1, **settings):
        self.send(Basic.Get(queue=queue, **settings), channel)
        return self.answer(channel)

    def ack(self, tag, multiple=False, channel=1):
        self.send(Basic.Ack(tag, multiple), channel)

    def bodies(self):
        """Remove the deliveries, and return their bodies."""
        return [int(each.body) for each in self.take(Basic.Deliver)]

    def flags(self):
        """Remove the deliveries, and return body and redelivered flag of each."""
        return [(int(each.body), each.method.redelivered) for each in self.take(Basic.Deliver)]

    def confirms(self):
        """Remove the confirms, and return kind, tag and multiple of each."""
        return [
            (each.method.NAME[6:].lower(), each.method.delivery_tag, each.method.multiple)
            for each in self.take(Basic.Ack, Basic.Nack)
        ]
