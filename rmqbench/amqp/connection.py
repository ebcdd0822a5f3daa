"""The AMQP connection of producers and consumers, driven turn by turn.

pika connects, authenticates, opens channels, declares, keeps heartbeats and closes. Before it, the
received bytes pass a tap: a :class:`~rmqbench.amqp.vector.Splitter` takes confirms and deliveries
out of them and passes these to their handlers as arrays; all other frames go to pika unchanged.
Without the tap (``vector=False``) everything goes through pika's callbacks, to the same handlers.

What is touched inside of pika, and why: ``_on_data_available`` (where received bytes arrive),
``_output_marshaled_frames`` (rendered frames are sent and counted like all others),
``_adapter_emit_data`` (what the socket takes is sent at once), ``bytes_received`` (the heartbeat
must count what pika does not see), ``_transport`` and its ``_sock`` and ``_tx_buffers`` (what is
sent at once goes where nothing waits), ``_MAX_RECV_BYTES`` (4096 bytes a read are too few),
``_MAX_CONSUME_BYTES`` (how many reads a turn has) and ``_sigint_safe_recv`` (received bytes are
written where they are split), ``_terminate_stream`` (to end at once), ``_proto_connection_lost``
(what has come is taken before the end), and
``_cancelled`` of a channel (what is under way to a consumer that is being cancelled is its own).
Only :mod:`rmqbench.amqp.admin` touches pika's inside, too.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np
import pika
import pika.channel
import pika.exceptions
import pika.frame
import pika.spec
from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport

from rmqbench.amqp.diagnosis import channel_error, diagnose, is_early_end
from rmqbench.amqp.gathering import ENOUGH_BYTES, MAX_PAUSE_S, Gathering
from rmqbench.amqp.network import REAL_NETWORK, Network
from rmqbench.amqp.parameters import pika_parameters
from rmqbench.amqp.shape import Deliveries, Shape
from rmqbench.amqp.vector import Confirms, Splitter
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    BrokerError,
    ConnectionLost,
    DeadlineExceeded,
    MessageUnreadable,
    RmqbenchError,
)

__all__ = ["TICK_S", "Connection"]

TICK_S = 0.05
_FIRST_READ_BYTES = 1 << 14
_MAX_READ_BYTES = 1 << 18  # a cache of the processor holds it until it has been compared
_MAX_TURN_BYTES = 1 << 20
_MOST_SELECTED = 1024  # file descriptors that select can wait for
_CLOSE_S = 5.0

OnConfirms = Callable[[Confirms], None]
OnDeliveries = Callable[[Deliveries], None]
OnMessage = Callable[[pika.spec.Basic.Deliver, pika.BasicProperties, bytes], None]


class Connection:
    """One connection. Nothing happens outside of its methods; it belongs to one thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        name: str,
        network: Network = REAL_NETWORK,
        vector: bool = True,
        heartbeat_s: int = 30,
        connect_timeout_s: float = 10.0,
        tick_s: float = TICK_S,
    ) -> None:
        """Prepare a connection that :meth:`open` makes. ``name`` is shown by the broker.

        ``connect_timeout_s`` limits the attempt on each address of the host. No turn takes longer
        than ``tick_s``, so that its caller can look at the clock.
        """
        self.endpoint = endpoint
        self.blocked: str | None = None  # the broker's reason while it blocks publishers
        self.raw_delivery: bytes | None = None  # all frames of the message pika delivers, if tapped
        self._splitter = Splitter() if vector else None
        self._on_confirms: dict[int, OnConfirms] = {}
        self._on_deliveries: dict[int, OnDeliveries] = {}
        self._failure: Exception | None = None
        self._clock = network.clock
        self._handshake = network.handshake
        self._tick_s = tick_s
        self._opened = False
        self._not_opened: BaseException | None = None
        self._closing = False
        self.longest_pause_s = 0.0  # in which more may gather
        self.waited_s = 0.0  # in turns that were to wait no longer than they were told
        self.burst_bytes = 0  # how much may gather during a pause; 0: every byte is read at once
        self._received = 0
        self._read_bytes = _FIRST_READ_BYTES
        self._more = False  # whether there is more behind what was just received
        self._kept_since: float | None = None
        self._gathering = Gathering(network.clock)
        self._pika = _TappedConnection(
            pika_parameters(
                endpoint,
                connection_name=name,
                heartbeat_s=heartbeat_s,
                connect_timeout_s=connect_timeout_s,
            ),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_close,
            custom_ioloop=network.io_services(),
        )
        self._pika.tap = self._received_data
        self._pika.before_end = self._take_kept_back
        self._loop = self._pika.ioloop
        self._loop.activate_poller()

    def open(self, timeout_s: float = 15.0) -> Self:
        """Connect and log in within ``timeout_s``.

        Raise BrokerUnavailable, AccessRefused or UsageError, as
        :func:`rmqbench.amqp.diagnosis.diagnose` explains it.
        """
        try:
            with self._handshake:
                self._keep_ticking()
                self.wait_until(self._open_is_over, timeout_s, "the AMQP handshake")
        except DeadlineExceeded as error:
            self._not_opened = error
        except BaseException as error:
            if not is_early_end(error):
                self.abort()
                raise
            self._not_opened = error
        cause = self._not_opened
        if cause is not None:
            self.abort()
            raise diagnose(cause, self.endpoint) from cause
        return self

    def __enter__(self) -> Self:
        """Open the connection."""
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the connection cleanly, or at once if an error is being raised."""
        if kind is None:
            self.close()
        else:
            self.abort()

    @property
    def frame_max(self) -> int:
        """The size of the largest frame agreed on, in bytes."""
        return int(self._pika.params.frame_max)

    @property
    def server_version(self) -> str:
        """The version that the broker reports of itself; ``unknown`` if it reports none."""
        return self._server_property("version") or "unknown"

    @property
    def cluster_name(self) -> str | None:
        """The name that the broker reports of its cluster; None if it reports none."""
        return self._server_property("cluster_name")

    def _server_property(self, name: str) -> str | None:
        value = (self._pika.server_properties or {}).get(name)
        return value.decode() if isinstance(value, bytes) else None if value is None else str(value)

    @property
    def received_bytes(self) -> int:
        """How many bytes the broker has sent so far, heartbeats included."""
        return int(self._pika.bytes_received)

    @property
    def unsent_bytes(self) -> int:
        """How many bytes passed to :meth:`send` have not been handed to the network yet."""
        transport = self._pika._transport
        return int(transport.get_write_buffer_size()) if transport is not None else 0

    @property
    def more_is_there(self) -> bool:
        """Whether the last turn received so much that there is likely to be more already."""
        return self._received >= ENOUGH_BYTES

    def channel(self, timeout_s: float = 10.0) -> pika.channel.Channel:
        """Open a channel. If it ends unasked, the turn that notices raises the reason."""
        opened: list[pika.channel.Channel] = []
        channel = self._pika.channel(on_open_callback=opened.append)
        channel.add_on_close_callback(self._on_channel_close)
        self.wait_until(lambda: bool(opened), timeout_s, "a channel to open")
        return channel

    def turn(self, wait_s: float | None = None) -> None:
        """Send and receive what is ready; wait at most ``tick_s`` for something.

        ``wait_s`` is a shorter wait, kept to a tenth of a millisecond and counted in ``waited_s``.

        Raise ConnectionLost, or what :func:`rmqbench.amqp.diagnosis.channel_error` makes of the
        reason, if the connection or a channel ended unasked, MessageUnreadable if pika cannot
        decode a message, and what a handler raised.
        """
        if self._kept_since is None:
            self._gathering.pause(self._received, self.burst_bytes, self.longest_pause_s)
        self._received = 0
        if wait_s is None:
            self._loop.poll()
        else:
            self._poll_within(min(wait_s, self._tick_s))
        self._end_keeping_back()
        self._loop.process_timeouts()
        if self._failure is not None:
            raise self._failure

    def _poll_within(self, wait_s: float) -> None:
        """Wait for so long at most, and take what there is: pika waits for whole milliseconds."""
        began_at = self._clock.monotonic()
        source = self._gathering.source
        if source is None or not 0 <= source.fileno() < _MOST_SELECTED:
            self._loop.call_later(wait_s, lambda: None)
            self._loop.poll()
            self.waited_s += self._clock.monotonic() - began_at
            return
        select.select([source], [source] if self.unsent_bytes else [], [], wait_s)
        self.waited_s += self._clock.monotonic() - began_at
        self._loop.call_later(0, lambda: None)
        self._loop.poll()

    def wake(self) -> None:
        """End the wait of a turn in another thread, or of the next turn.

        It does nothing after the end: pika makes this call safe against the end of its loop.
        """
        self._loop.add_callback_threadsafe(lambda: None)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Take turns until ``condition`` holds. DeadlineExceeded names ``what`` was waited for."""
        deadline = self._clock.monotonic() + timeout_s
        while not condition():
            if self._clock.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"Timed out after {timeout_s:g} s waiting for {what} at {self.endpoint}."
                    + (f" The broker blocks publishers: {self.blocked}." if self.blocked else ""),
                    "See the broker's log. A slow machine may need a longer limit.",
                )
            self.turn()

    def expect_confirms(self, channel: pika.channel.Channel, handler: OnConfirms) -> None:
        """Select confirm mode on a channel: acks and nacks go to ``handler`` as arrays."""
        number = channel.channel_number

        def on_frame(frame: pika.frame.Method) -> None:
            method = frame.method
            handler(
                Confirms(
                    number,
                    np.array([method.delivery_tag], np.uint64).astype(np.int64),
                    np.array([method.multiple], np.bool_),
                    np.array([isinstance(method, pika.spec.Basic.Nack)], np.bool_),
                )
            )

        selected: list[object] = []
        try:
            channel.confirm_delivery(on_frame, selected.append)
        except pika.exceptions.MethodNotImplemented:
            raise BrokerError(
                f"The broker at {self.endpoint} does not offer publisher confirms.",
                "RabbitMQ does: see what listens there.",
            ) from None
        self.wait_until(lambda: bool(selected), 10.0, "confirm mode")
        self._on_confirms[number] = handler
        if self._splitter is not None:
            self._splitter.expect_confirms(number)

    def expect_deliveries(self, channel: pika.channel.Channel, handler: OnDeliveries) -> None:
        """Keep each delivery of a channel as received in ``raw_delivery`` while pika delivers it.

        After :meth:`learn`, deliveries of the learned shape go to ``handler`` as arrays instead.
        """
        self._on_deliveries[channel.channel_number] = handler
        if self._splitter is not None:
            self._splitter.expect_deliveries(channel.channel_number)

    def cancel(
        self, channel: pika.channel.Channel, tag: str, callback: Callable[[object], None]
    ) -> None:
        """Cancel a consumer; until ``callback`` is called with the answer it gets its deliveries.

        pika alone would give those back that are under way, behind the consumer's back.
        """
        channel.basic_cancel(tag, callback)
        channel._cancelled.discard(tag)

    def close_channel(self, channel: pika.channel.Channel, timeout_s: float) -> None:
        """Close a channel, and return when the broker has answered: it has taken all then.

        What ends the connection right behind the answer is left for the next turn to raise.
        """
        answered: list[object] = []

        def on_close(_: pika.channel.Channel, reason: BaseException) -> None:
            if isinstance(reason, pika.exceptions.ChannelClosedByClient):
                answered.append(reason)

        channel.add_on_close_callback(on_close)
        channel.close()
        try:
            self.wait_until(lambda: bool(answered), timeout_s, "the channel to close")
        except RmqbenchError:
            if not answered:
                raise

    def learn(self, channel: pika.channel.Channel, shape: Shape) -> None:
        """Pass deliveries of this shape to the channel's handler, many at once."""
        if self._splitter is not None:
            self._splitter.expect_deliveries(channel.channel_number, shape)

    def send(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send whole frames, rendered elsewhere, in pieces of any size."""
        # What a socket does not take at once is cut off: a view costs no copy.
        self._pika._output_marshaled_frames([memoryview(each) for each in frames])

    def close(self) -> None:
        """Close cleanly if the broker answers: it has received all then. Never raises."""
        if self._pika.is_open:
            self._closing = True
            try:
                self._pika.close()
                self.wait_until(lambda: self._pika.is_closed, _CLOSE_S, "the connection to close")
            except RmqbenchError:
                pass  # what was to be sent is sent or lost: nothing more can be done
        self.abort()

    def abort(self) -> None:
        """End the connection at once, and release its socket and loop."""
        self._closing = True
        if self._pika._transport is not None:
            self._pika._terminate_stream(pika.exceptions.StreamLostError("ended by rmqbench"))
            self._loop.process_timeouts()  # here pika notices, and closes the socket
        self._loop.deactivate_poller()
        self._loop.close()

    def _keep_ticking(self) -> None:
        self._loop.call_later(self._tick_s, self._keep_ticking)

    def _open_is_over(self) -> bool:
        return self._opened or self._not_opened is not None

    def _on_open(self, connection: _TappedConnection) -> None:
        self._opened = True
        transport = connection._transport
        transport._MAX_RECV_BYTES = _MAX_READ_BYTES
        transport._MAX_CONSUME_BYTES = _MAX_TURN_BYTES
        if self._splitter is not None:
            transport._sigint_safe_recv = self._receive
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _on_blocked(self, _: object, frame: pika.frame.Method) -> None:
        self.blocked = str(frame.method.reason)

    def _on_unblocked(self, _: object, frame: pika.frame.Method) -> None:
        self.blocked = None

    def _on_open_error(self, _: object, error: BaseException) -> None:
        self._not_opened = error

    def _on_close(self, _: object, reason: BaseException) -> None:
        self._fail(channel_error(reason, self.endpoint))

    def _on_channel_close(self, _: object, reason: BaseException) -> None:
        if not isinstance(reason, pika.exceptions.ChannelClosedByClient):
            self._fail(channel_error(reason, self.endpoint))

    def _fail(self, error: Exception) -> None:
        """Keep the first reason why this connection cannot be used any more."""
        if not self._closing and self._failure is None:
            self._failure = error

    def _receive(self, source: socket.socket, size: int) -> memoryview:
        """Receive at most ``size`` bytes where they are to be split, without a copy.

        Room for so many is taken where as many come: there may be a thousand connections.
        """
        assert self._splitter is not None
        self._gathering.source = source
        room = self._splitter.room(self._read_bytes)
        received = source.recv_into(room)
        self._more = is_full = received == len(room)
        if is_full:
            self._read_bytes = min(2 * self._read_bytes, size)
        if isinstance(transport := self._pika._transport, _AsyncPlaintextTransport):
            # What is not full was the last: to ask for more would be in vain (not so with TLS).
            transport._MAX_CONSUME_BYTES = _MAX_TURN_BYTES if is_full else received
        return room[:received]

    def _end_keeping_back(self) -> None:
        """Take what was kept back, unless more is waiting and what is kept may wait for it."""
        if self._splitter is None or not self._splitter.keeps_back:
            self._kept_since = None
            return
        now = self._clock.monotonic()
        if self._kept_since is None:
            self._kept_since = now
        may_wait = now - self._kept_since < min(self.longest_pause_s, MAX_PAUSE_S)
        if not (may_wait and self._gathering.waiting()):
            self._kept_since = None
            self._take_kept_back()

    def _take_kept_back(self) -> None:
        """Take what was kept back, if anything: nothing more is to be waited for."""
        if self._failure is None and self._splitter is not None and self._splitter.keeps_back:
            self._more = False
            self._received_data(b"")

    def _received_data(self, data: bytes | memoryview) -> None:
        """Take received bytes; what a handler raises is raised by the turn, not inside of pika.

        Nothing is taken after that: how the stream is cut must not decide what is still heard.
        """
        self._received += len(data)
        if self._failure is not None and not self._closing:
            return
        try:
            self._distribute(data)
        except Exception as error:
            if not self._opened:  # no handler was called yet: pika could not read what came
                self._not_opened = error
            elif isinstance(error, pika.exceptions.AMQPError):  # a malformed frame
                self._fail(channel_error(error, self.endpoint))
            elif _is_pika_s_own(error):  # a method that there is not, for example
                self._fail(
                    ConnectionLost(
                        "The broker sent what is not AMQP 0-9-1 "
                        f"({type(error).__name__}: {error}).",
                        "Something between rmqbench and the broker alters AMQP traffic, or the "
                        "broker is at fault.",
                    )
                )
            else:
                self._fail(_unreadable(error) or error)

    def _distribute(self, data: bytes | memoryview) -> None:
        """Pass arrays to their handlers and whole frames to pika, in the order of the stream."""
        connection = self._pika
        if self._splitter is None or connection.is_closed:
            connection.receive_frames(bytes(data))
            return
        before = connection.bytes_received
        for piece in self._splitter.feed(data, more=self._more):
            if isinstance(piece, Confirms):
                self._on_confirms[piece.channel](piece)
            elif isinstance(piece, Deliveries):
                self._on_deliveries[piece.channel](piece)
            else:
                self.raw_delivery = piece.delivery
                connection.receive_frames(piece.frames)
                self.raw_delivery = None
        connection.bytes_received = before + len(data)


class _TappedConnection(pika.SelectConnection):  # type: ignore[misc]
    """pika's connection, whose received bytes go to a tap first."""

    tap: Callable[[bytes | memoryview], None]
    before_end: Callable[[], None]

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        """Take all that has come before the end of the stream ends the connection."""
        self.before_end()
        super()._proto_connection_lost(error)

    def _on_data_available(self, data_in: bytes | memoryview) -> None:
        self.tap(data_in)

    def _adapter_emit_data(self, data: bytes | memoryview) -> None:
        """Send at once what the socket takes; pika alone would wait a turn until it is writable."""
        transport, sent = self._transport, 0
        if isinstance(transport, _AsyncPlaintextTransport) and not transport._tx_buffers:
            with suppress(OSError):  # what is wrong with the socket, pika finds and reports
                sent = transport._sock.send(data)
        if sent < len(data):
            super()._adapter_emit_data(data[sent:])

    def receive_frames(self, data: bytes) -> None:
        """Pass bytes to pika as if they had just been received."""
        super()._on_data_available(data)


def _is_pika_s_own(error: Exception) -> bool:
    """Whether pika stumbled over a frame by itself, in none of our handlers."""
    if isinstance(error, RmqbenchError) or _unreadable(error) is not None:
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals["__name__"].startswith("pika.")


def _unreadable(error: Exception) -> MessageUnreadable | None:
    """Return MessageUnreadable if this is what pika raises at a malformed header, otherwise None.

    For example, at a time after the last year that Python knows.
    """
    wrong = isinstance(error, ValueError | OverflowError | struct.error)
    if not wrong and getattr(error, "errno", None) != errno.EOVERFLOW:
        return None
    return MessageUnreadable(
        f"A message or frame that the broker sent cannot be read "
        f"({type(error).__name__}: {error}).",
        "It was not acknowledged: remove it from its queue with another client.",
    )
