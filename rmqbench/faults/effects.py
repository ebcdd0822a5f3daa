"""What each fault does to a broker, a queue, a connection or a worker."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from rmqbench.amqp import topology as topologies
from rmqbench.amqp.admin import admin
from rmqbench.broker import Broker, Disk
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, ConnectionNotFound, UsageError
from rmqbench.management.answers import read_connections
from rmqbench.proxy import Proxy
from rmqbench.text import counted
from rmqbench.verdict.evidence import Removal
from rmqbench.waiting import wait_until

__all__ = ["Target", "limit_policy"]

_LISTED_S = 15.0  # how long the Management API may take to list a new connection
_CHAOS_MS = 1000
_LIMIT = 100  # messages that a limited queue may hold


@dataclass
class Target:
    """What a fault may strike; what it has not got it cannot strike.

    ``note`` is called with a sentence when something happens, ``note_removal`` before messages are
    taken out of the queue and again, with the same act, when it is known how many these were.
    ``over`` is set when whatever lasts is to end. ``kill_consumer`` kills the process of one
    consumer that is at work, and returns a sentence on which. ``undelivered`` counts the messages
    of the run that the queue may still give, those under way to it and from it included (None: that
    cannot be known).
    """

    broker: Broker
    endpoint: Endpoint
    queue: str = ""
    proxy: Proxy | None = None
    disk: Disk | None = None
    kill_consumer: Callable[[], str] | None = None
    undelivered: Callable[[], int] | None = None
    lasting_s: float = 0.0
    note: Callable[[str], None] = lambda _: None
    note_removal: Callable[[Removal, str], None] = lambda removal, act: None
    over: threading.Event = field(default_factory=threading.Event)

    def last(self) -> None:
        """Wait as long as the fault lasts."""
        self.over.wait(self.lasting_s)


def kill_broker(target: Target) -> None:
    target.broker.kill()
    target.note("the broker is dead")
    target.broker.start()


def cut_power(target: Target) -> None:
    if target.disk is None:
        raise UsageError("The data of the broker is on no disk whose power can be cut.")
    target.disk.cut_power()
    target.note("the broker is dead, and what its disk had not got yet is gone")
    target.broker.start()


def restart_broker(target: Target) -> None:
    target.broker.restart()


def pause_broker(target: Target) -> None:
    target.broker.pause()
    try:
        target.last()
    finally:
        target.broker.resume()


def close_connections(target: Target) -> None:
    virtual_host = target.endpoint.virtual_host
    with target.broker.management as management:
        count = 0

        def closed() -> bool:
            nonlocal count
            for each in read_connections(management.connections(virtual_host)):
                if not (each.given_name or "").endswith("topology"):
                    with suppress(ConnectionNotFound):  # the list has those that were, too
                        management.close_connection(each.name, "a fault")
                        count += 1
            return count > 0

        what = "the Management API to list a connection that is there"
        wait_until(closed, _LISTED_S, what, every_s=0.2)
        target.note(f"{counted(count, 'connection was', 'connections were')} closed")


def alarm(setting: str, eager: str, read: str) -> Callable[[Target], None]:
    def strike(target: Target) -> None:
        before = target.broker.control("eval", read).strip()
        target.broker.control(setting, eager)
        try:
            target.note("the alarm is set")
            target.last()
        finally:
            target.broker.control(setting, before)

    return strike


def quorum_chaos(target: Target) -> None:
    target.broker.control("eval", f"rabbit_chaos:begin_quorum_chaos({_CHAOS_MS}).")
    try:
        target.last()
    finally:
        # It stops between two deeds, of which one may take 11 s.
        target.broker.control("eval", "gen_server:call(rabbit_chaos, stop_chaos, 30000).")


def purge_queue(target: Target) -> None:
    act = uuid.uuid4().hex
    # Written down before it is done: an answer may be lost on the way.
    target.note_removal(
        Removal("a purge whose answer did not come, of any number of messages"), act
    )
    count = topologies.purge(target.endpoint, target.queue)
    _note_removal(target, Removal(f"a purge of {counted(count, 'message')}", count), act)


def delete_queue(target: Target) -> None:
    act = uuid.uuid4().hex
    target.note_removal(Removal("a deletion whose answer did not come"), act)
    with admin(target.endpoint) as channel:
        count = channel.queue_delete(target.queue).method.message_count
    ready = counted(count, "ready message", form=",")
    cause = f"it was deleted, with {ready}; what was published later found no queue"
    _note_removal(target, Removal(cause), act)


def limit_policy(queue: str) -> str:
    """Return the name of the policy by which a fault limits a queue."""
    return f"rmqbench limit of {queue}"


def limit_queue(target: Target) -> None:
    # Counted before: what is delivered from now on is not dropped, what is published is counted.
    at_most = None if target.undelivered is None else max(0, target.undelivered() - _LIMIT)
    act = uuid.uuid4().hex
    removal = Removal(f"a limit of {_LIMIT} messages, the oldest dropped", at_most)
    target.note_removal(removal, act)
    with target.broker.management as management:
        management.set_policy(
            limit_policy(target.queue),
            f"^{re.escape(target.queue)}$",
            {"max-length": _LIMIT},
            vhost=target.endpoint.virtual_host,
        )
    _note_removal(target, removal, act)
    if target.lasting_s:
        target.last()
        with target.broker.management as management:
            policy = limit_policy(target.queue)
            management.delete_policy(policy, vhost=target.endpoint.virtual_host)
        target.note(f"{target.queue}: the limit is taken off again")


def _note_removal(target: Target, removal: Removal, act: str) -> None:
    target.note_removal(removal, act)
    target.note(f"{target.queue}: {removal.cause}")


def by_proxy(deed: Callable[[Proxy, Target], object]) -> Callable[[Target], None]:
    def strike(target: Target) -> None:
        if target.proxy is None:
            raise UsageError("There is no proxy between the run and the broker.")
        deed(target.proxy, target)

    return strike


def require_some(count: int) -> None:
    if not count:
        raise BrokerError("There was no connection that the fault could strike.")


def slow(proxy: Proxy, target: Target) -> None:
    proxy.set_rate(200_000)
    target.last()
    proxy.set_rate(None)


def late(proxy: Proxy, target: Target) -> None:
    proxy.set_latency(0.05, 0.02)
    target.last()
    proxy.set_latency(0)


def kill_consumer(target: Target) -> None:
    if target.kill_consumer is None:
        raise UsageError("There is no consumer that could be killed.")
    target.note(target.kill_consumer())
