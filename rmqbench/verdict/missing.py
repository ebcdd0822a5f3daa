"""What a queue did not deliver: where it lies in what was sent, and what can have removed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmqbench.verdict.deliveries import BoolArray, IntArray, Sends
from rmqbench.verdict.evidence import ProducerEvidence, Removal
from rmqbench.verdict.parts import Part

__all__ = ["Missing"]


@dataclass(eq=False)
class _OfProducer:
    """How many messages of a producer are missing, and the first and last that is not."""

    missing: int = 0
    first: int | None = None
    last: int = 0


class Missing:
    """The messages that are missing from a queue, taken in a part at a time."""

    def __init__(self, removals: Sequence[Removal]) -> None:
        """``removals`` are the causes on record."""
        self._removals = removals
        befores = [e.sent_before_ns for e in removals if e.sent_before_ns is not None]
        self._before_ns = max(befores, default=None)
        self._old = 0  # that a cause can have removed because they were sent so early
        self._of: dict[int, _OfProducer] = {}

    def pass_over(self, part: Part) -> None:
        """Take in that no message of a part is missing."""
        of = self._of.setdefault(part.number, _OfProducer())
        if of.first is None:
            of.first = part.first
        of.last = part.first + len(part) - 1

    def add(self, sends: Sends, missing: BoolArray) -> None:
        """Take in which messages of a part are missing."""
        part = sends.part
        count = int(np.count_nonzero(missing))
        of = self._of.setdefault(part.number, _OfProducer())
        of.missing += count
        if count < len(missing):
            if of.first is None:
                of.first = part.first + int(np.argmin(missing))
            of.last = part.first + len(missing) - 1 - int(np.argmin(missing[::-1]))
        if count and self._before_ns is not None:
            self._old += int(np.count_nonzero(missing & (_last_sent_ns(sends) < self._before_ns)))

    def removable(self) -> int:
        """Return how many of them the recorded causes can have removed together."""
        total = sum(each.missing for each in self._of.values())
        others = 0
        for removal in self._removals:
            if removal.sent_before_ns is not None:
                continue
            if removal.at_most is None:
                return total
            others += removal.at_most
        return min(total, others + self._old)

    def where(self, producers: Sequence[ProducerEvidence]) -> str:
        """Describe whether what is missing lies at the start, in the middle or at the end."""
        if all(each.first is None for each in self._of.values()):
            return "all of what was sent"
        start = middle = end = 0
        wholes = []  # producers of which nothing is there
        for number, each in sorted(self._of.items()):
            if each.first is None:
                wholes.append(f"all {each.missing} of producer {number}")
                continue
            before, behind = each.first, len(producers[number].state) - 1 - each.last
            start, end = start + before, end + behind
            middle += each.missing - before - behind
        counts = ((start, "at the start"), (middle, "in the middle"), (end, "at the end"))
        parts = ", ".join(f"{n} {place}" for n, place in counts if n)
        return "; ".join(([f"{parts} of what was sent"] if parts else []) + wholes)


def _last_sent_ns(sends: Sends) -> IntArray:
    sent_ns = sends.part.producer.sent_ns.copy()
    np.maximum.at(sent_ns, sends.copy_place, sends.copy_sent_ns)
    return sent_ns
