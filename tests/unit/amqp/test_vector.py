"""A stream cut anywhere gives what it holds, and leaves to pika what is not exactly as expected."""

import uuid
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from support.frames import delivery

from rmqbench import message
from rmqbench.amqp import shape
from rmqbench.amqp.framing import PAYLOAD_AT, body_frame_at
from rmqbench.amqp.shape import Deliveries, Shape
from rmqbench.amqp.vector import Confirms, Splitter
from rmqbench.message import HEAD_SIZE, MAX_SEQUENCE, Recipe

RUN = uuid.UUID("0f0e0d0c-0b0a-4908-8706-050403020100")
NOW = 1_790_000_000_123_456_789

producers = st.integers(0, 4095)
sequences = st.integers(0, MAX_SEQUENCE)
times = st.integers(0, 2**63 - 1)


def confirm(tag, multiple, nack, channel=1):
    method = pika.spec.Basic.Nack if nack else pika.spec.Basic.Ack
    return pika.frame.Method(channel, method(tag, multiple)).marshal()


OTHERS = [
    pika.frame.Heartbeat().marshal(),
    pika.frame.Method(1, pika.spec.Channel.Flow(True)).marshal(),
    pika.frame.Method(0, pika.spec.Connection.Blocked("low on memory")).marshal(),
    pika.frame.Method(2, pika.spec.Channel.Close(404, "NOT_FOUND", 0, 0)).marshal(),
    pika.frame.Method(2, pika.spec.Basic.Ack(7, False)).marshal(),  # not a confirming channel
    b"".join(
        frame.marshal()
        for frame in (
            pika.frame.Method(1, pika.spec.Basic.Return(312, "NO_ROUTE", "e", "k")),
            pika.frame.Header(1, 3, pika.BasicProperties(message_id="x")),
            pika.frame.Body(1, b"abc"),
        )
    ),
]
FOREIGN = b"".join(
    frame.marshal()
    for frame in (
        pika.frame.Method(1, pika.spec.Basic.Deliver("c", 99, False, "direct.exchange", "work")),
        pika.frame.Header(1, 3, pika.BasicProperties()),
        pika.frame.Body(1, b"abc"),
    )
)
EMPTY = b"".join(
    frame.marshal()
    for frame in (
        pika.frame.Method(1, pika.spec.Basic.Deliver("c", 98, False, "direct.exchange", "work")),
        pika.frame.Header(1, 0, pika.BasicProperties()),
    )
)


def flatten(events):
    """Make one list of all that was given, arrays row by row."""
    flat = []
    for event in events:
        if isinstance(event, Confirms):
            rows = zip(event.tags, event.multiple, event.nack, strict=True)
            flat += [("confirm", *map(int, row)) for row in rows]
        elif isinstance(event, Deliveries):
            columns = (event.tags, event.redelivered, event.producers, event.sequences)
            flat += [("delivery", *map(int, row)) for row in zip(*columns, strict=True)]
        elif flat and flat[-1][0] == "other":
            flat[-1] = ("other", flat[-1][1] + event.frames)
        else:
            flat.append(("other", event.frames))
    return flat


SIZES = [None, 100, 9000, "100:1000", "100:20000", "60*3,4000:4100*3,8170:8190"]


@st.composite
def streams(draw):
    """Draw a stream of frames, what must come of it, and where it is cut."""
    recipe = Recipe(RUN, text="some text", size_bytes=draw(st.sampled_from(SIZES)))
    frame_max = draw(st.sampled_from([4096, 131072]))
    pieces = []
    for _ in range(draw(st.integers(1, 30))):
        kind = draw(
            st.sampled_from(["delivery", "confirm", "other", "flipped", "resized", "foreign"])
        )
        tag = draw(st.integers(1, 2**62))
        flag = draw(st.booleans())
        if kind == "confirm":
            nack = draw(st.booleans())
            pieces.append((confirm(tag, flag, nack), ("confirm", tag, int(flag), int(nack))))
        elif kind == "other":
            frames = draw(st.sampled_from(OTHERS))
            pieces.append((frames, ("other", frames)))
        elif kind == "foreign":
            frames = draw(st.sampled_from([FOREIGN, EMPTY]))
            pieces.append((frames, ("other", frames)))
        else:
            message = draw(st.tuples(producers, sequences, times))
            frames = delivery(recipe, tag, flag, message, frame_max=frame_max)
            size = recipe.size_of(*message[:2])
            if kind == "resized":
                more = draw(
                    st.sampled_from([1, 5000] if recipe.size_bytes is None else [-1, 1, 900])
                )
                other = replace(recipe, size_bytes=size + more)
                frames = delivery(other, tag, flag, message, frame_max=frame_max)
                pieces.append((frames, ("other", frames)))
            elif kind == "flipped":
                # Only in payloads: a broken frame header is pika's to find.
                head_at = body_frame_at(frames) + PAYLOAD_AT
                last = (size - 1) % (frame_max - 8) + 1
                in_head = st.integers(head_at, head_at + HEAD_SIZE - 1)
                in_end = st.integers(len(frames) - 2 - min(last - 1, 20), len(frames) - 2)
                at = draw(in_head | in_end)
                frames = frames[:at] + bytes([frames[at] ^ 0x10]) + frames[at + 1 :]
                pieces.append((frames, ("other", frames)))
            else:
                pieces.append((frames, ("delivery", tag, int(flag), *message[:2])))
    stream = b"".join(frames for frames, _ in pieces)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    expected = []
    for _, item in pieces:
        if item[0] == "other" and expected and expected[-1][0] == "other":
            expected[-1] = ("other", expected[-1][1] + item[1])
        else:
            expected.append(item)
    return recipe, frame_max, stream, cuts, expected


