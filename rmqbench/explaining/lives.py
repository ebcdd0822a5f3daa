"""The life of one message, in the order of time: all that the evidence has of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmqbench.errors import UsageError
from rmqbench.explaining.deliveries import (
    Delivery,
    dead_letters_of,
    deliveries_of,
    place_of,
)
from rmqbench.explaining.facts import Facts, QueueFacts, breaks_of
from rmqbench.message import Identity
from rmqbench.run_directory.journal import (
    ChannelClosed,
    ChannelOpened,
    FaultEvent,
    Interrupted,
    StageBegan,
)
from rmqbench.run_directory.records import ConsumerRecord, ProducerRecord
from rmqbench.text import counted, grouped, utc
from rmqbench.verdict.evidence import CONFIRMED, NACKED, RETURNED, SENT, Incident
from rmqbench.verdict.findings import FindingName

__all__ = ["Life", "Moment", "life_of", "which_message"]

_AROUND_NS = 2_000_000_000
_MESSAGE_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_NUMBERS = re.compile(r"(\d{1,19}):(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a message, or (``around``) to the run meanwhile."""

    time_ns: int
    what: str
    around: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """A message, what happened to it and around it, and what came of it.

    ``ends`` are sentences: what became of its publish, and then of each queue what it made of it.
    """

    producer: int
    sequence: int
    message_id: str
    began_ns: int
    moments: tuple[Moment, ...]
    ends: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "producer": self.producer,
            "sequence": self.sequence,
            "message_id": self.message_id,
            "moments": [
                {
                    "time_ns": each.time_ns,
                    "utc": utc(each.time_ns),
                    "after_s": round((each.time_ns - self.began_ns) / 1e9, 6),
                    "what": each.what,
                    "around": each.around,
                }
                for each in self.moments
            ],
            "ends": list(self.ends),
        }


def which_message(facts: Facts, message: str) -> Identity:
    """Find out which message of a run is meant: a message_id, or ``producer:sequence``.

    Raise UsageError where it is none, or none of this run.
    """
    message = message.strip()
    run = facts.recipe.run
    if numbers := _NUMBERS.fullmatch(message):
        identity: Identity | None = Identity(int(numbers[1]), int(numbers[2]))
    elif _MESSAGE_ID.fullmatch(message.lower()):
        identity = facts.recipe.read_message_id(message.lower())
        if identity is None:
            raise UsageError(
                f"The message {message} is of another run: this directory is of the run {run}.",
                "Name the directory that stands below the verdict which printed it.",
            )
    else:
        identity = None
    if identity is None:
        raise UsageError(
            f"{message!r} names no message.",
            "Give a message_id as a verdict prints it, or PRODUCER:SEQUENCE, for example 0:17.",
        )
    if place_of(facts, *identity) is None and not any(_incidents(facts, identity)):
        raise UsageError(
            f"There is no message {identity.producer}:{identity.sequence} in this run.",
            f"It has {_there_are(facts)}.",
        )
    return identity


def _there_are(facts: Facts) -> str:
    """Return which messages there are: of each of the first producers the last one."""
    counts = [len(each.ledger.state) for each in facts.record.producers]
    named = [f"{number}:0 to {number}:{count - 1}" for number, count in enumerate(counts[:3])]
    others = counted(len(counts) - 3, "more producer")
    more = f" and those of {others}" if len(counts) > 3 else ""
    return ", ".join(named) + more


def life_of(facts: Facts, identity: Identity) -> Life:
    """Return the life of a message of this run."""
    return _Writer(facts, identity).write()


def _incidents(facts: Facts, identity: Identity) -> Iterator[tuple[str, str, Incident]]:
    """Yield what workers reported of a message: the queue ("": a producer), the worker, what."""
    evidence = facts.record.evidence
    workers: list[tuple[str, str, tuple[Incident, ...]]] = [
        ("", record.name, tuple(one.incidents))
        for record, one in zip(facts.record.producers, evidence.producers, strict=True)
    ]
    for name, queue in facts.queues.items():
        pairs = zip(queue.record.consumers, queue.evidence.consumers, strict=True)
        workers += [(name, record.name, tuple(one.incidents)) for record, one in pairs]
    for queue_name, worker, incidents in workers:
        for each in incidents:
            if (each.producer, each.sequence) == (identity.producer, identity.sequence):
                yield queue_name, worker, each


