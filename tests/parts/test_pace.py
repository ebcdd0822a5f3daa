"""Who waits for his own rate is no one who is stuck, however low the rate is."""

import pytest

import rmqbench


@pytest.mark.slow
@pytest.mark.parametrize(
    "slow",
    [
        {"messages": 3, "publish_rate": 0.25},
        {"messages": 6, "publish_rate": 0.5, "producers": 2},
        {"messages": 30, "consume_rate": 2.5, "prefetch": 10},
    ],
)
def test_a_worker_that_waits_for_its_own_pace_is_not_ended(rmqbench_broker, tmp_path, slow):
    scenario = rmqbench.reliability(stall_s=1.0, **slow)
    assert scenario.longest_pause_s > 2 * scenario.stall_s
    result = rmqbench.run(scenario, rmqbench_broker, directory=tmp_path / "run")
    result.verdict.require_pass()
    assert result.confirmed == scenario.messages
