"""A message follows from run, producer, sequence and send time; nothing else passes for it."""

import json
import uuid
import zlib
from dataclasses import replace
from unittest import mock

import numpy as np
import pika
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import example, given
from hypothesis import strategies as st

from rmqbench.errors import UsageError
from rmqbench.message import (
    BROKER_HEADERS,
    HEAD,
    HEAD_SIZE,
    MAX_PRODUCERS,
    MAX_SEQUENCE,
    Content,
    Identity,
    Recipe,
    added_headers,
    content_of,
    recipe_of,
)

RUN = uuid.UUID("0f0e0d0c-0b0a-4908-8706-050403020100")
NOW = 1_790_000_000_123_456_789
MESSAGE = (5, 0x1234567, NOW)


@pytest.fixture
def recipe():
    return Recipe(RUN, text="Grüße", producer_id="me", host="here")


def test_the_message_id_is_a_uuid_of_version_8_that_holds_run_producer_and_sequence(recipe):
    message_id = recipe.message_id(0xABC, 0x1234567)
    assert message_id == "0f0e0d0c-0b0a-8abc-9242-000001234567"
    assert uuid.UUID(message_id).version == 8
    assert uuid.UUID(message_id).variant == uuid.RFC_4122
    assert recipe.read_message_id(message_id) == (0xABC, 0x1234567)


def test_the_head_has_the_documented_layout(recipe):
    body = recipe.body(*MESSAGE)
    magic, version, producer, run, sequence, sent_ns, crc = HEAD.unpack(body[:44])
    assert (magic, version, run) == (b"RMQB", 1, RUN.bytes)
    assert (producer, sequence, sent_ns) == MESSAGE
    assert crc == zlib.crc32(body[:40])
    assert body[44:].decode() == "Grüße"


def test_a_size_is_the_size_of_the_whole_body():
    assert len(Recipe(RUN, size_bytes=1000).body(*MESSAGE)) == 1000
    assert len(Recipe(RUN, text="", size_bytes=HEAD_SIZE).body(*MESSAGE)) == HEAD_SIZE


MIXED = Recipe(RUN, size_bytes="100:16384")


def test_a_body_has_the_size_that_is_computed_for_it():
    sequences = np.arange(200)
    lengths = [len(MIXED.body(5, sequence, NOW)) for sequence in sequences.tolist()]
    assert lengths == [MIXED.size_of(5, sequence) for sequence in sequences.tolist()]
    assert lengths == MIXED.sizes_of(5, sequences).tolist()
    assert lengths == MIXED.sizes_of(np.full(200, 5), sequences).tolist()
    assert sum(lengths) == MIXED.total_bytes(5, sequences)
    assert len({*lengths}) > 150


@pytest.mark.parametrize("size", [200, "100:1000*3,2000"])
def test_what_many_bodies_have_together_is_the_sum_however_many_they_are(size):
    recipe = Recipe(RUN, size_bytes=size)
    sequences = np.arange(3, 40_000)  # computed in several parts
    assert recipe.total_bytes(7, sequences) == recipe.sizes_of(7, sequences).sum()
    assert recipe.total_bytes(7, sequences[:0]) == 0


def test_all_bodies_begin_as_the_largest_one_does():
    message = (5, 17, NOW)
    largest = replace(MIXED, size_bytes=16384).body(*message)
    assert largest.startswith(MIXED.body(*message))


def test_a_body_of_another_size_than_its_own_is_a_difference():
    message, identity = (5, 17, NOW), Identity(5, 17)
    own = MIXED.size_of(*identity)
    largest = replace(MIXED, size_bytes=16384).body(*message)
    for size in (100, own - 1, own + 1, 16384):
        difference = MIXED.difference(MIXED.properties(*message), largest[:size], identity)
        assert difference == f"the length of the body: {size} instead of {own} bytes"
    assert MIXED.difference(MIXED.properties(*message), largest[:own], identity) is None


def test_the_smallest_of_mixed_sizes_has_room_for_the_text():
    with pytest.raises(UsageError, match=r"A body of 54 bytes is too small: .* need 55"):
        Recipe(RUN, text="Hello World", size_bytes="100*9,54:1000")


def test_the_recipe_of_one_message_among_mixed_sizes_has_the_size_of_that_one():
    own = MIXED.size_of(*MESSAGE[:2])
    found = recipe_of(MIXED.properties(*MESSAGE), MIXED.body(*MESSAGE))
    assert found == replace(MIXED, size_bytes=own)


