"""One million messages through disk-backed queues: not one lost, on disk, and fast enough.

Publishing and draining are two benchmarks of one run. Their seconds are the run's own: from the
opening of the first channel to the last confirm, and to the last delivery of the work queue; the
start of the processes is not in them. A run that fails takes both out of the JSON again.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import rmqbench
from rmqbench.pytest_plugin import Settings, ShowResult
from rmqbench.pytest_plugin.session_broker import quiet_pika
from rmqbench.results.metrics import Throughput
from rmqbench.suite.baseline import CONDITIONS, Conditions, Gate

pytestmark = pytest.mark.stress


class StressRun:
    """One run whose halves are two tests."""

    def __init__(self, stages: rmqbench.Run) -> None:
        self.stages = stages
        self.benchmarks: list[BenchmarkFixture] = []
        self.published = False

    @property
    def conditions(self) -> Conditions:
        """What must be the same for this run's seconds to be compared with another's."""
        scenario, broker = self.stages.scenario, self.stages.broker
        return {
            "messages": scenario.messages,
            "message size": scenario.size_bytes,
            "queue kind": scenario.queues[0].kind,
            "broker": broker.kind,
            "RabbitMQ": broker.version,
        }

    def publish(self) -> Throughput:
        """Publish everything, once, and require that all of it was confirmed."""
        phase = self.stages.publish()
        self.published = True
        assert self.stages.confirmed == self.stages.scenario.messages
        return phase

    @contextmanager
    def taking_back(self, benchmark: BenchmarkFixture) -> Iterator[None]:
        """Keep both halves of a run that fails out of the benchmark's results."""
        benchmark.extra_info[CONDITIONS] = self.conditions
        self.benchmarks.append(benchmark)
        try:
            yield
        except BaseException:
            for each in self.benchmarks:
                each.has_error = True
            raise


class PhaseClock:
    """A clock for a benchmark that only the seconds of a phase move on."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def phase_seconds(self) -> float:
        """Return the seconds of all phases so far."""
        return self._seconds

    def add(self, phase: Throughput) -> None:
        """Move on by the time that a phase took."""
        self._seconds += phase.seconds


@pytest.fixture(scope="module", params=["lazy", "quorum"])
def stress_run(
    request: pytest.FixtureRequest,
    rmqbench_broker: rmqbench.Broker,
    rmqbench_executor: Executor | None,
    rmqbench_settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StressRun]:
    """Return a run that is declared and about to publish."""
    scenario = rmqbench_settings.apply(rmqbench.stress(queue_kind=request.param))
    directory = tmp_path_factory.mktemp("stress") / "run"
    with (
        quiet_pika(),
        rmqbench.Run(
            scenario, rmqbench_broker, directory=directory, executor=rmqbench_executor
        ) as stages,
    ):
        yield StressRun(stages)


@pytest.fixture
def clock(request: pytest.FixtureRequest, stress_run: StressRun, gate: Gate) -> PhaseClock:
    """Return the timer of the test's benchmark; it stands before ``benchmark`` in a signature."""
    gate.require_comparable(request.node.nodeid, stress_run.conditions)
    clock = PhaseClock()
    request.node.add_marker(pytest.mark.benchmark(timer=clock.phase_seconds))
    return clock


def test_publish(
    clock: PhaseClock,
    benchmark: BenchmarkFixture,
    stress_run: StressRun,
    rmqbench_settings: Settings,
) -> None:
    """Time the publishing, and require that it is fast enough."""

    def publish() -> None:
        phase = stress_run.publish()
        clock.add(phase)
        assert phase.rate_per_s >= rmqbench_settings.min_publish_rate

    benchmark.extra_info["verdict"] = "not judged yet"
    with stress_run.taking_back(benchmark):
        benchmark.pedantic(publish, rounds=1, iterations=1)


def test_drain(
    clock: PhaseClock,
    benchmark: BenchmarkFixture,
    stress_run: StressRun,
    rmqbench_settings: Settings,
    rmqbench_show: ShowResult,
) -> None:
    """Time the drain of the work queue, judge the run, and require that it passed, on disk."""
    stages = stress_run.stages
    if not stress_run.published:
        stress_run.publish()
    stages.look_at_backlog()

    def drain() -> None:
        phase = stages.drain_work_queue()
        clock.add(phase)
        assert phase.rate_per_s >= rmqbench_settings.min_consume_rate

    with stress_run.taking_back(benchmark):
        benchmark.pedantic(drain, rounds=1, iterations=1)
        stages.drain_audit_queue()
        result = stages.judge()
        rmqbench_show(result)
        result.verdict.require_pass()
        require_on_disk(result)
    for each in stress_run.benchmarks:
        each.extra_info.update(extra_info(result))


def require_on_disk(result: rmqbench.Result) -> None:
    """Assert that the broker did not hold the backlog in memory, by its own figures.

    A quorum queue keeps an index of its messages in memory (at least 32 bytes each, says
    https://www.rabbitmq.com/docs/quorum-queues#resource-use), but not the messages.
    """
    bodies = result.messages * result.scenario["size_bytes"]
    for name, queue in result.queues.items():
        assert queue.ready_after_publish == result.messages, name
        assert queue.backlog is not None, "the Management API did not show the backlog"
        assert queue.backlog.messages_ram is not None, name
        assert queue.backlog.messages_ram <= result.messages / 100, name
        share = 1.0 if queue.arguments["x-queue-type"] == "quorum" else 0.1
        assert queue.backlog.memory_bytes is not None, name
        assert queue.backlog.memory_bytes < share * bodies + (10 << 20), name


def extra_info(result: rmqbench.Result) -> dict[str, Any]:
    """Return what belongs beside the seconds: figures, findings, broker, where the evidence is."""
    whole = result.as_dict()
    return {
        key: whole[key]
        for key in (
            *("verdict", "messages", "publish", "consume", "audit", "findings", "peak_rss_mib"),
            *("broker", "directory"),
        )
    } | {"queue_arguments": {name: queue["arguments"] for name, queue in whole["queues"].items()}}
