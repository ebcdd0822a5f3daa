"""Streams of AMQP frames, plans that alter them, and what has come of it."""

import uuid

import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import strategies as st

from rmqbench.message import Recipe
from rmqbench.proxy import (
    delay,
    drop,
    flip,
    forge,
    misroute,
    repeat,
    swap,
)
from rmqbench.proxy.altering import (
    AlteredConnection,
)

RUN = uuid.UUID("0f0e0d0c-0b0a-4908-8706-050403020100")
RECIPE = Recipe(RUN, text="some text", size_bytes=5000, producer_id="me", host="here")
NOW = 1_790_000_000_123_456_789
FRAME_MAX = 4096
GREETING = b"AMQP\x00\x00\x09\x01"
HEARTBEAT = pika.frame.Heartbeat().marshal()
BLOCKED = pika.frame.Method(0, pika.spec.Connection.Blocked("low on memory")).marshal()
TUNE_OK = pika.frame.Method(0, pika.spec.Connection.TuneOk(2047, FRAME_MAX, 60)).marshal()
FORGED = b"never sent by anybody " * 300
FORGED_PROPERTIES = pika.BasicProperties(message_id="forged", headers={"a": 1})


def method(channel, name, *arguments):
    return pika.frame.Method(channel, name(*arguments)).marshal()


def content(channel, method, properties, body):
    """Return the frames of one message, each as bytes."""
    room = FRAME_MAX - 8
    frames = [
        pika.frame.Method(channel, method),
        pika.frame.Header(channel, len(body), properties),
        *(pika.frame.Body(channel, body[i : i + room]) for i in range(0, len(body), room)),
    ]
    return [frame.marshal() for frame in frames]


def delivery(channel, tag, sequence, *, body=None, exchange="e", key="k", redelivered=False):
    message = (0, sequence, NOW)
    return content(
        channel,
        pika.spec.Basic.Deliver(f"consumer {channel}", tag, redelivered, exchange, key),
        RECIPE.properties(*message),
        RECIPE.body(*message) if body is None else body,
    )


def publish(channel, sequence, *, mandatory=True):
    message = (0, sequence, NOW)
    return content(
        channel,
        pika.spec.Basic.Publish(exchange="e", routing_key="k", mandatory=mandatory),
        RECIPE.properties(*message),
        RECIPE.body(*message),
    )


class Decoder:
    """Decodes whole frames with pika; a message may be spread over several calls."""

    def __init__(self):
        self.partial = {}

    def feed(self, data):
        """Yield (channel, method, properties, body) of messages, (channel, method) of others."""
        while data:
            consumed, frame = pika.frame.decode_frame(data)
            assert consumed, f"not whole: {data[:40]!r}"
            data = data[consumed:]
            channel = getattr(frame, "channel_number", 0)
            if isinstance(frame, pika.frame.Header):
                self.partial[channel][1:] = [frame.properties, b"", frame.body_size]
            elif isinstance(frame, pika.frame.Body):
                self.partial[channel][2] += frame.fragment
            elif isinstance(frame, pika.frame.Method):
                assert channel not in self.partial, "a method amid a message"
                if isinstance(frame.method, pika.spec.Basic.Deliver | pika.spec.Basic.Publish):
                    self.partial[channel] = [frame.method]
                else:
                    yield channel, frame.method
            if len(self.partial.get(channel, ())) == 4:
                method, properties, body, size = self.partial[channel]
                if len(body) == size:
                    del self.partial[channel]
                    yield channel, method, properties, body


def decode(data):
    decoder = Decoder()
    found = list(decoder.feed(data))
    assert not decoder.partial
    return found


def merged(steps):
    """Join bytes that lie side by side."""
    whole = []
    for step in steps:
        if isinstance(step, bytes) and whole and isinstance(whole[-1], bytes):
            whole[-1] += step
        else:
            whole.append(step)
    return whole


def data_of(steps):
    return b"".join(step for step in steps if isinstance(step, bytes))


def feed_broker(plan, pieces, *, end=True, number=1):
    """Return what the client gets of what the broker sends, and the connection."""
    connection = AlteredConnection(plan, number)
    steps = []
    for piece in pieces:
        output = connection.from_broker(piece)
        assert not output.to_broker
        steps += output.to_client
    if end:
        steps += connection.end("to_client").to_client
    return merged(steps), connection


def cut_up(data, stream):
    """Cut a stream into pieces, anywhere."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    bounds = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    return [stream[start:end] for start, end in bounds]


# --- plans --------------------------------------------------------------------------------------


@st.composite
def plans(draw, what, count, kinds):
    """Draw alterations of some of ``count`` messages, none in contradiction to another."""
    plan, swapped = [], -1
    for nth in range(1, count + 1):
        some = draw(st.lists(st.sampled_from(kinds), max_size=3, unique=True))
        if "drop" in some:
            some = ["drop"]
        if "swap" in some and swapped == nth - 1:
            some.remove("swap")
        for kind in some:
            if kind == "swap":
                swapped = nth
            plan.append(make(kind, what, nth))
    return plan


def make(kind, what, nth):
    return {
        "drop": lambda: drop(what, nth),
        "repeat": lambda: repeat(what, nth),
        "swap": lambda: swap(what, nth),
        "delay": lambda: delay(what, nth, 0.5),
        "flip": lambda: flip(what, nth, byte=4500, mask=1),
        "flip no byte": lambda: flip(what, nth, byte=5000),
        "forge": lambda: forge(what, nth, FORGED, FORGED_PROPERTIES),
        "misroute": lambda: misroute(what, nth, "other", "elsewhere"),
    }[kind]()


KINDS = ["drop", "repeat", "swap", "delay", "flip", "flip no byte", "forge", "misroute"]


def kinds_of(plan, nth):
    """Name what a plan does to one message; a flip of a byte that is not there does nothing."""
    some = [each for each in plan if each.nth == nth and getattr(each, "byte", 0) < 5000]
    return [type(each).__name__.lower() for each in some]


def flipped(body):
    return body[:4500] + bytes([body[4500] ^ 1]) + body[4501:]


def deliveries(count, channel=1):
    return [b"".join(delivery(channel, n + 1, n)) for n in range(count)]


def sequences(steps):
    found = []
    for _, _, *rest in decode(data_of(steps)):
        if rest:
            found.append(RECIPE.identify(*rest).sequence)
    return found
