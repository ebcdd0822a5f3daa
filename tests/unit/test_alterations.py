"""Altered streams against naive models, cut anywhere, byte by byte."""

import uuid
from dataclasses import dataclass, field, replace

import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from rmqbench.amqp.framing import FrameCutter, frame_offsets
from rmqbench.errors import UsageError
from rmqbench.message import Recipe
from rmqbench.proxy import (
    Applied,
    cut,
    cut_inside,
    delay,
    drop,
    flip,
    forge,
    misroute,
    repeat,
    swap,
)
from rmqbench.proxy.alterations import AlterationPlan
from rmqbench.proxy.stream import (
    UNKNOWN_TAG,
    AlteredConnection,
    Pause,
    Reset,
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


# --- deliveries ---------------------------------------------------------------------------------


@dataclass
class Stream:
    """A broker's stream: its bytes, and its messages in the order in which they became whole."""

    frames: list = field(default_factory=list)
    messages: list = field(default_factory=list)  # (channel, tag, sequence)


@st.composite
def broker_streams(draw):
    """Draw messages on up to three channels, frame by frame in between each other."""
    waiting = {channel: [] for channel in (1, 2, 3)}
    for sequence in range(draw(st.integers(1, 12))):
        channel = draw(st.integers(1, 3))
        waiting[channel].append(sequence)
    stream, under_way, tags = Stream(), {}, dict.fromkeys(waiting, 0)
    while under_way or any(waiting.values()):
        choices = [channel for channel in waiting if waiting[channel] or channel in under_way]
        channel = draw(st.sampled_from([*choices, 0]))
        if channel == 0:
            stream.frames.append(draw(st.sampled_from([HEARTBEAT, BLOCKED])))
            continue
        if channel not in under_way:
            tags[channel] += 1
            sequence = waiting[channel].pop(0)
            body = b"" if sequence % 5 == 4 else None
            under_way[channel] = (sequence, delivery(channel, tags[channel], sequence, body=body))
        sequence, frames = under_way[channel]
        stream.frames.append(frames.pop(0))
        if not frames:
            del under_way[channel]
            stream.messages.append((channel, tags[channel], sequence))
    return stream


def model_deliveries(messages, plan):
    """Return what the consumer of each channel gets: (tag, exchange, key, body) in order."""
    groups = {}
    for nth, (channel, tag, sequence) in enumerate(messages, 1):
        kinds = kinds_of(plan, nth)
        body = b"" if sequence % 5 == 4 else RECIPE.body(0, sequence, NOW)
        if "flip" in kinds and body:
            body = flipped(body)
        route = ("other", "elsewhere") if "misroute" in kinds else ("e", "k")
        copies = [(route, body)]
        for kind in kinds:
            if kind == "drop":
                copies = []
            elif kind == "repeat":
                copies.append((route, body))
            elif kind == "forge":
                copies.append((route, FORGED))
        if copies:
            groups.setdefault(channel, []).append(["swap" in kinds, tag, copies])
    expected = {}
    for channel, bundles in groups.items():
        i = 0
        while i < len(bundles) - 1:
            if bundles[i][0]:
                bundles[i][2], bundles[i + 1][2] = bundles[i + 1][2], bundles[i][2]
                i += 1
            i += 1
        expected[channel] = [
            (tag, *route, body) for _, tag, copies in bundles for route, body in copies
        ]
    return expected


@given(broker_streams(), st.data())
@settings(deadline=None)
def test_deliveries_are_altered_as_a_naive_model_says(stream, data):
    plan = data.draw(plans("delivery", len(stream.messages), KINDS))
    connection = AlteredConnection(AlterationPlan(plan), 1)
    connection.from_client(GREETING + TUNE_OK)  # where the size of forged frames is learned
    steps = []
    for piece in cut_up(data, b"".join(stream.frames)):
        steps += connection.from_broker(piece).to_client
    steps += connection.end("to_client").to_client
    received = {}
    for channel, deliver, *rest in decode(data_of(steps)):
        if rest:
            way = (deliver.delivery_tag, deliver.exchange, deliver.routing_key)
            received.setdefault(channel, []).append((*way, rest[1]))
    assert received == model_deliveries(stream.messages, plan)
    pauses = sum(step.seconds for step in steps if isinstance(step, Pause))
    assert pauses == 0.5 * sum(kinds_of([each], each.nth) == ["delay"] for each in plan)


@given(broker_streams(), st.data())
@settings(deadline=None)
def test_a_stream_cut_anywhere_is_altered_alike(stream, data):
    plan = data.draw(plans("delivery", len(stream.messages), KINDS))
    if data.draw(st.booleans()):
        plan.append(cut("to_client", data.draw(st.integers(0, 20_000))))
    elif data.draw(st.booleans()):
        plan = [each for each in plan if each.nth != 2] + [cut_inside("delivery", 2)]
    whole = b"".join(stream.frames)
    in_one_piece = AlterationPlan(plan)
    expected, _ = feed_broker(in_one_piece, [whole])
    in_pieces = AlterationPlan(plan)
    assert feed_broker(in_pieces, cut_up(data, whole))[0] == expected
    done = [each.alteration for each in in_pieces.applied]
    assert done == [each.alteration for each in in_one_piece.applied]


@given(broker_streams(), st.data())
@settings(deadline=None)
def test_an_empty_plan_changes_no_byte(stream, data):
    whole = b"".join(stream.frames)
    plan = AlterationPlan(())
    steps, _ = feed_broker(plan, cut_up(data, whole))
    assert steps == ([whole] if whole else [])
    assert plan.applied == []


@given(broker_streams(), st.data())
@settings(deadline=None)
def test_a_damaged_stream_cut_anywhere_is_altered_alike(stream, data):
    plan = data.draw(plans("delivery", len(stream.messages), KINDS))
    damaged = bytearray(b"".join(stream.frames))
    starts = list(frame_offsets(bytes(damaged)))
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):  # most of a stream is bodies: half of it elsewhere
            at = data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, 40))
        else:
            at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[min(at, len(damaged) - 1)] ^= data.draw(st.integers(1, 255))
    damaged = bytes(damaged)
    in_one_piece, in_pieces = AlterationPlan(plan), AlterationPlan(plan)
    expected, _ = feed_broker(in_one_piece, [damaged])
    assert feed_broker(in_pieces, cut_up(data, damaged))[0] == expected
    done = [each.alteration for each in in_pieces.applied]
    assert done == [each.alteration for each in in_one_piece.applied]
    if not plan:
        assert data_of(expected) == damaged


