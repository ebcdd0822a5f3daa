"""The faults of one run: prepared, let loose, waited for, and written into its journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rmqbench.broker import Broker, Disk, own_disk
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, UsageError
from rmqbench.faults.catalogue import Fault, Phase
from rmqbench.faults.effects import Target
from rmqbench.faults.injection import Injection, adopting, require_able
from rmqbench.pieces import count_where
from rmqbench.proxy import Proxy
from rmqbench.run_directory.journal import Entry, MessagesRemoved
from rmqbench.run_directory.ledger import DeliveryLedger, dead_letters_of
from rmqbench.text import counted
from rmqbench.verdict.evidence import ACKED, REJECTED
from rmqbench.waiting import wait_until

__all__ = ["RECOVERY_S", "ConsumerAtWork", "Disturbance", "Disturber", "Victim"]

_HOLDS_S = 10.0
RECOVERY_S = 8.0  # how long after a restart a queue may report too few messages


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What a run has been through so far, for whoever asks a queue how it is.

    ``shaken``: a fault struck, or a worker lost its connection. ``restarted_at`` is when our own
    node was ready again after the last restart during the run (monotonic seconds; None: there was
    none): no sooner can it recover its queues. Of a broker that is not ours (``unknown``) that
    cannot be known: each lost connection may have been a restart.
    """

    shaken: bool
    restarted_at: float | None = None
    unknown: bool = False

    def certain_at(self, now: float) -> float:
        """Return from when on a queue is believed that it is empty, in monotonic seconds."""
        if self.restarted_at is not None:
            return self.restarted_at + RECOVERY_S
        if self.unknown and self.shaken:
            return now + RECOVERY_S
        return 0.0


class Victim(Protocol):
    """A worker process that a fault may end."""

    pid: int

    def ended(self) -> bool:
        """Whether the process has ended."""

    def halt(self) -> None:
        """Stop it as it is, until it is ended or told to :meth:`go_on`."""

    def go_on(self) -> None:
        """Continue it."""

    def strike(self) -> None:
        """End it by SIGKILL, as if from outside."""


@dataclass(frozen=True)
class ConsumerAtWork:
    """A consumer of the run: its process, its queue, and where it keeps its ledger."""

    worker: Victim
    queue: str
    directory: Path
    auto_ack: bool


