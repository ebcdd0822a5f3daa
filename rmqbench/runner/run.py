"""Run a scenario: declare, publish, drain, judge. What happens when, and nothing else."""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import rmqbench
from rmqbench.amqp import topology as topologies
from rmqbench.amqp.vector_switch import vector_path_is_on
from rmqbench.broker import Broker, wait_until
from rmqbench.clients.consumer import ConsumerPlan
from rmqbench.clients.producer import ProducerPlan, ProducerReport
from rmqbench.clients.recovery import Interruption
from rmqbench.errors import DeadlineExceeded, RmqbenchError, UsageError
from rmqbench.faults.disturbance import Disturbance, Disturber
from rmqbench.management.sampler import Sampler
from rmqbench.runner.drain import Drained, drain_queue
from rmqbench.runner.isolation import Place, declared_place
from rmqbench.runner.metrics import Phase, latency_of, phase_of
from rmqbench.runner.result import Backlog, QueueFigures, Result
from rmqbench.runner.scenario import Scenario
from rmqbench.runner.workers import Outcome, Plan, peak_rss_bytes, run_workers
from rmqbench.verdict.evidence import Evidence, ProducerEvidence
from rmqbench.verdict.ledger import CONFIRMED, NACKED, RETURNED, PublishLedger
from rmqbench.verdict.rules import judge
from rmqbench.verdict.run_directory import RunDirectory

__all__ = ["Progress", "Run", "run"]

