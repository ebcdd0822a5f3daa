"""The stress suite as another pytest runs it: with few messages, its benchmarks in a file."""

import json
from typing import NamedTuple

import pytest


class Ended(NamedTuple):
    """A pytest that has ended, and the benchmarks that it has written, by name."""

    pytest: pytest.RunResult
    benchmarks: dict


@pytest.fixture
def run_suite(pytester, rmqbench_broker):
    def run(*options, messages=2000):
        pytester.makeini("[pytest]\n")
        out = pytester.path / "out.json"
        out.unlink(missing_ok=True)
        ended = pytester.runpytest_subprocess(
            *("--pyargs", "rmqbench.suite.test_stress", "-k", "lazy", "-p", "no:cacheprovider"),
            "--benchmark-json=out.json",
            f"--rmqbench-broker={rmqbench_broker.endpoint.url()}",
            f"--rmqbench-management-url={rmqbench_broker.endpoint.management_url}",
            f"--rmqbench-messages={messages}",
            *("--rmqbench-min-publish-rate=1", "--rmqbench-min-consume-rate=1"),
            *options,
            timeout=400,
        )
        # Without any good benchmark nothing is written at all, or an empty list.
        found = (
            json.loads(out.read_text())["benchmarks"] if out.exists() and out.read_text() else []
        )
        return Ended(ended, {benchmark["name"]: benchmark for benchmark in found})

    return run
