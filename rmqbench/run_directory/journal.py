"""What happened in a run and when, written down by whoever saw it: one JSON object a line.

The run has a journal, and each of its workers has one. An entry is in the kernel's hands when
:meth:`Journal.write` returns, so that it outlives the process that wrote it.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from types import TracebackType, UnionType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from rmqbench.clock import REAL_CLOCK, Clock
from rmqbench.errors import EvidenceNotWritten

__all__ = [
    "JOURNAL_FILE",
    "BacklogShown",
    "ChannelClosed",
    "ChannelOpened",
    "ClockCompared",
    "ConsumerLeaving",
    "Counted",
    "Declared",
    "DrainTried",
    "Entry",
    "FaultEvent",
    "HeadersAdded",
    "Interrupted",
    "Journal",
    "JudgedSoFar",
    "MemoryUsed",
    "MessagesRemoved",
    "NotServed",
    "PoliciesFound",
    "Restarted",
    "StageBegan",
    "TroubleSeen",
    "WorkEnded",
    "WorkReady",
    "WorkStarted",
    "read_journal",
]

JOURNAL_FILE = "journal.jsonl"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a journal. ``time_ns``: when it happened, in Unix nanoseconds (0: as written)."""

    kind: ClassVar[str]
    time_ns: int = 0


# --- of a worker -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WorkReady(Entry):
    """The worker's first channel is open, and it waits for the word to begin."""

    kind = "ready"


@dataclass(frozen=True, kw_only=True)
class WorkStarted(Entry):
    """The worker's first channel is open: its figures count from here."""

    kind = "started"


@dataclass(frozen=True, kw_only=True)
class ChannelOpened(Entry):
    """A producer's or consumer's channel began; a producer's with sequence number ``first``."""

    kind = "channel opened"
    number: int
    first: int | None = None


@dataclass(frozen=True, kw_only=True)
class ConsumerLeaving(Entry):
    """A consumer is being cancelled: a classic queue does not count it from here on.

    Until its channel ends, it may still hold messages of that queue.
    """

    kind = "consumer leaving"
    number: int


@dataclass(frozen=True, kw_only=True)
class NotServed(Entry):
    """A consumer gives up: it has received nothing since then, and so many messages are ready."""

    kind = "not served"
    since_ns: int
    ready: int


@dataclass(frozen=True, kw_only=True)
class ChannelClosed(Entry):
    """A channel was closed cleanly: the broker has taken all that was sent on it."""

    kind = "channel closed"
    number: int


@dataclass(frozen=True, kw_only=True)
class HeadersAdded(Entry):
    """Messages came with headers that RabbitMQ has added because it is configured to."""

    kind = "headers"
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class Interrupted(Entry):
    """The worker was kept from its work, and why, in a sentence."""

    kind = "interrupted"
    why: str


@dataclass(frozen=True, kw_only=True)
class WorkEnded(Entry):
    """The worker has ended by itself.

    ``until_ns`` is when its last message was settled or delivered, ``messages`` how many it was to
    publish or has received, repetitions included. ``repeats`` is how many rows stand in its file of
    what was sent or delivered again, ``dead_letters_again`` how many in those of each origin's dead
    letters, ``incidents`` how many it has reported. ``error`` is a
    sentence where it gave up; ``refused`` where the broker refused access to a producer before it
    had confirmed anything, ``too_large`` where a message of it was too large for the broker.
    """

    kind = "ended"
    until_ns: int
    cpu_s: float
    messages: int
    repeats: int = 0
    dead_letters_again: list[int] = field(default_factory=list)
    incidents: int = 0
    peak_rss_bytes: int = 0
    error: str | None = None
    refused: bool = False
    too_large: bool = False


# --- of the run --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StageBegan(Entry):
    """The run went on to its next stage."""

    kind = "stage"
    stage: str


@dataclass(frozen=True, kw_only=True)
class Declared(Entry):
    """The topology is there, under these names. ``notes`` are sentences for a person.

    ``arguments`` are those that each queue was declared with, ``since_ns`` is when that began.
    """

    kind = "declared"
    exchange: str
    routing_key: str
    queues: list[str]
    arguments: list[dict[str, Any]]
    notes: list[str]
    since_ns: int | None = None


@dataclass(frozen=True, kw_only=True)
class Counted(Entry):
    """A queue said how many messages are ready, before any consumer was there."""

    kind = "counted"
    queue: str
    ready: int


@dataclass(frozen=True, kw_only=True)
class BacklogShown(Entry):
    """The Management API said where a standing backlog is (None: it does not say)."""

    kind = "backlog"
    queue: str
    messages_ram: int | None
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class FaultEvent(Entry):
    """Something a fault did. ``own`` is its place among the scenario's faults; None: not of them.

    ``phase``: it ``struck``, something ``happened``, it is ``over``, or it ``failed``.
    ``within_s``: how soon after the queues' declaration it has to happen (None: at any time).
    """

    kind = "fault"
    fault: str
    phase: str
    text: str
    own: int | None = None
    within_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Restarted(Entry):
    """The broker's node restarted, or may have, between two moments.

    See :class:`rmqbench.verdict.evidence.Restart`.
    """

    kind = "restarted"
    after_ns: int
    before_ns: int


