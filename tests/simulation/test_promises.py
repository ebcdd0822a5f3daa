"""What a run promises whatever happens, each promise over many histories made for it."""

import random
import threading
import uuid
from dataclasses import replace
from unittest import mock

import pytest
from support.oracle import disagreements
from support.plans import consumer_plan
from support.simulated import Act, History, QueuePlan, play

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
from rmqbench.amqp.connection import Connection
from rmqbench.clients.recording_consumer import RecordingConsumer
from rmqbench.endpoint import Endpoint
from rmqbench.message import Recipe
from rmqbench.run_directory.journal import JOURNAL_FILE, ChannelClosed, read_journal
from rmqbench.run_directory.ledger import DeliveryLedger
from rmqbench.simulation import Behaviour, Misdeed, ModelBroker, SeededBehaviour
from rmqbench.simulation.network import Link, simulated_network
from rmqbench.simulation.truth import ChannelClosed as Closed
from rmqbench.simulation.truth import Disconnected, Removed
from rmqbench.simulation.world import World
from rmqbench.verdict.evidence import ACKED, DELIVERED
from rmqbench.verdict.findings import Judgement

pytestmark = pytest.mark.simulation

PASS, FAIL = Judgement.PASS, Judgement.FAIL
FOREIGN = b"a message of somebody else"
CLASSIC = (QueuePlan("work"),)
QUORUM = (QueuePlan("work", "quorum"),)
MESSAGES = 20
both_ways = pytest.mark.parametrize("vector", [True, False], ids=["vector", "pika"])


# --- a quorum queue whose leader stands still, and whose figures are zeros ------------------------


@pytest.mark.parametrize("lasting_s", [1.0, 5.0, 40.0])
@pytest.mark.parametrize("seed", range(12))
def test_the_zeros_of_a_leader_that_stands_still_are_never_an_empty_queue(seed, lasting_s):
    source = random.Random(seed)
    history = History(
        seed=seed,
        queues=(QueuePlan("work", "quorum", consumers=source.choice((1, 2)), prefetch=4),),
        vector=bool(seed % 2),
        delivery_delay_s=0.1,
        most_at_once=2,
        acts=(Act(source.random() * 1.5, "stall", lasting_s=lasting_s),),
    )
    played = play(history)
    verdict = played.result.verdict
    assert verdict.count("lost") == 0, verdict
    assert not disagreements(played)
    if lasting_s < 30:  # which is how long a consumer waits
        assert verdict.outcome is PASS, verdict


def test_a_leader_that_stands_still_for_good_leaves_the_verdict_open():
    acts = (Act(0.001, "stall", lasting_s=900.0),)
    history = History(seed=1, queues=QUORUM, delivery_delay_s=0.1, acts=acts)
    verdict = play(history).result.verdict
    assert verdict.count("lost") == 0
    assert verdict.count("stuck") >= 1


# --- messages of others in a quorum queue ---------------------------------------------------------


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5", "4.3.6"])
@pytest.mark.parametrize("many", [3, 30])
@pytest.mark.parametrize("seed", range(10))
def test_a_message_of_somebody_else_is_never_given_back_until_it_is_dropped(seed, many, version):
    source = random.Random(seed)
    acts = tuple(
        Act(
            at_s=source.random() * source.choice((0.1, 3.0, 10.0)),
            what=source.choice(("cut", "cut", "stop", "kill", "slay", "close")),
            which=source.randrange(6),
            lasting_s=source.choice((0.3, 1.0)),
        )
        for _ in range(many)
    )
    consumers = source.choice((1, 1, 3))
    history = History(
        seed=seed,
        queues=(QueuePlan("work", "quorum", consumers=consumers, prefetch=source.choice((2, 50))),),
        during=source.random() < 0.5,
        vector=bool(seed % 2),
        version=version,
        acts=acts,
        misdeeds=((Misdeed.INJECT_FOREIGN, source.randrange(5)),),
    )
    played = play(history)
    queue = played.broker.default_host.queues["work"]
    dropped = [e for e in played.broker.truth.of(Removed) if e.cause == "delivery_limit"]
    assert not dropped
    bodies = [entry.content.body for entry in (*queue.ready, *queue.returns)]
    assert bodies.count(FOREIGN) == len(played.broker.truth.misdeeds)
    if bodies:
        assert played.result.verdict.outcome is not PASS


# --- acknowledged messages that come again --------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_what_comes_again_after_its_acknowledgement_fails_where_no_node_was_restarted(seed):
    misdeeds = ((Misdeed.FORGET_ACK, 0),)
    history = History(seed=seed, queues=CLASSIC, misdeeds=misdeeds)
    verdict = play(history).result.verdict
    assert verdict.count("redelivered after ack") >= 1
    assert verdict.outcome is FAIL


@pytest.mark.parametrize("seed", range(5, 9))
def test_an_answer_counts_also_where_the_connection_is_closed_right_behind_it(seed):
    """The answer that closes a channel says that the acknowledgements on it were taken."""
    history = History(
        seed=seed,
        messages=3,
        queues=(QueuePlan("work", "classic"),),
        misdeeds=((Misdeed.FORGET_ACK, 0),),
        latency_s=0.01,
    )
    calm = play(history).broker.truth
    declared_at = min(each.at for each in calm.of(Disconnected))  # acts count from here
    _, answered_at = [e.at for e in calm.of(Closed) if e.at > declared_at][:2]
    for behind_s in (0.0005, 0.001):
        close = Act(answered_at + behind_s - declared_at, "close")
        played = play(replace(history, acts=(close,)))
        assert not disagreements(played), behind_s
        assert played.result.verdict.outcome is FAIL


