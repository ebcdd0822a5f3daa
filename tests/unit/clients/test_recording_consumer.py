"""A consumer's evidence: there before the acknowledgement, and of nothing but what was received."""

import shutil
import threading
import time
import uuid
from types import SimpleNamespace

import numpy as np
import pika
import pytest
from support.plans import consumer_plan

from rmqbench.amqp.dead_letters import Origin
from rmqbench.amqp.shape import Deliveries, Shape
from rmqbench.clients import consumer as consumers
from rmqbench.errors import ConnectionLost
from rmqbench.message import Recipe
from rmqbench.run_directory.journal import JOURNAL_FILE, ChannelClosed, read_journal
from rmqbench.run_directory.ledger import DeliveryLedger, dead_letters_in
from rmqbench.verdict.evidence import ACKED, DELIVERED, REJECTED, REPORTED, REQUEUED

COUNT = 10
RECIPE = Recipe(uuid.UUID(int=1))
NOW = 1_790_000_000_123_456_789


class Link:
    """A connection and its channels in one; each turn does the next step of its script."""

    more_is_there = False
    frame_max = 131072

    def __init__(self, directory, *steps, ready=0):
        self.directory = directory
        self.steps = list(steps)
        self.ready = ready
        self.raw_delivery = None
        self.burst_bytes = 0
        self.channel_number = 1
        self.learned = []
        self.consumers = 1  # that its queue knows of
        self.while_cancelled = []  # what comes until the broker has answered
        self.tags = self.turns = 0
        self.rejected = []  # tag, requeue
        self.acks = []  # tag, multiple, and the messages then on record as delivered and as acked

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def channel(self):
        return self

    def basic_qos(self, prefetch_count):
        pass

    def add_on_cancel_callback(self, callback):
        self.cancelled = callback

    def expect_deliveries(self, channel, handler):
        self.on_deliveries = handler

    def learn(self, channel, shape):
        self.learned.append(shape)

    def basic_consume(self, queue, on_message, auto_ack, consumer_tag, arguments, callback):
        self.arguments = arguments
        self.on_message = on_message
        callback(None)
        return consumer_tag

    def cancel(self, channel, tag, callback):
        if self.while_cancelled:
            self.while_cancelled.pop(0)(self)
        callback(None)

    def close_channel(self, channel, timeout_s):
        pass

    def queue_declare(self, queue, passive, callback):
        assert passive
        method = SimpleNamespace(message_count=self.ready, consumer_count=self.consumers)
        callback(SimpleNamespace(method=method))

    def wait_until(self, condition, timeout_s, what):
        assert condition(), what

    def turn(self):
        self.turns += 1
        assert self.turns < 10**6, "it goes on for ever"
        if self.steps:
            self.steps.pop(0)(self)

    def basic_reject(self, tag, requeue):
        self.rejected.append((tag, requeue))

    def basic_ack(self, tag, multiple=False):
        state = DeliveryLedger.read(self.directory).state
        recorded = (np.flatnonzero(state & bit).tolist() for bit in (DELIVERED, ACKED))
        self.acks.append((tag, multiple, *recorded))


def marshal(tag, sequence, damaged=False, recipe=RECIPE, headers=None):
    """Give the frames of one delivery, and what pika makes of them."""
    message = (0, sequence, NOW)
    body, properties = bytearray(recipe.body(*message)), recipe.properties(*message)
    properties.headers |= headers or {}
    body[-1] ^= damaged
    method = pika.spec.Basic.Deliver("c", tag, False, "x", "k")
    frames = [
        pika.frame.Method(1, method),
        pika.frame.Header(1, len(body), properties),
        pika.frame.Body(1, bytes(body)),
    ]
    return b"".join(frame.marshal() for frame in frames), method, properties, bytes(body)


def receive(sequence, damaged=False, routing_key="k", redelivered=False, **changes):
    """Receive one message by the ordinary way."""

    def step(link):
        link.tags += 1
        frames, method, properties, body = marshal(link.tags, sequence, damaged, **changes)
        link.raw_delivery = frames
        method.routing_key = routing_key
        method.redelivered = redelivered
        link.on_message(link, method, properties, body)
        link.raw_delivery = None

    return step


