"""Each fault, in each phase that it is for: the run goes on, ends, and RabbitMQ keeps its promise.

The queue's kind is varied where it can make a difference: how messages are kept and given again.
"""

import json
import re
import time
from dataclasses import replace

import pytest
from support.tools import start_rmqbench, wait_until

from rmqbench import Fault, faults, faulty, reliability, run
from rmqbench.amqp import topology
from rmqbench.errors import ConnectionLost, FaultUnavailable
from rmqbench.queues import ConsumedQueue
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.scenarios import Scenario
from rmqbench.verdict.evidence import CONFIRMED
from rmqbench.version import version_number

pytestmark = pytest.mark.faults

KINDS = ["classic", "quorum"]
WORK, AUDIT = "work.queue", "audit.queue"
MESSAGES = 4000


def interruptions(result, who):
    """The events that say that a worker was kept from its work."""
    return [e.event for e in result.events if e.event.startswith(who) and "interrupted" in e.event]


def require_as_promised(result, *expected):
    """Nothing but what was expected was found, and every message is accounted for."""
    result.verdict.require_pass()
    assert set(result.verdict.found()) <= set(expected), str(result.verdict)
    unknown = result.verdict.count("indeterminate")
    assert result.confirmed + unknown == result.messages
    for queue in (WORK, AUDIT):
        arrived_or_not = [result.verdict.count(f, queue) for f in ("survived", "vanished")]
        assert sum(arrived_or_not) == unknown


PUBLISHING = ("indeterminate", "survived", "vanished")
DRAINING = ("redelivered",)


def expected_while(during):
    return {"publish": PUBLISHING, "backlog": (), "drain": DRAINING}[during]


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", KINDS)
@pytest.mark.parametrize("during", ["publish", "backlog", "drain"])
@pytest.mark.parametrize("fault", ["kill-broker", "restart-broker"])
def test_a_broker_that_starts_again_has_kept_what_it_confirmed(
    under, own_broker, fault, during, queue_kind
):
    began = time.monotonic()
    result = under(fault, during, queue_kind=queue_kind)
    assert own_broker.started_at > began
    require_as_promised(result, *expected_while(during))
    who = {"publish": "producer 0", "drain": "consumer 0 of work.queue"}.get(during)
    if who:
        assert interruptions(result, who)


@pytest.mark.parametrize("during", ["publish", "backlog", "drain"])
def test_a_quorum_queue_has_kept_what_it_confirmed_through_a_power_cut(under, own_broker, during):
    if version_number(own_broker.version) < (4, 0, 0):
        pytest.skip("before 4.0 a node may lose messages by it, or not start again")
    began = time.monotonic()
    result = under("power-cut", during, queue_kind="quorum")
    assert len([each for each in own_broker.starts if each > began]) == 3, "on its disk, and back"
    require_as_promised(result, *expected_while(during))


def test_whatever_a_power_cut_leaves_the_node_is_there_again_after_the_run(
    own_broker, rmqbench_run
):
    result = rmqbench_run(faulty("power-cut", messages=MESSAGES))  # classic queues
    struck = [each.event for each in result.events if each.kind == "fault"]
    assert any("what its disk had not got yet is gone" in each for each in struck), struck
    if version_number(own_broker.version) >= (4, 0, 0):
        assert result.verdict.count("lost"), "nobody has forced the last seconds to the disk"
    rmqbench_run(reliability(messages=100)).verdict.require_pass()


@pytest.mark.parametrize("during", ["publish", "drain"])
def test_a_quorum_queue_outlives_the_chaos_that_the_broker_makes_itself(under, own_broker, during):
    if version_number(own_broker.version) < (4, 3, 0):
        with pytest.raises(FaultUnavailable, match=r"needs RabbitMQ 4\.3\.0 or later"):
            run(faulty("quorum-chaos", during), own_broker)
        return
    result = under("quorum-chaos", during, queue_kind="quorum")
    require_as_promised(result, *expected_while(during), *DRAINING)
    assert "chaos" in own_broker.log()