@pytest.mark.parametrize("size", [None, 200, "200", "100:1000*3,2000"])
def test_a_recipe_is_the_same_after_it_was_written_as_json(size):
    recipe = Recipe(RUN, size_bytes=size)
    assert Recipe(RUN, **json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize("name", ["text", "producer_id", "host"])
def test_what_utf8_cannot_say_is_refused(name):
    with pytest.raises(UsageError, match=f"The {name} cannot be written as UTF-8"):
        Recipe(uuid.UUID(int=1), **{name: "\udcff"})


def test_each_producer_has_its_priority():
    recipe = Recipe(RUN, priorities=(0, 9))
    assert [recipe.properties(number, 5, NOW).priority for number in range(3)] == [0, 9, 0]
    assert Recipe(RUN).properties(*MESSAGE).priority is None
    assert Recipe(RUN, **json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert not recipe.is_of_one_form
    own = recipe.of_producer(1)
    assert own.is_of_one_form
    assert own.properties(1, 5, NOW) == recipe.properties(1, 5, NOW)
    assert recipe_of(own.properties(1, 5, NOW), own.body(1, 5, NOW)) == own
    other = recipe.properties(0, 5, NOW)
    assert recipe.difference(other, recipe.body(1, 5, NOW), Identity(1, 5)) is not None
    other = replace(recipe, priorities=()).properties(1, 5, NOW)
    difference = recipe.difference(other, recipe.body(1, 5, NOW), Identity(1, 5))
    assert difference == "the property priority: None instead of 9"


@pytest.mark.parametrize("priority", [-1, 256, 1.5, "high"])
def test_a_priority_that_amqp_has_not_is_refused(priority):
    with pytest.raises(UsageError, match="priorities"):
        Recipe(RUN, priorities=(1, priority))


def test_a_size_too_small_for_the_text_is_refused():
    with pytest.raises(UsageError, match="need 55"):
        Recipe(RUN, text="Hello World", size_bytes=54)


def test_the_timestamp_is_in_seconds_and_persistence_is_the_delivery_mode(recipe):
    assert recipe.properties(*MESSAGE).timestamp == NOW // 10**9
    assert recipe.properties(*MESSAGE).delivery_mode == 2
    assert Recipe(RUN, persistent=False).properties(*MESSAGE).delivery_mode == 1


def test_a_message_is_known_by_its_head_or_else_by_its_message_id(recipe):
    body, properties = recipe.body(*MESSAGE), recipe.properties(*MESSAGE)
    assert recipe.identify(properties, body) == MESSAGE[:2]
    assert recipe.identify(pika.BasicProperties(), body) == MESSAGE[:2]
    assert recipe.identify(properties, b"\0" * 60) == MESSAGE[:2]
    assert recipe.identify(pika.BasicProperties(), b"\0" * 60) is None


@pytest.mark.parametrize(
    "message_id",
    [None, "", "x" * 36, f"{uuid.UUID(int=7)}", "0F0E0D0C-0B0A-8ABC-9242-000001234567", "é" * 36],
)
def test_a_strange_message_id_is_not_of_this_run(recipe, message_id):
    assert recipe.read_message_id(message_id) is None


def test_another_run_is_not_this_run(recipe):
    other = Recipe(uuid.uuid4())
    assert recipe.identify(other.properties(*MESSAGE), other.body(*MESSAGE)) is None


def test_what_was_sent_has_no_difference(recipe):
    difference = recipe.difference(
        recipe.properties(*MESSAGE), recipe.body(*MESSAGE), Identity(*MESSAGE[:2])
    )
    assert difference is None


def test_every_flipped_byte_of_the_body_is_a_difference(recipe):
    properties, body = recipe.properties(*MESSAGE), recipe.body(*MESSAGE)
    for at in range(len(body)):
        damaged = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        assert recipe.difference(properties, damaged, Identity(*MESSAGE[:2])), at


@pytest.mark.parametrize("body", [b"", b"short"])
def test_a_shortened_body_is_a_difference(recipe, body):
    properties = recipe.properties(*MESSAGE)
    assert recipe.difference(properties, body, Identity(*MESSAGE[:2]))
    longer = recipe.body(*MESSAGE) + b"!"
    assert "length" in (recipe.difference(properties, longer, Identity(*MESSAGE[:2])) or "")


def difference_of(recipe, properties):
    """Return the difference of a message whose body is as it was sent."""
    return recipe.difference(properties, recipe.body(*MESSAGE), Identity(*MESSAGE[:2]))


PROPERTIES = sorted(set(vars(pika.BasicProperties())) - {"headers"})


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_changed_property_is_a_difference(recipe, name):
    properties = recipe.properties(*MESSAGE)
    sent = getattr(properties, name)
    setattr(properties, name, "other")
    named = f"the property {name}: 'other' instead of {sent!r}"
    assert difference_of(recipe, properties) == named


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"producer_id": "you", "host": "here"}, "the header 'producer_id': 'you' instead of 'me'"),
        ({"producer_id": "me"}, "the header 'host' was taken away"),
        (None, "the header 'host' was taken away"),
        ({"producer_id": "me", "host": "here", "x-other": 1}, "the header 'x-other' was added"),
    ],
    ids=["changed", "taken away", "all taken away", "added"],
)
def test_every_changed_header_is_a_difference(recipe, headers, named):
    properties = recipe.properties(*MESSAGE)
    properties.headers = headers
    assert difference_of(recipe, properties) == named


