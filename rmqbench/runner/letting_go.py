"""Judge a run while it is under way, and let go what nothing is to be found in any more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import chain

from rmqbench.clock import Clock
from rmqbench.errors import RmqbenchError
from rmqbench.pieces import piece_of
from rmqbench.results.latencies import publish_rows, queue_rows
from rmqbench.results.steps import add_counts
from rmqbench.run_directory import RunDirectory
from rmqbench.run_directory.journal import Entry, JudgedSoFar
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.let_go import LetGo
from rmqbench.run_directory.reading import read_run
from rmqbench.run_directory.records import RunRecord
from rmqbench.text import counted
from rmqbench.verdict.clean import CleanPart, Recorded, clean_parts
from rmqbench.verdict.findings import Effect
from rmqbench.verdict.rules import judge_evidence

__all__ = ["LettingGo"]

_VERDICT_EVERY_S = 60.0
_LEAST_FREE = 256 << 20  # bytes: a full disk would end the workers in the middle of a write


class LettingGo:
    """Looks at the evidence of a run every few seconds, from one thread.

    Every minute it judges the run as far as it has come. ``say`` is called with that in a sentence.
    """

    def __init__(
        self,
        directory: RunDirectory,
        clock: Clock,
        write: Callable[[Entry], None],
        say: Callable[[str], None],
        every_s: float = 5.0,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._write = write
        self._say = say
        self._every_s = every_s
        self._began_at = self._looked_at = self._judged_at = clock.monotonic()
        self._let_go = 0

    def look(self) -> None:
        """Free what is clean and judge what there is, if it is time for that.

        Raise RmqbenchError where the disk is nearly full: what is not clean or not consumed stays.
        """
        now = self._clock.monotonic()
        if now - self._looked_at < self._every_s:
            return
        self._require_room()
        record = read_run(self._directory.path)
        self._let_all_go(record)
        if now - self._judged_at >= _VERDICT_EVERY_S:
            self._judged_at = now
            self._judge(now - self._began_at)
        self._looked_at = self._clock.monotonic()  # behind it: no more than half of the time

    def _require_room(self) -> None:
        free = shutil.disk_usage(self._directory.path).free
        if free < _LEAST_FREE:
            raise RmqbenchError(
                f"The disk of {self._directory.path} has {free / 2**20:,.0f} MiB left: evidence is "
                "let go only once its messages were consumed.",
                "Publish at a lower rate than the queues are consumed at, or name another disk.",
            )

    def _let_all_go(self, record: RunRecord) -> None:
        """Decide what is clean, and count what is needed of it before its workers free it."""
        clean = list(clean_parts(record.evidence))
        if not clean:
            return
        producers = [_opened(each.ledger) for each in record.producers]
        consumers = [[_opened(each.ledger) for each in queue.consumers] for queue in record.queues]
        for each in clean:
            for queue, received in zip(consumers, each.received, strict=True):
                for let_go, recorded in zip(queue, received, strict=True):
                    if recorded is not None:
                        _prepare(let_go, each.part.segment, recorded)
            _prepare(producers[each.part.number], _own_segment(each), each.sent)
            self._count_latencies(record, each)
        for each in clean:
            producers[each.part.number].decide(_own_segment(each))
            for let_go in chain(*consumers):
                let_go.decide(each.part.segment)
        for let_go in (*producers, *chain(*consumers)):
            let_go.tell()
        self._let_go += sum(len(each.part) for each in clean)

    def _count_latencies(self, record: RunRecord, clean: CleanPart) -> None:
        part, producer = clean.part, record.producers[clean.part.number]
        these = slice(part.first, part.first + len(part))
        add_counts(producer.ledger.directory, publish_rows(producer, these))
        for queue in record.queues:
            add_counts(queue.directory, queue_rows(producer, queue, part.start - part.first, these))

    def _judge(self, seconds: float) -> None:
        record = read_run(self._directory.path)
        verdict = judge_evidence(record.evidence, allowed=record.description["allowed"])
        failing = [
            f"{each.count} {each.name}" + (f" in {each.queue}" if each.queue else "")
            for each in verdict.findings
            if each.effect is Effect.FAILS
        ]
        confirmed = sum(each.ledger.confirmed for each in record.producers)
        self._write(JudgedSoFar(confirmed=confirmed, let_go=self._let_go, failing=failing))
        found = f"FAIL: {'; '.join(failing)}" if failing else "nothing that fails"
        self._say(
            f"after {seconds / 60:.0f} min: {counted(confirmed, 'message')} confirmed, "
            f"{self._let_go:,} of them judged and let go: {found}"
        )


def _opened(ledger: PublishLedger | DeliveryLedger) -> LetGo:
    let_go = LetGo.of(ledger.directory, "r+")
    assert let_go is not None
    return let_go


def _own_segment(clean: CleanPart) -> int:
    return piece_of(clean.part.first)


def _prepare(let_go: LetGo, segment: int, recorded: Recorded) -> None:
    let_go.prepare(segment, recorded.rows, recorded.earliest_ns, recorded.last_ns, recorded.flagged)
