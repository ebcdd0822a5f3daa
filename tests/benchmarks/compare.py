"""Compare rmqbench with other clients on the same broker, in the same minutes, in turn.

    python tests/benchmarks/compare.py --broker local --reference ./limit --size 100 --size 1048576

``--reference`` is a program that does the least a client can do, in C for example, without any
checking. It is called as

    PROGRAM publish PORT USER PASSWORD COUNT WINDOW EXCHANGE ROUTING_KEY BODY_BYTES
    PROGRAM consume PORT USER PASSWORD COUNT PREFETCH QUEUE

on the virtual host /, and prints one line with ``rate=… cpu_us=…`` (messages a second, CPU
microseconds a message). Always there are ``do_nothing.py``, the limit of what a client can do, and
plain pika, one ``basic_publish`` at a time with confirms.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pika

from rmqbench.amqp.admin import admin
from rmqbench.amqp.topology import Queue, Topology, declare, delete, ready_count
from rmqbench.broker import open_broker
from rmqbench.clients.consumer import Subscription
from rmqbench.clients.producer import ProducerPlan
from rmqbench.clients.recording_consumer import ConsumerPlan
from rmqbench.message import Recipe
from rmqbench.run_directory.journal import JOURNAL_FILE, read_journal
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.runner.workers import run_workers
from rmqbench.verdict.evidence import (
    ConsumerEvidence,
    Drain,
    Evidence,
    ProducerEvidence,
    QueueEvidence,
)
from rmqbench.verdict.rules import judge_evidence

WINDOW, PREFETCH = 2000, 5000
IN_FLIGHT_BYTES = 16 << 20  # no client has more of them unconfirmed, however many the window allows
ALL_BYTES = 1 << 30  # of large bodies fewer messages are sent
TOPOLOGY = Topology(
    exchange="compare.exchange", queues=(Queue("compare.work"), Queue("compare.audit"))
)
WORK = "compare.work"
DO_NOTHING = [sys.executable, str(Path(__file__).with_name("do_nothing.py"))]


@dataclass(frozen=True)
class Load:
    """So many messages, with bodies so large."""

    count: int
    body_bytes: int = 100

    @property
    def window(self):
        """How many may be unconfirmed."""
        return max(1, min(WINDOW, IN_FLIGHT_BYTES // self.body_bytes))


class Ours:
    """rmqbench's producer and consumer, each in a process of its own, everything checked."""

    name = "rmqbench"

    def __init__(self, endpoint, load):
        self.endpoint = endpoint
        self.load = load
        self.count = load.count

    def publish(self):
        self.directory = Path(tempfile.mkdtemp())
        self.recipe = Recipe(uuid.uuid4(), size_bytes=self.load.body_bytes)
        PublishLedger.create(self.directory / "producer", self.count)
        plan = ProducerPlan(
            endpoint=self.endpoint,
            recipe=self.recipe,
            number=0,
            count=self.count,
            directory=self.directory / "producer",
            exchange=TOPOLOGY.exchange,
            routing_key=TOPOLOGY.routing_key,
            window=self.load.window,
        )
        return self._run(plan)

    def consume(self):
        DeliveryLedger.create(self.directory / "consumer", self.count)
        subscription = Subscription(
            endpoint=self.endpoint, queue=WORK, name="ours", tag="ours", prefetch=PREFETCH
        )
        plan = ConsumerPlan(
            subscription=subscription,
            recipe=self.recipe,
            counts=(self.count,),
            number=0,
            directory=self.directory / "consumer",
            exchange=TOPOLOGY.exchange,
            routing_key=TOPOLOGY.routing_key,
            expected=self.count,
        )
        _, cpu_us = self._run(plan)
        self._require_pass()
        # From the first delivery on: how long the queue takes until then is not the client's, and
        # of large messages it can be a second. Other clients begin at the answer to basic.consume.
        came_ns = np.sort(DeliveryLedger.read(plan.directory).first_ns)
        return (self.count - 1) * 1e9 / (came_ns[-1] - came_ns[0]), cpu_us

    def _run(self, plan):
        assert run_workers([[plan]], progress=time.time_ns, stall_s=600) == []
        entries = {entry.kind: entry for entry in read_journal(plan.directory / JOURNAL_FILE)}
        start, end = entries["started"], entries["ended"]
        assert end.error is None, end.error
        seconds = (end.until_ns - start.time_ns) / 1e9
        return self.count / seconds, end.cpu_s / self.count * 1e6

    def _require_pass(self):
        sent = PublishLedger.read(self.directory / "producer")
        got = DeliveryLedger.read(self.directory / "consumer")
        columns = (got.state, got.stamp, got.first_ns, got.again())
        evidence = Evidence(
            self.recipe,
            [ProducerEvidence(sent.state, sent.sent_ns)],
            [
                QueueEvidence(
                    WORK, [ConsumerEvidence(*columns, tuple(got.incidents()))], Drain(True)
                )
            ],
        )
        judge_evidence(evidence).require_pass()


