"""An open load in virtual time: sent when it is due, and late by what happened, to the moment."""

from unittest import mock

import pytest
from support.simulated import Act, History, QueuePlan, play

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
from rmqbench.clients import producer as producers
from rmqbench.results.limits import checked
from rmqbench.run_directory.reading import read_run
from rmqbench.verdict.findings import Judgement

pytestmark = pytest.mark.simulation

WORK = (QueuePlan("work", prefetch=1000),)
both_ways = pytest.mark.parametrize("vector", [True, False], ids=["vector", "pika"])


def played(directory=None, **changes):
    """Return the result of a history of 200 messages, 100 a second."""
    history = {
        "seed": 1,
        "queues": WORK,
        "during": True,
        "window": 1000,
        "messages": 200,
        "publish_rate": 100,
        "latency_s": 0.001,
    }
    result = play(History(**history | changes), directory).result
    assert result.verdict.passed, result.verdict
    return result


@both_ways
@pytest.mark.parametrize("rate", [100, "50:150@2s", "20@1s,180@1s"])
@pytest.mark.parametrize("number", [1, 3])
def test_each_message_is_sent_when_it_is_due(tmp_path, vector, rate, number):
    result = played(tmp_path, vector=vector, publish_rate=rate, producers=number)
    sent = []
    for producer in read_run(tmp_path).producers:
        late_ns = producer.ledger.sent_ns - producer.due_ns(slice(0, len(producer.ledger.state)))
        assert (late_ns >= -1).all(), "not one before its time"
        assert late_ns.max() < 0.6e6, "what is due within half a millisecond goes together"
        sent += producer.ledger.sent_ns.tolist()
    assert result.lag.max_ms < 0.6
    assert (result.lag.count, result.lag.missing) == (200, 0)
    assert len(sent) == 200


@both_ways
@pytest.mark.parametrize("number", [1, 2])
def test_what_the_broker_keeps_from_being_sent_counts_from_when_it_was_due(vector, number):
    """Blocked for the second half second, a hundred messages wait; nobody omits their wait."""
    result = played(vector=vector, producers=number, acts=(Act(0.5, "block", lasting_s=1.0),))
    for latency in latencies(result):
        assert (latency.count, latency.missing) == (200, 0)
        assert latency.max_ms == pytest.approx(1000, abs=20)
        assert latency.p90_ms == pytest.approx(800, abs=20), "a fifth of the second was left"
        assert latency.without_lag.p90_ms == pytest.approx(latency.p90_ms, abs=20)
    assert result.lag.max_ms < 20, "it is none of the producer's own"


def test_an_outage_counts_from_when_messages_were_due():
    result = played(acts=(Act(0.5, "kill", lasting_s=1.0),))
    for latency in latencies(result):
        assert latency.max_ms > 1000
        assert latency.without_lag.max_ms == pytest.approx(latency.max_ms, abs=20)
    assert result.lag.max_ms < 20


def test_a_full_window_is_none_of_the_producers_own_lag():
    result = played(confirm_delay_s=0.1, window=2)
    assert result.confirm_latency.max_ms > 1000, "it takes longer than the messages are due"
    assert result.lag.max_ms < 20


@both_ways
@pytest.mark.parametrize("window", [1, 1000])
def test_a_producer_that_is_too_slow_itself_is_seen_to_be(vector, window):
    """Twice the time that there is, for each message: the broker has nothing to do with it."""

    def slowly(producer, settling, count):
        producer._clock.sleep(0.02 * count)
        return note_sent(producer, settling, count)

    note_sent = producers.Producer._note_sent
    with mock.patch.object(producers.Producer, "_note_sent", slowly):
        result = played(vector=vector, messages=100, window=window)
    for latency in latencies(result):
        assert latency.max_ms > 1000
        assert latency.without_lag.p50_ms < latency.p50_ms / 3
    assert result.lag.max_ms > 900


