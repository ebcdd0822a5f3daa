"""The pytest plugin: options, markers and fixtures; everything else is the library's.

Every option ``--rmqbench-x`` has an ini setting ``rmqbench_x`` and an environment variable
``RMQBENCH_X``. The option wins over the variable, the variable over the ini file.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

import rmqbench
from rmqbench.broker import DEFAULT_IMAGE, Broker, open_broker
from rmqbench.endpoint import hide_password
from rmqbench.errors import BrokerUnavailable, RmqbenchError
from rmqbench.report.terminal import render, result_view
from rmqbench.runner.result import Result
from rmqbench.runner.run import run
from rmqbench.runner.scenario import Scenario

__all__ = ["RunScenario", "Settings", "ShowResult"]

RunScenario = Callable[[Scenario], Result]
"""What the fixture ``rmqbench_run`` gives: it runs a scenario and keeps the result to be shown."""

ShowResult = Callable[[Result], None]
"""What the fixture ``rmqbench_show`` gives."""

_Number = TypeVar("_Number", int, float)

_OPTIONS = {
    "broker": "the broker to test: auto, container, local, or amqp(s)://user:password@host/vhost",
    "image": "the image of a container broker",
    "management-url": "the Management API of a broker given by URL",
    "messages": "how many messages each scenario publishes, instead of its own number",
    "min-publish-rate": "the stress scenario's floor for confirmed publishes, messages a second",
    "min-consume-rate": "the stress scenario's floor for the drain, messages a second",
}


MIN_PUBLISH_RATE = 2_000.0
MIN_CONSUME_RATE = 4_000.0
"""Messages a second that a machine of two cores clearly exceeds, with the broker on it too."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options, the environment and the ini file ask for. Rates are messages a second."""

    broker: str = "auto"
    image: str = DEFAULT_IMAGE
    management_url: str | None = None
    messages: int | None = None
    min_publish_rate: float = MIN_PUBLISH_RATE
    min_consume_rate: float = MIN_CONSUME_RATE
    require_broker: bool = False

    def apply(self, scenario: Scenario) -> Scenario:
        """Give the scenario with the number of messages that was asked for."""
        return scenario if self.messages is None else replace(scenario, messages=self.messages)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and their ini settings."""
    group = parser.getgroup("rmqbench", "rmqbench: does RabbitMQ lose messages?")
    for name, text in _OPTIONS.items():
        group.addoption(f"--rmqbench-{name}", default=None, metavar="VALUE", help=text)
        parser.addini(f"rmqbench_{name.replace('-', '_')}", text, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and make ready to open a broker."""
    for marker in (
        "reliability: 10,000 messages with no consumer there, then drained: zero loss",
        "faults: a fault while messages are published, held or drained: what RabbitMQ promises",
        "stress: 1,000,000 messages through disk-backed queues: zero loss, and throughput",
    ):
        config.addinivalue_line("markers", marker)
    config.stash[_BROKER] = _OpenedBroker(config)
    config.stash[_RESULTS] = []


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the broker that was started."""
    opened = config.stash.get(_BROKER, None)
    if opened is not None:
        opened.close()


def pytest_report_header(config: pytest.Config) -> str:
    """Say which broker was asked for."""
    return f"rmqbench: {rmqbench.__version__}, broker {hide_password(_settings(config).broker)}"


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Open the broker if any selected test wants one, and say what was taken and why."""
    wanted = any("rmqbench_broker" in getattr(item, "fixturenames", ()) for item in items)
    if not wanted or config.option.collectonly:
        return []
    opened = config.stash[_BROKER]
    try:
        broker = opened.get()
    except RmqbenchError as error:
        return [*opened.said, f"rmqbench: no broker. {error}"]
    return [*opened.said, f"rmqbench: RabbitMQ {broker.version} at {broker.endpoint}: {broker.how}"]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show a small table of each run."""
    results = config.stash[_RESULTS]
    if not results:
        return
    terminalreporter.section("rmqbench")
    writer = terminalreporter._tw
    views = (result_view(result, title) for title, result in results)
    terminalreporter.write(render(views, width=writer.fullwidth, colour=writer.hasmarkup))


@pytest.fixture(scope="session")
def rmqbench_broker(request: pytest.FixtureRequest) -> Broker:
    """Give a running RabbitMQ, one for the whole session: as ``--rmqbench-broker`` says.

    A broker that was asked for and cannot be had fails the test; with ``auto`` it is skipped, and
    fails too where RMQBENCH_REQUIRE_BROKER=1.
    """
    config = request.config
    settings = _settings(config)
    try:
        return config.stash[_BROKER].get()
    except BrokerUnavailable as error:
        if settings.broker == "auto" and not settings.require_broker:
            pytest.skip(str(error))
        pytest.fail(str(error), pytrace=False)
    except RmqbenchError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def rmqbench_run(
    request: pytest.FixtureRequest,
    rmqbench_broker: Broker,
    rmqbench_show: ShowResult,
    tmp_path: Path,
) -> RunScenario:
    """Give a function that runs a scenario against ``rmqbench_broker`` and gives its result.

    The evidence is kept under ``tmp_path``, the figures are shown at the end of the session.
    ``--rmqbench-messages`` changes the number of messages.
    """
    settings = _settings(request.config)
    runs = 0

    def run_scenario(scenario: Scenario) -> Result:
        nonlocal runs
        runs += 1
        directory = tmp_path / f"run-{runs}"
        result = run(settings.apply(scenario), rmqbench_broker, directory=directory)
        rmqbench_show(result)
        return result

    return run_scenario


@pytest.fixture
def rmqbench_show(request: pytest.FixtureRequest) -> ShowResult:
    """Give a function that has a result shown at the end of the session, under the test's name."""
    node = request.node

    def show(result: Result) -> None:
        request.config.stash[_RESULTS].append((node.name, result))
        node.user_properties.append(("rmqbench_verdict", result.verdict.outcome.value))
        node.user_properties.append(("rmqbench_run", str(result.directory)))

    return show


