"""Histories with a clock: the run begins at BEGAN, and all else so many seconds later."""

import json

import numpy as np

from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelClosed,
    ChannelOpened,
    DrainTried,
    FaultEvent,
    Interrupted,
    Journal,
    MessagesRemoved,
    Restarted,
    WorkEnded,
    read_journal,
)
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.verdict.evidence import AGAIN, CONFIRMED, SENT
from support.histories import SENT_AT, Consumed, History, Published, Queued

OK = SENT | CONFIRMED
BEGAN = SENT_AT - 1_000_000_000
COUNT = 10
PRODUCER, CONSUMER = "producer-0", "queue-0/consumer-0"
SENT_S, RECEIVED_S, CLOSED_S, ENDED_S, ASKED_S = 1.0, 5.0, 6.0, 7.0, 20.0


def at(seconds):
    """Return the moment so many seconds after the run began, in Unix nanoseconds."""
    return BEGAN + round(seconds * 1e9)


def run_of(path, history, *, scenario=None, recipe=None, **queue):
    """Write a history, with its times put in order; ``queue`` is what its queues are asked for."""
    history.write(path)
    description = json.loads((path / "run.json").read_text())
    description["scenario"] = scenario or {}
    description["recipe"] |= recipe or {}
    for each in description["queues"]:
        each.update(queue)
    (path / "run.json").write_text(json.dumps(description))
    _set_times(path, {"declared": 0.0, "drain": ASKED_S, "removed": 10.0, "trouble": 8.0})
    for place in path.glob("producer-*"):
        _set_times(place, {"started": 0.5, "channel opened": 0.6, "ended": ENDED_S})
        ledger = PublishLedger.open(place)
        ledger.settled_after_ns[:] = np.where(ledger.state > SENT, 1_000_000, 0)
    for place in path.glob("queue-*/consumer-*"):
        times = {"started": 4.0, "channel opened": 4.1, "channel closed": CLOSED_S}
        _set_times(place, {**times, "ended": ENDED_S})
        ledger = DeliveryLedger.open(place)
        ledger.first_ns[ledger.first_ns > 0] += at(RECEIVED_S) - 5_000
        again = np.frombuffer(ledger.again_path.read_bytes(), AGAIN).copy()
        again["at_ns"] += at(RECEIVED_S) - 5_000
        ledger.again_path.write_bytes(again.tobytes())
    return path


def _set_times(place, seconds):
    path = place / JOURNAL_FILE
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in entries:
        entry["time_ns"] = at(seconds[entry["kind"]])
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


def all_but(*missing):
    """Return the deliveries of all messages of producer 0 but these."""
    return [(0, sequence, False) for sequence in range(COUNT) if sequence not in missing]


def plain(*missing, state=None, name="work.queue", **queued):
    """Return a run of one producer and one queue that did not deliver these."""
    consumed = Consumed(all_but(*missing))
    return History([Published(state or [OK] * COUNT)], [Queued(name, [consumed], **queued)])


def write(path, place, *entries):
    """Write entries into a journal; ``place`` is that of a worker, "" the run's."""
    with Journal(path / place / JOURNAL_FILE) as journal:
        for entry in entries:
            journal.write(entry)
    return path


def restarted(path, after_s, before_s=None):
    """Write down that the node restarted."""
    before_s = after_s if before_s is None else before_s
    return write(path, "", Restarted(time_ns=1, after_ns=at(after_s), before_ns=at(before_s)))


def fault(path, name, struck_s, over_s, *, text="what it does"):
    """Write down that a fault struck and was over."""
    struck = FaultEvent(time_ns=at(struck_s), fault=name, phase="struck", text=f"{name}: {text}")
    over = FaultEvent(time_ns=at(over_s), fault=name, phase="over", text=f"{name} is over")
    return write(path, "", struck, over)


def interrupted(path, place, seconds, why="The connection ended.", *, first=None):
    """Write down that a worker's first channel broke off, and that it went on with a second."""
    entries = without(path, place, ChannelClosed, WorkEnded)
    cut = Interrupted(time_ns=at(seconds), why=why)
    opened = ChannelOpened(time_ns=at(seconds + 0.1), number=2, first=first)
    end = [each for each in entries if isinstance(each, WorkEnded)]
    closed = [each for each in entries if isinstance(each, ChannelClosed)]
    closed = [ChannelClosed(time_ns=each.time_ns, number=2) for each in closed]
    return write(path, place, cut, opened, *closed, *end)


def killed(path, place):
    """Take away all that a worker writes when it ends by itself."""
    without(path, place, ChannelClosed, WorkEnded)
    return path


def without(path, place, *kinds):
    """Take entries out of a journal, and return them."""
    entries = list(read_journal(path / place / JOURNAL_FILE))
    (path / place / JOURNAL_FILE).unlink()
    write(path, place, *(each for each in entries if not isinstance(each, kinds)))
    return [each for each in entries if isinstance(each, kinds)]


def removed(queue, cause, seconds, at_most=None):
    """Return an entry: something took messages out of a queue."""
    return MessagesRemoved(time_ns=at(seconds), queue=queue, cause=cause, at_most=at_most)


def asked(queue, seconds, *, proven=True, ready=0, detail="", there=True, looks=0):
    """Return an entry: a queue was asked whether it is empty."""
    return DrainTried(
        time_ns=at(seconds),
        queue=queue,
        proven=proven,
        ready=ready,
        detail=detail,
        there=there,
        looks=looks,
    )
