"""The workers of a run: who shares a process, when they begin, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rmqbench.clients.producer import ProducerPlan
from rmqbench.clients.recording_consumer import ConsumerPlan
from rmqbench.faults.disturbance import ConsumerAtWork, Disturber
from rmqbench.memory import peak_rss_bytes
from rmqbench.run_directory.journal import Entry, MemoryUsed, TroubleSeen
from rmqbench.run_directory.ledger import DeliveryLedger
from rmqbench.run_directory.reading import peak_of
from rmqbench.runner.plans import drains_together
from rmqbench.runner.workers import (
    AtWork,
    Crew,
    Gate,
    MakeCrew,
    Worker,
    WorkerPlan,
    run_workers,
    spread,
)
from rmqbench.scenarios import Scenario

__all__ = ["Workforce", "most_in_a_worker"]

_PATIENCE = 2.0  # workers end by themselves after stall_s; after this many times it, they are ended


def most_in_a_worker(scenario: Scenario) -> int:
    """Return how many clients share a process of this host, where most of them do."""
    each = [queue.consumers for queue in scenario.queues]
    consumers = sum(each) if drains_together(scenario, elsewhere=False) else max(each)
    sharing = [scenario.producers, 1 if _kills_consumer(scenario) else consumers]
    return max(len(spread(range(count), scenario.processes)[0]) for count in sharing)


def _kills_consumer(scenario: Scenario) -> bool:
    return any(fault.kind.kills_consumer for fault in scenario.faults)


class Workforce:
    """Runs plans by workers, and writes down what became of them as far as they cannot."""

    def __init__(
        self,
        scenario: Scenario,
        disturber: Disturber,
        write: Callable[[Entry], None],
        make_crew: MakeCrew | None = None,
    ) -> None:
        """Take who makes the workers; None: they are processes of this host."""
        self._make_crew = make_crew
        self._scenario = scenario
        self._disturber = disturber
        self._write = write

    def consume(self, plans: Sequence[ConsumerPlan], progress: Callable[[], int]) -> None:
        """Run consumers until all of them have ended; ``progress`` is called all along."""
        self._run(self._shares(plans), progress, hold=self._hold(plans))

    def _hold(self, plans: Sequence[ConsumerPlan]) -> Callable[[], bool]:
        """Return what says whether consumers that linger wait for a fault that is to strike.

        They do not wait for ever: it may never strike.
        """
        until = time.monotonic() + self._scenario.stall_s
        received = -1
        ledgers = [DeliveryLedger.read(plan.directory) for plan in plans if plan.lingers]
        progress = [ledger.progress() for ledger in ledgers]

        def hold() -> bool:
            nonlocal until, received
            now_received = sum(int(each.sum()) for each in progress)
            if now_received != received:
                received, until = now_received, time.monotonic() + self._scenario.stall_s
            return bool(ledgers) and self._disturber.awaits("drain") and time.monotonic() < until

        return hold

    def publish(
        self,
        producers: Sequence[ProducerPlan],
        consumers: Sequence[ConsumerPlan],
        progress: Callable[[], int],
        begin: Callable[[], object],
    ) -> None:
        """Run producers, and at the same time the consumers, until all of them have ended.

        ``begin`` is called when all of them are connected, and then the publishing begins.
        """
        connected: dict[AtWork, int] = {}

        def ready(worker: AtWork) -> bool:
            connected[worker] = worker.connected()
            return connected[worker] == len(worker.plans)

        self._run(
            [*self._shares(producers), *self._shares(consumers)],
            lambda: progress() + sum(connected.values()),
            Gate(ready, begin),
        )

    def _shares(self, plans: Sequence[WorkerPlan]) -> list[Sequence[WorkerPlan]]:
        """Return the plans of each worker; who may be killed alone works alone.

        On other hosts, of which nobody here knows how many there are, a share has one plan.
        """
        alone = _kills_consumer(self._scenario)
        alone &= any(isinstance(plan, ConsumerPlan) for plan in plans)
        alone |= self._make_crew is not None and self._scenario.processes is None
        return spread(plans, len(plans) if alone else self._scenario.processes)

    def _run(
        self,
        shares: Sequence[Sequence[WorkerPlan]],
        progress: Callable[[], int],
        gate: Gate | None = None,
        hold: Callable[[], bool] = lambda: False,
    ) -> None:
        troubles = run_workers(
            shares,
            progress=progress,
            stall_s=_PATIENCE * self._scenario.stall_s + self._scenario.longest_pause_s,
            started=self._note_consumers,
            needed=lambda worker: isinstance(worker.plans[0], ProducerPlan),
            gate=gate,
            hold=hold,
            make_crew=self._make_crew or Crew,
        )
        for trouble in troubles:
            self._write(TroubleSeen(text=trouble))
        peaks = (max(peak_of(plan.directory) for plan in plans) for plans in shares)
        self._write(MemoryUsed(peak_rss_bytes=peak_rss_bytes() + sum(peaks)))

    def _note_consumers(self, workers: Sequence[AtWork]) -> None:
        self._disturber.note_consumers(
            [
                ConsumerAtWork(worker, plan.queue, plan.directory, plan.subscription.auto_ack)
                for worker in workers
                if isinstance(worker, Worker)  # no other can be killed from here
                for plan in worker.plans
                if isinstance(plan, ConsumerPlan)
            ]
        )
