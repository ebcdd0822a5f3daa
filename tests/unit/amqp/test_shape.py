"""The bytes of many messages against pika's own encoder and decoder, byte by byte."""

import uuid
from dataclasses import replace

import numpy as np
import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from support.frames import delivery, marshal

from rmqbench.amqp.framing import OVERHEAD
from rmqbench.amqp.shape import Shape
from rmqbench.message import HEAD_SIZE, MAX_SEQUENCE, Recipe

RUN = uuid.UUID("0f0e0d0c-0b0a-4908-8706-050403020100")
NOW = 1_790_000_000_123_456_789

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
producers = st.integers(0, 4095)
sequences = st.integers(0, MAX_SEQUENCE)
times = st.integers(0, 2**63 - 1)
frame_sizes = st.sampled_from([0, 4096, 131072])
LEAST = HEAD_SIZE + 240  # what the longest text needs


@st.composite
def mixed_sizes(draw):
    """Draw one to three ranges with weights; with frames of 4,096 bytes a body has up to five."""
    ranges = []
    for _ in range(draw(st.integers(1, 3))):
        smallest = draw(st.integers(LEAST, 1 << 14))
        largest = smallest + draw(st.sampled_from([0, 1, 50, 5000]))
        ranges.append(f"{smallest}:{largest}*{draw(st.integers(1, 5))}")
    return ",".join(ranges)


@st.composite
def recipes(draw, sizes=st.none() | st.integers(LEAST, 1 << 14) | mixed_sizes()):
    return Recipe(
        run=draw(st.uuids()),
        text=draw(texts),
        size_bytes=draw(sizes),
        producer_id=draw(texts),
        host=draw(texts),
        persistent=draw(st.booleans()),
    )


def joined(pieces):
    """Give rendered messages as one."""
    return b"".join(pieces)


def match(shape, frames, most=1):
    """Give the tags, flags, producers and sequences of what is taken off these frames."""
    if shape.is_wide:
        at, octets = 0, []
        while len(octets) < most and (length := shape.whole(frames, at, len(frames))):
            octets.append(np.frombuffer(shape.row(frames, at), np.uint8))
            at += length
        if not octets:
            return []
        rows = shape.match_rows(np.array(octets))
    else:
        bounds = shape.bounds(frames, 0, len(frames), most)
        if len(bounds) == 1:
            return []
        rows = shape.match(frames, bounds)
    columns = (rows.tags, rows.redelivered, rows.producers, rows.sequences)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def publish_shape(recipe, frame_max=131072, channel=1):
    return Shape.of_publish(
        recipe,
        channel=channel,
        exchange="direct.exchange",
        routing_key="work",
        mandatory=True,
        frame_max=frame_max,
    )


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


ROOM = 131072 - OVERHEAD


@pytest.mark.parametrize(
    "size",
    [
        *(HEAD_SIZE, ROOM, ROOM + 1, 1 << 20),
        *(f"{HEAD_SIZE}:{HEAD_SIZE + 1}", f"{ROOM - 1}:{ROOM + 1}"),
        f"{HEAD_SIZE},{ROOM},{2 * ROOM - 1}:{2 * ROOM + 1},{1 << 20}",
    ],
)
def test_a_body_of_any_size_is_cut_into_frames_as_pika_cuts_it(size):
    recipe = Recipe(RUN, text="", size_bytes=size)
    method = pika.spec.Basic.Publish(exchange="direct.exchange", routing_key="work", mandatory=True)
    shape = publish_shape(recipe)
    count = min(20, shape.max_rows)
    rendered = joined(shape.render(1, np.arange(count), NOW))
    messages = [(1, sequence, NOW) for sequence in range(count)]
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