@pytest.mark.parametrize("vector", [True, False], ids=["vector", "pika"])
def test_what_comes_again_after_its_acknowledgement_is_counted_where_the_node_was_killed(vector):
    """All is acknowledged, and the node is killed before it has written that down."""
    history = History(seed=1, queues=CLASSIC, vector=vector, acts=(Act(0.3, "kill"),))
    with mock.patch.object(SeededBehaviour, "ack_survives_kill", return_value=False):
        played = play(history)
    verdict = played.result.verdict
    assert verdict.count("redelivered after ack") == MESSAGES
    assert verdict.outcome is PASS, verdict
    assert not disagreements(played)


@both_ways
def test_a_quorum_queue_may_give_back_what_was_acknowledged_just_before_a_channels_end(vector):
    """The answer to the closing does not say that the leader has heard of it."""
    queues = (QueuePlan("work", "quorum", prefetch=100),)
    history = History(seed=1, queues=queues, vector=vector, version="3.10.8")
    with mock.patch.object(SeededBehaviour, "ack_delay_s", side_effect=[30.0] + [0.0] * 99):
        played = play(history)
    verdict = played.result.verdict
    assert verdict.found().keys() == {"redelivered"}
    assert verdict.outcome is PASS, verdict
    assert not disagreements(played)


@both_ways
def test_a_quorum_queue_gives_nothing_back_while_the_consumer_that_had_it_is_there(vector):
    history = History(
        seed=1,
        queues=(QueuePlan("work", "quorum", consumers=2, prefetch=1),),
        during=True,
        vector=vector,
        publish_rate=20.0,
        misdeeds=((Misdeed.REDELIVER_ACKED, 1),),
    )
    played = play(history)
    assert len(played.broker.truth.misdeeds) == 1
    assert played.result.verdict.found() == {"redelivered": 1, "redelivered after ack": 1}
    assert not disagreements(played)


# --- what is on its way to a consumer that is being cancelled -------------------------------------


class _Late(Behaviour):
    """Deliveries leave the broker long behind consume-ok, shortly before it reads basic.cancel."""

    def delivery_delay_s(self, queue):
        return 0.15


@pytest.mark.parametrize("auto_ack", [False, True], ids=["acks", "auto-ack"])
@both_ways
def test_what_comes_between_cancel_and_its_answer_is_taken_and_acknowledged(
    tmp_path, vector, auto_ack
):
    world = World()
    broker = ModelBroker(world, behaviour=_Late())
    network = simulated_network(world, broker, new_link=lambda: Link(world, lambda _: 0.05))
    recipe = Recipe(uuid.UUID(int=1))
    DeliveryLedger.create(tmp_path, MESSAGES)
    plan = consumer_plan(
        recipe, (MESSAGES,), tmp_path, expected=0, vector=vector, auto_ack=auto_ack
    )

    def declare_and_publish():
        with Connection(Endpoint(), name="before", network=network) as connection:
            channel = connection.channel()
            answers = []
            channel.queue_declare(plan.queue, durable=True)
            channel.exchange_declare("x", "direct")
            channel.queue_bind(plan.queue, "x", "k", callback=answers.append)
            connection.wait_until(lambda: bool(answers), 5, "the queue")
            for sequence in range(MESSAGES):
                message = (0, sequence, world.time_ns())
                channel.basic_publish("x", "k", recipe.body(*message), recipe.properties(*message))

    def main():
        declare_and_publish()
        return RecordingConsumer(plan, threading.Event(), network).run()

    report = world.run(main)
    assert report.error is None
    assert report.deliveries == MESSAGES, "all came, though it did not want any from the beginning"
    assert (DeliveryLedger.read(tmp_path).state == DELIVERED | ACKED).all()
    closed = [e for e in read_journal(tmp_path / JOURNAL_FILE) if isinstance(e, ChannelClosed)]
    assert len(closed) == 1
    queue = broker.default_host.queues[plan.queue]
    assert not queue.ready
    assert not queue.returns


# --- automatic acknowledgement --------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("act", ["cut", "kill"])
def test_what_needs_no_acknowledgement_never_comes_again(act, vector):
    """But after a restart, which an acknowledgement may not have outlived."""
    history = History(
        seed=1,
        queues=(QueuePlan("work", auto_ack=True),),
        vector=vector,
        delivery_delay_s=0.2,
        most_at_once=2,
        acts=(Act(0.6, act, which=1),),
        misdeeds=((Misdeed.FORGET_ACK, 2), (Misdeed.FORGET_ACK, 3)),
    )
    played = play(history)
    assert len(played.broker.truth.misdeeds) == 2
    assert not disagreements(played)
    verdict = played.result.verdict
    assert verdict.count("redelivered after ack") == 2
    (finding,) = [each for each in verdict.findings if each.name == "redelivered after ack"]
    assert finding.effect == ("fails" if act == "cut" else "allowed")


@both_ways
def test_a_delivery_limit_is_no_excuse_where_nothing_is_given_back(vector):
    """What is on its way on a connection that breaks is lost: nobody gives it back."""
    audit = QueuePlan("audit", "quorum", (("x-delivery-limit", 0),), auto_ack=True)
    history = History(
        seed=3,
        queues=(audit,),
        vector=vector,
        latency_s=0.005,
        delivery_delay_s=0.2,
        most_at_once=2,
        acts=(Act(0.5, "swallow", which=1),),
    )
    played = play(history)
    assert played.result.verdict.count("lost") > 0
    assert played.result.verdict.count("removed") == 0
    assert not disagreements(played)
