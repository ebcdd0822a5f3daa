"""The main job: publish with no consumer there, then drain; not one message may be missing."""

from __future__ import annotations

import numpy as np
import pytest

import rmqbench
from rmqbench.amqp.topology import QueueKind
from rmqbench.pytest_plugin import RunScenario
from rmqbench.verdict.ledger import DeliveryLedger

pytestmark = pytest.mark.reliability


@pytest.mark.parametrize("consumers", [1, 3])
@pytest.mark.parametrize("queue_kind", ["classic", "lazy", "quorum"])
def test_every_message_arrives_once_in_order_and_unharmed(
    rmqbench_run: RunScenario, queue_kind: QueueKind, consumers: int
) -> None:
    """Require a PASS, and the same once more from the counts and the evidence themselves."""
    scenario = rmqbench.reliability(queue_kind=queue_kind, consumers=consumers)
    result = rmqbench_run(scenario)
    messages = result.messages

    result.verdict.require_pass()
    assert set(result.verdict.counts().values()) == {0}
    assert result.confirmed == messages
    for queue in result.queues.values():
        assert queue.ready_after_publish == messages
        assert queue.delivered == messages
        assert queue.ready_after_drain == 0
    for index in (0, 1):
        ledgers = [DeliveryLedger.read(d) for d in result.directory.glob(f"queue-{index}/*")]
        assert len(ledgers) == (consumers if index == 0 else 1)
        assert (np.sum([ledger.delivered for ledger in ledgers], axis=0) == 1).all()