@given(recipes(), st.data())
def test_not_one_flipped_bit_of_a_delivery_passes(recipe, data):
    frames = bytearray(delivery(recipe, 5, False, (3, 1000, NOW)))
    shape = Shape.of_delivery(bytes(frames), recipe, 131072)
    free = range(shape.dtype.fields["tag"][1], shape.dtype.fields["redelivered"][1] + 1)
    at = data.draw(st.integers(0, len(frames) - 1).filter(lambda i: i not in free))
    frames[at] ^= 1 << data.draw(st.integers(0, 7))
    assert match(shape, bytes(frames)) == []


def test_a_shape_is_not_learned_from_a_message_whose_head_is_damaged():
    recipe = Recipe(RUN)
    frames = bytearray(delivery(recipe, 1, False, (0, 0, NOW)))
    assert Shape.of_delivery(bytes(frames), recipe, 131072) is not None
    frames[frames.index(b"RMQB") + 41] ^= 1  # in the checksum
    assert Shape.of_delivery(bytes(frames), recipe, 131072) is None


def test_a_shape_is_learned_only_where_all_messages_have_the_same_properties():
    """Else one that came with another's priority would pass for what was sent."""
    recipe = Recipe(RUN, priorities=(0, 9))
    frames = delivery(recipe, 1, False, (0, 0, NOW))
    assert Shape.of_delivery(frames, recipe, 131072) is None
    frames = delivery(recipe, 1, False, (1, 0, NOW))
    assert Shape.of_delivery(frames, recipe, 131072) is None
    alike = replace(recipe, priorities=(9, 9))
    assert match(Shape.of_delivery(frames, alike, 131072), frames)


# --- each check by itself, without chance --------------------------------------------------------


@pytest.fixture(
    scope="module",
    params=[(131072, None), (4096, 9000), (131072, "100:1000"), (4096, "9000:9100,60:80")],
    ids=["one", "three", "mixed", "one and three"],
)
def learned(request):
    """A shape of one or of three body frames, or of both, and what makes deliveries of it."""
    frame_max, size = request.param
    recipe = Recipe(RUN, text="some text", size_bytes=size)

    def make(tag, redelivered, sequence):
        return delivery(recipe, tag, redelivered, (3, sequence, NOW), frame_max=frame_max)

    return Shape.of_delivery(make(1, False, 0), recipe, frame_max), make


def test_not_one_flipped_byte_of_a_delivery_passes_but_in_tag_and_flag(learned):
    shape, make = learned
    free = range(shape.dtype.fields["tag"][1], shape.dtype.fields["redelivered"][1])
    short, long = make(5, False, 1000), max((make(5, False, n) for n in range(30)), key=len)
    for frames in {len(each): each for each in (short, long)}.values():
        passed = []
        for at in range(len(frames)):
            damaged = frames[:at] + bytes([frames[at] ^ 0x40]) + frames[at + 1 :]
            if match(shape, damaged):
                passed.append(at)
        assert passed == list(free)


def test_of_the_octet_with_the_flag_only_the_flag_may_differ(learned):
    shape, make = learned
    at = shape.dtype.fields["redelivered"][1]
    for bits in range(256):
        frames = bytearray(make(5, False, 1000))
        frames[at] = bits
        assert len(match(shape, bytes(frames))) == (bits in (0, 1)), bits


def test_tags_flags_producers_and_sequences_are_read_as_they_stand(learned):
    shape, make = learned
    stream = make(7, False, 2**40) + make(2**50, True, 0) + make(9, False, 5)
    expected = [(7, False, 3, 2**40), (2**50, True, 3, 0), (9, False, 3, 5)]
    assert match(shape, stream, 3) == expected


def test_what_follows_a_damaged_delivery_is_not_taken_for_it(learned):
    shape, make = learned
    damaged = bytearray(make(2, False, 2))
    damaged[-2] ^= 1
    stream = make(1, False, 1) + bytes(damaged) + make(3, False, 3)
    assert [tag for tag, *_ in match(shape, stream, 3)] == [1]


def test_messages_are_taken_up_to_as_many_as_are_asked_for_and_whole(learned):
    shape, make = learned
    first, second = make(1, False, 1), make(2, False, 2)
    assert [tag for tag, *_ in match(shape, first + second, 1)] == [1]
    assert [tag for tag, *_ in match(shape, first + second[:-1], 2)] == [1]
    assert match(shape, first[:-1], 2) == []


