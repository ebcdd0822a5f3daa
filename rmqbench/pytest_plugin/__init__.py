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
from rmqbench.errors import BrokerUnavailable, FaultUnavailable, RmqbenchError
from rmqbench.pytest_plugin import settings
from rmqbench.pytest_plugin.reporting import PendingResults, ResultReporter, say, worker_name
from rmqbench.pytest_plugin.settings import AskedBroker, Settings

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

_BROKERS = pytest.StashKey[dict[AskedBroker, "SessionBroker"]]()
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
        "museum: known bugs of RabbitMQ that lost messages: are they in this one?",
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
    for opened in config.stash.get(_BROKERS, {}).values():
        opened.close()


def pytest_report_header(config: pytest.Config) -> str:
    """Return a line that says which brokers were asked for."""
    brokers = ", ".join(each.image or each.broker for each in settings.brokers_of(config))
    if "@" in brokers:  # else there is no password in it
        from rmqbench.endpoint import hide_password  # noqa: PLC0415  # most sessions need none

        brokers = hide_password(brokers)
    return f"rmqbench: {rmqbench.__version__}, broker {brokers}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that wants the broker on each of several."""
    brokers = settings.brokers_of(metafunc.config)
    if "rmqbench_broker" in metafunc.fixturenames and len(brokers) > 1:
        names = [each.name for each in brokers]
        metafunc.parametrize("rmqbench_broker", brokers, indirect=True, ids=names, scope="session")


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Open the broker before the first test, if any selected one wants it; it says so itself.

    A worker of pytest-xdist knows which tests it runs only when it runs them.
    """
    wanted = any("rmqbench_broker" in getattr(item, "fixturenames", ()) for item in items)
    (asked, *others) = settings.brokers_of(config)
    if wanted and not others and not config.option.collectonly and worker_name(config) is None:
        with suppress(RmqbenchError):  # which every test that wants the broker raises again
            _session_broker(config, asked).get()


def _session_broker(config: pytest.Config, asked: AskedBroker) -> SessionBroker:
    """Return a broker of the session, which is opened when it is first needed.

    Of several, those that were needed before are ended: pytest sorts the tests by broker.
    """
    brokers = config.stash.setdefault(_BROKERS, {})
    for other, opened in brokers.items():
        if other != asked:
            opened.close()
    if asked not in brokers:
        from rmqbench.pytest_plugin.session_broker import SessionBroker  # noqa: PLC0415

        management_url = settings.read(config, "management-url")
        brokers[asked] = SessionBroker(asked, management_url, partial(say, config))
    return brokers[asked]


@pytest.fixture(scope="session")
def rmqbench_broker(request: pytest.FixtureRequest) -> Broker:
    """Return a running RabbitMQ, one for the whole session: as ``--rmqbench-broker`` says.

    Where several brokers or images are asked for, each test that wants it runs on each of them.

    Where the broker that was asked for is not available the test fails; with ``auto`` it is
    skipped, but fails too where RMQBENCH_REQUIRE_BROKER=1. Each worker of pytest-xdist starts a
    broker of its own; one named by its URL is shared.
    """
    required = settings.settings_of(request.config).require_broker
    asked: AskedBroker = getattr(request, "param", settings.brokers_of(request.config)[0])
    try:
        return _session_broker(request.config, asked).get()
    except RmqbenchError as error:
        failure = error
    # Outside of the handler, so that pytest shows the sentence without what led to it.
    tolerated = asked.broker == "auto" and not asked.image and not required
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

    A test of a fault that this machine has not got what it needs for (a power cut needs root) is
    skipped, and fails where RMQBENCH_REQUIRE_BROKER=1.
    """
    from rmqbench.pytest_plugin.session_broker import quiet_pika  # noqa: PLC0415
    from rmqbench.runner.run import run  # noqa: PLC0415  # imports much

    asked = settings.settings_of(request.config)
    runs = 0

    def run_scenario(scenario: Scenario) -> Result:
        nonlocal runs
        runs += 1
        directory = tmp_path / f"run-{runs}"
        try:
            with quiet_pika():
                result = run(
                    asked.apply(scenario),
                    rmqbench_broker,
                    directory=directory,
                    executor=rmqbench_executor,
                )
        except FaultUnavailable as error:
            missing = str(error)
        else:
            rmqbench_show(result)
            return result
        if asked.require_broker:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)

    return run_scenario


@pytest.fixture
def rmqbench_show(request: pytest.FixtureRequest) -> ShowResult:
    """Return a function that shows a result under the test's name, as ``rmqbench_run`` does."""
    node = request.node
    asked: AskedBroker | None = getattr(node, "callspec", None) and node.callspec.params.get(
        "rmqbench_broker"
    )

    def show(result: Result) -> None:
        request.config.stash[_PENDING].add(node.name, result, asked.name if asked else "")
        node.user_properties.extend(_properties_of(result))

    return show


def _properties_of(result: Result) -> Iterator[tuple[str, object]]:
    """Yield what of a result stands in JUnit's XML, as properties of the test."""
    yield "rmqbench_outcome", result.outcome.value
    yield "rmqbench_verdict", result.verdict.outcome.value
    yield "rmqbench_run", str(result.directory)
    yield "rmqbench_rabbitmq", result.broker["version"]
    yield "rmqbench_messages", result.messages
    yield "rmqbench_confirmed", result.confirmed
    yield "rmqbench_publish_rate_per_s", round(result.publish.rate_per_s, 1)
    yield "rmqbench_consume_rate_per_s", round(result.consume.rate_per_s, 1)
    if result.confirm_latency is not None and result.confirm_latency.p99_ms is not None:
        yield "rmqbench_confirm_p99_ms", round(result.confirm_latency.p99_ms, 3)
    for name, count in result.verdict.found().items():
        yield f"rmqbench_{name.replace(' ', '_')}", count


@pytest.fixture(scope="session")
def rmqbench_settings(pytestconfig: pytest.Config) -> Settings:
    """Return what ``--rmqbench-…`` asks for."""
    return settings.settings_of(pytestconfig)
