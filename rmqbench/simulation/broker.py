"""A model of RabbitMQ: the rules of its server side of AMQP 0-9-1, without any input or output.

Bytes go in and come out through :class:`Session`; time is the caller's. https://www.rabbitmq.com
describes the rules; where it does not, they are as read in the sources of 3.10.8, 4.0.5 and 4.3.5
and as measured. One node is modelled: neither replication nor a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol

import pika.frame
import pika.spec

from rmqbench.simulation.behaviour import Behaviour, Misdeed
from rmqbench.simulation.confirms import Confirms
from rmqbench.simulation.content import NOTHING, Content, traits_of
from rmqbench.simulation.entries import Entry
from rmqbench.simulation.policies import Policy, version_of
from rmqbench.simulation.queues import Queue
from rmqbench.simulation.refusals import CONNECTION_FORCED, RefusedError
from rmqbench.simulation.session import Session
from rmqbench.simulation.truth import (
    Event,
    Misdone,
    Published,
    Recovered,
    Resumed,
    Routed,
    Stalled,
    Started,
    Stopped,
    Truth,
)
from rmqbench.simulation.virtual_host import VirtualHost

__all__ = ["Cancellable", "Counts", "ModelBroker", "Timer"]

_CAPABILITIES: Final = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
)
_MAX_MESSAGE_BYTES: Final = 16 << 20
_MAX_MESSAGE_BYTES_BEFORE_4: Final = 128 << 20
_HOST: Final = "/"
NOBODY: Final = (0, 0, 0)


class Cancellable(Protocol):
    """Something that was to happen later."""

    def cancel(self) -> object:
        """Cancel it."""


class Timer(Protocol):
    """Time, as the world around the model has it."""

    def now(self) -> float:
        """Return the time in seconds."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Cancellable:
        """Call something once, after a delay in seconds."""


class Counts(NamedTuple):
    """What a queue truly holds."""

    ready: int
    unacked: int
    consumers: int


class _AtWork:
    """While the model is at work nothing is sent; at the end everything is."""

    __slots__ = ("_broker", "_depth")

    def __init__(self, broker: ModelBroker) -> None:
        self._broker = broker
        self._depth = 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._depth == 1 and kind is None:
            self._broker.flush()
        self._depth -= 1


