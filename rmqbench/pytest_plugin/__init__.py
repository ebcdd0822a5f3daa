"""The pytest plugin: options, markers and fixtures; everything else is the library's.

Every option ``--rmqbench-x`` has an ini setting ``rmqbench_x`` and an environment variable
``RMQBENCH_X``. The option wins over the variable, the variable over the ini file.

pytest imports this for every project of an environment where rmqbench is installed. What costs time
or memory is therefore imported by the fixtures, when a test asks for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rmqbench
from rmqbench.errors import BrokerUnavailable, RmqbenchError
from rmqbench.pytest_plugin import settings
from rmqbench.pytest_plugin.reporting import PendingResults, ResultReporter, say, worker_name
from rmqbench.pytest_plugin.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from rmqbench.broker import Broker
    from rmqbench.pytest_plugin.session_broker import SessionBroker
    from rmqbench.results.result import Result
    from rmqbench.scenarios import Scenario

__all__ = ["RunScenario", "Settings", "ShowResult"]


RunScenario = Callable[["Scenario"], "Result"]
"""What the fixture ``rmqbench_run`` returns: it runs a scenario and shows the result."""

ShowResult = Callable[["Result"], None]
"""What the fixture ``rmqbench_show`` returns."""

_BROKER = pytest.StashKey["SessionBroker"]()
_PENDING = pytest.StashKey[PendingResults]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and their ini settings."""
    settings.declare(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and what a session needs; open nothing yet."""
    for marker in (
        "reliability: 10,000 messages with no consumer there, then drained: zero loss",
        "faults: a fault while messages are published, held or drained: what RabbitMQ promises",
        "latency: 1,000 messages a second for 10 seconds: how long does each take?",
        "stress: 1,000,000 messages through disk-backed queues: zero loss, and throughput",
    ):
        config.addinivalue_line("markers", marker)
    settings.require_valid(config)
    pending = config.stash[_PENDING] = PendingResults()
    config.pluginmanager.register(pending)
    if worker_name(config) is None:
        config.pluginmanager.register(ResultReporter(config, pending))


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the broker that was started."""
    opened = config.stash.get(_BROKER, None)
    if opened is not None:
        opened.close()


def pytest_report_header(config: pytest.Config) -> str:
    """Return a line that says which broker was asked for."""
    broker = settings.read(config, "broker") or "auto"
    if "@" in broker:  # else there is no password in it
        from rmqbench.endpoint import hide_password  # noqa: PLC0415  # most sessions need none

        broker = hide_password(broker)
    return f"rmqbench: {rmqbench.__version__}, broker {broker}"


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Open the broker before the first test, if any selected one wants it; it says so itself.

    A worker of pytest-xdist knows which tests it runs only when it runs them.
    """
    wanted = any("rmqbench_broker" in getattr(item, "fixturenames", ()) for item in items)
    if wanted and not config.option.collectonly and worker_name(config) is None:
        with suppress(RmqbenchError):  # which every test that wants the broker raises again
            _session_broker(config).get()


def _session_broker(config: pytest.Config) -> SessionBroker:
    """Return the broker of the session, which is opened when it is first needed."""
    if _BROKER not in config.stash:
        from rmqbench.pytest_plugin.session_broker import SessionBroker  # noqa: PLC0415

        config.stash[_BROKER] = SessionBroker(
            lambda: settings.settings_of(config), partial(say, config)
        )
    return config.stash[_BROKER]


@pytest.fixture(scope="session")
def rmqbench_broker(request: pytest.FixtureRequest) -> Broker:
    """Return a running RabbitMQ, one for the whole session: as ``--rmqbench-broker`` says.

    Where the broker that was asked for is not available the test fails; with ``auto`` it is
    skipped, but fails too where RMQBENCH_REQUIRE_BROKER=1. Each worker of pytest-xdist starts a
    broker of its own; one named by its URL is shared.
    """
    asked = settings.settings_of(request.config)
    try:
        return _session_broker(request.config).get()
    except RmqbenchError as error:
        failure = error
    # Outside of the handler, so that pytest shows the sentence without what led to it.
    tolerated = asked.broker == "auto" and not asked.image and not asked.require_broker
    if tolerated and isinstance(failure, BrokerUnavailable):
        pytest.skip(str(failure))
    pytest.fail(str(failure), pytrace=False)


@pytest.fixture(scope="session")
def rmqbench_executor(pytestconfig: pytest.Config) -> Iterator[Executor | None]:
    """Yield the executor that ``--rmqbench-executor`` asks for, one for the whole session.

    None: producers and consumers are processes of this host. Where it cannot be had the test fails.
    """
    from rmqbench.runner.executor import opened_executor  # noqa: PLC0415  # imports numpy

    with ExitStack() as stack:
        try:
            executor = stack.enter_context(
                opened_executor(settings.settings_of(pytestconfig).executor)
            )
        except RmqbenchError as error:
            failure = str(error)
        else:
            yield executor
            return
    # Outside of the handler, so that pytest shows the sentence without what led to it.
    pytest.fail(failure, pytrace=False)


@pytest.fixture
def rmqbench_run(
    request: pytest.FixtureRequest,
    rmqbench_broker: Broker,
    rmqbench_executor: Executor | None,
    rmqbench_show: ShowResult,
    tmp_path: Path,
) -> RunScenario:
    """Return a function that runs a scenario against ``rmqbench_broker`` and returns its result.

    The result is shown when the test has ended, and at the end of the session.
    ``--rmqbench-messages`` changes the number of messages.

    The evidence lies in ``run-1``, ``run-2``, … under the test's ``tmp_path``. pytest keeps that of
    the last three sessions and removes what is older; ``tmp_path_retention_count`` and
    ``tmp_path_retention_policy`` change that, and ``--basetemp`` the place.
    """
    from rmqbench.pytest_plugin.session_broker import quiet_pika  # noqa: PLC0415
    from rmqbench.runner.run import run  # noqa: PLC0415  # imports much

    asked = settings.settings_of(request.config)
    runs = 0

    def run_scenario(scenario: Scenario) -> Result:
        nonlocal runs
        runs += 1
        directory = tmp_path / f"run-{runs}"
        with quiet_pika():
            result = run(
                asked.apply(scenario),
                rmqbench_broker,
                directory=directory,
                executor=rmqbench_executor,
            )
        rmqbench_show(result)
        return result

    return run_scenario


@pytest.fixture
def rmqbench_show(request: pytest.FixtureRequest) -> ShowResult:
    """Return a function that shows a result under the test's name, as ``rmqbench_run`` does."""
    node = request.node

    def show(result: Result) -> None:
        request.config.stash[_PENDING].add(node.name, result)
        node.user_properties.append(("rmqbench_verdict", result.verdict.outcome.value))
        node.user_properties.append(("rmqbench_run", str(result.directory)))

    return show


@pytest.fixture(scope="session")
def rmqbench_settings(pytestconfig: pytest.Config) -> Settings:
    """Return what ``--rmqbench-…`` asks for."""
    return settings.settings_of(pytestconfig)
