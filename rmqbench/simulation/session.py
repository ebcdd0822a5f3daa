"""The server side of one connection: handshake, heartbeats, channels, and how it all ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pika.frame
import pika.spec

from rmqbench.amqp.framing import (
    FRAME_END,
    HEARTBEAT,
    METHOD,
    OPAQUE,
    OVERHEAD,
    PAYLOAD_AT,
    PROTOCOL_HEADER,
    PUBLISH,
    ContentAssembler,
    Frame,
    FrameCutter,
)
from rmqbench.simulation import consuming, declaring
from rmqbench.simulation.channel import Channel
from rmqbench.simulation.content import MALFORMED
from rmqbench.simulation.refusals import (
    ACCESS_REFUSED,
    CHANNEL_ERROR,
    COMMAND_INVALID,
    FRAME_ERROR,
    NOT_ALLOWED,
    SYNTAX_ERROR,
    UNEXPECTED_FRAME,
    RefusedError,
)
from rmqbench.simulation.truth import ChannelOpened, Connected, Disconnected

if TYPE_CHECKING:
    from rmqbench.simulation.broker import Cancellable, ModelBroker

__all__ = ["FRAME_MAX", "Session"]

_spec: Final = pika.spec
FRAME_MAX: Final = 131072
"""The largest frame that RabbitMQ allows, in bytes."""

_LEAST_FRAME_MAX: Final = 4096
_FUDGE: Final = OVERHEAD  # by how much RabbitMQ lets a frame be too large
_CHANNEL_MAX: Final = 2047
_HEARTBEAT_S: Final = 60
_MISSED: Final = 2  # whole intervals without a byte from the client
_FIELDS_AT: Final = PAYLOAD_AT + 4
_HEARTBEAT_FRAME: Final = bytes((HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END))
_HANDLERS: Final = declaring.HANDLERS | consuming.HANDLERS
_METHODS = pika.spec.methods


class Session:
    """What RabbitMQ knows of one TCP connection."""

    handlers: Final = _HANDLERS

    def __init__(
        self,
        broker: ModelBroker,
        number: int,
        send: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self.broker = broker
        self.number = number
        self.host = broker.default_host
        self.frame_max = FRAME_MAX
        self.hears_of_cancels = False
        self.channels: dict[int, Channel] = {}
        self.name = ""
        self._send, self._lost = send, lost
        self._out: list[bytes] = []
        self._cutter = FrameCutter()
        self._assembler = ContentAssembler()
        self._state = "header"
        self._is_over = False  # nothing is sent any more
        self._ends = False  # the TCP connection is closed once all is sent
        self._channel_max = _CHANNEL_MAX
        self._hears_of_blocking = False
        self._heartbeat: Cancellable | None = None
        self._interval_s = 0
        self._received = False
        self._sent = False
        self._silent = 0  # half intervals
        self._held_back: list[bytes] | None = None  # unread while an alarm blocks

    # --- what the transport calls ---------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes of the client, in pieces of any size."""
        if self._is_over or not data:
            return
        self._received = True
        with self.broker.at_work:
            if self._held_back is not None:
                self._held_back.append(data)
            else:
                self._cutter.add(data)
                self._read()

    def disconnected(self) -> None:
        """Record that the client's side of the TCP connection is gone."""
        with self.broker.at_work:
            self.end("the client has closed the TCP connection")

    # --- reading --------------------------------------------------------------------------------

    def _read(self) -> None:
        cutter = self._cutter
        while not self._is_over and self._held_back is None:
            found = cutter.find()
            if found is None:
                return
            kind, number, method, end = found
            at, cutter.at = cutter.at, end
            if end - at > self.frame_max + _FUDGE:
                self._refuse(0, 0, RefusedError(FRAME_ERROR, "frame_too_large"))
                return
            data = cutter.cut(at, end)
            if kind == OPAQUE:
                self._opaque(data)
            elif kind != HEARTBEAT:
                self._frame(Frame(kind, number, method, data))

    def _opaque(self, data: bytes) -> None:
        if self._state == "header" and data == PROTOCOL_HEADER:
            self._state = "starting"
            self.write(self.broker.start_frame)
        elif self._state == "header":
            self.write(PROTOCOL_HEADER)
            self._end_after_sending("the client speaks another protocol")
        else:
            self._refuse(0, 0, RefusedError(FRAME_ERROR, "type 0, not a frame"))

    def _frame(self, frame: Frame) -> None:
        kind, number, method, data = frame
        if self._state == "closing":
            if number == 0 and method == _spec.Connection.CloseOk.INDEX:
                self._end_after_sending("closed by the server")
            elif number == 0 and method == _spec.Connection.Close.INDEX:
                self.reply(_spec.Connection.CloseOk())
            return
        if number == 0:
            try:
                self._connection_method(kind, method, data)
            except MALFORMED:
                self._refuse(0, method, RefusedError(SYNTAX_ERROR, "malformed method"))
            except RefusedError as error:
                self._refuse(0, method, error)
            return
        if self._state != "open":
            self._refuse(0, method, RefusedError(CHANNEL_ERROR, "the connection is not open"))
            return
        channel = self.channels.get(number)
        if channel is not None and channel.is_closing:
            if method == _spec.Channel.CloseOk.INDEX:
                channel.end()
                del self.channels[number]
            elif method == _spec.Channel.Close.INDEX:
                self._reply_on(number, _spec.Channel.CloseOk())
            return
        try:
            self._channel_frame(channel, frame)
        except MALFORMED:
            self._refuse(0, method, RefusedError(SYNTAX_ERROR, "malformed method or content"))
        except RefusedError as error:
            self._refuse(number, method if kind == METHOD else PUBLISH, error)

    def _channel_frame(self, channel: Channel | None, frame: Frame) -> None:
        kind, number, method, data = frame
        if kind != METHOD or method == PUBLISH or self._assembler.open:
            content, broken = self._assembler.add(frame)
            if broken is not None or content is None:
                if kind != METHOD or broken is not None:
                    raise RefusedError(UNEXPECTED_FRAME, "a content was expected to go on")
            elif content.is_whole:
                self._on_channel(channel, content.method, content.frames[0], content.frames)
            if kind != METHOD and self.broker.blocked_reason is not None:
                self._block(self.broker.blocked_reason)  # once the header is read: no body is
            if content is not None:
                return
        if method == _spec.Channel.Open.INDEX:
            self._open_channel(channel, number)
        elif method == _spec.Channel.Close.INDEX:
            if channel is not None:
                channel.end()
                del self.channels[number]
            self._reply_on(number, _spec.Channel.CloseOk())
        elif method != _spec.Channel.CloseOk.INDEX or channel is not None:
            self._on_channel(channel, method, data, [])

    def _on_channel(
        self, channel: Channel | None, method: int, data: bytes, frames: list[bytes]
    ) -> None:
        if channel is None:
            raise RefusedError(CHANNEL_ERROR, "expected 'channel.open'")
        channel.handle(method, data, frames)

    def _open_channel(self, channel: Channel | None, number: int) -> None:
        if channel is not None:
            raise RefusedError(CHANNEL_ERROR, "second 'channel.open' seen")
        opened = len(self.channels)
        if opened >= self._channel_max or number > self._channel_max:
            raise RefusedError(
                NOT_ALLOWED,
                f"number of channels opened ({opened}) has reached the negotiated channel_max "
                f"({self._channel_max})",
            )
        self.channels[number] = Channel(self, number)
        self.broker.note(ChannelOpened(self.broker.now(), self.number, number))
        self._reply_on(number, _spec.Channel.OpenOk())

    # --- the connection's own methods -----------------------------------------------------------

    def _connection_method(self, kind: int, index: int, data: bytes) -> None:
        known = _METHODS.get(index) if kind == METHOD else None
        if known is None:
            raise RefusedError(UNEXPECTED_FRAME, "type other than a method on channel 0")
        method = known().decode(data, _FIELDS_AT)
        state = self._state
        if index == _spec.Connection.Close.INDEX:
            self._end_channels()
            self.reply(_spec.Connection.CloseOk())
            self._end_after_sending("the client has closed it")
        elif index == _spec.Connection.StartOk.INDEX and state == "starting":
            self._start_ok(method)
        elif index == _spec.Connection.TuneOk.INDEX and state == "tuning":
            self._tune_ok(method)
        elif index == _spec.Connection.Open.INDEX and state == "opening":
            self._open(method)
        else:
            why = f"unexpected method in connection state {state}"
            raise RefusedError(CHANNEL_ERROR, why)

    def _start_ok(self, method: Any) -> None:
        properties = method.client_properties or {}
        capabilities = properties.get("capabilities") or {}
        self.name = str(properties.get("connection_name", ""))
        self.hears_of_cancels = capabilities.get("consumer_cancel_notify") is True
        self._hears_of_blocking = capabilities.get("connection.blocked") is True
        mechanism = method.mechanism
        if mechanism != "PLAIN":
            why = f"unknown authentication mechanism '{mechanism}'"
            raise RefusedError(COMMAND_INVALID, why)
        response = method.response
        raw = response if isinstance(response, bytes) else str(response).encode()
        _, user, password = (*raw.split(b"\x00"), b"", b"", b"")[:3]
        if self.broker.users.get(user.decode(errors="replace")) != password.decode(
            errors="replace"
        ):
            if capabilities.get("authentication_failure_close") is True:
                raise RefusedError(
                    ACCESS_REFUSED,
                    f"Login was refused using authentication mechanism {mechanism}. For details "
                    "see the broker logfile.",
                )
            self._end_after_sending("login refused")
            return
        self._state = "tuning"
        self.reply(_spec.Connection.Tune(_CHANNEL_MAX, FRAME_MAX, _HEARTBEAT_S))

    def _tune_ok(self, method: Any) -> None:
        for name, value, most in (
            ("frame_max", method.frame_max, FRAME_MAX),
            ("channel_max", method.channel_max, _CHANNEL_MAX),
        ):
            if not value or value > most:
                shown = value or "0 (no limit)"
                why = f"negotiated {name} = {shown} is higher than the maximum allowed value"
                raise RefusedError(NOT_ALLOWED, f"{why} ({most})")
        if method.frame_max < _LEAST_FRAME_MAX:
            why = f"negotiated frame_max = {method.frame_max} is lower than the minimum allowed "
            raise RefusedError(NOT_ALLOWED, f"{why}value ({_LEAST_FRAME_MAX})")
        self.frame_max = method.frame_max
        self._channel_max = method.channel_max
        self._interval_s = method.heartbeat
        self._state = "opening"
        if self._interval_s:
            self._watch_heartbeats()

    def _open(self, method: Any) -> None:
        host = self.broker.hosts.get(method.virtual_host)
        if host is None:
            raise RefusedError(NOT_ALLOWED, f"vhost {method.virtual_host} not found")
        self.host = host
        self._state = "open"
        self.broker.note(Connected(self.broker.now(), self.number, self.name))
        self.reply(_spec.Connection.OpenOk())

    # --- heartbeats and alarms ------------------------------------------------------------------

    def _watch_heartbeats(self) -> None:
        self._heartbeat = self.broker.later(self._interval_s / 2, self._half_interval)

    def _half_interval(self) -> None:
        """Send a heartbeat if nothing else was sent, and count how long the client is silent."""
        if self._is_over:
            return
        if not self._sent:
            self.write(_HEARTBEAT_FRAME)
        self._sent = False
        self._silent = 0 if self._received or self._held_back is not None else self._silent + 1
        self._received = False
        if self._silent > 2 * _MISSED:
            self._end_after_sending("missed heartbeats from the client")
        else:
            self._watch_heartbeats()

    def _block(self, reason: str) -> None:
        if self._held_back is None:
            self._held_back = []
            if self._hears_of_blocking:
                self.reply(_spec.Connection.Blocked(reason))

    def unblock(self) -> None:
        """Read on, where an alarm has stopped it."""
        if self._held_back is not None:
            held, self._held_back = self._held_back, None
            if self._hears_of_blocking:
                self.reply(_spec.Connection.Unblocked())
            self._cutter.add(b"".join(held))
            self._read()

    # --- sending --------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes, once the broker has done what it is doing."""
        if not self._is_over:
            out = self._out
            if not out:
                self.broker.has_output(self)
            out.append(data)

    def reply(self, method: Any) -> None:
        """Send a method on channel 0."""
        self._reply_on(0, method)

    def _reply_on(self, number: int, method: Any) -> None:
        self.write(pika.frame.Method(number, method).marshal())

    def flush(self) -> None:
        """Hand over what is to be sent, and close the TCP connection where that is next."""
        out, self._out = self._out, []
        if out:
            self._sent = True
            self._send(out[0] if len(out) == 1 else b"".join(out))
        if self._ends:
            self._ends = False
            self._lost()

    # --- the end --------------------------------------------------------------------------------

    def guarded(self, channel: Channel, act: Callable[[], object]) -> None:
        """Do something for a channel, and end it or the connection if that is refused."""
        try:
            act()
        except RefusedError as error:
            self._refuse(channel.number, 0, error)

    def _refuse(self, number: int, method: int, error: RefusedError) -> None:
        class_id, method_id = method >> 16, method & 0xFFFF
        channel = self.channels.get(number)
        if number and channel is not None and not error.ends_connection:
            if channel.is_open:
                if channel.confirms is not None:
                    channel.confirms.flush()
                channel.is_closing = True
                self._assembler.open.pop(number, None)
                close = _spec.Channel.Close(error.code, error.text, class_id, method_id)
                self._reply_on(number, close)
                channel.end(error.code, error.text, answered=False)
            return
        self.close(error, class_id, method_id)

    def close(self, error: RefusedError, class_id: int = 0, method_id: int = 0) -> None:
        """End the connection with an exception, and wait for the client's answer."""
        if self._is_over or self._state == "closing":
            return
        self._end_channels(error)
        self._state = "closing"
        self.reply(_spec.Connection.Close(error.code, error.text, class_id, method_id))

    def close_now(self, error: RefusedError) -> None:
        """End the connection with an exception, and the TCP connection right after it."""
        self.close(error)
        self._end_after_sending(error.text)

    def drop(self, cause: str) -> None:
        """End the TCP connection without a word: the node is dead."""
        if not self._is_over:
            self._out.clear()
            self._end_after_sending(cause)

    def _end_after_sending(self, cause: str) -> None:
        if not self._is_over:
            self._ends = True
            self.broker.has_output(self)
            self.end(cause)

    def _end_channels(self, error: RefusedError | None = None) -> None:
        for channel in list(self.channels.values()):
            if channel.is_open and error is None and channel.confirms is not None:
                channel.confirms.flush()
            channel.end(error.code if error else 0, error.text if error else "")
        self.channels.clear()

    def end(self, cause: str) -> None:
        """End on this side: channels close, and queues that were only for it are deleted."""
        if self._is_over:
            return
        self._end_channels()
        self._is_over = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        broker = self.broker
        broker.forget(self)
        if self._state in {"open", "closing"}:
            broker.note(Disconnected(broker.now(), self.number, cause))
        for queue in list(self.host.queues.values()):
            if queue.owner is self:
                queue.delete("exclusive")
