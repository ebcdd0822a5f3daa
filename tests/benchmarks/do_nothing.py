"""The limit: a client that does nothing but move bytes. It checks and records nothing.

    python tests/benchmarks/do_nothing.py publish PORT USER PASSWORD COUNT WINDOW EXCHANGE KEY BYTES
    python tests/benchmarks/do_nothing.py consume PORT USER PASSWORD COUNT PREFETCH QUEUE

It publishes the same rendered messages over and over, and counts confirms; it counts the bytes of
deliveries, which are all of one length. Its line is the one that ``compare.py`` reads.
"""

from __future__ import annotations

import socket
import sys
import time
import uuid

import numpy as np
import pika

from rmqbench.amqp.framing import FrameCutter
from rmqbench.amqp.shape import Shape
from rmqbench.amqp.vector import Confirms, Splitter
from rmqbench.message import HEAD_SIZE, Recipe

FRAME_MAX = 131072
READ_BYTES = 1 << 18
LIMIT_S = 600


class Wire:
    """A socket with one open channel."""

    def __init__(self, port, user, password):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cutter = FrameCutter()
        spec = pika.spec
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.answer()
        login = f"\0{user}\0{password}"
        self.ask(0, spec.Connection.StartOk({}, "PLAIN", login, "en_US"))
        self.say(0, spec.Connection.TuneOk(1, FRAME_MAX, 0))
        self.ask(0, spec.Connection.Open("/"))
        self.ask(1, spec.Channel.Open())

    def say(self, channel, method):
        self.socket.sendall(pika.frame.Method(channel, method).marshal())

    def ask(self, channel, method):
        self.say(channel, method)
        self.answer()

    def answer(self):
        """Wait for a frame, and take it."""
        while (found := self._cutter.find()) is None:
            self._cutter.add(self.read())
        self._cutter.at = found[3]

    def rest(self):
        """Give what was received behind the last answer."""
        return self._cutter.take_rest()

    def read(self):
        data = self.socket.recv(READ_BYTES)
        assert data, "the broker closed the connection"
        return data


def publish(wire, count, window, exchange, routing_key, body_bytes):
    size = max(body_bytes, HEAD_SIZE)
    shape = Shape.of_publish(
        Recipe(uuid.uuid4(), text="", size_bytes=size),
        channel=1,
        exchange=exchange,
        routing_key=routing_key,
        mandatory=True,
        frame_max=FRAME_MAX,
    )
    batch = max(1, min(window // 4, count, shape.max_rows))
    stride = shape.mean_bytes
    rendered = memoryview(b"".join(shape.render(0, np.arange(batch), time.time_ns())))
    wire.ask(1, pika.spec.Confirm.Select())
    yield
    splitter = Splitter()
    splitter.expect_confirms(1)
    said = np.zeros(count + 1, np.bool_)
    said[0] = True
    sent, low = 0, 1  # every tag below `low` is confirmed
    while low <= count:
        settled = low - 1 + int(said[low : sent + 1].sum())
        more = min(batch, count - sent)
        if more and sent - settled <= window - more:
            wire.socket.sendall(rendered[: more * stride])
            sent += more
            continue
        for confirms in splitter.feed(wire.read()):
            assert isinstance(confirms, Confirms)
            tags, many = confirms.tags, confirms.multiple
            said[tags] = True
            if many.any():
                said[low : int(tags[many].max()) + 1] = True
        unsaid = np.flatnonzero(~said[low : sent + 1])
        low = low + int(unsaid[0]) if len(unsaid) else sent + 1


def consume(wire, count, prefetch, queue):
    wire.ask(1, pika.spec.Basic.Qos(0, prefetch, False))
    wire.ask(1, pika.spec.Basic.Consume(queue=queue, consumer_tag="limit"))
    yield
    begun = wire.rest()
    stride = None
    while stride is None:
        begun += wire.read()
        stride = stride_of(begun)
    received, acknowledged = len(begun), 0
    every = max(1, prefetch // 4)
    while acknowledged < count:
        here = received // stride
        if here - acknowledged >= every or here == count:
            wire.say(1, pika.spec.Basic.Ack(here, multiple=True))
            acknowledged = here
        else:
            received += len(wire.read())


def stride_of(begun):
    """Give the length of the first delivery; None as long as it is not whole."""
    whole = FrameCutter()
    body_bytes, length = None, 0
    for kind, _, _, data in whole.feed(begun):
        length += len(data)
        if kind == 2:
            body_bytes = int.from_bytes(data[11:19], "big")
        elif kind == 3:
            body_bytes -= len(data) - 8
        if body_bytes == 0:
            return length
    return None


def main(what, port, user, password, count, at_once, *where):
    wire = Wire(int(port), user, password)
    count, at_once = int(count), int(at_once)
    if what == "publish":
        work = publish(wire, count, at_once, where[0], where[1], int(where[2]))
    else:
        work = consume(wire, count, at_once, where[0])
    next(work)
    began, began_cpu = time.perf_counter(), time.process_time()
    next(work, None)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    wire.ask(1, pika.spec.Channel.Close(200, "done", 0, 0))  # all acknowledgements are taken
    wire.socket.close()
    print(f"rate={count / seconds:.1f} cpu_us={cpu_s / count * 1e6:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
