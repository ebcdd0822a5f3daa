"""What can be seen of a run while it is under way: for whoever watches; it decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmqbench.clients.producer import ProducerPlan
from rmqbench.management.sampler import Sample
from rmqbench.results.latencies import publish_rows, queue_rows
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.run_directory.reading import entries_of
from rmqbench.run_directory.records import ConsumerRecord, ProducerRecord, QueueRecord
from rmqbench.runner.drain import QueueDrain
from rmqbench.text import counted
from rmqbench.verdict.evidence import AGAIN, COPY, NACKED, RETURNED

__all__ = ["Live", "LiveFigures", "Progress"]

_EVERY_S = 1.0
_MOST = 20_000  # messages of each producer, of which latencies are looked at


@dataclass(frozen=True, slots=True)
class Live:
    """Figures of the last second.

    ``confirm`` and ``delivery`` are the p50 and p99 of latencies in milliseconds, the latter
    through the first queue (None: there were none). ``depth`` is how many messages the queues hold,
    by the broker's own figures (None: it does not say). ``wrong`` is what has come so far and
    should not have, a few words each; whether it is allowed, the verdict will say.
    """

    confirm: tuple[float, float] | None = None
    delivery: tuple[float, float] | None = None
    depth: int | None = None
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it in a line."""
        said = [
            f"{what} p50 {pair[0]:.3g}, p99 {pair[1]:.3g} ms"
            for what, pair in (("confirmed", self.confirm), ("delivered", self.delivery))
            if pair is not None
        ]
        if self.depth is not None:
            said.append(f"in queues {self.depth:,}")
        return "; ".join([*said, "so far " + (", ".join(self.wrong) or "nothing wrong")])


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one phase (``publish``, or ``drain`` and a queue's name) has come.

    ``total`` is None where the end is not known. ``so_far`` is there once a minute where the run is
    judged while it is under way: what was found so far, in a sentence. ``live`` is there once a
    second.
    """

    phase: str
    done: int
    total: int | None
    so_far: str | None = None
    live: Live | None = None


class LiveFigures:
    """Looks at the ledgers of producers, and of the consumers of drains, at most once a second."""

    def __init__(
        self,
        plans: Sequence[ProducerPlan],
        drains: Sequence[QueueDrain],
        sample: Callable[[], Sample | None],
        monotonic: Callable[[], float],
    ) -> None:
        """Open the ledgers of the producers; ``sample`` returns the broker's newest figures."""
        self._plans = plans
        self._drains = drains
        self._sample = sample
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._ledgers = [PublishLedger.read(plan.directory) for plan in plans]
        self._settled = [ledger.progress() for ledger in self._ledgers]
        self._seen = [0] * len(plans)
        self._wrong: Counter[str] = Counter()

    def look(self) -> Live | None:
        """Return the figures since the last look, or None where it is not time for that."""
        now = self._monotonic()
        if now - self._looked_at < _EVERY_S:
            return None
        self._looked_at = now
        confirms: list[npt.NDArray[np.int64]] = []
        deliveries: list[npt.NDArray[np.int64]] = []
        start = 0
        for number, ledger in enumerate(self._ledgers):
            done = int(self._settled[number][0])
            these = slice(max(self._seen[number], done - _MOST), done)
            self._seen[number] = done
            if these.start < these.stop:
                record = self._record(number)
                confirms.append(publish_rows(record, these)[0])
                for queue in self._queues()[:1]:
                    deliveries.append(queue_rows(record, queue, start, these)[0])
                self._count_outcomes(ledger.state[these])
            start += len(ledger.state)
        return Live(
            confirm=_p50_and_p99(confirms),
            delivery=_p50_and_p99(deliveries),
            depth=self._depth(),
            wrong=tuple(self._what_is_wrong()),
        )

    def _record(self, number: int) -> ProducerRecord:
        plan = self._plans[number]
        return ProducerRecord(
            plan.name,
            entries_of(plan.directory),
            self._ledgers[number],
            np.zeros(0, COPY),
            readable=True,
            schedule=plan.schedule,
        )

    def _queues(self) -> list[QueueRecord]:
        return [
            QueueRecord(
                drain.plan.directory,
                {},
                drain.plan.queue,
                {},
                [ConsumerRecord("", [], each, np.zeros(0, AGAIN), True) for each in drain.ledgers],
            )
            for drain in self._drains
        ]

    def _count_outcomes(self, state: npt.NDArray[np.uint8]) -> None:
        for name, bit in (("nacked", NACKED), ("returned", RETURNED)):
            self._wrong[name] += int(np.count_nonzero(state & bit))

    def _what_is_wrong(self) -> Iterator[str]:
        yield from (f"{count:,} {name}" for name, count in self._wrong.items() if count)
        ledgers = [ledger for drain in self._drains for ledger in drain.ledgers]
        sizes = [each.again_path.stat().st_size for each in ledgers if each.again_path.exists()]
        if again := sum(sizes) // AGAIN.itemsize:
            yield f"{again:,} delivered again"
        paths = [each.incidents_path for each in (*self._ledgers, *ledgers)]
        if incidents := sum(each.exists() and each.stat().st_size > 0 for each in paths):
            yield f"incidents of {counted(incidents, 'worker')}"

    def _depth(self) -> int | None:
        sample = self._sample()
        if sample is None or not sample.queues:
            return None
        counts = [
            count
            for each in sample.queues.values()
            for count in (each.messages_ready, each.messages_unacknowledged)
            if count is not None
        ]
        return sum(counts) if counts else None


def _p50_and_p99(pieces: Sequence[npt.NDArray[np.int64]]) -> tuple[float, float] | None:
    """Return two percentiles in milliseconds, or None where there is nothing."""
    values = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    if not len(values):
        return None
    p50, p99 = (np.percentile(values, (50, 99)) / 1e6).tolist()
    return p50, p99
