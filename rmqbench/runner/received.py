"""How many messages the consumers of a queue have received, watched at the cost of what is new."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rmqbench.run_directory.ledger import BLOCK, DeliveryLedger

__all__ = ["Received"]


class Received:
    """What any of the consumers of one queue has received, each message counted once.

    Each consumer counts what it records. Of an only consumer its counts are the answer. What two
    have received must not count twice, whoever of them was first: of several, the blocks of their
    ledgers are looked at in which any of them has received something since the last look.
    """

    def __init__(self) -> None:
        """Begin without any consumer."""
        self.distinct = 0  # messages that any of them has received
        self.total = 0  # messages that each has received, added up
        self._ledgers: list[DeliveryLedger] = []
        self._progress: list[npt.NDArray[np.int64]] = []
        self._seen = np.zeros(0, np.int64)  # of each block, what all had counted by the last look
        self._distinct = np.zeros(0, np.int64)  # of each block

    def add(self, ledger: DeliveryLedger) -> None:
        """Take another consumer's ledger into account; all are of the same length."""
        if not self._ledgers:
            blocks = len(ledger.progress())
            self._seen, self._distinct = np.zeros(blocks, np.int64), np.zeros(blocks, np.int64)
        self._ledgers.append(ledger)
        self._progress.append(ledger.progress())

    def look(self) -> None:
        """Count what has been received since the last look."""
        counts = self._counts()
        changed = counts != self._seen
        if len(self._ledgers) == 1:
            self._distinct[changed] = counts[changed]
        else:
            for block in np.flatnonzero(changed).tolist():
                self._distinct[block] = self._count(block)
        self._note(counts)

    def recount(self) -> None:
        """Count everything, now that nobody writes: who was killed had not counted its last."""
        counts = self._counts()
        for block in range(len(counts)):
            self._distinct[block] = self._count(block)
        self._note(counts)

    def _counts(self) -> npt.NDArray[np.int64]:
        """Return what all consumers have counted by now: recorded it is already."""
        counts = np.zeros_like(self._seen)
        for progress in self._progress:
            counts += progress
        return counts

    def _count(self, block: int) -> int:
        """Count the messages of a block that any of them has received."""
        places = slice(block * BLOCK, (block + 1) * BLOCK)
        came = self._ledgers[0].came(places)
        for ledger in self._ledgers[1:]:
            came |= ledger.came(places)
        return int(np.count_nonzero(came))

    def _note(self, counts: npt.NDArray[np.int64]) -> None:
        self._seen = counts
        self.distinct, self.total = int(self._distinct.sum()), int(counts.sum())
