"""Each misdeed: the client sees it, and the truth has it."""

import random

import pytest
from pika.spec import Basic, Channel
from support.amqp_client import Client, VirtualTime

from rmqbench.simulation import Behaviour, Content, Misdeed, ModelBroker, Moment, SeededBehaviour
from rmqbench.simulation.truth import Acknowledged, Published, Stored


def shout(content):
    return Content(content.properties, content.body + b"!")


@pytest.fixture
def misbehaving(time, kind):
    """Have misdeeds done, each at the given time that its moment comes."""

    def misbehaving(*plan):
        behaviour = SeededBehaviour(random.Random(1), plan=plan, alter=shout, forge=shout)
        client = Client(ModelBroker(time, behaviour=behaviour)).open(channels=2, confirm=True)
        client.declare(quorum=kind == "quorum")
        return client

    return misbehaving


def done(client):
    """Return what was done to which message."""
    return [(each.misdeed, each.message) for each in client.session.broker.truth.misdeeds]


def bodies(client):
    return [each.body for each in client.take(Basic.Deliver)]


def test_every_misdeed_has_a_moment():
    assert {misdeed.moment for misdeed in Misdeed} == set(Moment)


# --- publishes and confirms ---------------------------------------------------------------------


def test_acked_and_never_stored(misbehaving):
    client = misbehaving((Misdeed.ACK_UNSTORED, 1))
    client.publish(1, 2, 3)
    assert client.confirms() == [("ack", 3, True)]
    client.consume()
    assert client.bodies() == [1, 3]
    assert done(client) == [(Misdeed.ACK_UNSTORED, 2)]


@pytest.mark.parametrize(
    ("misdeed", "sent"),
    [
        (Misdeed.NACK_STORED, [("nack", 2)]),
        (Misdeed.WITHHOLD_CONFIRM, []),
        (Misdeed.ACK_THEN_NACK, [("ack", 2), ("nack", 2)]),
        (Misdeed.NACK_THEN_ACK, [("nack", 2), ("ack", 2)]),
        (Misdeed.CONFIRM_TWICE, [("ack", 2), ("ack", 2)]),
        (Misdeed.CONFIRM_TOO_HIGH, [("ack", 2), ("ack", 1002)]),
        (Misdeed.CONFIRM_ZERO, [("ack", 2), ("ack", 0)]),
        (Misdeed.CONFIRM_HUGE, [("ack", 2), ("ack", (1 << 63) + 2)]),
    ],
)
def test_confirms_that_are_wrong(misbehaving, misdeed, sent):
    client = misbehaving((misdeed, 1))
    for body in (1, 2, 3):
        client.publish(body)
    confirms = [(kind, tag) for kind, tag, multiple in client.confirms() if not multiple]
    assert confirms == [("ack", 1), *sent, ("ack", 3)]
    client.consume()
    assert client.bodies() == [1, 2, 3]
    assert done(client) == [(misdeed, 2)]


def test_a_withheld_confirm_is_not_covered_by_a_later_one(misbehaving):
    client = misbehaving((Misdeed.WITHHOLD_CONFIRM, 1))
    client.publish(1, 2, 3, 4)
    assert client.confirms() == [("ack", 1, True), ("ack", 3, False), ("ack", 4, False)]


def test_a_wrong_confirm_within_a_group_stands_alone(misbehaving):
    client = misbehaving((Misdeed.NACK_STORED, 1))
    client.publish(1, 2, 3)
    assert client.confirms() == [("ack", 1, False), ("nack", 2, False), ("ack", 3, False)]


# --- storing ------------------------------------------------------------------------------------


def test_stored_in_a_queue_that_no_binding_leads_to(misbehaving, kind):
    client = misbehaving((Misdeed.MISROUTE_QUEUE, 0))
    client.declare("other", quorum=kind == "quorum")
    client.publish(1)
    assert client.get("other").body == client.get("q").body == b"1"
    assert done(client) == [(Misdeed.MISROUTE_QUEUE, 1)]
    assert client.session.broker.truth.misdeeds[0].detail == "other"


def test_where_there_is_no_other_queue_nothing_is_misrouted(misbehaving):
    client = misbehaving((Misdeed.MISROUTE_QUEUE, 0))
    client.publish(1)
    assert done(client) == []


