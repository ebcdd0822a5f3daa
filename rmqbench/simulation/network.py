"""A network of virtual time: pika's input and output end at a simulated broker, in the same thread.

pika documents how its input and output are replaced (:mod:`pika.adapters.utils.nbio_interface`);
above it everything is as it is with sockets.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from pika.adapters.utils import nbio_interface

from rmqbench.amqp.network import Network
from rmqbench.simulation.world import Task, Timer, World

__all__ = ["TO_CLIENT", "TO_SERVER", "Link", "Listener", "Peer", "simulated_network"]

TO_CLIENT, TO_SERVER = 0, 1
_ADDRESS = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 5672))]


class Peer(Protocol):
    """The server's side of one connection."""

    def receive(self, data: bytes) -> None:
        """Take bytes of the client, cut anywhere."""

    def disconnected(self) -> None:
        """Record that the client's side is gone."""


class Listener(Protocol):
    """A server: whoever connects gets a peer of its own."""

    def connect(self, send: Callable[[bytes], None], lost: Callable[[], None]) -> Peer:
        """Return the server's side of a new connection, or raise ConnectionRefusedError.

        It calls ``send`` with bytes for the client, and ``lost`` where it ends the connection.
        """


class Link:
    """What lies between one client and the server: bytes on their way, each way in their order.

    ``delay`` returns how long a piece is under way, in seconds; ``cut`` the pieces in which arrives
    what was sent at once, and may change them. Both are given the way: TO_CLIENT or TO_SERVER.
    """

    def __init__(
        self,
        world: World,
        delay: Callable[[int], float],
        cut: Callable[[int, bytes], list[bytes]] = lambda _, data: [data],
    ) -> None:
        self.broken = False
        self.cut = cut
        self._world = world
        self._delay = delay
        self._arrives = [0.0, 0.0]  # when the last piece arrives, each way

    def carry(self, way: int, arrive: Callable[[], None]) -> None:
        """Deliver something behind what is under way already."""
        at = max(self._arrives[way], self._world.now() + self._delay(way))
        self._arrives[way] = at
        self._world.call_later(at - self._world.now(), arrive)


class Transport(nbio_interface.AbstractStreamTransport):  # type: ignore[misc]
    """The client's end of a connection."""

    _MAX_RECV_BYTES = 0  # what rmqbench sets on a transport of sockets

    def __init__(self, loop: _Loop, protocol: Any, link: Link) -> None:
        self.link = link
        self.peer: Peer | None = None
        self.owner = loop.owner  # the task that has made the connection
        self.over = False  # to the client: it has ended it, or noticed its end
        self.on_read: Callable[[bytes], None] = lambda _: None
        self.on_write: Callable[[bytes], None] = lambda _: None
        self._loop = loop
        self._protocol = protocol

    def abort(self) -> None:
        """End the connection from this side."""
        if not self.over:
            self.over = True
            self._loop.add_callback(lambda: self._protocol.connection_lost(None))
            self.link.carry(TO_SERVER, self._depart)

    def get_protocol(self) -> Any:
        """Return the protocol that it serves."""
        return self._protocol

    def write(self, data: bytes) -> None:
        """Send bytes to the server."""
        self.on_write(data)
        if not self.over and not self.link.broken:
            for piece in self.link.cut(TO_SERVER, data):
                self.link.carry(TO_SERVER, partial(self._hand_over, piece))

    def get_write_buffer_size(self) -> int:
        """Return 0: what is written is on its way."""
        return 0

    def _hand_over(self, data: bytes) -> None:
        if self.peer is not None and not self.link.broken:
            self.peer.receive(data)

    def _depart(self) -> None:
        """End the connection for the server, too, unless nothing passes any more."""
        if not self.link.broken:
            self._leave()

    def _leave(self) -> None:
        if self.peer is not None:
            peer, self.peer = self.peer, None
            peer.disconnected()

    # What the server does.

    def deliver(self, data: bytes) -> None:
        """Receive bytes from the server."""
        for piece in self.link.cut(TO_CLIENT, data):
            self.link.carry(TO_CLIENT, partial(self._arrive, piece))

    def _arrive(self, data: bytes) -> None:
        if not self.over and not self.link.broken:
            self._loop.readable.append(lambda: self._receive(data))
            self._loop.wake()

    def _receive(self, data: bytes) -> None:
        if not self.over:
            self.on_read(data)
            self._protocol.data_received(data)

    def lose(self) -> None:
        """Make the client notice that the server's side is gone, behind all that was sent."""
        self.peer = None
        if not self.link.broken:
            self.link.carry(TO_CLIENT, self._notice)

    def break_off(self) -> None:
        """End the connection in between: either side notices, and what is under way is lost."""
        self.link.broken = True
        self._leave()
        self._notice()

    def vanish(self) -> None:
        """End the client's side as its death does: what it had sent arrives, nothing follows."""
        if not self.over:
            self.over = True
            self.link.carry(TO_SERVER, self._depart)

    def swallow(self) -> None:
        """Pass nothing any more, noticed by neither side but by its heartbeat."""
        self.link.broken = True

    def _notice(self) -> None:
        def tell() -> None:
            if not self.over:
                self.over = True
                self._protocol.connection_lost(ConnectionResetError(errno.ECONNRESET, "reset"))

        self._loop.readable.append(tell)
        self._loop.wake()


