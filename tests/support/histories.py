"""Runs that never were: their directories as workers and a runner would have written them."""

import uuid
from dataclasses import dataclass, field

import numpy as np

from rmqbench.message import Recipe
from rmqbench.run_directory import RunDirectory
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelClosed,
    ChannelOpened,
    Declared,
    DrainTried,
    Journal,
    MessagesRemoved,
    TroubleSeen,
    WorkEnded,
    WorkStarted,
)
from rmqbench.run_directory.journal_facts import errors_of_clients
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.recorder import DeliveryRecorder
from rmqbench.verdict.evidence import (
    COPY,
    ConsumerChannel,
    ConsumerEvidence,
    Drain,
    Evidence,
    Incident,
    ProducerChannel,
    ProducerEvidence,
    QueueEvidence,
    Removal,
)

RUN = uuid.UUID(int=77)
RECIPE = Recipe(RUN, producer_id="me", host="here")
SENT_AT = 1_790_000_000_000_000_000


@dataclass
class Published:
    """What one producer did: the state of each message; where its channels began.

    ``copies`` holds (sequence, channel) of what was sent again.
    """

    state: list
    channel_starts: tuple = (0,)
    copies: tuple = ()
    ended: bool = True
    error: str | None = None


@dataclass
class Consumed:
    """What one consumer did: (producer, sequence, redelivered) in order, and what it reported.

    A fourth number of a delivery says which copy it was, from 0 on; -1 is none that was sent.
    """

    deliveries: list = field(default_factory=list)
    incidents: tuple = ()
    acknowledged: bool = True
    closed: bool = True
    ended: bool = True


@dataclass
class Queued:
    """What became of one queue."""

    name: str
    consumers: list
    proof: Drain | None = field(default_factory=lambda: Drain(True))
    removals: tuple = ()
    only_consumer: bool = True


