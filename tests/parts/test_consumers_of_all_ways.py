"""Consumers that behave as people's do, on a real broker: that come back, or ask one by one."""

import pytest

import rmqbench
from rmqbench.faults import Fault
from rmqbench.queues import ConsumedQueue, ConsumerSettings
from rmqbench.scenarios import Scenario

COUNT = 600
POLLS = ConsumerSettings(polls_every_s=0.02)


@pytest.fixture
def run(rmqbench_broker, tmp_path, rmqbench_show):
    """Run a scenario of these queues, and return the result."""

    def run(*queues, **changes):
        scenario = Scenario("consumers", queues, messages=COUNT, **changes)
        result = rmqbench.run(scenario, rmqbench_broker, directory=tmp_path / "run")
        rmqbench_show(result)
        return result

    return run


def require_all_delivered(result):
    assert result.verdict.outcome == "PASS", str(result.verdict)
    for each in result.queues.values():
        assert each.sum.confirmed == each.sum.delivered == COUNT


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_one_that_cancels_and_comes_back_by_the_same_tag_misses_nothing(run, kind):
    often = ConsumerSettings(cancels_every=7)
    result = run(
        ConsumedQueue("work", kind, settle="ack*4,late*5", prefetch=50, settings=(often,)),
        ConsumedQueue("shared", kind, consumers=3, settings=(often, ConsumerSettings())),
    )
    require_all_delivered(result)
    assert set(result.verdict.found()) <= {"redelivered"}


@pytest.mark.parametrize("consume", ["after", "during"])
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_one_that_asks_for_each_message_misses_nothing(run, kind, consume):
    result = run(
        ConsumedQueue("alone", kind, settings=(POLLS,)),
        ConsumedQueue("shared", kind, consumers=3, settings=(POLLS, ConsumerSettings())),
        ConsumedQueue("forgotten", kind, auto_ack=True, settings=(POLLS,)),
        ConsumedQueue("late", kind, prefetch=50, settle="ack*4,late*5", settings=(POLLS,)),
        consume=consume,
    )
    require_all_delivered(result)
    assert result.verdict.found() == {}
    assert not any("received nothing" in note for note in result.notes), "it knows when to end"


def test_one_that_asks_holds_no_more_than_its_prefetch_and_gives_back(run):
    result = run(ConsumedQueue("work", prefetch=3, settle="late,requeue", settings=(POLLS,)))
    require_all_delivered(result)
    assert result.verdict.found()["redelivered"] > COUNT // 4


@pytest.mark.slow
def test_one_that_asks_comes_back_when_its_connection_is_cut(run):
    struck = Fault("reset-connection", "drain", after_messages=COUNT // 3)
    result = run(
        ConsumedQueue("work", settings=(POLLS,), settle="ack*4,late*5", prefetch=50),
        faults=(struck,),
    )
    require_all_delivered(result)
    assert 0 < result.verdict.found()["redelivered"] <= 50
