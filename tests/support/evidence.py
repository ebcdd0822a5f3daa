"""Evidence written by hand: what was published, and what was delivered, one line a delivery."""

import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from rmqbench import pieces
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelClosed,
    ChannelOpened,
    ConsumerLeaving,
    read_journal,
)
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.recorder import DeliveryRecorder
from rmqbench.verdict.evidence import (
    CONFIRMED,
    COPY,
    SENT,
    ConsumerChannel,
    ConsumerEvidence,
    Drain,
    Evidence,
    Incident,
    ProducerChannel,
    ProducerEvidence,
    QueueEvidence,
)
from rmqbench.verdict.rules import judge_evidence
from support.histories import RECIPE, sent_ns, stamp_of

COUNT = 10
OK = SENT | CONFIRMED
ALTERED, REPORTED_COPY = -1, None


class D(NamedTuple):
    """One delivery: which message, and how it came.

    ``copy`` says which copy of it that was, from 0 on; ALTERED: its send time is none of theirs;
    REPORTED_COPY: it was reported as corrupted, its head with it.
    """

    sequence: int
    flagged: bool = False
    copy: int | None = 0
    channel: int = 1
    producer: int = 0


def again(sequence, **more):
    """Return a delivery with the flag ``redelivered``."""
    return D(sequence, True, **more)


def all_but(*but, **more):
    """Return a delivery of each message but these, in order."""
    return [D(sequence, **more) for sequence in range(COUNT) if sequence not in but]


def producer(changes=None, *, count=COUNT, copies=(), channels=(0,), **more):
    """Return ``count`` publishes, all confirmed but for ``changes``: sequence -> state bits.

    ``copies`` are (sequence, channel) of what was sent again; ``channels`` the first message that
    was new on each, None: not known.
    """
    state = np.full(count, OK, np.uint8)
    for sequence, bits in (changes or {}).items():
        state[sequence] = bits
    rows, seen = np.zeros(len(copies), COPY), dict[int, int]()
    for row, (sequence, channel) in zip(rows, copies, strict=True):
        seen[sequence] = seen.get(sequence, 0) + 1
        row["sequence"], row["channel"] = sequence, channel
        row["sent_ns"] = sent_ns(sequence, seen[sequence])
    if channels is not None:
        channels = tuple(ProducerChannel(n, first) for n, first in enumerate(channels, 1))
    return ProducerEvidence(state, sent_ns(np.arange(count)), rows, channels, **more)


def consumer(
    deliveries=None,
    *,
    begins=1_000,
    closed=(1,),
    incidents=(),
    counts=(COUNT,),
    acked=True,
    opened=None,
    left=None,
    unserved=(),
):
    """Return what the recorder writes of these deliveries, each a nanosecond after the last.

    A list among them is a burst. The first channel is opened when it ``begins``, a later one when
    something comes on it, or when ``opened`` says, by its number. Those in ``closed`` are closed
    cleanly, behind the last delivery on them, and their consumer was cancelled at ``left``.
    """
    bursts = all_but() if deliveries is None else deliveries
    bursts = [one if isinstance(one, list) else [one] for one in bursts]
    begun, ended, now = {1: begins}, {}, begins
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "consumer"
        DeliveryLedger.create(place, sum(counts))
        recorder = DeliveryRecorder(place, counts)
        recorder.open_channel()
        for rows in bursts:
            while recorder.channel < rows[0].channel:
                recorder.open_channel()
                begun[recorder.channel] = now = now + 1
            places = _record(recorder, rows, now + 1)
            if acked:
                recorder.acknowledge(places, 9_000)
            now += len(rows)
            ended[recorder.channel] = now + 1
        recorder.close()
        ledger = DeliveryLedger.read(place)
        begun |= opened or {}
        return ConsumerEvidence(
            *(np.array(column) for column in (ledger.state, ledger.stamp, ledger.first_ns)),
            ledger.again(),
            (*ledger.incidents(), *incidents),
            tuple(
                ConsumerChannel(n, at, ended.get(n, at + 1) if n in closed else None, left)
                for n, at in begun.items()
            ),
            unserved=tuple(unserved),
        )


def _record(recorder, rows, now_ns):
    producers = np.array([row.producer for row in rows], np.int64)
    sequences = np.array([row.sequence for row in rows], np.int64)
    flagged = np.array([row.flagged for row in rows], np.bool_)
    headless = rows[0].copy is REPORTED_COPY
    stamps = np.zeros(len(rows), np.uint32)
    if not headless:
        stamps[:] = [stamp_of(r.producer, r.sequence, r.copy) for r in rows]
    return recorder.record(producers, sequences, flagged, stamps, now_ns, corrupted=headless)


def queue(*consumers, name="work.queue", drain=Drain(True), **more):
    """Return a queue with these consumers; without any it delivered everything once."""
    consumers = consumers or (consumer(),)
    more.setdefault("only_consumer", len(consumers) == 1)
    return QueueEvidence(name, consumers, drain, **more)


def verdict_of(*queues, producers=None, missing=(), allowed=(), restarts=()):
    """Judge these queues; without any it is one that delivered everything once."""
    evidence = Evidence(
        RECIPE, producers or [producer()], queues or (queue(),), restarts, tuple(missing)
    )
    return judged(evidence, allowed=allowed)


def judged(evidence, **how):
    """Judge evidence, and require that it comes to the same in parts of a few messages."""
    verdict = judge_evidence(evidence, evidence_at="somewhere", **how)
    with mock.patch.object(pieces, "PIECE", 3):
        assert judge_evidence(evidence, evidence_at="somewhere", **how) == verdict
    return verdict


def found(*deliveries, producers=None, **more):
    """Return what is found where an only consumer received these, but for what is missing."""
    counts = [len(one.state) for one in producers or [producer()]]
    verdict = verdict_of(queue(consumer(deliveries, counts=counts, **more)), producers=producers)
    return {name: count for name, count in verdict.found().items() if name != "lost"}


def producer_evidence(directory):
    """Return what a producer left in its directory."""
    ledger, entries = PublishLedger.read(directory), list(read_journal(directory / JOURNAL_FILE))
    return ProducerEvidence(
        ledger.state,
        ledger.sent_ns,
        ledger.copies(),
        tuple(ProducerChannel(e.number, e.first) for e in entries if isinstance(e, ChannelOpened)),
        tuple(ledger.incidents()),
    )


def consumer_evidence(directory):
    """Return what a consumer left in its directory."""
    ledger, entries = DeliveryLedger.read(directory), list(read_journal(directory / JOURNAL_FILE))
    closed = {each.number: each.time_ns for each in entries if isinstance(each, ChannelClosed)}
    left = {each.number: each.time_ns for each in entries if isinstance(each, ConsumerLeaving)}
    return ConsumerEvidence(
        ledger.state,
        ledger.stamp,
        ledger.first_ns,
        ledger.again(),
        tuple(ledger.incidents()),
        tuple(
            ConsumerChannel(
                each.number, each.time_ns, closed.get(each.number), left.get(each.number)
            )
            for each in entries
            if isinstance(each, ChannelOpened)
        ),
    )


def incident(name, at, *about, **more):
    """Return what a worker reported."""
    return Incident(name, at, *about, **more)
