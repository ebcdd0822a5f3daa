"""A proxy between clients and a broker: it alters what passes, and breaks connections on demand.

It runs in one thread of its own and listens on 127.0.0.1 only. :mod:`rmqbench.proxy.altering`
decides what happens to the traffic; here are the sockets, the clocks and the limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from rmqbench.endpoint import Endpoint
from rmqbench.errors import UsageError
from rmqbench.proxy.alterations import Alteration, AlterationPlan, Applied, Direction
from rmqbench.proxy.altering import AlteredConnection, Output, Pause, PendingSwap, Reset, Step

__all__ = ["Proxy"]

_READ_BYTES: Final = 1 << 18
_QUEUED_BYTES: Final = 1 << 20  # queued in one direction, before its source is no longer read
_HOLD_S: Final = 0.5  # how long a message waits for the one that it changes places with
_SLICE_S: Final = 0.02  # how many seconds of its rate a slow link is given at once
_ARRIVE_S: Final = 0.05  # between the last byte and a planned reset: the peer must get the byte
_CALL_S: Final = 10.0
_JOIN_S: Final = 5.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Link:
    """Latency and rate of each direction of each connection."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_second: float | None = None


class Proxy:
    """A proxy in front of one broker, between ``__enter__`` and ``__exit__``.

    Clients connect to :attr:`endpoint`. ``plan`` holds the alterations, made by the functions of
    this package; :attr:`applied` holds those that were made. With ``only``, a connection is altered
    if ``only`` returns true for its name (the client property ``connection_name``); all others pass
    unaltered, and are not counted.

    All methods may be called from any thread, and return when the work is done. They raise
    RuntimeError outside of the ``with`` statement.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        plan: Iterable[Alteration] = (),
        *,
        only: Callable[[str], bool] | None = None,
    ) -> None:
        """Take the broker's endpoint; UsageError for one with TLS, or for an impossible plan."""
        if endpoint.tls:
            raise UsageError(
                f"{endpoint} uses TLS, and a proxy cannot read AMQP frames inside of it.",
                "Name the broker's port without TLS (amqp://…, 5672 by default).",
            )
        self._broker = endpoint
        self._plan = AlterationPlan(plan)
        self._only = only
        self._endpoint: Endpoint | None = None
        self._link = _Link()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._vanished: list[socket.socket] = []
        self._accepted = 0
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        """Listen on a free port of 127.0.0.1, and serve."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        port = int(listener.getsockname()[1])
        self._endpoint = replace(self._broker, host="127.0.0.1", port=port)
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run,
            args=(listener, ready),
            name=f"rmqbench proxy {port}",
            daemon=True,
        )
        self._thread.start()
        ready.wait(_CALL_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """End all connections and the thread; raise what failed in it, ``only`` included."""
        loop, stop, thread = self._loop, self._stop, self._thread
        self._loop = None
        if loop is not None and stop is not None and thread is not None:
            loop.call_soon_threadsafe(stop.set)
            thread.join(_JOIN_S)
        if self._failure is not None and kind is None:
            raise self._failure

    @property
    def endpoint(self) -> Endpoint:
        """Where clients connect: a port of 127.0.0.1, otherwise as the broker's endpoint."""
        if self._endpoint is None:
            raise RuntimeError("enter the proxy first")
        return self._endpoint

    @property
    def applied(self) -> tuple[Applied, ...]:
        """The alterations that were made, in order."""
        return tuple(self._plan.applied)

    def reset(self) -> int:
        """Reset all present connections (RST to both sides), and return how many."""
        return self._call(self._end_all(_Connection.reset))

    def vanish(self) -> int:
        """Leave all present connections half-open, and return how many.

        Nothing passes any more in either direction, and nothing is closed until the proxy ends,
        not even where one side closes. New connections work.
        """
        return self._call(self._end_all(self._keep_open))

    def set_latency(self, seconds: float, jitter_s: float = 0.0) -> None:
        """Delay all that passes by ``seconds``, plus or minus up to ``jitter_s``; 0 ends it.

        Each direction of each connection keeps its order, and queues at most 1 MiB.
        """
        if not (0 <= seconds < float("inf") and 0 <= jitter_s < float("inf")):
            raise UsageError(
                f"A latency of {seconds} s ± {jitter_s} s is not possible.",
                "Use numbers of seconds, 0 or more.",
            )

        async def change() -> None:
            self._link = replace(self._link, latency_s=seconds, jitter_s=jitter_s)

        self._call(change())

    def set_rate(self, bytes_per_second: float | None) -> None:
        """Limit each direction of each connection to a rate; None ends it."""
        if bytes_per_second is not None and not 0 < bytes_per_second < float("inf"):
            raise UsageError(
                f"A link of {bytes_per_second} bytes a second is not possible.",
                "Use a number above 0, or None for no limit.",
            )

        async def change() -> None:
            self._link = replace(self._link, bytes_per_second=bytes_per_second)

        self._call(change())

    def cut_inside_frame(self) -> int:
        """Reset each present connection in the middle of the next frame that passes on it.

        The first half of that frame, whichever side sends it, is still forwarded. Return the
        number of connections.
        """

        async def cut_all() -> int:
            for connection in self._connections:
                connection.stream.cut_inside_frame()
            return len(self._connections)

        return self._call(cut_all())

    def acknowledge_unknown(self) -> int:
        """Acknowledge a delivery tag that was never used, on each channel with a consumer.

        The broker closes such a channel with 406 PRECONDITION_FAILED. Return the number of
        channels.
        """

        async def acknowledge_all() -> int:
            count = 0
            for connection in self._connections:
                count += len(connection.stream.consuming)
                connection.distribute(connection.stream.acknowledge_unknown())
            return count

        return self._call(acknowledge_all())

    # --- in the proxy's own thread ---------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the proxy's thread, and return its result."""
        loop = self._loop
        if loop is None:
            work.close()
            raise RuntimeError("the proxy is not running: use it inside of its with statement")
        return asyncio.run_coroutine_threadsafe(work, loop).result(_CALL_S)

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        # The loop with selectors exists on every system, and has add_reader.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(listener, ready))

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        """Accept connections until the proxy is stopped, then end them all."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.add_reader(listener, self._accept, listener)
        loop = self._loop
        ready.set()
        try:
            await self._stop.wait()
        finally:
            loop.remove_reader(listener)
            listener.close()
            await self._end_all(_Connection.close)
            for each in self._vanished:
                each.close()

    def _accept(self, listener: socket.socket) -> None:
        """Accept one connection. Not a coroutine: none is left over when the proxy stops."""
        try:
            client, _ = listener.accept()
        except OSError:  # the client is gone again, or there are too many sockets
            return
        client.setblocking(False)
        self._accepted += 1
        stream = AlteredConnection(self._plan, self._accepted, only=self._only)
        connection = _Connection(client, stream, lambda: self._link)
        task = asyncio.create_task(connection.run(self._broker))
        self._connections[connection] = task
        task.add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: _Connection, task: asyncio.Task[None]) -> None:
        self._connections.pop(connection, None)
        if not task.cancelled():
            error = task.exception()
            if isinstance(error, Exception) and self._failure is None:
                self._failure = error  # ours, or of ``only``: raised when the proxy ends

    async def _end_all(self, end: Callable[[_Connection], None]) -> int:
        """Stop all present connections, call ``end`` with each, and return how many."""
        present = dict(self._connections)
        await _cancel(present.values())
        for connection in present:
            end(connection)
        return len(present)

    def _keep_open(self, connection: _Connection) -> None:
        self._vanished += connection.sockets


class _Connection:
    """A client's connection, and the connection to the broker that belongs to it."""

    def __init__(
        self, client: socket.socket, stream: AlteredConnection, get_link: Callable[[], _Link]
    ) -> None:
        self.stream = stream
        self.sockets = [client]
        self._get_link = get_link
        self._lanes: dict[Direction, _Lane] = {}

    async def run(self, endpoint: Endpoint) -> None:
        """Connect to the broker, and forward until both sides have ended, or one broke.

        On cancellation the sockets stay open: whoever cancels decides what happens to them.
        """
        (client,) = self.sockets
        try:
            broker = await _connect(endpoint)
        except OSError:
            self.close()
            return
        self.sockets.append(broker)
        for each in self.sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        to_broker, to_client = _Lane(broker, self._get_link), _Lane(client, self._get_link)
        self._lanes = {"to_broker": to_broker, "to_client": to_client}
        stream = self.stream
        tasks = [
            asyncio.create_task(work)
            for work in (
                to_broker.run(),
                to_client.run(),
                self._read(client, stream.from_client, "to_broker"),
                self._read(broker, stream.from_broker, "to_client"),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await _cancel(tasks)
        errors = [task.exception() for task in tasks if not task.cancelled()]
        if not any(errors):
            self.close()
            return
        self.reset()
        for error in errors:
            # A broken connection is no failure of the proxy; the reset has ended the other side.
            if error is not None and not isinstance(error, _PlannedReset | OSError):
                raise error

    def distribute(self, output: Output) -> None:
        """Queue what is to be sent to either side."""
        if not self._lanes:
            return
        for step in output.to_broker:
            self._lanes["to_broker"].put(step)
        for step in output.to_client:
            self._lanes["to_client"].put(step)
        for swap in output.pending:
            asyncio.get_running_loop().call_later(_HOLD_S, self._release, swap)

    def close(self) -> None:
        """Close both sockets."""
        for each in self.sockets:
            each.close()

    def reset(self) -> None:
        """Close both sockets so that their peers get an RST."""
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _release(self, swap: PendingSwap) -> None:
        self.distribute(self.stream.release(swap))

    async def _read(
        self, source: socket.socket, feed: Callable[[bytes], Output], direction: Direction
    ) -> None:
        loop = asyncio.get_running_loop()
        lane = self._lanes[direction]
        while data := await loop.sock_recv(source, _READ_BYTES):
            self.distribute(feed(data))
            await lane.wait_for_room()
        self.distribute(self.stream.end(direction))
        lane.put(None)


class _PlannedReset(Exception):
    """A connection has reached the point where the plan ends it."""


class _Lane:
    """One direction of one connection: what is queued, and when it is due."""

    def __init__(self, target: socket.socket, get_link: Callable[[], _Link]) -> None:
        self._target = target
        self._get_link = get_link
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, bytes | Reset | None]] = deque()
        self._queued = 0
        self._last_due = 0.0
        self._filled = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._free_at = 0.0  # when a slow link has sent what it was given, on the loop's clock

    def put(self, step: Step | None) -> None:
        """Queue one step; None ends this direction."""
        link = self._get_link()
        latency = link.latency_s + random.uniform(-link.jitter_s, link.jitter_s)
        due = max(self._last_due, self._loop.time() + latency)
        if isinstance(step, Pause):
            self._last_due = due + step.seconds
            return
        self._last_due = due
        self._queue.append((due, step))
        if isinstance(step, bytes):
            self._queued += len(step)
            if self._queued > _QUEUED_BYTES:
                self._roomy.clear()
        self._filled.set()

    async def wait_for_room(self) -> None:
        """Wait until less than the limit is queued."""
        await self._roomy.wait()

    async def run(self) -> None:
        """Send each queued step when it is due, until the direction has ended."""
        while True:
            while not self._queue:
                self._filled.clear()
                await self._filled.wait()
            due, step = self._queue[0]
            wait = due - self._loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if step is None:
                self._target.shutdown(socket.SHUT_WR)
                return
            if isinstance(step, Reset):
                await asyncio.sleep(_ARRIVE_S)
                raise _PlannedReset
            await self._send(step)
            self._queue.popleft()
            self._queued -= len(step)
            if self._queued <= _QUEUED_BYTES:
                self._roomy.set()

    async def _send(self, data: bytes) -> None:
        """Send bytes, at once or at the rate of the link."""
        view = memoryview(data)
        while view:
            rate = self._get_link().bytes_per_second
            if rate is None:
                await self._loop.sock_sendall(self._target, view)
                return
            size = min(len(view), max(1, int(rate * _SLICE_S)))
            await self._loop.sock_sendall(self._target, view[:size])
            view = view[size:]
            now = self._loop.time()
            self._free_at = max(now, self._free_at) + size / rate
            await asyncio.sleep(self._free_at - now)


async def _connect(endpoint: Endpoint) -> socket.socket:
    """Connect to the first of the broker's addresses that accepts; raise OSError if none does."""
    loop = asyncio.get_running_loop()
    trouble: OSError = ConnectionRefusedError()
    try:
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # of a host name that IDNA does not allow
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from None
    for family, kind, protocol, _, address in found:
        target = socket.socket(family, kind, protocol)
        target.setblocking(False)
        try:
            await loop.sock_connect(target, address)
        except OSError as error:
            target.close()
            trouble = error
        except BaseException:
            target.close()
            raise
        else:
            return target
    raise trouble


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end; what they raise is ignored."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
