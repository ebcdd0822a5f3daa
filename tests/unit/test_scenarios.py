"""Descriptions refuse what makes no run."""

import dataclasses
import json
import math
import re
from dataclasses import replace

import pytest

import rmqbench
from rmqbench.amqp.topology import Binding, Exchange
from rmqbench.errors import UsageError
from rmqbench.faults import FAULTS, Fault
from rmqbench.queues import ConsumedQueue, DelayQueue
from rmqbench.scenarios import Scenario, changes_taken
from rmqbench.workloads import scenario_of, tables_of


def test_the_default_is_the_documented_one():
    scenario = rmqbench.reliability()
    assert scenario.messages == 10_000
    assert [(queue.consumers, queue.prefetch) for queue in scenario.queues] == [(1, 1000)] * 2
    topology = scenario.topology()
    assert (topology.exchange, topology.routing_key) == ("direct.exchange", "work")
    assert topology.queue_names == ("work.queue", "audit.queue")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", 0),
        ("messages", -5),
        ("messages", 1 << 48),
        ("producers", 0),
        ("producers", 11),
        ("consumers", 0),
        ("window", 0),
        ("prefetch", 0),
        ("prefetch", 65_536),
        ("size_bytes", 10),
        ("size_bytes", "10:1000"),
        ("size_bytes", "100;1000"),
        ("size_bytes", 100.5),
        ("queue_kind", "stream"),
        ("work_queue", ""),
        ("audit_queue", "work.queue"),
        ("producers", 1.5),
        ("window", "10"),
        ("text", "\ud800"),
        ("allowed", ("losst",)),
        ("stall_s", 0.0),
        ("publish_rate", math.inf),
        ("publish_rate", 0),
        ("publish_rate", "fast"),
        ("publish_rate", "100,200"),
        ("limits", ("confirm.p99_ms <= 20",)),
        ("consume_rate", math.inf),
        ("churn", 0.0),
        ("churn", math.inf),
        ("churn", math.nan),
        ("processes", 0),
    ],
)
def test_what_makes_no_run_is_refused(field, value):
    with pytest.raises(UsageError):
        rmqbench.reliability(**{"messages": 10, field: value})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"messages": 10, "producers": 100_000},
            r"producers is 100000\. Give a whole number between 1 and 4,096",
        ),
        (
            {"messages": 10, "producers": 11},
            r"producers is 11, and 10 messages are published at the most: each producer needs "
            r"one\. Give fewer producers, or more messages\.$",
        ),
        (
            {"messages": None, "duration_s": 2.0, "publish_rate": 3.0, "producers": 1000},
            r"producers is 1,000, and 6 messages are .* \(a longer duration_s, a higher publish",
        ),
    ],
)
def test_too_many_producers_are_refused_with_the_number_that_limits_them(given, said):
    with pytest.raises(UsageError, match=said):
        rmqbench.reliability(**given)
    assert rmqbench.reliability(messages=10, producers=10).counts == (1,) * 10


def test_a_rate_that_the_broker_would_not_wait_for_is_refused():
    with pytest.raises(UsageError, match="auto_ack"):
        rmqbench.reliability(auto_ack=True, consume_rate=100.0)
    assert rmqbench.faulty("kill-consumer", auto_ack=True).queues[0].consume_rate is None


@pytest.mark.parametrize("clash", [{"rest_s": 1.0}, {"consume": "during"}])
def test_queues_that_are_declared_last_neither_rest_nor_have_consumers_before(clash):
    with pytest.raises(UsageError, match="declare_last"):
        rmqbench.reliability(declare_last=True, **clash)


def test_a_storm_cuts_off_two_hundred_clients_that_are_at_work():
    storm = rmqbench.storm()
    assert (storm.name, storm.consume, storm.clients) == ("storm", "during", 200)
    assert storm.producers == sum(queue.consumers for queue in storm.queues) == 100
    assert storm.faults == (Fault("restart-broker", "publish"),)
    assert storm.publish_rate == FAULTS["restart-broker"].rate, "else it is over before"
    assert set(storm.allowed) == FAULTS["restart-broker"].expected
    assert storm.window * storm.producers <= storm.messages, "all are at work all along"
    assert storm.stall_s > rmqbench.reliability().stall_s
    assert rmqbench.storm("kill-broker", producers=3, publish_again=True, stall_s=9.0) == replace(
        storm,
        faults=(Fault("kill-broker", "publish"),),
        allowed=(),
        publish_again=True,
        publish_rate=FAULTS["kill-broker"].rate,
        rest_s=FAULTS["kill-broker"].rest_s / 4,
        producers=3,
        stall_s=9.0,
    )


