"""Write the evidence of a run: one recorder for each worker, the only writer of its files."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmqbench.pieces import piece_at
from rmqbench.run_directory.ledger import BLOCK, DeliveryLedger, PublishLedger
from rmqbench.run_directory.let_go import LetGo, free_rows
from rmqbench.verdict.evidence import (
    ACKED,
    AGAIN,
    CONFIRMED,
    COPY,
    DELIVERED,
    NACKED,
    REDELIVERED,
    REJECTED,
    REPORTED,
    REQUEUED,
    RETURNED,
    SENT,
    Incident,
)
from rmqbench.verdict.findings import FindingName

__all__ = ["DeliveryRecorder", "PublishRecorder"]


_FREED_AGAIN = 32  # segments


class _Recorder:
    """What each recorder writes beside its ledger: rows of what came again, and incidents."""

    ledger: PublishLedger | DeliveryLedger

    def __init__(self, rows: Path, incidents: Path, let_go: LetGo | None) -> None:
        self._rows = _Appended(rows)
        self._incidents = _Appended(incidents)
        self._let_go = let_go
        self._freed: deque[slice] = deque(maxlen=_FREED_AGAIN)

    def close(self) -> None:
        """Close its files."""
        self._rows.close()
        self._incidents.close()

    @property
    def repeats(self) -> int:
        """How many messages were sent or delivered again, each time counted."""
        return self._rows.count

    @property
    def incidents(self) -> int:
        """How many incidents were reported."""
        return self._incidents.count

    def _is_final(self, segment: npt.NDArray[Any]) -> bool:
        """Whether a segment that was judged has not changed since."""
        return True

    def _free_what_was_let_go(self) -> None:
        """Free the space of what the run has judged and let go meanwhile, if it has."""
        if self._let_go is None:
            return
        columns = self.ledger.arrays.values()
        for segment in self._let_go.to_be_freed():
            if not self._is_final(segment):
                continue
            self._freed.append(piece_at(int(segment["start"])))
            # Once more what was freed lately: what was on its way to the disk then, in the same
            # stretch of memory as something else, has been given space again.
            empty = [each for each in self._freed if not self.ledger.state[each].any()]
            try:
                for these in (*empty, self._freed[-1]):
                    for column in columns:
                        free_rows(column, these.start, these.stop)
            except OSError:  # this file system gives no space back: all stays as it is
                self._let_go = None
                return

    def report(self, incident: Incident) -> None:
        """Write one incident, a JSON object in a line."""
        line = json.dumps(asdict(incident), ensure_ascii=True)
        self._incidents.append(line.encode() + b"\n")


class PublishRecorder(_Recorder):
    """Writes a :class:`PublishLedger`: all that becomes evidence of a publish."""

    ledger: PublishLedger

    def __init__(self, directory: Path) -> None:
        """Open the ledger in ``directory``."""
        self.ledger = PublishLedger.open(directory)
        self._progress = self.ledger.progress("r+")
        super().__init__(self.ledger.copies_path, self.ledger.incidents_path, self.ledger.let_go)

    def send(
        self,
        sequences: npt.NDArray[np.int64],
        channel: int,
        now_ns: int,
        lag_ns: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Record that these are about to be sent on a channel, some of them perhaps again.

        ``lag_ns``, of the same shape, is by how much the producer itself is late with each.
        """
        ledger = self.ledger
        again = ledger.state[sequences] & SENT != 0
        if again.any():
            copies = np.zeros(np.count_nonzero(again), COPY)
            copies["sequence"] = sequences[again]
            copies["sent_ns"] = now_ns
            copies["channel"] = channel
            self._rows.append(copies.tobytes(), len(copies))
            sequences = sequences[~again]
            lag_ns = None if lag_ns is None else lag_ns[~again]
        ledger.sent_ns[sequences] = now_ns
        if ledger.lag_ns is not None and lag_ns is not None:
            ledger.lag_ns[sequences] = lag_ns
        ledger.state[sequences] |= SENT

    def leave_unsent(
        self, sequences: npt.NDArray[np.int64], lag_ns: npt.NDArray[np.float32]
    ) -> None:
        """Record by how much the producer itself is late with messages that it will not send."""
        if self.ledger.lag_ns is not None:
            self.ledger.lag_ns[sequences] = lag_ns

    def settle(self, sequences: npt.NDArray[np.int64], bit: int, now_ns: int) -> None:
        """Record that these, each named once, were confirmed or refused: CONFIRMED or NACKED."""
        ledger = self.ledger
        state = ledger.state[sequences]
        ledger.settled_after_ns[sequences] = np.maximum(now_ns - ledger.sent_ns[sequences], 1)
        ledger.state[sequences] = state | bit
        self._progress[0] += np.count_nonzero(state & (CONFIRMED | NACKED) == 0)
        self._free_what_was_let_go()

    def indeterminate(self, sent: int) -> npt.NDArray[np.int64]:
        """Return which of the first ``sent`` messages are in an unknown state."""
        unknown = self.ledger.state[:sent] & (CONFIRMED | NACKED | RETURNED) == 0
        if self.ledger.let_go is not None:
            unknown &= ~self.ledger.let_go.among(0, sent)
        return np.flatnonzero(unknown)


