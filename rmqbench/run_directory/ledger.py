"""The evidence of a run, as arrays indexed by sequence number, in memory-mapped files.

What is written into a mapped file outlives the process that wrote it, ``kill -9`` included. Each
file has one writer; merging what several workers saw is adding arrays. A message costs 17 bytes
for its publish and 11 for its deliveries by one consumer of one queue.

Only this module's own files are read and written here; there is no other input or output.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from rmqbench.errors import RmqbenchError
from rmqbench.verdict.evidence import FIRST_REDELIVERED, Incident
from rmqbench.verdict.findings import FindingName

__all__ = [
    "DeliveryLedger",
    "DeliveryRecorder",
    "PublishLedger",
]

# Counts stop here instead of starting again at 0.
_MOST = 0x7F

_Column = npt.NDArray[Any]


class _Columns:
    """Arrays of equal length, each a memory-mapped ``.npy`` file in one directory."""

    columns: ClassVar[dict[str, str]]

    def __init__(self, directory: Path, arrays: dict[str, _Column]) -> None:
        self.directory = directory
        self.arrays = arrays

    @classmethod
    def create(cls, directory: Path, count: int) -> None:
        """Create the files for ``count`` messages, all zero.

        Their space on the disk is reserved here, where a full disk is an error: later, in a mapped
        page, it would end the process.
        """
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for name, dtype in cls.columns.items():
                path = directory / f"{name}.npy"
                array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(count,))
                del array
                _take_room(path)
        except OSError as error:
            raise RmqbenchError(
                f"The ledger for {count} messages cannot be written to {directory}: "
                f"{error.strerror or error}.",
                "Free some disk space, or name another directory for the run.",
            ) from None

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the files for writing, as their only writer."""
        return cls(directory, cls._map(directory, "r+"))

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Open the files for reading; raise OSError or ValueError where they cannot be."""
        return cls(directory, cls._map(directory, "r"))

    @classmethod
    def empty(cls, directory: Path, count: int) -> Self:
        """Return what stands for files that cannot be read: ``count`` messages, all zero."""
        return cls(directory, {name: np.zeros(count, of) for name, of in cls.columns.items()})

    @classmethod
    def _map(cls, directory: Path, mode: Literal["r", "r+"]) -> dict[str, _Column]:
        arrays = {}
        for name, dtype in cls.columns.items():
            path = directory / f"{name}.npy"
            # A plain array over the mapping: the subclass costs time at each access.
            arrays[name] = np.asarray(np.lib.format.open_memmap(path, mode=mode))
            if arrays[name].dtype != np.dtype(dtype) or arrays[name].ndim != 1:
                raise ValueError(f"{path} is no column of a ledger")
        return arrays


class PublishLedger(_Columns):
    """What became of each publish of one producer.

    ``state`` uint8 bits (SENT, CONFIRMED, …), ``sent_ns`` and ``settled_ns`` int64 Unix
    nanoseconds (0: not yet), all of shape (count,).
    """

    columns: ClassVar = {"state": "u1", "sent_ns": "<i8", "settled_ns": "<i8"}

    def __init__(self, directory: Path, arrays: dict[str, _Column]) -> None:
        super().__init__(directory, arrays)
        self.state: _Column = self.arrays["state"]
        self.sent_ns: _Column = self.arrays["sent_ns"]
        self.settled_ns: _Column = self.arrays["settled_ns"]


class DeliveryLedger(_Columns):
    """What one consumer received from one queue, of all producers one behind the other.

    A message's place is ``starts[producer] + sequence``. ``delivered`` uint8 counts deliveries;
    ``redelivered`` uint8 those with the flag, and has the bit FIRST_REDELIVERED where the first
    one had it; ``acked`` uint8 is the number of the channel on which it was acknowledged (0: on
    none); ``first_ns`` int64 Unix nanoseconds. All of shape (sum of counts,). What these cannot
    hold is a line of ``incidents.jsonl``.
    """

    columns: ClassVar = {"delivered": "u1", "redelivered": "u1", "acked": "u1", "first_ns": "<i8"}

    def __init__(self, directory: Path, arrays: dict[str, _Column]) -> None:
        super().__init__(directory, arrays)
        self.delivered: _Column = self.arrays["delivered"]
        self.redelivered: _Column = self.arrays["redelivered"]
        self.acked: _Column = self.arrays["acked"]
        self.first_ns: _Column = self.arrays["first_ns"]

    @property
    def incidents_path(self) -> Path:
        """Where the incidents stand, one JSON object a line."""
        return self.directory / "incidents.jsonl"

    def incidents(self) -> Iterator[Incident]:
        """Read the incidents; a last line that was cut off by a crash is passed over."""
        if not self.incidents_path.exists():
            return
        for line in self.incidents_path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield Incident.from_json(line)


class DeliveryRecorder:
    """Writes a :class:`DeliveryLedger`: the one way in which a delivery becomes evidence.

    Deliveries come in arrays, of one row where they came alone. What can be seen at once (a second
    delivery, a lower sequence number) is recorded here; the rest is the verdict's.
    """

    def __init__(self, directory: Path, counts: Sequence[int]) -> None:
        """Open the ledger in ``directory``; ``counts`` is the messages of each producer."""
        self.ledger = DeliveryLedger.open(directory)
        self.deliveries = 0  # of this run's messages, those that came again included
        self.distinct = 0  # of this run's messages, each counted once
        self.channel = 0  # number of the consuming channel, from 1 on; 255 is followed by 1
        self.reordered_redeliveries = 0
        self.incidents = 0  # reported
        self._counts = np.asarray(counts, np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self._counts)[:-1])).astype(np.int64)
        self._highest = np.full(len(counts), -1, np.int64)
        self._incidents = os.open(
            self.ledger.incidents_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
        )

    def close(self) -> None:
        """Close the file of incidents."""
        os.close(self._incidents)

    def open_channel(self) -> None:
        """Begin a new consuming channel: what the last one had not acknowledged comes again."""
        self.channel = self.channel % 255 + 1

    def report(self, incident: Incident) -> None:
        """Write one incident; it is in the kernel's hands when this returns."""
        incident = replace(incident, channel=self.channel)
        line = json.dumps(asdict(incident), ensure_ascii=True).encode() + b"\n"
        os.write(self._incidents, line)
        self.incidents += 1

    def record(
        self,
        producers: npt.NDArray[np.int64],
        sequences: npt.NDArray[np.int64],
        redelivered: npt.NDArray[np.bool_],
        now_ns: int,
    ) -> npt.NDArray[np.int64]:
        """Record deliveries in their order; return the places of those that can have been sent.

        All arrays of shape (n,). A message with a number that no producer was given is reported
        as a phantom.
        """
        known = (producers < len(self._counts)) & (sequences >= 0)
        known[known] = sequences[known] < self._counts[producers[known]]
        for producer, sequence in zip(producers[~known], sequences[~known], strict=True):
            self.report(Incident(FindingName.PHANTOM, now_ns, int(producer), int(sequence)))
        if not known.all():
            producers, sequences = producers[known], sequences[known]
            redelivered = redelivered[known]
        self.deliveries += len(producers)
        for producer in np.unique(producers).tolist():
            mine = producers == producer
            if mine.all():
                self._record_of_one(producer, sequences, redelivered, now_ns)
            else:
                self._record_of_one(producer, sequences[mine], redelivered[mine], now_ns)
        return self._starts[producers] + sequences

    def acknowledge(self, places: npt.NDArray[np.int64]) -> None:
        """Record that the acknowledgement of these is being sent on the present channel."""
        self.ledger.acked[places] = self.channel

    def _record_of_one(
        self,
        producer: int,
        sequences: npt.NDArray[np.int64],
        redelivered: npt.NDArray[np.bool_],
        now_ns: int,
    ) -> None:
        ledger = self.ledger
        places = self._starts[producer] + sequences
        ascending = (sequences[1:] > sequences[:-1]).all()
        if not ascending or ledger.delivered[places].any():
            for i in range(len(places)):
                self._record_one(producer, int(sequences[i]), bool(redelivered[i]), now_ns)
            return
        self.distinct += len(places)
        late = int(np.searchsorted(sequences, self._highest[producer]))
        for i in range(late):
            self._report_late(producer, int(sequences[i]), bool(redelivered[i]), now_ns)
        self._highest[producer] = max(int(self._highest[producer]), int(sequences[-1]))
        if redelivered.any():
            ledger.redelivered[places[redelivered]] = FIRST_REDELIVERED | 1
        ledger.first_ns[places] = now_ns
        ledger.delivered[places] = 1  # last: a torn record is a delivery that was not seen

    def _record_one(self, producer: int, sequence: int, redelivered: bool, now_ns: int) -> None:
        """Record one delivery that does not simply follow the ones before it."""
        ledger = self.ledger
        place = int(self._starts[producer]) + sequence
        if ledger.delivered[place]:
            if redelivered and ledger.acked[place] == self.channel:
                again = Incident(FindingName.REDELIVERED_AFTER_ACK, now_ns, producer, sequence)
                self.report(again)
            if redelivered and ledger.redelivered[place] & _MOST < _MOST:
                ledger.redelivered[place] += 1
            if ledger.delivered[place] < _MOST:
                ledger.delivered[place] += 1
            return
        self.distinct += 1
        if sequence < self._highest[producer]:
            self._report_late(producer, sequence, redelivered, now_ns)
        else:
            self._highest[producer] = sequence
        ledger.redelivered[place] = FIRST_REDELIVERED | 1 if redelivered else 0
        ledger.first_ns[place] = now_ns
        ledger.delivered[place] = 1

    def _report_late(self, producer: int, sequence: int, redelivered: bool, now_ns: int) -> None:
        """Report a first delivery that came behind a later message of its producer."""
        if redelivered:
            self.reordered_redeliveries += 1
        else:
            behind = int(self._highest[producer])
            late = Incident(FindingName.REORDERED, now_ns, producer, sequence, behind=behind)
            self.report(late)


def _take_room(path: Path) -> None:
    """Reserve on the disk what a sparse file will need."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        head = file.read(128)
        file.seek(0)
        file.write(head)
        for at in range(len(head), size, 1 << 20):
            file.write(bytes(min(1 << 20, size - at)))
