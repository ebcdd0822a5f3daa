"""What can be seen of a run while it is under way: for whoever watches; it decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from rmqbench.clients.producer import ProducerPlan
from rmqbench.management.sampler import Sample
from rmqbench.pieces import count_where
from rmqbench.results.latencies import IntArray, publish_rows, queue_rows
from rmqbench.run_directory.journal import Entry, WorkStarted
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.run_directory.reading import entries_of
from rmqbench.run_directory.records import ConsumerRecord, ProducerRecord, QueueRecord
from rmqbench.runner.drain import QueueDrain
from rmqbench.text import counted
from rmqbench.verdict.evidence import AGAIN, COPY, NACKED, RETURNED

__all__ = ["Live", "LiveFigures", "Progress"]

_EVERY_S = 1.0
_MOST = 20_000  # messages of each producer, of which latencies are looked at
_MOST_PRODUCERS, _MOST_CONSUMERS = 20, 20  # whose messages they are
_NO_COPIES, _NO_AGAIN = np.zeros(0, COPY), np.zeros(0, AGAIN)


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
    """Looks at the ledgers of producers, and of a queue's consumers, at most once a second."""

    def __init__(
        self,
        plans: Sequence[ProducerPlan],
        ledgers: Sequence[PublishLedger],
        settled: Sequence[npt.NDArray[np.int64]],
        drains: Sequence[QueueDrain],
        *,
        sample: Callable[[], Sample | None],
        monotonic: Callable[[], float],
    ) -> None:
        """Look at the producers of these plans: their ledgers, and how far each has come.

        ``sample`` returns the broker's newest figures.
        """
        self._plans = plans
        self._ledgers = ledgers
        self._settled = settled
        self._drains = drains
        self._sample = sample
        self._monotonic = monotonic
        self._next_at = monotonic() + _EVERY_S
        self._seen = [0] * len(plans)
        self._started: dict[int, list[Entry]] = {}
        self._wrong: Counter[str] = Counter()

    def look(self) -> Live | None:
        """Return the figures since the last look, or None where it is not time for that.

        It takes a tenth of the time at the most.
        """
        began = self._monotonic()
        if began < self._next_at:
            return None
        confirms: list[IntArray] = []
        deliveries: list[IntArray] = []
        queue = self._first_queue()
        start = 0
        for number, ledger in enumerate(self._ledgers):
            done, seen = int(self._settled[number][0]), self._seen[number]
            self._seen[number] = done
            for name, bit in (("nacked", NACKED), ("returned", RETURNED)):
                self._wrong[name] += count_where(
                    ledger.state[seen:done], partial(np.bitwise_and, bit)
                )
            if number < _MOST_PRODUCERS and seen < done:
                record, these = self._record(number), slice(max(seen, done - _MOST), done)
                confirms.append(publish_rows(record, these)[0])
                if queue is not None:
                    deliveries.append(queue_rows(record, queue, start, these)[0])
            start += len(ledger.state)
        live = Live(
            confirm=_p50_and_p99(confirms),
            delivery=_p50_and_p99(deliveries),
            depth=self._depth(),
            wrong=tuple(self._what_is_wrong()),
        )
        now = self._monotonic()
        self._next_at = max(began + _EVERY_S, now + 9 * (now - began))
        return live

    def _record(self, number: int) -> ProducerRecord:
        plan = self._plans[number]
        if number not in self._started:  # it stands at the beginning, and is looked up once
            started = [each for each in entries_of(plan.directory) if isinstance(each, WorkStarted)]
            if not started:
                return ProducerRecord(plan.name, [], self._ledgers[number], _NO_COPIES, True)
            self._started[number] = [*started]
        return ProducerRecord(
            plan.name,
            self._started[number],
            self._ledgers[number],
            _NO_COPIES,
            readable=True,
            schedule=plan.schedule,
        )

    def _first_queue(self) -> QueueRecord | None:
        """Return the first queue; None where there is none, or too many consume it to look at."""
        if not self._drains or len(self._drains[0].ledgers) > _MOST_CONSUMERS:
            return None
        drain = self._drains[0]
        consumers = [ConsumerRecord("", [], each, _NO_AGAIN, True) for each in drain.ledgers]
        return QueueRecord(drain.plan.directory, {}, drain.plan.queue, {}, consumers)

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
