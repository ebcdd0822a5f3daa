"""One connection that is altered as it passes: bytes in, bytes out, no input or output.

Whole frames only are given on, so that more of them can be put in between. With a plan, the
frames of a message are gathered until it is whole; frames of other channels and heartbeats pass
meanwhile. Without one, each frame passes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import pika.spec

from rmqbench.amqp.vector import BODY, HEADER, METHOD
from rmqbench.proxy.alterations import (
    CutInside,
    Delay,
    Direction,
    Drop,
    Flip,
    Forge,
    Misroute,
    OfMessage,
    Plan,
    Repeat,
    Swap,
    What,
)
from rmqbench.proxy.confirms import Publishes
from rmqbench.proxy.messages import (
    ACK,
    DELIVER,
    NACK,
    PUBLISH,
    Confirm,
    Frame,
    FrameCutter,
    Message,
    make_ack,
    read_connection_name,
)

__all__ = ["UNKNOWN_TAG", "AlteredConnection", "Held", "Output", "Pause", "Reset", "Step"]

UNKNOWN_TAG: Final = 1 << 40
"""A delivery tag that no channel ever comes to."""

_RETURN: Final[int] = pika.spec.Basic.Return.INDEX
_CONTENT: Final = frozenset({DELIVER, PUBLISH, _RETURN, pika.spec.Basic.GetOk.INDEX})
_CONSUME: Final[int] = pika.spec.Basic.Consume.INDEX
_SELECT: Final[int] = pika.spec.Confirm.Select.INDEX
_START_OK: Final[int] = pika.spec.Connection.StartOk.INDEX
_TUNE_OK: Final[int] = pika.spec.Connection.TuneOk.INDEX
_CHANNEL_OPEN: Final[int] = pika.spec.Channel.Open.INDEX
_CHANNEL_ENDS: Final = frozenset({pika.spec.Channel.Close.INDEX, pika.spec.Channel.CloseOk.INDEX})
_CONNECTION_ENDS: Final = frozenset(
    {pika.spec.Connection.Close.INDEX, pika.spec.Connection.CloseOk.INDEX}
)
# What may overtake a message that waits to change places. All other methods of its channel may
# depend on it, and let it go first.
_INDEPENDENT: Final = frozenset(
    {DELIVER, PUBLISH, ACK, NACK, _RETURN, pika.spec.Basic.Reject.INDEX}
)

_Item = Message | Confirm
_Key = tuple[What, int]  # and the channel


@dataclass(frozen=True, slots=True)
class Pause:
    """What follows in this direction is to come so much later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection ends here, both sides of it."""


Step = bytes | Pause | Reset


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One that waits to change places with the next. See :meth:`AlteredConnection.release`."""

    direction: Direction
    key: _Key
    swap: Swap
    bundle: _Bundle


@dataclass(frozen=True, slots=True)
class Output:
    """What is to be sent to either side, in order, and what began to wait."""

    to_broker: tuple[Step, ...] = ()
    to_client: tuple[Step, ...] = ()
    held: tuple[Held, ...] = ()


@dataclass(slots=True)
class _Bundle:
    """What became of one message or confirm: it, nothing, or more; and how it is to go out."""

    items: list[_Item]
    pause_s: float = 0.0
    cut: CutInside | None = None


@dataclass(slots=True)
class _Content:
    """A message of which not all frames have come. ``missing`` None: not even its header."""

    method: int
    frames: list[bytes] = field(default_factory=list)
    missing: int | None = None


