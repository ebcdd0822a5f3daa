"""What follows a body's head is what pika makes of it, and nothing else is taken for it."""

import uuid

import pika.frame
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.amqp.framing import PAYLOAD_AT, frame_offsets
from rmqbench.amqp.tail import Tail
from rmqbench.message import HEAD_SIZE, Recipe

RECIPE = Recipe(uuid.UUID(int=1), text="", size_bytes=f"{HEAD_SIZE}:20000")
ROOM = 4096 - 8
TAIL = Tail(RECIPE, 7, 4096)
EDGES = [HEAD_SIZE, HEAD_SIZE + 1, ROOM - 1, ROOM, ROOM + 1, 2 * ROOM, 2 * ROOM + 1, 20000]
sizes = st.sampled_from(EDGES) | st.integers(HEAD_SIZE, 20000)


def frames_of(size, room=ROOM):
    """Give the frames of a body whose head is zeros, as pika makes them."""
    body = (bytes(HEAD_SIZE) + RECIPE.tail)[:size]
    pieces = [body[at : at + room] for at in range(0, size, room)]
    return b"".join(pika.frame.Body(7, piece).marshal() for piece in pieces)


@given(sizes)
def test_what_follows_the_head_is_what_pika_makes_of_it(size):
    frames = frames_of(size)
    rest = frames[PAYLOAD_AT + HEAD_SIZE :]
    assert b"".join(TAIL.pieces(size)) == rest
    assert TAIL.length(size) == len(rest)
    assert [at for at, _ in TAIL.headers(size)] == list(frame_offsets(frames))
    assert all(frames.startswith(header, at) for at, header in TAIL.headers(size))


@given(sizes, st.integers(1, 255), st.data())
def test_it_is_there_only_where_every_byte_is(size, mask, data):
    rest = bytearray(frames_of(size)[PAYLOAD_AT + HEAD_SIZE :])
    assert TAIL.is_at(b"before" + rest + b"behind", 6, size)
    rest[data.draw(st.integers(0, len(rest) - 1))] ^= mask
    assert not TAIL.is_at(b"before" + rest + b"behind", 6, size)


@given(sizes)
def test_where_frames_have_no_limit_each_body_is_one(size):
    rest = frames_of(size, room=20000)[PAYLOAD_AT + HEAD_SIZE :]
    assert b"".join(Tail(RECIPE, 7, 0).pieces(size)) == rest