@contextmanager
def compared_as_they_come(least_bytes):
    """Let messages with so many bytes behind their heads be compared before they are whole."""
    with (
        mock.patch.object(shape, "_GROWING_BYTES", least_bytes),
        mock.patch.object(message, "_PIECE_BYTES", 1000),
    ):
        yield


GROWING = st.sampled_from([1, 3000, 1 << 19])


def fed(splitter, stream, cuts, more):
    """Feed a stream in pieces, of which more is said to come behind some, never behind the last."""
    events = []
    ends = [*cuts, len(stream)]
    for number, (start, end) in enumerate(zip([0, *cuts], ends, strict=True)):
        events += splitter.feed(stream[start:end], more=number < len(cuts) and more(number))
    assert not splitter.keeps_back
    return events


@given(streams(), GROWING, st.integers(0, 2**13 - 1))
@settings(deadline=None)
def test_a_stream_cut_anywhere_gives_the_same_and_loses_nothing(drawn, growing, more):
    recipe, frame_max, stream, cuts, expected = drawn
    splitter = Splitter()
    splitter.expect_confirms(1)
    first = delivery(recipe, 1, False, (0, 0, NOW), frame_max=frame_max)
    splitter.expect_deliveries(1, Shape.of_delivery(first, recipe, frame_max))
    with compared_as_they_come(growing):
        events = fed(splitter, stream, cuts, lambda number: more >> number & 1)
    assert flatten(events) == expected


@pytest.mark.parametrize("size", range(9000, 9256))
def test_a_longer_message_that_looks_right_up_to_an_end_octet_spoils_nothing(size):
    """Behind the end that was expected, which of one of these sizes looks like one, is no frame."""
    recipe = Recipe(RUN, size_bytes=size)
    other = replace(recipe, size_bytes=size + 1000)
    right = [delivery(recipe, n, False, (0, n, NOW)) for n in (1, 2, 3, 4)]
    odd = delivery(other, 9, False, (0, 9, NOW))
    splitter = Splitter()
    splitter.expect_deliveries(1, Shape.of_delivery(right[0], recipe, 131072))
    events = fed(splitter, b"".join([right[0], odd, *right[1:]]), [len(right[0])], lambda _: False)
    numbers = [("delivery", n, 0, 0, n) for n in (1, 2, 3, 4)]
    assert flatten(events) == [numbers[0], ("other", odd), *numbers[1:]]


def test_a_large_message_comes_once_where_what_was_before_it_was_left():
    recipe = Recipe(RUN, size_bytes=9000)
    first, second, third = (delivery(recipe, n, False, (0, n, NOW)) for n in (1, 2, 3))
    splitter = Splitter()
    splitter.expect_deliveries(1, Shape.of_delivery(first, recipe, 131072))
    heartbeat = pika.frame.Heartbeat().marshal()
    assert next(splitter.feed(heartbeat + first + second)).frames == heartbeat
    assert flatten(splitter.feed(third)) == [("delivery", n, 0, 0, n) for n in (1, 2, 3)]


def test_what_has_begun_behind_a_wrong_one_is_put_back_behind_it():
    recipe = Recipe(RUN, size_bytes=9000)
    first, wrong, last = (delivery(recipe, n, False, (0, n, NOW)) for n in (1, 2, 3))
    at = body_frame_at(wrong) + PAYLOAD_AT
    wrong = wrong[:at] + b"?" + wrong[at + 1 :]
    splitter = Splitter()
    splitter.expect_deliveries(1, Shape.of_delivery(first, recipe, 131072))
    with compared_as_they_come(1):
        events = fed(
            splitter, first + wrong + last, [len(first), len(first + wrong) + 5000], lambda _: False
        )
    assert flatten(events) == [("delivery", 1, 0, 0, 1), ("other", wrong), ("delivery", 3, 0, 0, 3)]


