"""Another pytest, as a user starts it."""

import os

import pytest


@pytest.fixture
def no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RMQBENCH_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def on_the_broker(rmqbench_broker):
    """The options by which another pytest uses the broker of this one."""
    endpoint = rmqbench_broker.endpoint
    return (
        f"--rmqbench-broker={endpoint.url()}",
        f"--rmqbench-management-url={endpoint.management_url}",
    )


@pytest.fixture
def run_pytest(pytester, no_settings_from_outside):
    def run(*arguments):
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=300)

    return run
