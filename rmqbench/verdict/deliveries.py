"""The deliveries of one queue, merged over its consumers, and what is wrong with those that repeat.

All is of one part of the evidence, and places count from its first message on. Most messages are
delivered once: only of the others is anything more computed than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rmqbench.message import Recipe
from rmqbench.verdict.evidence import (
    ACKED,
    DELIVERED,
    REDELIVERED,
    REJECTED,
    REPORTED,
    REQUEUED,
    SENT,
    ConsumerEvidence,
    Incident,
    Restart,
    channels_at,
)
from rmqbench.verdict.findings import FindingName
from rmqbench.verdict.parts import Part

__all__ = ["Altered", "Firsts", "QueueDeliveries", "Sends"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_NEVER = np.iinfo(np.int64).max
_APART_NS = 100_000_000  # by less than that do the clocks of two hosts differ, once measured


class Sends:
    """What was published of a part: each message once, and each further copy.

    ``sent`` says of each message whether it was, ``copied`` whether there are further copies of it.
    ``copy_place``, ``copy_sent_ns`` and ``copy_channel`` have one row for each of these.
    """

    def __init__(self, recipe: Recipe, part: Part) -> None:
        """Take them from the producer's evidence."""
        self._recipe = recipe
        self.part = part
        producer = part.producer
        self.sent: BoolArray = (producer.state & SENT != 0) & producer.readable
        self.copy_place, self.copy_sent_ns, self.copy_channel = (
            producer.copies[of].astype(np.int64) for of in ("sequence", "sent_ns", "channel")
        )
        self.copied = np.zeros(len(part), np.bool_)
        self.copied[self.copy_place] = True

    @cached_property
    def stamp(self) -> npt.NDArray[np.uint32]:
        """The checksum in the head of each message as it was sent first."""
        part = self.part
        sequences = np.arange(part.first, part.first + len(part))
        return self._recipe.stamps(part.number, sequences, part.producer.sent_ns)

    @cached_property
    def copy_stamp(self) -> npt.NDArray[np.uint32]:
        """The checksum in the head of each further copy."""
        sequences = self.part.first + self.copy_place
        return self._recipe.stamps(self.part.number, sequences, self.copy_sent_ns)

    def is_stamp_of(self, places: IntArray, stamps: npt.NDArray[np.uint32]) -> BoolArray:
        """Return which stamps are those of the messages at these places, or of a copy of them."""
        right: BoolArray = self.stamp[places] == stamps
        if len(self.copy_place):
            right |= np.isin(_both(places, stamps), _both(self.copy_place, self.copy_stamp))
        return right


def _both(places: IntArray, stamps: npt.NDArray[np.uint32]) -> IntArray:
    """Return place and stamp in one number each."""
    return (places.astype(np.int64) << 32) | stamps.astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Table:
    """Deliveries as rows, sorted by message, copy and time. All columns have the same length.

    ``copy`` tells the copies of one message apart: 0 where there is one only, else its stamp.
    ``channel`` numbers the consuming channels of the queue, 0 where it is not known, negative for
    what was given back. At
    ``closed_ns`` it was closed cleanly, and until ``left_ns`` its consumer was there.
    """

    place: IntArray
    copy: IntArray
    at_ns: IntArray
    flagged: BoolArray
    consumer: IntArray
    channel: IntArray
    opened_ns: IntArray
    left_ns: IntArray
    closed_ns: IntArray

    @cached_property
    def starts(self) -> IntArray:
        """Where the rows of each copy begin."""
        new = (np.diff(self.place) != 0) | (np.diff(self.copy) != 0)
        return np.flatnonzero(np.concatenate(([True], new))[: len(self.place)])

    @cached_property
    def group(self) -> IntArray:
        """The number of the copy that each row is of, from 0 on."""
        lengths = np.diff(np.append(self.starts, len(self.place)))
        return np.repeat(np.arange(len(self.starts)), lengths)

    def again_within(self, *columns: IntArray) -> BoolArray:
        """Return the rows before which the same copy came with the same values in ``columns``."""
        keys = (self.group, *columns)
        order = np.lexsort((self.at_ns, *reversed(keys)))
        same = np.ones(max(len(order) - 1, 0), np.bool_)
        for key in keys:
            same &= np.diff(key[order]) == 0
        again = np.zeros(len(order), np.bool_)
        again[order[1:]] = same
        return again