@dataclass(frozen=True, kw_only=True)
class PoliciesFound(Entry):
    """The policies and operator policies of a queue: their names, and what they come to together.

    The last one found of a queue and a ``name`` counts.
    """

    kind = "policies"
    queue: str
    name: str
    definition: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class MessagesRemoved(Entry):
    """A cause for messages to be missing from a queue: no more than ``at_most`` (None: any number).

    Of several with the same ``act`` the last one counts: the first was written before it was done.
    """

    kind = "removed"
    queue: str
    cause: str
    at_most: int | None = None
    act: str | None = None


@dataclass(frozen=True, kw_only=True)
class DrainTried(Entry):
    """A queue was asked, with no consumer of ours left, whether it is empty; the last one counts.

    See :class:`rmqbench.verdict.evidence.Drain`.
    """

    kind = "drain"
    queue: str
    proven: bool
    ready: int
    detail: str
    there: bool
    looks: int
    held: int = 0
    others: int = 0


@dataclass(frozen=True, kw_only=True)
class TroubleSeen(Entry):
    """Something went wrong: it decides nothing, and explains a verdict that is no pass."""

    kind = "trouble"
    text: str


@dataclass(frozen=True, kw_only=True)
class MemoryUsed(Entry):
    """The most memory that the run's process and its workers of one stage had, added up."""

    kind = "memory"
    peak_rss_bytes: int


@dataclass(frozen=True, kw_only=True)
class JudgedSoFar(Entry):
    """The run was judged while it was under way: what of it fails, a few words each.

    ``let_go`` is of how many messages nothing is kept but that they were confirmed and consumed.
    """

    kind = "judged so far"
    confirmed: int
    let_go: int
    failing: list[str]


@dataclass(frozen=True, kw_only=True)
class ClockCompared(Entry):
    """A worker on another host has asked the run what time it is, and recorded by that.

    The host's time of day was ahead by ``offset_ns``, which is known within ``uncertainty_ns``.
    ``drift_ns`` is by how much the clocks moved apart until it ended (None: that is not known).
    """

    kind = "clock"
    host: str
    offset_ns: int
    uncertainty_ns: int
    drift_ns: int | None = None


_ENTRIES: dict[str, type[Entry]] = {
    each.kind: each
    for each in (
        WorkReady,
        WorkStarted,
        ChannelOpened,
        ConsumerLeaving,
        NotServed,
        ChannelClosed,
        Interrupted,
        WorkEnded,
        StageBegan,
        Declared,
        Counted,
        BacklogShown,
        FaultEvent,
        Restarted,
        HeadersAdded,
        PoliciesFound,
        MessagesRemoved,
        DrainTried,
        TroubleSeen,
        MemoryUsed,
        ClockCompared,
        JudgedSoFar,
    )
}


class Journal:
    """Appends entries to one file; from any thread of one process."""

    def __init__(self, path: Path, clock: Clock = REAL_CLOCK) -> None:
        """Open the file, which may be new; raise OSError where it cannot be written."""
        self.path = path
        self.failure: str | None = None  # why an entry is missing, in a sentence
        self._clock = clock
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __enter__(self) -> Self:
        """Return the journal itself; it is closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def write(self, entry: Entry) -> None:
        """Append an entry; it is in the kernel's hands when this returns.

        Raise EvidenceNotWritten where that fails; of the entry nothing is left then.
        """
        if not entry.time_ns:
            entry = replace(entry, time_ns=self._clock.time_ns())
        text = json.dumps({"kind": entry.kind, **asdict(entry)}, separators=(",", ":"))
        line = text.encode() + b"\n"
        with self._lock:
            try:
                size = os.fstat(self._file).st_size
                if os.write(self._file, line) < len(line):  # there was room for a part of it
                    os.ftruncate(self._file, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                raise EvidenceNotWritten(
                    f"The journal {self.path} cannot be written: {error.strerror}.",
                    "Free some disk space, or name another directory for the run.",
                ) from None

    def note(self, entry: Entry) -> None:
        """Append an entry as :meth:`write` does; what cannot be written is a :attr:`failure`.

        Nothing is written behind a hole: an entry that is there has all before it.
        """
        if self.failure is None:
            try:
                self.write(entry)
            except EvidenceNotWritten as error:
                self.failure = error.what

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_journal(path: Path) -> Iterator[Entry]:
    """Return the entries of a file in the order in which they were written.

    A last line that was cut off by a crash is passed over. Raise OSError where the file cannot be
    read, ValueError where it holds something else.
    """
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        yield _entry(json.loads(line))


def _entry(found: Any) -> Entry:
    kind = _ENTRIES.get(found.pop("kind", "")) if isinstance(found, dict) else None
    if kind is None or set(found) - {each.name for each in fields(kind)}:
        raise ValueError("a line is no entry of a journal")
    wanted = _types_of(kind)  # type: ignore[arg-type]  # a class of frozen values can be a key
    if not all(isinstance(value, wanted[name]) for name, value in found.items()):
        raise ValueError("a line is no entry of a journal")
    try:
        return kind(**found)
    except TypeError as error:
        raise ValueError(str(error)) from None


@cache
def _types_of(kind: type[Entry]) -> dict[str, tuple[type, ...]]:
    """Return which types each field of an entry may have, as JSON is read."""
    types: dict[str, tuple[type, ...]] = {}
    for name, hint in get_type_hints(kind).items():
        options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        plain = tuple(get_origin(option) or option for option in options)
        types[name] = (*plain, int) if float in plain else plain
    return types