@pytest.mark.parametrize(
    "headers",
    [
        {"producer_id": "me", "host": ["x" * 10**6]},
        {"producer_id": "me", "host": "here", "y" * 10**6: 1},
    ],
    ids=["value", "name"],
)
def test_of_a_huge_header_a_sentence_shows_its_beginning(recipe, headers):
    properties = recipe.properties(*MESSAGE)
    properties.headers = headers
    difference = difference_of(recipe, properties)
    assert "xxxxx" in difference or "yyyyy" in difference
    assert "…" in difference
    assert len(difference) < 120


@pytest.mark.parametrize("name", sorted(BROKER_HEADERS))
def test_a_header_that_rabbitmq_adds_is_no_difference(recipe, name):
    properties = recipe.properties(*MESSAGE)
    properties.headers[name] = 1
    assert difference_of(recipe, properties) is None


@pytest.mark.parametrize(
    ("taken_ms", "timestamp", "is_right"),
    [
        (1_800_000_000_999, 1_800_000_000, True),
        (1_800_000_000_999, 1_800_000_001, False),
        (1_800_000_000_999, None, False),
        (None, 1_800_000_000, False),
        ("1800000000999", 1_800_000_000, False),
    ],
)
def test_a_timestamp_that_rabbitmq_overwrites_is_the_one_that_its_header_says(
    recipe, taken_ms, timestamp, is_right
):
    properties = recipe.properties(*MESSAGE)
    properties.timestamp = timestamp
    if taken_ms is not None:
        properties.headers["timestamp_in_ms"] = taken_ms
    sent = recipe.properties(*MESSAGE).timestamp
    named = f"the property timestamp: {timestamp} instead of {sent}"
    assert difference_of(recipe, properties) == (None if is_right else named)


def test_headers_that_rabbitmq_adds_where_it_is_configured_to_are_told(recipe):
    properties = recipe.properties(*MESSAGE)
    assert added_headers(properties) == frozenset()
    properties.headers |= {"timestamp_in_ms": 1, "x-routed-by": "rabbit@a", "x-delivery-count": 1}
    assert added_headers(properties) == {"timestamp_in_ms", "x-routed-by"}
    assert added_headers(pika.BasicProperties()) == frozenset()


def test_a_sound_head_under_another_message_id_is_a_difference(recipe):
    properties = recipe.properties(5, 1, NOW)
    body = recipe.body(5, 2, NOW)
    identity = recipe.identify(properties, body)
    assert identity == (5, 2)
    named = recipe.difference(properties, body, identity)
    assert named == (
        f"the property message_id: {properties.message_id!r} instead of {recipe.message_id(5, 2)!r}"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [(0, b"RMQC"), (1, 2), (2, 4096), (3, uuid.UUID(int=5).bytes), (4, 1 << 63)],
    ids=["magic", "version", "producer", "run", "sequence"],
)
def test_a_head_with_a_right_checksum_is_sound_only_if_all_else_is_right(recipe, field, value):
    body = recipe.body(*MESSAGE)
    fields = list(HEAD.unpack_from(body))
    fields[field] = value
    checked = HEAD.pack(*fields)[:-4]
    forged = checked + zlib.crc32(checked).to_bytes(4, "big") + body[HEAD_SIZE:]
    assert recipe.read_head(body) == MESSAGE
    assert recipe.read_head(forged) is None
    assert recipe.identify(pika.BasicProperties(), forged) is None
    assert recipe.difference(recipe.properties(*MESSAGE), forged, Identity(*MESSAGE[:2]))


def test_a_wrong_checksum_is_a_damaged_head(recipe):
    body = bytearray(recipe.body(*MESSAGE))
    body[31] ^= 1  # the sequence number
    assert recipe.read_head(bytes(body)) is None
    identity = recipe.identify(recipe.properties(*MESSAGE), bytes(body))
    assert identity == MESSAGE[:2]
    difference = recipe.difference(recipe.properties(*MESSAGE), bytes(body), identity)
    assert difference == "the head of the body"


