"""Vector frames against pika's own encoder and decoder, byte by byte."""

import uuid

import numpy as np
import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from rmqbench.amqp.vector import Confirms, Deliveries, Shape, Splitter
from rmqbench.message import HEAD_SIZE, MAX_SEQUENCE, Recipe

RUN = uuid.UUID("0f0e0d0c-0b0a-4908-8706-050403020100")
NOW = 1_790_000_000_123_456_789

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
producers = st.integers(0, 4095)
sequences = st.integers(0, MAX_SEQUENCE)
times = st.integers(0, 2**63 - 1)
frame_sizes = st.sampled_from([0, 4096, 131072])


@st.composite
def recipes(draw, sizes=st.none() | st.integers(HEAD_SIZE + 240, 1 << 14)):
    return Recipe(
        run=draw(st.uuids()),
        text=draw(texts),
        size_bytes=draw(sizes),
        producer_id=draw(texts),
        host=draw(texts),
        persistent=draw(st.booleans()),
    )


def marshal(recipe, channel, method, message, frame_max):
    """What pika sends for one message (``Channel.basic_publish`` and ``_send_message``)."""
    body = recipe.body(*message)
    room = frame_max - 8 if frame_max else len(body)
    frames = [
        pika.frame.Method(channel, method),
        pika.frame.Header(channel, len(body), recipe.properties(*message)),
        *(pika.frame.Body(channel, body[i : i + room]) for i in range(0, len(body), room)),
    ]
    return b"".join(frame.marshal() for frame in frames)


def joined(pieces):
    """Give rendered messages as one."""
    return b"".join(pieces)


def publish_shape(recipe, frame_max=131072, channel=1):
    return Shape.of_publish(
        recipe,
        channel=channel,
        exchange="direct.exchange",
        routing_key="work",
        mandatory=True,
        frame_max=frame_max,
    )


def delivery(recipe, tag, redelivered, message, *, channel=1, consumer="c", frame_max=131072):
    method = pika.spec.Basic.Deliver(consumer, tag, redelivered, "direct.exchange", "work")
    return marshal(recipe, channel, method, message, frame_max)


def test_a_publish_has_the_documented_bytes():
    recipe = Recipe(RUN, text="hi", producer_id="me", host="here")
    rendered = joined(publish_shape(recipe).render(5, np.array([0x1234567]), NOW))
    assert rendered.hex() == (
        "0100010000001c003c002800000f6469726563742e65786368616e676504776f726b01ce02000100"
        "00007a003c0000000000000000002eb0c0186170706c69636174696f6e2f6f637465742d73747265"
        "616d000000210b70726f64756365725f696453000000026d6504686f737453000000046865726502"
        "2430663065306430632d306230612d383030352d393234322d303030303031323334353637000000"
        "006ab13b80ce0300010000002e524d5142000100050f0e0d0c0b0a49088706050403020100000000"
        "000123456718d75b842b4ecd1524f735f56869ce"
    )


@given(recipes(), frame_sizes, producers, st.lists(sequences, min_size=1, max_size=5), times)
def test_rendered_publishes_are_what_pika_marshals(recipe, frame_max, producer, numbers, sent_ns):
    shape = publish_shape(recipe, frame_max)
    rendered = joined(shape.render(producer, np.array(numbers), sent_ns))
    method = pika.spec.Basic.Publish(exchange="direct.exchange", routing_key="work", mandatory=True)
    messages = [(producer, sequence, sent_ns) for sequence in numbers]
    assert rendered == b"".join(marshal(recipe, 1, method, each, frame_max) for each in messages)


@pytest.mark.parametrize("size", [HEAD_SIZE, 131072 - 8, 131072 - 7, 1 << 20])
def test_a_body_of_any_size_is_cut_into_frames_as_pika_cuts_it(size):
    recipe = Recipe(RUN, text="", size_bytes=size)
    method = pika.spec.Basic.Publish(exchange="direct.exchange", routing_key="work", mandatory=True)
    rendered = joined(publish_shape(recipe).render(1, np.array([7, 8]), NOW))
    messages = [(1, sequence, NOW) for sequence in (7, 8)]
    assert rendered == b"".join(marshal(recipe, 1, method, each, 131072) for each in messages)


@given(recipes(), producers, sequences, times)
def test_pika_decodes_what_was_rendered(recipe, producer, sequence, sent_ns):
    stream = joined(publish_shape(recipe).render(producer, np.array([sequence]), sent_ns))
    body, properties = b"", None
    while stream:
        consumed, frame = pika.frame.decode_frame(stream)
        stream = stream[consumed:]
        if isinstance(frame, pika.frame.Header):
            properties = frame.properties
        elif isinstance(frame, pika.frame.Body):
            body += frame.fragment
    assert recipe.identify(properties, body) == (producer, sequence)
    assert recipe.difference(properties, body, recipe.identify(properties, body)) is None


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


