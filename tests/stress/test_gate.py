"""The gate of the benchmarks: a first run makes the baseline, and only like runs are compared."""

import json

import pytest

pytestmark = pytest.mark.slow

GATE = "--benchmark-compare-fail=mean:1000"  # seconds: it never closes


@pytest.fixture
def stored(pytester):
    """The runs that are saved in the directory of the other pytest."""
    return lambda: sorted((pytester.path / ".benchmarks").glob("*/*.json"))


def change(path, conditions):
    """Make a saved run one under other conditions."""
    saved = json.loads(path.read_text())
    for benchmark in saved["benchmarks"]:
        benchmark["extra_info"]["conditions"] |= conditions
    path.write_text(json.dumps(saved))


def stretch(path, factor):
    """Make a saved run as many times as slow."""
    saved = json.loads(path.read_text())
    for benchmark in saved["benchmarks"]:
        for name in ("min", "max", "mean", "median"):
            benchmark["stats"][name] *= factor
    path.write_text(json.dumps(saved))


@pytest.mark.parametrize("options", [(), ("--benchmark-compare",)], ids=["", "--benchmark-compare"])
def test_the_first_gated_run_becomes_the_baseline_of_the_next(run_suite, stored, options):
    first = run_suite(GATE, *options).pytest
    first.assert_outcomes(passed=2)
    assert first.ret == pytest.ExitCode.OK
    first.stdout.fnmatch_lines(["rmqbench: no baseline is in *.benchmarks yet: this run is to *"])
    (baseline,) = stored()
    assert baseline.name == "0001_baseline.json"

    second = run_suite(GATE, *options).pytest
    assert second.ret == pytest.ExitCode.OK
    second.stdout.fnmatch_lines_random(["test_drain*(NOW)*", "test_publish*(NOW)*"])
    assert stored() == [baseline], "a baseline that follows each run would let it slow down"

    stretch(baseline, 1e-6)
    slower = run_suite("--benchmark-compare-fail=mean:10%", *options).pytest
    assert slower.ret == pytest.ExitCode.TESTS_FAILED
    slower.assert_outcomes(passed=2)
    slower.stdout.fnmatch_lines(["!* Performance has regressed. *!"])
    output = slower.stdout.str() + slower.stderr.str()
    assert "test_publish[lazy] (0001_baselin) - Field 'mean' has failed" in output
    assert "Traceback" not in output


def test_a_run_with_another_number_of_messages_is_refused_before_it_begins(run_suite, stored):
    run_suite(GATE, messages=1000)
    refused, benchmarks = run_suite(GATE, messages=2000)
    refused.assert_outcomes(errors=2)
    refused.stdout.fnmatch_lines(
        ["Not compared with the baseline *0001_baseline.json: messages 1,000 there, 2,000 here. *"]
    )
    refused.stdout.no_fnmatch_line("PASS*")
    assert benchmarks == {}
    assert len(stored()) == 1


def test_a_run_under_other_conditions_is_refused(run_suite, stored):
    run_suite("--benchmark-autosave")
    (baseline,) = stored()
    saved = baseline.read_text()
    for there, said in (
        ({"message size": 200}, "message size 200 there, 100 here"),
        ({"queue kind": "quorum"}, "queue kind quorum there, lazy here"),
        ({"broker": "container"}, "broker container there, external here"),
        ({"RabbitMQ": "0.9"}, "RabbitMQ 0.9 there, *.* here"),
    ):
        baseline.write_text(saved)
        change(baseline, there)
        refused = run_suite("--benchmark-compare").pytest
        refused.assert_outcomes(errors=2)
        refused.stdout.fnmatch_lines([f"Not compared with the baseline *: {said}. *"])


def test_a_baseline_that_lacks_the_test_gates_nothing_and_is_refused(run_suite, stored):
    run_suite("--benchmark-autosave", "-k", "test_publish and lazy")
    refused = run_suite(GATE).pytest
    refused.assert_outcomes(passed=1, errors=1)
    refused.stdout.fnmatch_lines(["Not compared with the baseline *: it has no such test. *"])
    assert len(stored()) == 1


def test_a_baseline_that_is_not_there_is_not_made_up(run_suite, stored):
    refused = run_suite(GATE, "--benchmark-compare=0007").pytest
    refused.assert_outcomes(errors=2)
    refused.stdout.fnmatch_lines(["--benchmark-compare=0007 names nothing in *.benchmarks. *"])
    assert stored() == []


def test_a_first_run_that_fails_is_no_baseline(run_suite, stored):
    failed = run_suite(GATE, "--rmqbench-min-consume-rate=1e9").pytest
    failed.assert_outcomes(passed=1, failed=1)
    failed.stdout.fnmatch_lines(["rmqbench: a test failed: this run does not become the baseline"])
    assert stored() == []