class ModelBroker:
    """A simulated RabbitMQ with one node.

    ``truth`` says what has happened. Queues and policies are those of the virtual host ``/`` where
    no other is named.
    """

    def __init__(
        self,
        timer: Timer,
        *,
        behaviour: Behaviour | None = None,
        version: str = "4.3.6",
        users: Mapping[str, str] | None = None,
        virtual_hosts: Iterable[str] = (_HOST,),
    ) -> None:
        """Begin with an empty node that is up.

        ``users`` has the password of each user, guest and guest by default.
        """
        self.timer = timer
        self.behaviour = behaviour or Behaviour()
        self.version = version
        self.version_number = version_of(version)
        self.users = dict(users or {"guest": "guest"})
        self.truth = Truth()
        self.running = True
        self.blocked_reason: str | None = None
        self.planned: Misdeed | None = None  # what is to be done with the delivery under way
        self.max_message_bytes = (
            _MAX_MESSAGE_BYTES if self.version_number >= (4, 0) else _MAX_MESSAGE_BYTES_BEFORE_4
        )
        self.now = timer.now
        self.note: Callable[[Event], None] = self.truth.events.append
        self.hosts = {name: VirtualHost(self, name) for name in virtual_hosts}
        self.default_host = next(iter(self.hosts.values()))
        self.start_frame = _start_frame(version)
        self.at_work = _AtWork(self)
        self._sessions: dict[int, Session] = {}
        self._last_session = 0
        self._last_message = 0
        self._last_name = 0
        self._with_output: list[Session] = []
        self._with_confirms: list[Confirms] = []

    def connect(self, send: Callable[[bytes], None], lost: Callable[[], None]) -> Session:
        """Accept a TCP connection.

        ``send`` takes bytes for the client, ``lost`` is called once when the server has closed the
        TCP connection. Raise ConnectionRefusedError while the node is down.
        """
        if not self.running:
            raise ConnectionRefusedError("the simulated node is down")
        self._last_session += 1
        session = Session(self, self._last_session, send, lost)
        self._sessions[session.number] = session
        return session

    # --- acts of the operator -------------------------------------------------------------------

    def add_virtual_host(self, name: str) -> None:
        """Create a virtual host, if it is not there."""
        if name not in self.hosts:
            self.hosts[name] = VirtualHost(self, name)

    def delete_virtual_host(self, name: str) -> None:
        """Delete a virtual host with all that is in it, and end the connections to it."""
        with self.at_work:
            host = self.hosts.pop(name)
            for session in list(self._sessions.values()):
                if session.host is host:
                    why = f"vhost '{name}' is deleted"
                    session.close_now(RefusedError(CONNECTION_FORCED, why))
            for queue in list(host.queues.values()):
                queue.delete("delete")

    def kill(self) -> None:
        """End the node at once: connections break off, and what was not on disk may be gone."""
        self._stop(clean=False)

    def stop(self) -> None:
        """Shut the node down in order: connections are closed with 320 CONNECTION_FORCED."""
        self._stop(clean=True)

    def start(self) -> None:
        """Start the node again; queues may hold their messages back for a while."""
        with self.at_work:
            if self.running:
                return
            self.running = True
            now = self.now()
            self.note(Started(now))
            for queue in self._queues():
                held_s = queue.start()
                self.note(Recovered(now, queue.name, queue.ready_count(), held_s))

    def restart(self, *, down_s: float, clean: bool) -> None:
        """Stop or kill the node now, and start it again after some seconds."""
        self._stop(clean=clean)
        self.later(down_s, self.start)

    def stall(self, queue: str, seconds: float, *, virtual_host: str = _HOST) -> None:
        """Stall the leader of a queue for a while."""
        with self.at_work:
            stalled = self.hosts[virtual_host].queues[queue]
            stalled.stall()
            self.note(Stalled(self.now(), queue, seconds))

        def go_on() -> None:
            if stalled.stalled:
                self.note(Resumed(self.now(), queue))
                stalled.go_on()

        self.later(seconds, go_on)

    def purge(self, queue: str, *, virtual_host: str = _HOST) -> int:
        """Remove the ready messages of a queue and return how many these were."""
        with self.at_work:
            return self.hosts[virtual_host].queues[queue].purge()

    def delete(self, queue: str, *, virtual_host: str = _HOST) -> int:
        """Delete a queue and return how many messages were ready."""
        with self.at_work:
            return self.hosts[virtual_host].queues[queue].delete("delete")

    def set_policy(
        self,
        name: str,
        pattern: str,
        definition: Mapping[str, Any],
        *,
        priority: int = 0,
        operator: bool = False,
        virtual_host: str = _HOST,
    ) -> None:
        """Set a policy, or an operator policy, which holds from now on.

        ``definition`` is as rabbitmqctl takes it.
        """
        with self.at_work:
            host = self.hosts[virtual_host]
            policies = host.operator_policies if operator else host.policies
            policies[name] = Policy(name, pattern, definition, priority)
            host.apply_policies()

    def clear_policy(self, name: str, *, operator: bool = False, virtual_host: str = _HOST) -> None:
        """Remove a policy, or an operator policy."""
        with self.at_work:
            host = self.hosts[virtual_host]
            del (host.operator_policies if operator else host.policies)[name]
            host.apply_policies()

    def publish(
        self,
        exchange: str,
        routing_key: str,
        content: Content = NOTHING,
        *,
        virtual_host: str = _HOST,
    ) -> int:
        """Publish a message of somebody else, and return its number."""
        with self.at_work:
            host = self.hosts[virtual_host]
            message = self.published(exchange, routing_key, content)
            persistent, expiration = traits_of(content.properties)
            for queue in host.route(exchange, routing_key, content):
                self.note(Routed(self.now(), message, queue.name))
                entry = Entry(
                    message, content, exchange, routing_key, persistent, expiration=expiration
                )
                queue.take_in(entry, None)
            return message

    def counts(self, queue: str, *, virtual_host: str = _HOST) -> Counts:
        """Return what a queue truly holds, whatever it answers at the moment."""
        found = self.hosts[virtual_host].queues[queue]
        return Counts(found.ready_count(), len(found.unacked), len(found.consumers))

    def block(self, reason: str = "low on memory") -> None:
        """Raise an alarm: whoever publishes from now on is not read any more."""
        self.blocked_reason = reason

    def unblock(self) -> None:
        """Clear the alarm."""
        with self.at_work:
            self.blocked_reason = None
            for session in list(self._sessions.values()):
                session.unblock()

    def close_connections(self, reason: str = "Closed via management plugin") -> None:
        """Close every connection with 320 CONNECTION_FORCED."""
        with self.at_work:
            for session in list(self._sessions.values()):
                session.close(RefusedError(CONNECTION_FORCED, reason))

    # --- for sessions, channels and queues ------------------------------------------------------

    def later(self, delay_s: float, act: Callable[[], object]) -> Cancellable:
        """Do something after a delay; what it makes to be sent is sent."""

        def due() -> None:
            with self.at_work:
                act()

        return self.timer.call_later(delay_s, due)

    def published(
        self,
        exchange: str,
        routing_key: str,
        content: Content,
        *,
        by: tuple[int, int, int] = NOBODY,
    ) -> int:
        """Record a publish and return its number; ``by`` is session, channel and tag."""
        self._last_message = message = self._last_message + 1
        self.note(Published(self.now(), message, *by, exchange, routing_key, content))
        return message

    def misdone(
        self,
        misdeed: Misdeed,
        message: int,
        queue: str = "",
        *,
        to: tuple[int, int, int] = NOBODY,
        detail: str = "",
    ) -> None:
        """Record that a misdeed was done; ``to`` is session, channel and tag."""
        self.note(Misdone(self.now(), misdeed, message, queue, *to, detail))

    def generated_name(self, prefix: str) -> str:
        """Return a name that nobody has yet."""
        self._last_name += 1
        return f"{prefix}-{self._last_name:022d}"

    def has_output(self, session: Session) -> None:
        """Record that a session has something to send."""
        self._with_output.append(session)

    def has_settled(self, confirms: Confirms) -> None:
        """Record that a channel has confirms to send."""
        self._with_confirms.append(confirms)

    def forget(self, session: Session) -> None:
        """Record that a session has ended."""
        self._sessions.pop(session.number, None)

    def flush(self) -> None:
        """Send all that is to be sent."""
        while self._with_confirms or self._with_output:
            confirming, self._with_confirms = self._with_confirms, []
            for confirms in confirming:
                confirms.flush()
            sending, self._with_output = self._with_output, []
            for session in sending:
                session.flush()

    def _queues(self) -> list[Queue]:
        return [queue for host in self.hosts.values() for queue in host.queues.values()]

    def _stop(self, *, clean: bool) -> None:
        with self.at_work:
            if not self.running:
                return
            self.note(Stopped(self.now(), clean))
            self.running = False
            for session in list(self._sessions.values()):
                if clean:
                    why = "broker forced connection closure with reason 'shutdown'"
                    session.close_now(RefusedError(CONNECTION_FORCED, why))
                else:
                    session.drop("the node was killed")
            self.blocked_reason = None
            for queue in self._queues():
                if queue.durable:
                    queue.stop(clean=clean)
                else:
                    queue.delete("restart")
            for host in self.hosts.values():
                for exchange in list(host.exchanges.values()):
                    if not exchange.durable:
                        host.delete_exchange(exchange)


def _start_frame(version: str) -> bytes:
    """Return the frame of connection.start."""
    properties = {
        "capabilities": dict.fromkeys(_CAPABILITIES, True),
        "cluster_name": "rabbit@simulated",
        "copyright": "simulated by rmqbench",
        "information": "Not RabbitMQ, but a model of its rules",
        "platform": "rmqbench",
        "product": "RabbitMQ",
        "version": version,
    }
    start = pika.spec.Connection.Start(0, 9, properties, "PLAIN", "en_US")
    return bytes(pika.frame.Method(0, start).marshal())