@st.composite
def streams(draw):
    """Draw a stream of frames, what must come of it, and where it is cut."""
    recipe = Recipe(RUN, text="some text", size_bytes=draw(st.sampled_from([None, 100, 9000])))
    frame_max = draw(st.sampled_from([4096, 131072]))
    pieces = []
    for _ in range(draw(st.integers(1, 30))):
        kind = draw(st.sampled_from(["delivery", "confirm", "other", "flipped", "foreign"]))
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
            if kind == "flipped":
                # Only in payloads: a broken frame header is pika's to find.
                at = len(frames) - 2 - draw(st.integers(0, 20))
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


@given(streams())
@settings(deadline=None)
def test_a_stream_cut_anywhere_gives_the_same_and_loses_nothing(drawn):
    recipe, frame_max, stream, cuts, expected = drawn
    splitter = Splitter()
    splitter.expect_confirms(1)
    splitter.expect_deliveries(
        1, Shape.of_delivery(delivery(recipe, 1, False, (0, 0, NOW), frame_max=frame_max), recipe)
    )
    events = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += splitter.feed(stream[start:end])
    assert flatten(events) == expected


@given(streams(), st.data())
@settings(deadline=None)
def test_a_damaged_stream_cut_anywhere_gives_the_same(drawn, data):
    recipe, frame_max, stream, cuts, _ = drawn
    stream = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    given_events = []
    for bounds in ([], cuts):
        splitter = Splitter()
        splitter.expect_confirms(1)
        first = delivery(recipe, 1, False, (0, 0, NOW), frame_max=frame_max)
        splitter.expect_deliveries(1, Shape.of_delivery(first, recipe))
        events = []
        for start, end in zip([0, *bounds], [*bounds, len(stream)], strict=True):
            events += splitter.feed(bytes(stream[start:end]))
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


@given(recipes(), st.data())
def test_not_one_flipped_bit_of_a_delivery_passes(recipe, data):
    frames = bytearray(delivery(recipe, 5, False, (3, 1000, NOW)))
    shape = Shape.of_delivery(bytes(frames), recipe)
    free = range(shape.dtype.fields["tag"][1], shape.dtype.fields["redelivered"][1] + 1)
    at = data.draw(st.integers(0, len(frames) - 1).filter(lambda i: i not in free))
    frames[at] ^= 1 << data.draw(st.integers(0, 7))
    matched = shape.match(bytes(frames), 0, 1)
    assert len(matched.tags) == 0


def test_a_shape_is_not_learned_from_a_message_whose_head_is_damaged():
    recipe = Recipe(RUN)
    frames = bytearray(delivery(recipe, 1, False, (0, 0, NOW)))
    assert Shape.of_delivery(bytes(frames), recipe) is not None
    frames[frames.index(b"RMQB") + 41] ^= 1  # in the checksum
    assert Shape.of_delivery(bytes(frames), recipe) is None


# --- each check by itself, without chance --------------------------------------------------------


@pytest.fixture(scope="module", params=[(131072, None), (4096, 9000)], ids=["one", "three"])
def learned(request):
    """A shape of one or of three body frames, and what makes deliveries of it."""
    frame_max, size = request.param
    recipe = Recipe(RUN, text="some text", size_bytes=size)

    def make(tag, redelivered, sequence):
        return delivery(recipe, tag, redelivered, (3, sequence, NOW), frame_max=frame_max)

    return Shape.of_delivery(make(1, False, 0), recipe), make


def test_not_one_flipped_byte_of_a_delivery_passes_but_in_tag_and_flag(learned):
    shape, make = learned
    frames = make(5, False, 1000)
    free = range(shape.dtype.fields["tag"][1], shape.dtype.fields["redelivered"][1])
    passed = []
    for at in range(len(frames)):
        damaged = frames[:at] + bytes([frames[at] ^ 0x40]) + frames[at + 1 :]
        if len(shape.match(damaged, 0, 1).tags):
            passed.append(at)
    assert passed == list(free)


def test_of_the_octet_with_the_flag_only_the_flag_may_differ(learned):
    shape, make = learned
    at = shape.dtype.fields["redelivered"][1]
    for bits in range(256):
        frames = bytearray(make(5, False, 1000))
        frames[at] = bits
        assert len(shape.match(bytes(frames), 0, 1).tags) == (bits in (0, 1)), bits


def test_tags_flags_producers_and_sequences_are_read_as_they_stand(learned):
    shape, make = learned
    stream = make(7, False, 2**40) + make(2**50, True, 0) + make(9, False, 5)
    rows = shape.match(stream, 0, 3)
    assert rows.tags.tolist() == [7, 2**50, 9]
    assert rows.redelivered.tolist() == [False, True, False]
    assert rows.producers.tolist() == [3, 3, 3]
    assert rows.sequences.tolist() == [2**40, 0, 5]


def test_what_follows_a_damaged_delivery_is_not_taken_for_it(learned):
    shape, make = learned
    damaged = bytearray(make(2, False, 2))
    damaged[-2] ^= 1
    rows = shape.match(make(1, False, 1) + bytes(damaged) + make(3, False, 3), 0, 3)
    assert rows.tags.tolist() == [1]


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
