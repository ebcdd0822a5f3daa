"""A large message is compared while it comes, and nothing of it is kept that is right."""

import uuid

import pytest
from support.frames import delivery

from rmqbench.amqp.growing import Growing, due_behind_head
from rmqbench.amqp.shape import Shape
from rmqbench.amqp.vector import Other, Splitter
from rmqbench.message import HEAD_SIZE, Recipe

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

RUN = uuid.UUID("0f0e0d0c-0b0a-4908-8706-050403020100")
NOW = 1_790_000_000_123_456_789
MIB = 1 << 20
MESSAGE = (3, 5, NOW)
READ = 1 << 16

pieces = st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=5)


@given(pieces, st.data())
def test_what_comes_in_any_parts_is_taken_and_can_be_put_together_again(pieces, data):
    whole = b"".join(pieces)
    growing, at = Growing(b"row", pieces, len(whole)), 0
    while growing.missing:
        assert growing.so_far() == b"row" + whole[:at]
        come = data.draw(st.integers(1, 5))
        buffer = bytearray(b"??" + whole[at : at + come] + b"?" * data.draw(st.integers(0, 3)))
        taken = growing.take(buffer, 2, 2 + min(come, len(whole) - at))
        assert taken == min(come, len(whole) - at)
        assert not growing.is_wrong
        at += taken
    assert growing.take(bytearray(b"more"), 0, 4) == 0
    assert not growing.is_wrong
    assert growing.so_far() == b"row" + whole


@given(pieces, st.data())
def test_up_to_a_wrong_byte_all_that_came_is_known(pieces, data):
    whole = b"".join(pieces)
    wrong_at = data.draw(st.integers(0, len(whole) - 1))
    received = bytearray(whole)
    received[wrong_at] ^= data.draw(st.integers(1, 255))
    growing, at = Growing(b"row", pieces, len(whole)), 0
    while not growing.is_wrong:
        end = min(len(whole), at + data.draw(st.integers(1, 5)))
        at += growing.take(received, at, end)
    assert at <= wrong_at < end
    assert growing.so_far() == b"row" + whole[:at]


@pytest.mark.parametrize("frame_max", [4096, 131072])
def test_what_is_due_behind_a_head_are_the_frames_that_pika_makes(frame_max):
    recipe = Recipe(RUN, size_bytes=500_000)
    frames = delivery(recipe, 1, False, MESSAGE, frame_max=frame_max)
    lengths = [min(frame_max - 8, 500_000 - at) for at in range(0, 500_000, frame_max - 8)]
    due = b"".join(due_behind_head(recipe, 1, lengths))
    head = recipe.head(*MESSAGE)
    assert len(head) == HEAD_SIZE
    assert frames.endswith(head + due)


def large_ones(recipe):
    """Return the sequence numbers of some messages of a mebibyte."""
    return [number for number in range(30) if recipe.size_of(3, number) == MIB]


def fed(frames, recipe):
    """Feed frames as a socket does; return what came of them, and the most that was kept."""
    splitter, kept, events = Splitter(), 0, []
    first = delivery(recipe, 1, False, (3, large_ones(recipe)[0], NOW))
    splitter.expect_deliveries(1, Shape.of_delivery(first, recipe, 131072))
    for at in range(0, len(frames), READ):
        room = splitter.room(READ)[: len(frames) - at]
        room[:] = frames[at : at + READ]
        events += splitter.feed(room)
        kept = max(kept, len(splitter.room(0).obj))
    return events, kept


@pytest.fixture(params=[MIB, f"{MIB}*3,9000"], ids=["one size", "mixed"])
def recipe(request):
    return Recipe(RUN, size_bytes=request.param)


def test_large_messages_take_the_memory_of_a_read(recipe):
    large = large_ones(recipe)
    frames = b"".join(delivery(recipe, n, False, (3, n, NOW)) for n in large)
    events, kept = fed(frames, recipe)
    assert [int(tag) for event in events for tag in event.tags] == large
    assert kept <= 4 * READ


LAST_FRAME = MIB % (131072 - 8) + 8


@pytest.mark.parametrize("at", [-1, -2, -MIB // 2, -LAST_FRAME, -LAST_FRAME + 2])
def test_an_altered_one_is_given_whole_as_it_came(recipe, at):
    altered = bytearray(delivery(recipe, 1, False, (3, large_ones(recipe)[0], NOW)))
    altered[at] ^= 1
    events, _ = fed(bytes(altered), recipe)
    assert all(isinstance(event, Other) for event in events)
    assert b"".join(event.frames for event in events) == altered
