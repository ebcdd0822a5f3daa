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
from rmqbench.run_directory.ledger import DeliveryLedger, DeliveryRecorder, PublishLedger
from rmqbench.verdict.evidence import (
    ConsumerEvidence,
    Drain,
    Evidence,
    Incident,
    ProducerEvidence,
    QueueEvidence,
    Removal,
)

RUN = uuid.UUID(int=77)
RECIPE = Recipe(RUN, producer_id="me", host="here")


@dataclass
class Published:
    """What one producer did: the state of each message; where its channels began."""

    state: list
    channel_starts: tuple = (0,)
    ended: bool = True
    error: str | None = None


@dataclass
class Consumed:
    """What one consumer did: (producer, sequence, redelivered) in order, and what it reported."""

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
        errors = tuple(each.error for each in self.published if each.ended and each.error)
        return Evidence(RECIPE, producers, queues, troubles=(*self.troubles, *errors))

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
            "recipe": {
                "text": RECIPE.text,
                "size_bytes": None,
                "producer_id": "me",
                "host": "here",
                "persistent": True,
            },
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
        ledger.sent_ns[:] = np.arange(count) + 1_000
        with Journal(place / JOURNAL_FILE) as journal:
            journal.write(WorkStarted())
            for number, first in enumerate(published.channel_starts):
                journal.write(ChannelOpened(number=number + 1, first=first))
            if published.ended:
                journal.write(
                    WorkEnded(until_ns=9, cpu_s=0.0, messages=count, error=published.error)
                )
        return ProducerEvidence(
            np.array(published.state, np.uint8),
            np.arange(count) + 1_000,
            tuple(published.channel_starts),
            ended=published.ended,
        )

    def _drain(self, directory, index, queue, counts, journal):
        consumers = [
            self._consume(directory.consumer(index, number), each, counts)
            for number, each in enumerate(queue.consumers)
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
            journal.write(ChannelOpened(number=1))
            for n, (producer, sequence, redelivered) in enumerate(consumed.deliveries):
                one = (np.array([each]) for each in (producer, sequence, redelivered))
                places = recorder.record(*one, 5_000 + n)
                if consumed.acknowledged:
                    recorder.acknowledge(places)
            for finding, producer, sequence in consumed.incidents:
                recorder.report(Incident(finding, 7, producer, sequence, "as reported"))
            closed = consumed.closed and consumed.ended
            if closed:
                journal.write(ChannelClosed(number=1))
            if consumed.ended:
                journal.write(
                    WorkEnded(
                        until_ns=9,
                        cpu_s=0.0,
                        messages=recorder.deliveries,
                        incidents=recorder.incidents,
                    )
                )
        recorder.close()
        ledger = recorder.ledger
        columns = (ledger.delivered, ledger.redelivered, ledger.acked, ledger.first_ns)
        incidents = tuple(ledger.incidents())
        copies = (np.array(column) for column in columns)
        return ConsumerEvidence(*copies, incidents, (1,) if closed else ())
