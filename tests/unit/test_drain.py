"""A queue counts as drained only when it has said so, to nobody else's benefit, for long enough."""

import uuid
from dataclasses import replace

import numpy as np
import pytest

from rmqbench.clients.consumer import ConsumerPlan, ConsumerReport
from rmqbench.clients.recovery import Interruption
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable, QueueNotFound
from rmqbench.faults.disturbance import Disturbance
from rmqbench.message import Recipe
from rmqbench.runner import drain as drains
from rmqbench.runner.drain import drain_queue
from rmqbench.runner.workers import Outcome
from rmqbench.verdict.evidence import Drain
from rmqbench.verdict.ledger import DeliveryRecorder

COUNT = 10
ALL = range(COUNT)
CALM = Disturbance(shaken=False)
SHAKEN = Disturbance(shaken=True)
AWAY = BrokerUnavailable("Nobody is there.")
GONE = QueueNotFound("There is no queue 'work.queue'.")


class Clock:
    """Stands in for the module ``time``: its seconds pass when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(drains, "time", clock)
    return clock


@pytest.fixture
def answers(monkeypatch, clock):
    """What the queue says, one after the other; the last is repeated. (0, 0) is empty and alone."""
    answers = [(0, 0)]

    def counts(endpoint, queue):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(drains.topologies, "counts", counts)
    return answers


@pytest.fixture
def prove_empty(clock, answers):
    """Ask a queue that gives these answers; give what came of it and how long it took."""

    def prove(*given, certain_in_s=0.0, patience_s=2.0):
        answers[:] = given
        began = clock.now
        drain = drains._prove_empty(
            Endpoint(), "work.queue", certain_at=began + certain_in_s, until=began + patience_s
        )
        return drain, clock.now - began

    return prove


def test_an_empty_queue_is_proven_once_its_answer_has_held_still(prove_empty):
    drain, took_s = prove_empty((0, 0))
    assert drain == Drain(True)
    assert took_s >= 0.5


def test_a_ready_message_is_no_proof(prove_empty):
    assert prove_empty((3, 0))[0] == Drain(False, 3, "3 messages are still ready in it")


def test_a_ready_message_that_shows_late_is_no_proof(prove_empty):
    assert prove_empty((0, 0), (0, 0), (2, 0))[0].ready == 2


def test_no_answer_is_believed_before_it_can_be_certain(prove_empty):
    drain, took_s = prove_empty((0, 0), certain_in_s=8)
    assert drain.proven
    assert took_s >= 8
    early_zeros = [(0, 0)] * 20
    assert not prove_empty(*early_zeros, (7, 0), certain_in_s=8)[0].proven


def test_somebody_else_s_consumer_is_no_proof(prove_empty):
    drain, took_s = prove_empty((0, 2))
    assert drain == Drain(False, 0, "2 consumers that are not ours are still there")
    assert 2 <= took_s < 3


def test_a_consumer_that_goes_away_in_time_is_waited_for(prove_empty):
    drain, took_s = prove_empty((0, 1), (0, 1), (0, 0))
    assert drain.proven
    assert took_s >= 1


def test_an_answer_between_two_troubles_is_no_proof(prove_empty):
    for trouble in ((0, 1), AWAY):
        drain, took_s = prove_empty((0, 0), trouble, (0, 0), trouble, (0, 0))
        assert drain.proven
        assert took_s >= 1.5, "it must hold still anew after each trouble"


def test_a_queue_that_cannot_be_asked_is_no_proof(prove_empty):
    drain, took_s = prove_empty(AWAY, patience_s=30)
    assert drain == Drain(False, 0, "it could not be asked (Nobody is there.)")
    assert 30 <= took_s < 31
    assert prove_empty(AWAY, AWAY, AWAY, (0, 0))[0].proven


def test_a_queue_that_does_not_exist_holds_nothing(prove_empty):
    assert prove_empty(GONE)[0] == Drain(True, there=False)


def report(number, **more):
    return ConsumerReport(
        number=number,
        queue="work.queue",
        deliveries=0,
        started_ns=1,
        ended_ns=2,
        cpu_s=0.1,
        reordered_redeliveries=0,
        **{"closed_channels": (1,), **more},
    )


class Rounds:
    """Runs no workers: writes what each would have written, round after round."""

    def __init__(self, *rounds):
        self.rounds = list(rounds)
        self.plans = []

    def __call__(self, plans, logs, progress):
        outcomes = []
        for plan, deed in zip(plans, self.rounds.pop(0), strict=True):
            self.plans.append(plan)
            outcomes.append(deed(plan))
        progress()
        return outcomes


def deliver(sequences, died=False, **more):
    """Make a consumer that received these; one that died leaves no report."""

    def run(plan):
        recorder = DeliveryRecorder(plan.directory, plan.counts)
        recorder.open_channel()
        sequences_ = np.array(sequences, np.int64)
        flags = np.zeros(len(sequences_), np.bool_)
        recorder.record(np.zeros_like(sequences_), sequences_, flags, 7)
        recorder.close()
        if died:
            return Outcome(None, trouble="a worker ended without a report")
        return Outcome(report(plan.number, **more))

    return run


def spoil(plan):
    """Leave incidents that nobody can read."""
    (plan.directory / "incidents.jsonl").write_text("no JSON\n")
    return Outcome(report(plan.number))


@pytest.fixture
def drain(tmp_path, answers):
    """Drain a queue of ten messages with consumers that do as they are told.

    Gives what was drained, the plans of all consumers, whether each round is said to have been
    interrupted, and the count that was watched last.
    """
    plan = ConsumerPlan(
        endpoint=Endpoint(),
        recipe=Recipe(uuid.UUID(int=1)),
        counts=(COUNT,),
        number=0,
        queue="work.queue",
        directory=tmp_path,
        exchange="x",
        routing_key="k",
        stall_s=3.0,
    )

    def drain(*rounds, says=((0, 0),), consumers=1, disturbance=CALM):
        answers[:] = says
        asked = []

        def disturbed(interrupted):
            asked.append(interrupted)
            return replace(disturbance, shaken=disturbance.shaken or interrupted)

        run_plans = Rounds(*rounds)
        seen = []
        drained = drain_queue(plan, consumers, run_plans, seen.append, disturbed)
        assert not run_plans.rounds, "there were fewer rounds"
        return drained, run_plans.plans, asked, seen[-1]

    return drain


def test_what_one_consumer_took_is_its_evidence(drain):
    drained, plans, asked, seen = drain([deliver(ALL)])
    evidence = drained.evidence
    assert evidence.drain == Drain(True)
    assert evidence.only_consumer
    assert [c.closed_channels for c in evidence.consumers] == [(1,)]
    assert (evidence.consumers[0].delivered == 1).all()
    assert (drained.delivered, drained.missing, drained.troubles) == (COUNT, (), ())
    assert plans[0].expected == COUNT
    assert plans[0].directory.name == "consumer-0"
    assert (asked, seen) == ([False], COUNT)


def test_consumers_that_share_a_queue_cannot_know_how_much_is_theirs(drain):
    drained, plans, _, seen = drain([deliver(range(5)), deliver(range(5, COUNT))], consumers=2)
    assert [plan.expected for plan in plans] == [None, None]
    assert not drained.evidence.only_consumer
    assert seen == drained.delivered == COUNT


def test_what_a_dead_consumer_recorded_is_kept_and_another_goes_on(drain):
    drained, plans, asked, _ = drain(
        [deliver(range(4), died=True)], [deliver(range(4, COUNT))], says=[(6, 0), (0, 0)]
    )
    assert [c.closed_channels for c in drained.evidence.consumers] == [(), (1,)]
    assert [int(c.delivered.sum()) for c in drained.evidence.consumers] == [4, 6]
    assert drained.evidence.drain.proven
    assert drained.troubles == ("a worker ended without a report",)
    assert [plan.expected for plan in plans] == [COUNT, None]
    assert asked == [True, True]


def test_a_round_that_brings_nothing_new_is_the_last(drain):
    drained, *_ = drain([deliver(range(4))], [deliver(())], says=[(6, 0)])
    assert drained.evidence.drain == Drain(False, 6, "6 messages are still ready in it")


def test_a_queue_that_serves_no_consumer_to_the_end_proves_nothing(drain, clock):
    dead = {"closed_channels": (), "error": "Waited 3 s for the consumer to be cancelled."}

    def wait(plan):
        clock.now += 4
        return deliver((), **dead)(plan)

    drained, *_ = drain([deliver(range(4), **dead)], [wait])
    assert drained.evidence.drain == Drain(
        False, 0, "no consumer could take from it and end in order"
    )


def test_a_queue_of_which_every_consumer_died_proves_nothing(drain, clock):
    def die_late(plan):
        clock.now += 4
        return deliver((), died=True)(plan)

    drained, *_ = drain([deliver(ALL, died=True)], [die_late])
    assert not drained.evidence.drain.proven


def test_a_queue_that_is_gone_has_no_consumer_to_serve(drain):
    drained, *_ = drain([deliver(range(4), closed_channels=())], says=[GONE])
    assert drained.evidence.drain == Drain(True, there=False)


def test_a_shaken_queue_gets_more_rounds_until_its_time_is_up(drain, clock):
    def wait(plan):
        clock.now += 2
        return deliver(())(plan)

    says = [(6, 0)]
    drained, *_ = drain([deliver(range(4))], [wait], [wait], says=says, disturbance=SHAKEN)
    assert not drained.evidence.drain.proven


def test_a_queue_is_believed_empty_only_when_the_disturbance_allows_it(drain, clock):
    began = clock.now
    drained, *_ = drain([deliver(ALL)], disturbance=Disturbance(True, restarted_at=began))
    assert drained.evidence.drain.proven
    assert clock.now - began >= 8


def test_an_interruption_is_told_with_its_consumer_and_shakes_the_queue(drain):
    interruption = Interruption(5, "The connection ended.")
    drained, _, asked, _ = drain([deliver(ALL, interruptions=(interruption,))])
    assert drained.interruptions == ((0, interruption),)
    assert asked == [True]


def test_incidents_that_cannot_be_read_are_missing_evidence(drain):
    drained, *_ = drain([spoil])
    assert "incidents.jsonl cannot be read" in " ".join(drained.missing)


def test_a_sentence_on_why_a_consumer_ended_is_kept(drain):
    drained, *_ = drain([deliver(ALL, error="Consumer 0 is stuck.")])
    assert drained.troubles == ("Consumer 0 is stuck.",)
