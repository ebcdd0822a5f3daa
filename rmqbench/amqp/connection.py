"""AMQP connections: one that is driven turn by turn, one for administrative acts.

This is the only module that touches pika's inside.

pika connects, authenticates, opens channels, declares, keeps heartbeats and closes. In front of
it sits a tap: the received bytes go through a :class:`~rmqbench.amqp.vector.Splitter`, whole arrays
of confirms and deliveries go straight to whoever asked for them, and all other frames go to
pika unchanged. Without the tap (``vector=False``) everything goes through pika's callbacks, to
the same handlers.

What is touched inside of pika, and why: ``_on_data_available`` (where received bytes arrive),
``_output_marshaled_frames`` (rendered frames go out by the way of all others, and are counted),
``bytes_received`` (the heartbeat must count what pika does not see), ``_transport`` and its
``_MAX_RECV_BYTES`` (4096 bytes a read are too few), and ``_terminate_stream`` (to end at once). Of
a ``BlockingConnection``: ``_impl`` (its timers run while it waits) and ``_cleanup``.
"""

from __future__ import annotations

import contextlib
import errno
import struct
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import pika
import pika.channel
import pika.exceptions
import pika.frame
import pika.spec

from rmqbench.amqp.diagnosis import channel_error, connect_error, pika_parameters
from rmqbench.amqp.vector import Confirms, Deliveries, Shape, Splitter
from rmqbench.endpoint import Endpoint
from rmqbench.errors import DeadlineExceeded, MessageUnreadable, RmqbenchError

__all__ = ["Connection", "admin"]

_TICK_S = 0.05  # no turn takes longer, so that its driver can look at the clock
_READ_BYTES = 1 << 18
_DENSE_BYTES = 1 << 12  # a turn that received as many is followed by a pause, in which the next
_MIN_PAUSE_S = 0.001  # ones gather: one wake-up for hundreds of messages. While the stream stays
_MAX_PAUSE_S = 0.006  # dense the pause grows, up to this; what comes alone is read at once.
_CLOSE_S = 5.0

OnConfirms = Callable[[Confirms], None]
OnDeliveries = Callable[[Deliveries], None]
OnMessage = Callable[[pika.spec.Basic.Deliver, pika.BasicProperties, bytes], None]