@pytest.mark.parametrize(("misdeed", "flag"), [("DOUBLE", False), ("DOUBLE_FLAGGED", True)])
def test_a_second_copy(misbehaving, misdeed, flag):
    client = misbehaving((Misdeed[misdeed], 0))
    client.publish(1, 2)
    client.consume()
    assert client.flags() == [(1, False), (1, flag), (2, False)]
    assert done(client) == [(Misdeed[misdeed], 1)]


@pytest.mark.parametrize(
    ("misdeed", "body"),
    [("INJECT_FOREIGN", b"a message of somebody else"), ("INJECT_FORGED", b"1!")],
)
def test_messages_that_nobody_published(misbehaving, misdeed, body):
    client = misbehaving((Misdeed[misdeed], 0))
    client.publish(1, 2)
    client.consume()
    assert bodies(client) == [b"1", body, b"2"]
    assert done(client) == [(Misdeed[misdeed], 2)]
    truth = client.session.broker.truth
    assert [each.session for each in truth.of(Published)] == [1, 0, 1]
    assert [each.message for each in truth.of(Stored)] == [1, 2, 3]


# --- delivering ---------------------------------------------------------------------------------


def test_a_message_is_lost(misbehaving):
    client = misbehaving((Misdeed.LOSE, 1))
    client.publish(1, 2, 3)
    client.consume()
    assert client.bodies() == [1, 3]
    assert client.session.broker.counts("q") == (0, 2, 1)
    assert done(client) == [(Misdeed.LOSE, 2)]


def test_a_message_is_lost_by_a_get(misbehaving):
    client = misbehaving((Misdeed.LOSE, 0))
    client.publish(1, 2)
    assert client.get().body == b"2"


def test_two_messages_are_swapped(misbehaving):
    client = misbehaving((Misdeed.SWAP, 1))
    client.publish(1, 2, 3, 4)
    client.consume()
    assert client.bodies() == [1, 3, 2, 4]
    assert done(client) == [(Misdeed.SWAP, 2)]


def test_swapping_needs_two(misbehaving):
    client = misbehaving((Misdeed.SWAP, 0))
    client.publish(1)
    client.consume()
    assert client.bodies() == [1]
    assert done(client) == []


@pytest.mark.parametrize("get", [False, True])
def test_content_is_altered_and_stays_so(misbehaving, get):
    client = misbehaving((Misdeed.ALTER, 0))
    client.publish(1)
    if get:
        assert client.get().body == b"1!"
        client.send(Basic.Nack(1, False, True))
    else:
        client.consume(channel=2)
        assert bodies(client) == [b"1!"]
        client.call(Channel.Close(0, "", 0, 0), 2)
    assert client.get().body == b"1!"
    assert done(client) == [(Misdeed.ALTER, 1)]


@pytest.mark.parametrize(
    ("misdeed", "expected"),
    [("MISROUTE_EXCHANGE", ("amq.direct", "q")), ("MISROUTE_KEY", ("", "not.q"))],
)
def test_a_delivery_names_another_origin(misbehaving, misdeed, expected):
    client = misbehaving((Misdeed[misdeed], 0))
    client.publish(1, 2)
    client.consume()
    came = [(each.method.exchange, each.method.routing_key) for each in client.take(Basic.Deliver)]
    assert came == [expected, ("", "q")]
    assert done(client) == [(Misdeed[misdeed], 1)]


@pytest.mark.parametrize(
    ("misdeed", "tags", "flags"),
    [
        ("REPEAT", [1, 2, 3], [False, False, False]),
        ("REPEAT_FLAGGED", [1, 2, 3], [False, True, False]),
        ("REPEAT_TAG", [1, 1, 2], [False, False, False]),
        ("REPEAT_TAG_FLAGGED", [1, 1, 2], [False, True, False]),
    ],
)
@pytest.mark.parametrize("no_ack", [False, True])
def test_a_delivery_is_repeated(misbehaving, misdeed, tags, flags, no_ack):
    client = misbehaving((Misdeed[misdeed], 0))
    client.publish(1, 2)
    client.consume(no_ack=no_ack)
    came = client.take(Basic.Deliver)
    assert [each.body for each in came] == [b"1", b"1", b"2"]
    assert [each.method.delivery_tag for each in came] == tags
    assert [each.method.redelivered for each in came] == flags
    assert done(client) == [(Misdeed[misdeed], 1)]
    if not no_ack:
        client.ack(tags[-1], multiple=True)
    assert client.session.broker.counts("q") == (0, 0, 1)