def receive_foreign(link):
    link.tags += 1
    method = pika.spec.Basic.Deliver("c", link.tags, False, "x", "k")
    link.on_message(link, method, pika.BasicProperties(), b"not of this run")


def receive_many(*sequences):
    """Receive messages that were found right in the stream."""

    def step(link):
        tags = link.tags + np.arange(1, len(sequences) + 1)
        link.tags += len(sequences)
        zeros = np.zeros(len(sequences), np.int64)
        numbers = np.array(sequences)
        stamps = RECIPE.stamps(0, numbers, np.full(len(numbers), NOW))
        link.on_deliveries(Deliveries(1, tags, zeros > 0, zeros, numbers, zeros, stamps, RECIPE))

    return step


def lose(link):
    raise ConnectionLost("The connection ended.")


@pytest.fixture
def consume(tmp_path, monkeypatch):
    """Consume over connections that do, one after the other, what these scripts say."""

    def consume(
        *scripts, ready=0, finish=None, prepare=lambda link: None, recipe=RECIPE, **changes
    ):
        directory = tmp_path / "consumer-0"
        shutil.rmtree(directory, ignore_errors=True)
        DeliveryLedger.create(directory, COUNT)
        for index in range(len(changes.get("origins", ()))):
            DeliveryLedger.create(dead_letters_in(directory, index), COUNT)
        links = [Link(directory, *script, ready=ready) for script in scripts]
        for link in links:
            prepare(link)
        left = iter(links)
        monkeypatch.setattr(consumers, "Connection", lambda *_, **__: next(left))
        settings = {"idle_s": 0.05, "stall_s": 2.0, **changes}
        plan = consumer_plan(recipe, (COUNT,), directory, **settings)
        report = plan.run(finish)
        incidents = [(i.finding, i.sequence) for i in DeliveryLedger.read(directory).incidents()]
        return report, links, incidents

    return consume


@pytest.mark.parametrize(
    "steps", [[receive_many(0, 1, 2)], [receive(0), receive(1), receive(2)]], ids=["many", "one"]
)
def test_a_delivery_is_on_record_before_its_acknowledgement_is_sent(consume, steps):
    report, (link,), _ = consume(steps, expected=3)
    taken = 0
    for tag, _, delivered, acked in link.acks:
        taken = tag
        assert delivered == acked == list(range(tag))
    assert taken == report.deliveries == 3


def test_a_phantom_among_many_is_reported_and_all_are_acknowledged(consume):
    _, (link,), incidents = consume([receive_many(0, 1, 500, 2)], expected=3)
    assert incidents == [("phantom", 500)]
    assert [(tag, multiple) for tag, multiple, *_ in link.acks] == [(4, True)]


def test_what_is_held_back_is_on_record_and_not_acknowledged(consume):
    script = [receive_many(*range(5)), lose]
    report, links, _ = consume(script, [receive_many(*range(5, 10))], rate=1, expected=COUNT)
    assert links[0].acks == []
    assert report.deliveries == COUNT


def test_with_automatic_acknowledgement_nothing_is_acknowledged(consume):
    _, (link,), _ = consume([receive_many(0, 1)], auto_ack=True, expected=2)
    assert link.acks == []


def test_a_foreign_message_is_held_while_others_are_acknowledged_one_by_one(consume):
    script = [receive(0), receive_foreign, receive(1), receive_many(2, 3)]
    report, (link,), incidents = consume(script)
    assert [(tag, multiple) for tag, multiple, *_ in link.acks] == [
        (1, True),
        (3, False),
        (4, False),
        (5, False),
    ]
    assert incidents == [("foreign", None)]
    assert report.deliveries == 4


