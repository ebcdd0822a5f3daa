"""What a quorum queue of 4.3 hides of what was given back is waited for, not called lost."""

import time

import pytest

from rmqbench import Fault, Run, reliability

pytestmark = pytest.mark.brokers

DELAY_S = 4.0
MESSAGES = 1000


def test_what_a_killed_consumer_held_is_delivered_after_its_delay(broker, tmp_path, rmqbench_show):
    """Brokers before 4.3 know no such delay: there it comes again at once."""
    scenario = reliability(
        name="delayed",
        messages=MESSAGES,
        queue_kind="quorum",
        queue_arguments={
            "x-delayed-retry-type": "all",
            "x-delayed-retry-min": int(DELAY_S * 1000),
        },
        prefetch=200,  # of which nearly all are unacknowledged at any time
        consume_rate=200,
        faults=(Fault("kill-consumer", "drain", after_messages=MESSAGES // 4),),
    )
    with Run(scenario, broker, directory=tmp_path / "run") as run:
        run.publish()
        began = time.monotonic()
        run.drain_work_queue()
        took_s = time.monotonic() - began
        run.drain_audit_queue()
        result = run.judge()
    rmqbench_show(result)
    assert result.verdict.outcome == "PASS"
    redelivered = result.verdict.count("redelivered", "work.queue")
    assert redelivered > 0
    assert result.verdict.found() == {"redelivered": redelivered}
    delayed = tuple(map(int, broker.version.split(".")[:2])) >= (4, 3)
    assert (took_s >= DELAY_S + 2) or not delayed
