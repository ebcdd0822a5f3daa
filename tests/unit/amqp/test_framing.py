"""The frames of a stream are found alike wherever it is cut, and what is no frame is left alone."""

from __future__ import annotations

import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.amqp import framing
from rmqbench.amqp.framing import (
    BODY,
    DELIVER,
    HEADER,
    HEARTBEAT,
    METHOD,
    OPAQUE,
    PROTOCOL_HEADER,
    ContentAssembler,
    Frame,
    FrameCutter,
)

TAGS = st.integers(0, 2**63 - 1)
CHANNELS = st.integers(1, 3)
NAMES = st.text(max_size=20)


def frames(*each: pika.frame.Frame) -> bytes:
    return b"".join(frame.marshal() for frame in each)


def content_frames(channel: int, method: object, body: bytes, room: int) -> list[bytes]:
    """The frames of one content as pika makes them, with body frames of at most ``room`` bytes."""
    return [
        frames(pika.frame.Method(channel, method)),
        frames(pika.frame.Header(channel, len(body), pika.BasicProperties(message_id="x"))),
        *(
            frames(pika.frame.Body(channel, body[at : at + room]))
            for at in range(0, len(body), room)
        ),
    ]


@st.composite
def single_frames(draw: st.DrawFn) -> tuple[int, int, int, bytes]:
    """Draw a frame that pika marshals, with its kind, channel and method."""
    channel = draw(CHANNELS)
    method = draw(
        st.builds(pika.spec.Basic.Ack, TAGS, st.booleans())
        | st.builds(pika.spec.Basic.Cancel, NAMES)
        | st.builds(pika.spec.Basic.Deliver, NAMES, TAGS, st.booleans(), NAMES, NAMES)
        | st.just(pika.spec.Channel.CloseOk())
    )
    body = draw(st.binary(max_size=300))
    header = pika.frame.Header(channel, draw(TAGS), pika.BasicProperties(app_id=draw(NAMES)))
    return draw(
        st.sampled_from(
            [
                (METHOD, channel, method.INDEX, frames(pika.frame.Method(channel, method))),
                (HEADER, channel, 0, frames(header)),
                (BODY, channel, 0, frames(pika.frame.Body(channel, body))),
                (HEARTBEAT, 0, 0, frames(pika.frame.Heartbeat())),
            ]
        )
    )


