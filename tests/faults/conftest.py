"""Runs under a fault, on a broker of our own that is whole again afterwards."""

import pytest

from rmqbench import faulty

MESSAGES = 4000


@pytest.fixture
def own_broker(rmqbench_broker):
    """The session's broker, if it is ours to break; running again after each test."""
    if not rmqbench_broker.owned:
        pytest.skip("faults are never injected into a broker that is not ours")
    yield rmqbench_broker
    rmqbench_broker.resume()
    rmqbench_broker.start()


@pytest.fixture
def under(own_broker, rmqbench_run):
    """Run 4,000 messages under a fault, and see that it struck and was over."""

    def run(fault, during, **changes):
        result = rmqbench_run(faulty(fault, during, **{"messages": MESSAGES, **changes}))
        events = [event.event for event in result.events]
        assert any(event.startswith(f"{fault}: ") for event in events), events
        assert f"{fault} is over" in events
        return result

    return run