_COUNT_S = 10.0  # how long a queue may take to show all that it has confirmed
_FIGURES_S = 60.0  # how long the broker's figures, emitted every 5 s, may take to show the same
_PATIENCE = 2.0  # workers end by themselves after stall_s; after this many times it, they are ended
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one phase (``publish``, or ``drain`` and a queue's name) has come.

    ``total`` is None where the end is not known.
    """

    phase: str
    done: int
    total: int | None


def run(
    scenario: Scenario,
    broker: Broker,
    *,
    directory: Path | None = None,
    in_place: bool = False,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Result:
    """Run a scenario against a broker and judge it.

    The evidence is kept in ``directory`` (None: a new one under the system's temporary
    directory). The run has a virtual host of its own unless ``in_place``; see
    :func:`rmqbench.runner.isolation.declared_place`. ``watch`` is called all along, with the
    progress.

    A bad verdict is not raised: ``result.verdict.require_pass()`` does that. Raises RmqbenchError
    where the run could not be begun.
    """
    with Run(scenario, broker, directory=directory, in_place=in_place, watch=watch) as stages:
        stages.publish()
        stages.look_at_backlog()
        stages.disturb_backlog()
        stages.drain_work_queue()
        stages.drain_audit_queue()
        return stages.judge()


class Run:
    """One run, stage by stage, each once and in the order in which they stand here.

    A context manager: entering it declares the topology, leaving it removes what was declared.
    :func:`run` does it all.
    """

    def __init__(
        self,
        scenario: Scenario,
        broker: Broker,
        *,
        directory: Path | None = None,
        in_place: bool = False,
        watch: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        if in_place and scenario.auto_ack:
            raise UsageError(
                "With auto_ack a queue is not used in place: what somebody else sends to it would "
                "be acknowledged, too.",
                "Leave out in_place: the run then has a virtual host of its own.",
            )
        self.scenario = scenario
        self.broker = broker
        self._in_place = in_place
        self._watch = watch
        self._id = uuid.uuid4()
        self._name = f"rmqbench-{self._id.hex[:12]}"
        self._recipe = scenario.recipe(self._id)
        self._directory = RunDirectory.make(
            directory, f"rmqbench-{scenario.name}-{self._id.hex[:8]}-"
        )
        self._disturber = Disturber(scenario, broker)
        self._workers_at = broker.endpoint
        self._interrupted = False
        self._stack = ExitStack()
        self._place: Place | None = None
        self._published: list[ProducerReport] = []
        self._ready: dict[str, int] = {}
        self._backlogs: dict[str, Backlog] = {}
        self._drained: list[Drained] = []
        self._troubles: list[str] = []
        self._peak_rss = 0

    def __enter__(self) -> Self:
        """Declare the topology in a place of its own."""
        self._directory.write_description(self._describe())
        with ExitStack() as stack:
            topology = self.scenario.topology()
            self._place = stack.enter_context(
                declared_place(self.broker, topology, self._name, in_place=self._in_place)
            )
            stack.enter_context(Sampler(self._place.endpoint, self._directory.path))
            self._workers_at = self._disturber.prepare(self._place, stack)
            self._stack = stack.pop_all()
        self._rest()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove what was declared."""
        self._stack.__exit__(kind, error, traceback)

    @property
    def place(self) -> Place:
        """Where the run happens; there once it is entered."""
        if self._place is None:
            raise RuntimeError("enter the run first: with Run(…) as stages")
        return self._place

    @property
    def confirmed(self) -> int:
        """How many publishes the broker has confirmed (and not returned)."""
        wanted = CONFIRMED | NACKED | RETURNED
        return sum(
            int(np.count_nonzero(ledger.state & wanted == CONFIRMED))
            for ledger in self._directory.publish_ledgers(self.scenario.producers)
        )

    def publish(self) -> Phase:
        """Publish everything, while no consumer is there."""
        self._directory.note_event("publish")
        scenario, place = self.scenario, self.place
        rate = scenario.publish_rate
        plans = [
            ProducerPlan(
                endpoint=self._workers_at,
                recipe=self._recipe,
                number=number,
                count=count,
                directory=self._directory.producer(number),
                exchange=place.topology.exchange,
                routing_key=place.topology.routing_key,
                window=scenario.window,
                rate=rate / scenario.producers if rate else None,
                confirms=scenario.confirms,
                publish_again=scenario.publish_again,
                vector=vector_path_is_on(),
                heartbeat_s=scenario.heartbeat_s,
                stall_s=scenario.stall_s,
            )
            for number, count in enumerate(scenario.counts)
        ]
        for plan in plans:
            PublishLedger.create(plan.directory, plan.count)
        states = [ledger.state for ledger in self._directory.publish_ledgers(scenario.producers)]

        def progress() -> int:
            done = sum(int(np.count_nonzero(s & (CONFIRMED | NACKED))) for s in states)
            self._disturber.announce("publish", done)
            self._watch(Progress("publish", done, scenario.messages))
            return done

        outcomes = self._run_plans(plans, [plan.directory for plan in plans], progress)
        self._disturber.settle()
        self._troubles += [outcome.trouble for outcome in outcomes if outcome.trouble]
        self._published = [outcome.report for outcome in outcomes if outcome.report is not None]
        self._troubles += [report.error for report in self._published if report.error]
        for report in self._published:
            self._note_interruptions(f"producer {report.number}", report.interruptions)
        return self._publish_phase()

    def look_at_backlog(self) -> None:
        """See what each queue holds before any consumer is there; it decides no verdict."""
        try:
            self._count_ready()
            if self.scenario.look_at_backlog:
                self._ask_for_figures()
        except RmqbenchError as error:
            self._troubles.append(f"The backlog could not be looked at: {error.what}")

    def disturb_backlog(self) -> None:
        """Let the faults strike that are for the standing backlog, and wait until they are over."""
        self._disturber.announce("backlog", self.confirmed)
        self._disturber.settle()

    def drain_work_queue(self) -> Phase:
        """Drain the work queue, alone, by as many consumers as the scenario has."""
        return self._drain(0, self.scenario.consumers)

    def drain_audit_queue(self) -> Phase:
        """Drain the audit queue, by one consumer."""
        return self._drain(1, 1)

    def _drain(self, index: int, consumers: int) -> Phase:
        scenario, place = self.scenario, self.place
        queue = place.topology.queue_names[index]
        rate = None if index else scenario.consume_rate
        self._directory.note_event(f"drain {queue}")
        plan = ConsumerPlan(
            endpoint=self._workers_at,
            recipe=self._recipe,
            counts=scenario.counts,
            number=0,
            queue=queue,
            directory=self._directory.queue(index),
            exchange=place.topology.exchange,
            routing_key=place.topology.routing_key,
            prefetch=scenario.prefetch,
            rate=rate / consumers if rate else None,
            auto_ack=scenario.auto_ack,
            vector=vector_path_is_on(),
            heartbeat_s=scenario.heartbeat_s,
            stall_s=scenario.stall_s,
        )

        def watch(done: int) -> None:
            self._disturber.announce("audit" if index else "drain", done)
            self._watch(Progress(f"drain {queue}", done, scenario.messages))

        drained = drain_queue(plan, consumers, self._run_plans, watch, self._disturbance)
        self._troubles += drained.troubles
        for number, interruption in drained.interruptions:
            self._note_interruptions(f"consumer {number} of {queue}", (interruption,))
        self._drained.append(drained)
        return drained.phase

    def judge(self) -> Result:
        """Judge the evidence, write ``result.json``, and give the result."""
        self._directory.note_event("judge")
        for at_ns, event in self._disturber.events():
            self._directory.note_event(event, "fault", at_ns)
        scenario, place = self.scenario, self.place
        ledgers = self._directory.publish_ledgers(scenario.producers)
        starts = {report.number: report.channel_starts for report in self._published}
        evidence = Evidence(
            recipe=self._recipe,
            producers=[
                ProducerEvidence(ledger.state, ledger.sent_ns, starts.get(number))
                for number, ledger in enumerate(ledgers)
            ],
            queues=[
                replace(drained.evidence, removals=self._disturber.removals(queue))
                for queue, drained in zip(place.topology.queues, self._drained, strict=True)
            ],
            missing=(
                *(
                    f"producer {number} ended without a report: on which channels it published is "
                    "not known"
                    for number in range(scenario.producers)
                    if number not in starts
                ),
                *(each for drained in self._drained for each in drained.missing),
                *self._disturber.failures(),
            ),
            troubles=tuple(self._troubles),
        )
        work, audit = (drained.phase for drained in self._drained)
        result = Result(
            run=str(self._id),
            scenario=scenario.as_dict(),
            broker=self._describe_broker(),
            verdict=judge(
                evidence, allowed=scenario.allowed, evidence_at=str(self._directory.path)
            ),
            messages=scenario.messages,
            confirmed=self.confirmed,
            queues={
                queue.name: QueueFigures(
                    arguments=topologies.arguments(queue, self.broker.version)[0],
                    ready_after_publish=self._ready.get(queue.name),
                    ready_after_drain=drained.evidence.drain.ready,
                    delivered=drained.delivered,
                    reordered_redeliveries=drained.reordered_redeliveries,
                    backlog=self._backlogs.get(queue.name),
                )
                for queue, drained in zip(place.topology.queues, self._drained, strict=True)
            },
            publish=self._publish_phase(),
            confirm_latency=latency_of(
                np.concatenate([ledger.sent_ns for ledger in ledgers]),
                np.concatenate([ledger.settled_ns for ledger in ledgers]),
            ),
            consume=work,
            audit=audit,
            peak_rss_mib=max(self._peak_rss, peak_rss_bytes()) / 2**20,
            directory=self._directory.path,
            events=tuple(self._directory.events()),
            notes=place.notes,
        )
        self._directory.write_result(result.as_dict())
        return result

    def _rest(self) -> None:
        """Leave the queues alone for as long as the scenario says."""
        if self.scenario.rest_s:
            self._directory.note_event(f"rest for {self.scenario.rest_s:g} s")
            time.sleep(self.scenario.rest_s)

    def _note_interruptions(self, who: str, interruptions: Sequence[Interruption]) -> None:
        for each in interruptions:
            self._interrupted = True
            text = f"{who} was interrupted: {each.why}"
            self._directory.note_event(text, "interruption", each.at_ns)

    def _disturbance(self, interrupted: bool) -> Disturbance:
        return self._disturber.state(interrupted=interrupted or self._interrupted)

    def _publish_phase(self) -> Phase:
        return phase_of(
            self.confirmed,
            [(report.started_ns, report.ended_ns) for report in self._published],
            sum(report.cpu_s for report in self._published),
        )

    def _count_ready(self) -> None:
        """Count what is ready, exactly.

        A queue may show a message a moment after it has confirmed it: it is asked again until all
        confirmed ones are there.
        """
        place, confirmed = self.place, self.confirmed

        def all_there() -> bool:
            self._ready = topologies.ready_counts(place.endpoint, place.topology.queue_names)
            # Where something struck or is removed some may be missing for good: the drain tells.
            return (
                self._disturber.struck
                or any(map(self._disturber.removals, place.topology.queues))
                or all(ready >= confirmed for ready in self._ready.values())
            )

        with suppress(DeadlineExceeded):  # it is what the queue says in the end
            wait_until(all_there, _COUNT_S, "the backlog to be ready", every_s=_POLL_S)

    def _ask_for_figures(self) -> None:
        """Ask the Management API where the backlog is, once its figures have caught up with it."""
        virtual_host = self.place.endpoint.virtual_host
        with self.broker.management as management:
            for name in self.place.topology.queue_names:
                figures: dict[str, Any] = {}

                def caught_up(name: str = name, figures: dict[str, Any] = figures) -> bool:
                    figures.clear()
                    figures.update(management.queue(name, virtual_host))
                    ready, size = self._ready[name], self._recipe.body_size
                    # The API gathers the count and the rest apart, each at a time of its own: bytes
                    # (with the properties, where a queue counts those) come with ``messages_ram``.
                    return bool(
                        figures.get("messages_ready") == ready
                        and figures.get("message_bytes_ready", -1) >= ready * size
                    )

                what = f"the Management API to show what is ready in {name}"
                wait_until(caught_up, _FIGURES_S, what, every_s=_POLL_S)
                self._backlogs[name] = Backlog(figures.get("messages_ram"), figures.get("memory"))

    def _run_plans(
        self,
        plans: Sequence[Plan],
        directories: Sequence[Path],
        progress: Callable[[], int],
    ) -> list[Outcome]:
        outcomes = run_workers(
            plans,
            [directory / "worker.log" for directory in directories],
            progress=progress,
            stall_s=_PATIENCE * self.scenario.stall_s,
            started=lambda workers: self._disturber.note_workers(workers, directories),
        )
        together = peak_rss_bytes() + sum(outcome.peak_rss_bytes for outcome in outcomes)
        self._peak_rss = max(self._peak_rss, together)
        return outcomes

    def _describe(self) -> dict[str, object]:
        return {
            "run": str(self._id),
            "scenario": self.scenario.as_dict(),
            "counts": list(self.scenario.counts),
            "broker": self._describe_broker(),
            "vector": vector_path_is_on(),
            "versions": {
                "rmqbench": rmqbench.__version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("pika", "numpy")},
            },
            "platform": platform.platform(),
        }

    def _describe_broker(self) -> dict[str, str]:
        broker = self.broker
        return {
            "kind": broker.kind,
            "version": broker.version,
            "how": broker.how,
            "endpoint": str(broker.endpoint),
        }