CUTTING = {
    *("kill-broker", "restart-broker", "pause-broker", "reset-connection", "half-open"),
    *("cut-frame", "close-connection", "power-cut"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_storm_needs_a_fault_that_cuts_all_clients_off(fault):
    if fault in CUTTING:
        assert rmqbench.storm(fault).faults == (Fault(fault, "publish"),)
        return
    with pytest.raises(UsageError, match=f"the fault {fault} cuts nobody off") as refused:
        rmqbench.storm(fault)
    assert set(re.findall(r"[a-z]+-[a-z]+", refused.value.remedy)) == CUTTING


def test_a_storm_of_a_fault_that_there_is_not_is_refused_as_any():
    with pytest.raises(UsageError, match="There is no fault 'hail'"):
        rmqbench.storm("hail")


def test_the_queues_of_a_fault_of_newborn_ones_are_declared_last():
    assert rmqbench.faulty("kill-newborn", queue_kind="quorum").declare_last
    assert not rmqbench.faulty("kill-broker", queue_kind="quorum").declare_last


@pytest.mark.parametrize(
    ("changes", "pause_s"),
    [
        ({}, 0.0),
        ({"publish_rate": 0.01}, 100.0),
        ({"publish_rate": 0.01, "producers": 3}, 300.0),
        ({"consume_rate": 10.0, "prefetch": 999}, 100.0),
        ({"consume_rate": 10.0, "prefetch": 999, "consumers": 2}, 200.0),
        ({"consume_rate": 10.0, "prefetch": 999, "publish_rate": 0.001}, 1000.0),
    ],
)
def test_a_worker_may_be_idle_for_as_long_as_its_own_rate_asks_for(changes, pause_s):
    assert rmqbench.reliability(**changes).longest_pause_s == pytest.approx(pause_s)


def test_a_scenario_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        rmqbench.reliability().messages = 5


@pytest.mark.parametrize(
    ("messages", "producers", "counts"),
    [(10, 1, (10,)), (10, 3, (4, 3, 3)), (3, 3, (1, 1, 1)), (1_000_000, 7, None)],
)
def test_the_messages_are_shared_out(messages, producers, counts):
    scenario = rmqbench.Scenario("test", messages=messages, producers=producers)
    assert sum(scenario.counts) == messages
    assert max(scenario.counts) - min(scenario.counts) <= 1
    assert counts in (None, scenario.counts)


# --- any number of queues, and what is said of the two of the mission ---------------------------


def test_what_is_said_of_both_queues_is_of_both_and_the_rest_of_the_work_queue():
    scenario = rmqbench.stress(
        queue_kind="quorum", prefetch=7, consumers=3, work_queue="w", audit_queue="a"
    )
    work, audit = scenario.queues
    assert work == rmqbench.ConsumedQueue("w", "quorum", consumers=3, prefetch=7)
    assert audit == rmqbench.ConsumedQueue("a", "quorum", prefetch=7)


def test_queues_of_ones_own_are_not_described_twice():
    mine = (rmqbench.ConsumedQueue("orders", "quorum"),)
    assert rmqbench.online(queues=mine).queues == mine
    with pytest.raises(UsageError, match="queues and consumers both say"):
        rmqbench.online(queues=mine, consumers=2)


def test_a_scenario_as_plain_values_keeps_the_names_of_two_queues():
    plain = rmqbench.reliability(queue_kind="lazy", consumers=2).as_dict()
    assert (plain["queue_kind"], plain["consumers"]) == ("lazy", 2)
    assert (plain["work_queue"], plain["audit_queue"]) == ("work.queue", "audit.queue")
    assert "consumers" not in rmqbench.Scenario("one", (rmqbench.ConsumedQueue("q"),)).as_dict()


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 10_000),
        ({"messages": 7}, 7),
        ({"duration_s": 2.0}, 200_000),
        ({"duration_s": 2.5, "publish_rate": 100.0}, 250),
        ({"duration_s": 2.0, "messages": 50}, 50),
    ],
)
def test_a_load_is_a_count_or_a_duration(changes, most):
    assert rmqbench.Scenario("test", **changes).most_messages == most


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_s": 0.0},
        {"duration_s": float("inf")},
        {"duration_s": float("nan")},
        {"consume": "before"},
        {"queues": ()},
        {"faults": (rmqbench.Fault("purge-queue", queue="elsewhere"),)},
        {"faults": (rmqbench.Fault("kill-broker", "backlog"),), "consume": "during"},
        {"lets_go": True},
    ],
)
def test_a_workload_that_makes_no_run_is_refused(changes):
    with pytest.raises(UsageError):
        rmqbench.Scenario("test", **changes)