@pytest.mark.parametrize("name", ["content_type", "delivery_mode", "message_id", "timestamp"])
def test_a_property_that_is_gone_is_a_difference(recipe, name):
    properties = recipe.properties(*MESSAGE)
    sent = getattr(properties, name)
    setattr(properties, name, None)
    assert difference_of(recipe, properties) == f"the property {name}: None instead of {sent!r}"


# --- messages of any run, and of anybody --------------------------------------------------------

FOREIGN = [
    b"",
    b"RMQB",
    b"RMQB" + bytes(39),
    b"RMQB" + bytes(60),
    b"RMQB" + b"\xff" * 60,
    b"\xff\xfe\x00",
    "Grüße".encode(),
    b'{"a": 1}' * 20,
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def recipes(draw):
    text = draw(texts)
    least = HEAD_SIZE + len(text.encode())
    return Recipe(
        run=draw(st.uuids()),
        text=text,
        size_bytes=draw(
            st.none()
            | st.integers(least, least + 600)
            | st.integers(0, 300).map(lambda more: f"{least}*2,{least + 5}:{least + 5 + more}")
        ),
        producer_id=draw(texts),
        host=draw(texts),
        persistent=draw(st.booleans()),
    )


messages = st.tuples(
    st.integers(0, MAX_PRODUCERS - 1), st.integers(0, MAX_SEQUENCE), st.integers(0, 2**63 - 1)
)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(RUN),
        Recipe(RUN, text=""),
        Recipe(RUN, text="", size_bytes=HEAD_SIZE + 300),
        Recipe(RUN, size_bytes=HEAD_SIZE + len("Hello World") + 1),
        Recipe(RUN, size_bytes=10_000),
        Recipe(RUN, text="Grüße, 世界 🐇", size_bytes=200),
        Recipe(RUN, text="\ufeff\x01\x7f\r\n\\xff \u202e"),
        Recipe(RUN, text="RMQB\x01\x02", size_bytes=77),
        Recipe(RUN, persistent=False),
        Recipe(RUN, producer_id="Größe", host=""),
    ],
    ids=[
        "as long as its text",
        "no text",
        "only filling",
        "one byte of filling",
        "filling",
        "Unicode",
        "odd characters",
        "the magic as its text",
        "transient",
        "other headers",
    ],
)
def test_the_recipe_of_a_message_is_found(recipe):
    properties, body = recipe.properties(*MESSAGE), recipe.body(*MESSAGE)
    assert recipe_of(properties, body) == recipe
    assert content_of(body).text == recipe.text


def test_a_size_without_filling_is_the_length_of_the_text():
    recipe = Recipe(RUN, text="abc", size_bytes=HEAD_SIZE + 3)
    found = recipe_of(recipe.properties(*MESSAGE), recipe.body(*MESSAGE))
    assert found == Recipe(RUN, text="abc")


@given(recipes(), messages)
@example(Recipe(RUN, text="a\0b"), MESSAGE)
@example(Recipe(RUN, text="a\0"), MESSAGE)
@example(Recipe(RUN, text="a\0", size_bytes=200), MESSAGE)
def test_a_recipe_that_is_found_computes_every_byte(recipe, message):
    properties, body = recipe.properties(*message), recipe.body(*message)
    found = recipe_of(properties, body)
    if "\0" not in recipe.text:
        assert found is not None
        assert found.text == recipe.text
    if found is not None:
        assert found.run == recipe.run
        assert found.body(*message) == body
        assert found.properties(*message) == properties


@given(recipes(), messages, st.data())
def test_a_damaged_message_has_no_recipe_but_one_that_computes_it(recipe, message, data):
    """A changed text can be that of another run; everything else shows."""
    properties, body = recipe.properties(*message), bytearray(recipe.body(*message))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    found = recipe_of(properties, bytes(body))
    if at < HEAD_SIZE:
        assert found is None
    elif found is not None:
        assert found.body(*message) == body


def test_a_damaged_message_has_no_recipe():
    recipe = Recipe(RUN, size_bytes=400)
    properties, body = recipe.properties(*MESSAGE), recipe.body(*MESSAGE)
    text = range(HEAD_SIZE, HEAD_SIZE + len(recipe.text) + 1)
    for at in {*range(len(body))}.difference(text):
        damaged = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        assert recipe_of(properties, damaged) is None, at
    for damaged in (body[:HEAD_SIZE] + b"\xff" + body[HEAD_SIZE + 1 :], body[:20], body[:-1]):
        found = recipe_of(properties, damaged)
        assert found is None or found.body(*MESSAGE) == damaged


