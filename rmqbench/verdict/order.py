"""Order: what one publishing channel sent comes from one queue to its only consumer as it was sent.

By https://www.rabbitmq.com/docs/semantics#ordering. Only first deliveries are compared, within the
channel on which each copy was published, over all rounds of the consumer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmqbench.verdict.deliveries import BoolArray, IntArray, QueueDeliveries, Sends
from rmqbench.verdict.evidence import ProducerEvidence

__all__ = ["Late", "late_deliveries"]


@dataclass(frozen=True, eq=False)
class Late:
    """Deliveries that came behind a later message of their channel; columns of equal length.

    ``behind`` is the highest sequence number that was there already.
    """

    producer: IntArray
    sequence: IntArray
    behind: IntArray
    flagged: BoolArray


def late_deliveries(
    producers: list[ProducerEvidence], sends: Sends, deliveries: QueueDeliveries
) -> Late:
    """Return the first deliveries that are not in the order of their publishing channel."""
    columns: list[tuple[IntArray, IntArray, IntArray, BoolArray]] = []
    for number, producer in enumerate(producers):
        if not producer.channels:
            continue
        start = int(sends.starts[number])
        firsts = np.array([each.first for each in producer.channels])
        numbers = np.array([each.number for each in producer.channels])
        sequence, at_ns, flagged, stamp = _first_deliveries(start, len(producer.state), deliveries)
        if len(firsts) == 1 and (np.diff(at_ns) > 0).all():
            continue
        # Before the first channel there is none: its messages have not been sent, or so it seems.
        which = np.searchsorted(firsts, sequence, side="right") - 1
        channel = np.where(which >= 0, numbers[which], 0)
        channel = _channels_of_copies(sends, start + sequence, stamp, channel)
        for one in numbers.tolist():
            here = channel == one
            order = np.argsort(at_ns[here], kind="stable")
            in_time, flags = sequence[here][order], flagged[here][order]
            highest = np.maximum.accumulate(in_time)
            late = in_time < highest
            columns.append((np.full(late.sum(), number), in_time[late], highest[late], flags[late]))
    if not columns:
        nothing = np.zeros(0, np.int64)
        return Late(nothing, nothing, nothing, nothing.astype(np.bool_))
    return Late(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _first_deliveries(
    start: int, count: int, deliveries: QueueDeliveries
) -> tuple[IntArray, IntArray, BoolArray, npt.NDArray[np.uint32]]:
    """Return the first delivery of each copy of one producer: sequence, when, flag, stamp."""
    mine = slice(start, start + count)
    came = deliveries.delivered[mine]
    table = deliveries.repeats
    # Of a message with copies, the first deliveries of the others are among the repeats.
    rows = table.starts
    rows = rows[(table.place[rows] >= start) & (table.place[rows] < start + count)]
    rows = rows[table.copy[rows] != 0]
    other = deliveries.first_ns[table.place[rows]] != table.at_ns[rows]
    rows = rows[other]
    sequence = np.concatenate([np.flatnonzero(came), table.place[rows] - start])
    at_ns = np.concatenate([deliveries.first_ns[mine][came], table.at_ns[rows]])
    flagged = np.concatenate([deliveries.first_flagged[mine][came], table.flagged[rows]])
    stamp = np.concatenate([deliveries.first_stamp[mine][came], table.copy[rows].astype(np.uint32)])
    return sequence, at_ns, flagged, stamp


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