def test_what_is_allowed_is_a_tuple_of_findings_and_no_text():
    with pytest.raises(UsageError, match=r"allowed is the text 'removed'.*\('removed',\)"):
        rmqbench.reliability(allowed="removed")
    with pytest.raises(UsageError, match="allowed names what is no finding: gone"):
        rmqbench.reliability(allowed=("removed", "gone"))


def test_the_changes_that_are_taken_are_those_of_a_scenario_of_two_queues():
    taken = changes_taken()
    assert {"messages", "queue_kind", "consume_rate"} < set(taken)
    two = {"work_queue": "w", "audit_queue": "a", "queue_arguments": {"x-max-length": 1}}
    assert set(two) < set(taken)
    assert rmqbench.reliability(**two).queue_names == ("w", "a")
    fields = {field.name for field in dataclasses.fields(rmqbench.Scenario)}
    assert fields - set(taken) == {"queues", "faults"}


def test_a_soak_strikes_again_and_again_and_well_before_its_end():
    moments = [fault.after_s for fault in rmqbench.soak(fault="kill-broker").faults]
    assert moments == [300, 600, 900, 1200, 1500]
    short = rmqbench.soak(fault="kill-broker", every_s=20, duration_s=65)
    assert [fault.after_s for fault in short.faults] == [20, 40]
    assert [
        f.after_s for f in rmqbench.soak(fault="kill-broker", every_s=90, duration_s=9).faults
    ] == [90]
    assert "indeterminate" in short.allowed


def test_a_soak_without_a_fault_allows_nothing_more_than_others():
    scenario = rmqbench.soak(consumers=3)
    assert (scenario.faults, scenario.allowed) == ((), ())
    assert scenario.lets_go
    assert scenario.most_messages == 1800 * 5000
    assert scenario.queues[0].consumers == 3


def test_a_soak_strikes_at_times_that_there_are():
    with pytest.raises(UsageError, match=r"every_s is 0\."):
        rmqbench.soak(fault="kill-broker", every_s=0)


def test_a_rate_that_says_how_long_it_lasts_says_the_duration_and_the_messages():
    scenario = rmqbench.online(messages=None, publish_rate="100@2s,50@1s", producers=3)
    assert (scenario.duration_s, scenario.most_messages) == (3.0, 250)
    assert scenario.counts == (84, 83, 83)
    few = rmqbench.online(messages=10, publish_rate="100@2s")
    assert (few.duration_s, few.most_messages) == (2.0, 10)


def test_the_latency_scenario_lasts_ten_seconds_or_as_long_as_its_rate_says():
    assert rmqbench.latency().most_messages == 10_000
    assert rmqbench.latency(duration_s=3, publish_rate="100,200").most_messages == 450
    assert rmqbench.latency(publish_rate="100@3s").duration_s == 3


def test_limits_need_an_open_load_and_those_on_deliveries_consumers_at_work():
    limits = ("delivery.p99_ms <= 20",)
    assert rmqbench.latency(limits=limits).limits == limits
    with pytest.raises(UsageError, match="the load is as high as the window allows"):
        rmqbench.online(limits=limits)
    with pytest.raises(UsageError, match="consumed after the publishing"):
        rmqbench.reliability(publish_rate=100, limits=limits)
    assert rmqbench.reliability(publish_rate=100, limits=("confirm.p99_ms <= 20",)).limits
    with pytest.raises(UsageError, match=r"limits is the text .* Give a tuple: limits=\('delivery"):
        rmqbench.latency(limits="delivery.p99_ms <= 20")