def cut_up(data: st.DataObject, stream: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    bounds = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    return [stream[start:end] for start, end in bounds]


def received(cutter: FrameCutter, piece: bytes) -> memoryview:
    """Put a piece where a socket would have put it, in more room than it needs."""
    room = cutter.room(len(piece) + 100)
    assert len(room) == len(piece) + 100
    room[:] = bytes([0xCE]) * len(room)
    room[: len(piece)] = piece
    return room[: len(piece)]


def found(pieces: list[bytes]) -> list[Frame]:
    """Return what a cutter finds, with adjacent bytes that are not frames in one."""
    cutter = FrameCutter()
    joined: list[Frame] = []
    for number, piece in enumerate(pieces):
        for frame in cutter.feed(received(cutter, piece) if number % 3 else piece):
            if frame.kind == OPAQUE and joined and joined[-1].kind == OPAQUE:
                joined[-1] = Frame(OPAQUE, 0, 0, joined[-1].data + frame.data)
            else:
                joined.append(frame)
    rest = cutter.take_rest()
    assert b"".join(frame.data for frame in joined) + rest == b"".join(pieces)
    assert cutter.take_rest() == b""
    return joined


# --- frames --------------------------------------------------------------------------------------


@given(st.lists(single_frames(), max_size=12), st.booleans(), st.data())
def test_a_stream_cut_anywhere_has_the_same_frames(
    drawn: list[tuple[int, int, int, bytes]], greeting: bool, data: st.DataObject
) -> None:
    expected = [Frame(OPAQUE, 0, 0, PROTOCOL_HEADER)] if greeting else []
    expected += [Frame(*each) for each in drawn]
    assert found(cut_up(data, b"".join(frame.data for frame in expected))) == expected


@given(
    st.lists(st.binary(max_size=30) | single_frames().map(lambda drawn: drawn[3]), max_size=6),
    st.data(),
)
def test_anything_cut_anywhere_is_found_alike_and_loses_nothing(
    parts: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(parts)
    assert found(cut_up(data, stream)) == found([stream])


@given(st.lists(single_frames(), min_size=1, max_size=4), st.data())
def test_a_damaged_stream_cut_anywhere_is_found_alike(
    drawn: list[tuple[int, int, int, bytes]], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(each[3] for each in drawn))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    assert found(cut_up(data, bytes(stream))) == found([bytes(stream)])


BEAT = frames(pika.frame.Heartbeat())
CLOSE_OK = frames(pika.frame.Method(1, pika.spec.Channel.CloseOk()))


@pytest.mark.parametrize(
    "broken",
    [
        BEAT[:-1] + b"\xcf",
        b"\x07" + BEAT[1:],
        b"\x00" + BEAT[1:],
        b"\x03\x00\x01\x10\x00\x00\x01\x00",
        b"\x01\x00\x01\x00\x00\x00\x03abc\xce",
        PROTOCOL_HEADER,
    ],
    ids=["end octet", "type", "type 0", "size", "a method without its id", "a late greeting"],
)
def test_from_what_is_no_frame_on_everything_is_given_as_it_comes(broken: bytes) -> None:
    cutter = FrameCutter()
    assert list(cutter.feed(BEAT + broken)) == [
        Frame(HEARTBEAT, 0, 0, BEAT),
        Frame(OPAQUE, 0, 0, broken),
    ]
    assert list(cutter.feed(CLOSE_OK)) == [Frame(OPAQUE, 0, 0, CLOSE_OK)]
    assert list(cutter.feed(b"")) == []


def test_the_largest_frame_is_waited_for_and_a_larger_one_is_none() -> None:
    largest, larger = (b"\x03\x00\x01" + (size).to_bytes(4) for size in (1 << 28, (1 << 28) + 1))
    cutter = FrameCutter()
    assert list(cutter.feed(largest + b"body")) == []
    assert cutter.take_rest() == largest + b"body"
    assert list(FrameCutter().feed(larger + b"body")) == [Frame(OPAQUE, 0, 0, larger + b"body")]


@pytest.mark.parametrize("size", [100, 1 << 12, 1 << 22])
def test_however_long_a_frame_is_it_is_moved_a_few_times_only(size: int) -> None:
    cutter = FrameCutter()
    frame = framing.make_frame(BODY, 1, bytes(size))
    stream = frame * 3
    moved = 0
    for at in range(0, len(stream), 1 << 12):
        piece = stream[at : at + (1 << 12)]
        buffer, place = cutter.buffer, cutter.at
        room = cutter.room(len(piece))
        if cutter.buffer is not buffer or cutter.at != place:
            moved += cutter.end - cutter.at
        room[:] = piece
        assert all(each.data == frame for each in cutter.feed(room))
    assert moved <= 2 * len(stream)
    assert cutter.take_rest() == b""


def test_a_frame_is_found_again_until_it_is_taken() -> None:
    cutter = FrameCutter()
    cutter.add(CLOSE_OK + BEAT)
    once = cutter.find()
    assert once == cutter.find() == (METHOD, 1, pika.spec.Channel.CloseOk.INDEX, len(CLOSE_OK))
    cutter.at = once[3]
    cutter.add(BEAT[:3])
    assert cutter.find() == (HEARTBEAT, 0, 0, len(BEAT))
    assert cutter.take_rest() == BEAT + BEAT[:3]


def test_frames_that_were_not_taken_come_first_in_the_next_piece() -> None:
    cutter = FrameCutter()
    first = next(cutter.feed(CLOSE_OK + BEAT))
    assert first.data == CLOSE_OK
    assert [frame.data for frame in cutter.feed(CLOSE_OK)] == [BEAT, CLOSE_OK]


@given(CHANNELS, st.binary(max_size=50))
def test_a_frame_is_made_as_pika_makes_it(channel: int, body: bytes) -> None:
    made = framing.make_frame(BODY, channel, body)
    assert made == frames(pika.frame.Body(channel, body))
    assert made.startswith(framing.frame_header(BODY, channel, len(body)))


@given(NAMES, TAGS, st.integers(0, 2**63 - 1))
def test_tag_and_body_size_are_read_where_pika_puts_them(
    consumer: str, tag: int, size: int
) -> None:
    method = frames(pika.frame.Method(1, pika.spec.Basic.Deliver(consumer, tag, True, "e", "k")))
    at = framing.delivery_tag_at(method)
    assert int.from_bytes(method[at : at + 8]) == tag
    assert method[at + 8] == 1
    header = frames(pika.frame.Header(1, size, pika.BasicProperties()))
    at = framing.BODY_SIZE_AT
    assert int.from_bytes(header[at : at + 8]) == size
    assert list(framing.frame_offsets(method + header)) == [0, len(method)]
    bodies = frames(pika.frame.Body(1, b"x")) * 2
    assert framing.body_frame_at(method + header + bodies) == len(method + header)


# --- contents ------------------------------------------------------------------------------------


def cut_frames(stream: bytes) -> list[Frame]:
    return list(FrameCutter().feed(stream))


def deliver(tag: int = 1) -> pika.spec.Basic.Deliver:
    return pika.spec.Basic.Deliver("c", tag, False, "e", "k")


METHODS = [
    deliver(),
    pika.spec.Basic.Return(312, "NO_ROUTE", "e", "k"),
    pika.spec.Basic.GetOk(1, False, "e", "k", 0),
    pika.spec.Basic.Publish(0, "e", "k"),
]


@st.composite
def interleaved_contents(draw: st.DrawFn) -> tuple[list[Frame], list[tuple[int, list[bytes]]]]:
    """Draw contents of several channels, frame by frame in between each other.

    Return all frames, and method and frames of each content in the order in which they get whole.
    """
    waiting: dict[int, list[tuple[int, list[bytes]]]] = {}
    for channel, body in draw(st.lists(st.tuples(CHANNELS, st.binary(max_size=40)), max_size=6)):
        method = draw(st.sampled_from(METHODS))
        content = content_frames(channel, method, body, room=15)
        waiting.setdefault(channel, []).append((method.INDEX, content))
    stream, whole, sent = [], [], dict.fromkeys(waiting, 0)
    while waiting:
        channel = draw(st.sampled_from(sorted(waiting)))
        stream += cut_frames(draw(st.sampled_from([b"", BEAT])))
        stream += cut_frames(waiting[channel][0][1][sent[channel]])
        sent[channel] += 1
        if sent[channel] == len(waiting[channel][0][1]):
            whole.append(waiting[channel].pop(0))
            sent[channel] = 0
            if not waiting[channel]:
                del waiting[channel]
    return stream, whole


@given(interleaved_contents(), st.booleans())
def test_contents_of_several_channels_are_put_together_each_by_itself(
    drawn: tuple[list[Frame], list[tuple[int, list[bytes]]]], keep: bool
) -> None:
    stream, expected = drawn
    assembler = ContentAssembler()
    whole = []
    for frame in stream:
        content, broken = assembler.add(frame, keep=keep)
        assert broken is None
        assert (content is None) == (frame.kind == HEARTBEAT)
        if content is not None and content.is_whole:
            whole.append((content.method, content.frames))
    assert whole == [(method, parts if keep else []) for method, parts in expected]
    assert assembler.take_all() == []


METHOD_FRAME, HEADER_FRAME, FIRST_BODY, LAST_BODY = content_frames(1, deliver(), b"abcde", room=3)
TOO_LONG = frames(pika.frame.Body(1, b"abcdef"))


@pytest.mark.parametrize(
    ("before", "breaking"),
    [
        ([METHOD_FRAME], CLOSE_OK),
        ([METHOD_FRAME], METHOD_FRAME),
        ([METHOD_FRAME], FIRST_BODY),
        ([METHOD_FRAME], framing.make_frame(HEADER, 1, bytes(11))),
        ([METHOD_FRAME, HEADER_FRAME], HEADER_FRAME),
        ([METHOD_FRAME, HEADER_FRAME], TOO_LONG),
        ([METHOD_FRAME, HEADER_FRAME, FIRST_BODY], FIRST_BODY),
    ],
    ids=[
        "another method",
        "the next content",
        "no header",
        "a header cut short",
        "two headers",
        "a body too long",
        "a second body too long",
    ],
)
def test_a_frame_that_cannot_follow_ends_a_content(before: list[bytes], breaking: bytes) -> None:
    assembler = ContentAssembler()
    for each in before:
        assembler.add(*cut_frames(each))
    begun, broken = assembler.add(*cut_frames(breaking))
    assert broken is not None
    assert broken.frames == before
    assert not broken.is_whole
    assert (begun is not None) == (breaking == METHOD_FRAME)
    assert assembler.open == ({1: begun} if begun else {})
    for each in (METHOD_FRAME, HEADER_FRAME, FIRST_BODY, LAST_BODY):
        content, _ = assembler.add(*cut_frames(each))
        assert content is not None
        assert content.is_whole == (each == LAST_BODY)
    assert content is not None
    assert content.frames == [METHOD_FRAME, HEADER_FRAME, FIRST_BODY, LAST_BODY]


def test_a_frame_of_another_channel_ends_no_content() -> None:
    assembler = ContentAssembler()
    assembler.add(*cut_frames(METHOD_FRAME))
    other = frames(pika.frame.Method(2, pika.spec.Channel.CloseOk()))
    assert assembler.add(*cut_frames(other)) == (None, None)
    assert [content.method for content in assembler.take_all()] == [DELIVER]
    assert assembler.take_all() == []
