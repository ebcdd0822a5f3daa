"""A queue is drained in rounds of consumers, until one brings nothing new or it is empty."""

import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from support.asking import AWAY, GONE, SILENT, answering
from support.clocks import ToldClock
from support.plans import consumer_plan

from rmqbench.amqp.network import Network
from rmqbench.faults.disturbance import Disturbance
from rmqbench.message import Recipe
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelClosed,
    ChannelOpened,
    ConsumerLeaving,
    Interrupted,
    Journal,
    WorkEnded,
)
from rmqbench.run_directory.recorder import DeliveryRecorder
from rmqbench.runner.drain import QueueDrain
from rmqbench.verdict.evidence import Drain, Incident
from rmqbench.verdict.findings import FindingName

COUNT = 10
ALL = range(COUNT)
CALM = Disturbance(shaken=False)
SHAKEN = Disturbance(shaken=True)


@pytest.fixture
def clock():
    return ToldClock()


@pytest.fixture
def answers(monkeypatch):
    return answering(monkeypatch)


def deliver(sequences, died=False, closed=(1,), left=(1,), error=None, interrupted=()):
    """Make a consumer that received these; one that died does not record its end."""

    def run(plan):
        recorder = DeliveryRecorder(plan.directory, plan.counts)
        recorder.open_channel()
        sequences_ = np.array(sequences, np.int64)
        flags = np.zeros(len(sequences_), np.bool_)
        stamps = np.zeros(len(sequences_), np.uint32)
        recorder.record(np.zeros_like(sequences_), sequences_, flags, stamps, 7)
        recorder.close()
        with Journal(plan.directory / JOURNAL_FILE) as journal:
            for number in sorted({1, *closed, *left}):
                journal.write(ChannelOpened(number=number))
            for why in interrupted:
                journal.write(Interrupted(why=why))
            for number in left:
                journal.write(ConsumerLeaving(number=number))
            if not died:
                for number in closed:
                    journal.write(ChannelClosed(number=number))
                count = len(sequences)
                journal.write(WorkEnded(until_ns=2, cpu_s=0.1, messages=count, error=error))

    return run


@dataclass
class Drained:
    """What came of a queue that was drained in rounds."""

    proofs: list  # after each round
    distinct: int
    plans: list
    interrupted: list  # after each round: whether the queue was shaken by its consumers
    directory: Path

    @property
    def proof(self):
        return self.proofs[-1]


@pytest.fixture
def drain(tmp_path, clock, answers):
    """Drain a queue of ten messages, in rounds of consumers that do as they are told."""

    def drain(
        *rounds,
        says=((0, 0),),
        consumers=1,
        disturbance=CALM,
        first=None,
        lingers=False,
        hidden_s=0.0,
    ):
        answers.say(*says)
        plan = consumer_plan(Recipe(uuid.UUID(int=1)), (COUNT,), tmp_path, stall_s=3.0)
        queue = QueueDrain(plan, consumers, Network(clock.clock))
        plans, proofs, interrupted, rounds = [], [], [], list(rounds)
        while not queue.done:
            these = queue.next_round(lingers=lingers or (bool(first) and not proofs))
            for each, deed in zip(these, rounds.pop(0), strict=True):
                deed(each)
            plans += these
            queue.progress()
            queue.recount()
            interrupted.append(queue.interrupted())
            shaken = disturbance.shaken or interrupted[-1]
            proofs.append(queue.end_round(replace(disturbance, shaken=shaken), hidden_s))
        assert not rounds, "there were fewer rounds"
        return Drained(proofs, queue.distinct, plans, interrupted, tmp_path)

    return drain


def test_what_one_consumer_took_is_proven_and_counted(drain):
    drained = drain([deliver(ALL)])
    assert drained.proof == Drain(True)
    (plan,) = drained.plans
    assert plan.expected == COUNT
    assert plan.directory.name == plan.subscription.tag == "consumer-0"
    assert plan.subscription.name == "rmqbench consumer 0 of work.queue"
    assert (drained.interrupted, drained.distinct) == ([False], COUNT)


def test_consumers_that_share_a_queue_cannot_know_how_much_is_theirs(drain):
    drained = drain([deliver(range(5)), deliver(range(5, COUNT))], consumers=2)
    assert [plan.expected for plan in drained.plans] == [None, None]
    assert drained.distinct == COUNT


def test_one_that_lingers_cannot_know_how_much_will_come(drain):
    drained = drain([deliver(ALL)], first={"lingers": True})
    assert [(plan.expected, plan.lingers) for plan in drained.plans] == [(None, True)]