def test_only_a_message_that_was_right_is_learned_from(consume):
    script = [receive(0, damaged=True), receive(1, routing_key="other"), receive(2)]
    _, (link,), incidents = consume(script)
    assert incidents == [("corrupted", 0), ("misrouted", 1)]
    assert len(link.learned) == 1
    shape = link.learned[0]
    assert takes(shape, 3)
    assert not takes(shape, 3, damaged=True)


def takes(shape, sequence, **changes):
    """Whether a message of this shape is taken off the stream."""
    assert isinstance(shape, Shape)
    frames = marshal(9, sequence, **changes)[0]
    return len(shape.match(frames, shape.bounds(frames, 0, len(frames), 1)).tags) == 1


MIXED = Recipe(uuid.UUID(int=1), size_bytes="100:2000")
AGAIN = {"headers": {"x-delivery-count": 1}, "recipe": MIXED}


def test_of_mixed_sizes_one_message_is_enough_to_learn_from(consume):
    _, (link,), incidents = consume([receive(0, recipe=MIXED)], recipe=MIXED)
    (shape,) = link.learned
    assert all(takes(shape, sequence, recipe=MIXED) for sequence in range(COUNT))
    assert incidents == []
    assert link.burst_bytes == 1000 * shape.mean_bytes // 8


def test_what_comes_again_is_learned_from_when_two_came_in_a_row_of_whatever_size(consume):
    assert MIXED.size_of(0, 3) != MIXED.size_of(0, 4)
    script = [receive(0, recipe=MIXED), receive(1, **AGAIN), receive(2, recipe=MIXED)]
    _, (link,), _ = consume(script, recipe=MIXED)
    assert len(link.learned) == 1
    _, (link,), _ = consume([*script, receive(3, **AGAIN), receive(4, **AGAIN)], recipe=MIXED)
    assert len(link.learned) == 2
    assert takes(link.learned[-1], 5, **AGAIN)


def test_a_message_of_the_size_of_another_is_corrupted(consume):
    other = Recipe(uuid.UUID(int=1), size_bytes=MIXED.size_of(0, 1) + 1)
    script = [receive(0, recipe=MIXED), receive(1, recipe=other)]
    _, (link,), incidents = consume(script, recipe=MIXED)
    assert incidents == [("corrupted", 1)]
    assert len(link.learned) == 1
    assert not takes(link.learned[0], 1, recipe=other)


def test_a_damaged_or_misrouted_message_is_a_delivery_all_the_same(consume, tmp_path):
    consume([receive(0, damaged=True), receive(1, routing_key="other")])
    state = DeliveryLedger.read(tmp_path / "consumer-0").state
    assert np.flatnonzero(state & DELIVERED).tolist() == [0, 1]


@pytest.mark.parametrize("step", [receive(3), receive_many(3)], ids=["one", "many"])
def test_the_stamp_of_a_delivery_is_the_checksum_in_its_head(consume, tmp_path, step):
    consume([step])
    stamp = int.from_bytes(RECIPE.head(0, 3, NOW)[40:], "big")
    assert DeliveryLedger.read(tmp_path / "consumer-0").stamp[3] == stamp


def test_what_is_corrupted_behind_its_head_has_its_stamp(consume, tmp_path):
    def receive_changed(link):
        link.tags += 1
        body = bytearray(RECIPE.body(0, 3, NOW))
        body[-1] ^= 1
        method = pika.spec.Basic.Deliver("c", link.tags, False, "x", "k")
        link.on_message(link, method, RECIPE.properties(0, 3, NOW), bytes(body))

    *_, incidents = consume([receive_changed])
    assert incidents == [("corrupted", 3)]
    ledger = DeliveryLedger.read(tmp_path / "consumer-0")
    assert ledger.state[3] & REPORTED
    assert ledger.stamp[3] == RECIPE.stamps(0, np.array([3]), np.array([NOW]))[0]


