"""Read a run's directory: the evidence for its verdict, and all else that its figures need."""

from __future__ import annotations

import errno
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.message import Recipe
from rmqbench.pieces import count_where, pieces
from rmqbench.run_directory.directory import RunDirectory
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelClosed,
    ChannelOpened,
    ConsumerLeaving,
    Declared,
    DrainTried,
    Entry,
    NotServed,
    Restarted,
    WorkEnded,
    WorkReady,
    read_journal,
)
from rmqbench.run_directory.journal_facts import (
    faults_that_failed,
    policies_of,
    removals_from,
    troubles,
)
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger, dead_letters_in
from rmqbench.run_directory.records import (
    ConsumerRecord,
    DeadLetterRecord,
    ProducerRecord,
    QueueRecord,
    RunRecord,
)
from rmqbench.run_directory.transfer import is_away
from rmqbench.schedule import Schedule
from rmqbench.text import counted
from rmqbench.verdict.evidence import (
    AGAIN,
    COPY,
    LET_GO,
    REJECTED,
    REPORTED,
    REQUEUED,
    ConsumerChannel,
    ConsumerEvidence,
    Drain,
    Evidence,
    Incident,
    ProducerChannel,
    ProducerEvidence,
    QueueEvidence,
    Removal,
    Restart,
    Unserved,
)
from rmqbench.verdict.findings import FindingName
from rmqbench.verdict.removals import (
    Circumstances,
    may_remove,
    removals_by_settings,
)

__all__ = ["entries_of", "peak_of", "read_run", "stands_ready"]

# https://www.rabbitmq.com/docs/quorum-queues#position-tracking-limit
_DELIVERY_LIMIT, _DELIVERY_LIMIT_SINCE = 20, 4
_PROPERTIES_WEIGHT = 2  # how it counts them is its own affair: more than as encoded
_NOT_DRAINED = Drain(False, 0, "the run ended before its drain was proven")


def read_run(path: Path) -> RunRecord:
    """Read the directory of a run, finished or not.

    What should be there and cannot be read is missing evidence, a sentence each. Raise UsageError
    where it is no run's directory, or one of another format.
    """
    directory = RunDirectory(path)
    description = directory.read_description()
    try:
        return _Reader(directory, description).read()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UsageError(
            f"{path} holds a run.json that does not describe a run ({error!r}).",
            "Name the directory that the run printed.",
        ) from None


def entries_of(worker: Path) -> list[Entry]:
    """Return what a worker has written so far; nothing where that cannot be read.

    One that was ended before its first word has no journal. What is wrong with one that there is,
    :func:`read_run` finds, too.
    """
    try:
        return list(read_journal(worker / JOURNAL_FILE))
    except (OSError, ValueError):
        return []


def peak_of(worker: Path) -> int:
    """Return the most memory that a worker had, in bytes; 0 where it did not record its end."""
    ends = (each for each in entries_of(worker) if isinstance(each, WorkEnded))
    return max((each.peak_rss_bytes for each in ends), default=0)


def stands_ready(worker: Path) -> bool:
    """Whether a worker waits for the word to begin, is at work already, or has ended."""
    return any(
        isinstance(each, WorkReady | ChannelOpened | WorkEnded) for each in entries_of(worker)
    )


