"""What a run's evidence shows around its findings: settings, restarts, breaks, faults, times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import pieces
from rmqbench.run_directory.journal import (
    ChannelClosed,
    ChannelOpened,
    Declared,
    DrainTried,
    FaultEvent,
    Interrupted,
    MessagesRemoved,
    StageBegan,
)
from rmqbench.run_directory.journal_facts import policies_of
from rmqbench.run_directory.ledger import PublishLedger, are_confirmed
from rmqbench.run_directory.records import (
    ConsumerRecord,
    ProducerRecord,
    QueueRecord,
    RunRecord,
    WorkerRecord,
)
from rmqbench.verdict.evidence import (
    CONFIRMED,
    NACKED,
    RETURNED,
    SENT,
    Drain,
    QueueEvidence,
    Restart,
)
from rmqbench.verdict.findings import Finding, FindingName, Verdict

__all__ = ["Break", "Facts", "QueueFacts", "span", "time_of_day"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_RESTARTING = frozenset({"kill-broker", "kill-newborn", "power-cut", "restart-broker"})
_SILENT_NS = 1_000_000_000  # how long a worker may have been silent when it was killed
_FELT_NS = 30_000_000_000  # how long after it struck a fault may be felt: a heartbeat runs out


@dataclass(frozen=True, slots=True)
class Break:
    """A channel of a worker that was not closed cleanly.

    ``at_ns`` is when the worker noticed, ``why`` what it noticed; where it did not live to write
    that down ``why`` is empty, and ``at_ns`` is its last sign of life (None: it left none).
    """

    worker: str
    channel: int
    at_ns: int | None
    why: str = ""


@dataclass(frozen=True, eq=False)
class QueueFacts:
    """One queue: as it was asked for, what its consumers recorded, what is known of it.

    ``policies`` are pairs: the names of policies, and what they come to.
    """

    record: QueueRecord
    evidence: QueueEvidence
    policies: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def kind(self) -> str:
        """Its type: ``classic`` where nothing else was asked for."""
        return str(self.settings.get("x-queue-type") or self.record.asked.get("kind", "classic"))

    @property
    def settings(self) -> dict[str, Any]:
        """Its arguments, as they were asked for and as they were sent."""
        return {**dict(self.record.asked.get("arguments") or {}), **dict(self.record.arguments)}

    def setting(self, name: str) -> tuple[str, Any] | None:
        """Return how something is set, and to what: by an argument, else by a policy.

        ``name`` is without the ``x-`` of arguments. None: it is not set.
        """
        if (argument := f"x-{name}") in self.settings:
            return argument, self.settings[argument]
        found = [
            (f"{source}: {name}", each[name]) for source, each in self.policies if name in each
        ]
        return found[-1] if found else None

    @property
    def durable(self) -> bool:
        """Whether it was declared to outlive its node."""
        return bool(self.record.asked.get("durable", True))

    @property
    def auto_ack(self) -> bool:
        """Whether the broker forgot each message as it sent it."""
        return bool(self.record.asked.get("auto_ack", False))

    @property
    def drain(self) -> Drain:
        """What it said of itself in the end."""
        return self.evidence.drain

    @cached_property
    def breaks(self) -> tuple[Break, ...]:
        """The channels of its consumers that were not closed cleanly."""
        return tuple(each for consumer in self.record.consumers for each in breaks_of(consumer))

    def settled(self, places: slice) -> BoolArray:
        """Return with which messages its consumers were through, of those at some places."""
        return self.record.settled(places)


class Facts:
    """What is known of a run, for whoever looks for causes."""

    def __init__(self, record: RunRecord, verdict: Verdict) -> None:
        self.record = record
        self.verdict = verdict
        self.recipe = record.evidence.recipe

    # --- what was asked for ---------------------------------------------------------------------

    @property
    def scenario(self) -> Mapping[str, Any]:
        """Every field of the scenario, as far as ``run.json`` has it."""
        found = self.record.description.get("scenario")
        return found if isinstance(found, Mapping) else {}

    @property
    def broker_log(self) -> str:
        """Where the broker's log is, in words."""
        kept = self.record.directory.broker_log_path.exists()
        return "broker.log in the run's directory" if kept else "the broker's log"

    @property
    def confirms(self) -> bool:
        """Whether publisher confirms were asked for."""
        return bool(self.scenario.get("confirms", True))

    @property
    def publish_again(self) -> bool:
        """Whether producers were to publish again what is indeterminate."""
        return bool(self.scenario.get("publish_again", False))

    # --- times ----------------------------------------------------------------------------------

    @cached_property
    def began_ns(self) -> int:
        """When the run began: its first entry, else the first thing that any worker did."""
        times = [each.time_ns for each in self.record.entries[:1]]
        times = times or [each.time_ns for worker in self.workers for each in worker.entries]
        if not times and self.first_sent_ns is not None:
            times = [self.first_sent_ns]
        return min(times, default=0)

    def at(self, time_ns: int) -> str:
        """Write when something was, in seconds since the run began."""
        return f"{(time_ns - self.began_ns) / 1e9:+.1f} s"

    # --- what happened --------------------------------------------------------------------------

    @property
    def workers(self) -> list[ProducerRecord | ConsumerRecord]:
        """All producers, and the consumers of all queues."""
        return [*self.record.producers, *self.consumers]

    @property
    def consumers(self) -> list[ConsumerRecord]:
        """The consumers of all queues."""
        return [consumer for queue in self.record.queues for consumer in queue.consumers]

    @cached_property
    def declared_ns(self) -> int | None:
        """When the declaration of the queues began."""
        declared = next(self.record.of(Declared), None)
        return (declared.since_ns or declared.time_ns) if declared else None

    @cached_property
    def restarts(self) -> tuple[Restart, ...]:
        """When the node restarted, or may have: by a fault of the run, or on record.

        A fault that restarts it says when it went down, too; what is on record of our own node says
        only when it was up again.
        """
        by_faults = [each for name in sorted(_RESTARTING) for each in self.restarts_by(name)]
        known = list(by_faults)
        for one in self.record.evidence.restarts:
            if not any(_overlap(one, other) for other in by_faults):
                known.append(one)
        return tuple(sorted(known, key=lambda each: each.after_ns))

    def restarts_by(self, fault: str) -> tuple[Restart, ...]:
        """Return when a fault of the run restarted the node."""
        known, struck_ns = [], None
        for event in self.record.of(FaultEvent):
            if event.fault != fault:
                continue
            if event.phase == "struck":
                struck_ns = event.time_ns
            elif event.phase == "over" and struck_ns is not None:
                known.append(Restart(struck_ns, event.time_ns))
                struck_ns = None
        return tuple(known)

    def restart_in_words(self, restart: Restart) -> str:
        """Return when the node restarted, and by which fault of the run if by one."""
        fault = self.fault_before(restart.before_ns)
        after, before = self.at(restart.after_ns), self.at(restart.before_ns)
        if restart.after_ns == restart.before_ns:
            return f"the node restarted at {after}{fault}"
        sure = "" if fault else ", or may have,"
        return f"the node restarted{sure} between {after} and {before}{fault}"

    def fault_before(self, time_ns: int) -> str:
        """Return which fault of the run struck before a moment, close enough to be felt then."""
        found = ""
        over = {
            (e.fault, e.own): e.time_ns for e in self.record.of(FaultEvent) if e.phase == "over"
        }
        for event in self.record.of(FaultEvent):
            lasted_ns = max(event.time_ns, over.get((event.fault, event.own), event.time_ns))
            if event.phase == "struck" and event.time_ns <= time_ns <= lasted_ns + _FELT_NS:
                found = f" (the run's own fault {event.fault}, {self.at(event.time_ns)})"
        return found

    @cached_property
    def producer_breaks(self) -> tuple[Break, ...]:
        """The channels of producers that broke off."""
        return tuple(each for producer in self.record.producers for each in breaks_of(producer))

    def break_in_words(self, one: Break) -> str:
        """Return whose connection broke, when and why; no full stop at the end."""
        if one.why:
            assert one.at_ns is not None
            why = one.why.strip().rstrip(".")
            fault = self.fault_before(one.at_ns)
            return f"{one.worker} was interrupted at {self.at(one.at_ns)}{fault}: {why}"
        over = any(each.stage == "judge" for each in self.record.of(StageBegan))
        what = f"{one.worker} was killed" + ("" if over else ", or is still at work")
        if one.at_ns is None:
            return what
        fault = self.fault_before(one.at_ns + _SILENT_NS)
        return f"{what} (its last sign of life: {self.at(one.at_ns)}){fault}"

    @cached_property
    def removals(self) -> tuple[MessagesRemoved, ...]:
        """What is on record to have taken messages out of queues: of each act the last entry."""
        acts: dict[object, MessagesRemoved] = {}
        for number, each in enumerate(self.record.of(MessagesRemoved)):
            acts[each.act or number] = each
        return tuple(acts.values())

    def drains(self, queue: str) -> list[DrainTried]:
        """Return how often a queue was asked whether it is empty, and what it said."""
        return [each for each in self.record.of(DrainTried) if each.queue == queue]

    # --- queues and messages --------------------------------------------------------------------

    @cached_property
    def queues(self) -> dict[str, QueueFacts]:
        """The queues, by their declared names."""
        pairs = zip(self.record.queues, self.record.evidence.queues, strict=True)
        return {
            record.name: QueueFacts(
                record, evidence, tuple(dict(policies_of(record.name, self.record.entries)).items())
            )
            for record, evidence in pairs
        }

    def queue_of(self, finding: Finding) -> QueueFacts | None:
        """Return the queue that a finding is about; None if it is about publishes."""
        return self.queues.get(finding.queue) if finding.queue is not None else None

    @cached_property
    def first_sent_ns(self) -> int | None:
        """When the first message was sent; None: none was."""
        sent = (_sent_ns(each, each.sent_ns[these] > 0, these) for each, these, _ in self._pieces())
        return min((int(each.min()) for each in sent if len(each)), default=None)

    def concerned_sent_ns(self, finding: Finding) -> IntArray | None:
        """Return when the messages of a finding were first sent; 0: not.

        None where that is not known without judging again.
        """
        queue = self.queue_of(finding)
        found = []
        for ledger, these, places in self._pieces():
            state = ledger.state[these]
            if queue is not None and finding.name in {FindingName.LOST, FindingName.REMOVED}:
                concerned = are_confirmed(state) & ~queue.settled(places)
            elif finding.name is FindingName.INDETERMINATE:
                concerned = state & (SENT | CONFIRMED | NACKED | RETURNED) == SENT
            else:
                return None
            found.append(_sent_ns(ledger, concerned, these))
        return np.concatenate(found)

    def _pieces(self) -> Iterator[tuple[PublishLedger, slice, slice]]:
        """Yield the producers' ledgers in pieces, and the places of these among all messages."""
        start = 0
        for producer in self.record.producers:
            for these in pieces(len(producer.ledger.state)):
                yield producer.ledger, these, slice(start + these.start, start + these.stop)
            start += len(producer.ledger.state)

    def producer_of(self, number: int) -> ProducerRecord | None:
        """Return a producer by its number; None where there is none."""
        producers = self.record.producers
        return producers[number] if 0 <= number < len(producers) else None


