"""One connection that is altered as it passes: bytes in, bytes out, no input or output.

Only whole frames are passed on, so that others can be put between them. Where a plan alters
messages, the frames of each are gathered until it is whole, and frames of other channels and
heartbeats pass meanwhile. Otherwise each frame passes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import pika.spec

from rmqbench.amqp.framing import (
    ACK,
    CONFIRM_BYTES,
    DELIVER,
    METHOD,
    NACK,
    OPAQUE,
    PAYLOAD_AT,
    PUBLISH,
    RETURN,
    Content,
    ContentAssembler,
    Frame,
    FrameCutter,
)
from rmqbench.proxy.alterations import (
    AlterationPlan,
    CutInside,
    Delay,
    Direction,
    Drop,
    Flip,
    Forge,
    Misroute,
    OfMessage,
    Repeat,
    Swap,
    What,
)
from rmqbench.proxy.confirms import Publishes
from rmqbench.proxy.messages import (
    Confirm,
    MessageFrames,
    make_ack,
    read_confirm,
    read_connection_name,
)

__all__ = ["UNKNOWN_TAG", "AlteredConnection", "Output", "Pause", "PendingSwap", "Reset", "Step"]

UNKNOWN_TAG: Final = 1 << 40
"""A delivery tag that no channel ever reaches."""

_CONSUME: Final[int] = pika.spec.Basic.Consume.INDEX
_SELECT: Final[int] = pika.spec.Confirm.Select.INDEX
_START_OK: Final[int] = pika.spec.Connection.StartOk.INDEX
_TUNE_OK: Final[int] = pika.spec.Connection.TuneOk.INDEX
_CHANNEL_OPEN: Final[int] = pika.spec.Channel.Open.INDEX
_CHANNEL_ENDS: Final = frozenset({pika.spec.Channel.Close.INDEX, pika.spec.Channel.CloseOk.INDEX})
_CONNECTION_ENDS: Final = frozenset(
    {pika.spec.Connection.Close.INDEX, pika.spec.Connection.CloseOk.INDEX}
)
# What may overtake a message that waits to change places. Any other method of its channel may
# depend on the message, which is therefore sent first.
_INDEPENDENT: Final = frozenset({DELIVER, PUBLISH, ACK, NACK, RETURN, pika.spec.Basic.Reject.INDEX})

_Item = MessageFrames | Confirm
_Key = tuple[What, int]  # and the channel


@dataclass(frozen=True, slots=True)
class Pause:
    """A step: what follows in this direction is delayed by ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """A step: the connection ends here, on both sides."""


Step = bytes | Pause | Reset


@dataclass(frozen=True, slots=True, eq=False)
class PendingSwap:
    """A message or confirm that waits for the next one, to change places with it.

    Whoever drives the connection ends the wait with :meth:`AlteredConnection.release`.
    """

    direction: Direction
    key: _Key
    swap: Swap
    bundle: _Bundle


@dataclass(frozen=True, slots=True)
class Output:
    """What is to be sent to each side, in order, and which swaps have begun to wait."""

    to_broker: tuple[Step, ...] = ()
    to_client: tuple[Step, ...] = ()
    pending: tuple[PendingSwap, ...] = ()


@dataclass(slots=True)
class _Bundle:
    """What one message or confirm has become (none, one or more), and how it is to be sent."""

    items: list[_Item]
    pause_s: float = 0.0
    cut: CutInside | None = None


@dataclass(slots=True)
class _Side:
    """One direction: what has come, and what is to be sent."""

    direction: Direction
    cutter: FrameCutter = field(default_factory=FrameCutter)
    contents: ContentAssembler = field(default_factory=ContentAssembler)
    pending: dict[_Key, PendingSwap] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    passed: int = 0
    gathers: bool = False  # messages are gathered until they are whole

    def take_steps(self) -> tuple[Step, ...]:
        """Return and forget what is to be sent; adjacent bytes are joined to one piece."""
        steps, self.steps = self.steps, []
        merged: list[Step] = []
        pieces: list[bytes] = []
        for step in steps:
            if isinstance(step, bytes):
                pieces.append(step)
                continue
            if pieces:
                merged.append(b"".join(pieces))
                pieces = []
            merged.append(step)
        if pieces:
            merged.append(b"".join(pieces))
        return tuple(merged)