@dataclass(slots=True)
class _Side:
    """One direction: what has come, and what is to go out."""

    direction: Direction
    cutter: FrameCutter = field(default_factory=FrameCutter)
    contents: dict[int, _Content] = field(default_factory=dict)
    held: dict[_Key, Held] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    passed: int = 0

    def take_steps(self) -> tuple[Step, ...]:
        """Give what is to go out, with bytes that lie side by side in one piece."""
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
    """One connection of a proxy: feed it with what either side sends, send on what it gives."""

    def __init__(
        self, plan: Plan, number: int, *, only: Callable[[str], bool] | None = None
    ) -> None:
        """Take the plan of all connections, and which of them this is.

        With ``only``, nothing is altered until the client has told its connection's name, and only
        if ``only`` agrees to that name.
        """
        self.number = number
        self.consuming: set[int] = set()  # channels on which a consumer was started
        self._plan = Plan(()) if only else plan
        self._full_plan = plan
        self._only = only
        self._client = _Side("to_broker")  # what the client sends
        self._broker = _Side("to_client")
        self._publishes: dict[int, Publishes] = {}
        self._frame_max = 0
        self._ended = False
        self._cut_next = False
        self._unknown: set[int] = set()  # channels that wait to acknowledge an unknown tag
        self._new_held: list[Held] = []

    def from_client(self, data: bytes) -> Output:
        """Take what the client sent."""
        for frame in self._client.cutter.feed(data):
            self._notice(frame)
            self._take(self._client, frame)
            if frame.channel in self._unknown:
                self._acknowledge_unknown(frame.channel)
        return self._output()

    def from_broker(self, data: bytes) -> Output:
        """Take what the broker sent."""
        for frame in self._broker.cutter.feed(data):
            if frame.method in _CHANNEL_ENDS:
                self._forget_consumer(frame.channel)
            self._take(self._broker, frame)
        return self._output()

    def end(self, direction: Direction) -> Output:
        """Let go of what is left in a direction: nothing more comes."""
        side = self._client if direction == "to_broker" else self._broker
        self._release_all(side)
        self._pass_unfinished(side)
        self._write(side, side.cutter.take_rest())
        return self._output()

    def release(self, held: Held) -> Output:
        """Let one go that has waited long enough, in its own place; nothing if it is gone."""
        side = self._client if held.direction == "to_broker" else self._broker
        if side.held.get(held.key) is held:
            del side.held[held.key]
            self._send(side, held.bundle)
        return self._output()

    def acknowledge_unknown(self) -> Output:
        """Acknowledge a tag that was never given, on each channel that has consumed."""
        self._unknown = set(self.consuming)
        for channel in sorted(self._unknown):
            self._acknowledge_unknown(channel)
        return self._output()

    def cut_inside_frame(self) -> None:
        """Reset the connection in the middle of the next frame that passes, either way."""
        self._cut_next = True

    # --- frames ----------------------------------------------------------------------------------

    def _notice(self, frame: Frame) -> None:
        """Note what the client says of its connection and its channels."""
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
            self._frame_max = int.from_bytes(frame.data[13:17], "big")
        elif method == _START_OK and self._only is not None:
            self._plan = (
                self._full_plan if self._only(read_connection_name(frame.data)) else Plan(())
            )

    def _forget_consumer(self, channel: int) -> None:
        self.consuming.discard(channel)
        self._unknown.discard(channel)

    def _take(self, side: _Side, frame: Frame) -> None:
        """Pass one frame on, or keep it until the message is whole that it belongs to."""
        if frame.kind == METHOD:
            if frame.channel in side.contents:
                self._pass_content(side, frame.channel)  # an unfinished one: an error of the peer
            self._release_before(side, frame)
            if frame.method in _CONTENT:
                content = _Content(frame.method)
                side.contents[frame.channel] = content
                if self._gathers(side):
                    content.frames.append(frame.data)
                    return
            elif frame.method in (ACK, NACK) and side is self._broker:
                self._take_confirm(frame)
                return
        elif frame.kind in (HEADER, BODY) and frame.channel in side.contents:
            content = side.contents[frame.channel]
            if content.missing is None and frame.kind == HEADER:
                content.missing = int.from_bytes(frame.data[11:19], "big")
            elif content.missing is not None:
                content.missing -= len(frame.data) - 8
            whole = content.missing is not None and content.missing <= 0
            if whole:
                del side.contents[frame.channel]
            if content.frames:
                content.frames.append(frame.data)
                if whole:
                    self._take_message(side, frame.channel, content)
                return
        elif frame.kind == 0:
            self._release_all(side)
            self._pass_unfinished(side)
        self._write(side, frame.data)

    def _gathers(self, side: _Side) -> bool:
        """Tell whether messages of a side are made whole before they pass.

        The broker's all are where any are altered: a confirm of our own may not come in between.
        """
        touches = self._plan.touches
        return bool(touches if side is self._broker else touches & {"publish", "confirm"})

    def _release_before(self, side: _Side, frame: Frame) -> None:
        if not side.held or frame.method in _INDEPENDENT:
            return
        everything = frame.method in _CONNECTION_ENDS
        for key in [key for key in side.held if everything or key[1] == frame.channel]:
            self._send(side, side.held.pop(key).bundle)

    def _release_all(self, side: _Side) -> None:
        for key in list(side.held):
            self._send(side, side.held.pop(key).bundle)

    def _pass_unfinished(self, side: _Side) -> None:
        for channel in list(side.contents):
            self._pass_content(side, channel)

    def _pass_content(self, side: _Side, channel: int) -> None:
        """Pass the frames of a message that will not become whole, as they are."""
        self._write(side, b"".join(side.contents.pop(channel).frames))

    # --- messages and confirms -------------------------------------------------------------------

    def _take_message(self, side: _Side, channel: int, content: _Content) -> None:
        if content.method not in (PUBLISH, DELIVER):
            self._write(side, b"".join(content.frames))
            return
        method, header, *bodies = content.frames
        message = Message(channel, method, header, tuple(bodies))
        if content.method == DELIVER:
            self._alter(side, "delivery", message)
            return
        publishes = self._publishes.get(channel)
        if publishes is not None:
            publishes.numbered += 1
            message = replace(message, number=publishes.numbered)
        self._alter(side, "publish", message)

    def _take_confirm(self, frame: Frame) -> None:
        """Count what the broker confirms, and tell the publisher in its own numbers."""
        side, channel = self._broker, frame.channel
        publishes = self._publishes.get(channel)
        if publishes is None or not self._gathers(self._client):
            self._write(side, frame.data)
            return
        tag, multiple = int.from_bytes(frame.data[11:19], "big"), bool(frame.data[19] & 1)
        numbers = [number for number in publishes.settle(tag, multiple) if number]
        wanted = [self._plan.count("confirm") for _ in numbers]
        if publishes.same and not any(wanted):
            self._write(side, frame.data)
            return
        publishes.same = False  # one that is kept back must not be covered by a later multiple
        for number, alterations in zip(numbers, wanted, strict=True):
            confirm = Confirm(channel, number, frame.method == NACK)
            self._apply(side, "confirm", confirm, alterations)

    def _alter(self, side: _Side, what: What, item: Message) -> None:
        alterations = self._plan.count(what)
        if alterations or side.held:
            self._apply(side, what, item, alterations)
        else:
            self._send_item(side, item)

    def _apply(self, side: _Side, what: What, item: _Item, alterations: list[OfMessage]) -> None:
        """Do to one what the plan says, and send it, or hold it to change places."""
        bundle, swap = self._make_bundle(item, alterations)
        key = (what, item.channel)
        before = side.held.get(key)
        if before is not None and bundle.items:
            del side.held[key]
            self._plan.note(before.swap, self.number)
            _exchange_tags(before.bundle, bundle)
            self._send(side, bundle)
            self._send(side, before.bundle)
        elif swap is not None:
            held = Held(side.direction, key, swap, bundle)
            side.held[key] = held
            self._new_held.append(held)
        else:
            self._send(side, bundle)

    def _make_bundle(
        self, item: _Item, alterations: list[OfMessage]
    ) -> tuple[_Bundle, Swap | None]:
        """Alter the content first, then how often and how it comes."""
        swap: Swap | None = None
        first = item
        for each in alterations:
            if isinstance(first, Message) and isinstance(each, Flip | Misroute):
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
                    bundle.cut = each  # noted when it goes out
                    continue
                case Drop():
                    bundle.items.clear()
                    self._lie(item)
                case Repeat():
                    again = replace(first, number=0) if isinstance(first, Message) else first
                    bundle.items.append(again)
                case Forge() if isinstance(first, Message):
                    forged = first.make_follower(each.body, each.properties, self._frame_max)
                    bundle.items.append(forged)
                case Delay():
                    bundle.pause_s += each.seconds
            self._plan.note(each, self.number)
        return bundle, swap

    def _lie(self, dropped: _Item) -> None:
        """Confirm a publish that the broker never gets."""
        if isinstance(dropped, Message) and dropped.number:
            self._write(self._broker, make_ack(dropped.channel, dropped.number))

    # --- what goes out ---------------------------------------------------------------------------

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
            if publishes is not None and isinstance(item, Message):
                publishes.send(item.number)
        self._write(side, item.marshal())

    def _write(self, side: _Side, data: bytes) -> None:
        """Give bytes on, up to where the connection is to end."""
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
        """Do it, unless a message of that channel is under way: then after it."""
        content = self._client.contents.get(channel)
        if content is None or content.frames:  # what is gathered has not gone out yet
            self._unknown.discard(channel)
            self._write(self._client, make_ack(channel, UNKNOWN_TAG))

    def _output(self) -> Output:
        held, self._new_held = tuple(self._new_held), []
        return Output(self._client.take_steps(), self._broker.take_steps(), held)


