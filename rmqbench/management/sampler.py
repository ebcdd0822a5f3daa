"""Sample the broker's own figures while something else runs: a time series, never a verdict."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, RmqbenchError
from rmqbench.management.answers import NodeInfo, QueueInfo, read_nodes, read_queues
from rmqbench.management.client import Management

__all__ = [
    "SAMPLES_FILE",
    "NodeSample",
    "QueueSample",
    "Sample",
    "Sampler",
    "read_samples",
    "take_sample",
]

SAMPLES_FILE = "samples.jsonl"


@dataclass(frozen=True, slots=True)
class QueueSample:
    """One queue's figures, as the broker emitted them last (every 5 s by default).

    ``messages_ram`` is the number of messages in memory, ``memory_bytes`` the memory of the queue's
    process: both stay small while a backlog is on disk. Rates are per second, over the broker's
    last interval. None: the broker does not say (yet).
    """

    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    messages_ram: int | None = None
    memory_bytes: int | None = None
    publish_rate: float | None = None
    deliver_rate: float | None = None
    ack_rate: float | None = None


@dataclass(frozen=True, slots=True)
class NodeSample:
    """One node's memory and free disk space in bytes, and whether an alarm blocks publishers."""

    mem_used_bytes: int | None = None
    disk_free_bytes: int | None = None
    mem_alarm: bool | None = None
    disk_free_alarm: bool | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at ``time_ns`` (Unix nanoseconds), or the ``error`` seen instead."""

    time_ns: int
    queues: Mapping[str, QueueSample] = field(default_factory=dict)
    nodes: Mapping[str, NodeSample] = field(default_factory=dict)
    error: str | None = None


class Sampler:
    """A context manager that appends one JSON line for each sample to ``samples.jsonl``.

    It samples in a daemon thread with an HTTP session of its own, every ``interval_s`` seconds: for
    the first time at once, for the last time at the end. Whatever goes wrong becomes a sample with
    ``error``; nothing is raised into the run. ``timeout_s`` limits each request.

    Leaving the context takes at most about ``2 * timeout_s``, even if the broker no longer answers;
    a thread that is still waiting then ends by itself and writes no more.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        directory: Path,
        *,
        interval_s: float = 1.0,
        timeout_s: float = 2.0,
        clock_ns: Callable[[], int] = time.time_ns,
        open_management: Callable[[Endpoint], Management] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._clock_ns = clock_ns
        self._open_management = open_management or (lambda at: Management(at, timeout_s=timeout_s))
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._abandoned = False
        self._latest: Sample | None = None
        self._thread = threading.Thread(target=self._run, name="rmqbench sampler", daemon=True)
        self.path = directory / SAMPLES_FILE

    @property
    def latest(self) -> Sample | None:
        """Return the newest sample, None before the first one."""
        return self._latest

    def __enter__(self) -> Sampler:
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the last sample and stop."""
        self._ending.set()
        self._thread.join(2 * self._timeout_s)
        with self._lock:
            self._abandoned = True

    def _run(self) -> None:
        management: Management | None = None
        ending = False
        while True:
            started = time.monotonic()
            try:
                management = management or self._open_management(self._endpoint)
                sample = take_sample(management, self._endpoint.virtual_host, self._clock_ns())
            except Exception as error:  # whatever happens to the broker must not end the sampling
                what = error.what if isinstance(error, RmqbenchError) else repr(error)
                sample = Sample(self._clock_ns(), error=what)
            self._keep(sample)
            if ending:
                break
            rest = self._interval_s - (time.monotonic() - started)
            ending = self._ending.wait(max(rest, 0.0))
        if management is not None:
            management.close()

    def _keep(self, sample: Sample) -> None:
        with self._lock:
            if self._abandoned:
                return
            self._latest = sample
            with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_to_json(sample), separators=(",", ":")) + "\n")


def take_sample(management: Management, vhost: str, time_ns: int) -> Sample:
    """Return the figures of a virtual host's queues and of the nodes.

    The nodes are left out where the user lacks the tag ``monitoring``. Raise what the requests of
    :class:`~rmqbench.management.client.Management` raise.
    """
    queues = {each.name: _queue_sample(each) for each in read_queues(management.queues(vhost))}
    nodes: dict[str, NodeSample] = {}
    with contextlib.suppress(AccessRefused):
        nodes = {each.name: _node_sample(each) for each in read_nodes(management.nodes())}
    return Sample(time_ns, queues, nodes)


def read_samples(path: Path) -> list[Sample]:
    """Return the samples of a file, or of a run's directory, in the order they were taken.

    A line that is torn (its writer was killed) or holds no sample is left out. Without a file there
    are no samples.
    """
    if path.is_dir():
        path = path / SAMPLES_FILE
    if not path.exists():
        return []
    samples = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            samples.append(_from_json(json.loads(line)))
    return samples


def _queue_sample(queue: QueueInfo) -> QueueSample:
    return QueueSample(
        messages_ready=queue.messages_ready,
        messages_unacknowledged=queue.messages_unacknowledged,
        messages_ram=queue.messages_ram,
        memory_bytes=queue.memory_bytes,
        publish_rate=queue.publish_rate,
        deliver_rate=queue.deliver_rate,
        ack_rate=queue.ack_rate,
    )


def _node_sample(node: NodeInfo) -> NodeSample:
    return NodeSample(
        mem_used_bytes=node.mem_used_bytes,
        disk_free_bytes=node.disk_free_bytes,
        mem_alarm=node.mem_alarm,
        disk_free_alarm=node.disk_free_alarm,
    )


def _to_json(sample: Sample) -> dict[str, Any]:
    if sample.error is not None:
        return {"time_ns": sample.time_ns, "error": sample.error}
    return {
        "time_ns": sample.time_ns,
        "queues": {name: asdict(each) for name, each in sample.queues.items()},
        "nodes": {name: asdict(each) for name, each in sample.nodes.items()},
    }


def _from_json(line: dict[str, Any]) -> Sample:
    return Sample(
        time_ns=int(line["time_ns"]),
        queues={name: QueueSample(**each) for name, each in line.get("queues", {}).items()},
        nodes={name: NodeSample(**each) for name, each in line.get("nodes", {}).items()},
        error=line.get("error"),
    )
