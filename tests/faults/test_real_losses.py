"""How people really lose messages with RabbitMQ, and that each way is caught, to the message."""

import time

import pytest

from rmqbench import Fault, Run, faults, faulty, reliability
from rmqbench.amqp import topology as topologies
from rmqbench.amqp.admin import admin

pytestmark = pytest.mark.faults

WORK, AUDIT = "work.queue", "audit.queue"
MESSAGES = 2000


@pytest.fixture
def stages(own_broker, tmp_path, rmqbench_show):
    """Run a scenario with something done while its backlog stands."""

    def run(scenario, deed):
        with Run(scenario, own_broker, directory=tmp_path / "run") as run:
            run.publish()
            deed(run.place.endpoint)
            run.drain_work_queue()
            run.drain_audit_queue()
            result = run.judge()
        rmqbench_show(result)
        return result

    return run


def first_cause(result, name="lost"):
    """Return the cause that is named first for a finding."""
    explained = (e for e in result.verdict.explanations if e.finding and e.finding.name == name)
    return next(cause for each in explained for cause in each.causes)


def test_transient_messages_do_not_outlive_a_restart_of_a_classic_queue(own_broker, rmqbench_run):
    scenario = reliability(
        name="transient",
        messages=MESSAGES,
        persistent=False,
        faults=(Fault("restart-broker", "backlog"),),
    )
    result = rmqbench_run(scenario)
    assert result.verdict.outcome == "FAIL"
    assert result.verdict.found() == {"lost": 2 * result.messages}
    assert "all of what was sent" in str(result.verdict)
    assert first_cause(result).startswith("transient messages (persistent=False)")


@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_what_was_acknowledged_by_itself_is_lost_with_its_consumer(
    own_broker, rmqbench_run, queue_kind, monkeypatch
):
    # As people consume, a message at a time: slower than the broker, which has sent all by then.
    monkeypatch.setenv("RMQBENCH_VECTOR", "0")
    scenario = reliability(
        name="auto-ack",
        messages=30_000,
        size_bytes=1000,
        queue_kind=queue_kind,
        auto_ack=True,
        faults=(Fault("kill-consumer", "drain", after_messages=1),),
    )
    result = rmqbench_run(scenario)
    assert result.verdict.outcome == "FAIL"
    lost = result.verdict.count("lost", WORK)
    assert result.verdict.found() == {"lost": lost}
    assert 0 < lost == result.messages - result.queues[WORK].delivered
    assert first_cause(result).startswith("automatic acknowledgement (auto_ack)")
    assert "consumer 0 of work.queue was killed (its last sign" in first_cause(result)


def test_what_was_published_without_confirms_is_lost_with_its_broker(own_broker, rmqbench_run):
    scenario = reliability(
        name="no-confirms",
        messages=40_000,
        confirms=False,
        faults=(Fault("kill-broker", "publish", after_messages=5_000),),
    )
    result = rmqbench_run(scenario)
    assert result.verdict.outcome == "FAIL"
    assert set(result.verdict.found()) == {"lost"}
    for queue in (WORK, AUDIT):
        lost = result.verdict.count("lost", queue)
        assert 0 < lost == result.messages - result.queues[queue].delivered
    assert first_cause(result).startswith("no publisher confirms (confirms=False)")


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_a_full_queue_drops_its_oldest_messages(own_broker, rmqbench_run, queue_kind):
    limit = {"x-max-length": 500}
    scenario = reliability(messages=MESSAGES, queue_kind=queue_kind, queue_arguments=limit)
    result = rmqbench_run(scenario)
    assert result.verdict.outcome == "FAIL"
    assert result.verdict.found() == {"removed": 2 * (result.messages - 500)}
    assert "x-max-length=500 with overflow drop-head" in str(result.verdict)
    assert first_cause(result, "removed").startswith("x-max-length=500 with overflow drop-head")


def test_what_stays_longer_than_its_time_to_live_is_gone(stages):
    def wait_for_the_end(endpoint):
        until = time.monotonic() + 30
        while any(topologies.ready_counts(endpoint, (WORK, AUDIT)).values()):
            assert time.monotonic() < until, "messages outlived their time"
            time.sleep(0.1)

    scenario = reliability(messages=MESSAGES, queue_arguments={"x-message-ttl": 1000})
    result = stages(scenario, wait_for_the_end)
    assert result.verdict.outcome == "FAIL"
    assert result.verdict.found() == {"removed": 2 * MESSAGES}
    assert "x-message-ttl=1000" in str(result.verdict)


def test_what_its_consumers_gave_back_too_often_is_dropped(own_broker, rmqbench_run):
    limit = {"x-delivery-limit": 0}
    scenario = faulty(
        "reset-connection",
        "drain",
        messages=600,
        queue_kind="quorum",
        queue_arguments=limit,
        prefetch=150,
        size_bytes=64_000,  # so that many are always on their way
    )
    result = rmqbench_run(scenario)
    assert result.verdict.outcome == "FAIL"
    removed = result.verdict.count("removed", WORK)
    assert 0 < removed <= 150
    assert result.verdict.found() == {"removed": removed}
    assert "x-delivery-limit=0" in str(result.verdict)