@pytest.mark.parametrize("name", sorted({*vars(pika.BasicProperties())} - {"headers"}))
def test_a_message_with_another_property_has_no_recipe(recipe, name):
    properties = recipe.properties(*MESSAGE)
    setattr(properties, name, "other")
    assert recipe_of(properties, recipe.body(*MESSAGE)) is None


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"producer_id": "me"},
        {"host": "here"},
        {"producer_id": "me", "host": None},
        {"producer_id": 5, "host": "here"},
        {"producer_id": b"me", "host": "here"},
        {"producer_id": "me", "host": "here", "x-other": 1},
    ],
    ids=["none", "empty", "no host", "no sender", "null", "a number", "bytes", "another"],
)
def test_a_message_with_other_headers_has_no_recipe(recipe, headers):
    properties = recipe.properties(*MESSAGE)
    properties.headers = headers
    assert recipe_of(properties, recipe.body(*MESSAGE)) is None


def test_a_message_that_rabbitmq_delivers_again_has_its_recipe(recipe):
    properties, body = recipe.properties(*MESSAGE), recipe.body(*MESSAGE)
    properties.headers["x-delivery-count"] = 1
    assert recipe_of(properties, body) == recipe
    assert content_of(body).text == "Grüße"


@pytest.mark.parametrize("body", FOREIGN)
def test_a_message_of_another_origin_has_no_recipe(recipe, body):
    assert recipe_of(pika.BasicProperties(), body) is None
    assert recipe_of(recipe.properties(*MESSAGE), body) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        ("Grüße 世界".encode(), "Grüße 世界"),
        (b"a\xff\x00b", "a\\xff\0b"),
        (b"\xc3", "\\xc3"),
    ],
    ids=["empty", "UTF-8", "binary", "cut off"],
)
def test_the_text_of_a_message_of_another_origin_is_its_whole_body(body, text):
    assert content_of(body).text == text


@given(st.binary(max_size=200), st.sampled_from([b"", b"RMQB", Recipe(RUN).head(1, 2, 3)]))
def test_every_body_has_a_text_that_can_be_written(body, before):
    content_of(before + body).text.encode()


def test_the_content_of_a_message_is_its_text_without_head_and_filling(recipe):
    own_size = len(recipe.body(*MESSAGE))
    for size in (None, own_size + 1, 300, 70_000):
        sized = replace(recipe, size_bytes=size)
        body = sized.body(*MESSAGE)
        filling = 0 if size is None else size - own_size
        assert content_of(body) == Content("Grüße".encode(), HEAD_SIZE, MESSAGE, filling)


@pytest.mark.parametrize("at", range(HEAD_SIZE))
def test_a_damaged_head_is_read_as_a_part_of_the_body(recipe, at):
    body = bytearray(recipe.body(*MESSAGE))
    body[at] ^= 1
    assert content_of(bytes(body)) == Content(bytes(body))


def test_a_sound_head_before_binary_data_is_no_part_of_it(recipe):
    body = recipe.head(*MESSAGE) + b"\xff\0a"
    assert content_of(body) == Content(b"\xff\0a", HEAD_SIZE, MESSAGE)
    assert content_of(body).text == "\\xff\0a"


def test_what_is_not_the_filling_that_was_computed_is_content(recipe):
    body = bytearray(replace(recipe, size_bytes=300).body(*MESSAGE))
    body[200] ^= 1
    content = content_of(bytes(body))
    assert (content.head, content.filling_bytes) == (MESSAGE, 0)
    assert content.data == body[HEAD_SIZE:]


@given(recipes(), messages, st.integers(0, 400))
def test_of_a_body_that_is_cut_the_part_that_is_there_is_read_alike(recipe, message, kept):
    content = content_of(recipe.body(*message)[: HEAD_SIZE + kept])
    assert content.head == message
    if "\0" not in recipe.text:
        assert content.data == recipe.text.encode()[:kept]


@given(
    st.text(max_size=300),
    st.integers(0, 200_000),
    st.integers(0, 200_000),
    st.sampled_from([256, 1000, 1 << 16]),
)
def test_pieces_of_a_tail_are_the_tail(text, one, other, piece_bytes):
    recipe = Recipe(RUN, text=text, size_bytes=201_000)
    at, end = sorted((min(one, len(recipe.tail)), min(other, len(recipe.tail))))
    with mock.patch("rmqbench.message._PIECE_BYTES", piece_bytes):
        pieces = [*recipe.tail_pieces(at, end - at)]
    assert b"".join(pieces) == recipe.tail[at:end]
    assert all(pieces)