@given(st.data())
def test_what_is_no_amqp_passes_as_it_is(data):
    plan = [drop("delivery", 1), repeat("publish", 1)]
    stream = data.draw(st.binary(max_size=60)) + b"HTTP/1.1 400 Bad Request\r\n\r\n"
    steps, connection = feed_broker(AlterationPlan(plan), cut_up(data, stream))
    assert data_of(steps) == stream
    steps = []
    for piece in cut_up(data, GREETING + stream):
        steps += connection.from_client(piece).to_broker
    steps += connection.end("to_broker").to_broker
    assert data_of(steps) == GREETING + stream


@pytest.mark.parametrize(
    "broken",
    [
        HEARTBEAT[:-1] + b"\xcf",  # without its end octet
        b"\x01\x00\x01\xff\xff\xff\xff\x00",  # longer than any frame
        b"\x07" + HEARTBEAT[1:],  # of no type that there is
    ],
)
def test_from_a_broken_frame_on_everything_passes_at_once(broken):
    (first,) = deliveries(1)
    plan = AlterationPlan([swap("delivery", 1)])
    connection = AlteredConnection(plan, 1)
    assert connection.from_broker(first).to_client == ()
    assert connection.from_broker(broken).to_client == (first + broken,)
    assert connection.from_broker(first[:3]).to_client == (first[:3],)
    assert plan.applied == []


@pytest.mark.parametrize("kind", ["misroute", "forge", "swap", "drop"])
@pytest.mark.parametrize("length_at", [11, -5, -3])
def test_a_message_whose_method_is_malformed_passes_as_it_is(kind, length_at):
    frames = delivery(1, 1, 0)
    damaged = bytearray(frames[0])
    damaged[length_at] = 200  # of the consumer tag, the exchange, the routing key
    stream = bytes(damaged) + b"".join(frames[1:])
    plan = AlterationPlan([make(kind, "delivery", 1)])
    assert feed_broker(plan, [stream], end=False)[0] == [stream]
    assert plan.applied == []


