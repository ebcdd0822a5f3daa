"""Each exhibit shows on the versions that are said to be affected, and on no other.

On several: ``pytest tests/museum --rmqbench-image rabbitmq:4.0.5-management --rmqbench-image …``.
"""

import pytest

from rmqbench.errors import FaultUnavailable
from rmqbench.museum import exhibit, exhibits, reproduce

pytestmark = pytest.mark.museum


@pytest.fixture
def own_broker(rmqbench_broker):
    """The session's broker, if it is ours to break; running again after each test."""
    if not rmqbench_broker.owned:
        pytest.skip("faults are never injected into a broker that is not ours")
    yield rmqbench_broker
    rmqbench_broker.start()


@pytest.mark.parametrize("name", [each.name for each in exhibits()])
def test_an_exhibit_shows_where_it_is_said_to_and_nowhere_else(
    own_broker, rmqbench_show, tmp_path, name
):
    shown = exhibit(name)
    try:
        reproduction = reproduce(shown, own_broker, directory=tmp_path / "run")
    except FaultUnavailable as error:  # a power cut needs root
        pytest.skip(str(error))
    rmqbench_show(reproduction.result)
    assert bool(reproduction.count) is shown.affects(own_broker.version), reproduction.said
    measured = shown.measured.get(own_broker.version)
    if measured is not None:
        assert bool(measured.shown) is bool(reproduction.count), reproduction.said
        if measured.shown and measured.least == measured.most:
            assert reproduction.count == measured.least, "the same messages are lost each time"
    if reproduction.count:
        assert (reproduction.exit_code, reproduction.outcome) == (1, "FAIL")
        assert reproduction.result.verdict.count(shown.finding) == reproduction.count
