"""A queue is deleted if it is idle, and only then, whatever its type and whoever comes between."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from rmqbench.amqp import idle
from rmqbench.amqp.admin import admin
from rmqbench.amqp.idle import counts_over, delete_if_idle
from rmqbench.endpoint import Endpoint
from rmqbench.errors import QueueNotFound
from rmqbench.waiting import wait_until

TYPES = ["classic", "quorum", "stream"]
each_type = pytest.mark.parametrize("queue_type", TYPES)
known_or_not = pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])


@pytest.fixture
def endpoint(rmqbench_broker: Any) -> Endpoint:
    found: Endpoint = rmqbench_broker.endpoint
    return found


@pytest.fixture
def queue(endpoint: Endpoint) -> Iterator[str]:
    """The name of a queue that nobody else uses; gone at the end."""
    name = f"t.{uuid.uuid4().hex[:12]}"
    yield name
    with admin(endpoint) as channel:
        channel.queue_delete(name)


def declare(endpoint: Endpoint, name: str, queue_type: str, messages: int = 0) -> None:
    with admin(endpoint) as channel:
        channel.confirm_delivery()
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": queue_type})
        for _ in range(messages):
            channel.basic_publish("", name, b"x")
    # Only a classic queue counts a message before it confirms it.
    wait_until(lambda: counts(endpoint, name) == (messages, 0), 60.0, f"{messages} messages")


def counts(endpoint: Endpoint, name: str) -> tuple[int, int] | None:
    """Return the ready messages and the consumers, None if there is no such queue."""
    try:
        with admin(endpoint) as channel:
            return counts_over(channel, name)
    except QueueNotFound:
        return None


@each_type
@known_or_not
def test_an_idle_queue_is_deleted(
    endpoint: Endpoint, queue: str, queue_type: str, known: bool
) -> None:
    declare(endpoint, queue, queue_type)
    with admin(endpoint) as channel:
        assert delete_if_idle(channel, endpoint, queue, queue_type if known else None) is None
        # A stream ignores what a quorum queue refuses: the conditions of the deletion.
        assert channel.is_open is (known or queue_type != "quorum")
    assert counts(endpoint, queue) is None


@each_type
@known_or_not
def test_a_queue_with_messages_is_kept(
    endpoint: Endpoint, queue: str, queue_type: str, known: bool
) -> None:
    declare(endpoint, queue, queue_type, messages=2)
    with admin(endpoint) as channel:
        assert delete_if_idle(channel, endpoint, queue, queue_type if known else None) == (2, 0)
        assert channel.is_open
    assert counts(endpoint, queue) == (2, 0)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])  # no count has a stream's consumers
@known_or_not
def test_a_queue_with_a_consumer_is_kept(
    endpoint: Endpoint, queue: str, queue_type: str, known: bool
) -> None:
    declare(endpoint, queue, queue_type)
    with admin(endpoint) as channel:
        channel.basic_consume(queue, lambda *_: None)
        assert delete_if_idle(channel, endpoint, queue, queue_type if known else None) == (0, 1)
        assert channel.is_open


@pytest.mark.parametrize("queue_type", [None, *TYPES])
def test_a_queue_that_does_not_exist_is_named(
    endpoint: Endpoint, queue: str, queue_type: str | None
) -> None:
    with admin(endpoint) as channel:
        with pytest.raises(QueueNotFound, match=queue):
            delete_if_idle(channel, endpoint, queue, queue_type)
        assert channel.is_open


@pytest.mark.parametrize(("messages", "consumers"), [(2, 0), (0, 1)])
@pytest.mark.parametrize("queue_type", [None, "classic"])
def test_what_comes_between_the_look_and_the_deletion_keeps_a_classic_queue(
    endpoint: Endpoint,
    queue: str,
    queue_type: str | None,
    messages: int,
    consumers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []

    def look(channel: Any, name: str) -> tuple[int, int]:
        """Answer as before anybody came, the first time."""
        looks.append(name)
        return counts_over(channel, name) if len(looks) > 1 else (0, 0)

    declare(endpoint, queue, "classic", messages)
    with admin(endpoint) as channel:
        if consumers:
            channel.basic_consume(queue, lambda *_: None)
        monkeypatch.setattr(idle, "counts_over", look)
        assert delete_if_idle(channel, endpoint, queue, queue_type) == (messages, consumers)
        assert channel.is_open
    assert len(looks) == 2
