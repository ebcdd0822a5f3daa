"""A run that fails never gets into the benchmark's JSON as a good one."""

import json
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "test_stress.py"


@pytest.fixture
def run_suite(pytester, rmqbench_broker):
    def run(*options):
        pytester.makeini("[pytest]\n")
        ended = pytester.runpytest_subprocess(
            str(SUITE),
            *("-k", "lazy", "-p", "no:cacheprovider", "--benchmark-json=out.json"),
            f"--rmqbench-broker={rmqbench_broker.endpoint.url()}",
            f"--rmqbench-management-url={rmqbench_broker.endpoint.management_url}",
            "--rmqbench-messages=2000",
            *options,
            timeout=400,
        )
        out = pytester.path / "out.json"
        # Without any good benchmark nothing is written at all, or an empty list.
        found = (
            json.loads(out.read_text())["benchmarks"] if out.exists() and out.read_text() else []
        )
        return ended, {benchmark["name"]: benchmark for benchmark in found}

    return run


def test_a_good_run_is_in_the_json_with_its_figures(run_suite):
    ended, benchmarks = run_suite("--rmqbench-min-publish-rate=1", "--rmqbench-min-consume-rate=1")
    ended.assert_outcomes(passed=2)
    assert set(benchmarks) == {"test_publish[lazy]", "test_drain[lazy]"}
    for benchmark in benchmarks.values():
        assert benchmark["stats"]["rounds"] == 1
        info = benchmark["extra_info"]
        assert (info["verdict"], info["messages"]) == ("PASS", 2000)
        assert info["findings"]["lost"] == 0
        assert info["publish"]["confirm_latency"]["p99_ms"] > 0
        assert info["queue_arguments"]["work.queue.1m"]["x-queue-type"] == "classic"
        assert Path(info["directory"]).is_absolute()


def test_a_drain_below_its_floor_takes_the_publish_half_out_too(run_suite):
    ended, benchmarks = run_suite(
        "--rmqbench-min-publish-rate=1", "--rmqbench-min-consume-rate=1e9"
    )
    ended.assert_outcomes(passed=1, failed=1)
    assert benchmarks == {}


def test_a_publish_below_its_floor_is_not_in_the_json(run_suite):
    ended, benchmarks = run_suite("--rmqbench-min-publish-rate=1e9")
    assert ended.ret == pytest.ExitCode.TESTS_FAILED
    assert "test_publish[lazy]" not in benchmarks