class _Reader:
    """Reads one directory, and collects what of it is missing."""

    def __init__(self, directory: RunDirectory, description: Mapping[str, Any]) -> None:
        self._directory = directory
        self._description = description
        self._recipe = _recipe(description)
        self._counts = [int(count) for count in description["counts"]]
        stretches = description.get("schedule")
        self._schedule = None if stretches is None else Schedule.from_list(stretches)
        self._missing: list[str] = []

    def read(self) -> RunRecord:
        description = self._description
        entries = self._journal(self._directory.journal_path, "the run")
        producers = [self._producer(number) for number in range(len(self._counts))]
        queues = self._queues(entries)
        arrived = self._arrived(producers)
        by_name = {each.name: self._queue_evidence(each, entries, arrived) for each in queues}
        restarts = tuple(
            Restart(each.after_ns, each.before_ns)
            for each in entries
            if isinstance(each, Restarted)
        )
        evidence = Evidence(
            recipe=self._recipe,
            producers=[self._producer_evidence(each) for each in producers],
            queues=[self._with_dead_letters(each, by_name, bool(restarts)) for each in queues],
            restarts=restarts,
            missing=(*self._missing, *faults_that_failed(description, entries, producers)),
            troubles=tuple(troubles(entries, producers, queues)),
        )
        return RunRecord(self._directory, description, entries, producers, queues, evidence)

    def _journal(self, path: Path, whose: str) -> list[Entry]:
        """Read a journal as far as it can be read."""
        entries: list[Entry] = []
        try:
            entries.extend(read_journal(path))
        except (OSError, ValueError) as error:
            self._missing.append(f"the journal of {whose} cannot be read ({_reason(error)})")
        return entries

    def _producer(self, number: int) -> ProducerRecord:
        name, place = f"producer {number}", self._directory.producer(number)
        count = self._counts[number]
        ledger, readable = self._ledger(PublishLedger, place, count, name)
        journal = self._worker_journal(place, name)
        copies = self._rows(PublishLedger.copies, ledger, COPY, f"the copies of {name}")
        schedule = self._schedule and self._schedule.share(number, len(self._counts))
        record = ProducerRecord(name, journal, ledger, copies, readable, schedule)
        if record.end is not None:
            self._require_all(record.name, ("copy", "copies"), record.end.repeats, len(copies))
        return record

    def _queues(self, entries: Sequence[Entry]) -> list[QueueRecord]:
        declared = next((each for each in entries if isinstance(each, Declared)), None)
        queues = []
        for index, asked in enumerate(self._description["queues"]):
            name = declared.queues[index] if declared else str(asked["name"])
            arguments = declared.arguments[index] if declared else dict(asked["arguments"])
            origins = len(asked.get("dead_letters_of", ()))
            consumers = [
                self._consumer(place, f"consumer {number} of {name}", origins)
                for number, place in enumerate(self._directory.consumers(index))
            ]
            queues.append(
                QueueRecord(self._directory.queue(index), asked, name, arguments, consumers)
            )
        return [
            replace(queue, dead_letters=_received_of(index, queues))
            for index, queue in enumerate(queues)
        ]

    def _consumer(self, place: Path, name: str, origins: int) -> ConsumerRecord:
        journal = self._worker_journal(place, name)
        ledger, readable = self._ledger(DeliveryLedger, place, sum(self._counts), name)
        if not journal and ledger.state.any():
            self._missing.append(f"the journal of {name} is not there")
        again = self._rows(DeliveryLedger.again, ledger, AGAIN, f"the repeats of {name}")
        dead_letters = [
            self._dead_letters(dead_letters_in(place, index), name, journal)
            for index in range(origins)
        ]
        record = ConsumerRecord(name, journal, ledger, again, readable, dead_letters)
        if record.end is not None:
            what = "repeated delivery", "repeated deliveries"
            self._require_all(name, what, record.end.repeats, len(again))
            what = "repeated delivery of a dead letter", "repeated deliveries of dead letters"
            recorded = record.end.dead_letters_again
            for count, received in zip(recorded, dead_letters, strict=False):
                self._require_all(name, what, count, len(received.again))
        return record

    def _dead_letters(self, place: Path, name: str, journal: list[Entry]) -> ConsumerRecord:
        """Return what a consumer received of another queue's dead letters."""
        whose = f"the dead letters of {name}"
        ledger, readable = self._ledger(DeliveryLedger, place, sum(self._counts), whose)
        again = self._rows(DeliveryLedger.again, ledger, AGAIN, f"the repeats of {whose}")
        return ConsumerRecord(name, journal, ledger, again, readable)

    def _worker_journal(self, place: Path, name: str) -> list[Entry]:
        """Read a worker's journal; one that was ended before its first word has none."""
        path = place / JOURNAL_FILE
        return self._journal(path, name) if path.exists() else []

    def _ledger(
        self, kind: type[_Ledger], place: Path, count: int, whose: str
    ) -> tuple[_Ledger, bool]:
        """Return a ledger, or an empty one in its place, and whether it could be read."""
        try:
            if is_away(place):
                raise ValueError("its evidence did not come back from the host where it worked")
            ledger = kind.read(place)
            if any(array.shape != (count,) for array in ledger.arrays.values()):
                raise ValueError(f"it is not of {counted(count, 'message')}")
            return ledger, True
        except (OSError, ValueError, EOFError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise RmqbenchError(
                    f"The ledger of {whose} cannot be opened: {error.strerror}.",
                    "Raise the limit on open files (ulimit -n).",
                ) from None
            self._missing.append(f"the ledger of {whose} cannot be read ({_reason(error)})")
            return kind.empty(place, count), False

    def _rows(
        self,
        read: Callable[[_Ledger], npt.NDArray[Any]],
        ledger: _Ledger,
        dtype: np.dtype[Any],
        what: str,
    ) -> npt.NDArray[Any]:
        """Return what stands in rows beside a ledger, or none of it where it cannot be read."""
        try:
            return read(ledger)
        except OSError as error:
            self._missing.append(f"{what} cannot be read ({_reason(error)}: {error.filename})")
            return np.zeros(0, dtype)

    def _producer_evidence(self, producer: ProducerRecord) -> ProducerEvidence:
        end, ledger = producer.end, producer.ledger
        channels = [
            ProducerChannel(each.number, each.first)
            for each in producer.of(ChannelOpened)
            if each.first is not None
        ]
        return ProducerEvidence(
            state=ledger.state,
            sent_ns=ledger.sent_ns,
            copies=producer.copies,
            channels=tuple(channels),
            incidents=self._incidents(producer),
            wanted=end.messages if end else None,
            let_go=_let_go(ledger),
            ended=end is not None and producer.readable,
            readable=producer.readable,
        )

    def _incidents(
        self, worker: ProducerRecord | ConsumerRecord, *, are_all: bool = True
    ) -> tuple[Incident, ...]:
        """Return what a worker has reported; ``are_all``: it knows how many these are."""
        incidents: tuple[Incident, ...] = ()
        path = worker.ledger.incidents_path
        try:
            incidents = tuple(worker.ledger.incidents())
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._missing.append(f"{path} cannot be read ({_reason(error)})")
        if not are_all:
            return incidents
        if isinstance(worker, ConsumerRecord):
            self._require_incidents(worker, incidents)
        if worker.end is not None and len(incidents) < worker.end.incidents:
            self._missing.append(
                f"{worker.name} reported {counted(worker.end.incidents, 'incident')}, and "
                f"{counted(len(incidents), 'of them is', 'of them are')} there"
            )
        return incidents

    def _require_all(self, whose: str, what: tuple[str, str], recorded: int, there: int) -> None:
        """Report where rows are gone of what was sent or delivered again."""
        if there < recorded:
            self._missing.append(
                f"{whose} recorded {counted(recorded, *what)}, and "
                f"{counted(there, 'of them is', 'of them are')} there"
            )

    def _queue_evidence(
        self, queue: QueueRecord, entries: Sequence[Entry], arrived: tuple[int, int]
    ) -> QueueEvidence:
        """Return the evidence of a queue; ``arrived`` is what :meth:`_arrived` returns."""
        drains = [e for e in entries if isinstance(e, DrainTried) and e.queue == queue.name]
        drain = _NOT_DRAINED
        if drains:
            last = drains[-1]
            others = max(each.others for each in drains)
            drain = Drain(
                last.proven, last.ready, last.detail, last.there, last.looks, last.held, others
            )
        consumers = [
            self._consumer_evidence(each, self._incidents(each)) for each in queue.consumers
        ]
        count, bodies = arrived
        overhead = self._counted_overhead(queue)
        requeued = [
            count_where(each.state, lambda state: state & REQUEUED)
            for each in consumers
            if "requeue" in json.dumps(queue.asked, default=str)  # else nothing is read
        ]
        circumstances = Circumstances(
            arrived=count,
            arrived_bytes=bodies + count * overhead,
            largest_bytes=self._recipe.sizes.largest + overhead,
            foreign=sum(
                incident.finding is FindingName.FOREIGN
                for consumer in consumers
                for incident in consumer.incidents
            ),
            there=drain.there,
            emptied_ns=drains[-1].time_ns if drains else None,
            given_back=self._given_back(queue),
            prefetch=_prefetch(queue.asked),
            looks=sum(each.looks for each in drains),
            requeued=sum(requeued),
            requeuers=sum(each > 0 for each in requeued),
            negative_is_none=self._is_of_today,
        )
        arguments = queue.asked["arguments"]
        keeps = bool(queue.asked.get("keeps_dead_letters"))
        settings = [("", arguments), *policies_of(queue.name, entries)]
        if not any(name.endswith("delivery-limit") for _, values in settings for name in values):
            settings += self._default_settings(queue)
        if queue.dead_letters:  # what these take is not gone, but for that of a whole queue
            settings = [
                (source, {name: value for name, value in values.items() if "expires" in name})
                for source, values in settings
            ]
        return QueueEvidence(
            name=queue.name,
            consumers=consumers,
            drain=drain,
            only_consumer=queue.asked["consumers"] == 1,
            auto_ack=bool(queue.asked.get("auto_ack")),
            close_takes_acks=queue.asked.get("kind") != "quorum",
            complete=self._has_all_consumers(queue, len(drains))
            and all(each.readable for each in queue.consumers),
            removals=(
                *removals_by_settings(settings, circumstances),
                *removals_from(queue.name, entries),
            ),
            gets_all=queue.gets_all,
            keeps_dead_letters=keeps,
        )

    def _with_dead_letters(
        self, queue: QueueRecord, by_name: Mapping[str, QueueEvidence], was_restarted: bool
    ) -> QueueEvidence:
        """Return the evidence of a queue with what others received of its dead letters."""
        received = [
            replace(
                by_name[name],
                consumers=[
                    self._consumer_evidence(each, self._incidents(each, are_all=False))
                    for each in received.consumers
                ],
                only_consumer=False,
                complete=by_name[name].complete
                and all(each.readable for each in received.consumers),
                gets_all=False,
            )
            for name, received in queue.dead_letters.items()
        ]
        own = by_name[queue.name]
        removals = own.removals
        if received:
            # What a queue loses that gets dead letters is missing from where they come.
            others = [each for each in received if each.name != queue.name]
            removals += tuple(chain.from_iterable(each.removals for each in others))
            if was_restarted and not own.keeps_dead_letters:
                removals += (_lost_on_the_way(queue),)
        return replace(own, dead_letters=tuple(received), removals=removals)

    def _arrived(self, producers: Sequence[ProducerRecord]) -> tuple[int, int]:
        """Return how many messages were sent, copies included, and their bodies' bytes at most."""
        recipe = self._recipe
        count = total = 0
        for number, each in enumerate(producers):
            for piece in pieces(len(each.ledger.state)):
                sequences = piece.start + np.flatnonzero(each.ledger.sent(piece))
                count += len(sequences)
                total += recipe.total_bytes(number, sequences)
            count += len(each.copies)
            total += len(each.copies) * recipe.sizes.largest
        return count, total

    def _counted_overhead(self, queue: QueueRecord) -> int:
        """Return as how many bytes a queue counts a message besides its body, at the most.

        A classic queue counts the body; a quorum queue of 4.3 the properties, too (measured).
        """
        if queue.asked.get("kind") != "quorum":
            return 0
        return _PROPERTIES_WEIGHT * self._recipe.properties_size

    def _has_all_consumers(self, queue: QueueRecord, rounds: int) -> bool:
        """Whether each round of consumers has left as many directories as it had consumers."""
        there, were = len(queue.consumers), rounds * int(queue.asked["consumers"])
        if there < were:
            who = counted(were - there, "consumer")
            self._missing.append(f"the evidence of {who} of {queue.name} is not there")
        return there >= were

    def _given_back(self, queue: QueueRecord) -> int:
        """Return how often a channel ended with deliveries that were not acknowledged."""
        if queue.asked.get("auto_ack"):
            return 0
        return sum(
            sum(1 for _ in each.of(ChannelOpened)) - sum(1 for _ in each.of(ChannelClosed))
            for each in queue.consumers
        )

    def _default_settings(self, queue: QueueRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield what RabbitMQ sets by itself: a quorum queue's delivery limit, from 4.0 on."""
        if queue.asked.get("kind") == "quorum" and self._is_of_today:
            yield f"default of RabbitMQ {self._version}", {"delivery-limit": _DELIVERY_LIMIT}

    @property
    def _version(self) -> str:
        return str(self._description["broker"].get("version", ""))

    @property
    def _is_of_today(self) -> bool:
        """Whether a quorum queue has a delivery limit unless it is told that it has none."""
        major = self._version.partition(".")[0]
        return major.isdigit() and int(major) >= _DELIVERY_LIMIT_SINCE

    def _consumer_evidence(
        self, consumer: ConsumerRecord, incidents: tuple[Incident, ...]
    ) -> ConsumerEvidence:
        ledger = consumer.ledger
        closed = {each.number: each.time_ns for each in consumer.of(ChannelClosed)}
        left = {each.number: each.time_ns for each in consumer.of(ConsumerLeaving)}
        return ConsumerEvidence(
            state=ledger.state,
            stamp=ledger.stamp,
            first_ns=ledger.first_ns,
            again=consumer.again,
            incidents=incidents,
            channels=tuple(
                ConsumerChannel(
                    each.number, each.time_ns, closed.get(each.number), left.get(each.number)
                )
                for each in consumer.of(ChannelOpened)
            ),
            let_go=_let_go(ledger),
            unserved=tuple(
                Unserved(each.ready, each.since_ns, each.time_ns)
                for each in consumer.of(NotServed)
                if not self._description.get("in_place")  # where others may be served
            ),
            holds=ledger.may_hold(),
        )

    def _require_incidents(self, consumer: ConsumerRecord, incidents: Sequence[Incident]) -> None:
        """Report where it is gone what was wrong with a message that was taken as corrupted."""
        columns = (consumer.ledger.state, consumer.again["flags"])
        reported = sum(count_where(each, lambda flags: flags & REPORTED) for each in columns)
        there = sum(each.finding is FindingName.CORRUPTED for each in incidents)
        if there < reported:
            self._missing.append(
                f"{consumer.name} reported {reported} corrupted messages, and {there} of them are "
                "there"
            )


def _prefetch(asked: Mapping[str, Any]) -> int:
    """Return how many messages any consumer of a queue can have held."""
    own = (each.get("prefetch") for each in asked.get("settings", ()))
    return max(int(asked.get("prefetch", 0xFFFF)), *(int(each or 0) for each in own), 0)


def _lost_on_the_way(queue: QueueRecord) -> Removal:
    """Return that dead letters are published once, and not confirmed, where the node restarted.

    By https://www.rabbitmq.com/docs/dlx#safety. These are no more than were rejected, unless the
    queue gives messages up by itself.
    """
    cause = "dead letters are published at most once, and the node restarted"
    if may_remove(queue.asked["arguments"]):
        return Removal(cause)
    rejected = sum(
        count_where(each.ledger.state, lambda state: state & REJECTED) for each in queue.consumers
    )
    return Removal(cause, rejected)


def _received_of(source: int, queues: Sequence[QueueRecord]) -> dict[str, DeadLetterRecord]:
    """Return what consumers received of the dead letters of a queue, by the names of theirs."""
    received = {}
    for queue in queues:
        origins = [int(each) for each in queue.asked.get("dead_letters_of", ())]
        if source in origins:
            at = origins.index(source)
            received[queue.name] = DeadLetterRecord(
                [each.dead_letters[at] for each in queue.consumers],
                bool(queue.asked.get("auto_ack")),
            )
    return received


_Ledger = TypeVar("_Ledger", PublishLedger, DeliveryLedger)


def _let_go(ledger: PublishLedger | DeliveryLedger) -> npt.NDArray[Any]:
    return np.zeros(0, LET_GO) if ledger.let_go is None else ledger.let_go.segments


def _recipe(description: Mapping[str, Any]) -> Recipe:
    fields = description["recipe"]
    return Recipe(**{**fields, "run": uuid.UUID(description["run"])})


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