class Reference:
    """A program of its own."""

    def __init__(self, name, call, endpoint, load):
        self.name = name
        self._call = call
        self._load = load
        self._login = [str(endpoint.port), endpoint.username, endpoint.password, str(load.count)]

    def publish(self):
        where = (TOPOLOGY.exchange, TOPOLOGY.routing_key)
        return self._run("publish", str(self._load.window), *where, str(self._load.body_bytes))

    def consume(self):
        return self._run("consume", str(PREFETCH), WORK)

    def _run(self, what, *more):
        command = [*self._call, what, *self._login, *more]
        printed = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=600
        )
        found = re.search(r"rate=([\d.]+) cpu_us=([\d.]+)", printed.stdout)
        return float(found[1]), float(found[2])


class PlainPika:
    """What most people write: a call a message, each waiting for its confirm."""

    name = "plain pika"

    def __init__(self, endpoint, load):
        self.endpoint = endpoint
        self.count = load.count
        self._body = b"x" * load.body_bytes

    def publish(self):
        with admin(self.endpoint, timeout_s=600) as channel:
            channel.confirm_delivery()
            started, cpu = time.perf_counter(), time.process_time()
            for _ in range(self.count):
                properties = pika.BasicProperties(
                    delivery_mode=2,
                    message_id=str(uuid.uuid4()),
                    timestamp=int(time.time()),
                    headers={"producer_id": "me", "host": "here"},
                )
                channel.basic_publish(
                    TOPOLOGY.exchange, TOPOLOGY.routing_key, self._body, properties
                )
            return self._figures(started, cpu)

    def consume(self):
        with admin(self.endpoint, timeout_s=600) as channel:
            channel.basic_qos(prefetch_count=PREFETCH)
            started, cpu = time.perf_counter(), time.process_time()
            for number, (method, _, _) in enumerate(channel.consume(WORK), 1):
                channel.basic_ack(method.delivery_tag)
                if number == self.count:
                    break
            return self._figures(started, cpu)

    def _figures(self, started, cpu):
        seconds = time.perf_counter() - started
        return self.count / seconds, (time.process_time() - cpu) / self.count * 1e6


def measure(broker, clients, rounds):
    """Give for each client and half the (rate, CPU µs) of each round, the order alternating."""
    figures = {}
    for number in range(rounds):
        for client in clients if number % 2 == 0 else reversed(clients):
            declared = declare(broker.endpoint, TOPOLOGY, broker.version)
            try:
                for half in ("publish", "consume"):
                    rate, cpu_us = getattr(client, half)()
                    figures.setdefault((client.name, half), []).append((rate, cpu_us))
                    print(f"{client.name:12} {half} {rate:9.0f}/s {cpu_us:7.2f} µs", flush=True)
                assert ready_count(broker.endpoint, WORK) == 0
            finally:
                delete(broker.endpoint, declared)
    return figures


def ratios(figures, ours, other, half):
    """Give the ratio of the medians, and the smallest and largest of the rounds' own ratios."""
    mine, theirs = ([rate for rate, _ in figures[name, half]] for name in (ours, other))
    each = [a / b for a, b in zip(mine, theirs, strict=True)]
    return statistics.median(mine) / statistics.median(theirs), min(each), max(each)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", default="auto")
    parser.add_argument("--image")
    parser.add_argument("--reference")
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--size", type=int, action="append", help="bytes of a body; 100")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with open_broker(arguments.broker, image=arguments.image, say=print) as broker:
        print(f"RabbitMQ {broker.version}: {broker.how}")
        endpoint = broker.endpoint
        for body_bytes in arguments.size or [100]:
            count = min(arguments.messages, ALL_BYTES // body_bytes)
            print(f"bodies of {body_bytes} bytes, {count} messages")
            load, less = (Load(max(1, n), body_bytes) for n in (count, count // 50))
            clients = [Ours(endpoint, load), Reference("do nothing", DO_NOTHING, endpoint, load)]
            if arguments.reference:
                clients.append(Reference("reference", [arguments.reference], endpoint, load))
            clients.append(PlainPika(endpoint, less))
            figures = measure(broker, clients, arguments.rounds)
            show(figures, [client.name for client in clients[1:]])


def show(figures, others):
    """Print what rmqbench did beside each of the others."""
    for other in others:
        for half in ("publish", "consume"):
            median, least, most = ratios(figures, Ours.name, other, half)
            print(f"{half}: rmqbench / {other} = {median:.2f} ({least:.2f} to {most:.2f})")
    for name in (Ours.name, *others):
        for half in ("publish", "consume"):
            cpu = statistics.median(cpu_us for _, cpu_us in figures[name, half])
            print(f"{half}: CPU of {name} {cpu:.2f} µs a message")


if __name__ == "__main__":
    sys.exit(main())