def deliveries(count, channel=1):
    return [b"".join(delivery(channel, n + 1, n)) for n in range(count)]


def sequences(steps):
    found = []
    for _, _, *rest in decode(data_of(steps)):
        if rest:
            found.append(RECIPE.identify(*rest).sequence)
    return found


def test_messages_are_counted_over_all_connections():
    plan = AlterationPlan([drop("delivery", 3)], get_time_ns=lambda: NOW)
    first, _ = feed_broker(plan, deliveries(2), number=1)
    second, _ = feed_broker(plan, deliveries(2), number=2)
    assert (sequences(first), sequences(second)) == ([0, 1], [1])
    assert plan.applied == [Applied(drop("delivery", 3), connection=2, at_ns=NOW)]


def test_all_that_is_not_altered_keeps_its_exact_bytes():
    stream = deliveries(4)
    steps, _ = feed_broker(
        AlterationPlan([drop("delivery", 2), flip("delivery", 3, byte=0)]), stream
    )
    at = stream[2].index(b"RMQB")
    changed = stream[2][:at] + bytes([ord("R") ^ 0xFF]) + stream[2][at + 1 :]
    assert steps == [stream[0] + changed + stream[3]]


@pytest.mark.parametrize("byte", [0, 1, 14])
def test_a_byte_of_the_header_is_flipped_from_the_property_flags_on(byte):
    frames = delivery(1, 1, 0)
    steps, _ = feed_broker(
        AlterationPlan([flip("delivery", 1, byte=byte, mask=0x20, part="header")]), frames
    )
    at = len(frames[0]) + 7 + 12 + byte
    whole = b"".join(frames)
    assert steps == [whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :]]


@pytest.mark.parametrize(("byte", "part"), [(5000, "body"), (10_000, "header")])
def test_a_byte_that_is_not_there_is_not_flipped_and_not_told(byte, part):
    plan = AlterationPlan([flip("delivery", 1, byte=byte, part=part)])
    assert feed_broker(plan, deliveries(1))[0] == deliveries(1)
    assert plan.applied == []


def test_a_delay_stands_before_its_message():
    first, second = deliveries(2)
    steps, _ = feed_broker(AlterationPlan([delay("delivery", 2, 1.5)]), [first + second])
    assert steps == [first, Pause(1.5), second]


def test_one_that_waits_is_released_in_its_place_and_not_told():
    plan = AlterationPlan([swap("delivery", 1)])
    connection = AlteredConnection(plan, 1)
    first, second = deliveries(2)
    output = connection.from_broker(first)
    assert output.to_client == ()
    (swap_,) = output.pending
    assert connection.release(swap_).to_client == (first,)
    assert connection.from_broker(second).to_client == (second,)
    assert connection.release(swap_).to_client == ()
    assert plan.applied == []


@pytest.mark.parametrize(
    "end",
    [
        method(1, pika.spec.Basic.CancelOk, "c"),
        method(1, pika.spec.Basic.Cancel, "c"),
        method(1, pika.spec.Channel.Close, 404, "NOT_FOUND", 0, 0),
        method(1, pika.spec.Channel.CloseOk),
        method(0, pika.spec.Connection.Close, 320, "bye", 0, 0),
        method(0, pika.spec.Connection.CloseOk),
    ],
)
def test_an_end_lets_one_go_that_waits(end):
    plan = AlterationPlan([swap("delivery", 1)])
    (first,) = deliveries(1)
    steps, _ = feed_broker(plan, [first, HEARTBEAT, end], end=False)
    assert steps == [HEARTBEAT + first + end]
    assert plan.applied == []


def test_another_channel_does_not_let_one_go_that_waits():
    plan = AlterationPlan([swap("delivery", 1)])
    other = method(2, pika.spec.Channel.CloseOk)
    first, second = deliveries(2)
    steps, _ = feed_broker(plan, [first, other, second], end=False)
    assert steps[0].startswith(other)
    assert sequences(steps) == [1, 0]
    assert [each.alteration for each in plan.applied] == [swap("delivery", 1)]


def test_a_message_whose_neighbour_is_dropped_changes_places_with_the_one_after():
    steps, _ = feed_broker(
        AlterationPlan([swap("delivery", 1), drop("delivery", 2)]), deliveries(3)
    )
    assert sequences(steps) == [2, 0]
    assert [each[1].delivery_tag for each in decode(data_of(steps))] == [1, 3]


