"""Faults let loose: each strikes in a thread of its own, once, when a run has come so far.

A fault is a field of a scenario (:class:`Fault`), or a context manager around a run::

    with faults.kill_broker(broker, after_messages=3000):
        result = rmqbench.run(scenario, broker)

It concerns the runs of this context (:mod:`contextvars`), and no run of another thread. Without
``after_messages`` it strikes when a run's first message is through, or when
:meth:`Injection.strike` is called. Nothing is ever done to a broker that is not ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self, TypeVar

from rmqbench.broker import Broker, Disk
from rmqbench.errors import (
    BrokerError,
    DeadlineExceeded,
    FaultUnavailable,
    RmqbenchError,
    UsageError,
)
from rmqbench.faults.catalogue import FAULTS, Fault, Phase
from rmqbench.faults.effects import Target
from rmqbench.proxy import Proxy
from rmqbench.run_directory.journal import Entry, FaultEvent, MessagesRemoved
from rmqbench.verdict.evidence import Removal
from rmqbench.version import version_number

__all__ = [
    "Injection",
    "adopting",
    "delete_queue",
    "inject",
    "kill_broker",
    "pause_broker",
    "purge_queue",
    "require_able",
    "restart_broker",
]

_OVER_S = 180.0  # no fault takes longer, what it waits for of itself included
_T = TypeVar("_T")


class Injection:
    """A fault that is about to strike, as a context manager; leaving it ends what lasts.

    ``struck_at`` is when it began (monotonic seconds), ``failure`` why it could not be carried
    out. Leaving the context raises that failure, unless an error is under way already. ``own`` is
    its place among the faults of a scenario (None: it is not of one).
    """

    def __init__(
        self,
        name: str,
        target: Target,
        *,
        during: Phase | None = None,
        after_messages: int = 0,
        after_s: float = 0.0,
        own: int | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.struck_at: float | None = None
        self.failure: RmqbenchError | None = None
        self._during = during
        self._after_messages = after_messages
        self._after_s = after_s
        self._came_so_far_at: float | None = None
        self._own = own
        self._ended = False
        self._entries: list[Entry] = []
        self._readers: list[Callable[[Entry], None]] = []
        self._lock = threading.Lock()
        target.note = lambda text: self._note("happened", text)
        target.note_removal = self._note_removal
        self._thread = threading.Thread(target=self._work, name=f"fault {name}", daemon=True)

    def __enter__(self) -> Self:
        """Wait for the moment to come; raise UsageError or FaultUnavailable for a wrong broker."""
        require_able(self.target.broker, self.name)
        for adopt in _adopters.get():
            adopt(self)
        _around.set((*_around.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        _around.set(_without(_around.get(), self))
        self.end()
        if self.failure is not None and error is None:
            raise self.failure

    @property
    def removals(self) -> tuple[Removal, ...]:
        """What it has taken out of its queue so far."""
        with self._lock:
            found = {e.act: e for e in self._entries if isinstance(e, MessagesRemoved)}
        return tuple(Removal(each.cause, each.at_most) for each in found.values())

    def follow(self, read: Callable[[Entry], None]) -> None:
        """Call ``read`` with all that it has done and does, from any thread."""
        with self._lock:
            for entry in self._entries:
                read(entry)
            self._readers.append(read)

    def end(self) -> None:
        """Strike no more, and end what lasts."""
        self._ended = True
        self.target.over.set()
        self.settle()

    def reached(self, phase: str, queue: str | None, done: int) -> bool:
        """Whether it is to strike, now that a phase (of a queue) has come so far."""
        came_so_far = (
            self.struck_at is None
            and not self._ended
            and self._during in (None, phase)
            and (queue is None or self._during is None or self.target.queue in ("", queue))
            and done >= max(1, self._after_messages)
        )
        if not came_so_far or not self._after_s:
            return came_so_far
        if self._came_so_far_at is None:
            self._came_so_far_at = time.monotonic()
        return time.monotonic() - self._came_so_far_at >= self._after_s

    def is_due_in(self, phase: Phase) -> bool:
        """Whether it is still to strike, and in this phase."""
        return self.struck_at is None and not self._ended and self._during == phase

    @property
    def is_under_way(self) -> bool:
        """Whether it has struck, and is not over yet."""
        return self._thread.is_alive()

    def strike(self) -> None:
        """Strike now, in a thread of its own."""
        self.struck_at = time.monotonic()
        self._note("struck", f"{self.name}: {FAULTS[self.name].text}")
        self._thread.start()

    def settle(self) -> None:
        """Wait until it is over, if it has struck: the broker is back, the alarm is cleared."""
        if self.struck_at is None:
            return
        self._thread.join(_OVER_S)
        if self._thread.is_alive():
            self.failure = DeadlineExceeded(
                f"The fault {self.name} was not over after {_OVER_S:g} s.", "See the broker's log."
            )
            self._note("failed", self.failure.what)

    def _work(self) -> None:
        try:
            FAULTS[self.name].strike(self.target)
        except Exception as error:  # whatever it is, the fault was not what it should have been
            if not isinstance(error, RmqbenchError):
                error = BrokerError(f"{type(error).__name__}: {error}")
            self.failure = error
            self._note("failed", error.what)
        else:
            self._note("over", f"{self.name} is over")

    def _note(self, phase: str, text: str) -> None:
        self._write(
            FaultEvent(
                fault=self.name,
                phase=phase,
                text=text,
                own=self._own,
                within_s=FAULTS[self.name].within_s,
            )
        )

    def _note_removal(self, removal: Removal, act: str) -> None:
        queue = self.target.queue
        self._write(
            MessagesRemoved(
                queue=queue,
                cause=removal.cause,
                at_most=removal.at_most,
                act=act,
            )
        )

    def _write(self, entry: Entry) -> None:
        with self._lock:
            self._entries.append(entry)
            for read in self._readers:
                read(entry)


def require_able(broker: Broker, name: str) -> None:
    """Raise UsageError for a broker that is not ours, FaultUnavailable for one that is too old."""
    if not broker.owned:
        raise UsageError(
            f"The fault {name} is not for {broker.endpoint}: faults are never injected into brokers"
            " that are not ours.",
            "Use a broker that rmqbench starts itself: auto, container or local.",
        )
    since = FAULTS[name].since
    numbers = version_number(broker.version), version_number(since)
    if numbers[0] and numbers[1] and numbers[0] < numbers[1]:
        raise FaultUnavailable(
            f"The fault {name} needs RabbitMQ {since} or later; this one is {broker.version}."
        )


# --- which runs and which injections belong together -------------------------------------------

_around: ContextVar[tuple[Injection, ...]] = ContextVar("_around", default=())
_adopters: ContextVar[tuple[Callable[[Injection], None], ...]] = ContextVar("_adopters", default=())


@contextmanager
def adopting(adopt: Callable[[Injection], None]) -> Iterator[None]:
    """Call ``adopt`` with every injection that is around, or entered within, this context."""
    for each in _around.get():
        adopt(each)
    _adopters.set((*_adopters.get(), adopt))
    try:
        yield
    finally:
        _adopters.set(_without(_adopters.get(), adopt))


def _without(all_of_them: tuple[_T, ...], one: _T) -> tuple[_T, ...]:
    return tuple(each for each in all_of_them if each is not one)


# --- as context managers -----------------------------------------------------------------------


def inject(
    name: str,
    broker: Broker,
    *,
    after_messages: int = 0,
    lasting_s: float | None = None,
    virtual_host: str | None = None,
    queue: str = "",
    proxy: Proxy | None = None,
    disk: Disk | None = None,
) -> Injection:
    """Prepare any fault of :data:`rmqbench.faults.FAULTS`, to be entered.

    It strikes when a run of this context on this broker has that many messages of a phase through.
    ``virtual_host`` (None: the broker's own) and ``queue`` are for faults of queues and
    connections, ``proxy`` for those of the network: whoever is to notice connects through it.
    ``disk`` is that of the node, :func:`rmqbench.broker.own_disk`, for a power cut.
    """
    endpoint = broker.endpoint
    if virtual_host is not None:
        endpoint = endpoint.in_virtual_host(virtual_host)
    fault = Fault(name, after_messages=after_messages, lasting_s=lasting_s)
    target = Target(broker, endpoint, queue=queue, proxy=proxy, disk=disk, lasting_s=fault.seconds)
    return Injection(name, target, after_messages=after_messages)


def kill_broker(broker: Broker, *, after_messages: int = 0) -> Injection:
    """Kill the broker by SIGKILL and start it again on its data."""
    return inject("kill-broker", broker, after_messages=after_messages)


def restart_broker(broker: Broker, *, after_messages: int = 0) -> Injection:
    """Shut the broker down cleanly and start it again."""
    return inject("restart-broker", broker, after_messages=after_messages)


def pause_broker(
    broker: Broker, *, lasting_s: float | None = None, after_messages: int = 0
) -> Injection:
    """Freeze the broker for a while (SIGSTOP)."""
    return inject("pause-broker", broker, after_messages=after_messages, lasting_s=lasting_s)


def purge_queue(
    broker: Broker, queue: str, *, virtual_host: str | None = None, after_messages: int = 0
) -> Injection:
    """Purge a queue."""
    return inject(
        "purge-queue",
        broker,
        after_messages=after_messages,
        virtual_host=virtual_host,
        queue=queue,
    )


def delete_queue(
    broker: Broker, queue: str, *, virtual_host: str | None = None, after_messages: int = 0
) -> Injection:
    """Delete a queue with all that it holds."""
    return inject(
        "delete-queue",
        broker,
        after_messages=after_messages,
        virtual_host=virtual_host,
        queue=queue,
    )
