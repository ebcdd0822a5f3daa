"""Messages with priorities, on a real broker."""

import pytest

import rmqbench
from rmqbench.queues import ConsumedQueue
from rmqbench.run_directory.reading import read_run
from rmqbench.scenarios import Scenario

COUNT = 600


@pytest.mark.parametrize("priorities", [(0, 9), (9, 0), (5,)])
def test_what_has_priority_comes_first_and_all_comes(rmqbench_broker, tmp_path, priorities):
    scenario = Scenario(
        "priorities",
        (ConsumedQueue("by priority", arguments={"x-max-priority": 9}), ConsumedQueue("plain")),
        messages=COUNT,
        producers=2,
        priorities=priorities,
    )
    result = rmqbench.run(scenario, rmqbench_broker, directory=tmp_path / "run")
    assert (result.verdict.outcome, result.verdict.found()) == ("PASS", {})
    for queue in result.queues.values():
        assert queue.sum.delivered == COUNT
    if len(priorities) > 1:  # whichever of them was published first
        queue, _ = read_run(tmp_path / "run").evidence.queues
        (consumer,) = queue.consumers
        came = consumer.first_ns.reshape(2, -1)
        assert came[priorities.index(9)].max() < came[priorities.index(0)].min()
