"""Hooks of the suite: the gate of its benchmarks, for as long as a session has any of them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from pytest_benchmark.session import PerformanceRegression

from rmqbench.suite.baseline import Gate

_GATE = pytest.StashKey[Gate]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare the gate if a benchmark of the suite is to run."""
    config = session.config
    if config.option.collectonly or not config.pluginmanager.has_plugin("pytest-benchmark"):
        return
    here = Path(__file__).parent
    ours = (item for item in session.items if item.path.is_relative_to(here))
    if any("benchmark" in getattr(item, "fixturenames", ()) for item in ours):
        config.stash[_GATE] = Gate(session)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-benchmark, a wrapper too, saves
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Save the first run as the baseline."""
    if (gate := session.config.stash.get(_GATE, None)) is not None:
        gate.save_first()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(config: pytest.Config) -> Generator[None, object, object]:
    """Fail the session where the gate is exceeded, in place of a traceback through pytest."""
    try:
        return (yield)
    except PerformanceRegression as error:
        if (gate := config.stash.get(_GATE, None)) is None:
            raise
        gate.fail(str(error))
        return None


@pytest.fixture(scope="session")
def gate(pytestconfig: pytest.Config) -> Gate:
    """Return what refuses a comparison of unlike runs."""
    return pytestconfig.stash[_GATE]