@pytest.mark.parametrize("vector", [True, False])
def test_what_was_due_and_never_sent_or_settled_is_missing(tmp_path, vector):
    """The percentiles that fall among them are not known: they took longer than any."""
    history = History(
        seed=1,
        queues=WORK,
        during=True,
        messages=100,
        publish_rate=100,
        vector=vector,
        acts=(Act(0.5, "cut"),),
        latency_s=0.02,
    )
    played = play(history)
    unknown = played.result.verdict.count("indeterminate")
    assert unknown >= 2, "what was under way when the connection broke"
    latency = played.result.confirm_latency
    assert (latency.count, latency.missing) == (100 - unknown, unknown)
    assert latency.p50_ms is not None
    assert latency.p99_ms is None
    assert latency.without_lag.missing == unknown


def test_what_the_broker_kept_from_being_sent_to_the_end_is_the_brokers():
    """Blocked until its time is over, a producer leaves messages unsent, and is not late itself."""
    history = History(
        seed=1,
        queues=WORK,
        during=True,
        messages=200,
        publish_rate="100@2s",
        duration_s=2.0,
        acts=(Act(1.5, "block", lasting_s=60.0),),
    )
    result = play(history).result
    latency = result.confirm_latency
    assert latency.count < 160
    assert latency.missing == 200 - latency.count
    assert latency.p99_ms is None
    assert latency.without_lag.p99_ms > 1000, "for so long at least others held them"
    (check,) = checked(["confirm.p99_ms <= 20"], latency, {})
    assert check.outcome is Judgement.FAIL


def test_what_a_slow_producer_never_sends_is_its_own():
    def slowly(producer, settling, count):
        producer._clock.sleep(0.05 * count)
        return note_sent(producer, settling, count)

    note_sent = producers.Producer._note_sent
    history = History(
        seed=1,
        queues=WORK,
        during=True,
        messages=200,
        publish_rate="100@2s",
        duration_s=2.0,
        window=1,
    )
    with mock.patch.object(producers.Producer, "_note_sent", slowly):
        result = play(history).result
    latency = result.confirm_latency
    assert latency.missing > 50
    (check,) = checked(["confirm.p90_ms <= 1000"], latency, {})
    assert check.outcome is Judgement.INCONCLUSIVE


@pytest.mark.parametrize("delay_s", [0.0, 0.3])
def test_with_churn_what_the_broker_delays_is_none_of_the_producers_own_lag(delay_s):
    result = played(churn=2.0, confirm_delay_s=delay_s)
    assert result.lag.p99_ms < 30, result.lag
    if delay_s:
        assert result.confirm_latency.without_lag.p99_ms > 200


@both_ways
def test_a_schedule_that_is_over_ends_a_producer_that_was_to_send_more(vector):
    result = play(
        History(
            seed=1, queues=WORK, during=True, messages=500, publish_rate="100@2s", vector=vector
        )
    ).result
    assert result.confirmed == 200
    assert result.verdict.passed, result.verdict


def test_a_run_that_publishes_as_fast_as_it_goes_counts_from_the_send():
    result = played(publish_rate=None, window=8)
    (queue,) = result.queues.values()
    assert result.lag is None
    assert result.confirm_latency.without_lag is None
    assert 1 < result.confirm_latency.p50_ms < 10
    assert 1 < queue.delivery_latency.p50_ms < 10
    assert queue.acknowledge_latency is None


def test_what_was_let_go_is_counted_in_steps():
    whole, gone = played(), played(lets_go=True)
    for exact, stepped in zip(
        [whole.lag, *latencies(whole)], [gone.lag, *latencies(gone)], strict=True
    ):
        assert (stepped.count, stepped.missing) == (exact.count, exact.missing)
        assert stepped.p50_ms == pytest.approx(exact.p50_ms, rel=1 / 64 + 0.01, abs=0.001)
        assert stepped.max_ms == pytest.approx(exact.max_ms, rel=1e-6, abs=0.001)


def latencies(result):
    """Return all latencies of a run with one queue."""
    (queue,) = result.queues.values()
    return [result.confirm_latency, queue.delivery_latency, queue.acknowledge_latency]