def test_what_has_no_sound_head_is_corrupted_and_marked_and_has_no_stamp(consume, tmp_path):
    def receive_headless(link):
        link.tags += 1
        body = bytearray(RECIPE.body(0, 3, NOW))
        body[35] ^= 1
        method = pika.spec.Basic.Deliver("c", link.tags, False, "x", "k")
        link.on_message(link, method, RECIPE.properties(0, 3, NOW), bytes(body))

    *_, incidents = consume([receive_headless])
    assert incidents == [("corrupted", 3)]
    ledger = DeliveryLedger.read(tmp_path / "consumer-0")
    assert ledger.state[3] & REPORTED
    assert ledger.stamp[3] == 0


def closed(tmp_path):
    """Return the channels that it says were closed cleanly."""
    entries = read_journal(tmp_path / "consumer-0" / JOURNAL_FILE)
    return [each.number for each in entries if isinstance(each, ChannelClosed)]


def receive_each(*sequences):
    """Receive messages by the ordinary way, one behind the other."""
    steps = [receive(each) for each in sequences]
    return lambda link: [step(link) for step in steps]


@pytest.mark.parametrize("way", [receive_many, receive_each], ids=["many", "one"])
@pytest.mark.parametrize("auto_ack", [False, True], ids=["acks", "auto-ack"])
def test_what_comes_until_the_broker_has_cancelled_is_taken_and_acknowledged(
    consume, way, auto_ack, tmp_path
):
    def prepare(link):
        link.while_cancelled.append(way(1, 2))

    report, (link,), _ = consume([receive(0)], prepare=prepare, expected=1, auto_ack=auto_ack)
    assert report.deliveries == 3
    state = DeliveryLedger.read(tmp_path / "consumer-0").state
    assert np.flatnonzero(state & ACKED).tolist() == [0, 1, 2]
    assert link.acks[-1:] == ([] if auto_ack else [(3, True, [0, 1, 2], [0, 1, 2])])


def test_only_channels_that_ended_in_order_are_told(consume, tmp_path):
    consume([receive(0)])
    assert closed(tmp_path) == [1]
    report, *_ = consume([receive(0), lose], [receive(1)])
    assert closed(tmp_path) == [2]
    assert [each.why for each in report.interruptions] == ["The connection ended."]


def test_a_consumer_that_was_given_up_has_ended_no_channel_in_order(consume, tmp_path):
    report, *_ = consume([receive(0), lose], stall_s=0)
    assert "The connection ended." in (report.error or "")
    assert closed(tmp_path) == []
    assert report.deliveries == 1


def test_a_consumer_that_the_broker_cancels_did_not_end_in_order(consume, tmp_path):
    report, *_ = consume([receive(0), lambda link: link.cancelled(None)], [receive(1)])
    assert "cancelled the consumer" in report.interruptions[0].why
    assert closed(tmp_path) == [2]


def test_what_was_not_acknowledged_before_an_interruption_is_not_acknowledged_after_it(
    consume, tmp_path
):
    _, links, _ = consume([receive(0), receive_many(1), lose], [receive(2)], rate=4)
    assert links[0].acks == []
    assert links[1].acks == [(1, True, [0, 1, 2], [2])]
    assert closed(tmp_path) == [2]


def test_ready_messages_that_never_come_are_an_end_with_a_sentence(consume):
    report, *_ = consume([receive(0)], ready=3, stall_s=0.2)
    assert "although 3 messages are ready" in (report.error or "")
    assert consume([receive(0)])[0].error is None


def test_an_empty_answer_of_a_queue_that_does_not_know_its_consumer_is_no_end(consume):
    """So answers a quorum queue whose leader is silent: with zeros."""

    def forget(link):
        link.consumers = 0

    report, *_ = consume([receive(0)], prepare=forget, stall_s=0.2)
    assert "and the queue does not know of it" in (report.error or "")


def test_a_queue_of_which_others_take_is_waited_for(consume):
    """As one does that is not the single active consumer of its queue."""
    counts = iter([*range(9, 0, -1), 0])

    def prepare(link):
        of_a_queue = link.queue_declare

        def queue_declare(*args, **changes):
            link.ready = next(counts)
            of_a_queue(*args, **changes)

        link.queue_declare = queue_declare

    report, *_ = consume([receive(0)], prepare=prepare, stall_s=0.2)
    assert report.error is None
    assert next(counts, None) is None


