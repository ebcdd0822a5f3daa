"""One small run by hand: the parts as a user of the library holds them."""

import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.evidence import consumer_evidence, producer_evidence
from support.plans import consumer_plan

from rmqbench.amqp.admin import admin
from rmqbench.amqp.topology import Queue, Topology, ready_count
from rmqbench.clients.producer import ProducerPlan, ProducerReport
from rmqbench.clients.recording_consumer import ConsumerReport
from rmqbench.message import Recipe
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.runner.isolation import Place, declared_place
from rmqbench.verdict.evidence import Drain, Evidence, QueueEvidence
from rmqbench.verdict.findings import Verdict
from rmqbench.verdict.rules import judge_evidence

COUNT = 50


@dataclass
class ByHand:
    """One producer, one queue, one consumer, in this process."""

    place: Place
    directory: Path
    vector: bool
    recipe: Recipe = field(
        default_factory=lambda: Recipe(uuid.uuid4(), producer_id="me", host="here")
    )
    reports: list = field(default_factory=list)

    @property
    def queue(self) -> str:
        return self.place.topology.queue_names[0]

    def publish(self, **changes) -> ProducerReport:
        """Publish all messages of the one producer."""
        PublishLedger.create(self.directory / "producer", COUNT)
        plan = ProducerPlan(
            endpoint=self.place.endpoint,
            recipe=self.recipe,
            number=0,
            count=COUNT,
            directory=self.directory / "producer",
            exchange=self.place.topology.exchange,
            routing_key=self.place.topology.routing_key,
            vector=self.vector,
            stall_s=5,
        )
        return replace(plan, **changes).run()

    def consume(self, **changes) -> ConsumerReport:
        """Consume the queue until it is empty."""
        directory = self.directory / f"consumer-{len(self.reports)}"
        DeliveryLedger.create(directory, COUNT)
        settings = {
            "endpoint": self.place.endpoint,
            "queue": self.queue,
            "vector": self.vector,
            "idle_s": 0.3,
            "stall_s": 3,
            **changes,
        }
        report = consumer_plan(
            self.recipe,
            (COUNT,),
            directory,
            number=len(self.reports),
            exchange=self.place.topology.exchange,
            routing_key=self.place.topology.routing_key,
            **settings,
        ).run()
        self.reports.append((directory, report))
        return report

    def inject(self, body, properties, routing_key=None):
        """Publish something as anybody else could."""
        topology = self.place.topology
        with admin(self.place.endpoint) as channel:
            channel.confirm_delivery()
            channel.basic_publish(
                topology.exchange, routing_key or topology.routing_key, body, properties
            )

    def ready(self) -> int:
        return ready_count(self.place.endpoint, self.queue)

    def judge(self) -> Verdict:
        """Judge by what the ledgers hold."""
        consumers = [consumer_evidence(directory) for directory, _ in self.reports]
        return judge_evidence(
            Evidence(
                self.recipe,
                [producer_evidence(self.directory / "producer")],
                [QueueEvidence(self.queue, consumers, Drain(True))],
            )
        )

    def closed_channels(self) -> list[int]:
        """Return the channels of the last consumer that were closed cleanly."""
        channels = consumer_evidence(self.reports[-1][0]).channels
        return [each.number for each in channels if each.closed_ns]

    def found(self) -> dict[str, int]:
        """Only what was found: name -> count."""
        return {name: count for name, count in self.judge().counts().items() if count}


@pytest.fixture(params=["vector", "pika"])
def vector(request):
    return request.param == "vector"


@pytest.fixture
def arguments():
    """The arguments of the queue; a test parametrizes this to have others."""
    return {}


@pytest.fixture(params=["classic", "quorum"])
def by_hand(request, rmqbench_broker, tmp_path, vector, arguments):
    topology = Topology(queues=(Queue("work.queue", request.param, arguments=arguments),))
    name = f"rmqbench-test-{uuid.uuid4().hex[:12]}"
    with declared_place(rmqbench_broker, topology, name, in_place=False) as place:
        yield ByHand(place, tmp_path, vector)