@pytest.fixture(scope="session")
def rmqbench_settings(pytestconfig: pytest.Config) -> Settings:
    """Give what ``--rmqbench-…`` asks for."""
    return _settings(pytestconfig)


class _OpenedBroker:
    """The session's broker: opened once, when first asked for; a failure is remembered too."""

    def __init__(self, config: pytest.Config) -> None:
        self.said: list[str] = []
        self._config = config
        self._stack = ExitStack()
        self._broker: Broker | None = None
        self._error: RmqbenchError | None = None

    def get(self) -> Broker:
        if self._error is not None:
            raise self._error
        if self._broker is None:
            settings = _settings(self._config)
            self._stack.enter_context(_interrupted_by_sigterm())
            try:
                self._broker = self._stack.enter_context(
                    open_broker(
                        settings.broker,
                        image=settings.image,
                        management_url=settings.management_url,
                        say=lambda text: self.said.append(f"rmqbench: {text}"),
                    )
                )
            except RmqbenchError as error:
                self._error = error
                raise
        return self._broker

    def close(self) -> None:
        self._stack.close()


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end pytest as Ctrl-C does, so that a run leaves nothing on somebody's broker.

    It is left alone where somebody else handles or ignores it.
    """
    here = threading.current_thread() is threading.main_thread()  # no other may set a handler
    if not here or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    owner = os.getpid()
    came = False

    def interrupt(number: int, _frame: object) -> None:
        nonlocal came
        if os.getpid() != owner:  # forked from us: it is not pytest
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if not came:  # a second one, which timeout(1) may send, is not to disturb the cleaning up
            came = True
            raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


_BROKER = pytest.StashKey[_OpenedBroker]()
_RESULTS = pytest.StashKey[list[tuple[str, Result]]]()


def _settings(config: pytest.Config) -> Settings:
    """Read the settings: option, then environment, then ini file, then default."""

    def read(name: str) -> str | None:
        variable = f"rmqbench_{name.replace('-', '_')}"
        option: str | None = config.getoption(f"--rmqbench-{name}")
        return option or os.environ.get(variable.upper()) or config.getini(variable) or None

    messages = read("messages")
    publish_rate, consume_rate = read("min-publish-rate"), read("min-consume-rate")
    return Settings(
        broker=read("broker") or "auto",
        image=read("image") or DEFAULT_IMAGE,
        management_url=read("management-url"),
        messages=_number("messages", messages, int) if messages else None,
        min_publish_rate=_number("min-publish-rate", publish_rate or MIN_PUBLISH_RATE, float),
        min_consume_rate=_number("min-consume-rate", consume_rate or MIN_CONSUME_RATE, float),
        require_broker=os.environ.get("RMQBENCH_REQUIRE_BROKER", "") not in ("", "0"),
    )


def _number(name: str, given: str | float, kind: Callable[[str | float], _Number]) -> _Number:
    try:
        number = kind(given)
    except ValueError:
        number = kind(0)
    if not 0 < number < float("inf"):
        raise pytest.UsageError(f"--rmqbench-{name} is {given!r}: give a number above 0")
    return number
