"""Judge a run by its directory, and by nothing else: now, next year, on another machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rmqbench.explaining import explained
from rmqbench.explaining.facts import Facts
from rmqbench.results.latencies import publish_latencies, queue_latencies
from rmqbench.results.limits import checked
from rmqbench.results.metrics import consume_throughput, publish_throughput
from rmqbench.results.result import Backlog, Event, QueueFigures, Result
from rmqbench.results.sums import QueueSum, queue_sums
from rmqbench.run_directory.journal import (
    BacklogShown,
    ChannelOpened,
    ClockCompared,
    Counted,
    Declared,
    FaultEvent,
    HeadersAdded,
    Interrupted,
    MemoryUsed,
    PoliciesFound,
    Restarted,
    StageBegan,
)
from rmqbench.run_directory.reading import read_run
from rmqbench.run_directory.records import QueueRecord, RunRecord, WorkerRecord
from rmqbench.text import counted
from rmqbench.verdict.rules import judge_evidence, reordered_redeliveries

__all__ = ["judge"]


def judge(directory: str | os.PathLike[str]) -> Result:
    """Judge the run whose directory this is, finished or not.

    Nothing is written: ``RunDirectory(directory).write_result(result.as_dict())`` does that. Raise
    UsageError where it is no run's directory, or one of another format, AccessRefused or
    MessageTooLarge where the broker let nothing be published.
    """
    path = Path(directory).absolute()
    record = read_run(path)
    record.require_published()
    description = record.description
    verdict = judge_evidence(record.evidence, allowed=description["allowed"], evidence_at=str(path))
    confirmed = _confirmed(record)
    late = reordered_redeliveries(record.evidence)
    confirm, lag = publish_latencies(record.producers)
    if not description["scenario"].get("confirms", True):
        confirm = None  # what was written counts as confirmed
    sums = queue_sums(Facts(record, verdict))
    figures = {
        queue.name: _figures(record, queue, late[queue.name], sums) for queue in record.queues
    }
    return Result(
        run=str(description["run"]),
        scenario=description["scenario"],
        broker=description["broker"],
        verdict=explained(record, verdict),
        messages=sum(_wanted(record)),
        confirmed=confirmed,
        queues=figures,
        publish=publish_throughput(record.producers, confirmed),
        confirm_latency=confirm,
        lag=lag,
        limits=tuple(
            checked(
                description["scenario"].get("limits", ()),
                confirm,
                {
                    q.name: (figures[q.name].delivery_latency, figures[q.name].acknowledge_latency)
                    for q in record.queues
                    if q.gets_all
                },
                _clocks_differ_ms(record),
            )
        ),
        peak_rss_mib=max((e.peak_rss_bytes for e in record.of(MemoryUsed)), default=0) / 2**20,
        directory=path,
        events=tuple(sorted(_events(record), key=lambda event: event.time_ns)),
        notes=(*_notes(record), *(_troubles(record) if verdict.passed else ())),
    )


def _notes(record: RunRecord) -> Iterator[str]:
    """Yield what a person should know of the place where it happened."""
    for declared in record.of(Declared):
        yield from declared.notes
    found = {(e.queue, e.name): e.definition for e in record.of(PoliciesFound)}
    for (queue, name), definition in found.items():
        settings = ", ".join(f"{key}={value}" for key, value in sorted(definition.items()))
        yield f"The {name} of the broker applies to queue {queue}: {settings}."
    consumers = (consumer for queue in record.queues for consumer in queue.consumers)
    added = {name for each in consumers for e in each.of(HeadersAdded) for name in e.names}
    if added:
        yield f"RabbitMQ added headers to the messages, as configured: {', '.join(sorted(added))}."
    if record.description["scenario"].get("churn"):
        yield _churned(record)
    yield from _clocks(record)
    for restart in record.of(Restarted):
        yield from _came_back(record, restart)


def _troubles(record: RunRecord) -> Iterator[str]:
    """Yield what went wrong, in whole sentences: where nothing passed, the reasons say it."""
    for text in record.evidence.troubles:
        yield text[:1].upper() + text[1:] + ("" if text.endswith((".", ")", "?")) else ".")


def _clocks(record: RunRecord) -> Iterator[str]:
    """Yield by how much the clock of each other host was off: its first and its worst reading."""
    hosts: dict[str, list[ClockCompared]] = {}
    for each in record.of(ClockCompared):
        hosts.setdefault(each.host, []).append(each)
    for host, readings in sorted(hosts.items()):
        offset_ms = readings[0].offset_ns / 1e6
        within_ms = max(each.uncertainty_ns for each in readings) / 1e6
        drifts = [abs(each.drift_ns) for each in readings if each.drift_ns is not None]
        drifted = f", and moved by at most {max(drifts) / 1e6:.3f} ms meanwhile" if drifts else ""
        yield (
            f"{counted(len(readings), 'job')} worked on {host}: its clock was "
            f"{abs(offset_ms):.3f} ms {'behind' if offset_ms < 0 else 'ahead'}, within "
            f"{within_ms:.3f} ms{drifted}. Its times are corrected."
        )


def _clocks_differ_ms(record: RunRecord) -> float:
    """Return by how much the times of two hosts may differ, which are both corrected."""
    hosts: dict[str, int] = {}
    for each in record.of(ClockCompared):
        within_ns = each.uncertainty_ns + abs(each.drift_ns or 0)
        hosts[each.host] = max(hosts.get(each.host, 0), within_ns)
    return sum(sorted(hosts.values())[-2:]) / 1e6


def _churned(record: RunRecord) -> str:
    """Return how many connections were opened, which may be fewer than asked for."""
    asked = record.description["scenario"]["churn"]
    workers = _workers(record)
    opened = [each.time_ns for worker in workers for each in worker.of(ChannelOpened)]
    renewed = len(opened) - sum(any(worker.of(ChannelOpened)) for worker in workers)
    seconds = (max(opened) - min(opened)) / 1e9 if renewed else 0.0
    rate = f", {renewed / seconds:.3g} a second" if seconds else ""
    return f"{renewed:,} connections took the place of others{rate} ({asked:g} asked for)."


def _came_back(record: RunRecord, restart: Restarted) -> Iterator[str]:
    """Yield how soon the clients that a restart had cut off were connected again."""
    cut_off = came_back = 0
    last_ns = restart.before_ns
    for worker in _workers(record):
        opened = [each.time_ns for each in worker.of(ChannelOpened)]
        if any(at < restart.after_ns for at in opened) and _was_at_work(worker, restart.before_ns):
            cut_off += 1
            if later := [at for at in opened if at > restart.before_ns]:
                came_back += 1
                last_ns = max(last_ns, later[0])
    if cut_off > 1:
        seconds = (last_ns - restart.before_ns) / 1e9
        yield (
            f"{came_back} of {counted(cut_off, 'client')} were connected again, the last one "
            f"{seconds:.1f} s after the node was started."
        )


def _was_at_work(worker: WorkerRecord, at_ns: int) -> bool:
    return worker.end is None or worker.end.time_ns > at_ns


def _workers(record: RunRecord) -> list[WorkerRecord]:
    consumers = (consumer for queue in record.queues for consumer in queue.consumers)
    return [*record.producers, *consumers]


def _confirmed(record: RunRecord) -> int:
    return sum(each.ledger.confirmed for each in record.producers)


def _wanted(record: RunRecord) -> Iterator[int]:
    """Yield how many messages each producer was to publish."""
    for producer in record.producers:
        yield producer.end.messages if producer.end else len(producer.ledger.state)


def _figures(
    record: RunRecord, queue: QueueRecord, late: int, sums: Mapping[str, QueueSum]
) -> QueueFigures:
    ready = {each.queue: each.ready for each in record.of(Counted)}
    backlogs = {
        each.queue: Backlog(each.messages_ram, each.memory_bytes)
        for each in record.of(BacklogShown)
    }
    (evidence,) = (each for each in record.evidence.queues if each.name == queue.name)
    delivery = acknowledge = None
    if record.description["scenario"].get("consume") == "during":
        delivery, acknowledge = queue_latencies(record.producers, queue)
    return QueueFigures(
        arguments=queue.arguments,
        ready_after_publish=ready.get(queue.name),
        ready_after_drain=evidence.drain.ready,
        sum=sums[queue.name],
        delivered=sum(each.deliveries for each in queue.consumers),
        reordered_redeliveries=late,
        consume=consume_throughput(queue.consumers),
        backlog=backlogs.get(queue.name),
        delivery_latency=delivery,
        acknowledge_latency=acknowledge,
    )


def _events(record: RunRecord) -> Iterator[Event]:
    for stage in record.of(StageBegan):
        yield Event(stage.time_ns, "stage", stage.stage)
    for fault in record.of(FaultEvent):
        failed = f"{fault.fault} failed: " if fault.phase == "failed" else ""
        yield Event(fault.time_ns, "fault", f"{failed}{fault.text}")
    consumers = (consumer for queue in record.queues for consumer in queue.consumers)
    for worker in (*record.producers, *consumers):
        for each in worker.of(Interrupted):
            text = f"{worker.name} was interrupted: {each.why}"
            yield Event(each.time_ns, "interruption", text)