def test_what_is_published_again_is_all_confirmed_and_no_duplicate(under):
    # At full speed, so that a whole window is under way when the broker dies.
    result = under("kill-broker", "publish", publish_again=True, publish_rate=None, messages=30_000)
    require_as_promised(result)
    ledger = PublishLedger.read(result.directory / "producer-0")
    assert len(ledger.copies()), "nothing was published again"
    assert result.confirmed == result.messages
    assert all(result.queues[queue].delivered >= result.messages for queue in (WORK, AUDIT))


@pytest.mark.parametrize("queue_kind", KINDS)
@pytest.mark.parametrize("during", ["publish", "drain"])
def test_a_paused_broker_is_given_up_and_found_again(under, during, queue_kind):
    # Enough that a busy machine strikes before all is through.
    result = under("pause-broker", during, queue_kind=queue_kind, messages=3 * MESSAGES)
    require_as_promised(result, *expected_while(during))
    assert interruptions(result, "producer" if during == "publish" else "consumer")


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", KINDS)
@pytest.mark.parametrize("during", ["publish", "drain"])
@pytest.mark.parametrize("fault", ["reset-connection", "half-open", "cut-frame"])
def test_a_connection_that_ends_is_made_again(under, fault, during, queue_kind):
    result = under(fault, during, queue_kind=queue_kind)
    require_as_promised(result, *expected_while(during))
    assert interruptions(result, "producer" if during == "publish" else "consumer")


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", KINDS)
@pytest.mark.parametrize("during", ["publish", "drain"])
@pytest.mark.parametrize("fault", ["latency", "slow-link"])
def test_a_bad_link_costs_time_and_nothing_else(under, fault, during, queue_kind):
    # With so small a prefetch the way there and back counts. Undisturbed it takes less than 1 s.
    result = under(fault, during, queue_kind=queue_kind, prefetch=50, consume_rate=None)
    require_as_promised(result)
    assert not interruptions(result, "producer") + interruptions(result, "consumer")
    if during == "publish":
        assert result.confirm_latency.p95_ms > 80
    else:
        assert result.consume.seconds > 1.5


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", KINDS)
def test_others_take_over_from_a_killed_consumer(under, queue_kind):
    result = under("kill-consumer", "drain", queue_kind=queue_kind)
    require_as_promised(result, "redelivered")
    assert 0 < result.verdict.count("redelivered") <= 500  # its prefetch


@pytest.mark.parametrize("queue_kind", KINDS)
def test_a_channel_that_the_broker_closes_is_opened_again(under, queue_kind):
    result = under("bad-acknowledgement", "drain", queue_kind=queue_kind)
    require_as_promised(result, "redelivered")
    (why,) = interruptions(result, "consumer")
    assert "unknown delivery tag" in why


@pytest.mark.parametrize("queue_kind", KINDS)
@pytest.mark.parametrize("during", ["publish", "drain"])
def test_a_connection_closed_by_an_administrator_is_made_again(under, during, queue_kind):
    result = under("close-connection", during, queue_kind=queue_kind)
    require_as_promised(result, *expected_while(during))
    (why,) = interruptions(result, "producer" if during == "publish" else "consumer")
    assert "CONNECTION_FORCED" in why


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "figure"), [("memory-alarm", "mem_alarm"), ("disk-alarm", "disk_free_alarm")]
)
def test_an_alarm_blocks_publishers_for_a_while(under, fault, figure, queue_kind):
    # The broker tells of its alarms every 5 s only.
    lasting = Fault(fault, "publish", after_messages=1, lasting_s=6.0)
    result = under(fault, "publish", queue_kind=queue_kind, publish_rate=400.0, faults=(lasting,))
    require_as_promised(result)
    (why,) = interruptions(result, "producer")
    assert "blocks publishers" in why
    lines = (result.directory / "samples.jsonl").read_text().splitlines()
    nodes = [node for line in lines for node in json.loads(line)["nodes"].values()]
    assert {node[figure] for node in nodes} >= {True, False}, "the monitor is to have seen it"


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", KINDS)
@pytest.mark.parametrize("during", ["publish", "drain"])
@pytest.mark.parametrize("fault", ["purge-queue", "delete-queue", "limit-queue"])
def test_what_is_taken_out_of_the_queue_is_removed_and_nothing_else(
    under, fault, during, queue_kind
):
    result = under(fault, during, queue_kind=queue_kind)
    result.verdict.require_pass()
    unknown = PUBLISHING if fault == "delete-queue" and during == "publish" else ()
    assert set(result.verdict.found()) <= {"removed", *unknown}
    removed = result.verdict.count("removed", WORK)
    assert removed > 0
    assert result.verdict.count("removed", AUDIT) == 0
    if fault == "purge-queue":
        (said,) = [e.event for e in result.events if "a purge of" in e.event]
        assert f"a purge of {removed} messages" in said
    if fault == "limit-queue" and during == "publish":
        assert removed == result.messages - 100
    if not unknown:
        assert result.queues[AUDIT].delivered == result.messages