# --- what it settles otherwise ------------------------------------------------------------------


def test_what_is_settled_after_a_while_is_on_record_first_and_then_told(consume, tmp_path):
    started = time.monotonic()
    report, (link,), _ = consume([receive_many(0, 1, 2)], settle="ack@0.2s", expected=3)
    assert time.monotonic() - started >= 0.2
    assert [tag for tag, *_ in link.acks] == [1, 2, 3]
    assert [acked for *_, acked in link.acks] == [[0], [0, 1], [0, 1, 2]]
    assert report.error is None


def test_what_is_given_back_is_recorded_as_that_and_acknowledged_when_it_comes_again(
    consume, tmp_path
):
    again = [receive(0), lambda link: None, receive(0, redelivered=True)]
    _, (link,), _ = consume(again, settle="requeue")
    assert link.rejected == [(1, True)]
    assert [tag for tag, *_ in link.acks] == [2]


def test_a_crash_breaks_the_connection_off_and_acknowledges_nothing(consume, tmp_path):
    again = [receive(0, redelivered=True)]
    report, links, _ = consume([receive(0)], *[again] * 25, settle="crash")
    assert [link.acks for link in links[:25]] == [[]] * 25
    assert [tag for tag, *_ in links[25].acks] == [1]
    assert {each.why for each in report.interruptions} == {
        "It crashed at a message, as it was told to."
    }
    assert len(report.interruptions) == 25
    assert closed(tmp_path) == [26]


def test_a_crash_comes_behind_what_is_given_back_in_the_same_turn(consume, tmp_path):
    """Else what was taken from them would be taken for given back the next time."""
    links = consume([receive_many(*range(10))], [], settle="crash,requeue")[1]
    given_back = [tag - 1 for tag, requeue in links[0].rejected if requeue]
    state = DeliveryLedger.read(tmp_path / "consumer-0").state
    assert 1 <= len(given_back) < 10
    assert np.flatnonzero(state & REQUEUED).tolist() == given_back


def test_its_priority_is_an_argument_of_its_consumer(consume, tmp_path):
    _, (link,), _ = consume([receive(0)], priority=7)
    assert link.arguments == {"x-priority": 7}
    assert consume([receive(0)])[1][0].arguments == {}


# --- dead letters ---------------------------------------------------------------------------------

DEATH = {"queue": "source", "reason": "rejected", "count": 1}
ORIGIN = Origin("source", "dead", "k", frozenset({"rejected"}))


def receive_dead(sequence, exchange="dead", **changes):
    """Receive a message as the dead letter of a queue, by the ordinary way."""
    headers = {"x-death": [DEATH | changes]}

    def step(link):
        link.tags += 1
        frames, method, properties, body = marshal(link.tags, sequence, headers=headers)
        method.exchange = exchange
        link.raw_delivery = frames
        link.on_message(link, method, properties, body)
        link.raw_delivery = None

    return step


def test_dead_letters_have_a_ledger_of_their_own_and_are_acknowledged_whatever_is_settled(
    consume, tmp_path
):
    script = [receive(3), receive_dead(3), receive_dead(4), receive_dead(3)]
    report, (link,), incidents = consume(script, origins=(ORIGIN,), settle="reject")
    assert (report.deliveries, report.error, incidents) == (4, None, [])
    assert link.rejected == [(1, False)]
    assert [tag for tag, *_ in link.acks] == [2, 3, 4]
    own = DeliveryLedger.read(tmp_path / "consumer-0")
    assert np.flatnonzero(own.state).tolist() == [3]
    assert own.state[3] == DELIVERED | REJECTED
    dead = DeliveryLedger.read(dead_letters_in(tmp_path / "consumer-0", 0))
    assert np.flatnonzero(dead.state == DELIVERED | ACKED).tolist() == [3, 4]
    assert dead.again()["place"].tolist() == [3]


