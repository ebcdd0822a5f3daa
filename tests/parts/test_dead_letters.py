"""Dead letters on a real broker: each message ends in one place, and the sum says in which."""

from dataclasses import dataclass, replace

import pytest

import rmqbench
from rmqbench.amqp import topology as topologies
from rmqbench.amqp.topology import Binding, Exchange, ready_count
from rmqbench.explaining.facts import Facts
from rmqbench.explaining.lives import life_of
from rmqbench.faults import Fault
from rmqbench.message import Identity
from rmqbench.queues import ConsumedQueue, DelayQueue
from rmqbench.run_directory.reading import read_run
from rmqbench.runner.run import Run
from rmqbench.scenarios import Scenario
from rmqbench.text import counted
from rmqbench.verdict.evidence import AGAIN
from rmqbench.waiting import wait_until

COUNT = 600
DLX, KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"
TO_PARKED = {DLX: "", KEY: "parked"}


@pytest.fixture
def run(rmqbench_broker, tmp_path, rmqbench_show):
    """Run a scenario of these queues, and return the result."""

    def run(*queues, **changes):
        scenario = Scenario("dead letters", queues, messages=COUNT, **changes)
        result = rmqbench.run(scenario, rmqbench_broker, directory=tmp_path / "run")
        rmqbench_show(result)
        return result

    return run


def shares(result, queue="work"):
    """Return what a queue's messages came to: delivered, dead-lettered, and anything else."""
    it = result.queues[queue].sum
    assert it.confirmed == COUNT
    others = it.removed, it.lost, it.still_there, it.not_known
    return it.delivered, it.dead_lettered, sum(others)


@pytest.mark.parametrize("consume", ["after", "during"])
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_is_rejected_goes_to_the_queue_that_gets_it(run, kind, consume):
    result = run(
        ConsumedQueue("parked", kind, bindings=()),
        ConsumedQueue("work", kind, arguments=TO_PARKED, settle="ack*2,reject", consumers=2),
        consume=consume,
    )
    assert (result.verdict.outcome, result.verdict.found()) == ("PASS", {})
    delivered, dead_lettered, others = shares(result)
    assert (delivered + dead_lettered, others) == (COUNT, 0)
    assert 100 < dead_lettered < 300
    assert result.queues["parked"].delivered == dead_lettered


def test_what_expires_and_what_is_one_too_many_is_dead_lettered_as_well(run):
    result = run(
        ConsumedQueue("work", arguments={**TO_PARKED, "x-message-ttl": 1}),
        ConsumedQueue("short", arguments={**TO_PARKED, "x-max-length": 100}),
        ConsumedQueue("parked", bindings=()),
    )
    assert (result.verdict.outcome, result.verdict.found()) == ("PASS", {})
    assert shares(result) == (0, COUNT, 0)
    assert shares(result, "short") == (100, COUNT - 100, 0)


def test_a_rejected_message_may_come_to_its_own_queue_again(run, tmp_path):
    """Through an exchange, and to two others, each by another key."""
    result = run(
        ConsumedQueue("work", arguments={DLX: "dead"}, settle="reject", bindings=None),
        ConsumedQueue("all", bindings=(Binding("dead", "#"),)),
        ConsumedQueue("some", bindings=(Binding("dead", "wo.*"), Binding("dead", "work"))),
        ConsumedQueue("none", bindings=(Binding("dead", "*.work"),)),
        exchanges=(Exchange("dead", "topic"),),
    )
    assert (result.verdict.outcome, result.verdict.found()) == ("PASS", {})
    assert shares(result) == (0, COUNT, 0)
    assert [result.queues[name].delivered for name in ("all", "some", "none")] == [COUNT, COUNT, 0]
    life = life_of(Facts(read_run(tmp_path / "run"), result.verdict), Identity(0, 7))
    assert life.ends[1:] == (
        "work: delivered once, and rejected by consumer 0 of work, and dead-lettered to all and "
        "some.",
    )
    assert any("of all received it on channel 1 as a dead letter" in m.what for m in life.moments)


def test_a_queue_that_comes_back_to_itself_at_once_is_drained(run):
    result = run(ConsumedQueue("work", arguments={DLX: "", KEY: "work"}, settle="ack,reject"))
    assert (result.verdict.outcome, result.verdict.found()) == ("PASS", {})
    delivered, dead_lettered, others = shares(result)
    assert (delivered + dead_lettered, others) == (COUNT, 0)
    assert result.queues["work"].delivered == COUNT + dead_lettered


WORK = ConsumedQueue("work", settle="ack*2,reject", arguments={DLX: "", KEY: "later"})