@pytest.mark.quick
@pytest.mark.parametrize("queue_kind", KINDS)
def test_a_limit_that_is_taken_off_again_takes_nothing_more(own_broker, rmqbench_run, queue_kind):
    struck = Fault("limit-queue", "publish", after_messages=1000, lasting_s=1.0)
    scenario = faulty("limit-queue", "publish", messages=6000, queue_kind=queue_kind)
    result = rmqbench_run(replace(scenario, faults=(struck,), publish_rate=2000))
    result.verdict.require_pass()
    assert 1000 < result.verdict.count("removed", WORK) < 6000 - 500, "what came later is there"
    assert any("the limit is taken off again" in each.event for each in result.events)
    assert result.queues[AUDIT].delivered == result.messages


@pytest.mark.parametrize("queue_kind", KINDS)
def test_what_a_policy_takes_out_of_a_queue_with_dead_letters_is_in_the_sum(
    own_broker, rmqbench_run, queue_kind
):
    to_parked = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "parked"}
    scenario = Scenario(
        "limited",
        (
            ConsumedQueue("parked", queue_kind, bindings=()),
            ConsumedQueue(WORK, queue_kind, arguments=to_parked),
        ),
        messages=3000,
        publish_rate=2000,
        allowed=("removed",),
        faults=(Fault("limit-queue", after_messages=1000, queue=WORK, lasting_s=0.5),),
    )
    result = rmqbench_run(scenario)
    result.verdict.require_pass()
    it = result.queues[WORK].sum
    assert it.confirmed == it.delivered + it.dead_lettered + it.removed == 3000
    assert it.dead_lettered > 900, "by a classic queue some may be lost on their way"
    assert result.queues["parked"].delivered == it.dead_lettered


def test_a_purge_whose_answer_does_not_come_has_removed_and_its_bound_is_not_known(
    own_broker, rmqbench_run, monkeypatch
):
    """It takes effect, and the connection ends before the broker can say how many there were."""
    purge = topology.purge
    counts = []

    def purge_and_lose_the_answer(endpoint, queue):
        counts.append(purge(endpoint, queue))
        raise ConnectionLost("The connection ended before the answer.")

    monkeypatch.setattr(topology, "purge", purge_and_lose_the_answer)
    verdict = rmqbench_run(faulty("purge-queue", "publish", messages=MESSAGES)).verdict
    (count,) = counts
    assert verdict.count("removed", WORK) == count > 0
    assert verdict.count("lost") == 0
    assert "a purge whose answer did not come, of any number of messages" in str(verdict)
    assert verdict.outcome == "INCONCLUSIVE", "the fault did not do what it should have done"
    assert "the fault purge-queue failed: The connection ended" in str(verdict)


def test_a_fault_that_fails_leaves_the_verdict_open(own_broker, rmqbench_run):
    gone = Fault("delete-queue", "publish", after_messages=1)
    too_late = Fault("purge-queue", "publish", after_messages=2000)
    scenario = faulty("delete-queue", messages=MESSAGES, faults=(gone, too_late))
    result = rmqbench_run(scenario)
    assert result.verdict.outcome == "INCONCLUSIVE"
    assert "the fault purge-queue failed: There is no queue" in str(result.verdict)


def test_a_fault_that_never_strikes_leaves_the_verdict_open(own_broker, rmqbench_run):
    never = Fault("restart-broker", "publish", after_messages=1000)
    result = rmqbench_run(faulty("restart-broker", messages=500, faults=(never,)))
    assert result.verdict.outcome == "INCONCLUSIVE"
    assert "never struck" in str(result.verdict)


