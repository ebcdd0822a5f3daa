"""What the run's journal tells of its queues and faults: policies, removals, what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rmqbench.run_directory.journal import (
    Declared,
    Entry,
    FaultEvent,
    Interrupted,
    MessagesRemoved,
    PoliciesFound,
    TroubleSeen,
)
from rmqbench.run_directory.records import ProducerRecord, QueueRecord
from rmqbench.text import grouped
from rmqbench.verdict.evidence import Removal

__all__ = [
    "errors_of_clients",
    "faults_that_failed",
    "hidden_s",
    "policies_of",
    "removals_from",
    "troubles",
]

_DELAYS = {"delayed-retry-min", "delayed-retry-max"}


def policies_of(queue: str, entries: Sequence[Entry]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the policies that a queue was seen to have; a changed one, as it was each time."""
    for each in entries:
        if isinstance(each, PoliciesFound) and each.queue == queue:
            yield each.name, each.definition


def hidden_s(queue: QueueRecord, entries: Sequence[Entry]) -> float:
    """Return for how long, in seconds, a queue may hide what was given back to it; 0: it does not.

    From 4.3 on a quorum queue with a delayed retry delivers it later, and shows it in no figure
    until then (rabbit_fifo.erl): for delayed-retry-max, or where that is missing for
    delayed-retry-min.
    """
    settings = [
        queue.asked["arguments"],
        *(values for _, values in policies_of(queue.name, entries)),
    ]
    delays = [
        value
        for values in settings
        for name, value in values.items()
        if str(name).removeprefix("x-") in _DELAYS and isinstance(value, int)
    ]
    return max(delays, default=0) / 1000


def removals_from(queue: str, entries: Sequence[Entry]) -> Iterator[Removal]:
    """Yield what was taken out of a queue on purpose, as far as it is known in the end."""
    acts: dict[str, Removal] = {}
    for number, each in enumerate(entries):
        if isinstance(each, MessagesRemoved) and each.queue == queue:
            acts[each.act or f"entry {number}"] = Removal(each.cause, each.at_most)
    yield from acts.values()


def faults_that_failed(
    description: Mapping[str, Any], entries: Sequence[Entry], producers: Sequence[ProducerRecord]
) -> Iterator[str]:
    """Yield the scenario's faults that did not do what they should: what they show is open."""
    events = [each for each in entries if isinstance(each, FaultEvent)]
    declared = next((each for each in entries if isinstance(each, Declared)), None)
    felt_ns = [each.time_ns for producer in producers for each in producer.of(Interrupted)]
    for number, name in enumerate(description["faults"]):
        mine = {each.phase: each for each in events if each.own == number}
        if "failed" in mine:
            yield f"the fault {name} failed: {mine['failed'].text}"
        elif "struck" not in mine:
            yield f"the fault {name} never struck: the phase ended first"
        elif "over" not in mine:
            yield f"the fault {name} struck, and its end is not on record"
        elif late := _late(mine, declared, felt_ns):
            yield f"the fault {name} missed its moment: {late}"


def _late(
    phases: Mapping[str, FaultEvent], declared: Declared | None, felt_ns: Sequence[int]
) -> str | None:
    """Return by how much a fault of newborn queues was done too late; None if it was not.

    It is done when it has happened (which is written down once that is certain), or when a producer
    has felt it, whichever is earlier.
    """
    struck = phases["struck"]
    if struck.within_s is None or declared is None:
        return None
    happened = phases.get("happened", struck).time_ns
    done_ns = min([happened, *(each for each in felt_ns if each >= struck.time_ns)])
    after_s = (done_ns - (declared.since_ns or declared.time_ns)) / 1e9
    if after_s <= struck.within_s:
        return None
    return (
        f"it was done {after_s:.2f} s after the declaration of the queues, and only within "
        f"{struck.within_s:g} s of it does it show what it is for"
    )


def troubles(
    entries: Sequence[Entry], producers: Sequence[ProducerRecord], queues: Sequence[QueueRecord]
) -> Iterator[str]:
    """Yield what went wrong, in sentences, each once; one may come from many."""
    texts = (each.text for each in entries if isinstance(each, TroubleSeen))
    consumers = (consumer for queue in queues for consumer in queue.consumers)
    errors = [
        (worker.name, worker.end.error)
        for worker in (*producers, *consumers)
        if worker.end is not None and worker.end.error
    ]
    yield from dict.fromkeys((*texts, *errors_of_clients(errors)))


def errors_of_clients(errors: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the errors with which clients ended, by their names.

    Of those that differ only in numbers it is the first one, and who ended so.
    """
    alike: dict[str, list[tuple[str, str]]] = {}
    for name, error in errors:
        alike.setdefault(re.sub(r"\d+", "0", error), []).append((name, error))
    for (first, error), *others in alike.values():
        names = [first, *(name for name, _ in others)]
        is_named = not others and first in error.lower()
        yield error if is_named else f"{error} (This ended {grouped(names)}.)"
