"""How long messages take at a steady rate, counted from when each was due; not one may be missing.

``--rmqbench-rate`` and ``--rmqbench-p99-ms`` change the rate and set a limit.
"""

from __future__ import annotations

from typing import Any

import pytest

import rmqbench
from rmqbench.amqp.topology import QueueKind
from rmqbench.pytest_plugin import RunScenario, Settings

pytestmark = pytest.mark.latency


@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_every_message_arrives_in_time(
    rmqbench_run: RunScenario, rmqbench_settings: Settings, queue_kind: QueueKind
) -> None:
    """Require a PASS, a latency of every message, and the limit, if there is one."""
    changes: dict[str, Any] = {"queue_kind": queue_kind}
    if rmqbench_settings.rate is not None:
        changes["publish_rate"] = rmqbench_settings.rate
    if rmqbench_settings.p99_ms is not None:
        changes["limits"] = (f"delivery.p99_ms <= {rmqbench_settings.p99_ms:g}",)
    result = rmqbench_run(rmqbench.latency(**changes))
    result.require_pass()
    measured = [result.confirm_latency, result.lag]
    for queue in result.queues.values():
        measured += [queue.delivery_latency, queue.acknowledge_latency]
    for each in measured:
        assert each is not None
        assert (each.count, each.missing) == (result.messages, 0)