class Disturber:
    """Holds the faults of a run's scenario, and those that are put around the run.

    ``each_comes_once``: no message comes to a queue twice of itself (one that is published again
    can push out another).
    """

    def __init__(
        self, faults: Sequence[Fault], broker: Broker, messages: int, *, each_comes_once: bool
    ) -> None:
        """Raise UsageError or FaultUnavailable where a fault is not for this broker."""
        for fault in faults:
            require_able(broker, fault.name)
        self._faults = faults
        self._broker = broker
        self._messages = messages
        self._each_comes_once = each_comes_once and len(faults) == 1
        self._disk: Disk | None = None
        self._began_at = time.monotonic()
        self._injections: list[Injection] = []
        self._virtual_host = ""
        self._write: Callable[[Entry], None] = lambda _: None
        self._consumers: list[ConsumerAtWork] = []
        self._delivered: dict[str, int] = {}

    def equip(self, stack: ExitStack) -> None:
        """Move the broker to a disk of its own, for ``stack`` to move it back, if a fault needs it.

        Raise FaultUnavailable where none is to be had.
        """
        if any(fault.kind.needs_disk for fault in self._faults):
            self._disk = stack.enter_context(own_disk(self._broker))
            self._began_at = time.monotonic()

    def prepare(
        self,
        endpoint: Endpoint,
        queues: Sequence[str],
        asked: Sequence[str],
        write: Callable[[Entry], None],
        stack: ExitStack,
    ) -> Endpoint:
        """Prepare the scenario's faults; return the endpoint that the workers are to use.

        ``queues`` are the names as declared, ``asked`` as the scenario has them, in the same order.
        ``write`` takes what happens. Raise UsageError for a fault of a queue that is not there.
        """
        self._virtual_host = endpoint.virtual_host
        self._write = write
        through = endpoint
        proxy = None
        if any(fault.kind.needs_proxy for fault in self._faults):
            proxy = stack.enter_context(Proxy(endpoint))
            through = proxy.endpoint
        for number, fault in enumerate(self._faults):
            if fault.queue is not None and fault.queue not in asked:
                raise UsageError(
                    f"The fault {fault.name} is for the queue {fault.queue!r}, which the scenario "
                    "does not have.",
                    f"It has {', '.join(asked)}.",
                )
            queue = queues[0 if fault.queue is None else asked.index(fault.queue)]
            injection = self._injection(number, fault, endpoint, queue, proxy)
            # What failed is found by the verdict, and not raised into the run.
            stack.callback(injection.end)
            self.adopt(injection)
        stack.enter_context(adopting(self.adopt))
        return through

    def adopt(self, injection: Injection) -> None:
        """Take an injection into this run, and write down what it does."""
        if injection.target.broker is self._broker and injection.struck_at is None:
            self._injections.append(injection)
            injection.follow(lambda entry: self._take(injection, entry))

    def note_consumers(self, consumers: Sequence[ConsumerAtWork]) -> None:
        """Record which consumers are at work now."""
        self._consumers = list(consumers)

    def announce(self, phase: str, done: int, queue: str | None = None) -> None:
        """Strike with the faults whose time has come, now that a phase has come so far."""
        if queue is not None:
            self._delivered[queue] = done
        for each in self._injections:
            # One at a time: a node that is being started is not killed by another thread.
            reached = each.reached(phase, queue, done)
            if reached and not any(one.is_under_way for one in self._injections):
                each.strike()

    def awaits(self, phase: Phase) -> bool:
        """Whether any fault is still to strike in a phase."""
        return any(each.is_due_in(phase) for each in self._injections)

    def has_struck(self) -> bool:
        """Whether any fault has struck so far."""
        return any(each.struck_at is not None for each in self._injections)

    def settle(self) -> None:
        """Wait until what has struck is over."""
        for each in self._injections:
            each.settle()

    def state(self, *, interrupted: bool) -> Disturbance:
        """Return what the run has been through, once what has struck is over."""
        self.settle()
        started_at = self._broker.started_at
        restarted_at = None
        if started_at is not None and started_at > self._began_at:
            restarted_at = max(started_at, self._broker.ready_at)
        return Disturbance(
            shaken=interrupted or self.has_struck(),
            restarted_at=restarted_at,
            unknown=not self._broker.owned,
        )

    def _injection(
        self, number: int, fault: Fault, endpoint: Endpoint, queue: str, proxy: Proxy | None
    ) -> Injection:
        target = Target(
            broker=self._broker,
            endpoint=endpoint,
            queue=queue,
            proxy=proxy,
            disk=self._disk,
            kill_consumer=lambda: self._kill_one_consumer(queue),
            undelivered=(lambda: self._undelivered(queue)) if self._each_comes_once else None,
            lasting_s=fault.seconds,
        )
        after = fault.after_messages
        if after is None:
            at_once = fault.kind.first_message or fault.after_s is not None
            after = 1 if at_once else self._messages // 3
        return Injection(
            fault.name,
            target,
            during=fault.phase,
            after_messages=after,
            after_s=fault.after_s or 0.0,
            own=number,
        )

    def _take(self, injection: Injection, entry: Entry) -> None:
        if not isinstance(entry, MessagesRemoved) or self._is_here(injection):
            self._write(entry)

    def _is_here(self, injection: Injection) -> bool:
        return injection.target.endpoint.virtual_host == self._virtual_host

    def _undelivered(self, queue: str) -> int:
        return self._messages - self._delivered.get(queue, 0)

    def _kill_one_consumer(self, queue: str) -> str:
        """Kill the one that has most to lose: messages which it has not acknowledged.

        With automatic acknowledgement that is whatever is on its way to it, which nobody can count.
        Whoever shares its process dies with it.
        """
        victims: list[tuple[int, ConsumerAtWork]] = []
        left = True

        def struck() -> bool:
            """Strike one that holds some; it is halted first, for it may acknowledge them now."""
            nonlocal left
            here = [each for each in self._consumers if each.queue == queue]
            here = [each for each in here if not each.worker.ended()]
            left = bool(here)
            if not here:
                return True
            consumer = max(here, key=_at_stake)
            if not _at_stake(consumer):
                return False
            consumer.worker.halt()
            count = _at_stake(consumer)
            if not count:
                consumer.worker.go_on()
                return False
            consumer.worker.strike()
            victims.append((count, consumer))
            return True

        wait_until(struck, _HOLDS_S, "a consumer to hold messages")
        if not left:
            raise BrokerError("There was no consumer left that could be killed.")
        ((count, consumer),) = victims
        others = sum(each.worker is consumer.worker for each in self._consumers) - 1
        what = "delivery" if consumer.auto_ack else "unacknowledged message"
        many = "deliveries" if consumer.auto_ack else "unacknowledged messages"
        pid = consumer.worker.pid
        dead = f"the consumer in process {pid} is dead, with {counted(count, what, many)}"
        return f"{dead}; {counted(others, 'consumer')} died with it" if others else dead


def _at_stake(consumer: ConsumerAtWork) -> int:
    """Count what a consumer holds, dead letters included."""
    ended = ACKED | REJECTED
    return sum(
        count_where(
            DeliveryLedger.read(place).state,
            lambda state: (state > 0) & (consumer.auto_ack | (state & ended == 0)),
        )
        for place in (consumer.directory, *dead_letters_of(consumer.directory))
    )
