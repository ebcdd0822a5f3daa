"""A smoke of what figures.md has measured: red where something costs several times as much.

Each is a ratio of two measurements in turn, in CPU time where possible, and is measured again
before it fails: what else the machine does is no reason. Beside a limit stands what was measured.
"""

import shutil
import statistics
import time
from itertools import pairwise

import pytest
from compare import DO_NOTHING, Load, Ours, Reference, measure
from support.cost import require_below

from rmqbench import ConsumedQueue, Scenario, run
from rmqbench.amqp.admin import admin
from rmqbench.endpoint import is_loopback
from rmqbench.run_directory.journal import ChannelOpened
from rmqbench.run_directory.reading import read_run


@pytest.fixture
def run_of(rmqbench_broker, tmp_path):
    """Runs a scenario with one queue, and returns its result, which passed."""
    number = iter(range(1000))

    def run_of(consumers=1, watch=lambda _: None, **changes):
        scenario = Scenario("smoke", (ConsumedQueue("work", consumers=consumers),), **changes)
        directory = tmp_path / str(next(number))
        result = run(scenario, rmqbench_broker, directory=directory, watch=watch)
        result.verdict.require_pass()
        return result

    return run_of


LOADS = {  # and how much more the CPU of publishing and of consuming may be
    "100 B": (Load(30_000, 100), 6, 18),  # 1.5 and 1; 2 and 5 to 10 on a busy machine
    "16 KiB": (Load(2_000, 1 << 14), 5, 12),  # 1 and 3: every byte is compared
    "1 MiB": (Load(60, 1 << 20), 5, 12),  # 1 and 2 to 4
}


@pytest.mark.slow
def test_checking_and_recording_cost_a_few_times_what_moving_the_bytes_does(rmqbench_broker):
    endpoint = rmqbench_broker.endpoint
    if endpoint.tls or endpoint.virtual_host != "/" or not is_loopback(endpoint.host):
        pytest.skip("the client that does nothing speaks to this host only, without TLS")
    for size, (load, publish, consume) in LOADS.items():
        nothing = Reference("do nothing", DO_NOTHING, endpoint, load)
        clients = [Ours(endpoint, load), nothing]

        def factors(size=size, clients=clients):
            figures = measure(rmqbench_broker, clients, rounds=1)
            found = {}
            for half in ("publish", "consume"):
                (rate, cpu_us), (least_rate, least_us) = (
                    figures[client.name, half][0] for client in clients
                )
                found[f"{size}, {half}, CPU"] = cpu_us / least_us
                found[f"{size}, {half}, time"] = least_rate / rate
            return found

        limits = {
            f"{size}, publish, CPU": publish,
            f"{size}, consume, CPU": consume,
            f"{size}, publish, time": 5,  # 1
            f"{size}, consume, time": 6,  # 1 to 2
        }
        require_below(limits, factors)


def cpu_us(result):
    """Return the client CPU a message of both halves."""
    (queue,) = result.queues.values()
    return {
        "publish": result.publish.cpu_us_per_message,
        "consume": queue.consume.cpu_us_per_message,
    }


@pytest.mark.slow
def test_a_message_costs_little_more_than_one_of_a_fixed_size_for_an_only_consumer(run_of):
    mixed = {"size_bytes": "100:1000"}
    four = {"size_bytes": 550, "consumers": 4}

    def factors():
        plain, mixed_us, four_us = (
            cpu_us(run_of(messages=10_000, **each)) for each in ({"size_bytes": 550}, mixed, four)
        )
        return {
            "mixed sizes, publish": mixed_us["publish"] / plain["publish"],
            "mixed sizes, consume": mixed_us["consume"] / plain["consume"],
            "four consumers": four_us["consume"] / plain["consume"],
        }

    limits = {"mixed sizes, publish": 4, "mixed sizes, consume": 4, "four consumers": 4}
    require_below(limits, factors)  # 1, 1.2, and 2


def test_a_run_leaves_30_bytes_of_evidence_a_message_and_queue(run_of):
    """13 for the publish, 13 for the delivery (figures.md: 39 with two queues), and journals."""
    directory = run_of(messages=20_000).directory
    files = [*directory.glob("producer-*/*"), *directory.glob("queue-*/*/*")]
    assert 26 <= sum(each.stat().st_size for each in files) / 20_000 < 27


def look_us(run_of, messages):
    """Return the CPU of the run's thread from one look at the progress to the next: a median."""
    at = []

    def watch(progress):
        if progress.phase == "publish":
            at.append(time.thread_time())

    load = {"duration_s": 0.5, "publish_rate": 1000, "consume": "during"}
    result = run_of(consumers=2, watch=watch, messages=messages, **load)
    shutil.rmtree(result.directory)
    return statistics.median(b - a for a, b in pairwise(at)) * 1e6


def test_a_look_at_the_progress_costs_the_same_however_many_messages_there_are(run_of):
    def factors():
        return {"a look": look_us(run_of, 3_000_000) / look_us(run_of, 1_000)}

    require_below({"a look": 2}, factors)  # 1


def test_a_connection_of_churning_clients_costs_a_few_times_one_of_plain_pika(
    run_of, rmqbench_broker
):
    asked = 100
    load = {"producers": 3, "consumers": 3, "messages": 750, "publish_rate": 500}

    def factors():
        result = run_of(churn=asked, consume="during", **load)
        record = read_run(result.directory)
        workers = [*record.producers, *record.queues[0].consumers]
        opened = [each.time_ns for worker in workers for each in worker.of(ChannelOpened)]
        ours_s = sum(worker.end.cpu_s for worker in workers) / len(opened)
        a_second = (len(opened) - len(workers)) / (max(opened) - min(opened)) * 1e9
        began = time.thread_time()
        for _ in range(20):
            with admin(rmqbench_broker.endpoint):
                pass
        plain_s = (time.thread_time() - began) / 20
        return {"CPU": ours_s / plain_s, "asked for and done": asked / a_second}

    require_below({"CPU": 8, "asked for and done": 8}, factors)  # 2, with the messages; 2