@dataclass
class History:
    """A whole run. :meth:`write` makes its directory and returns what its writers knew."""

    published: list
    queues: list
    allowed: tuple = ()
    troubles: tuple = ()

    def write(self, path):
        directory = RunDirectory.make(path, "")
        counts = [len(each.state) for each in self.published]
        directory.write_description(self._description(counts))
        with directory.open_journal() as journal:
            names = [queue.name for queue in self.queues]
            journal.write(
                Declared(
                    exchange="x",
                    routing_key="k",
                    queues=names,
                    arguments=[{} for _ in names],
                    notes=[],
                )
            )
            producers = [
                self._publish(directory.producer(number), each)
                for number, each in enumerate(self.published)
            ]
            for text in self.troubles:
                journal.write(TroubleSeen(text=text))
            queues = [
                self._drain(directory, index, queue, counts, journal)
                for index, queue in enumerate(self.queues)
            ]
        errors = [
            (f"producer {number}", each.error)
            for number, each in enumerate(self.published)
            if each.ended and each.error
        ]
        troubles = tuple(dict.fromkeys((*self.troubles, *errors_of_clients(errors))))
        return Evidence(RECIPE, producers, queues, troubles=troubles)

    def _description(self, counts):
        queues = [
            {
                "name": queue.name,
                "arguments": {},
                "consumers": 1 if queue.only_consumer else 2,
            }
            for queue in self.queues
        ]
        return {
            "run": str(RUN),
            "scenario": {},
            "counts": counts,
            "recipe": RECIPE.as_dict(),
            "queues": queues,
            "allowed": list(self.allowed),
            "faults": [],
            "broker": {"version": "0"},
        }

    def _publish(self, place, published):
        count = len(published.state)
        PublishLedger.create(place, count)
        ledger = PublishLedger.open(place)
        ledger.state[:] = published.state
        ledger.sent_ns[:] = sent_ns(np.arange(count))
        copies = np.zeros(len(published.copies), COPY)
        seen = {}
        for row, (sequence, channel) in zip(copies, published.copies, strict=True):
            seen[sequence] = seen.get(sequence, 0) + 1
            row["sequence"], row["channel"] = sequence, channel
            row["sent_ns"] = sent_ns(sequence, seen[sequence])
        ledger.copies_path.write_bytes(copies.tobytes())
        with Journal(place / JOURNAL_FILE) as journal:
            journal.write(WorkStarted())
            for number, first in enumerate(published.channel_starts):
                journal.write(ChannelOpened(number=number + 1, first=first))
            if published.ended:
                journal.write(
                    WorkEnded(
                        until_ns=9,
                        cpu_s=0.0,
                        messages=count,
                        repeats=len(copies),
                        error=published.error,
                    )
                )
        return ProducerEvidence(
            np.array(published.state, np.uint8),
            sent_ns(np.arange(count)),
            copies,
            tuple(
                ProducerChannel(n + 1, first) for n, first in enumerate(published.channel_starts)
            ),
            ended=published.ended,
        )

    def _drain(self, directory, index, queue, counts, journal):
        idle = (1 if queue.only_consumer else 2) - len(queue.consumers)  # given nothing
        consumers = [
            self._consume(directory.consumer(index, number), each, counts)
            for number, each in enumerate([*queue.consumers, *[Consumed()] * idle])
        ]
        for cause, at_most in queue.removals:
            journal.write(MessagesRemoved(queue=queue.name, cause=cause, at_most=at_most))
        proof = queue.proof
        if proof is None:
            proof = Drain(False, 0, "the run ended before its drain was proven")
        else:
            journal.write(
                DrainTried(
                    queue=queue.name,
                    proven=proof.proven,
                    ready=proof.ready,
                    detail=proof.detail,
                    there=proof.there,
                    looks=proof.looks,
                )
            )
        removals = tuple(Removal(*each) for each in queue.removals)
        return QueueEvidence(
            queue.name, consumers, proof, only_consumer=queue.only_consumer, removals=removals
        )

    def _consume(self, place, consumed, counts):
        DeliveryLedger.create(place, sum(counts))
        recorder = DeliveryRecorder(place, counts)
        with Journal(place / JOURNAL_FILE) as journal:
            journal.write(WorkStarted())
            recorder.open_channel()
            journal.write(ChannelOpened(time_ns=4_000, number=1))
            for n, (producer, sequence, redelivered, *copy) in enumerate(consumed.deliveries):
                one = (np.array([each]) for each in (producer, sequence, redelivered))
                stamp = np.array([stamp_of(producer, sequence, *copy)], np.uint32)
                places = recorder.record(*one, stamp, 5_000 + n)
                if consumed.acknowledged:
                    recorder.acknowledge(places, 9_000)
            for finding, producer, sequence in consumed.incidents:
                recorder.report(Incident(finding, 7, producer, sequence, "as reported"))
            closed = consumed.closed and consumed.ended
            if closed:
                journal.write(ChannelClosed(time_ns=9_000, number=1))
            if consumed.ended:
                journal.write(
                    WorkEnded(
                        until_ns=9,
                        cpu_s=0.0,
                        messages=recorder.deliveries,
                        repeats=recorder.repeats,
                        incidents=recorder.incidents,
                    )
                )
        recorder.close()
        ledger = recorder.ledger
        columns = (ledger.state, ledger.stamp, ledger.first_ns)
        incidents = tuple(ledger.incidents())
        copies = (np.array(column) for column in columns)
        channels = (ConsumerChannel(1, 4_000, 9_000 if closed else None),)
        return ConsumerEvidence(*copies, ledger.again(), incidents, channels)


def sent_ns(sequence, copy=0):
    """Return when a copy of a message was sent; a copy below 0 was not."""
    return SENT_AT + sequence + 1_000_000 * copy


def stamp_of(producer, sequence, copy=0):
    """Return the checksum in the head of a copy of a message."""
    stamps = RECIPE.stamps(producer, np.array([sequence]), np.array([sent_ns(sequence, copy)]))
    return stamps[0]
