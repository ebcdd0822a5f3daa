"""Order: what one publishing channel sent comes from one queue to its only consumer as it was sent.

By https://www.rabbitmq.com/docs/semantics#ordering. Only first deliveries are compared, within the
channel on which each copy was published, over all rounds of the consumer.

A delivery is late where a later message of its channel had come before it. The parts of the
evidence are gone through from the last to the first: of all that is behind a part, the earliest
moment of each channel is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import pieces
from rmqbench.verdict.deliveries import BoolArray, IntArray, QueueDeliveries, Sends
from rmqbench.verdict.evidence import DELIVERED, Evidence, QueueEvidence
from rmqbench.verdict.parts import ConsumerParts, Part, Parts

__all__ = ["Late", "late_deliveries"]

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Late:
    """Deliveries that came behind a later message of their channel; columns of equal length.

    ``behind`` is the highest sequence number that was there already.
    """

    producer: IntArray
    sequence: IntArray
    behind: IntArray
    flagged: BoolArray


@dataclass(frozen=True, eq=False)
class _Came:
    """First deliveries of one channel, by sequence number; columns of equal length.

    ``earliest_ns`` has one place more: the first moment at which any of them came, from each on,
    or any message behind them.
    """

    producer: int
    channel: int
    sequence: IntArray
    at_ns: IntArray
    flagged: BoolArray
    earliest_ns: IntArray

    @property
    def key(self) -> tuple[int, int]:
        """Whose they are: the numbers of producer and channel."""
        return self.producer, self.channel

    def late(self) -> IntArray:
        """Return which of them came behind a message of a higher number."""
        some = np.flatnonzero(self.earliest_ns[1:] < self.at_ns)
        higher = np.searchsorted(self.sequence, self.sequence[some], side="right")
        return some[self.earliest_ns[higher] < self.at_ns[some]]


def late_deliveries(evidence: Evidence, queue: QueueEvidence) -> Late:
    """Return the first deliveries that are not in the order of their publishing channel.

    They are sorted by producer, channel and time. Of several consumers nobody knows the order
    between them.
    """
    found: dict[tuple[int, int], list[tuple[IntArray, IntArray, BoolArray]]] = {}
    judged = queue.only_consumer and not _is_plainly_in_order(evidence, queue)
    for came in _backwards(evidence, queue) if judged else ():
        late = came.late()
        if len(late):
            columns = came.sequence[late], came.at_ns[late], came.flagged[late]
            found.setdefault(came.key, []).insert(0, columns)
    if not found:
        nothing = np.zeros(0, np.int64)
        return Late(nothing, nothing, nothing, nothing.astype(np.bool_))
    in_time = {key: _by_time(columns) for key, columns in found.items()}
    behind = _highest_before(evidence, queue, {key: at for key, (_, at, _) in in_time.items()})
    rows = [
        (np.full(len(sequence), key[0]), sequence, behind[key], flagged)
        for key, (sequence, _, flagged) in sorted(in_time.items(), key=lambda each: each[0])
    ]
    return Late(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _is_plainly_in_order(evidence: Evidence, queue: QueueEvidence) -> bool:
    """Whether an only consumer received what each producer has sent in the order of its messages.

    False where that is not so, and where it takes more than a glance to say.
    """
    consumers = [each for each in queue.consumers if each.state.any() or len(each.let_go)]
    if any(len(each.copies) for each in evidence.producers) or len(consumers) != 1:
        return False
    (consumer,) = consumers
    if len(consumer.let_go):
        return False
    starts = np.cumsum([0, *(len(each.state) for each in evidence.producers)])
    last_place = last_ns = -1
    for these in pieces(len(consumer.state)):
        places = these.start + np.flatnonzero(consumer.state[these] & DELIVERED)
        if not len(places):
            continue
        whose = np.searchsorted(starts, np.append(last_place, places), side="right")
        times_ns = np.append(last_ns, consumer.first_ns[places])
        if ((np.diff(times_ns) < 0) & (np.diff(whose) == 0)).any():
            return False
        last_place, last_ns = int(places[-1]), int(times_ns[-1])
    return True


def _by_time(
    parts: list[tuple[IntArray, IntArray, BoolArray]],
) -> tuple[IntArray, IntArray, BoolArray]:
    sequence, at_ns, flagged = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(at_ns, kind="stable")
    return sequence[order], at_ns[order], flagged[order]


def _highest_before(
    evidence: Evidence, queue: QueueEvidence, moments_ns: dict[tuple[int, int], IntArray]
) -> dict[tuple[int, int], IntArray]:
    """Return the highest sequence number that had come on each channel before some moments."""
    highest = {key: np.full(len(at_ns), -1) for key, at_ns in moments_ns.items()}
    for came in _backwards(evidence, queue):
        if came.key in highest:
            at_ns, known = moments_ns[came.key], highest[came.key]
            here = (known < 0) & (came.earliest_ns[0] < at_ns)
            last = np.searchsorted(came.earliest_ns[:-1], at_ns[here]) - 1
            known[here] = came.sequence[last]
    return highest


def _backwards(evidence: Evidence, queue: QueueEvidence) -> Iterator[_Came]:
    """Yield what came of each part and channel, from the last part to the first."""
    parts = Parts(evidence)
    consumers = ConsumerParts(queue.consumers, parts.count)
    earliest_ns: dict[tuple[int, int], int] = {}
    for part in reversed(parts):
        if not part.producer.channels:
            continue
        if part.let_go is not None:
            known = _let_go(part, queue)
            before_ns = earliest_ns.get(known.key, _NEVER)
            earliest_ns[known.key] = min(int(known.earliest_ns[0]), before_ns)
            yield known
            continue
        sends = Sends(evidence.recipe, part)
        deliveries = QueueDeliveries(sends, consumers.of(part))
        for channel, sequence, at_ns, flagged in _by_channel(sends, deliveries):
            key = part.number, channel
            onward = np.append(at_ns, earliest_ns.get(key, _NEVER))
            earliest = np.minimum.accumulate(onward[::-1])[::-1]
            earliest_ns[key] = int(earliest[0])
            yield _Came(part.number, channel, sequence, at_ns, flagged, earliest)


def _let_go(part: Part, queue: QueueEvidence) -> _Came:
    """Return what is known of a part that was let go: its first message came first, and when."""
    rows = [each.let_go[part.segment] for each in queue.consumers if len(each.let_go)]
    at_ns = min((int(each["earliest_ns"]) for each in rows if each["rows"]), default=_NEVER)
    begun = [each.number for each in part.producer.channels if each.first <= part.first]
    channel = max(begun, default=0)  # as of what was sent before the first, or so it seems
    return _Came(
        part.number,
        channel,
        np.array([part.first]),
        np.array([at_ns]),
        np.zeros(1, np.bool_),
        np.array([at_ns, _NEVER]),
    )


def _by_channel(
    sends: Sends, deliveries: QueueDeliveries
) -> Iterator[tuple[int, IntArray, IntArray, BoolArray]]:
    """Yield the first deliveries of each copy by channel: sequence in order, when, flag."""
    part = sends.part
    firsts = np.array([each.first for each in part.producer.channels])
    numbers = np.array([each.number for each in part.producer.channels])
    place, at_ns, flagged, stamp = _first_deliveries(sends, deliveries)
    # Before the first channel there is none: its messages have not been sent, or so it seems.
    which = np.searchsorted(firsts, part.first + place, side="right") - 1
    channel = np.where(which >= 0, numbers[which], 0)
    if len(sends.copy_place):
        channel = _channels_of_copies(sends, place, stamp, channel)
    for one in np.unique(channel[np.isin(channel, numbers)]).tolist():
        here = np.flatnonzero(channel == one)
        here = here[np.argsort(place[here], kind="stable")]
        yield one, part.first + place[here], at_ns[here], flagged[here]


def _first_deliveries(
    sends: Sends, deliveries: QueueDeliveries
) -> tuple[IntArray, IntArray, BoolArray, npt.NDArray[np.uint32]]:
    """Return the first delivery of each copy: place, when, flag, stamp."""
    firsts = deliveries.firsts
    place, at_ns, flagged, stamp = firsts.place, firsts.at_ns, firsts.flagged, firsts.stamp
    if not len(sends.copy_place):
        return place, at_ns, flagged, stamp
    # Of a message with copies, the first deliveries of the others are among the repeats.
    table = deliveries.repeats
    rows = table.starts[table.copy[table.starts] != 0]
    first_ns = np.full(len(sends.part), _NEVER)
    first_ns[place] = at_ns
    rows = rows[first_ns[table.place[rows]] != table.at_ns[rows]]
    return (
        np.concatenate([place, table.place[rows]]),
        np.concatenate([at_ns, table.at_ns[rows]]),
        np.concatenate([flagged, table.flagged[rows]]),
        np.concatenate([stamp, table.copy[rows].astype(np.uint32)]),
    )


def _channels_of_copies(
    sends: Sends, places: IntArray, stamps: npt.NDArray[np.uint32], channel: IntArray
) -> IntArray:
    """Return the channel on which each was published, 0 where its stamp is none of its copies'."""
    copies = zip(sends.copy_place.tolist(), sends.copy_stamp.tolist(), strict=True)
    channels = dict(zip(copies, sends.copy_channel.tolist(), strict=True))
    channel = channel.copy()
    for at in np.flatnonzero(sends.copied[places] & (sends.stamp[places] != stamps)).tolist():
        channel[at] = channels.get((int(places[at]), int(stamps[at])), 0)
    return channel
