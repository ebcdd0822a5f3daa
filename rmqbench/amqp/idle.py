"""Delete a queue if it is idle: holds no ready message and has no consumer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pika.exceptions

from rmqbench.amqp.admin import admin
from rmqbench.amqp.diagnosis import channel_error
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError
from rmqbench.text import counted

__all__ = ["apart", "counts_over", "delete_if_idle", "in_use"]

_T = TypeVar("_T")


def delete_if_idle(
    channel: Any, endpoint: Endpoint, name: str, queue_type: str | None
) -> tuple[int, int] | None:
    """Delete a queue unless it holds ready messages or has a consumer.

    Return None for a deleted queue, otherwise the ready messages and the consumers for which it
    was kept: (0, 0) if they came and went meanwhile. Raise QueueNotFound.

    ``channel`` is one of :func:`~rmqbench.amqp.admin.admin`. ``queue_type`` is the broker's
    (``classic``, ``quorum``, ``stream``), None if unknown. The broker checks and deletes a classic
    queue in one step; a quorum queue refuses that (540 NOT_IMPLEMENTED) and a stream ignores the
    conditions (seen on 3.10.8 to 4.3.6), so that their counts are read just before, in a step of
    their own. A queue of unknown type is tried in one step; if it refuses, the broker closes the
    connection of ``channel``, and the two steps are taken over another one.

    Mind that the count of a stream is about 5 s old and never includes its consumers.
    """
    if queue_type not in (None, "classic"):
        return _delete_if_idle(channel.connection, endpoint, name, one_step=False)
    try:
        return _delete_if_idle(channel.connection, endpoint, name, one_step=True)
    except pika.exceptions.ConnectionClosedByBroker as error:
        if error.reply_code != 540 or queue_type is not None:
            raise
    with admin(endpoint) as another:
        return _delete_if_idle(another.connection, endpoint, name, one_step=False)


def in_use(ready: int, consumers: int) -> str:
    """Return in words why a queue is not idle: ``holds 2 messages and has 1 consumer``."""
    words = []
    if ready:
        words.append(f"holds {counted(ready, 'message', form=',')}")
    if consumers:
        words.append(f"has {counted(consumers, 'consumer', form=',')}")
    return " and ".join(words) or "is in use"


def apart(connection: Any, endpoint: Endpoint, act: Callable[[Any], _T]) -> _T:
    """Do something over a channel of its own: where the broker refuses it, only that one closes.

    Raise what :func:`rmqbench.amqp.diagnosis.channel_error` makes of the refusal.
    """
    channel = connection.channel()
    try:
        result = act(channel)
    except pika.exceptions.ChannelClosedByBroker as error:
        raise channel_error(error, endpoint) from error
    channel.close()
    return result


def counts_over(channel: Any, name: str) -> tuple[int, int]:
    """Return the ready messages and the consumers of a queue, from a passive declare."""
    answer = channel.queue_declare(name, passive=True).method
    return int(answer.message_count), int(answer.consumer_count)


def _delete_if_idle(
    connection: Any, endpoint: Endpoint, name: str, *, one_step: bool
) -> tuple[int, int] | None:
    def delete(channel: Any) -> None:
        channel.queue_delete(name, if_empty=one_step, if_unused=one_step)

    look = partial(counts_over, name=name)
    counts = apart(connection, endpoint, look)  # deleting a queue that is gone is no error
    if any(counts):
        return counts
    try:
        apart(connection, endpoint, delete)
    except BrokerError as error:
        if getattr(error.__cause__, "reply_code", None) != 406:
            raise
        return apart(connection, endpoint, look)
    return None
