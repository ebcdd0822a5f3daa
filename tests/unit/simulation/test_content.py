"""Contents and the frames that are built by hand agree with pika's."""

import pika
import pika.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import Basic

from rmqbench.simulation.content import (
    Content,
    acknowledgement,
    content_frames,
    decoded,
    delivery,
    encoded,
    traits_of,
    with_numbers,
)

SHORT = st.text(max_size=20)
PROPERTIES = st.builds(
    pika.BasicProperties,
    **dict.fromkeys(
        (
            "content_type",
            "content_encoding",
            "correlation_id",
            "reply_to",
            "expiration",
            "message_id",
            "type",
            "user_id",
            "app_id",
            "cluster_id",
        ),
        st.none() | SHORT,
    ),
    headers=st.none() | st.dictionaries(SHORT, st.integers(-5, 5) | SHORT | st.none(), max_size=3),
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    priority=st.none() | st.integers(0, 9),
    timestamp=st.none() | st.integers(0, 1 << 40),
)


@given(PROPERTIES)
def test_traits_are_those_that_pika_reads(properties):
    persistent, expiration = traits_of(encoded(properties))
    assert persistent == (properties.delivery_mode == 2)
    assert expiration == properties.expiration


@given(PROPERTIES, st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.integers(0, 1 << 40)))
def test_further_headers_change_nothing_else(properties, numbers):
    more = decoded(with_numbers(encoded(properties), numbers))
    assert more.headers == (properties.headers or {}) | numbers
    more.headers = properties.headers
    assert more == properties


@given(PROPERTIES, st.binary(max_size=40), st.integers(1, 65535))
def test_a_content_is_framed_as_pika_does(properties, body, channel):
    content = Content(encoded(properties), body)
    expected = pika.frame.Header(channel, len(body), properties).marshal()
    if body:
        expected += pika.frame.Body(channel, body).marshal()
    assert content_frames(channel, content, 131072) == expected


@pytest.mark.parametrize(("size", "parts"), [(0, 0), (92, 1), (93, 2), (184, 2), (185, 3)])
def test_a_body_is_cut_where_a_frame_would_be_too_large(size, parts):
    data = content_frames(1, Content(b"\0\0", bytes(size)), 100)
    bodies = []
    while data:
        taken, frame = pika.frame.decode_frame(data)
        assert taken <= 100
        data = data[taken:]
        if isinstance(frame, pika.frame.Body):
            bodies.append(frame.fragment)
    assert len(bodies) == parts
    assert b"".join(bodies) == bytes(size)


@given(SHORT, st.integers(0, (1 << 63) - 1), st.booleans(), SHORT, SHORT)
def test_a_delivery_is_marshalled_as_pika_does(consumer_tag, tag, redelivered, exchange, key):
    method = Basic.Deliver(consumer_tag, tag, redelivered, exchange, key)
    assert (
        delivery(5, consumer_tag.encode(), tag, redelivered, exchange=exchange, routing_key=key)
        == pika.frame.Method(5, method).marshal()
    )


@given(st.integers(0, (1 << 64) - 1), st.booleans())
def test_confirms_are_marshalled_as_pika_does(tag, multiple):
    ack, nack = Basic.Ack(tag, multiple), Basic.Nack(tag, multiple, requeue=False)
    for method, is_nack in ((ack, False), (nack, True)):
        expected = b"".join(method.encode())
        assert acknowledgement(5, tag, multiple, is_nack)[11:-1] == expected