def test_no_shape_is_learned_from_a_dead_letter(consume):
    _, (link,), _ = consume([receive_dead(0), receive_dead(1), receive(2)], origins=(ORIGIN,))
    assert len(link.learned) == 1
    assert takes(link.learned[0], 3)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (receive_dead(0, queue="other"), "dead-lettered by queue 'other'"),
        (receive_dead(0, reason="expired"), "for the reason 'expired'"),
        (receive_dead(0, exchange="x"), "exchange 'x'"),
    ],
    ids=["queue", "reason", "exchange"],
)
def test_a_dead_letter_that_comes_otherwise_than_the_topology_says_is_misrouted(
    consume, tmp_path, step, said
):
    _, (link,), incidents = consume([step], origins=(ORIGIN,))
    assert incidents == [("misrouted", 0)]
    (incident,) = DeliveryLedger.read(tmp_path / "consumer-0").incidents()
    assert said in incident.detail
    assert [tag for tag, *_ in link.acks] == [1]


def test_what_is_published_is_misrouted_where_only_dead_letters_belong(consume):
    *_, incidents = consume([receive(0), receive_dead(1)], origins=(ORIGIN,), gets_all=False)
    assert incidents == [("misrouted", 0)]


def test_a_dead_letter_with_a_number_that_no_producer_was_given_is_a_phantom(consume, tmp_path):
    consume([receive_dead(COUNT)], origins=(ORIGIN,))
    dead = DeliveryLedger.read(dead_letters_in(tmp_path / "consumer-0", 0))
    assert [each.finding for each in dead.incidents()] == ["phantom"]


# --- what it writes down -------------------------------------------------------------------------


def kinds(tmp_path):
    return [entry.kind for entry in read_journal(tmp_path / "consumer-0" / JOURNAL_FILE)]


def test_its_channels_interruptions_and_end_are_in_its_journal(consume, tmp_path):
    consume([receive(0), lose], [receive(1)])
    assert kinds(tmp_path) == [
        "started",
        "channel opened",
        "interrupted",
        "channel opened",
        "consumer leaving",
        "channel closed",
        "ended",
    ]
    end = list(read_journal(tmp_path / "consumer-0" / JOURNAL_FILE))[-1]
    assert (end.messages, end.error) == (2, None)
    assert end.peak_rss_bytes > 10 << 20


def test_a_channel_that_did_not_end_in_order_is_not_said_to_be_closed(consume, tmp_path):
    consume([receive(0), lose], stall_s=0)
    assert kinds(tmp_path) == ["started", "channel opened", "interrupted", "ended"]


def test_one_that_lingers_takes_an_empty_queue_for_the_end_only_once_it_is_told(consume):
    finish = threading.Event()
    late = [lambda link: None] * 30
    script = [receive(0), *late, receive(1), lambda link: finish.set()]
    report, (link,), _ = consume(script, lingers=True, idle_s=0.0, finish=finish)
    assert report.deliveries == 2
    assert not link.steps
    assert consume([receive(0), *late, receive(1)], idle_s=0.0)[0].deliveries < 2


def test_that_it_was_given_nothing_of_a_queue_that_has_some_is_in_its_journal(consume, tmp_path):
    consume([receive(0)], ready=3, stall_s=0.2)
    assert kinds(tmp_path)[-4:] == ["not served", "consumer leaving", "channel closed", "ended"]
    entry = list(read_journal(tmp_path / "consumer-0" / JOURNAL_FILE))[-4]
    assert entry.ready == 3
    assert entry.time_ns - entry.since_ns == pytest.approx(0.2e9, rel=0.5)
    consume([receive(0)], prepare=lambda link: setattr(link, "consumers", 0), stall_s=0.2)
    assert "not served" not in kinds(tmp_path)


def test_one_that_holds_all_that_it_may_have_is_given_no_more_with_reason(consume, tmp_path):
    consume([receive_foreign], ready=3, stall_s=0.2, prefetch=1)
    assert "not served" not in kinds(tmp_path)
    consume([receive_foreign], ready=3, stall_s=0.2, prefetch=2)
    assert "not served" in kinds(tmp_path)