class DeliveryRecorder(_Recorder):
    """Writes a :class:`DeliveryLedger`: the one way in which a delivery becomes evidence.

    Deliveries come in arrays, of one row where they came alone. They are only written down here:
    what they mean is the verdict's.
    """

    ledger: DeliveryLedger

    def __init__(self, directory: Path, counts: Sequence[int]) -> None:
        """Open the ledger in ``directory``; ``counts`` is the messages of each producer."""
        self.ledger = DeliveryLedger.open(directory)
        self._progress = self.ledger.progress("r+")
        super().__init__(self.ledger.again_path, self.ledger.incidents_path, self.ledger.let_go)
        self.deliveries = 0  # of this run's messages, those that came again included
        self.distinct = 0  # of this run's messages, each counted once
        self.channel = 0  # number of the consuming channel, from 1 on
        self._counts = np.asarray(counts, np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self._counts)[:-1])).astype(np.int64)
        self._last_ns = 0

    def open_channel(self) -> None:
        """Begin a new consuming channel: what the last one had not acknowledged comes again."""
        self.channel += 1

    def report(self, incident: Incident) -> None:
        """Write one incident, as of the present channel."""
        super().report(replace(incident, channel=self.channel))

    def record(
        self,
        producers: npt.NDArray[np.int64],
        sequences: npt.NDArray[np.int64],
        redelivered: npt.NDArray[np.bool_],
        stamps: npt.NDArray[np.uint32],
        now_ns: int,
        *,
        corrupted: bool = False,
    ) -> npt.NDArray[np.int64]:
        """Record deliveries in their order; return the place of each, -1 where it has none.

        All arrays of shape (n,); a stamp is 0 where the head cannot be read. With ``corrupted`` all
        are marked as that. A message with a number that no producer was given is reported as a
        phantom. Each delivery gets a moment of its own, at or just behind ``now_ns``, which keeps
        their order.
        """
        known = (producers < len(self._counts)) & (sequences >= 0)
        known[known] = sequences[known] < self._counts[producers[known]]
        of_each = None
        if not known.all():
            of_each = np.full(len(known), -1)
            for producer, sequence in zip(producers[~known], sequences[~known], strict=True):
                self.report(Incident(FindingName.PHANTOM, now_ns, int(producer), int(sequence)))
            producers, sequences = producers[known], sequences[known]
            redelivered, stamps = redelivered[known], stamps[known]
        always = REPORTED if corrupted else 0
        flags = np.where(redelivered, REDELIVERED | always, always).astype(np.uint8)
        places = self._starts[producers] + sequences
        self.deliveries += len(places)
        at_ns = max(now_ns, self._last_ns + 1) + np.arange(len(places))
        if len(places):
            self._last_ns = int(at_ns[-1])
        first = self._first_deliveries(places)
        if first is None:
            self._record_first(places, flags, stamps, at_ns)
        else:
            self._record_first(places[first], flags[first], stamps[first], at_ns[first])
            self._record_again(places[~first], flags[~first], stamps[~first], at_ns[~first])
        if of_each is None:
            return places
        of_each[known] = places
        return of_each

    def acknowledge(self, places: npt.NDArray[np.int64], now_ns: int) -> None:
        """Record that the acknowledgement of these is being sent on the present channel."""
        ledger, places = self.ledger, places[places >= 0]
        if ledger.acked_after_ns is not None:
            new = places[ledger.acked_after_ns[places] == 0]
            ledger.acked_after_ns[new] = np.maximum(now_ns - ledger.first_ns[new], 1)
        ledger.state[places] |= ACKED
        self._free_what_was_let_go()

    def give_up(self, places: npt.NDArray[np.int64], *, requeue: bool) -> None:
        """Record that these are being rejected for good, or given back with ``requeue``."""
        self.ledger.state[places[places >= 0]] |= REQUEUED if requeue else REJECTED

    def were_given_back(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of some messages were given back, of those that have a place."""
        given_back: npt.NDArray[np.bool_] = self.ledger.state[places] & REQUEUED != 0
        given_back &= places >= 0
        return given_back

    def _is_final(self, segment: npt.NDArray[Any]) -> bool:
        """Whether nothing has come since a segment was judged: what has would be forgotten."""
        these = piece_at(int(segment["start"]))
        return int(self.ledger.first_ns[these].max()) <= int(segment["last_ns"])

    def _first_deliveries(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_] | None:
        """Return which of these are first deliveries; None: all of them."""
        seen = self.ledger.state[places] != 0
        if not seen.any() and (
            (places[1:] > places[:-1]).all() or len(np.unique(places)) == len(places)
        ):
            return None
        first = np.zeros(len(places), np.bool_)
        first[np.unique(places, return_index=True)[1]] = True
        first &= ~seen
        return first

    def _record_first(
        self,
        places: npt.NDArray[np.int64],
        flags: npt.NDArray[np.uint8],
        stamps: npt.NDArray[np.uint32],
        at_ns: npt.NDArray[np.int64],
    ) -> None:
        ledger = self.ledger
        self.distinct += len(places)
        ledger.stamp[places] = stamps
        ledger.first_ns[places] = at_ns
        # Last: a torn record is a delivery that was not seen.
        ledger.state[places] = DELIVERED | flags
        counts = np.bincount(places // BLOCK)
        self._progress[: len(counts)] += counts

    def _record_again(
        self,
        places: npt.NDArray[np.int64],
        flags: npt.NDArray[np.uint8],
        stamps: npt.NDArray[np.uint32],
        at_ns: npt.NDArray[np.int64],
    ) -> None:
        rows = np.zeros(len(places), AGAIN)
        rows["place"] = places
        rows["at_ns"] = at_ns
        rows["channel"] = self.channel
        rows["stamp"] = stamps
        rows["flags"] = flags
        self._rows.append(rows.tobytes(), len(rows))


class _Appended:
    """A file that only grows; what is appended is in the kernel's hands when it returns."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, data: bytes, count: int = 1) -> None:
        """Append what counts as ``count`` rows or lines."""
        left = memoryview(data)
        while left:  # of a nearly full disk the kernel takes what still fits
            left = left[os.write(self._file, left) :]
        self.count += count

    def close(self) -> None:
        os.close(self._file)