class _Writer:
    """Writes the life of one message."""

    def __init__(self, facts: Facts, identity: Identity) -> None:
        self._facts = facts
        self._producer, self._sequence = identity
        self._identity = identity
        self._place = place_of(facts, *identity)
        self._copies = self._all_copies()
        self._own: list[Moment] = []
        self._until_ns: list[int] = []  # what else belongs to its life: channels, proofs

    def write(self) -> Life:
        facts = self._facts
        ends = [self._published(), *(self._queue(queue) for queue in facts.queues.values())]
        ends = [each for each in ends if each]
        for queue, worker, each in _incidents(facts, self._identity):
            where = f"queue {queue}, " if queue else ""
            detail = f": {each.detail}" if each.detail else ""
            self._add(each.at_ns, f"{where}{worker} reported it as {each.finding}{detail}")
        moments = [*self._own, *self._around()]
        return Life(
            self._producer,
            self._sequence,
            facts.recipe.message_id(self._producer, self._sequence),
            facts.began_ns,
            tuple(sorted(moments, key=lambda each: each.time_ns)),
            tuple(ends),
        )

    def _add(self, time_ns: int, what: str) -> None:
        self._own.append(Moment(time_ns, what))

    # --- the publish ----------------------------------------------------------------------------

    def _all_copies(self) -> list[tuple[int, int]]:
        """Return when each copy was sent, and on which channel (0: not known)."""
        record = self._facts.producer_of(self._producer)
        if record is None or self._place is None:
            return []
        ledger, copies = record.ledger, []
        if int(ledger.state[self._sequence]) & SENT:
            copies.append((int(ledger.sent_ns[self._sequence]), self._first_channel(record)))
        rows = record.copies[record.copies["sequence"] == self._sequence]
        return copies + [(int(row["sent_ns"]), int(row["channel"])) for row in rows]

    @property
    def _state(self) -> int:
        """What became of its publish: bits, none where the run has no such message."""
        record = self._facts.producer_of(self._producer)
        if record is None or self._place is None:
            return 0
        return int(record.ledger.state[self._sequence])

    @property
    def _was_let_go(self) -> bool:
        """Whether its evidence was clean, and nothing more of it was kept."""
        record = self._facts.producer_of(self._producer)
        let_go = record.ledger.let_go if record is not None and self._place is not None else None
        return let_go is not None and bool(let_go.among(self._sequence, self._sequence + 1)[0])

    def _first_channel(self, record: ProducerRecord) -> int:
        """Return the channel on which a message was new."""
        opened = [each for each in record.of(ChannelOpened) if each.first is not None]
        before = [each.number for each in opened if (each.first or 0) <= self._sequence]
        return before[-1] if before else 0

    def _published(self) -> str:
        record = self._facts.producer_of(self._producer)
        if record is None or self._place is None:
            return "It was never sent: the run has no such message."
        name, ledger = record.name, record.ledger
        if not record.readable:
            return f"Whether it was sent is not known: the ledger of {name} cannot be read."
        for number, (sent_ns, channel) in enumerate(self._copies, 1):
            again = f" again, as copy {number}" if number > 1 else ""
            self._add(sent_ns, f"{name} sent it{again}{_on(channel)}")
        state = int(ledger.state[self._sequence])
        (settled_ns,) = ledger.settled_ns(slice(self._sequence, self._sequence + 1)).tolist()
        said = [
            word
            for bit, word in ((RETURNED, "returned"), (NACKED, "nacked"), (CONFIRMED, "confirmed"))
            if state & bit
        ]
        if said and settled_ns:
            self._add(settled_ns, f"the broker {' and '.join(said)} it")
        on = {channel for _, channel in self._copies}
        self._channel_ends(record, on, acknowledged=False)
        if self._was_let_go:
            said = ["confirmed, and its evidence let go as clean"]
        elif not state & SENT:
            silent = "" if record.end else f"; {name} did not record its end"
            return f"It was never sent{silent}."
        if not said:
            silent = "" if record.end else f" {name} did not record its end."
            return f"It was sent, and the broker never answered: its outcome is not known.{silent}"
        if said[0] == "confirmed" and not self._facts.confirms:
            return "It was written, which counts as confirmed: the run asked for no confirms."
        return f"Its publish was {said[0]}."

    # --- a queue --------------------------------------------------------------------------------

    def _queue(self, queue: QueueFacts) -> str:
        """Return what became of it there; nothing where only dead letters go."""
        name = queue.record.name
        came = deliveries_of(self._facts, queue, self._producer, self._sequence)
        for number, each in enumerate(came):
            self._add(each.at_ns, self._delivery(queue, each, again=number > 0))
        for consumer in queue.record.consumers:
            on = {each.channel for each in came if each.consumer == consumer.name}
            self._channel_ends(consumer, on, acknowledged=not queue.auto_ack)
        dead_letters = dead_letters_of(self._facts, queue, self._producer, self._sequence)
        for there in dead_letters.values():
            for number, each in enumerate(there):
                self._add(each.at_ns, self._delivery(queue, each, again=number > 0))
        proofs = self._facts.drains(name)
        if proofs and not any(each.acked or each.rejected for each in came):
            self._until_ns.append(proofs[-1].time_ns)
        if self._was_let_go:
            times = "once" if not came else f"{1 + len(came)} times, the first one clean"
            return f"{name}: delivered {times}, and acknowledged"
        if not (queue.record.gets_all or came):
            return ""
        return f"{name}: {self._verdict_of(queue, came, dead_letters)}"

    def _delivery(self, queue: QueueFacts, one: Delivery, *, again: bool) -> str:
        words = f"{one.consumer} received it" + (" again" if again else "") + _on(one.channel)
        words += f" as a dead letter of {one.origin}" if one.origin else ""
        notes = ["flagged as redelivered" if one.flagged else "not flagged as redelivered"]
        if one.altered:
            notes.append("altered")
        elif copy := self._which_copy(one.stamp):
            notes.append(copy)
        if queue.auto_ack and not one.origin:
            notes.append("acknowledged automatically")
        if one.given_back:
            notes.append("and given back")
        return f"{words}, {', '.join(notes)}"

    def _which_copy(self, stamp: int) -> str:
        """Return which copy was delivered, by the send time in its head."""
        times = np.array([sent_ns for sent_ns, _ in self._copies], np.int64)
        sequences = np.full(len(times), self._sequence, np.int64)
        stamps = self._facts.recipe.stamps(self._producer, sequences, times).tolist()
        if stamp not in stamps:
            return "with a send time that none of its copies has" if self._copies else ""
        return f"copy {stamps.index(stamp) + 1}" if len(stamps) > 1 else ""

    def _verdict_of(
        self, queue: QueueFacts, came: list[Delivery], dead_letters: Mapping[str, list[Delivery]]
    ) -> str:
        state = self._state
        delivered = _delivered(queue, came) if came else "never delivered."
        settled = any(each.acked for each in came) or (bool(came) and queue.auto_ack)
        if dead_letters and not settled and any(dead_letters.values()):
            to = grouped(name for name, there in dead_letters.items() if there)
            delivered = f"{delivered[:-1]}, and dead-lettered to {to}."
            if nowhere := [name for name, there in dead_letters.items() if not there]:
                missing = f"{delivered[:-1]}, but not to {grouped(nowhere)}"
                return self._missing_from(queue, missing, "not dead-lettered to all")
            return delivered
        if came:
            settled |= any(each.rejected for each in came) and not dead_letters
            if settled or not state & SENT:
                return delivered
            again = (
                "it came to nobody as a dead letter" if dead_letters else "it did not come again"
            )
            missing = f"{delivered[:-1]}; the queue is empty, and {again}"
            return self._missing_from(queue, missing, "not acknowledged")
        if not state & SENT:
            seen = {name for name, *_ in _incidents(self._facts, self._identity)}
            never = queue.record.name not in seen
            return (
                "no delivery is on record." if never else "delivered, although it was never sent."
            )
        return self._missing_from(queue, "never delivered, and the queue is empty", "not delivered")

    def _missing_from(self, queue: QueueFacts, missing: str, otherwise: str) -> str:
        state = self._state
        unjudged = "so this message is not judged"
        if not queue.drain.proven:
            why = f" ({queue.drain.detail})" if queue.drain.detail else ""
            said = f"{otherwise}, and the queue was not proven empty{why}: {unjudged}"
        elif not queue.evidence.complete:
            said = f"{otherwise} by anybody whose evidence can be read: {unjudged}"
        elif state & (CONFIRMED | NACKED | RETURNED) != CONFIRMED:
            said = f"{missing}: RabbitMQ promises to keep only what it confirmed"
        else:
            said = f"{missing}: {self._missing(queue)}"
        return f"{said}."

    def _missing(self, queue: QueueFacts) -> str:
        lost, removed = (
            self._facts.verdict.count(name, queue.record.name)
            for name in (FindingName.LOST, FindingName.REMOVED)
        )
        if lost and removed:
            return (
                f"lost or removed ({removed} of {lost + removed} can have been removed; which ones "
                "is not known)"
            )
        if not lost and self._facts.verdict.count(FindingName.UNSERVED, queue.record.name):
            return "the queue keeps it, and gives it to nobody"
        if removed:
            causes = "; ".join(each.cause for each in queue.evidence.effective_removals)
            return f"removed ({causes})"
        return "lost"

    def _channel_ends(
        self, worker: ProducerRecord | ConsumerRecord, numbers: set[int], *, acknowledged: bool
    ) -> None:
        """Write down how the channels ended on which it was sent or delivered."""
        taken = ": the broker had taken all its acknowledgements" if acknowledged else ""
        for closed in worker.of(ChannelClosed):
            if closed.number in numbers:
                what = f"{worker.name} closed channel {closed.number} cleanly"
                self._add(closed.time_ns, f"{what}{taken}")
        for each in breaks_of(worker):
            if each.channel in numbers and each.at_ns is not None:
                channel = f"channel {each.channel} of {worker.name}"
                broke = f"{channel} broke off: {each.why}"
                self._add(each.at_ns, broke if each.why else f"the last sign of life of {channel}")

    # --- around ---------------------------------------------------------------------------------

    def _around(self) -> Iterator[Moment]:
        """Yield what happened to the run between its first and its last moment."""
        times = [each.time_ns for each in self._own] + self._until_ns
        if not times:
            return
        since_ns, until_ns = min(times) - _AROUND_NS, max(times) + _AROUND_NS
        own = {(each.time_ns, each.what) for each in self._own}
        for each in self._events():
            if since_ns <= each.time_ns <= until_ns and (each.time_ns, each.what) not in own:
                yield each

    def _events(self) -> Iterator[Moment]:
        facts = self._facts
        for entry in facts.record.entries:
            if isinstance(entry, StageBegan):
                yield Moment(entry.time_ns, f"the run went on to: {entry.stage}", True)
            elif isinstance(entry, FaultEvent):
                failed = "a fault failed: " if entry.phase == "failed" else ""
                yield Moment(entry.time_ns, f"{failed}{entry.text}", True)
        for each in facts.removals:
            yield Moment(each.time_ns, f"queue {each.queue}: {each.cause}", True)
        for name in facts.queues:
            for proof in facts.drains(name):
                said = "it is empty" if proof.proven else f"not proven empty: {proof.detail}"
                there = "" if proof.there else ", for it does not exist any more"
                yield Moment(proof.time_ns, f"queue {name} was asked: {said}{there}", True)
        for restart in facts.record.evidence.restarts:
            if restart.after_ns == restart.before_ns:
                yield Moment(restart.after_ns, "the node restarted", True)
                continue
            words = "the node restarted, or may have, after this moment"
            yield Moment(restart.after_ns, words, True)
            yield Moment(restart.before_ns, "… and before this one", True)
        for worker in facts.workers:
            broken = {(each.at_ns, each.why): each.channel for each in breaks_of(worker)}
            for told in worker.of(Interrupted):
                channel = broken.get((told.time_ns, told.why), 0)
                what = f"channel {channel} of {worker.name} broke off: {told.why}"
                plain = f"{worker.name} was interrupted: {told.why}"
                yield Moment(told.time_ns, what if channel else plain, True)


def _delivered(queue: QueueFacts, came: list[Delivery]) -> str:
    times = "once" if len(came) == 1 else f"{len(came)} times"
    acked = sorted({each.consumer for each in came if each.acked})
    if queue.auto_ack:
        return f"delivered {times}, with automatic acknowledgement."
    if rejected := sorted({each.consumer for each in came if each.rejected}):
        return f"delivered {times}, and rejected by {' and '.join(rejected)}."
    if not acked:
        return f"delivered {times}, and never acknowledged by us."
    by = f", by {' and '.join(acked)}" if len(came) > 1 else ""
    return f"delivered {times}, and acknowledged{by}."


def _on(channel: int) -> str:
    return f" on channel {channel}" if channel else ""