class Connection:
    """An open connection. Nothing happens outside of its methods; it belongs to one thread."""

    def __init__(
        self, endpoint: Endpoint, *, name: str, vector: bool = True, heartbeat_s: int = 30
    ) -> None:
        """Prepare a connection; :meth:`open` makes it. ``name`` is shown by the broker."""
        self.endpoint = endpoint
        self.blocked: str | None = None  # the broker's reason while it blocks publishers
        self.raw_delivery: bytes | None = None  # all frames of what pika is delivering, if tapped
        self._splitter = Splitter() if vector else None
        self._on_confirms: dict[int, OnConfirms] = {}
        self._on_deliveries: dict[int, OnDeliveries] = {}
        self._failure: Exception | None = None
        self._closing = False
        self.burst_bytes = 0  # how much may gather while we pause; 0: every byte is read at once
        self._received = 0
        self._pause_s = 0.0
        self._pika = _TappedConnection(
            pika_parameters(endpoint, connection_name=name, heartbeat_s=heartbeat_s),
            on_open_callback=self._opened,
            on_open_error_callback=self._not_opened,
            on_close_callback=self._closed,
        )
        self._pika.tap = self._received_data
        self._loop = self._pika.ioloop
        self._loop.activate_poller()

    def open(self, timeout_s: float = 15.0) -> Self:
        """Connect and log in, or raise what hindered it (BrokerUnavailable, AccessRefused, …)."""
        self._keep_ticking()
        try:
            self.wait_until(lambda: self._pika.is_open, timeout_s, "the AMQP handshake")
        except BaseException:
            self.abort()
            raise
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
        """Close the connection: in order, or at once where an error is under way."""
        if kind is None:
            self.close()
        else:
            self.abort()

    @property
    def frame_max(self) -> int:
        """The size of the largest frame agreed on, in bytes."""
        return int(self._pika.params.frame_max)

    @property
    def unsent_bytes(self) -> int:
        """How much of what was given to :meth:`send` has not been taken by the network yet."""
        transport = self._pika._transport
        return int(transport.get_write_buffer_size()) if transport is not None else 0

    def channel(self, timeout_s: float = 10.0) -> pika.channel.Channel:
        """Open a channel. Its end, if we did not ask for it, is raised by the turn that sees it."""
        opened: list[pika.channel.Channel] = []
        channel = self._pika.channel(on_open_callback=opened.append)
        channel.add_on_close_callback(self._channel_closed)
        self.wait_until(lambda: bool(opened), timeout_s, "a channel to open")
        return channel

    def turn(self) -> None:
        """Send and receive what can be, waiting for it at most a twentieth of a second.

        Raises ConnectionLost where the connection or a channel ended unasked.
        """
        self._let_gather()
        self._received = 0
        self._loop.poll()
        self._loop.process_timeouts()
        if self._failure is not None:
            raise self._failure

    def _let_gather(self) -> None:
        """Pause where the last turn shows that much is on its way."""
        if self._received < _DENSE_BYTES:
            if self._received:
                self._pause_s /= 2
            return
        if self._received > self.burst_bytes:
            self._pause_s /= 2
        else:
            self._pause_s = min(max(1.5 * self._pause_s, _MIN_PAUSE_S), _MAX_PAUSE_S)
        time.sleep(self._pause_s)

    def wake(self) -> None:
        """End the waiting of a turn that is under way in another thread, or of the next one.

        Closed, it does nothing: pika guards this one call against the end of its loop.
        """
        self._loop.add_callback_threadsafe(lambda: None)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Take turns until ``condition`` holds; DeadlineExceeded says what was waited for."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"Waited {timeout_s:g} s for {what} at {self.endpoint}, in vain."
                    + (f" The broker blocks publishers: {self.blocked}." if self.blocked else ""),
                    "See the broker's log; a slow machine may need a longer limit.",
                )
            self.turn()

    def expect_confirms(self, channel: pika.channel.Channel, handler: OnConfirms) -> None:
        """Select confirm mode on a channel; acks and nacks go to ``handler`` in arrays."""
        number = channel.channel_number

        def on_frame(frame: pika.frame.Method) -> None:
            method = frame.method
            handler(
                Confirms(
                    number,
                    np.array([method.delivery_tag], np.int64),
                    np.array([method.multiple], np.bool_),
                    np.array([isinstance(method, pika.spec.Basic.Nack)], np.bool_),
                )
            )

        selected: list[object] = []
        channel.confirm_delivery(on_frame, selected.append)
        self.wait_until(lambda: bool(selected), 10.0, "confirm mode")
        self._on_confirms[number] = handler
        if self._splitter is not None:
            self._splitter.expect_confirms(number)

    def expect_deliveries(self, channel: pika.channel.Channel, handler: OnDeliveries) -> None:
        """Have deliveries on a channel looked at: ``raw_delivery`` holds each, as received.

        After :meth:`learn` those of the learned shape go to ``handler`` in arrays.
        """
        self._on_deliveries[channel.channel_number] = handler
        if self._splitter is not None:
            self._splitter.expect_deliveries(channel.channel_number)

    def learn(self, channel: pika.channel.Channel, shape: Shape) -> None:
        """Take deliveries of this shape off the stream, many at once."""
        if self._splitter is not None:
            self._splitter.expect_deliveries(channel.channel_number, shape)

    def send(self, frames: bytes) -> None:
        """Send whole frames that were rendered elsewhere."""
        self._pika._output_marshaled_frames([frames])

    def close(self) -> None:
        """Close in order if the broker answers: all sent before is taken then. Never raises."""
        if self._pika.is_open:
            self._closing = True
            try:
                self._pika.close()
                self.wait_until(lambda: self._pika.is_closed, _CLOSE_S, "the connection to close")
            except RmqbenchError:
                pass  # what was to be sent is sent or lost; there is nothing more to do for it
        self.abort()

    def abort(self) -> None:
        """End the connection at once and let go of all it holds."""
        self._closing = True
        if self._pika._transport is not None:
            self._pika._terminate_stream(pika.exceptions.StreamLostError("ended by rmqbench"))
            self._loop.process_timeouts()  # where pika hears of it, and closes the socket
        self._loop.deactivate_poller()
        self._loop.close()

    def _keep_ticking(self) -> None:
        self._loop.call_later(_TICK_S, self._keep_ticking)

    def _opened(self, connection: _TappedConnection) -> None:
        connection._transport._MAX_RECV_BYTES = _READ_BYTES
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _on_blocked(self, _: object, frame: pika.frame.Method) -> None:
        self.blocked = str(frame.method.reason)

    def _on_unblocked(self, _: object, frame: pika.frame.Method) -> None:
        self.blocked = None

    def _not_opened(self, _: object, error: BaseException) -> None:
        self._failure = connect_error(error, self.endpoint)

    def _closed(self, _: object, reason: BaseException) -> None:
        self._fail(channel_error(reason, self.endpoint))

    def _channel_closed(self, _: object, reason: BaseException) -> None:
        if not isinstance(reason, pika.exceptions.ChannelClosedByClient):
            self._fail(channel_error(reason, self.endpoint))

    def _fail(self, error: Exception) -> None:
        """Keep the first reason for which this connection is of no more use."""
        if not self._closing and self._failure is None:
            self._failure = error

    def _received_data(self, data: bytes) -> None:
        """Take received bytes; what a handler raises is raised by the turn, not inside of pika."""
        self._received += len(data)
        try:
            self._distribute(data)
        except Exception as error:
            self._fail(_unreadable(error) or error)

    def _distribute(self, data: bytes) -> None:
        """Give arrays to their handlers and whole frames to pika, in the order of the stream."""
        connection = self._pika
        if self._splitter is None or connection.is_closed:
            connection.receive_frames(data)
            return
        before = connection.bytes_received
        for event in self._splitter.feed(data):
            if isinstance(event, Confirms):
                self._on_confirms[event.channel](event)
            elif isinstance(event, Deliveries):
                self._on_deliveries[event.channel](event)
            else:
                self.raw_delivery = event.delivery
                connection.receive_frames(event.frames)
                self.raw_delivery = None
        connection.bytes_received = before + len(data)