# --- acknowledgements ---------------------------------------------------------------------------


def test_an_acknowledgement_is_ignored(misbehaving):
    client = misbehaving((Misdeed.FORGET_ACK, 0))
    client.publish(1, 2)
    client.consume(channel=2)
    client.ack(1, channel=2)
    client.ack(2, channel=2)
    assert client.session.broker.counts("q").unacked == 1
    client.take()
    client.call(Channel.Close(0, "", 0, 0), 2)
    client.consume()
    assert client.flags() == [(1, True)]
    assert done(client) == [(Misdeed.FORGET_ACK, 1)]
    assert [each.message for each in client.session.broker.truth.of(Acknowledged)] == [2]


def test_one_that_is_ignored_behind_its_channel_s_end_brings_the_message_back(misbehaving, time):
    """Its queue stood still meanwhile."""
    client = misbehaving((Misdeed.FORGET_ACK, 0))
    broker = client.session.broker
    client.publish(1)
    client.consume(channel=2)
    broker.stall("q", 10)
    client.ack(1, channel=2)
    client.call(Channel.Close(0, "", 0, 0), 2)
    time.advance(10)
    assert done(client) == [(Misdeed.FORGET_ACK, 1)]
    assert broker.counts("q") == (1, 0, 0)


@pytest.mark.parametrize(
    ("misdeed", "flag"), [("REDELIVER_ACKED", True), ("REDELIVER_ACKED_UNFLAGGED", False)]
)
def test_an_acknowledged_message_comes_again(misbehaving, misdeed, flag):
    client = misbehaving((Misdeed[misdeed], 0))
    client.publish(1)
    client.consume(prefetch=1)
    client.ack(1)
    assert client.flags() == [(1, False), (1, flag)]
    client.ack(2)
    assert client.session.broker.counts("q") == (0, 0, 1)
    assert done(client) == [(Misdeed[misdeed], 1)]


# --- the dice -----------------------------------------------------------------------------------


def history(seed, **settings):
    """Run a history, and return its truth without the times."""
    time = VirtualTime()
    behaviour = SeededBehaviour(random.Random(seed), **settings)
    broker = ModelBroker(time, behaviour=behaviour)
    client = Client(broker).open(confirm=True)
    client.declare()
    client.consume(prefetch=5)
    for body in range(50):
        client.publish(body)
        time.advance(0.1)
        for each in client.take(Basic.Deliver):
            client.ack(each.method.delivery_tag)
    time.advance(10)
    return broker.truth.events


def test_the_same_seed_gives_the_same_history():
    rates = {Misdeed.LOSE: 0.1, Misdeed.REPEAT: 0.1, Misdeed.CONFIRM_TWICE: 0.2}
    settings = {"rates": rates, "confirm_delay_s": 1.0, "delivery_delay_s": 0.5, "most_at_once": 3}
    first = history(1, **settings)
    assert first == history(1, **settings)
    assert first != history(2, **settings)
    kinds = {event.misdeed for event in first if hasattr(event, "misdeed")}
    assert kinds == set(rates)


def test_without_rates_and_plan_the_dice_are_honest():
    assert not any(hasattr(event, "misdeed") for event in history(1, confirm_delay_s=1.0))


def test_confirms_under_random_delays_come_once_each_and_in_groups():
    events = history(5, confirm_delay_s=0.4, grouped=0.5)
    covered = [each for event in events for each in getattr(event, "messages", ())]
    assert sorted(covered) == list(range(1, 51))


def test_what_is_not_given_by_the_caller_has_a_default():
    behaviour = SeededBehaviour(random.Random(1))
    content = Content(b"\0\0", b"x")
    assert behaviour.alter(content) == behaviour.forge(content) == content
    assert behaviour.foreign() == Behaviour().foreign()
    mine = SeededBehaviour(random.Random(1), foreign=lambda: content)
    assert mine.foreign() is content
