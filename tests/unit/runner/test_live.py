"""What is shown of a run under way is what its ledgers hold, once a second."""

import uuid
from types import SimpleNamespace

import numpy as np
import pytest
from support.clocks import ToldClock

from rmqbench.clients.producer import ProducerPlan
from rmqbench.endpoint import Endpoint
from rmqbench.management.sampler import QueueSample, Sample
from rmqbench.message import Recipe
from rmqbench.run_directory.journal import JOURNAL_FILE, Journal, WorkStarted
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.recorder import DeliveryRecorder, PublishRecorder
from rmqbench.runner.live import Live, LiveFigures
from rmqbench.schedule import Schedule
from rmqbench.verdict.evidence import CONFIRMED, NACKED, Incident
from rmqbench.verdict.findings import FindingName

COUNT, STARTED_NS, MS = 100, 10**18, 10**6


class Watched:
    """A producer and a consumer, as far as they have written."""

    def __init__(self, tmp_path, schedule):
        self.clock = ToldClock()
        self.sample = None
        self.plan = ProducerPlan(
            endpoint=Endpoint(),
            recipe=Recipe(uuid.UUID(int=1)),
            number=0,
            count=COUNT,
            directory=tmp_path / "producer",
            exchange="x",
            routing_key="k",
            schedule=schedule,
        )
        timed = schedule is not None
        PublishLedger.create(self.plan.directory, COUNT, timed=timed)
        DeliveryLedger.create(tmp_path / "consumer", COUNT, timed=timed)
        with Journal(self.plan.directory / JOURNAL_FILE) as journal:
            journal.write(WorkStarted(time_ns=STARTED_NS))
        self.sent = PublishRecorder(self.plan.directory)
        self.received = DeliveryRecorder(tmp_path / "consumer", [COUNT])
        self.received.open_channel()
        drain = SimpleNamespace(
            plan=SimpleNamespace(directory=tmp_path, queue="work"),
            ledgers=[DeliveryLedger.read(tmp_path / "consumer")],
        )
        ledger = PublishLedger.read(self.plan.directory)
        self.figures = LiveFigures(
            [self.plan],
            [ledger],
            [ledger.progress()],
            [drain],
            sample=lambda: self.sample,
            monotonic=self.clock.clock.monotonic,
        )

    def settle(self, first, last, *, after_ms, bit=CONFIRMED):
        these = np.arange(first, last)
        sent_ns = STARTED_NS + 50 * MS
        self.sent.send(these, 1, sent_ns)
        self.sent.settle(these, bit, sent_ns + after_ms * MS)

    def deliver(self, first, last, *, after_ms):
        these = np.arange(first, last)
        self.received.record(
            np.zeros_like(these),
            these,
            np.zeros(len(these), np.bool_),
            np.ones(len(these), np.uint32),
            STARTED_NS + (50 + after_ms) * MS,
        )

    def look(self, after_s=1.0):
        self.clock.now += after_s
        return self.figures.look()


@pytest.fixture
def watched(tmp_path):
    return lambda schedule=None: Watched(tmp_path, schedule)


def test_once_a_second_it_is_looked_at(watched):
    run = watched()
    assert run.look(0.9) is None
    assert run.look(0.2) == Live()
    assert run.look(0.9) is None
    assert str(Live()) == "so far nothing wrong"


def test_the_latencies_are_those_of_the_last_messages(watched):
    run = watched()
    run.settle(0, 40, after_ms=5)
    run.deliver(0, 40, after_ms=7)
    live = run.look()
    assert live.confirm == pytest.approx((5, 5), abs=1e-3)
    assert live.delivery == pytest.approx((7, 7), abs=1e-3)
    run.settle(40, 50, after_ms=80)
    run.deliver(40, 50, after_ms=90)
    live = run.look()
    assert live.confirm == pytest.approx((80, 80), abs=1e-3)
    assert live.delivery == pytest.approx((90, 90), abs=1e-3)
    assert run.look().confirm is None, "nothing has come since"


def test_those_of_an_open_load_count_from_when_messages_were_due(watched):
    run = watched(Schedule.of(1000))
    run.settle(0, 1, after_ms=5)
    assert run.look().confirm == pytest.approx((55, 55), abs=1e-3)


def test_what_is_wrong_so_far_is_named_and_the_depth_is_the_brokers(watched):
    run = watched()
    run.settle(0, 3, after_ms=1, bit=NACKED)
    run.deliver(0, 3, after_ms=1)
    run.deliver(0, 2, after_ms=2)
    run.received.report(Incident(FindingName.FOREIGN, 7, detail="somebody's"))
    run.sample = Sample(1, {"a": QueueSample(5, 2), "b": QueueSample(10, None)})
    live = run.look()
    assert live.wrong == ("3 nacked", "2 delivered again", "incidents of 1 worker")
    assert live.depth == 17
    said = "in queues 17; so far 3 nacked, 2 delivered again, incidents of 1 worker"
    assert str(live).endswith(said)
    assert run.look().wrong == live.wrong, "it stays what it is"