@pytest.mark.parametrize("at", [0, 1, 7, 100, 5127, 9000])
def test_a_cut_lets_exactly_so_many_bytes_pass_and_only_once(at):
    plan = AlterationPlan([cut("to_client", at)])
    stream = b"".join(deliveries(2))
    steps, connection = feed_broker(plan, [stream[:3000], stream[3000:]])
    assert data_of(steps) == stream[:at]
    assert steps[-1] == Reset()
    assert connection.from_broker(stream).to_client == ()
    assert connection.from_client(HEARTBEAT).to_broker == ()
    assert feed_broker(plan, [stream], number=2)[0] == [stream]
    assert [each.alteration for each in plan.applied] == [cut("to_client", at)]


def test_a_cut_inside_lets_half_of_the_message_pass():
    first, second, third = deliveries(3)
    steps, _ = feed_broker(AlterationPlan([cut_inside("delivery", 2)]), [first + second + third])
    assert steps == [first + second[: len(second) // 2], Reset()]


# --- publishes and confirms ---------------------------------------------------------------------


@dataclass
class ModelBroker:
    """Numbers what it gets, and confirms it in a grouping that is drawn."""

    received: dict = field(default_factory=dict)  # channel -> sequences, by its own tag from 1
    settled: dict = field(default_factory=dict)
    verdicts: dict = field(default_factory=dict)  # sequence -> acked or nacked, None: forged
    decoder: Decoder = field(default_factory=Decoder)

    def take(self, data):
        for channel, one, *rest in self.decoder.feed(data):
            if isinstance(one, pika.spec.Basic.Publish):
                identity = RECIPE.identify(*rest)
                sequence = None if identity is None else identity.sequence
                self.received.setdefault(channel, []).append(sequence)

    def confirm(self, data, *, everything=False):
        """Return frames that confirm some or all of what is not confirmed yet."""
        frames = b""
        for channel, got in self.received.items():
            settled = self.settled.setdefault(channel, set())
            while left := [tag for tag in range(1, len(got) + 1) if tag not in settled]:
                if not everything and data.draw(st.booleans()):
                    break
                tag = data.draw(st.sampled_from(left))
                multiple, nack = data.draw(st.booleans()), data.draw(st.booleans())
                covered = [each for each in left if each <= tag] if multiple else [tag]
                if everything and multiple and tag == left[-1] and data.draw(st.booleans()):
                    tag = 0
                settled.update(covered)
                for each in covered:
                    self.verdicts.setdefault((channel, got[each - 1]), nack)
                kind = pika.spec.Basic.Nack if nack else pika.spec.Basic.Ack
                frames += method(channel, kind, tag, multiple)
        return frames


@dataclass
class ModelClient:
    """Publishes on some channels, and reads confirms as its own numbers."""

    sent: dict = field(default_factory=dict)  # channel -> sequences, by its tag from 1
    heard: list = field(default_factory=list)  # (channel, sequence, nack)
    open: dict = field(default_factory=dict)
    decoder: Decoder = field(default_factory=Decoder)

    def publish(self, channel, sequence):
        tags = self.sent.setdefault(channel, [])
        tags.append(sequence)
        self.open.setdefault(channel, set()).add(len(tags))
        return b"".join(publish(channel, sequence))

    def take(self, data):
        for channel, one, *_ in self.decoder.feed(data):
            if not isinstance(one, pika.spec.Basic.Ack | pika.spec.Basic.Nack):
                continue
            nack = isinstance(one, pika.spec.Basic.Nack)
            tags = [one.delivery_tag]
            if one.multiple:
                top = one.delivery_tag or max(self.open[channel], default=0)
                tags = sorted(tag for tag in self.open[channel] if tag <= top)
            for tag in tags:
                self.open[channel].discard(tag)
                self.heard.append((channel, self.sent[channel][tag - 1], nack))


def run_publishes(plan, data, count):
    """Publish from a client to a broker through an altered connection, until all is confirmed."""
    client, broker = ModelClient(), ModelBroker()
    connection = AlteredConnection(plan, 1)
    order = []

    def pass_on(output):
        broker.take(data_of(output.to_broker))
        client.take(data_of(output.to_client))

    def feed(function, stream):
        for piece in cut_up(data, stream):
            pass_on(function(piece))

    select = b"".join(method(channel, pika.spec.Confirm.Select, False) for channel in (1, 2))
    feed(connection.from_client, GREETING + TUNE_OK + select)
    sequence = 0
    while sequence < count:
        burst = b""
        for _ in range(data.draw(st.integers(1, 4))):
            channel = data.draw(st.integers(1, 2))
            burst += client.publish(channel, sequence) + data.draw(
                st.sampled_from([b"", HEARTBEAT])
            )
            order.append((channel, sequence))
            sequence += 1
        feed(connection.from_client, burst)
        feed(connection.from_broker, broker.confirm(data))
    pass_on(connection.end("to_broker"))
    feed(connection.from_broker, broker.confirm(data, everything=True))
    pass_on(connection.end("to_client"))
    return client, broker, order


def model_publishes(order, plan):
    """Return what the broker gets on each channel: sequences, None for what was forged."""
    groups = {}
    for nth, (channel, sequence) in enumerate(order, 1):
        kinds = kinds_of(plan, nth)
        copies = [] if "drop" in kinds else [sequence]
        for kind in kinds:
            if kind == "repeat":
                copies.append(sequence)
            elif kind == "forge":
                copies.append(None)
        if copies:
            groups.setdefault(channel, []).append(["swap" in kinds, copies])
    expected = {}
    for channel, bundles in groups.items():
        i = 0
        while i < len(bundles) - 1:
            if bundles[i][0]:
                bundles[i], bundles[i + 1] = bundles[i + 1], bundles[i]
                i += 1
            i += 1
        expected[channel] = [sequence for _, copies in bundles for sequence in copies]
    return expected


@given(st.data(), st.integers(1, 15))
@settings(deadline=None)
def test_each_publish_is_confirmed_once_and_by_the_name_it_has_to_its_publisher(data, count):
    plan = data.draw(plans("publish", count, ["drop", "repeat", "swap", "forge", "misroute"]))
    client, broker, order = run_publishes(AlterationPlan(plan), data, count)
    assert broker.received == model_publishes(order, plan)
    dropped = {order[each.nth - 1] for each in plan if kinds_of([each], each.nth) == ["drop"]}
    verdicts = dict.fromkeys(dropped, False)  # the proxy's own word: an ack
    verdicts |= {name: nack for name, nack in broker.verdicts.items() if name[1] is not None}
    assert len(client.heard) == len(order)
    # A repeated publish has two verdicts of the broker; its publisher hears that of the first.
    repeated = {order[e.nth - 1] for e in plan if "repeat" in kinds_of([e], e.nth)}
    for channel, sequence, nack in client.heard:
        if (channel, sequence) not in repeated:
            assert verdicts[channel, sequence] == nack
    assert {(channel, sequence) for channel, sequence, _ in client.heard} == set(order)


@given(st.data(), st.integers(1, 15))
@settings(deadline=None)
def test_confirms_are_altered_as_a_naive_model_says(data, count):
    plan = data.draw(plans("confirm", count, ["drop", "repeat", "delay"]))
    client, broker, order = run_publishes(AlterationPlan(plan), data, count)
    expected = []
    for nth, name in enumerate(broker.verdicts, 1):
        kinds = kinds_of(plan, nth)
        expected += [] if "drop" in kinds else [name] * (1 + kinds.count("repeat"))
    assert set(broker.verdicts) == set(order)
    assert [(channel, sequence) for channel, sequence, _ in client.heard] == expected
    for channel, sequence, nack in client.heard:
        assert broker.verdicts[channel, sequence] == nack


def confirming(plan, count):
    """Return a connection on which ``count`` publishes have gone to the broker."""
    connection = AlteredConnection(plan, 1)
    connection.from_client(GREETING + TUNE_OK + method(1, pika.spec.Confirm.Select, False))
    for n in range(count):
        connection.from_client(b"".join(publish(1, n)))
    return connection


def ack(tag, multiple=False):
    return method(1, pika.spec.Basic.Ack, tag, multiple)


def test_a_multiple_confirm_is_taken_apart_only_where_one_of_it_is_altered():
    connection = confirming(AlterationPlan([drop("confirm", 5)]), 9)
    assert connection.from_broker(ack(3, True)).to_client == (ack(3, True),)
    assert connection.from_broker(ack(6, True)).to_client == (ack(4) + ack(6),)
    # From here on a multiple one would cover the one that was kept back.
    assert connection.from_broker(ack(9, True)).to_client == (ack(7) + ack(8) + ack(9),)


def test_two_confirms_change_places():
    connection = confirming(AlterationPlan([swap("confirm", 2)]), 4)
    assert connection.from_broker(ack(4, True)).to_client == (ack(1) + ack(3) + ack(2) + ack(4),)


def test_a_dropped_publish_is_confirmed_at_once_but_only_in_confirm_mode():
    plan = AlterationPlan([drop("publish", 1), drop("publish", 2)])
    connection = AlteredConnection(plan, 1)
    output = connection.from_client(GREETING + b"".join(publish(1, 0)))
    assert (output.to_broker, output.to_client) == ((GREETING,), ())
    connection.from_client(method(1, pika.spec.Confirm.Select, False))
    output = connection.from_client(b"".join(publish(1, 1)))
    assert (output.to_broker, output.to_client) == ((), (ack(1),))


def test_a_lying_confirm_never_comes_amid_a_delivery():
    connection = confirming(AlterationPlan([drop("publish", 1)]), 0)
    frames = delivery(1, 1, 0)
    output = connection.from_broker(b"".join(frames[:2]))
    output_of_drop = connection.from_client(b"".join(publish(1, 0)))
    rest = connection.from_broker(b"".join(frames[2:]))
    stream = data_of(output.to_client + output_of_drop.to_client + rest.to_client)
    assert stream == ack(1) + b"".join(frames)


def test_a_channel_that_is_opened_again_counts_from_the_start():
    connection = confirming(AlterationPlan([drop("publish", 1)]), 3)
    connection.from_client(method(1, pika.spec.Channel.Close, 200, "bye", 0, 0))
    connection.from_client(method(1, pika.spec.Channel.Open))
    connection.from_client(method(1, pika.spec.Confirm.Select, False))
    connection.from_client(b"".join(publish(1, 3)))
    assert connection.from_broker(ack(1)).to_client == (ack(1),)


def test_a_forged_publish_is_not_mandatory_and_has_the_same_route():
    plan = AlterationPlan([forge("publish", 1, FORGED, FORGED_PROPERTIES)])
    connection = confirming(plan, 0)
    output = connection.from_client(b"".join(publish(1, 0)))
    assert len(output.to_broker) == 1
    (_, _, *_), (_, forged, properties, body) = decode(data_of(output.to_broker))
    sizes = [len(frame.data) for frame in FrameCutter().feed(output.to_broker[0])]
    assert max(sizes) == FRAME_MAX
    assert (forged.exchange, forged.routing_key, forged.mandatory) == ("e", "k", False)
    assert (properties, body) == (FORGED_PROPERTIES, FORGED)


def test_a_held_publish_goes_before_whatever_else_its_channel_does():
    connection = confirming(AlterationPlan([swap("publish", 1)]), 0)
    first, close = b"".join(publish(1, 0)), method(1, pika.spec.Channel.Close, 200, "", 0, 0)
    output = connection.from_client(first)
    assert output.to_broker == ()
    assert connection.from_client(close).to_broker == (first + close,)


# --- at run time --------------------------------------------------------------------------------


def consume(channel):
    return pika.frame.Method(channel, pika.spec.Basic.Consume(queue="q", consumer_tag="c"))


@pytest.mark.parametrize("plan", [(), (drop("publish", 99),)], ids=["no plan", "plan"])
def test_an_unknown_tag_is_acknowledged_between_messages_on_each_consuming_channel(plan):
    connection = AlteredConnection(AlterationPlan(plan), 1)
    connection.from_client(GREETING + consume(1).marshal() + consume(2).marshal())
    frames = publish(1, 0)
    passed = data_of(connection.from_client(b"".join(frames[:2]) + frames[2][:50]).to_broker)
    passed += data_of(connection.acknowledge_unknown().to_broker)
    passed += data_of(connection.from_client(frames[2][50:] + frames[3]).to_broker)
    acks = [each for each in decode(passed) if isinstance(each[1], pika.spec.Basic.Ack)]
    assert sorted(channel for channel, _ in acks) == [1, 2]
    assert {one.delivery_tag for _, one in acks} == {UNKNOWN_TAG}
    assert connection.from_client(HEARTBEAT).to_broker == (HEARTBEAT,)


def test_a_channel_that_is_closed_consumes_no_more():
    connection = AlteredConnection(AlterationPlan(()), 1)
    connection.from_client(GREETING + consume(1).marshal() + consume(2).marshal())
    connection.from_broker(method(1, pika.spec.Channel.Close, 406, "PRECONDITION_FAILED", 0, 0))
    connection.from_client(method(2, pika.spec.Channel.Close, 200, "", 0, 0))
    assert connection.consuming == set()
    assert connection.acknowledge_unknown().to_broker == ()


@pytest.mark.parametrize("plan", [(), (drop("delivery", 99),)], ids=["no plan", "plan"])
def test_a_cut_inside_a_frame_ends_amid_the_next_one(plan):
    connection = AlteredConnection(AlterationPlan(plan), 1)
    (first,) = deliveries(1)
    connection.from_broker(first[:10])
    connection.cut_inside_frame()
    *data, end = connection.from_broker(first[10:]).to_client
    assert end == Reset()
    size = 8 + int.from_bytes(first[3:7], "big")
    assert data == [first[: size // 2]]
    assert connection.from_client(HEARTBEAT).to_broker == ()


def start_ok(name):
    properties = {"connection_name": name}
    return method(0, pika.spec.Connection.StartOk, properties, "PLAIN", "\0a\0b", "en_US")


@pytest.mark.parametrize(("name", "expected"), [("consumer 1", [1]), ("producer 1", [0, 1])])
def test_only_connections_of_the_right_name_are_altered(name, expected):
    plan = AlterationPlan([drop("delivery", 1)])
    connection = AlteredConnection(plan, 1, only=lambda name: name.startswith("consumer"))
    connection.from_client(GREETING + start_ok(name))
    assert sequences(connection.from_broker(b"".join(deliveries(2))).to_client) == expected


# --- nonsense -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: drop("delivery", 0), "no delivery 0"),
        (lambda: drop("letter", 1), "'letter' is not something that can be altered"),
        (lambda: drop(["delivery"], 1), "is not something that can be altered"),
        (lambda: delay("publish", 1, -0.1), "is not possible"),
        (lambda: delay("publish", 1, float("nan")), "is not possible"),
        (lambda: flip("delivery", 1), "There is no byte"),
        (lambda: flip("delivery", 1, byte=-1), "There is no byte"),
        (lambda: flip("delivery", 1, byte=0, mask=0), "changes no byte"),
        (lambda: flip("delivery", 1, byte=0, mask=256), "changes no byte"),
        (lambda: flip("delivery", 1, byte=0, part="method"), "no part 'method'"),
        (lambda: flip("confirm", 1, byte=0), "A confirm has no body"),
        (lambda: forge("confirm", 1, b""), "A confirm cannot be followed"),
        (lambda: forge("publish", 1, b"", pika.BasicProperties(type=7)), "cannot be encoded"),
        (lambda: misroute("publish", 1), "the exchange and routing key that it has"),
        (lambda: misroute("confirm", 1, "e"), "A confirm has no exchange"),
        (lambda: misroute("publish", 1, "é" * 128), "too long"),
        (lambda: cut("sideways", 1), "no direction 'sideways'"),
        (lambda: cut("to_client", -1), "has a byte -1"),
        (lambda: cut_inside("publish", -1), "no publish -1"),
        (lambda: AlterationPlan(["drop"]), "'drop' is not an alteration"),
        (
            lambda: AlterationPlan([drop("publish", 1), flip("publish", 1, byte=0)]),
            "dropped and also altered",
        ),
        (lambda: AlterationPlan([swap("publish", 1), swap("publish", 2)]), "change places twice"),
        (lambda: AlterationPlan([swap("publish", 1), swap("publish", 1)]), "change places twice"),
    ],
)
def test_nonsense_is_refused_with_what_to_do(make, said):
    with pytest.raises(UsageError, match=said) as caught:
        make()
    assert caught.value.remedy


def test_alterations_are_values():
    assert drop("delivery", 3) == drop("delivery", 3)
    assert replace(drop("delivery", 3), nth=4) == drop("delivery", 4)
    forged = {forge("publish", 1, b"x", pika.BasicProperties(type="t")) for _ in range(2)}
    assert len(forged) == 1