def test_a_fault_around_a_run_stands_in_its_result(own_broker, rmqbench_run):
    scenario = faulty("kill-broker", messages=MESSAGES, faults=())  # at rest before it is killed
    with faults.kill_broker(own_broker, after_messages=MESSAGES // 2):
        result = rmqbench_run(scenario)
    assert result.verdict.count("lost") == 0
    told = [event.event for event in result.events if event.kind == "fault"]
    assert told[0].startswith("kill-broker: ")
    assert "the broker is dead" in told
    assert told[-1] == "kill-broker is over"


def test_a_newborn_classic_queue_has_kept_what_it_confirmed(under, own_broker):
    """Before 4.2 queue or messages may be gone: the node writes new ones down after about 2 s."""
    result = under("kill-newborn", "publish")
    assert interruptions(result, "producer 0")
    if result.verdict.outcome == "FAIL":
        assert own_broker.version.startswith(("3.", "4.0.", "4.1."))
        assert set(result.verdict.found()) & {"lost", "returned"}
    else:
        require_as_promised(result, *PUBLISHING)


def test_a_newborn_queue_is_judged_by_what_it_confirmed(under, own_broker):
    """A quorum queue loses all of what it had confirmed when its node dies right after it was made.

    It does so on 4.3.6, unless the node has just written down its members (every few seconds); and
    exactly what it had confirmed is named as lost.
    """
    lossy = own_broker.version.startswith("4.3.")
    for _ in range(2 if lossy else 1):
        result = under("kill-newborn", "publish", queue_kind="quorum", stall_s=20.0)
        require_newborn_judged(result, own_broker.version)
        if result.verdict.count("lost"):
            break
    assert bool(result.verdict.count("lost")) or not lossy


def require_newborn_judged(result, version):
    verdict = result.verdict
    (killed_ns,) = [e.time_ns for e in result.events if e.event == "the broker is dead"]
    (declared_ns,) = [e.time_ns for e in result.events if e.event == "declare"]
    late = "missed its moment" in str(verdict)
    assert not late or killed_ns - declared_ns > 0.8e9
    ledger = PublishLedger.read(result.directory / "producer-0")
    early = int(
        ((ledger.state & CONFIRMED != 0) & (ledger.settled_ns(slice(None)) < killed_ns)).sum()
    )
    assert early > 0
    unusable = ()
    if version.startswith("3."):  # its queue may never answer again
        unusable = ("stuck", "unsent")
    assert set(verdict.found()) <= {"lost", *unusable, *PUBLISHING}
    for queue in (WORK, AUDIT):
        stuck = verdict.count("stuck", queue) > 0
        assert verdict.count("lost", queue) in ((0,) if stuck else (0, early))
    if verdict.count("lost"):
        assert f"{early} at the start of what was sent" in str(verdict)
    assert verdict.passed == (not late and not set(verdict.found()) & {"lost", "stuck", "unsent"})


@pytest.mark.parametrize(("more", "code"), [((), 5), (("--publish-again",), 0)])
def test_a_node_of_the_url_that_dies_and_comes_back_is_no_loss(own_broker, tmp_path, more, code):
    """An ordinary run, which knows of no fault: a window is under way when the node dies."""
    endpoint, run = own_broker.endpoint, tmp_path / "run"
    process = start_rmqbench(
        *("run", "reliability", "--messages", "60000", "--directory", str(run), *more),
        *("--url", endpoint.url(), "--management-url", endpoint.management_url),
    )
    try:
        wait_until(lambda: confirmed_in(run) > 2000, "the first confirms")
        own_broker.kill()
        own_broker.start()
        out, errors = process.communicate(timeout=180)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == code, out + errors
    if code:
        assert out.startswith("FAIL (outcomes unknown) reliability")
        assert re.search(r"FAIL: the outcome of \d+ publishes is unknown \(\d+ of them arr", out)
        assert "nothing is known to be lost" in out
        assert "--publish-again" in out
    else:
        assert out.startswith("PASS reliability")


def confirmed_in(run):
    try:
        return int((PublishLedger.read(run / "producer-0").state & CONFIRMED != 0).sum())
    except (OSError, ValueError):  # it is not there yet
        return 0
