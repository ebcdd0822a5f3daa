"""A run that fails never gets into the benchmark's JSON as a good one."""

from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_good_run_is_in_the_json_with_its_figures_and_the_seconds_of_its_phases(run_suite):
    ended, benchmarks = run_suite()
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
    for name, phase in (("test_publish[lazy]", "publish"), ("test_drain[lazy]", "consume")):
        stats, info = benchmarks[name]["stats"], benchmarks[name]["extra_info"]
        assert stats["mean"] == pytest.approx(info[phase]["seconds"])


@pytest.mark.slow
def test_a_drain_below_its_floor_takes_the_publish_half_out_too(run_suite):
    ended, benchmarks = run_suite("--rmqbench-min-consume-rate=1e9")
    ended.assert_outcomes(passed=1, failed=1)
    assert benchmarks == {}


@pytest.mark.slow
def test_a_publish_below_its_floor_is_not_in_the_json(run_suite):
    ended, benchmarks = run_suite("--rmqbench-min-publish-rate=1e9")
    assert ended.ret == pytest.ExitCode.TESTS_FAILED
    assert "test_publish[lazy]" not in benchmarks