DEAD_LETTERS = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "parked"}


def test_a_scenario_knows_which_queue_gets_what():
    work = ConsumedQueue("work", arguments=DEAD_LETTERS)
    parked = ConsumedQueue("parked", bindings=())
    scenario = Scenario("x", queues=(work, parked))
    assert scenario.gets_all == (True, False)
    assert scenario.origins == ((), (0,))
    assert Scenario("x", queues=(work,)).origins == ((),), "they lead away from it"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"queues": (ConsumedQueue("q", bindings=()),)}, "is published arrives nowhere"),
        (
            {
                "queues": (ConsumedQueue("parked", arguments=DEAD_LETTERS),),
                "consume": "during",
                "lets_go": True,
            },
            "evidence of dead letters would be let go",
        ),
        ({"queues": (ConsumedQueue("q", bindings=(Binding("dead"),)),)}, "does not have"),
        (
            {
                "queues": (
                    ConsumedQueue("work", arguments=DEAD_LETTERS),
                    ConsumedQueue(
                        "parked",
                        arguments={**DEAD_LETTERS, "x-dead-letter-routing-key": "grave"},
                        bindings=(),
                    ),
                    ConsumedQueue("grave", bindings=()),
                )
            },
            "come to 'parked' go on from there",
        ),
        (
            {"queues": (ConsumedQueue("parked", arguments={**DEAD_LETTERS, "x-message-ttl": 1}),)},
            "gets its own dead letters, and expires",
        ),
    ],
)
def test_a_topology_that_makes_no_run_is_refused(wish, words):
    with pytest.raises(UsageError, match=words):
        Scenario("x", **wish)


LATER = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "later"}


@pytest.mark.parametrize(
    ("delays", "words"),
    [
        ((DelayQueue("later", 1.0, "", "nobody"),), "'later' leads to no queue of the scenario"),
        ((DelayQueue("later", 1.0, "", "later"),), "'later' leads to another"),
        (
            (DelayQueue("later", 1.0, "", "more"), DelayQueue("more", 1.0, "", "work")),
            "'later' leads to another: dead letters are followed through one",
        ),
        (
            (DelayQueue("later", 1.0, "", "work", bindings=(Binding("direct.exchange", "work"),)),),
            "'later' gets what is published",
        ),
        ((DelayQueue("work", 1.0, "", "work"),), "names one queue twice"),
    ],
)
def test_a_delay_queue_that_leads_nowhere_is_refused(delays, words):
    with pytest.raises(UsageError, match=words):
        Scenario("retry", (ConsumedQueue("work", arguments=LATER),), delays=delays)


def test_dead_letters_that_come_in_two_ways_are_refused():
    both = {"x-dead-letter-exchange": "dead"}
    queues = (
        ConsumedQueue("work", arguments=both),
        ConsumedQueue("parked", bindings=(Binding("dead"),)),
    )
    later = DelayQueue("later", 1.0, "", "parked", bindings=(Binding("dead"),))
    with pytest.raises(UsageError, match="come to 'parked' in two ways"):
        Scenario("both", queues, exchanges=(Exchange("dead"),), delays=(later,))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"delay_s": 0.0}, "delay_s is 0"),
        ({"delay_s": math.inf}, "delay_s is inf"),
        ({"delay_s": 1.0, "arguments": {"x-max-length": 5}}, "x-max-length is not for the delay"),
        ({"delay_s": 1.0, "arguments": {"x-message-ttl": 5}}, "x-message-ttl is not for the delay"),
    ],
)
def test_a_delay_queue_that_gives_up_messages_otherwise_is_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        DelayQueue("later", **settings)


def test_dead_letters_are_kept_where_all_of_their_queues_keep_them():
    keeps = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    work = ConsumedQueue("work", "quorum", arguments=LATER | keeps)
    ways = (("quorum", keeps, True), ("quorum", {}, False), ("classic", keeps, False))
    for kind, arguments, kept in ways:
        later = DelayQueue("later", 1.0, "", "work", kind=kind, arguments=arguments)
        scenario = Scenario("retry", (work, ConsumedQueue("plain")), delays=(later,))
        assert scenario.keeps_dead_letters == (kept, False)
    assert scenario_of(json.loads(json.dumps(tables_of(scenario)))) == scenario