class AlteredConnection:
    """One connection of a proxy: takes what each side sends, returns what is to be sent on."""

    def __init__(
        self, plan: AlterationPlan, number: int, *, only: Callable[[str], bool] | None = None
    ) -> None:
        """Take the plan of all connections, and the number of this one.

        With ``only``, nothing is altered until the client has sent its connection's name, and
        afterwards only if ``only`` returns true for that name.
        """
        self.number = number
        self.consuming: set[int] = set()  # channels on which a consumer was started
        self._full_plan = plan
        self._only = only
        self._client = _Side("to_broker")  # what the client sends
        self._broker = _Side("to_client")
        self._follow(AlterationPlan(()) if only else plan)
        self._publishes: dict[int, Publishes] = {}
        self._frame_max = 0
        self._ended = False
        self._cut_next = False
        self._unknown: set[int] = set()  # channels that wait to acknowledge an unknown tag
        self._new_pending: list[PendingSwap] = []

    def from_client(self, data: bytes) -> Output:
        """Take bytes that the client sent."""
        for frame in self._client.cutter.feed(data):
            self._notice(frame)
            self._take(self._client, frame)
            if frame.channel in self._unknown:
                self._acknowledge_unknown(frame.channel)
        return self._output()

    def from_broker(self, data: bytes) -> Output:
        """Take bytes that the broker sent."""
        for frame in self._broker.cutter.feed(data):
            if frame.method in _CHANNEL_ENDS:
                self._forget_consumer(frame.channel)
            self._take(self._broker, frame)
        return self._output()

    def end(self, direction: Direction) -> Output:
        """Send whatever is left in a direction, because its sender has ended it."""
        side = self._client if direction == "to_broker" else self._broker
        self._release_all(side)
        self._pass_unfinished(side)
        self._write(side, side.cutter.take_rest())
        return self._output()

    def release(self, swap: PendingSwap) -> Output:
        """End the wait of a swap: its message goes in its own place. Nothing if it has gone."""
        side = self._client if swap.direction == "to_broker" else self._broker
        if side.pending.get(swap.key) is swap:
            del side.pending[swap.key]
            self._send(side, swap.bundle)
        return self._output()

    def acknowledge_unknown(self) -> Output:
        """Acknowledge a delivery tag that was never used, on each channel with a consumer."""
        self._unknown = set(self.consuming)
        for channel in sorted(self._unknown):
            self._acknowledge_unknown(channel)
        return self._output()

    def cut_inside_frame(self) -> None:
        """Reset the connection in the middle of the next frame that passes in either direction."""
        self._cut_next = True

    # --- frames ----------------------------------------------------------------------------------

    def _notice(self, frame: Frame) -> None:
        """Keep account of the client's connection and channels."""
        channel, method = frame.channel, frame.method
        if not method:
            return
        if method == _CONSUME:
            self.consuming.add(channel)
        elif method == _SELECT:
            self._publishes.setdefault(channel, Publishes())
        elif method in _CHANNEL_ENDS:
            self._forget_consumer(channel)
        elif method == _CHANNEL_OPEN:
            self._forget_consumer(channel)
            self._publishes.pop(channel, None)
        elif method == _TUNE_OK:
            self._frame_max = int.from_bytes(frame.data[PAYLOAD_AT + 6 : PAYLOAD_AT + 10], "big")
        elif method == _START_OK and self._only is not None:
            wanted = self._only(read_connection_name(frame.data))
            self._follow(self._full_plan if wanted else AlterationPlan(()))

    def _follow(self, plan: AlterationPlan) -> None:
        """Alter what passes from now on by this plan.

        All messages of the broker are gathered where the plan alters any: no confirm of our own may
        come between the frames of a message.
        """
        self._plan = plan
        self._broker.gathers = bool(plan.touches)
        self._client.gathers = bool(plan.touches & {"publish", "confirm"})

    def _forget_consumer(self, channel: int) -> None:
        self.consuming.discard(channel)
        self._unknown.discard(channel)

    def _take(self, side: _Side, frame: Frame) -> None:
        """Pass one frame on, or keep it until the message that it belongs to is whole."""
        content, broken = side.contents.add(frame, keep=side.gathers)
        if broken is not None:  # an error of the peer
            self._write(side, b"".join(broken.frames))
        if frame.kind == METHOD:
            self._release_before(side, frame)
        elif frame.kind == OPAQUE:
            self._release_all(side)
            self._pass_unfinished(side)
        if content is not None and content.frames:
            if content.is_whole:
                self._take_message(side, frame.channel, content)
        elif frame.method in (ACK, NACK) and side is self._broker:
            self._take_confirm(frame)
        else:
            self._write(side, frame.data)

    def _release_before(self, side: _Side, frame: Frame) -> None:
        if not side.pending or frame.method in _INDEPENDENT:
            return
        everything = frame.method in _CONNECTION_ENDS
        for key in [key for key in side.pending if everything or key[1] == frame.channel]:
            self._send(side, side.pending.pop(key).bundle)

    def _release_all(self, side: _Side) -> None:
        for key in list(side.pending):
            self._send(side, side.pending.pop(key).bundle)

    def _pass_unfinished(self, side: _Side) -> None:
        """Send the frames of messages that will not become whole, as they are."""
        for content in side.contents.take_all():
            self._write(side, b"".join(content.frames))

    # --- messages and confirms -------------------------------------------------------------------

    def _take_message(self, side: _Side, channel: int, content: Content) -> None:
        if content.method not in (PUBLISH, DELIVER):
            self._write(side, b"".join(content.frames))
            return
        method, header, *bodies = content.frames
        message = MessageFrames(channel, method, header, tuple(bodies))
        if content.method == DELIVER:
            self._alter(side, "delivery", message)
            return
        publishes = self._publishes.get(channel)
        if publishes is not None:
            publishes.numbered += 1
            message = replace(message, number=publishes.numbered)
        self._alter(side, "publish", message)

    def _take_confirm(self, frame: Frame) -> None:
        """Count what the broker confirms, and pass it on with the publisher's own numbers."""
        side, channel = self._broker, frame.channel
        publishes = self._publishes.get(channel)
        usual = len(frame.data) == CONFIRM_BYTES
        if publishes is None or not usual or not self._client.gathers:
            self._write(side, frame.data)
            return
        numbers = [number for number in publishes.settle(*read_confirm(frame.data)) if number]
        wanted = [self._plan.count("confirm") for _ in numbers]
        if publishes.same and not any(wanted):
            self._write(side, frame.data)
            return
        publishes.same = False  # a confirm that is dropped must not be covered by a later multiple
        for number, alterations in zip(numbers, wanted, strict=True):
            confirm = Confirm(channel, number, frame.method == NACK)
            self._apply(side, "confirm", confirm, alterations)

    def _alter(self, side: _Side, what: What, item: MessageFrames) -> None:
        alterations = self._plan.count(what)
        if (alterations or side.pending) and item.is_well_formed:
            self._apply(side, what, item, alterations)
        else:
            self._send_item(side, item)

    def _apply(self, side: _Side, what: What, item: _Item, alterations: list[OfMessage]) -> None:
        """Alter a message or confirm as planned, and send it, or keep it until the next comes."""
        bundle, swap = self._make_bundle(item, alterations)
        key = (what, item.channel)
        before = side.pending.get(key)
        if before is not None and bundle.items:
            del side.pending[key]
            self._plan.note(before.swap, self.number)
            _exchange_tags(before.bundle, bundle)
            self._send(side, bundle)
            self._send(side, before.bundle)
        elif swap is not None:
            side.pending[key] = PendingSwap(side.direction, key, swap, bundle)
            self._new_pending.append(side.pending[key])
        else:
            self._send(side, bundle)

    def _make_bundle(
        self, item: _Item, alterations: list[OfMessage]
    ) -> tuple[_Bundle, Swap | None]:
        """Alter the content first, then how often and when it is sent."""
        swap: Swap | None = None
        first = item
        for each in alterations:
            if isinstance(first, MessageFrames) and isinstance(each, Flip | Misroute):
                changed = _change(first, each)
                if changed is not None:
                    first = changed
                    self._plan.note(each, self.number)
        bundle = _Bundle([first])
        for each in alterations:
            match each:
                case Flip() | Misroute():
                    continue
                case Swap():
                    swap = each  # noted when the next one comes
                    continue
                case CutInside():
                    bundle.cut = each  # noted when it is sent
                    continue
                case Drop():
                    bundle.items.clear()
                    self._confirm_falsely(item)
                case Repeat():
                    again = replace(first, number=0) if isinstance(first, MessageFrames) else first
                    bundle.items.append(again)
                case Forge() if isinstance(first, MessageFrames):
                    forged = first.make_follower(each.body, each.properties, self._frame_max)
                    bundle.items.append(forged)
                case Delay():
                    bundle.pause_s += each.seconds
            self._plan.note(each, self.number)
        return bundle, swap

    def _confirm_falsely(self, dropped: _Item) -> None:
        """Confirm a publish that the broker never receives."""
        if isinstance(dropped, MessageFrames) and dropped.number:
            self._write(self._broker, make_ack(dropped.channel, dropped.number))

    # --- sending ---------------------------------------------------------------------------------

    def _send(self, side: _Side, bundle: _Bundle) -> None:
        if self._ended:
            return
        if bundle.pause_s:
            side.steps.append(Pause(bundle.pause_s))
        if bundle.cut is not None:
            data = b"".join(item.marshal() for item in bundle.items)
            self._write(side, data[: len(data) // 2])
            self._plan.note(bundle.cut, self.number)
            self._reset(side)
            return
        for item in bundle.items:
            self._send_item(side, item)

    def _send_item(self, side: _Side, item: _Item) -> None:
        if side is self._client:
            publishes = self._publishes.get(item.channel)
            if publishes is not None and isinstance(item, MessageFrames):
                publishes.send(item.number)
        self._write(side, item.marshal())

    def _write(self, side: _Side, data: bytes) -> None:
        """Queue bytes, up to where the connection is to end."""
        if self._ended or not data:
            return
        planned = self._plan.take_cut(side.direction, side.passed, len(data))
        if planned is not None:
            data = data[: planned.at_byte - side.passed]
            self._plan.note(planned, self.number)
        elif self._cut_next:
            data = data[: _inside_first_frame(data)]
        side.passed += len(data)
        side.steps.append(data)
        if planned is not None or self._cut_next:
            self._reset(side)

    def _reset(self, side: _Side) -> None:
        if not self._ended:
            side.steps.append(Reset())
            self._ended = True

    def _acknowledge_unknown(self, channel: int) -> None:
        """Acknowledge an unknown tag now, or after the message that is being sent there."""
        content = self._client.contents.open.get(channel)
        if content is None or content.frames:  # what is gathered has not been sent yet
            self._unknown.discard(channel)
            self._write(self._client, make_ack(channel, UNKNOWN_TAG))

    def _output(self) -> Output:
        pending, self._new_pending = tuple(self._new_pending), []
        return Output(self._client.take_steps(), self._broker.take_steps(), pending)


def _change(message: MessageFrames, alteration: Flip | Misroute) -> MessageFrames | None:
    if isinstance(alteration, Misroute):
        return message.with_route(alteration.exchange, alteration.routing_key)
    if alteration.part == "header":
        return message.with_flipped_header(alteration.byte, alteration.mask)
    return message.with_flipped_body(alteration.byte, alteration.mask)


def _exchange_tags(one: _Bundle, other: _Bundle) -> None:
    """Exchange the tags of deliveries that change places: tags ascend as before."""
    first, second = one.items[0], other.items[0]
    if isinstance(first, MessageFrames) and isinstance(second, MessageFrames) and first.is_delivery:
        tags = first.delivery_tag, second.delivery_tag
        one.items = [_retagged(item, tags[1]) for item in one.items]
        other.items = [_retagged(item, tags[0]) for item in other.items]


def _retagged(item: _Item, tag: int) -> _Item:
    return item.with_delivery_tag(tag) if isinstance(item, MessageFrames) else item


def _inside_first_frame(data: bytes) -> int:
    """Return where the middle of the first frame (or of what is not a frame) in ``data`` is."""
    first = next(FrameCutter().feed(data), None)
    return max(1, len(first.data if first else data) // 2)