def test_what_a_dead_consumer_recorded_is_kept_and_another_goes_on(drain):
    drained = drain(
        [deliver(range(4), died=True)], [deliver(range(4, COUNT))], says=[(6, 0), (0, 0)]
    )
    assert drained.proof.proven
    assert drained.distinct == COUNT
    assert [plan.expected for plan in drained.plans] == [COUNT, None]
    assert [plan.number for plan in drained.plans] == [0, 1]
    assert drained.interrupted == [True, True]


def test_as_long_as_less_comes_back_each_time_there_is_another_round(drain):
    """A quorum queue may lose acknowledgements that were sent just before a channel's end."""
    rounds = [[deliver(each)] for each in (ALL, range(4), [0, 1])]
    drained = drain(*rounds, says=((4, 0), (2, 0), (2, 0)))
    assert len(drained.proofs) == 3
    assert drained.proof == Drain(False, 2, "2 messages are still ready in it")


def test_the_second_round_that_brings_nothing_is_the_last(drain, clock):
    """The first may have met a queue that stood still."""

    def stuck(plan):
        clock.now += 4
        return deliver((), error="Consumer 1 is stuck.")(plan)

    drained = drain([deliver(range(4))], [stuck], [stuck], says=[(6, 0)])
    assert drained.proof == Drain(False, 6, "6 messages are still ready in it")


def test_what_comes_back_after_a_consumer_found_nothing_is_taken_by_another(drain, clock):
    """However late: its broker had to notice first that a connection was half-open."""

    def find_nothing(plan):
        clock.now += 60
        return deliver(())(plan)

    rest = deliver(range(4, COUNT))
    found = [*[(0, 0)] * 2, (6, 0)]
    rounds = [deliver(range(4))], [find_nothing], [find_nothing], [rest]
    drained = drain(*rounds, says=[(6, 0), *found, *found, (0, 0)], disturbance=SHAKEN)
    assert drained.proof.proven
    assert drained.distinct == COUNT


@pytest.fixture
def wait(clock):
    """A consumer that waits in vain for 30 seconds."""

    def wait(plan):
        clock.now += 30
        return deliver((), error="Consumer 1 is stuck.")(plan)

    return wait


BROKE_OFF = deliver(range(4), closed=(), left=(), error="The connection ended.")


def test_what_a_half_open_consumer_of_ours_stands_before_is_taken_once_it_is_gone(drain, wait):
    """A single active consumer, for example: those behind it wait in vain."""
    rest = deliver(range(4, COUNT))
    says = [*[(6, 0)] * 4, (0, 0)]
    drained = drain([BROKE_OFF], [wait], [wait], [wait], [rest], says=says, disturbance=SHAKEN)
    assert drained.proof.proven


def test_it_is_given_up_when_the_broker_must_have_noticed(drain, wait):
    rounds = [[wait]] * 4  # of 30 seconds each: behind the fourth, 95 are over
    drained = drain([BROKE_OFF], *rounds, says=[(6, 0)], disturbance=SHAKEN)
    assert not drained.proof.proven


def test_where_no_channel_broke_off_nothing_of_ours_is_half_open(drain, wait):
    stopped = deliver(range(4), error="Consumer 0 is stuck.")
    assert not drain([stopped], [wait], [wait], says=[(6, 0)], disturbance=SHAKEN).proof.proven


def test_what_its_proof_waits_for_is_not_taken_from_a_queue_s_time(drain, clock):
    """Its consumer broke off; 90 seconds later the broker notices, and then the node restarts."""
    refused = deliver((), closed=(), left=(), error="The connection was refused.")
    says = [*[(0, 1)] * 300, (6, 0), *[AWAY] * 10, (6, 0), (0, 0)]
    rest = [deliver(range(4, COUNT))]
    assert drain([BROKE_OFF], [refused], rest, says=says, disturbance=SHAKEN).proof.proven


@pytest.mark.parametrize(("shown_after_s", "hidden_s", "proven"), [(4, 5, False), (6, 5, True)])
def test_what_a_queue_hides_of_what_was_given_back_is_waited_for(
    drain, clock, shown_after_s, hidden_s, proven
):
    """A delayed retry, of 4.3."""
    says = [*[(0, 0)] * (4 * shown_after_s), (6, 0), (0, 0)]
    rest = [] if proven else [[deliver(range(4, COUNT))]]
    late = [deliver(range(4)), deliver((), closed=(), left=(), died=True)]
    began = clock.now
    drained = drain(late, *[[*r, *r] for r in rest], says=says, consumers=2, hidden_s=hidden_s)
    assert drained.proofs[0].proven is proven
    assert clock.now - began >= hidden_s