def _sent_ns(ledger: PublishLedger, which: BoolArray, these: slice) -> IntArray:
    times_ns: IntArray = ledger.sent_ns[these][which]
    return times_ns


def breaks_of(worker: ProducerRecord | ConsumerRecord) -> Iterator[Break]:
    """Yield the channels of a worker that broke off.

    One behind which another was opened did, unless it was closed cleanly, and so did the last one
    of a worker that gave up or did not record its end. Of a producer's last channel no clean end is
    written down: that of one that has ended well is taken for sound.
    """
    opened = list(worker.of(ChannelOpened))
    closed = {each.number for each in worker.of(ChannelClosed)}
    until_ns = [each.time_ns for each in opened[1:]]
    for at, channel in enumerate(opened):
        if channel.number in closed:
            continue
        if at < len(until_ns):
            told = _interruption(worker, channel.time_ns, until_ns[at])
            why = told.why if told else "no reason is on record"
            yield Break(worker.name, channel.number, told.time_ns if told else until_ns[at], why)
        elif worker.end is None:
            yield Break(worker.name, channel.number, _last_sign(worker))
        elif worker.end.error or isinstance(worker, ConsumerRecord):
            told = _interruption(worker, channel.time_ns, worker.end.time_ns)
            why = told.why if told else worker.end.error or "it was not closed cleanly"
            at_ns = told.time_ns if told else worker.end.time_ns
            yield Break(worker.name, channel.number, at_ns, why)