@dataclass(frozen=True, eq=False)
class Firsts:
    """Which messages came, and of each that came its first delivery, over all consumers.

    ``place``, ``at_ns`` (Unix nanoseconds), ``flagged`` and ``stamp`` have one row for each.
    """

    place: IntArray
    at_ns: IntArray
    flagged: BoolArray
    stamp: npt.NDArray[np.uint32]


class Altered(NamedTuple):
    """A delivery that tells another send time, to which consumer, and whether not its first."""

    consumer: int
    again: bool
    incident: Incident


class QueueDeliveries:
    """What one queue delivered of a part.

    ``delivered``: which messages came at all. ``settled``: with which of them a consumer was
    through, so that the queue need not deliver them again: all others it still owes.
    """

    def __init__(
        self,
        sends: Sends,
        consumers: Sequence[ConsumerEvidence],
        *,
        auto_ack: bool = False,
        close_takes_acks: bool = True,
        rejecting_settles: bool = True,
    ) -> None:
        """Merge what the consumers recorded of the part.

        ``auto_ack`` and ``close_takes_acks`` are those of its :class:`QueueEvidence`. Where dead
        letters are followed, what was rejected is not settled by that.
        """
        self._sends = sends
        self._auto_ack = auto_ack
        self._close_takes_acks = close_takes_acks
        self._consumers = consumers
        size = len(sends.part)
        self.delivered = np.zeros(size, np.bool_)
        self.settled = np.zeros(size, np.bool_)
        self._several = np.zeros(size, np.bool_)
        ends = DELIVERED if auto_ack else ACKED | (REJECTED if rejecting_settles else 0)
        for consumer in consumers:
            here = consumer.state & DELIVERED != 0
            self.settled |= consumer.state & ends != 0
            self._several |= self.delivered & here
            self.delivered |= here
            self._several[consumer.again["place"]] = True

    @property
    def any_repeated(self) -> bool:
        """Whether any message was delivered more than once."""
        return bool(self._several.any())

    @cached_property
    def firsts(self) -> Firsts:
        """The first delivery of each message that came."""
        place = np.flatnonzero(self.delivered)
        at_ns = np.full(len(place), _NEVER)
        flagged = np.zeros(len(place), np.bool_)
        stamp = np.zeros(len(place), np.uint32)
        for consumer in self._consumers:
            state, first_ns = consumer.state[place], consumer.first_ns[place]
            earlier = (state & DELIVERED != 0) & (first_ns < at_ns)
            at_ns = np.where(earlier, first_ns, at_ns)
            flagged = np.where(earlier, state & REDELIVERED != 0, flagged)
            stamp = np.where(earlier, consumer.stamp[place], stamp)
        return Firsts(place, at_ns, flagged, stamp)

    @cached_property
    def repeats(self) -> _Table:
        """Return all deliveries of the messages that were delivered more than once."""
        parts = [
            part
            for number, consumer in enumerate(self._consumers)
            for part in self._rows_of(number, consumer)
        ]
        if not parts:
            nothing = np.zeros(0, np.int64)
            none = nothing.astype(np.bool_)
            return _Table(
                nothing, nothing, nothing, none, nothing, nothing, nothing, nothing, nothing
            )
        place, stamp, *others = (np.concatenate(column) for column in zip(*parts, strict=True))
        copy = np.where(self._sends.copied[place], stamp.astype(np.int64), 0)
        at_ns = others[0]
        if self._auto_ack and self._close_takes_acks:
            others[-1] = at_ns  # its acknowledgement is taken as it is sent
        order = np.lexsort((at_ns, copy, place))
        return _Table(place[order], copy[order], *(column[order] for column in others))

    def _rows_of(
        self, number: int, consumer: ConsumerEvidence
    ) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        """Yield the columns of a consumer's first deliveries, and those of its later ones."""
        again = consumer.again
        places = np.flatnonzero(self._several & (consumer.state & DELIVERED != 0))
        channel = channels_at(consumer, consumer.first_ns[places])
        among_all, *others, closed_ns = _channel_columns(number, consumer, channel)
        given_back = consumer.state[places] & REQUEUED != 0
        yield (
            places,
            consumer.stamp[places],
            consumer.first_ns[places],
            consumer.state[places] & REDELIVERED != 0,
            np.full(len(places), number),
            # What was given back is as if it had come on a channel of its own, which broke off.
            np.where(given_back, -1 - number, among_all),
            *others,
            np.where(given_back, _NEVER, closed_ns),
        )
        yield (
            again["place"],
            again["stamp"],
            again["at_ns"],
            again["flags"] & REDELIVERED != 0,
            np.full(len(again), number),
            *_channel_columns(number, consumer, again["channel"].astype(np.int64)),
        )

    def _counts(self, rows: BoolArray) -> IntArray:
        """Count the rows of each message."""
        size = len(self.delivered)
        return np.bincount(self.repeats.place[rows], minlength=size).astype(np.int64)

    @cached_property
    def _duplicates_of_copies(self) -> IntArray:
        """Return how many deliveries of each copy came again without the flag.

        Within a consumer the order is certain. Between consumers it is not: who received a message
        earlier may record it later. One delivery without the flag is then none too many.
        """
        table = self.repeats
        certain = table.again_within(table.consumer) & ~table.flagged
        copies = len(table.starts)
        unflagged = np.bincount(table.group[~table.flagged], minlength=copies)
        surely = np.bincount(table.group[certain], minlength=copies)
        return np.maximum(np.maximum(unflagged - 1, surely), 0)

    @cached_property
    def duplicates(self) -> IntArray:
        """Return how often each message was delivered again without the flag."""
        return self._sum_of_copies(self._duplicates_of_copies)

    @cached_property
    def redelivered(self) -> IntArray:
        """Return how often each message was delivered again with the flag."""
        table = self.repeats
        lengths = np.diff(np.append(table.starts, len(table.place)))
        return self._sum_of_copies(lengths - 1 - self._duplicates_of_copies)

    def _sum_of_copies(self, counts: IntArray) -> IntArray:
        total = np.zeros(len(self.delivered), np.int64)
        np.add.at(total, self.repeats.place[self.repeats.starts], counts)
        return total

    @cached_property
    def repeated(self) -> IntArray:
        """Return how often each came again, with the flag, on a channel that still had it."""
        return self._counts(self.repeats.flagged & self._again_on_channel)

    @cached_property
    def _again_on_channel(self) -> BoolArray:
        """Return the rows before which the same copy came on the same channel."""
        table = self.repeats
        return table.again_within(table.channel) & (table.channel > 0)

    def after_ack(self, restarts: Sequence[Restart]) -> tuple[IntArray, IntArray]:
        """Return how often each came again, flagged, after its acknowledgement had been taken.

        First the ones without an excuse, then those before which the node may have restarted. An
        acknowledgement was taken where its channel was closed cleanly, or where none is needed.
        What came on a channel that was opened after that came after it. Of several deliveries whose
        acknowledgements were all taken, none had been given back: each flagged one but the first
        came after an acknowledgement, in whatever order their consumers recorded them. Where a copy
        is a duplicate too, a flagged one may be that which was given back. Where closing a channel
        does not say that acknowledgements were taken, only that counts which came while the
        consumer of the rightful one was there.
        """
        table = self.repeats
        clean = table.closed_ns != _NEVER
        # One clean delivery of each copy is the rightful one: the first, one without the flag
        # before all others. Rows are in the order of time.
        rank = np.where(
            clean, np.arange(len(clean)) + np.where(table.flagged, len(clean), 0), _NEVER
        )
        rightful = np.minimum.reduceat(rank, table.starts)
        at = np.where(rightful == _NEVER, 0, rightful % len(clean))[table.group]
        has_one = (rightful != _NEVER)[table.group]
        taken_ns = np.minimum.reduceat(table.closed_ns, table.starts)[table.group]
        later = table.opened_ns >= taken_ns
        other = clean & has_one & (table.channel != table.channel[at])
        if self._close_takes_acks:
            after = later | other
        else:
            after = other & (table.at_ns + _APART_NS < table.left_ns[at])
        given_back = table.channel < 0  # what came of it counts instead
        found = table.flagged & after & ~self._again_on_channel & ~given_back
        excused = np.zeros(len(found), np.bool_)
        for restart in restarts:
            excused |= (restart.before_ns > table.at_ns[at]) & (restart.after_ns < table.at_ns)
        number = len(table.starts)
        failing = np.bincount(table.group[found & ~excused], minlength=number)
        failing = np.maximum(failing - self._duplicates_of_copies, 0)
        return self._sum_of_copies(failing), self._counts(found & excused)

    def altered_send_times(self) -> Iterator[Altered]:
        """Yield the deliveries whose head is sound and tells another send time than was sent."""
        sends = self._sends
        if sends.part.let_go is not None:
            return  # the times of sending are gone, and with them what could be compared
        for number, consumer in enumerate(self._consumers):
            again = consumer.again
            looked_at = (consumer.state & (DELIVERED | REPORTED) == DELIVERED) & sends.sent
            looked_at &= consumer.stamp != sends.stamp
            places = np.flatnonzero(looked_at)
            places = places[~sends.is_stamp_of(places, consumer.stamp[places])]
            firsts_ns = consumer.first_ns[places]
            channels = channels_at(consumer, firsts_ns)
            for row in zip(places.tolist(), firsts_ns.tolist(), channels.tolist(), strict=True):
                yield Altered(number, False, self._altered(*row))
            rows = again[sends.sent[again["place"]] & (again["flags"] & REPORTED == 0)]
            for row in rows[~sends.is_stamp_of(rows["place"], rows["stamp"])]:
                place, at_ns, channel = (int(row[of]) for of in ("place", "at_ns", "channel"))
                yield Altered(number, True, self._altered(place, at_ns, channel))

    def _altered(self, place: int, at_ns: int, channel: int) -> Incident:
        part, detail = self._sends.part, "the send time in the head of the body"
        sequence = part.first + place
        return Incident(FindingName.CORRUPTED, at_ns, part.number, sequence, detail, channel)


def _channel_columns(
    number: int, consumer: ConsumerEvidence, channel: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Return the last columns of a consumer's deliveries, from ``channel`` on.

    A consumer numbers its channels by itself; among all consumers of the queue each has a number.
    """
    opened = {each.number: each.opened_ns for each in consumer.channels}
    closed = {each.number: each.closed_ns for each in consumer.channels if each.closed_ns}
    left = {each.number: each.left_ns for each in consumer.channels if each.left_ns}
    numbers, which = np.unique(channel, return_inverse=True)
    opened_ns = np.array([opened.get(each, -1) for each in numbers.tolist()], np.int64)
    left_ns = np.array([left.get(each, -1) for each in numbers.tolist()], np.int64)
    closed_ns = np.array([closed.get(each, _NEVER) for each in numbers.tolist()], np.int64)
    among_all = np.where(channel > 0, channel + (number << 32), 0)
    return among_all, opened_ns[which], left_ns[which], closed_ns[which]