class _Loop:
    """What takes turns for one connection, one by one or by ``start``, as pika's own loop does."""

    def __init__(self, world: World) -> None:
        self.readable: list[Callable[[], None]] = []
        self.owner = world.current()
        self._world = world
        self._timers: list[tuple[float, Timer]] = []
        self._callbacks: list[Callable[[], None]] = []
        self._waiting: Task | None = None
        self._stops = False

    def start(self) -> None:
        self._stops = False
        while not self._stops:
            self.poll()
            self.process_timeouts()

    def stop(self) -> None:
        self._stops = True
        self.wake()

    def activate_poller(self) -> None:
        pass

    def deactivate_poller(self) -> None:
        pass

    def close(self) -> None:
        self._timers.clear()
        self._callbacks.clear()
        self.readable.clear()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        self._timers.append((self._world.now() + delay, timer))
        return timer

    def add_callback(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        self.wake()

    def wake(self) -> None:
        if self._waiting is not None:
            self._waiting.wake()

    def poll(self) -> None:
        """Take what has arrived; if nothing has, wait for it, or for the next timer."""
        if not self.readable and not self._callbacks:
            until = min((at for at, timer in self._timers if timer.callback), default=0.0)
            if until > self._world.now():
                self._waiting = self._world.current()
                self._world.wait(until)
                self._waiting = None
        ready, self.readable = self.readable, []
        for at, take in enumerate(ready):
            try:
                take()
            except BaseException:
                self.readable[:0] = ready[at + 1 :]
                raise

    def process_timeouts(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        now = self._world.now()
        due = [timer for at, timer in self._timers if at <= now]
        self._timers = [(at, timer) for at, timer in self._timers if at > now and timer.callback]
        for timer in due:
            if timer.callback is not None:
                timer.callback()


class _Services(nbio_interface.AbstractIOServices):  # type: ignore[misc]
    """What pika asks of its surroundings to make one connection."""

    def __init__(
        self,
        world: World,
        listener: Listener,
        new_link: Callable[[], Link],
        made: Callable[[Transport], None],
    ) -> None:
        self._world = world
        self._listener = listener
        self._new_link = new_link
        self._made = made
        self._loop = _Loop(world)

    def get_native_ioloop(self) -> Any:
        return self._loop

    def close(self) -> None:
        self._loop.close()

    def run(self) -> None:
        raise NotImplementedError("a simulated loop is driven turn by turn")

    def stop(self) -> None:
        raise NotImplementedError("a simulated loop is driven turn by turn")

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        self._loop.add_callback_threadsafe(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        return self._loop.call_later(delay, callback)

    def getaddrinfo(self, *_: Any, on_done: Callable[[Any], None], **__: Any) -> Any:
        self._loop.add_callback(lambda: on_done(_ADDRESS))
        return _Reference()

    def connect_socket(self, sock: Any, resolved_addr: Any, on_done: Callable[[Any], None]) -> Any:
        self._loop.add_callback(lambda: on_done(None))
        return _Reference()

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], Any],
        sock: Any,
        on_done: Callable[[Any], None],
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> Any:
        sock.close()

        def connect() -> None:
            protocol = protocol_factory()
            transport = Transport(self._loop, protocol, self._new_link())
            try:
                transport.peer = self._listener.connect(transport.deliver, transport.lose)
            except ConnectionRefusedError:
                on_done(ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
                return
            self._made(transport)
            protocol.connection_made(transport)
            on_done((transport, protocol))

        self._loop.add_callback(connect)
        return _Reference()


class _Reference(nbio_interface.AbstractIOReference):  # type: ignore[misc]
    """Stands for an operation that is as good as over."""

    def cancel(self) -> bool:
        return False


def simulated_network(
    world: World,
    listener: Listener,
    *,
    new_link: Callable[[], Link] | None = None,
    made: Callable[[Transport], None] = lambda _: None,
) -> Network:
    """Return a network on which every connection ends at one simulated server.

    ``new_link`` makes what lies between them; ``made`` is given each connection's transport, which
    can be broken off.
    """
    new_link = new_link or (lambda: Link(world, lambda _: 0.0001))
    return Network(world.clock, lambda: _Services(world, listener, new_link, made))