class _TappedConnection(pika.SelectConnection):  # type: ignore[misc]
    """pika's connection, with its received bytes led past a tap."""

    tap: Callable[[bytes], None]

    def _on_data_available(self, data_in: bytes) -> None:
        self.tap(data_in)

    def receive_frames(self, data: bytes) -> None:
        """Let pika have bytes, as if they had just been received."""
        super()._on_data_available(data)


def _unreadable(error: Exception) -> MessageUnreadable | None:
    """Tell whether it is what pika raises on a malformed header: a time beyond all years, say."""
    wrong = isinstance(error, ValueError | OverflowError | struct.error)
    if not wrong and getattr(error, "errno", None) != errno.EOVERFLOW:
        return None
    return MessageUnreadable(
        f"A message or frame that the broker sent cannot be read "
        f"({type(error).__name__}: {error}).",
        "It was not acknowledged; take it out of its queue with another client.",
    )


@contextlib.contextmanager
def admin(
    endpoint: Endpoint, *, name: str = "rmqbench topology", timeout_s: float = 10.0
) -> Iterator[Any]:
    """Open a connection for a few administrative acts, and yield a ``BlockingChannel``.

    ``timeout_s`` limits the connecting and then the whole of what is done inside; a broker that
    keeps its heartbeats but does not answer (a quorum queue without a majority) is left with
    DeadlineExceeded. Errors of pika come out as :func:`rmqbench.amqp.diagnosis.connect_error` and
    :func:`rmqbench.amqp.diagnosis.channel_error` make them.
    """
    parameters = pika_parameters(
        endpoint,
        connection_name=name,
        connect_timeout_s=timeout_s,
        blocked_timeout_s=timeout_s,
        heartbeat_s=max(2, round(timeout_s)),
    )
    try:
        connection = pika.BlockingConnection(parameters)
    except Exception as error:
        raise connect_error(error, endpoint) from error
    try:
        _limit(connection, timeout_s, endpoint)
        yield connection.channel()
    except pika.exceptions.AMQPError as error:
        raise channel_error(error, endpoint) from error
    finally:
        _close(connection, endpoint)


def _limit(connection: Any, timeout_s: float, endpoint: Endpoint) -> None:
    """Let the I/O loop itself raise when time is up.

    BlockingConnection waits for an answer without a limit, and runs its own timers only from
    ``process_data_events``; those of the loop beneath run while it waits.
    """

    def give_up() -> NoReturn:
        raise DeadlineExceeded(
            f"The broker at {endpoint.address} did not answer within {timeout_s:g} s.",
            "It keeps the connection open: look at its log, and for a queue without a majority of "
            "its members.",
        )

    connection._impl.ioloop.call_later(timeout_s, give_up)


def _close(connection: Any, endpoint: Endpoint) -> None:
    """Close politely within a second, or else drop the socket."""
    if not connection.is_open:
        return
    try:
        _limit(connection, 1.0, endpoint)
        connection.close()
    except (pika.exceptions.AMQPError, RmqbenchError, OSError):
        _drop(connection)


def _drop(connection: Any) -> None:
    """Close the socket at once: pika does so from its loop, within a turn or two."""
    loop, impl = connection._impl.ioloop, connection._impl
    if not impl.is_closed:
        impl._terminate_stream(pika.exceptions.AMQPConnectionError("given up"))
        for _ in range(5):
            if impl.is_closed:
                break
            loop.call_later(0, lambda: None)  # so that the poll returns at once
            loop.poll()
            loop.process_timeouts()
    connection._cleanup()
