"""The directory of a large run that never was, in which each message came once."""

import uuid
from contextlib import contextmanager

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
    WorkEnded,
    WorkStarted,
)
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.verdict.evidence import ACKED, CONFIRMED, DELIVERED, SENT

RECIPE = Recipe(uuid.UUID(int=77), size_bytes=100)
BEGAN_NS = 1_790_000_000_000_000_000
SENT_AT_ONCE = 500
QUEUES = ("work.queue", "audit.queue")
PIECE = 1 << 16


def write_large_run(path, messages):
    """Write what a producer, and a consumer of each of two queues, leave of a run that passes."""
    directory = RunDirectory(path)
    path.mkdir(parents=True)
    directory.write_description(_description(messages))
    with directory.open_journal() as journal:
        arguments = [{} for _ in QUEUES]
        journal.write(
            Declared(exchange="x", routing_key="k", queues=[*QUEUES], arguments=arguments, notes=[])
        )
        _publish(directory.producer(0), messages)
        for index, name in enumerate(QUEUES):
            _consume(directory.consumer(index, 0), messages)
            journal.write(
                DrainTried(queue=name, proven=True, ready=0, detail="", there=True, looks=0)
            )


def _description(messages):
    queue = {"kind": "classic", "arguments": {}, "consumers": 1}
    return {
        "run": str(RECIPE.run),
        "scenario": {},
        "counts": [messages],
        "recipe": RECIPE.as_dict(),
        "queues": [{"name": name, **queue} for name in QUEUES],
        "allowed": [],
        "faults": [],
        "broker": {"version": "0"},
    }


def _pieces(messages):
    """Yield sequence numbers and their send times: many were sent at the same moment."""
    for at in range(0, messages, PIECE):
        sequences = np.arange(at, min(at + PIECE, messages))
        yield sequences, BEGAN_NS + sequences // SENT_AT_ONCE * 10_000_000


@contextmanager
def _journal(place, messages):
    with Journal(place / JOURNAL_FILE) as journal:
        journal.write(WorkStarted(time_ns=BEGAN_NS))
        journal.write(ChannelOpened(time_ns=BEGAN_NS, number=1, first=0))
        yield
        journal.write(ChannelClosed(time_ns=BEGAN_NS + 10**15, number=1))
        until_ns = BEGAN_NS + 10**15
        journal.write(WorkEnded(until_ns=until_ns, cpu_s=1.0, messages=messages))


def _publish(place, messages):
    PublishLedger.create(place, messages)
    ledger = PublishLedger.open(place)
    with _journal(place, messages):
        for sequences, sent_ns in _pieces(messages):
            ledger.sent_ns[sequences] = sent_ns
            ledger.settled_after_ns[sequences] = 3_000_000 + sequences % 1000
            ledger.state[sequences] = SENT | CONFIRMED


def _consume(place, messages):
    DeliveryLedger.create(place, messages)
    ledger = DeliveryLedger.open(place)
    with _journal(place, messages):
        for sequences, sent_ns in _pieces(messages):
            ledger.stamp[sequences] = RECIPE.stamps(0, sequences, sent_ns)
            ledger.first_ns[sequences] = BEGAN_NS + 10**14 + sequences
            ledger.state[sequences] = DELIVERED | ACKED
