"""What the window writes of a message, whoever wrote it."""

import json
import re
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from rmqbench.endpoint import Endpoint
from rmqbench.errors import UsageError
from rmqbench.gui.feed import Feed
from rmqbench.gui.rows import (
    KEPT_BYTES,
    Received,
    about,
    contents,
    line,
    row,
    shown,
)
from rmqbench.message import Recipe, content_of

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

RECIPE = Recipe(uuid.uuid4(), text="Grüße", producer_id="alice", host="build-01")
SENT_NS = 1_700_000_000_123_456_789
AT_S = 1_700_000_000.25


def message(body=b"", headers=None, **properties):
    return Received(
        received_s=AT_S,
        exchange="direct.exchange",
        routing_key="work",
        redelivered=False,
        delivery_tag=7,
        properties=properties,
        headers={} if headers is None else headers,
        body=body[:KEPT_BYTES],
        size_bytes=len(body),
    )


def own(recipe=RECIPE):
    properties = dict(vars(recipe.properties(3, 41, SENT_NS)))
    return message(recipe.body(3, 41, SENT_NS), **properties)


def written(parts):
    return "\n".join(part.text for part in parts)


def value_of(parts, label):
    texts = [part.text for part in parts]
    return texts[texts.index(label) + 1]


def test_a_row_tells_when_who_where_and_what():
    told = row(message(b"Hello World", {"producer_id": "alice", "host": "build-01"}))
    clock = time.strftime("%H:%M:%S", time.localtime(AT_S))
    assert told == (f"{clock}.250", "alice", "build-01", "Hello World")


def test_what_is_not_there_is_a_dash():
    assert row(message(b"x"))[1:3] == ("-", "-")


def test_of_our_own_messages_the_text_is_shown_and_the_head_is_read():
    assert row(own()).text == "Grüße"
    parts = contents(own())
    assert value_of(parts, "producer") == "3"
    assert value_of(parts, "sequence") == "41"
    assert value_of(parts, "sent").endswith(".123457")
    assert ("text", "Grüße") in parts


@pytest.mark.parametrize("size", [52, 60, 500, 70_000])
def test_the_filling_of_our_own_messages_is_not_shown(size):
    filled = Recipe(RECIPE.run, text="Grüße", size_bytes=size)
    assert row(own(filled)).text == "Grüße"
    parts = contents(own(filled))
    assert ("text", "Grüße") in parts
    count = "1 byte" if size == 52 else f"{size - 51:,} bytes"
    assert parts[-1] == ("note", f"Then {count} of filling.")


def test_a_damaged_head_is_shown_with_the_rest():
    body = bytearray(RECIPE.body(3, 41, SENT_NS))
    body[30] ^= 1
    assert row(message(bytes(body))).text.startswith("binary, 51 bytes: 52 4d 51 42")
    assert "producer" not in written(contents(message(bytes(body))))


def test_a_property_that_was_altered_changes_no_text():
    altered = replace(own(), properties={"message_id": "another"}, headers={"host": 7})
    assert row(altered).text == "Grüße"
    assert ("text", "Grüße") in contents(altered)


def test_of_our_own_messages_binary_data_is_shown_without_the_head():
    shown_here = message(RECIPE.head(3, 41, SENT_NS) + b"\xff\xfe")
    assert row(shown_here).text == "binary, 2 bytes: ff fe"
    parts = contents(shown_here)
    assert value_of(parts, "sequence") == "41"
    (dump,) = [part.text for part in parts if part.kind == "dump"]
    assert re.fullmatch(r"00002c  ff fe +\.\.", dump), "where it stands in the body"


@pytest.mark.parametrize("size", [None, 52, 500])
@pytest.mark.parametrize("damage", [None, 3, 47])
def test_the_window_and_consume_show_the_same_text(size, damage):
    body = bytearray(
        Recipe(RECIPE.run, text="Hello World", size_bytes=size and size + 4).body(1, 2, 3)
    )
    if damage is not None:
        body[damage] ^= 2
    text = content_of(bytes(body)).text
    told = row(message(bytes(body))).text
    assert told == text if damage != 3 else told.startswith("binary")


def test_control_characters_are_shown_and_not_obeyed():
    told = row(message(b"\x1b[2J\rgo\nne\t\x07", {"producer_id": "\x1b]0;x\x07", "host": "a\x00b"}))
    assert told.text == "\\x1b[2J\\rgo↵ne\\t\\x07"
    assert told.sender == "\\x1b]0;x\\x07"
    assert told.host == "a\\x00b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("a😀b", "a\\U0001f600b"),
        ("한국어 ✓", "한국어 ✓"),
        ("\ufffe", "\\ufffe"),
        ('{[exec ls]} $x \\ "', '{[exec ls]} $x \\ "'),
    ],
)
def test_what_tk_might_fail_to_show_is_written_out(text, expected):
    assert shown(text) == expected