def test_what_a_queue_hides_for_longer_than_anybody_waits_leaves_its_drain_open(drain):
    late = [deliver(ALL), deliver((), closed=(), left=(), died=True)]
    drained = drain(late, consumers=2, hidden_s=3600.0)
    assert drained.proof == Drain(False, 0, "it hides what was given back for up to 3600 s")


def test_where_nothing_was_given_back_a_queue_hides_nothing(drain, clock):
    began = clock.now
    assert drain([deliver(ALL)], hidden_s=3600.0).proof.proven
    assert clock.now - began < 1


@pytest.mark.parametrize("closed", [(), (1,)], ids=["broke off", "in order"])
def test_what_a_busy_leader_may_leave_out_is_waited_for_where_a_channel_broke_off(
    drain, clock, closed
):
    def slow():
        clock.now += 0.25
        return 0, 0

    first = deliver(range(4), closed=closed, left=(), error="The connection ended.")
    rest = [] if closed else [[deliver(range(4, COUNT))]]
    began = clock.now
    drained = drain([first], *rest, says=[slow], disturbance=SHAKEN)
    assert drained.proof.proven
    assert (clock.now - began >= 3 * 30 + 5) is not bool(closed)


def test_what_ended_before_all_was_published_is_followed_by_another_round(drain, clock):
    """However long ago it ended."""

    def end_early(plan):
        clock.now += 600
        return deliver((), closed=(), left=(), error="The login failed.")(plan)

    says = [*[AWAY] * 10, (10, 0), (0, 0)]  # the turn of a queue begins with its first question
    rounds = [end_early], [deliver(ALL)]
    drained = drain(*rounds, says=says, disturbance=SHAKEN, first={"lingers": True})
    assert drained.proof.proven
    assert drained.distinct == COUNT


def test_a_queue_that_serves_nobody_is_given_up_also_while_faults_are_to_strike(drain, clock):
    """Its consumers linger, and end because it does not answer."""

    def refused(plan):
        clock.now += 60
        deliver((), closed=(), left=(), error="The queue does not answer.")(plan)

    drained = drain([refused], [refused], says=[AWAY], disturbance=SHAKEN, lingers=True)
    assert not drained.proof.proven


def test_a_look_counts_although_no_consumer_could_consume(drain):
    """A delivery limit counts it, too."""
    dead = deliver(ALL, closed=(), left=(), error="The connection ended.")
    drained = drain([dead], [deliver(ALL)], says=[(0, 0, SILENT), (0, 0)], disturbance=SHAKEN)
    assert [proof.looks for proof in drained.proofs] == [1, 0]


def test_a_round_that_was_only_waited_after_is_not_the_last(drain, clock):
    """Its consumer could not consume; meanwhile the broker has noticed, and another can."""
    refused = deliver((), closed=(), left=(1,), error="The connection ended.")
    drained = drain([refused], [deliver(ALL)], says=[(0, 0)], disturbance=SHAKEN)
    assert drained.proof.proven
    assert drained.distinct == COUNT


def test_what_comes_back_whole_each_time_is_not_consumed_for_ever(drain, clock):
    """A broker that forgets all acknowledgements."""

    def again(plan):
        clock.now += 4
        return deliver(ALL)(plan)

    drained = drain([again], [again], says=[(10, 0)])
    assert drained.proof == Drain(False, 10, "10 messages are still ready in it")


def test_a_queue_that_serves_no_consumer_to_the_end_proves_nothing(drain, clock):
    dead = {"closed": (), "error": "The consumer was not cancelled within 3 s."}

    def wait(plan):
        clock.now += 4
        return deliver((), **dead)(plan)

    drained = drain([deliver(range(4), **dead)], [wait])
    assert drained.proof == Drain(False, 0, "no consumer could consume it and end cleanly")


def test_a_queue_that_answers_only_after_a_round_gets_another(drain, clock):
    """Its leader stood still until then."""

    def refused(plan):
        clock.now += 40
        return deliver((), closed=(), left=(), error="It did not answer.")(plan)

    says = [*[AWAY] * 15, (0, 0)]
    rest = [deliver(range(4, COUNT))]
    assert drain([BROKE_OFF], [refused], rest, says=says, disturbance=SHAKEN).proof.proven


def test_one_that_is_silent_in_between_gets_one_each_time_it_answers_again(drain, clock):
    def refused(after_s):
        def run(plan):
            clock.now += after_s
            return deliver((), closed=(), left=(), error="It did not answer.")(plan)

        return [run]

    says = [*[(0, 0)] * 3, *[AWAY] * 12, (0, 0)]
    rounds = [BROKE_OFF], refused(1), refused(40), [deliver(range(4, COUNT))]
    assert drain(*rounds, says=says, disturbance=SHAKEN).proof.proven


