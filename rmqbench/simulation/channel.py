"""A channel: publishes and their confirms, deliveries and their acknowledgements.

What is declared and consumed through it is in :mod:`rmqbench.simulation.declaring` and
:mod:`rmqbench.simulation.consuming`.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pika.frame
import pika.spec

from rmqbench.amqp.framing import PAYLOAD_AT, PUBLISH
from rmqbench.simulation.behaviour import Misdeed, Moment
from rmqbench.simulation.confirms import Confirms
from rmqbench.simulation.content import (
    Content,
    content_frames,
    content_of,
    delivery,
    traits_of,
)
from rmqbench.simulation.entries import Consumer, Entry, Held, PendingConfirm
from rmqbench.simulation.queues import Queue
from rmqbench.simulation.refusals import (
    ACCESS_REFUSED,
    COMMAND_INVALID,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RefusedError,
    resource,
)
from rmqbench.simulation.truth import (
    Acknowledged,
    ChannelClosed,
    Delivered,
    Returned,
    Routed,
)

if TYPE_CHECKING:
    from rmqbench.simulation.session import Session

__all__ = ["Channel", "Handler"]

Handler = Callable[["Channel", Any], None]

_ACK: Final[int] = pika.spec.Basic.Ack.INDEX
_ACK_FIELDS: Final = struct.Struct(">QB")
_FIELDS_AT: Final = PAYLOAD_AT + 4
_NO_ROUTE: Final = 312


class Channel:
    """One open channel of a session."""

    def __init__(self, session: Session, number: int) -> None:
        self.session = session
        self.broker = session.broker
        self.host = session.host
        self.number = number
        self.is_open = True
        self.is_closing = False  # the server has closed it, and the client has not answered yet
        self.confirms: Confirms | None = None  # in confirm mode
        self.prefetch = 0
        self.consumers: dict[str, Consumer] = {}
        self.last_queue = ""
        self.unacked: dict[int, Held] = {}
        # Given back only in the end: what a misdeed keeps although it was acknowledged, and what a
        # quorum queue learns of once the client has answered.
        self._kept: list[Held] = []
        self._untold: list[list[Held]] = []  # acknowledged, and not told the leader yet
        self._next_tag = 1
        self._waiting: deque[tuple[int, bytes, list[bytes]]] | None = None

    # --- methods --------------------------------------------------------------------------------

    def handle(self, method: int, data: bytes, frames: list[bytes]) -> None:
        """Do what a method asks for; ``frames`` are those of its content.

        Raise RefusedError where RabbitMQ ends the channel or the connection.
        """
        if self._waiting is not None:
            self._waiting.append((method, data, frames))
        elif method == PUBLISH:
            self._publish(pika.spec.Basic.Publish().decode(data, _FIELDS_AT), content_of(frames))
        elif method == _ACK:
            self.acknowledge(*_ACK_FIELDS.unpack_from(data, _FIELDS_AT))
        else:
            known = pika.spec.methods.get(method)
            handler = self.session.handlers.get(method)
            if known is None or handler is None:
                raise RefusedError(COMMAND_INVALID, "unimplemented method")
            handler(self, known().decode(data, _FIELDS_AT))

    def hold(self) -> None:
        """Read no further method until :meth:`release`: a queue does not answer."""
        self._waiting = deque()

    def release(self) -> None:
        """Go on with the methods that have come meanwhile."""
        waiting, self._waiting = self._waiting, None
        for arguments in waiting or ():
            if not self.is_open:
                return
            self.session.guarded(self, partial(self.handle, *arguments))

    def when_it_answers(self, queue: Queue, act: Callable[[], object]) -> None:
        """Do something once a queue answers; no further method is read before that."""
        if not queue.stalled:
            act()
            return
        self.hold()

        def go_on() -> None:
            self.session.guarded(self, act)
            self.release()

        queue.when_it_goes_on(go_on)

    def reply(self, method: Any) -> None:
        """Send a method, behind the confirms that are due."""
        if self.is_open:
            if self.confirms is not None:
                self.confirms.flush()
            self.session.write(pika.frame.Method(self.number, method).marshal())

    # --- publishing -----------------------------------------------------------------------------

    def _publish(self, method: Any, content: Content) -> None:
        broker, host = self.broker, self.host
        exchange, routing_key = method.exchange, method.routing_key
        if method.immediate:
            raise RefusedError(NOT_IMPLEMENTED, "immediate=true")
        size = len(content.body)
        if size > broker.max_message_bytes:
            raise RefusedError(
                PRECONDITION_FAILED,
                f"message size {size} is larger than max size {broker.max_message_bytes}",
            )
        if exchange and host.exchange(exchange).internal:
            what = resource("exchange", exchange, host.name)
            raise RefusedError(ACCESS_REFUSED, f"cannot publish to internal {what}")
        persistent, expiration = traits_of(content.properties)
        if expiration is not None and not expiration.isdecimal():
            raise _invalid_expiration(expiration)
        queues = host.route(exchange, routing_key, content)
        confirms = self.confirms
        tag = confirms.next_tag() if confirms is not None else 0
        session = self.session.number
        message = broker.published(exchange, routing_key, content, by=(session, self.number, tag))
        pending = None
        if confirms is not None:
            confirms.expect(tag, message)
            pending = PendingConfirm(confirms, tag, len(queues))
        if not queues:
            if method.mandatory:
                self._return(message, method, content)
            if confirms is not None:
                confirms.settle(tag, nack=False)
            return
        if broker.behaviour.misdeed(Moment.PUBLISH, "", message) is not None and confirms:
            broker.misdone(Misdeed.ACK_UNSTORED, message, to=(session, self.number, tag))
            confirms.settle(tag, nack=False)
            return
        now, note = broker.now(), broker.note
        for queue in queues:
            note(Routed(now, message, queue.name))
            entry = Entry(
                message, content, exchange, routing_key, persistent, expiration=expiration
            )
            queue.take_in(entry, pending)

    def _return(self, message: int, method: Any, content: Content) -> None:
        session = self.session
        self.broker.note(Returned(self.broker.now(), message, session.number, self.number))
        returned = pika.spec.Basic.Return(
            _NO_ROUTE, "NO_ROUTE", method.exchange, method.routing_key
        )
        session.write(
            pika.frame.Method(self.number, returned).marshal()
            + content_frames(self.number, content, session.frame_max)
        )

    # --- deliveries -----------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Send a message to one of its consumers."""
        broker, queue = self.broker, consumer.queue
        planned, broker.planned = broker.planned, None
        if not self.is_open:
            tag = self._keep(queue, entry, consumer)
            if consumer.no_ack:
                self._forget(tag)
            return
        content = queue.shown(entry)
        exchange, routing_key = entry.exchange, entry.routing_key
        if planned is not None:
            if planned is Misdeed.ALTER:
                entry.content = broker.behaviour.alter(entry.content)
                content = queue.shown(entry)
            elif planned is Misdeed.MISROUTE_EXCHANGE:
                exchange = "amq.direct" if exchange != "amq.direct" else "amq.fanout"
            elif planned is Misdeed.MISROUTE_KEY:
                routing_key = f"not.{routing_key}"[:255]
        tag = self._keep(queue, entry, consumer)
        sent = (exchange, routing_key, content)
        self._send_delivery(consumer, entry, tag, entry.redelivered, sent)
        if planned is not None:
            self._misdeliver(planned, consumer, entry, tag, sent)
        if consumer.no_ack:
            self._forget(tag)

    def got(self, queue: Queue, entry: Entry, *, no_ack: bool) -> None:
        """Send a message as the answer to basic.get."""
        broker, session = self.broker, self.session
        planned, broker.planned = broker.planned, None
        if planned is Misdeed.ALTER:
            entry.content = broker.behaviour.alter(entry.content)
        content = queue.shown(entry, got=True)
        tag = self._keep(queue, entry, None)
        if planned is Misdeed.ALTER:
            to = (session.number, self.number, tag)
            broker.misdone(planned, entry.message, queue.name, to=to)
        flag, exchange, key = entry.redelivered, entry.exchange, entry.routing_key
        self.reply(pika.spec.Basic.GetOk(tag, flag, exchange, key, queue.left_behind()))
        session.write(content_frames(self.number, content, session.frame_max))
        where = (queue.name, None, session.number, self.number, tag)
        broker.note(Delivered(broker.now(), entry.message, *where, flag, exchange, key, content))
        if no_ack:
            self._forget(tag)

    def _keep(self, queue: Queue, entry: Entry, consumer: Consumer | None) -> int:
        tag = self._next_tag
        self._next_tag = tag + 1
        self.unacked[tag] = held = Held(queue, entry, consumer, tag)
        entry.holder = consumer or held
        if consumer is not None:
            consumer.in_flight += 1
        return tag

    def _forget(self, tag: int) -> None:
        """Settle what needs no acknowledgement."""
        self._acknowledged(self.unacked.pop(tag))

    def _send_delivery(
        self,
        consumer: Consumer,
        entry: Entry,
        tag: int,
        flag: bool,
        sent: tuple[str, str, Content],
    ) -> None:
        broker, session, number = self.broker, self.session, self.number
        exchange, routing_key, content = sent
        session.write(
            delivery(
                number, consumer.encoded_tag, tag, flag, exchange=exchange, routing_key=routing_key
            )
            + content_frames(number, content, session.frame_max)
        )
        broker.note(
            Delivered(
                broker.now(),
                entry.message,
                consumer.queue.name,
                consumer.tag,
                session.number,
                number,
                tag,
                flag,
                exchange,
                routing_key,
                content,
            )
        )

    def _misdeliver(
        self,
        misdeed: Misdeed,
        consumer: Consumer,
        entry: Entry,
        tag: int,
        sent: tuple[str, str, Content],
    ) -> None:
        broker, queue = self.broker, consumer.queue
        again: Entry | None = None
        if misdeed in {Misdeed.REPEAT, Misdeed.REPEAT_FLAGGED}:
            again = queue.repeat(entry, flagged=misdeed is Misdeed.REPEAT_FLAGGED)
            tag = self._keep(queue, again, consumer)
        broker.misdone(
            misdeed, entry.message, queue.name, to=(self.session.number, self.number, tag)
        )
        if again is not None:
            self._send_delivery(consumer, again, tag, again.redelivered, sent)
            if consumer.no_ack:
                self._forget(tag)
        elif misdeed in {Misdeed.REPEAT_TAG, Misdeed.REPEAT_TAG_FLAGGED}:
            flag = misdeed is Misdeed.REPEAT_TAG_FLAGGED
            self._send_delivery(consumer, entry, tag, flag, sent)

    # --- acknowledgements -----------------------------------------------------------------------

    def _collect(self, tag: int, multiple: bool) -> list[Held]:
        """Remove and return the deliveries that are settled, in their order.

        Raise RefusedError (406) where the tag is not that of an unacknowledged delivery.
        """
        unacked = self.unacked
        if multiple and not tag:
            collected = list(unacked.values())
            unacked.clear()
        elif tag not in unacked:
            raise RefusedError(PRECONDITION_FAILED, f"unknown delivery tag {tag}")
        elif not multiple:
            return [unacked.pop(tag)]
        else:
            collected = [held for each, held in unacked.items() if each <= tag]
            for held in collected:
                del unacked[held.tag]
        return collected

    def acknowledge(self, tag: int, multiple: bool) -> None:
        """Forget deliveries that the client has acknowledged."""
        for group in _settled_together(self._collect(tag, multiple)):
            queue = group[0].queue
            delay_s = 0.0
            if queue.type == "quorum":
                delay_s = self.broker.behaviour.ack_delay_s(queue.name)
            if delay_s:
                self._untold.append(group)
                self.broker.later(delay_s, partial(self._tell, group))
            else:
                self._settle(group)

    def tell(self) -> None:
        """Pass on to quorum queues all that was acknowledged."""
        for group in self._untold.copy():
            self._tell(group)

    def _tell(self, group: list[Held]) -> None:
        if group in self._untold:
            self._untold.remove(group)
            self._settle(group)

    def _settle(self, group: list[Held]) -> None:
        queue = group[0].queue
        for held in group:
            if held.consumer is not None:
                held.consumer.in_flight -= 1
            if queue.stalled:
                queue.when_it_goes_on(partial(self._acknowledged, held))
            elif queue.exists:
                self._acknowledged(held)
        queue.pump()

    def _acknowledged(self, held: Held) -> None:
        queue, entry = held.queue, held.entry
        broker = self.broker
        misdeed = queue.acknowledge(entry)
        where = (self.session.number, self.number, held.tag)
        if misdeed is None:
            broker.note(Acknowledged(broker.now(), entry.message, queue.name, *where))
        else:
            broker.misdone(misdeed, entry.message, queue.name, to=where)
            if misdeed is Misdeed.FORGET_ACK and self.session.channels.get(self.number) is self:
                self._kept.append(held)
            elif misdeed is Misdeed.FORGET_ACK:  # its leader stood still until the channel's end
                self._give_back(queue, [held], "closed")

    def negative(self, tag: int, multiple: bool, *, requeue: bool, cause: str) -> None:
        """Requeue or discard deliveries that the client has nacked or rejected."""
        for group in _settled_together(self._collect(tag, multiple)):
            self._give_back(group[0].queue, group, cause, requeue)

    def recover(self) -> None:
        """Requeue all that is unacknowledged, one after the other."""
        helds = list(self.unacked.values())
        self.unacked.clear()
        for held in helds:
            self._give_back(held.queue, [held], "recover")

    def _give_back(self, queue: Queue, helds: list[Held], cause: str, requeue: bool = True) -> None:
        entries = []
        for held in helds:
            if held.consumer is not None:
                held.consumer.in_flight -= 1
            entries.append(held.entry)

        def act() -> None:
            if queue.exists:
                if requeue:
                    queue.give_back(entries, cause)
                else:
                    queue.discard(entries, cause)
                queue.pump()

        queue.when_it_goes_on(act)

    # --- consumers and the end ------------------------------------------------------------------

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """Notify the client that its consumer is gone, because its queue is."""
        if self.consumers.pop(consumer.tag, None) is not None and self.session.hears_of_cancels:
            self.reply(pika.spec.Basic.Cancel(consumer.tag, nowait=True))

    def end(self, code: int = 0, text: str = "", *, answered: bool = True) -> None:
        """End: consumers are gone, and what is unacknowledged is ready again.

        Quorum queues learn of it only when the client has ``answered`` an exception (measured:
        3.10.8, 4.0.5, 4.3.6); until then they go on delivering to nobody.
        """
        broker = self.broker
        if self.is_open:
            self.is_open = False
            self._waiting = None
            broker.note(ChannelClosed(broker.now(), self.session.number, self.number, code, text))
        queues = dict.fromkeys(
            consumer.queue
            for consumer in self.consumers.values()
            if answered or consumer.queue.type != "quorum"
        )
        for tag, consumer in list(self.consumers.items()):
            if consumer.queue in queues:
                consumer.queue.remove_consumer(consumer)
                del self.consumers[tag]
        held = [*self._kept, *itertools.chain(*self._untold), *self.unacked.values()]
        self._kept.clear()
        self._untold.clear()
        self.unacked.clear()
        if not answered:
            self._kept = [each for each in held if each.queue.type == "quorum"]
            held = [each for each in held if each.queue.type != "quorum"]
        by_queue: dict[Queue, list[Held]] = {}
        for each in held:
            by_queue.setdefault(each.queue, []).append(each)
        for queue, of_queue in by_queue.items():
            self._give_back(queue, queue.in_order(of_queue), "closed")
        for queue in queues:
            queue.consumers_left()


def _settled_together(helds: list[Held]) -> Iterable[list[Held]]:
    """Return what a channel settles as it tells the queues: consumer by consumer.

    rabbit_channel.erl has them in the order of queues and tags, those of basic.get first.
    """
    if len(helds) > 1:
        groups: dict[tuple[str, int, bytes], list[Held]] = {}
        for held in helds:
            by = (0, b"%020d" % held.tag)
            if held.consumer is not None:
                by = (1, held.consumer.encoded_tag)
            groups.setdefault((held.queue.name, *by), []).append(held)
        if len(groups) > 1:
            return [group for _, group in sorted(groups.items())]
    return [helds] if helds else []


def _invalid_expiration(text: str) -> RefusedError:
    number = re.match(r"[+-]?\d+", text)
    why = "no_integer"
    if number is not None:
        rest = text[number.end() :]
        why = f'{{leftover_string,"{rest}"}}' if rest else f"{{value_negative,{text}}}"
    return RefusedError(PRECONDITION_FAILED, f"invalid expiration '{text}': {why}")
