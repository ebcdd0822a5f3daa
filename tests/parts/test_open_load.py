"""An open load on a real broker: sent in time, whatever the broker does, and counted from then."""

import pytest

import rmqbench
from rmqbench.faults import Fault
from rmqbench.run_directory.reading import read_run

RATE = 500


def latencies(result):
    """Return all latencies of a result."""
    found = [result.confirm_latency]
    for queue in result.queues.values():
        found += [queue.delivery_latency, queue.acknowledge_latency]
    return found


@pytest.mark.parametrize(
    "rate", [RATE, f"{RATE / 2}:{RATE * 1.5}@2s", f"{RATE / 5}@1s,{RATE * 1.8}@1s"]
)
@pytest.mark.parametrize("producers", [1, 3])
def test_messages_are_sent_when_they_are_due(rmqbench_broker, tmp_path, rate, producers):
    scenario = rmqbench.latency(
        publish_rate=rate, producers=producers, **{} if "@" in str(rate) else {"duration_s": 2.0}
    )
    result = rmqbench.run(scenario, rmqbench_broker, directory=tmp_path / "run")
    result.require_pass()
    assert result.messages == 2 * RATE
    for each in (result.lag, *latencies(result)):
        assert (each.count, each.missing) == (2 * RATE, 0)
    assert result.lag.p50_ms < 50, "on an idle machine less than 1"
    for producer in read_run(result.directory).producers:
        late_ns = producer.ledger.sent_ns - producer.due_ns(slice(0, len(producer.ledger.state)))
        assert late_ns.min() > -1e6, "not one before its time"
    confirm, delivery, acknowledge, *_ = latencies(result)
    assert 0 < delivery.p50_ms <= acknowledge.p50_ms
    assert confirm.p50_ms > confirm.without_lag.p50_ms


def test_the_time_in_which_the_broker_stands_still_counts(rmqbench_broker, tmp_path):
    """A broker that is stopped for two seconds in the middle of four: half wait, up to two."""
    if not rmqbench_broker.owned:
        pytest.skip("it is not ours to stop")
    scenario = rmqbench.latency(
        publish_rate=RATE,
        duration_s=4.0,
        faults=(Fault("pause-broker", "publish", after_s=1.0, lasting_s=2.0),),
        limits=("confirm.p90_ms <= 100", "confirm.p50_ms <= 3000"),
    )
    result = rmqbench.run(scenario, rmqbench_broker, directory=tmp_path / "run")
    result.verdict.require_pass()
    assert result.messages == 4 * RATE
    for each in latencies(result):
        assert each.missing == 0
        assert each.max_ms > 1500
        assert each.p90_ms > 1000, "a fifth of all waited for longer: with omission it is one batch"
    assert result.lag.p90_ms < 500
    too_slow, kept = result.limits
    assert (too_slow.outcome, kept.outcome) == ("FAIL", "PASS")
    assert result.exit_code == 1