def test_a_queue_of_which_every_consumer_died_proves_nothing(drain, clock):
    def die_late(plan):
        clock.now += 4
        return deliver((), died=True)(plan)

    assert not drain([deliver(ALL, died=True)], [die_late]).proof.proven


def test_a_queue_that_is_gone_has_no_consumer_to_serve(drain):
    assert drain([deliver(range(4), closed=())], says=[GONE]).proof == Drain(True, there=False)


def test_a_shaken_queue_gets_more_rounds_until_its_time_is_up(drain, clock):
    def wait(plan):
        clock.now += 2
        return deliver((), error="Consumer 1 is stuck.")(plan)

    says = [(6, 0)]
    drained = drain([deliver(range(4))], [wait], [wait], says=says, disturbance=SHAKEN)
    assert not drained.proof.proven


def test_a_queue_is_believed_empty_only_when_the_disturbance_allows_it(drain, clock):
    began = clock.now
    drained = drain([deliver(ALL)], disturbance=Disturbance(True, restarted_at=began))
    assert drained.proof.proven
    assert clock.now - began >= 8


@pytest.mark.parametrize(
    ("how", "shaken"),
    [
        ({}, False),
        ({"interrupted": ["The connection ended."]}, True),
        ({"error": "Consumer 0 is stuck."}, True),
    ],
)
def test_what_befell_a_consumer_shakes_its_queue(drain, how, shaken):
    assert drain([deliver(ALL, **how)]).interrupted == [shaken]


@pytest.mark.parametrize(("disturbance", "waits_s"), [(CALM, 2), (SHAKEN, 3 * 30 + 5)])
def test_a_consumer_that_may_be_a_half_open_one_of_ours_is_waited_for_so_long(
    drain, clock, disturbance, waits_s
):
    """Its broker must have noticed by the heartbeat, which is 30 s here."""
    began = clock.now
    drained = drain([deliver(ALL)], [deliver(())], says=[(0, 1)], disturbance=disturbance)
    assert drained.proof == Drain(False, 0, "1 consumer that is not ours is still there")
    assert 2 * waits_s <= clock.now - began < 2 * waits_s + 2


@pytest.mark.parametrize(
    ("how", "waits"),
    [
        ({}, False),
        ({"closed": (2,), "left": (2,)}, False),  # the first broke while the queue counted it
        ({"closed": (2,), "left": (1, 2)}, True),
        ({"died": True}, True),
        ({"died": True, "left": ()}, False),
    ],
)
def test_what_a_cancelled_consumer_may_hold_on_a_half_open_channel_is_waited_for(
    drain, clock, how, waits
):
    began = clock.now
    rounds = [[deliver(ALL, **how)], [deliver(())]]
    drained = drain(*rounds[: 2 if "died" in how else 1], disturbance=SHAKEN)
    assert drained.proof.proven
    assert (clock.now - began >= 3 * 30 + 5) is waits


@pytest.mark.parametrize(
    ("brought", "closed", "foreign", "rounds"),
    [
        ((), (1,), False, 3),  # what is ours may come later
        ((), (1,), True, 1),
        ((), (), True, 1),
        (range(4), (1,), True, 1),  # served until the end: nothing of ours is left
        (range(4), (), True, 3),
    ],
)
def test_a_message_of_somebody_else_is_not_looked_at_once_more_for_nothing(
    drain, brought, closed, foreign, rounds
):
    """Each look gives it back, and a quorum queue drops what was given back too often."""

    def meet(plan):
        deliver(brought, closed=closed)(plan)
        if foreign:
            recorder = DeliveryRecorder(plan.directory, plan.counts)
            recorder.report(Incident(FindingName.FOREIGN, 1))
            recorder.close()

    later = [[deliver(range(4, 7))], [deliver(ALL)]][: rounds - 1]
    says = [(1, 0)] * (rounds - 1) + [(0, 0) if rounds > 1 else (1, 0)]
    drained = drain([meet], *later, says=says, disturbance=SHAKEN)
    assert drained.proof.proven is (rounds > 1)


def test_a_look_at_its_progress_reads_no_column_of_an_only_consumer(tmp_path, clock):
    plan = consumer_plan(Recipe(uuid.UUID(int=1)), (COUNT,), tmp_path)
    queue = QueueDrain(plan, 1, Network(clock.clock))
    (consumer,) = queue.next_round()
    deliver(range(4), died=True)(consumer)
    (ledger,) = queue._ledgers
    ledger.arrays.clear()
    ledger.state = ledger.stamp = ledger.first_ns = None
    assert (queue.progress(), queue.distinct) == (4, 4)
