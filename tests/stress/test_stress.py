"""One million messages through disk-backed queues: not one lost, on disk, and fast enough.

Publishing and draining are two benchmarks of one run: what is timed is the publishing, and the
drain of the work queue alone. A run that fails takes both out of the JSON again.
"""

import contextlib

import pytest

import rmqbench

pytestmark = pytest.mark.stress


class StressRun:
    """One run whose halves are two tests."""

    def __init__(self, stages):
        self.stages = stages
        self.benchmarks = []
        self.published = False

    def publish(self):
        phase = self.stages.publish()
        self.published = True
        assert self.stages.confirmed == self.stages.scenario.messages
        return phase

    @contextlib.contextmanager
    def taking_back(self, benchmark):
        """Keep both halves of a run that fails out of the benchmark's results."""
        self.benchmarks.append(benchmark)
        try:
            yield
        except BaseException:
            for each in self.benchmarks:
                each.has_error = True
            raise


@pytest.fixture(scope="module", params=["lazy", "quorum"])
def stress_run(request, rmqbench_broker, rmqbench_settings, tmp_path_factory):
    scenario = rmqbench_settings.apply(rmqbench.stress(queue_kind=request.param))
    directory = tmp_path_factory.mktemp("stress") / "run"
    with rmqbench.Run(scenario, rmqbench_broker, directory=directory) as stages:
        yield StressRun(stages)


def test_publish(benchmark, stress_run, rmqbench_settings):
    def publish():
        phase = stress_run.publish()
        assert phase.rate_per_s >= rmqbench_settings.min_publish_rate

    benchmark.extra_info["verdict"] = "not judged yet"
    with stress_run.taking_back(benchmark):
        benchmark.pedantic(publish, rounds=1, iterations=1)


def test_drain(benchmark, stress_run, rmqbench_settings, rmqbench_show):
    stages = stress_run.stages
    if not stress_run.published:
        stress_run.publish()
    stages.look_at_backlog()

    def drain():
        phase = stages.drain_work_queue()
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


def require_on_disk(result):
    """Assert that the broker did not hold the backlog in memory, by its own figures.

    A quorum queue keeps an index of its messages in memory (at least 32 bytes each, says
    https://www.rabbitmq.com/docs/quorum-queues#resource-use), but not the messages.
    """
    bodies = result.messages * result.scenario["size_bytes"]
    for name, queue in result.queues.items():
        assert queue.ready_after_publish == result.messages, name
        assert queue.backlog is not None, "the Management API did not show the backlog"
        assert queue.backlog.messages_ram <= result.messages / 100, name
        share = 1.0 if queue.arguments["x-queue-type"] == "quorum" else 0.1
        assert queue.backlog.memory_bytes < share * bodies + (10 << 20), name


def extra_info(result):
    """Give what belongs beside the seconds: figures, findings, broker, where the evidence is."""
    whole = result.as_dict()
    return {
        key: whole[key]
        for key in (
            *("verdict", "messages", "publish", "consume", "audit", "findings", "peak_rss_mib"),
            *("broker", "directory"),
        )
    } | {"queue_arguments": {name: queue["arguments"] for name, queue in whole["queues"].items()}}
