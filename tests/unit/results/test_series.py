"""What charts show of a run over time is what its ledgers and samples hold."""

import json

import numpy as np
import pytest
from support.large import BEGAN_NS, write_large_run
from support.simulated import Act, History, QueuePlan, play

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
from rmqbench import judge
from rmqbench.explaining.facts import Facts
from rmqbench.management.sampler import read_samples
from rmqbench.results.series import TimeAxis, curves, densities, figures, rates, time_axis
from rmqbench.results.steps import count_of, percentile_of
from rmqbench.results.sums import queue_sums
from rmqbench.run_directory.ledger import DeliveryLedger
from rmqbench.run_directory.reading import read_run

COUNT = 200


@pytest.fixture
def played(tmp_path):
    """A run of 200 messages, 100 a second, whose producers are blocked for a second."""
    history = History(
        seed=1,
        queues=(QueuePlan("work", prefetch=1000),),
        during=True,
        window=1000,
        messages=COUNT,
        publish_rate=100,
        acts=(Act(0.5, "block", lasting_s=1.0),),
    )
    result = play(history, tmp_path).result
    return result, read_run(tmp_path)


def test_rates_come_to_all_messages(played):
    _, record = played
    axis = time_axis(record)
    found = {each.name: each for each in rates(record, axis)}
    assert set(found) == {"published", "confirmed", "delivered from work", "acknowledged to work"}
    for each in found.values():
        assert len(each.seconds) == len(each.values) == axis.count
        assert each.values.sum() * axis.step_ns / 1e9 == pytest.approx(COUNT)
    blocked = (found["published"].seconds > 0.8) & (found["published"].seconds < 1.2)
    assert found["published"].values[blocked].max() == 0


def test_latencies_are_spread_over_the_time_at_which_messages_were_due(played):
    result, record = played
    confirm, delivery = densities(record, time_axis(record))
    assert (confirm.name, delivery.name) == ("confirm", "delivery from work")
    for each in (confirm, delivery):
        assert each.counts.sum() == COUNT
        assert each.counts.shape == (len(each.edges_ms) - 1, len(each.edges_s) - 1)
    assert confirm.edges_ms[-1] == pytest.approx(result.confirm_latency.max_ms, rel=0.01)
    slow = confirm.edges_ms[:-1] > 100
    late = confirm.counts[slow].sum(axis=0)
    assert 80 <= late.sum() <= 100, "those that were due in the second, but for its end"
    waiting = confirm.edges_s[:-1][late > 0]
    assert waiting.max() - waiting.min() == pytest.approx(0.9, abs=0.1)


def test_a_curve_has_the_percentiles_of_the_result(played):
    result, record = played
    for name, counts in curves(record).items():
        latency = result.confirm_latency
        if name != "confirm":
            latency = result.queues["work"].delivery_latency
        assert count_of(counts) == COUNT
        assert percentile_of(counts, 90) / 1e6 == pytest.approx(latency.p90_ms, rel=0.05)
        assert percentile_of(counts, 100) / 1e6 == pytest.approx(latency.max_ms)


def test_what_is_consumed_afterwards_has_no_latency_of_deliveries(tmp_path):
    play(History(seed=1, queues=(QueuePlan("work"),)), tmp_path)
    record = read_run(tmp_path)
    assert [*curves(record)] == [each.name for each in densities(record, time_axis(record))]
    assert [*curves(record)] == ["confirm"]


def test_the_brokers_figures_have_holes_where_it_did_not_answer(played):
    _, record = played
    queue = {"messages_ready": 5, "messages_unacknowledged": 2, "memory_bytes": 1 << 20}
    start_ns = time_axis(record).start_ns
    lines = [
        {
            "time_ns": start_ns,
            "queues": {"work": queue},
            "nodes": {"n": {"mem_used_bytes": 1 << 28}},
        },
        {"time_ns": start_ns + 10**9, "error": "nobody answers"},
        {"time_ns": start_ns + 2 * 10**9, "queues": {}, "nodes": {}},
    ]
    path = record.directory.path / "samples.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    samples = read_samples(path)
    found = figures(record, time_axis(record, samples), samples)
    (depth,) = found["depth"]
    assert depth.seconds.tolist() == [0, 1, 2]
    assert depth.values[0] == 7
    assert np.isnan(depth.values[1:]).all()
    assert [(each.name, each.values[0]) for each in found["memory"]] == [
        ("node n", 256),
        ("queue work", 1),
    ]


def test_of_a_long_run_a_chart_has_no_more_points(tmp_path):
    write_large_run(tmp_path / "run", 300_000)
    record = read_run(tmp_path / "run")
    axis = time_axis(record)
    assert axis.count <= 400
    assert axis.start_ns <= BEGAN_NS
    for each in rates(record, axis):
        assert each.values.sum() * axis.step_ns / 1e9 == pytest.approx(300_000)


def test_times_outside_of_the_axis_are_not_counted():
    axis = TimeAxis(1_000, 10, 3)
    assert axis.counted(np.array([0, 999, 1_000, 1_009, 1_029, 1_030])).tolist() == [2, 0, 1]
    assert axis.second(1_000) == 0


def test_the_sum_of_a_queue_counts_each_confirmed_message_once(tmp_path):
    acts = (Act(0.25, "purge"), Act(0.4, "cut"))
    result = play(
        History(
            seed=3,
            queues=(QueuePlan("work"), QueuePlan("audit")),
            messages=50,
            publish_rate=100,
            acts=acts,
        ),
        tmp_path,
    ).result
    record = read_run(tmp_path)
    sums = queue_sums(Facts(record, result.verdict))
    assert sums == {name: queue.sum for name, queue in result.queues.items()}
    for name, each in sums.items():
        assert each.confirmed == result.confirmed
        assert each.not_known == 0
        assert each.removed == result.verdict.count("removed", name)
        assert each.delivered + each.removed + each.lost == each.confirmed
    assert sum(each.removed for each in sums.values()) > 0


def test_what_is_not_known_is_no_part_of_the_sum(tmp_path):
    write_large_run(tmp_path / "run", 100)
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    kept = [line for line in lines if '"audit.queue","proven"' not in line]
    journal.write_text("\n".join(kept) + "\n")
    DeliveryLedger.open(tmp_path / "run" / "queue-1" / "consumer-0").state[:10] = 0
    found = judge(tmp_path / "run").queues["audit.queue"].sum
    assert (found.delivered, found.lost, found.not_known) == (90, 0, 10)