@pytest.mark.parametrize("consume", ["after", "during"])
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_is_rejected_comes_back_when_it_has_waited(run, kind, consume):
    """The pattern by which people try again."""
    result = run(
        replace(WORK, kind=kind),
        replace(WORK, name="other", kind=kind, arguments={DLX: "", KEY: "parked later"}),
        ConsumedQueue("parked", kind, bindings=(Binding("parked"),)),
        exchanges=(Exchange("parked"),),
        delays=(
            # Longer than the queue that it goes back to takes to be proven empty.
            DelayQueue("later", 8.0, "", "work", kind=kind),
            DelayQueue("parked later", 0.5, "parked", kind=kind),
        ),
        consume=consume,
    )
    # A quorum queue may give again what was acknowledged just before its consumer left.
    again = result.verdict.found()
    assert (result.verdict.outcome, set(again) - {"redelivered"}) == ("PASS", set())
    assert not again or kind == "quorum"
    for queue in ("work", "other"):
        delivered, dead_lettered, others = shares(result, queue)
        assert (delivered + dead_lettered, others) == (COUNT, 0)
        assert 100 < dead_lettered < 300
    came = result.queues["work"].delivered - result.verdict.count("redelivered", "work")
    assert came == COUNT + shares(result)[1]
    assert result.queues["parked"].delivered >= shares(result, "other")[1]


def test_what_is_gone_from_where_it_waited_is_lost(rmqbench_broker, tmp_path):
    """Somebody purges that queue, and nobody says so."""
    scenario = Scenario(
        "purged", (WORK,), messages=COUNT, delays=(DelayQueue("later", 5.0, "", "work"),)
    )
    purged = []

    def purge(progress):
        if progress.phase.startswith("drain") and progress.done == COUNT and not purged:
            endpoint = stages.place.endpoint
            wait_until(lambda: ready_count(endpoint, "later") > 100, 10.0, "what waits")
            purged.append(topologies.purge(endpoint, "later"))

    with Run(scenario, rmqbench_broker, directory=tmp_path / "run", watch=purge) as stages:
        stages.publish()
        stages.drain_all()
        result = stages.judge()
    assert (result.verdict.outcome, result.verdict.found()) == ("FAIL", {"lost": purged[0]})
    assert result.queues["work"].sum.dead_lettered == 0


def test_what_waits_for_ever_is_unserved(run):
    @dataclass(frozen=True)
    class Stuck(DelayQueue):
        def declared(self):
            queue = super().declared()
            return replace(queue, arguments=queue.arguments | {"x-message-ttl": 600_000})

    result = run(WORK, delays=(Stuck("later", 0.5, "", "work"),), stall_s=3.0)
    rejected = COUNT - shares(result)[0]
    assert result.verdict.found() == {"unserved": rejected}
    assert result.queues["work"].sum.still_there == rejected


def test_messages_go_through_exchanges_of_all_types_to_where_they_are_to_go(run):
    by_headers = Binding("by headers", arguments={"x-match": "all", "producer_id": None})
    unlike = Binding("by headers", arguments={"host": "another"})
    result = run(
        ConsumedQueue("topic", bindings=(Binding("out", "order.*.eu"),)),
        ConsumedQueue("headers", "quorum", bindings=(by_headers,)),
        ConsumedQueue("other headers", bindings=(unlike,)),
        ConsumedQueue("unrouted", bindings=(Binding("unrouted"),)),
        ConsumedQueue("nothing", bindings=(Binding("out", "order.*.us"),)),
        exchange="in",
        routing_key="order.new.eu",
        exchanges=(
            Exchange("in", "direct", alternate="out"),
            Exchange("out", "topic"),
            Exchange("dead end", "topic", bindings=(Binding("out", "#"),), alternate="unrouted"),
            Exchange("by headers", "headers", bindings=(Binding("out", "order.#"),)),
            Exchange("unrouted"),
        ),
    )
    assert (result.verdict.outcome, result.verdict.found()) == ("PASS", {})
    delivered = {name: each.delivered for name, each in result.queues.items()}
    all_of_them = dict.fromkeys(("topic", "headers", "unrouted"), COUNT)
    assert delivered == {**all_of_them, "other headers": 0, "nothing": 0}


@pytest.mark.slow
def test_dead_letters_that_came_again_and_are_not_there_any_more_are_missing_evidence(run):
    result = run(
        ConsumedQueue("work", arguments=TO_PARKED, settle="reject"),
        ConsumedQueue("parked", bindings=(), consume_rate=300, prefetch=200),
        faults=(Fault("reset-connection", "drain", after_messages=COUNT // 2, queue="work"),),
        allowed=("indeterminate", "removed"),
    )
    assert result.verdict.outcome == "PASS", str(result.verdict)
    count = result.verdict.count("redelivered", "parked")
    assert count > 0
    again = result.directory / "queue-1" / "consumer-0" / "dead-letters-0" / "again.bin"
    again.write_bytes(again.read_bytes()[: -AGAIN.itemsize])
    verdict = rmqbench.judge(result.directory).verdict
    assert verdict.outcome == "INCONCLUSIVE"
    recorded = counted(
        count, "repeated delivery of a dead letter", "repeated deliveries of dead letters"
    )
    there = counted(count - 1, "of them is", "of them are")
    assert f"recorded {recorded}, and {there} there" in str(verdict)


def test_a_consumer_that_gets_only_dead_letters_can_be_killed(run):
    result = run(
        ConsumedQueue("parked", bindings=(), consume_rate=300, prefetch=200),
        ConsumedQueue("work", arguments=TO_PARKED, settle="reject"),
        faults=(Fault("kill-consumer", "drain", after_messages=COUNT // 3, queue="parked"),),
    )
    assert result.verdict.outcome == "PASS", str(result.verdict)
    assert any("is dead, with" in each.event for each in result.events)
    assert result.verdict.count("redelivered", "parked") > 0