@given(st.binary(max_size=200), st.text(max_size=50))
def test_whatever_a_message_holds_a_line_is_one_line_of_plain_text(body, name):
    told = row(message(body, {"producer_id": name, "host": body}))
    for cell in told:
        assert cell.isprintable()
        assert len(cell) < 2100
        assert all(ord(character) < 0x10000 for character in cell)
        cell.encode()


TABLES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text() | st.binary(), TABLES, max_size=3), st.binary())
def test_whatever_a_message_holds_its_details_can_be_written(headers, body):
    for part in [*about(message(body, headers)), *contents(message(body, headers))]:
        assert part.text.replace("\n", "").isprintable()
        part.text.encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "none"),
        (True, "true"),
        (1, "1"),
        (0, "0"),
        (Decimal("1.50"), "1.50"),
        (b"\xff\x00", "binary, 2 bytes: ff 00"),
        (datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "2024-05-06 07:08:09+00:00"),
        ([1, "a", {"k": [True]}], "[1, a, {k: [true]}]"),
        ("x\x1b", "x\\x1b"),
    ],
)
def test_values_of_any_type_are_written(value, expected):
    assert value_of(about(message(b"", {"it": value})), "it") == expected
    assert row(message(b"", {"producer_id": value})).sender == ("-" if value is None else expected)


def test_all_about_a_delivery_is_there():
    parts = about(own())
    assert value_of(parts, "exchange") == "direct.exchange"
    assert value_of(parts, "routing key") == "work"
    assert value_of(parts, "redelivered") == "no"
    assert value_of(parts, "delivery tag") == "7"
    assert value_of(parts, "delivery_mode") == "2 (persistent)"
    assert value_of(parts, "message_id") == RECIPE.message_id(3, 41)
    assert value_of(parts, "timestamp").endswith("(1700000000)")


@pytest.mark.parametrize("timestamp", [2**64 - 1, 2**40, "soon", b"\xff"])
def test_a_time_that_no_clock_shows_is_written_as_it_is(timestamp):
    told = value_of(about(message(b"", timestamp=timestamp)), "timestamp")
    assert told in (str(timestamp), "binary, 1 byte: ff") or told.endswith(f"({timestamp})")


def test_binary_is_dumped():
    parts = contents(message(bytes(range(32))))
    dump = next(part.text for part in parts if part.kind == "dump")
    first, second = dump.splitlines()
    assert first == "000000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  ................"
    assert second.startswith("000010  10 11")
    assert row(message(b"\0ab")).text == "binary, 3 bytes: 00 61 62"


def test_json_is_shown_as_it_is():
    text = json.dumps({"order": 4711, "lines": [1, 2]}, indent=2)
    assert ("text", text) in contents(message(text.encode()))


@pytest.mark.parametrize("body", [b"x" * 5_000_000, "ü".encode() * 100_000, b"\0" * 100_000])
def test_what_is_long_is_cut_and_says_so(body):
    long = message(body)
    assert len(row(long).text) <= 201
    parts = contents(long)
    assert parts[-1] == ("note", "Cut: only the first 16,384 bytes are kept here.")
    assert len(written(parts)) < 6 * KEPT_BYTES
    assert f"Body, {len(body):,} bytes" in written(parts)


def test_a_text_cut_within_a_character_is_still_a_text():
    assert ("text", "a" + "ü" * 8191) in contents(message(b"a" + "ü".encode() * 9000))
    assert row(message(b"a" + "ü".encode() * 9000)).text.startswith("aüü")


def test_a_text_that_ends_within_a_character_is_binary():
    assert row(message(b"a\xc3")).text == "binary, 2 bytes: 61 c3"


def test_an_empty_body_says_so():
    assert row(message()).text == ""
    assert contents(message())[-1] == ("note", "There is no text in it.")


def test_headers_without_end_are_cut():
    nested = "bottom"
    for _ in range(300):
        nested = [nested, {"k": nested}] if isinstance(nested, str) else [nested]
    many = {f"header-{number}": number for number in range(5000)}
    parts = about(message(b"", {"deep": nested, "long": "x" * 100_000, "wide": many} | many))
    assert len(written(parts)) < 30_000
    assert ("note", "Cut: 4,803 more.") in parts
    assert value_of(parts, "deep") == "[[[[[…]]]]]"
    assert value_of(parts, "long") == "x" * 2000 + "…"


def test_a_line_is_cut_before_it_is_looked_at():
    text = "\x1b" * 50_000_000
    started = time.process_time()
    assert line(text, 3) == "\\x1b\\x1b\\x1b…"
    assert time.process_time() - started < 2


def test_many_rows_are_cheap():
    one = own()
    started = time.process_time()
    for _ in range(5000):
        row(one)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", ["", "x" * 256, "ü" * 128, "\udcff"])
def test_a_name_that_amqp_does_not_take_is_refused(name):
    with pytest.raises(UsageError, match="1 to 255 bytes"):
        Feed(Endpoint(), name)
    with pytest.raises(UsageError, match="1 to 255 bytes"):
        Feed(Endpoint(), "work.queue", name=name)
