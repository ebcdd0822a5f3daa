"""Which queues are drained at the same time, and how often their consumers change connections."""

import uuid
from dataclasses import replace

import pytest

from rmqbench import Scenario, faulty
from rmqbench.endpoint import Endpoint
from rmqbench.queues import ConsumedQueue
from rmqbench.run_directory import RunDirectory
from rmqbench.runner.plans import Planner, drains_together


def scenario(queues, **changes):
    named = tuple(ConsumedQueue(f"queue.{number}", consumers=2) for number in range(queues))
    return Scenario("many", queues=named, **changes)


KILLED = replace(faulty("kill-consumer"), queues=scenario(11).queues)


@pytest.mark.parametrize(
    ("asked", "elsewhere", "together"),
    [
        (scenario(10), False, False),
        (scenario(11), False, True),
        (scenario(11), True, False),
        (scenario(2, consume="during"), True, True),
        (KILLED, False, False),
    ],
)
def test_many_queues_are_drained_together_unless_each_consumer_takes_a_place(
    asked, elsewhere, together
):
    assert drains_together(asked, elsewhere=elsewhere) is together


@pytest.mark.parametrize(
    ("asked", "at_work"),
    [(scenario(10), 2), (scenario(11), 22), (scenario(2, consume="during"), 5)],
    ids=["one by one", "many", "during"],
)
def test_consumers_share_the_churn_with_all_that_are_at_work_with_them(tmp_path, asked, at_work):
    asked = replace(asked, churn=10.0)
    planner = Planner(
        scenario=asked,
        recipe=asked.recipe(uuid.UUID(int=1)),
        directory=RunDirectory.make(tmp_path / "run", "many"),
        endpoint=Endpoint(),
        topology=asked.topology(),
        together=drains_together(asked, elsewhere=False),
        epoch_ns=0,
    )
    assert planner.consumer(1).subscription.churn.clients == at_work
