"""Many connections at once: few processes, little memory, a quick start, and no message less."""

import pytest

from rmqbench import ConsumedQueue, Scenario, online, run
from rmqbench.memory import peak_rss_bytes
from rmqbench.run_directory.journal import ChannelClosed, ChannelOpened, StageBegan, WorkStarted
from rmqbench.run_directory.reading import read_run

START_S = 20
MEMORY_MIB = 300  # without the process that runs this test


def workers_of(record):
    return [*record.producers, *(one for queue in record.queues for one in queue.consumers)]


def test_a_hundred_producers_and_consumers_start_soon_and_need_little(rmqbench_broker, tmp_path):
    scenario = online(messages=10_000, producers=100, consumers=99, window=100, processes=1)
    result = run(scenario, rmqbench_broker, directory=tmp_path / "run")
    result.verdict.require_pass()
    assert len([*tmp_path.rglob("worker.log")]) == 2, "one process for either kind"
    record = read_run(tmp_path / "run")
    consumers = [one for queue in record.queues for one in queue.consumers]
    peaks = [max(e.end.peak_rss_bytes for e in kind) for kind in (record.producers, consumers)]
    assert sum(peaks) < MEMORY_MIB << 20
    assert sum(peaks) < result.peak_rss_mib * 2**20 <= sum(peaks) + peak_rss_bytes()
    (began,) = (each.time_ns for each in record.of(StageBegan) if each.stage == "publish")
    started = [each.time_ns for worker in workers_of(record) for each in worker.of(WorkStarted)]
    assert len(started) == 200
    assert max(started) - began < START_S * 1e9


def test_the_publishing_begins_when_everybody_is_connected(rmqbench_broker, tmp_path):
    scenario = online(messages=1000, producers=5, consumers=20, processes=2)
    run(scenario, rmqbench_broker, directory=tmp_path / "run").verdict.require_pass()
    assert len([*tmp_path.rglob("worker.log")]) == 4
    record = read_run(tmp_path / "run")
    consumers = [one for queue in record.queues for one in queue.consumers]
    connected = [next(one.of(ChannelOpened)).time_ns for one in consumers]
    assert max(connected) < min(int(each.ledger.sent_ns.min()) for each in record.producers)


@pytest.mark.slow
@pytest.mark.parametrize("consume", ["during", "after"])
def test_a_hundred_queues_are_drained_at_the_same_time(rmqbench_broker, tmp_path, consume):
    scenario = Scenario(
        "many queues",
        queues=tuple(ConsumedQueue(f"queue.{number}") for number in range(100)),
        messages=100,
        consume=consume,
    )
    result = run(scenario, rmqbench_broker, directory=tmp_path / "run")
    result.verdict.require_pass()
    assert [queue.delivered for queue in result.queues.values()] == [100] * 100
    record = read_run(tmp_path / "run")
    drained = next(e for e in record.of(StageBegan) if e.stage.startswith("drain"))
    judged = next(e for e in record.of(StageBegan) if e.stage == "judge")
    one_by_one_s = 100 * 0.5  # for so long at least each must be found empty
    assert (judged.time_ns - drained.time_ns) / 1e9 < one_by_one_s


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_clients_that_open_new_connections_all_along_lose_nothing(rmqbench_broker, tmp_path, kind):
    scenario = online(
        messages=3000,
        producers=3,
        consumers=3,
        queue_kind=kind,
        publish_rate=500,
        churn=10,
        rest_s=4 if kind == "quorum" else 0,
    )
    result = run(scenario, rmqbench_broker, directory=tmp_path / "run")
    result.verdict.require_pass()
    found = result.verdict.found()
    # A quorum queue may deliver again what was acknowledged on a channel closed just then.
    assert found.keys() <= ({"redelivered"} if kind == "quorum" else set())
    record = read_run(tmp_path / "run")
    opened = [sum(1 for _ in worker.of(ChannelOpened)) for worker in workers_of(record)]
    assert min(opened) > 1
    for consumer in (one for queue in record.queues for one in queue.consumers):
        closed = [each.number for each in consumer.of(ChannelClosed)]
        assert closed == [each.number for each in consumer.of(ChannelOpened)]
    (note,) = (each for each in result.notes if "took the place" in each)
    assert note.startswith(f"{sum(opened) - len(opened):,} connections took the place of others")
    assert note.endswith("(10 asked for).")


@pytest.mark.slow
def test_three_hundred_queues_and_connections_end_with_a_verdict(rmqbench_broker, tmp_path):
    scenario = Scenario(
        "many queues",
        queues=tuple(ConsumedQueue(f"queue.{number}") for number in range(300)),
        messages=30,
        producers=30,
        consume="during",
    )
    result = run(scenario, rmqbench_broker, directory=tmp_path / "run")
    result.verdict.require_pass()
    assert min(queue.delivered for queue in result.queues.values()) >= 30
    record = read_run(tmp_path / "run")
    consumers = [one for queue in record.queues for one in queue.consumers]
    peaks = [max(e.end.peak_rss_bytes for e in kind) for kind in (record.producers, consumers)]
    assert sum(peaks) < MEMORY_MIB << 20
