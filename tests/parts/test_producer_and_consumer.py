"""Producer and consumer against a real broker: what they find there, and what they leave alone."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pika
import pytest

from rmqbench import Run, reliability
from rmqbench.amqp.admin import admin
from rmqbench.clients.recording_consumer import RecordingConsumer
from rmqbench.errors import QueueNotEmpty
from rmqbench.proxy import Proxy, cut_inside
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.runner.isolation import declared_place
from rmqbench.verdict.evidence import ACKED, CONFIRMED, NACKED, RETURNED, SENT
from rmqbench.waiting import wait_until

COUNT = 50
NOW = time.time_ns()


def states(by_hand):
    return PublishLedger.read(by_hand.directory / "producer").state


def test_all_is_confirmed_and_delivered(by_hand):
    assert by_hand.publish().error is None
    assert by_hand.ready() == COUNT
    report = by_hand.consume(expected=COUNT)
    assert (report.error, report.deliveries) == (None, COUNT)
    assert by_hand.ready() == 0
    assert by_hand.found() == {}


@pytest.mark.parametrize("window", [1, 7, 1000])
def test_any_window_confirms_everything(by_hand, window):
    by_hand.publish(window=window)
    assert (states(by_hand) == SENT | CONFIRMED).all()


def test_an_unroutable_message_is_returned_and_not_confirmed(by_hand):
    by_hand.publish(routing_key="nowhere")
    assert (states(by_hand) & RETURNED).all()
    by_hand.consume()
    assert by_hand.found() == {"returned": COUNT}


@pytest.mark.parametrize("arguments", [{"x-max-length": 20, "x-overflow": "reject-publish"}])
def test_what_a_full_queue_rejects_is_nacked(by_hand):
    by_hand.publish(window=1)  # a quorum queue notices its length late with more under way
    nacked = int((states(by_hand) & NACKED != 0).sum())
    assert 0 < nacked <= COUNT - 20
    by_hand.consume()
    assert by_hand.found() == {"nacked": nacked}


@pytest.mark.parametrize("arguments", [{"x-max-length": 20}])
def test_what_overflow_drops_although_confirmed_is_lost_at_the_start(by_hand):
    by_hand.publish(window=1)
    assert (states(by_hand) == SENT | CONFIRMED).all()
    by_hand.consume()
    assert by_hand.found() == {"lost": COUNT - 20}
    assert "30 at the start" in str(by_hand.judge())


@pytest.mark.parametrize(("what", "finding"), [("publish", "vanished"), ("confirm", "survived")])
def test_one_that_was_under_way_when_its_connection_ended_did_or_did_not_arrive(
    by_hand, what, finding
):
    cut = cut_inside(what, 20)
    with Proxy(by_hand.place.endpoint, [cut]) as proxy:
        report = by_hand.publish(endpoint=proxy.endpoint, window=1)
    assert (report.error, len(report.interruptions)) == (None, 1)
    assert [each.alteration for each in proxy.applied] == [cut]
    assert by_hand.ready() == COUNT - (finding == "vanished")
    by_hand.consume()
    assert by_hand.found() == {"indeterminate": 1, finding: 1}
    assert "sequence 19," in str(by_hand.judge())


@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_ready_messages_that_never_come_are_stuck_and_not_lost(
    rmqbench_broker, tmp_path, queue_kind
):
    one_alone = {"x-single-active-consumer": True}
    scenario = reliability(
        messages=COUNT, queue_kind=queue_kind, queue_arguments=one_alone, stall_s=2.0
    )
    with Run(scenario, rmqbench_broker, directory=tmp_path / "run") as stages:
        stages.publish()
        with admin(stages.place.endpoint) as channel:
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume("work.queue", lambda *_: None)
            channel.connection.process_data_events(time_limit=0.5)
            stages.drain_work_queue()
        stages.drain_audit_queue()
        verdict = stages.judge().verdict
    assert verdict.outcome == "INCONCLUSIVE"
    assert verdict.found() == verdict.found("work.queue") == {"stuck": COUNT - 1}


def test_messages_of_others_are_counted_and_left_in_the_queue(by_hand):
    by_hand.inject(b"not yours \x1b[2J", pika.BasicProperties(message_id="\x1b[2J"))
    by_hand.publish()
    by_hand.inject(b"nor this", pika.BasicProperties(delivery_mode=2))
    report = by_hand.consume()
    assert report.deliveries == COUNT
    assert by_hand.found() == {"foreign": 2}
    assert by_hand.ready() == 2
    assert "\x1b" not in str(by_hand.judge())


def test_a_queue_that_holds_messages_is_no_place_for_a_run(by_hand, rmqbench_broker):
    by_hand.publish()
    here = replace(rmqbench_broker, endpoint=by_hand.place.endpoint)
    place = declared_place(here, by_hand.place.topology, "a run", in_place=True)
    with pytest.raises(QueueNotEmpty, match=f"holds {COUNT} messages"), place:
        pass
    assert by_hand.ready() == COUNT


def test_the_same_message_published_by_somebody_twice_is_a_duplicate(by_hand):
    by_hand.publish()
    sent_ns = int(PublishLedger.read(by_hand.directory / "producer").sent_ns[4])
    message = (0, 4, sent_ns)
    by_hand.inject(by_hand.recipe.body(*message), by_hand.recipe.properties(*message))
    by_hand.consume()
    assert by_hand.found() == {"duplicate": 1}


def test_a_damaged_message_is_corrupted_and_named(by_hand):
    by_hand.publish(count=COUNT - 1)
    message = (0, COUNT - 1, NOW)
    body = bytearray(by_hand.recipe.body(*message))
    body[-1] ^= 1
    by_hand.inject(bytes(body), by_hand.recipe.properties(*message))
    by_hand.consume()
    assert by_hand.found() == {"corrupted": 1, "phantom": 1, "unsent": 1}
    assert f"sequence {COUNT - 1}" in str(by_hand.judge())


@pytest.mark.parametrize("size", ["100:16384", "100*9,140000:300000"])
def test_messages_of_mixed_sizes_are_all_checked_and_one_of_another_size_is_corrupted(
    by_hand, size, monkeypatch
):
    alone = []
    take = RecordingConsumer.take
    monkeypatch.setattr(RecordingConsumer, "take", lambda *it: alone.append(it) or take(*it))
    by_hand.recipe = replace(by_hand.recipe, size_bytes=size)
    by_hand.publish(count=COUNT - 1)
    message = (0, COUNT - 1, NOW)
    other = replace(by_hand.recipe, size_bytes=by_hand.recipe.size_of(*message[:2]) + 1)
    by_hand.inject(other.body(*message), other.properties(*message))
    report = by_hand.consume()
    assert report.deliveries == COUNT
    assert by_hand.found() == {"corrupted": 1, "phantom": 1, "unsent": 1}
    assert "the length of the body" in str(by_hand.judge())
    assert len(alone) == (2 if by_hand.vector else COUNT), "all others are taken many at once"


def test_a_forged_identity_is_a_phantom(by_hand):
    by_hand.publish()
    message = (7, 1, NOW)
    by_hand.inject(by_hand.recipe.body(*message), by_hand.recipe.properties(*message))
    by_hand.consume()
    assert by_hand.found() == {"phantom": 1}


def test_a_message_with_another_routing_key_is_misrouted(by_hand):
    topology = by_hand.place.topology
    with admin(by_hand.place.endpoint) as channel:
        channel.queue_bind(by_hand.queue, topology.exchange, "elsewhere")
    by_hand.publish(routing_key="elsewhere")
    by_hand.consume()
    assert by_hand.found() == {"misrouted": COUNT}


def test_two_in_the_wrong_order_are_reordered(by_hand):
    by_hand.publish()
    by_hand.consume()
    sent_ns = PublishLedger.read(by_hand.directory / "producer").sent_ns.tolist()
    again = [(0, n, sent_ns[n]) for n in (0, 2, 1, 3)]
    by_hand.reports.clear()
    for message in again:
        by_hand.inject(by_hand.recipe.body(*message), by_hand.recipe.properties(*message))
    (by_hand.directory / "consumer-0").rename(by_hand.directory / "before")
    by_hand.consume()
    assert by_hand.found() == {"lost": COUNT - 4, "reordered": 1}


def test_what_a_consumer_did_not_acknowledge_comes_again_flagged(by_hand):
    by_hand.publish()
    with admin(by_hand.place.endpoint) as channel:
        channel.basic_get(by_hand.queue)  # never acknowledged: back when the channel closes
    by_hand.consume()
    assert by_hand.found() == {}
    assert by_hand.reports[0][1].deliveries == COUNT


def give_back_a_copy(by_hand, channel, sequence):
    """Send a message once more as it was, take it before anybody else, and give it back."""
    sent_ns = int(PublishLedger.read(by_hand.directory / "producer").sent_ns[sequence])
    taken = []
    channel.basic_consume(by_hand.queue, lambda *it: taken.append(it), arguments={"x-priority": 10})
    message = (0, sequence, sent_ns)
    by_hand.inject(by_hand.recipe.body(*message), by_hand.recipe.properties(*message))
    for _ in range(50):
        channel.connection.process_data_events(time_limit=0.2)
        if taken:
            break
    channel.close()


def test_what_comes_again_on_a_channel_that_still_has_it_is_repeated(by_hand):
    by_hand.publish()
    with ThreadPoolExecutor(1) as pool, admin(by_hand.place.endpoint, timeout_s=30) as channel:
        consuming = pool.submit(by_hand.consume, idle_s=3)
        directory = by_hand.directory / "consumer-0"
        # Its file of incidents is the last that is made.
        wait_until((directory / "incidents.jsonl").exists, 20, "the consumer to begin")
        ledger = DeliveryLedger.read(directory)
        wait_until(lambda: bool((ledger.state & ACKED != 0).all()), 20, "all to be acknowledged")
        give_back_a_copy(by_hand, channel, 4)
        consuming.result(30)
    assert by_hand.found() == {"redelivered": 1, "repeated": 1}


def test_what_comes_again_after_its_acknowledgement_was_taken_is_a_finding(by_hand):
    by_hand.publish()
    by_hand.consume()
    with admin(by_hand.place.endpoint, timeout_s=30) as channel:
        give_back_a_copy(by_hand, channel, 4)
    by_hand.consume()
    assert by_hand.found() == {"redelivered": 1, "redelivered after ack": 1}


def test_a_deleted_queue_ends_the_consumer_with_a_sentence(by_hand):
    by_hand.publish()
    with admin(by_hand.place.endpoint) as channel:
        channel.queue_delete(by_hand.queue)
    report = by_hand.consume()
    assert "no queue 'work.queue'" in report.error
    assert by_hand.closed_channels() == []


@pytest.mark.parametrize("arguments", [{"x-single-active-consumer": True}])
def test_a_queue_that_another_consumer_holds_ends_in_a_sentence(by_hand):
    """Ready messages that never come: the consumer says so instead of waiting for ever."""
    by_hand.publish()
    with admin(by_hand.place.endpoint) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(by_hand.queue, lambda *_: None)
        channel.connection.process_data_events(time_limit=0.5)
        report = by_hand.consume(stall_s=1)
    assert report.deliveries == 0
    assert report.error == (
        "Consumer 0 of work.queue received nothing for 1 s, although 49 messages are ready."
    )