def _interruption(worker: WorkerRecord, since_ns: int, until_ns: int) -> Interrupted | None:
    """Return the last interruption between two moments: the one that ended a channel."""
    told = [each for each in worker.of(Interrupted) if since_ns <= each.time_ns <= until_ns]
    return told[-1] if told else None


def _last_sign(worker: ProducerRecord | ConsumerRecord) -> int | None:
    """Return the last moment at which a worker is known to have been alive."""
    times = [each.time_ns for each in worker.entries]
    if isinstance(worker, ConsumerRecord):
        times += [int(worker.again["at_ns"].max(initial=0))]
    else:
        times += [int(worker.ledger.sent_ns.max(initial=0))]
    times += [worker.ledger.last_ns]
    return max(times, default=0) or None


def _overlap(one: Restart, other: Restart) -> bool:
    return one.after_ns <= other.before_ns and other.after_ns <= one.before_ns


def time_of_day(time_ns: int, digits: int = 0) -> str:
    """Write Unix nanoseconds as a time of day in UTC."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    fraction = f".{nanoseconds:09}"[: digits + 1] if digits else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}{fraction}"


def span(times_ns: Sequence[int] | IntArray) -> str:
    """Write from when to when, in whole seconds of UTC."""
    first, last = time_of_day(int(min(times_ns))), time_of_day(int(max(times_ns)))
    return f"around {first} UTC" if first == last else f"from {first} to {last} UTC"