@given(streams(), GROWING, st.data())
@settings(deadline=None)
def test_a_damaged_stream_cut_anywhere_gives_the_same(drawn, growing, data):
    recipe, frame_max, stream, cuts, _ = drawn
    stream = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    given_events = []
    for bounds in ([], cuts):
        splitter = Splitter()
        splitter.expect_confirms(1)
        first = delivery(recipe, 1, False, (0, 0, NOW), frame_max=frame_max)
        splitter.expect_deliveries(1, Shape.of_delivery(first, recipe, frame_max))
        with compared_as_they_come(growing):
            events = fed(splitter, bytes(stream), bounds, lambda _: data.draw(st.booleans()))
        given_events.append(flatten(events))
    assert given_events[0] == given_events[1]


@pytest.mark.parametrize(
    "broken",
    [
        pika.frame.Heartbeat().marshal()[:-1] + b"\xcf",
        b"\x07" + pika.frame.Heartbeat().marshal()[1:],
        b"AMQP\x00\x00\x09\x01",
        b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x50\xce",
        b"\x01\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x50" + bytes(10) + b"\xce",
    ],
    ids=["end octet", "type", "another protocol", "an ack without its tag", "a longer ack"],
)
def test_what_is_malformed_is_left_to_pika_at_once(broken):
    splitter = Splitter()
    splitter.expect_confirms(1)
    splitter.expect_deliveries(1)
    assert flatten(splitter.feed(broken)) == [("other", broken)]


def test_what_was_not_taken_comes_first_in_the_next_piece():
    splitter = Splitter()
    splitter.expect_confirms(1)
    first = next(splitter.feed(FOREIGN + confirm(1, False, False) + confirm(2, False, False)))
    assert first.frames == FOREIGN
    expected = [("confirm", 1, 0, 0), ("confirm", 2, 0, 0), ("confirm", 3, 0, 1)]
    assert flatten(splitter.feed(confirm(3, False, True))) == expected


@given(st.integers(1, 12), st.data())
def test_without_a_shape_each_delivery_is_given_whole(count, data):
    recipe = Recipe(RUN, size_bytes=9000)
    wholes = [delivery(recipe, n + 1, False, (0, n, NOW), frame_max=4096) for n in range(count)]
    stream = b"".join(wholes)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter = Splitter()
    splitter.expect_deliveries(1)
    events = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += splitter.feed(stream[start:end])
    assert [event.delivery for event in events if event.delivery is not None] == wholes
    assert b"".join(event.frames for event in events) == stream


def test_acks_and_nacks_multiple_or_not_are_told_apart():
    splitter = Splitter()
    splitter.expect_confirms(1)
    rows = [(2, False, False), (5, True, False), (6, False, True), (9, True, True)]
    stream = b"".join(confirm(*row) for row in rows)
    assert flatten(splitter.feed(stream)) == [("confirm", *map(int, row)) for row in rows]


@pytest.mark.parametrize(
    "other",
    [
        confirm(3, False, False, channel=2),
        pika.frame.Heartbeat().marshal() * 3,
        pika.frame.Method(1, pika.spec.Basic.Cancel("7 bytes", nowait=True)).marshal(),
    ],
    ids=["another channel", "heartbeats", "another method"],
)
def test_confirms_are_read_up_to_what_is_none_of_this_channel(other):
    splitter = Splitter()
    splitter.expect_confirms(1)
    stream = confirm(1, False, False) + other + confirm(2, False, False)
    expected = [("confirm", 1, 0, 0), ("other", other), ("confirm", 2, 0, 0)]
    assert flatten(splitter.feed(stream)) == expected


def test_acks_are_confirms_only_where_they_are_expected():
    splitter = Splitter()
    splitter.expect_confirms(1)
    stream = confirm(3, False, False, channel=2)
    assert flatten(splitter.feed(stream)) == [("other", stream)]


def test_the_requeue_bit_of_a_nack_does_not_make_it_multiple():
    splitter = Splitter()
    splitter.expect_confirms(1)
    frame = bytearray(confirm(3, False, True))
    frame[-2] = 0b10
    assert flatten(splitter.feed(bytes(frame))) == [("confirm", 3, 0, 1)]
