"""What fills bodies: computed alike everywhere, recognised again, refused where it cannot be."""

import json
import uuid
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.errors import UsageError
from rmqbench.message import HEAD_SIZE, Recipe, content_of, recipe_of
from rmqbench.payload import COMPUTED, DEFAULT, file_digest, filling_of

RUN = uuid.UUID("01234567-89ab-4cde-8f01-23456789abcd")
TEXT = "Hello World"
AT = HEAD_SIZE + len(TEXT)


def recipe(payload, size=5000, **more):
    return Recipe(RUN, text=TEXT, size_bytes=size, payload=payload, **more)


def tail(payload, size=5000, **more):
    """Return what follows the text, which is one byte 0 and then what is repeated."""
    body = recipe(payload, size, **more).body(0, 0, 1)
    assert body[HEAD_SIZE:AT] == TEXT.encode()
    assert body[AT] == 0
    return body[AT + 1 :]


def splitmix(seed, count):
    """Return the first numbers of SplitMix64, as its authors define it."""
    word, state, found = 2**64 - 1, seed, []
    for _ in range(count):
        state = state + 0x9E3779B97F4A7C15 & word
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & word
        z = (z ^ z >> 27) * 0x94D049BB133111EB & word
        found.append(z ^ z >> 31)
    return found


def test_what_bodies_were_always_filled_with_is_the_default():
    body = recipe(DEFAULT).body(0, 0, 1)
    assert body[AT:] == (bytes(range(256)) * 20)[: 5000 - AT]


@pytest.mark.parametrize(
    ("payload", "begins"),
    [("text", b"Hello World Hello World "), ("zeros", bytes(24)), ("ones", b"\xff" * 24)],
)
def test_plain_payloads_repeat_themselves(payload, begins):
    assert tail(payload).startswith(begins)
    period = len(TEXT) + 1 if payload == "text" else 1
    assert tail(payload)[period:] == tail(payload)[:-period]


def test_numbers_are_those_of_the_run_s_splitmix64():
    drawn = splitmix(RUN.int >> 64 ^ RUN.int & 2**64 - 1, 100)
    random = np.frombuffer(tail("random")[:800], ">u8").tolist()
    ints = np.frombuffer(tail("ints")[:800], ">u8").tolist()
    assert random == drawn
    assert ints == [each % 2**24 for each in drawn]
    assert tail("random") != replace(recipe("random"), run=uuid.UUID(int=1)).body(0, 0, 1)[AT + 1 :]


def test_json_is_json_in_each_line():
    lines = tail("json", 20_000).decode(errors="ignore").splitlines()
    assert all(json.loads(line).keys() == {"id", "name", "ok", "tags"} for line in lines[:-1])
    assert lines[64] == lines[0]


def test_a_file_is_repeated_and_known_by_its_digest(tmp_path):
    path = tmp_path / "orders.bin"
    path.write_bytes(b"abc")
    payload = f"file:{path}"
    assert tail(payload, 100) == (b"abc" * 40)[: 100 - AT - 1]
    digest = file_digest(payload)
    assert len(digest) == 64
    path.write_bytes(b"abd")
    changed = recipe(payload, 100, payload_digest=digest)
    with pytest.raises(UsageError, match="is not what it was when the run began"):
        changed.body(0, 0, 1)
    path.unlink()
    recipe(payload, payload_digest=digest)  # a directory can be judged without it
    with pytest.raises(UsageError, match=r"cannot be read: No such file .* file:PATH"):
        changed.body(0, 0, 1)


@pytest.mark.parametrize("content", [b"", None])
def test_a_file_that_holds_nothing_or_is_none_is_refused(tmp_path, content):
    path = tmp_path / "payload"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError, match="is empty" if content == b"" else "Is a directory"):
        file_digest(f"file:{path}")


def test_what_is_no_payload_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match=r"no payload 'text/plain'.*ints.*file:PATH"):
        recipe("text/plain")
    with pytest.raises(UsageError, match=r"there is none.*--size"):
        recipe("ints", None)


@pytest.mark.parametrize("payload", COMPUTED)
@pytest.mark.parametrize("size", [AT + 1, AT + 2, 300, 5000, 200_000])
def test_a_body_tells_what_fills_it(payload, size):
    made = recipe(payload, size)
    body, properties = made.body(3, 7, 10**18), made.properties(3, 7, 10**18)
    content = content_of(body)
    assert (content.text, content.filling_bytes) == (TEXT, size - AT)
    found = recipe_of(properties, body)
    assert found is not None
    assert found.body(3, 7, 10**18) == body
    if size > AT + 2:
        assert found.payload == payload
        changed = bytearray(body)
        changed[-1] ^= 1
        assert content_of(bytes(changed)).filling_bytes == 0
        assert made.difference(properties, bytes(changed), (3, 7)) == f"byte {size - 1} of the body"


@given(
    st.sampled_from([*COMPUTED]),
    st.integers(0, 400_000),
    st.integers(0, 300_000),
    st.text(max_size=9),
)
def test_the_pieces_of_a_tail_are_the_tail(payload, at, size, text):
    made = Recipe(RUN, text=text, size_bytes=800_000, payload=payload)
    assert b"".join(made.tail_pieces(at, size)) == made.tail[at : at + size]


def test_a_filling_begins_alike_however_long_it_is():
    for payload in COMPUTED:
        filling = filling_of(payload, RUN, TEXT)
        assert filling.head(400_000)[:150_000] == filling.head(150_000)
        assert filling.head(0) == b""