def _change(message: Message, alteration: Flip | Misroute) -> Message | None:
    if isinstance(alteration, Misroute):
        return message.with_route(alteration.exchange, alteration.routing_key)
    if alteration.part == "header":
        return message.with_flipped_header(alteration.byte, alteration.mask)
    return message.with_flipped_body(alteration.byte, alteration.mask)


def _exchange_tags(one: _Bundle, other: _Bundle) -> None:
    """Give deliveries that change places each other's tags: they ascend as before."""
    first, second = one.items[0], other.items[0]
    if not (isinstance(first, Message) and isinstance(second, Message)) or not _is_delivery(first):
        return
    tags = first.delivery_tag, second.delivery_tag
    one.items = [_retagged(item, tags[1]) for item in one.items]
    other.items = [_retagged(item, tags[0]) for item in other.items]


def _is_delivery(message: Message) -> bool:
    return int.from_bytes(message.method[7:11], "big") == DELIVER


def _retagged(item: _Item, tag: int) -> _Item:
    return item.with_delivery_tag(tag) if isinstance(item, Message) else item


def _inside_first_frame(data: bytes) -> int:
    """Give a place in the middle of the first frame (or protocol header) of ``data``."""
    size = len(data)
    if data[0] in (METHOD, HEADER, BODY) and size >= 8:
        size = min(size, 8 + int.from_bytes(data[3:7], "big"))
    return max(1, size // 2)
