"""Methods that consume, get and settle, and those of the channel itself."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pika.spec

from rmqbench.simulation.channel import Channel, Handler
from rmqbench.simulation.confirms import Confirms
from rmqbench.simulation.declaring import accessible
from rmqbench.simulation.entries import Consumer
from rmqbench.simulation.queues import Queue
from rmqbench.simulation.refusals import (
    ACCESS_REFUSED,
    NOT_ALLOWED,
    NOT_IMPLEMENTED,
    RESOURCE_LOCKED,
    RefusedError,
)
from rmqbench.simulation.truth import FoundEmpty

__all__ = ["HANDLERS"]

_spec: Final = pika.spec
_CANCELLING_TELLS_SINCE: Final = (4, 0)  # the leader of all acknowledgements before


def _qos(channel: Channel, method: Any) -> None:
    if method.prefetch_size:
        raise RefusedError(NOT_IMPLEMENTED, f"prefetch_size!=0 ({method.prefetch_size})")
    channel.prefetch = method.prefetch_count
    channel.reply(_spec.Basic.QosOk())


def _consume(channel: Channel, method: Any) -> None:
    queue = accessible(channel, method.queue)
    tag = method.consumer_tag or channel.broker.generated_name("amq.ctag")
    if tag in channel.consumers:
        raise RefusedError(NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'")
    others = queue.consumers  # a quorum queue lets exclusive ones and others share it
    if (
        queue.type != "quorum"
        and others
        and (method.exclusive or any(each.exclusive for each in others))
    ):
        raise RefusedError(ACCESS_REFUSED, f"{queue.title} in exclusive use")
    priority = (method.arguments or {}).get("x-priority", 0)
    consumer = Consumer(
        channel,
        queue,
        tag,
        no_ack=method.no_ack,
        prefetch=channel.prefetch,
        exclusive=method.exclusive,
        priority=priority if isinstance(priority, int) else 0,
    )
    if queue.stalled:
        channel.hold()
        queue.when_it_goes_on(partial(_begin, channel, queue, consumer, method.nowait, True))
    else:
        _begin(channel, queue, consumer, method.nowait, False)


def _begin(channel: Channel, queue: Queue, consumer: Consumer, nowait: bool, release: bool) -> None:
    if not channel.is_open:
        return
    if queue.exists:
        channel.consumers[consumer.tag] = consumer
        queue.add_consumer(consumer)
        if not nowait:
            channel.reply(_spec.Basic.ConsumeOk(consumer.tag))
        queue.pump()
    if release:
        channel.release()


def _cancel(channel: Channel, method: Any) -> None:
    consumer = channel.consumers.get(method.consumer_tag)
    if consumer is None:
        _cancelled(channel, method)
    else:
        channel.when_it_answers(consumer.queue, partial(_remove, channel, consumer, method))


def _remove(channel: Channel, consumer: Consumer, method: Any) -> None:
    if not channel.is_open:
        return
    if channel.broker.version_number >= _CANCELLING_TELLS_SINCE:
        channel.tell()
    channel.consumers.pop(consumer.tag, None)
    consumer.queue.remove_consumer(consumer)
    _cancelled(channel, method)
    consumer.queue.consumers_left(cancelled=True)


def _cancelled(channel: Channel, method: Any) -> None:
    if not method.nowait:
        channel.reply(_spec.Basic.CancelOk(method.consumer_tag))


def _get(channel: Channel, method: Any) -> None:
    queue = accessible(channel, method.queue)
    queue.used()
    channel.when_it_answers(queue, partial(_answer_get, channel, queue, method.no_ack))


def _answer_get(channel: Channel, queue: Queue, no_ack: bool) -> None:
    if not channel.is_open:
        return
    if queue.limits.single_active_consumer and queue.type == "quorum":
        why = f"cannot obtain access to locked {queue.title}. basic.get operations are not "
        why += "supported by quorum queues with single active consumer"
        raise RefusedError(RESOURCE_LOCKED, why)
    entry = None
    while entry is None and queue.ready_count() and not queue.is_recovering:
        entry = queue.next_entry()
    if entry is None:
        broker = queue.broker
        held = queue.ready_count() + len(queue.unacked)
        broker.note(FoundEmpty(broker.now(), queue.name, held))
        channel.reply(_spec.Basic.GetEmpty())
    else:
        channel.got(queue, entry, no_ack=no_ack)


def _nack(channel: Channel, method: Any) -> None:
    channel.negative(method.delivery_tag, method.multiple, requeue=method.requeue, cause="nack")


def _reject(channel: Channel, method: Any) -> None:
    channel.negative(method.delivery_tag, False, requeue=method.requeue, cause="reject")


def _recover(channel: Channel, method: Any) -> None:
    if not method.requeue:
        raise RefusedError(NOT_IMPLEMENTED, "requeue=false")
    channel.recover()
    if method.INDEX == _spec.Basic.Recover.INDEX:
        channel.reply(_spec.Basic.RecoverOk())


def _confirm_select(channel: Channel, method: Any) -> None:
    channel.confirms = channel.confirms or Confirms(channel)
    if not method.nowait:
        channel.reply(_spec.Confirm.SelectOk())


def _flow(channel: Channel, method: Any) -> None:
    if not method.active:
        raise RefusedError(NOT_IMPLEMENTED, "active=false")
    channel.reply(_spec.Channel.FlowOk(True))


def _nothing(channel: Channel, method: Any) -> None:
    """Take an answer of the client that needs none."""


HANDLERS: Final[dict[int, Handler]] = {
    _spec.Basic.Qos.INDEX: _qos,
    _spec.Basic.Consume.INDEX: _consume,
    _spec.Basic.Cancel.INDEX: _cancel,
    _spec.Basic.CancelOk.INDEX: _nothing,
    _spec.Basic.Get.INDEX: _get,
    _spec.Basic.Nack.INDEX: _nack,
    _spec.Basic.Reject.INDEX: _reject,
    _spec.Basic.Recover.INDEX: _recover,
    _spec.Basic.RecoverAsync.INDEX: _recover,
    _spec.Confirm.Select.INDEX: _confirm_select,
    _spec.Channel.Flow.INDEX: _flow,
    _spec.Channel.FlowOk.INDEX: _nothing,
}
"""What to do for each method, by class id and method id in one number."""