def test_what_has_begun_may_become_whole_and_what_is_whole_does_not_grow(learned):
    shape, make = learned
    frames = make(1, False, 1)
    assert [n for n in range(len(frames) + 1) if not shape.may_grow_into(frames, 0, n)] == [
        len(frames)
    ]


# --- sizes of their own --------------------------------------------------------------------------


MIXED = Recipe(RUN, text="some text", size_bytes="100:1000,9000:20000")


def of_size(size, sequence=5, frame_max=4096):
    """Give a delivery whose frames are right, and whose body has this size."""
    recipe = replace(MIXED, size_bytes=size)
    return delivery(recipe, 1, False, (3, sequence, NOW), frame_max=frame_max)


@pytest.fixture(scope="module")
def mixed():
    return Shape.of_delivery(of_size(MIXED.size_of(3, 5)), MIXED, 4096)


def test_a_message_of_another_size_than_its_own_is_not_taken(mixed):
    right = MIXED.size_of(3, 5)
    sizes = [*range(90, 110), *range(990, 1010), *range(right - 5, right + 6), 8999, 20000, 20001]
    assert [size for size in sizes if match(mixed, of_size(size))] == [right]


def test_where_the_broker_cuts_frames_otherwise_large_messages_are_left_to_pika(mixed):
    sequences = range(40)
    taken = [
        bool(match(mixed, delivery(MIXED, 1, False, (3, n, NOW), frame_max=8192)))
        for n in sequences
    ]
    assert taken == [MIXED.size_of(3, n) <= 4096 - OVERHEAD for n in sequences]
    assert {*taken} == {True, False}


@given(st.integers(0, 200), st.binary(min_size=8, max_size=8), st.integers(0, 600))
@settings(deadline=None)
def test_what_claims_to_be_of_any_size_is_waited_for_only_as_far_as_its_frames_say(
    mixed, sequence, claimed, more
):
    """A size that is none of theirs, or does not fit the frames that are there, ends the wait."""
    frames = bytearray(of_size(MIXED.size_of(3, sequence), sequence))
    at = frames.index(b"RMQB") - 7  # the first body frame
    size_at = frames.index(b"\x00\x3c\x00\x00", 7) + 4
    size = int.from_bytes(claimed, "big") % 30_000
    frames[size_at : size_at + 8] = size.to_bytes(8, "big")
    here = bytes(frames[: at + 7 + more])
    fits = min(size, 4088) == int.from_bytes(frames[at + 3 : at + 7], "big")
    known = 100 <= size <= 1000 or 9000 <= size <= 20000
    if mixed.may_grow_into(here, 0, len(here)):
        assert 100 <= size <= 20000
        assert fits
    elif fits and known:
        assert len(here) >= at + 7 + min(size, 4088) + 1


def test_large_bodies_are_sent_from_where_they_are():
    recipe = Recipe(RUN, size_bytes="100*3,300000")
    pieces = publish_shape(recipe).render(0, np.arange(50), NOW)
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert len({id(view.obj) for view in views}) == 1
    assert sum(map(len, pieces)) - sum(map(len, views)) < 50 * 500 + 50 * 131072
    method = pika.spec.Basic.Publish(exchange="direct.exchange", routing_key="work", mandatory=True)
    messages = [(0, sequence, NOW) for sequence in range(50)]
    assert joined(pieces) == b"".join(marshal(recipe, 1, method, m, 131072) for m in messages)


def test_a_mean_is_what_many_messages_are_long():
    recipe = Recipe(RUN, size_bytes="100:1000*3,2000")
    shape = publish_shape(recipe)
    parts = np.array_split(np.arange(2000), 4)
    length = sum(len(joined(shape.render(0, part, NOW))) for part in parts)
    assert length / 2000 == pytest.approx(shape.mean_bytes, rel=0.03)
