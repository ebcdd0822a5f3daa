"""The main job: publish, then drain, or both at once; not one message may be missing."""

from __future__ import annotations

import numpy as np
import pytest

import rmqbench
from rmqbench.amqp.topology import QueueKind
from rmqbench.pytest_plugin import RunScenario
from rmqbench.run_directory.ledger import DeliveryLedger

pytestmark = pytest.mark.reliability


@pytest.mark.parametrize("consumers", [1, 3])
@pytest.mark.parametrize("queue_kind", ["classic", "lazy", "quorum"])
def test_every_message_arrives_once_in_order_and_unharmed(
    rmqbench_run: RunScenario, queue_kind: QueueKind, consumers: int
) -> None:
    """Require a PASS, and the same once more from the counts and the evidence themselves."""
    scenario = rmqbench.reliability(queue_kind=queue_kind, consumers=consumers)
    result = rmqbench_run(scenario)
    require_each_once(result)
    assert all(q.ready_after_publish == result.messages for q in result.queues.values())


@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_what_is_consumed_while_it_is_published_arrives_once_and_unharmed(
    rmqbench_run: RunScenario, queue_kind: QueueKind
) -> None:
    """Require the same of consumers that are at work from the first message on."""
    require_each_once(rmqbench_run(rmqbench.online(queue_kind=queue_kind, consumers=2)))


def require_each_once(result: rmqbench.Result) -> None:
    """Require a PASS, and the same once more from the counts and the evidence themselves."""
    result.verdict.require_pass()
    assert set(result.verdict.counts().values()) == {0}
    assert result.confirmed == result.messages
    for index, (queue, asked) in enumerate(
        zip(result.queues.values(), result.scenario["queues"], strict=True)
    ):
        assert queue.delivered == result.messages
        assert queue.ready_after_drain == 0
        ledgers = [DeliveryLedger.read(d) for d in result.directory.glob(f"queue-{index}/*")]
        assert len(ledgers) == asked["consumers"]
        assert (np.sum([ledger.state > 0 for ledger in ledgers], axis=0) == 1).all()
        assert not any(len(ledger.again()) for ledger in ledgers)
