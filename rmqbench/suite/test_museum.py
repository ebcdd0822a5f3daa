"""Known bugs of RabbitMQ that lost messages: are they in this one? See ``rmqbench museum``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rmqbench.broker import Broker
from rmqbench.museum import exhibit, exhibits, reproduce
from rmqbench.pytest_plugin import ShowResult

pytestmark = pytest.mark.museum


@pytest.fixture
def own_broker(rmqbench_broker: Broker) -> Iterator[Broker]:
    """The session's broker, if it is ours to break; running again after each test."""
    if not rmqbench_broker.owned:
        pytest.skip("faults are never injected into a broker that is not ours")
    yield rmqbench_broker
    rmqbench_broker.start()


@pytest.mark.parametrize("name", [each.name for each in exhibits() if each.reference])
def test_nothing_is_lost_as_it_was_by_a_bug(
    own_broker: Broker, rmqbench_show: ShowResult, tmp_path: Path, name: str
) -> None:
    """Require a PASS of the exhibit's workload."""
    reproduction = reproduce(exhibit(name), own_broker, directory=tmp_path / "run")
    rmqbench_show(reproduction.result)
    assert reproduction.passed, reproduction.said
