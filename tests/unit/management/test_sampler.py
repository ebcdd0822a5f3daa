from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, ManagementUnavailable
from rmqbench.management.client import Management
from rmqbench.management.sampler import (
    NodeSample,
    QueueSample,
    Sample,
    Sampler,
    read_samples,
    take_sample,
)

QUEUE = {
    "name": "work",
    "messages_ready": 5,
    "messages_unacknowledged": 2,
    "messages_ram": 1,
    "memory": 4096,
    "message_stats": {
        "publish_details": {"rate": 10.0},
        "deliver_get_details": {"rate": 8.0},
        "ack_details": {"rate": 6.5},
    },
}
NODE = {
    "name": "rabbit@a",
    "mem_used": 100,
    "disk_free": 200,
    "mem_alarm": False,
    "disk_free_alarm": True,
}
SEEN = QueueSample(5, 2, 1, 4096, 10.0, 8.0, 6.5)


class FakeManagement:
    """Stands in for Management: returns what it is told to, or raises it."""

    def __init__(self, queues: Any = (QUEUE,), nodes: Any = (NODE,)) -> None:
        self.answers = {"queues": queues, "nodes": nodes}
        self.vhosts: list[str | None] = []
        self.asked = threading.Semaphore(0)
        self.closed = False

    def queues(self, vhost: str | None = None) -> Any:
        self.vhosts.append(vhost)
        try:
            return self._give("queues")
        finally:
            self.asked.release()

    def nodes(self) -> Any:
        return self._give("nodes")

    def close(self) -> None:
        self.closed = True

    def _give(self, what: str) -> Any:
        answer = self.answers[what]
        if callable(answer):
            return answer()
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def sampler(
    fake: FakeManagement, directory: Path, *, interval_s: float = 0.01, timeout_s: float = 15.0
) -> Sampler:
    clock = itertools.count(1000)
    return Sampler(
        Endpoint(virtual_host="team"),
        directory,
        interval_s=interval_s,
        timeout_s=timeout_s,
        clock_ns=lambda: next(clock),
        open_management=cast("Callable[[Endpoint], Management]", lambda _: fake),
    )


def wait_for(fake: FakeManagement, samples: int) -> None:
    for _ in range(samples):
        assert fake.asked.acquire(timeout=30)


def test_a_sample_holds_the_figures_of_queues_and_nodes() -> None:
    fake = FakeManagement()
    sample = take_sample(cast("Management", fake), "team", 7)
    assert sample == Sample(
        7, {"work": SEEN}, {"rabbit@a": NodeSample(100, 200, False, True)}, None
    )
    assert fake.vhosts == ["team"]


def test_figures_that_the_broker_does_not_have_yet_are_none() -> None:
    fake = FakeManagement([{"name": "new", "memory": "undefined"}], [{"name": "n"}])
    sample = take_sample(cast("Management", fake), "/", 7)
    assert sample.queues == {"new": QueueSample()}
    assert sample.nodes == {"n": NodeSample()}


def test_a_user_who_may_not_see_the_nodes_still_sees_the_queues() -> None:
    fake = FakeManagement(nodes=AccessRefused("No tag."))
    sample = take_sample(cast("Management", fake), "/", 7)
    assert sample.queues == {"work": SEEN}
    assert sample.nodes == {}


def test_samples_are_written_as_they_come_and_read_back_the_same(tmp_path: Path) -> None:
    fake = FakeManagement()
    with sampler(fake, tmp_path) as running:
        wait_for(fake, 3)
    samples = read_samples(tmp_path / "samples.jsonl")
    assert len(samples) >= 3
    assert [each.time_ns for each in samples] == list(range(1000, 1000 + len(samples)))
    assert {each.queues["work"] for each in samples} == {SEEN}
    assert samples[-1] == running.latest
    assert fake.closed
    assert read_samples(tmp_path) == samples


def test_the_last_sample_is_taken_at_the_end(tmp_path: Path) -> None:
    fake = FakeManagement()
    with sampler(fake, tmp_path, interval_s=3600):
        wait_for(fake, 1)
        fake.answers["queues"] = []
    first, last = read_samples(tmp_path)
    assert first.queues
    assert not last.queues


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ManagementUnavailable("It is down.", "Start it."), "It is down."),
        (KeyError("name"), "KeyError('name')"),
    ],
)
def test_an_error_becomes_a_sample_and_sampling_goes_on(
    tmp_path: Path, error: Exception, text: str
) -> None:
    fake = FakeManagement(queues=error)
    with sampler(fake, tmp_path):
        wait_for(fake, 2)
        fake.answers["queues"] = [QUEUE]
        wait_for(fake, 2)
    samples = read_samples(tmp_path)
    assert samples[0].error == text
    assert not samples[0].queues
    assert json.loads((tmp_path / "samples.jsonl").read_text().splitlines()[0]) == {
        "time_ns": samples[0].time_ns,
        "error": text,
    }
    assert samples[-1].error is None
    assert samples[-1].queues == {"work": SEEN}


def test_a_broker_that_does_not_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    asked, answer = threading.Event(), threading.Event()

    def wait_long() -> list[Any]:
        asked.set()
        answer.wait(90)
        return [QUEUE]

    fake = FakeManagement(queues=wait_long)
    running = sampler(fake, tmp_path, timeout_s=0.1)
    started = time.monotonic()
    with running:
        assert asked.wait(30)
    assert time.monotonic() - started < 25
    answer.set()
    running._thread.join(30)
    assert not running._thread.is_alive()
    assert read_samples(tmp_path) == []  # what came too late is not written
    assert running.latest is None


def test_a_directory_that_cannot_be_written_does_not_disturb_the_run(tmp_path: Path) -> None:
    fake = FakeManagement()
    with sampler(fake, tmp_path / "missing") as running:
        wait_for(fake, 2)
    assert running.latest is not None
    assert read_samples(tmp_path / "missing") == []


def test_a_real_sampler_records_that_nobody_is_there(tmp_path: Path) -> None:
    endpoint = Endpoint(management_url="http://127.0.0.1:1")
    with Sampler(endpoint, tmp_path, interval_s=60, timeout_s=1):
        pass
    samples = read_samples(tmp_path)
    assert samples
    assert all("No Management API answers" in (each.error or "") for each in samples)


@pytest.mark.parametrize("tail", ['{"time_ns":3,"que', "\x00\x00", "[]", "{}", "7"])
def test_a_torn_line_is_left_out(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"time_ns":1,"error":"x"}\n{"time_ns":2,"queues":{},"nodes":{}}\n' + tail)
    assert read_samples(path) == [Sample(1, error="x"), Sample(2)]
