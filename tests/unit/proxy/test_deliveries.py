"""Altered deliveries against a naive model, cut anywhere, byte by byte."""

from dataclasses import dataclass, field

import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from support.altered import (
    BLOCKED,
    FORGED,
    GREETING,
    HEARTBEAT,
    KINDS,
    NOW,
    RECIPE,
    TUNE_OK,
    cut_up,
    data_of,
    decode,
    deliveries,
    delivery,
    feed_broker,
    flipped,
    kinds_of,
    make,
    method,
    plans,
    sequences,
)

from rmqbench.amqp.framing import frame_offsets
from rmqbench.proxy import (
    Applied,
    cut,
    cut_inside,
    delay,
    drop,
    flip,
    repeat,
    swap,
)
from rmqbench.proxy.alterations import AlterationPlan
from rmqbench.proxy.altering import (
    AlteredConnection,
    Pause,
    Reset,
)


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
