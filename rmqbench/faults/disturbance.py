"""The faults of one run: made ready, let loose, waited for, and remembered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmqbench.amqp.topology import Queue, removals
from rmqbench.broker import Broker, wait_until
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError
from rmqbench.faults.injection import (
    Injection,
    Target,
    announce,
    injection_of,
    require_ours,
    struck_since,
)
from rmqbench.proxy import Proxy
from rmqbench.runner.isolation import Place
from rmqbench.runner.scenario import Scenario
from rmqbench.runner.workers import Worker
from rmqbench.verdict.evidence import Removal
from rmqbench.verdict.ledger import DeliveryLedger

__all__ = ["Disturbance", "Disturber"]

_HOLDS_S = 10.0
_RECOVERY_S = 8.0  # so long after a restart a queue may know too little of what it holds


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What a run has been through so far, for whoever asks a queue how it is.

    ``shaken``: a fault struck, or a worker lost its connection. ``restarted_at`` is when our own
    node was last started during the run (monotonic seconds; None: it was not). Of a broker that is
    not ours (``unknown``) that cannot be told: each lost connection may have been a restart.
    """

    shaken: bool
    restarted_at: float | None = None
    unknown: bool = False

    def certain_at(self) -> float:
        """Say from when on a queue is believed that it is empty, in monotonic seconds."""
        if self.restarted_at is not None:
            return self.restarted_at + _RECOVERY_S
        if self.unknown and self.shaken:
            return time.monotonic() + _RECOVERY_S
        return 0.0


class Disturber:
    """Holds the faults of a run's scenario, and those that were put around the run."""

    def __init__(self, scenario: Scenario, broker: Broker) -> None:
        """Refuse faults on a broker that is not ours (UsageError), before anything is begun."""
        for fault in scenario.faults:
            require_ours(broker, fault.name)
        self._scenario = scenario
        self._broker = broker
        self._began_at = time.monotonic()
        self._own: list[Injection] = []
        self._virtual_host = ""
        self._workers: list[tuple[Worker, Path]] = []
        self._delivered = 0

    def prepare(self, place: Place, stack: ExitStack) -> Endpoint:
        """Make the scenario's faults ready; give the endpoint that the workers are to use."""
        endpoint = place.endpoint
        self._virtual_host = endpoint.virtual_host
        proxy = None
        if any(fault.kind.needs_proxy for fault in self._scenario.faults):
            proxy = stack.enter_context(Proxy(endpoint))
            endpoint = proxy.endpoint
        for fault in self._scenario.faults:
            target = Target(
                broker=self._broker,
                endpoint=place.endpoint,
                queue=place.topology.queue_names[0],
                proxy=proxy,
                kill_consumer=self._kill_one_worker,
                undelivered=self._undelivered if self._each_comes_once() else None,
            )
            injection = injection_of(fault, target, self._scenario.messages)
            injection.arm()
            # What failed is told by the verdict, and not raised into the run.
            stack.callback(injection.end)
            self._own.append(injection)
        return endpoint

    def note_workers(self, workers: Sequence[Worker], directories: Sequence[Path]) -> None:
        """Note which workers are at work now, and where each keeps its ledger."""
        self._workers = list(zip(workers, directories, strict=True))

    def announce(self, phase: str, done: int) -> None:
        """Let the faults know how far the run has come."""
        if phase == "drain":
            self._delivered = done
        announce(self._broker, phase, done)

    @property
    def struck(self) -> bool:
        """Whether any fault has struck so far."""
        return bool(self._struck())

    def settle(self) -> None:
        """Wait until what has struck is over."""
        for injection in self._struck():
            injection.settle()

    def state(self, *, interrupted: bool) -> Disturbance:
        """Say what the run has been through, once what has struck is over."""
        self.settle()
        started_at = self._broker.started_at
        restarted = started_at is not None and started_at > self._began_at
        return Disturbance(
            shaken=interrupted or self.struck,
            restarted_at=started_at if restarted else None,
            unknown=not self._broker.owned,
        )

    def removals(self, queue: Queue) -> tuple[Removal, ...]:
        """Give the causes for messages to vanish from a queue: its arguments, and faults."""
        struck = (
            removal
            for injection in self._struck()
            if injection.target.endpoint.virtual_host == self._virtual_host
            for name, removal in injection.target.removals
            if name == queue.name
        )
        return (*removals(queue), *struck)

    def events(self) -> list[tuple[int, str]]:
        """Give what the faults did and when (Unix nanoseconds)."""
        return [event for injection in self._struck() for event in injection.target.events]

    def failures(self) -> tuple[str, ...]:
        """Say which faults did not strike as they should have: what they were to show is open."""
        return tuple(
            f"the fault {each.name} failed: {each.failure.what}"
            if each.failure
            else f"the fault {each.name} never struck: the phase was over before"
            for each in self._own
            if each.failure or each.struck_at is None
        )

    def _each_comes_once(self) -> bool:
        """Tell whether each message comes to a queue once.

        One that is published again, or is given back under another fault, can push out another.
        """
        return len(self._scenario.faults) == 1 and not self._scenario.publish_again

    def _undelivered(self) -> int:
        return self._scenario.messages - self._delivered

    def _struck(self) -> list[Injection]:
        return struck_since(self._broker, self._began_at)

    def _kill_one_worker(self) -> str:
        """Kill the one that has most to lose: messages which it has not acknowledged.

        With automatic acknowledgement that is whatever is on its way to it, which nobody can count.
        """
        automatic = self._scenario.auto_ack

        def at_stake(directory: Path) -> int:
            ledger = DeliveryLedger.read(directory)
            return int(np.count_nonzero((ledger.delivered > 0) & (automatic | (ledger.acked == 0))))

        here: list[tuple[int, int, Worker]] = []

        def one_has_some() -> bool:
            here[:] = [
                (at_stake(directory), worker.pid, worker)
                for worker, directory in self._workers
                if not worker.ended()
            ]
            return not here or max(here)[0] > 0

        wait_until(one_has_some, _HOLDS_S, "a consumer to hold messages")
        if not here:
            raise BrokerError("There was no consumer left that could be killed.")
        count, pid, worker = max(here)
        worker.strike()
        what = "deliveries" if automatic else "unacknowledged messages"
        return f"the consumer in process {pid} is dead, with {count} {what}"