def test_what_others_gave_back_too_often_is_a_loss(stages):
    """The evidence does not know of it."""

    def give_back_too_often(endpoint):
        for _ in range(3 * 5):
            with admin(endpoint) as channel:
                channel.basic_get(WORK)  # never acknowledged: back when the channel closes

    limit = {"x-delivery-limit": 2}
    scenario = reliability(messages=MESSAGES, queue_kind="quorum", queue_arguments=limit)
    result = stages(scenario, give_back_too_often)
    assert result.verdict.outcome == "FAIL"
    lost = result.verdict.count("lost", WORK)
    assert 0 < lost <= 5
    assert set(result.verdict.found()) <= {"lost", "reordered"}


def test_a_purge_that_the_run_knows_nothing_of_is_a_loss(stages):
    result = stages(
        reliability(messages=MESSAGES), lambda endpoint: topologies.purge(endpoint, WORK)
    )
    assert result.verdict.outcome == "FAIL"
    assert result.verdict.found() == {"lost": MESSAGES}


def test_what_is_missing_beyond_what_a_purge_removed_is_a_loss(own_broker, stages):
    def take_and_purge(endpoint):
        purge = faults.purge_queue(own_broker, WORK, virtual_host=endpoint.virtual_host)
        with admin(endpoint) as channel:
            channel.basic_get(WORK, auto_ack=True)  # somebody takes one message
        with purge:
            purge.strike()
            purge.settle()

    result = stages(reliability(messages=MESSAGES), take_and_purge)
    assert result.verdict.outcome == "FAIL"
    assert result.verdict.found() == {"lost": 1, "removed": MESSAGES - 1}


@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_what_is_missing_beyond_what_a_limit_removed_is_a_loss(stages, queue_kind):
    def take_one(endpoint):
        with admin(endpoint) as channel:
            channel.basic_get(WORK, auto_ack=True)

    scenario = faulty("limit-queue", "publish", messages=MESSAGES, queue_kind=queue_kind)
    result = stages(scenario, take_one)
    assert result.verdict.outcome == "FAIL"
    assert result.verdict.found() == {"lost": 1, "removed": MESSAGES - 100}


@pytest.mark.parametrize("deed", [faults.purge_queue, faults.delete_queue])
def test_what_is_purged_or_deleted_under_way_fails_unless_it_is_expected(
    own_broker, tmp_path, rmqbench_show, deed
):
    scenario = reliability(messages=20_000, consume_rate=10_000.0, prefetch=500)
    with Run(scenario, own_broker, directory=tmp_path / "run") as run:
        run.publish()
        virtual_host = run.place.endpoint.virtual_host
        with deed(own_broker, WORK, virtual_host=virtual_host, after_messages=5000):
            run.drain_work_queue()
        run.drain_audit_queue()
        result = run.judge()
    rmqbench_show(result)
    assert result.verdict.outcome == "FAIL"
    assert set(result.verdict.found()) <= {"removed", "redelivered"}
    removed = result.verdict.count("removed", WORK)
    assert (
        0
        < removed
        == 20_000 - (result.queues[WORK].delivered - result.verdict.count("redelivered"))
    )


def test_what_one_queue_rejects_and_the_other_keeps_is_nacked_but_delivered(own_broker, tmp_path):
    scenario = reliability(messages=200, window=1, allowed=("nacked",))
    with Run(scenario, own_broker, directory=tmp_path / "run") as run:
        endpoint = run.place.endpoint
        with own_broker.management as management:
            management.set_policy(
                "full",
                "^work",
                {"max-length": 50, "overflow": "reject-publish"},
                vhost=endpoint.virtual_host,
            )
        run.publish()
        run.drain_work_queue()
        run.drain_audit_queue()
        result = run.judge()
    nacked = result.verdict.count("nacked")
    assert nacked > 0
    assert result.verdict.found(AUDIT)["nacked but delivered"] == nacked
    assert result.verdict.count("nacked but delivered", WORK) == 0
    assert result.verdict.count("lost") == 0
    result.verdict.require_pass()


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_however_consumers_settle_messages_none_is_lost(own_broker, rmqbench_run, queue_kind):
    scenario = reliability(
        messages=MESSAGES, queue_kind=queue_kind, consumers=2, settle="ack*3,late,requeue,reject"
    )
    result = rmqbench_run(scenario)
    result.verdict.require_pass()
    given_back = result.verdict.count("redelivered", WORK)
    assert MESSAGES / 8 < given_back < MESSAGES / 2  # a sixth of them, by one or both consumers
    assert set(result.verdict.found()) == {"redelivered"}
    assert result.queues[WORK].sum.delivered == MESSAGES


@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_what_was_held_when_the_broker_died_comes_again(own_broker, rmqbench_run, queue_kind):
    """All had been delivered: whoever counts only first deliveries would miss nothing."""
    scenario = reliability(
        messages=MESSAGES,
        queue_kind=queue_kind,
        settle="ack*4,late*5",
        prefetch=2 * MESSAGES,
        allowed=("indeterminate",),
        rest_s=3.0 if queue_kind == "classic" else 12.0,
        faults=(Fault("kill-broker", "drain", after_messages=MESSAGES, after_s=1.0),),
    )
    result = rmqbench_run(scenario)
    result.verdict.require_pass()
    again = result.verdict.count("redelivered", WORK)
    assert again >= MESSAGES / 2  # what was held, and what the broker had not written down yet
    assert result.queues[WORK].delivered == MESSAGES + again
    assert any("kill-broker" in each.event for each in result.events)
