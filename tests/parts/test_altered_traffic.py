"""What the proxy alters is found, each by its name, and nothing else is."""

import time
from dataclasses import replace

import pytest
from support.relay import Relay, body_changed, flagged_copy, header_added, nacked_after

from rmqbench.proxy import (
    Proxy,
    delay,
    drop,
    flip,
    forge,
    misroute,
    repeat,
    swap,
)
from rmqbench.run_directory.journal import JOURNAL_FILE, HeadersAdded, read_journal
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.verdict.evidence import CONFIRMED, NACKED, SENT

COUNT = 50
NOW = time.time_ns()

classic = pytest.mark.parametrize("by_hand", ["classic"], indirect=True)


def consume_through(by_hand, *plan, expected=COUNT, **changes):
    """Publish, consume through a proxy, and return what it says that it did."""
    by_hand.publish()
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        by_hand.consume(endpoint=proxy.endpoint, expected=expected, idle_s=1, **changes)
    return [each.alteration for each in proxy.applied]


def publish_through(by_hand, *plan, expected=COUNT, **changes):
    """Publish through a proxy, consume, and return what it says that it did."""
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        report = by_hand.publish(endpoint=proxy.endpoint, **changes)
    by_hand.consume(expected=expected, idle_s=1)
    assert report.error is None
    return [each.alteration for each in proxy.applied]


@pytest.fixture
def patient(monkeypatch):
    """What changes places waits for the next one as long as a slow machine may need."""
    monkeypatch.setattr("rmqbench.proxy.proxy._HOLD_S", 10.0)


def states(by_hand):
    return PublishLedger.read(by_hand.directory / "producer").state


# --- nothing ------------------------------------------------------------------------------------


def test_through_a_proxy_without_a_plan_nothing_is_found(by_hand):
    with Proxy(by_hand.place.endpoint) as proxy:
        assert proxy.endpoint.port != by_hand.place.endpoint.port
        assert by_hand.publish(endpoint=proxy.endpoint).error is None
        assert by_hand.consume(endpoint=proxy.endpoint, expected=COUNT).error is None
        assert proxy.applied == ()
    assert by_hand.found() == {}


def test_a_plan_that_finds_nothing_to_alter_alters_nothing(by_hand):
    plan = [drop("delivery", 1000), repeat("publish", 1000), swap("confirm", 1000)]
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        by_hand.publish(endpoint=proxy.endpoint)
        by_hand.consume(endpoint=proxy.endpoint, expected=COUNT)
        assert proxy.applied == ()
    assert by_hand.found() == {}


@pytest.mark.parametrize("size", [200_000, 5_000_000])
@classic
def test_messages_of_many_frames_pass_whole(by_hand, size):
    by_hand.recipe = replace(by_hand.recipe, size_bytes=size)
    plan = [flip("delivery", 3, byte=size - 1)]
    with Proxy(by_hand.place.endpoint, plan) as proxy:
        by_hand.publish(endpoint=proxy.endpoint, count=5)
        by_hand.consume(endpoint=proxy.endpoint, expected=5)
    assert by_hand.found() == {"corrupted": 1, "unsent": COUNT - 5}
    assert f"byte {size - 1} of the body" in str(by_hand.judge())


# --- deliveries ---------------------------------------------------------------------------------


def test_a_dropped_delivery_is_lost(by_hand):
    plan = [drop("delivery", 3), drop("delivery", 20)]
    assert consume_through(by_hand, *plan, expected=COUNT - 2) == plan
    assert by_hand.found() == {"lost": 2}
    assert "sequence 2," in str(by_hand.judge())


@classic
def test_a_repeated_delivery_is_a_duplicate(by_hand):
    plan = [repeat("delivery", 3), repeat("delivery", COUNT)]
    assert consume_through(by_hand, *plan, expected=None) == plan
    assert by_hand.found() == {"duplicate": 2}


@pytest.mark.usefixtures("patient")
@classic
def test_swapped_deliveries_are_reordered_and_nothing_else(by_hand):
    plan = [swap("delivery", 3), swap("delivery", 30)]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"reordered": 2}
    assert by_hand.ready() == 0


@classic
def test_a_delivery_that_nothing_follows_does_not_change_places(by_hand):
    # It comes after half a second, while the consumer still waits.
    assert consume_through(by_hand, swap("delivery", COUNT)) == []
    assert by_hand.found() == {}


@classic
def test_a_prefetch_of_one_lets_nothing_change_places(by_hand):
    by_hand.publish(count=3)
    started = time.monotonic()
    with Proxy(by_hand.place.endpoint, [swap("delivery", 2)]) as proxy:
        by_hand.consume(endpoint=proxy.endpoint, prefetch=1, expected=3)
    assert proxy.applied == ()
    assert time.monotonic() - started >= 0.5
    assert by_hand.found() == {"unsent": COUNT - 3}


@pytest.mark.parametrize("byte", [0, 24, 43, 44, 54])
@classic
def test_a_flipped_byte_of_a_delivery_is_corrupted(by_hand, byte):
    plan = [flip("delivery", 5, byte=byte, mask=1)]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"corrupted": 1}
    assert "sequence 4," in str(by_hand.judge())


@classic
def test_a_flipped_byte_of_the_properties_is_corrupted(by_hand):
    # The first letter of the content type, behind the flags (2 bytes) and its length (1).
    plan = [flip("delivery", 5, byte=3, mask=1, part="header")]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"corrupted": 1}
    assert "the property content_type" in str(by_hand.judge())


@classic
def test_a_forged_delivery_is_a_phantom(by_hand):
    message = (7, 1, NOW)
    body, properties = by_hand.recipe.body(*message), by_hand.recipe.properties(*message)
    plan = [forge("delivery", 5, body, properties)]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"phantom": 1}


@classic
def test_a_misrouted_delivery_is_misrouted(by_hand):
    plan = [misroute("delivery", 5, routing_key="elsewhere"), misroute("delivery", 6, "other")]
    assert consume_through(by_hand, *plan) == plan
    assert by_hand.found() == {"misrouted": 2}


@classic
def test_a_delayed_delivery_is_nothing_but_late(by_hand):
    started = time.monotonic()
    plan = [delay("delivery", 5, 0.7)]
    assert consume_through(by_hand, *plan) == plan
    assert time.monotonic() - started >= 0.7
    assert by_hand.found() == {}


@pytest.mark.usefixtures("patient")
@classic
def test_all_at_once_is_found_each_by_its_name(by_hand):
    message = (7, 1, NOW)
    body, properties = by_hand.recipe.body(*message), by_hand.recipe.properties(*message)
    plan = [
        drop("delivery", 3),
        flip("delivery", 5, byte=50),
        misroute("delivery", 7, "other"),
        swap("delivery", 9),
        repeat("delivery", 12),
        forge("delivery", 14, body, properties),
    ]
    assert consume_through(by_hand, *plan, expected=COUNT - 1) == plan
    names = ("lost", "corrupted", "misrouted", "reordered", "duplicate", "phantom")
    assert by_hand.found() == dict.fromkeys(names, 1)


# --- publishes and confirms ---------------------------------------------------------------------


def test_a_dropped_publish_is_lost_although_confirmed(by_hand):
    plan = [drop("publish", 3), drop("publish", COUNT)]
    assert publish_through(by_hand, *plan, expected=COUNT - 2) == plan
    assert (states(by_hand) == SENT | CONFIRMED).all()
    assert by_hand.found() == {"lost": 2}
    assert "1 in the middle, 1 at the end" in str(by_hand.judge())


@pytest.mark.parametrize("window", [1, 7])
@classic
def test_confirms_are_renumbered_for_any_window(by_hand, window, request):
    if window > 1:
        request.getfixturevalue("patient")
    plan = [drop("publish", 3), repeat("publish", 9), drop("publish", 20), swap("publish", 30)]
    done = publish_through(by_hand, *plan, window=window, expected=COUNT - 2)
    assert (states(by_hand) == SENT | CONFIRMED).all()
    # With a window of one no next publish comes before the confirm: nothing changes places.
    assert done == (plan if window > 1 else plan[:3])
    found = {"lost": 2, "duplicate": 1, "reordered": 1}
    if window == 1:
        del found["reordered"]
    assert by_hand.found() == found


@classic
def test_a_repeated_publish_is_a_duplicate(by_hand):
    plan = [repeat("publish", 3)]
    assert publish_through(by_hand, *plan, expected=None) == plan
    assert by_hand.found() == {"duplicate": 1}


@pytest.mark.usefixtures("patient")
@classic
def test_swapped_publishes_are_reordered(by_hand):
    plan = [swap("publish", 3)]
    assert publish_through(by_hand, *plan) == plan
    assert by_hand.found() == {"reordered": 1}


@classic
def test_a_flipped_byte_of_a_publish_is_corrupted(by_hand):
    plan = [flip("publish", 5, byte=50)]
    assert publish_through(by_hand, *plan) == plan
    assert by_hand.found() == {"corrupted": 1}


@classic
def test_a_forged_publish_is_a_phantom(by_hand):
    message = (7, 1, NOW)
    body, properties = by_hand.recipe.body(*message), by_hand.recipe.properties(*message)
    plan = [forge("publish", 5, body, properties)]
    assert publish_through(by_hand, *plan) == plan
    assert (states(by_hand) == SENT | CONFIRMED).all()
    assert by_hand.found() == {"phantom": 1}


@classic
def test_a_misrouted_publish_is_returned(by_hand):
    plan = [misroute("publish", 5, routing_key="nowhere")]
    assert publish_through(by_hand, *plan, expected=COUNT - 1) == plan
    assert by_hand.found() == {"returned": 1}


@classic
def test_a_delayed_publish_is_nothing_but_late(by_hand):
    started = time.monotonic()
    plan = [delay("publish", 5, 0.7)]
    assert publish_through(by_hand, *plan) == plan
    assert time.monotonic() - started >= 0.7
    assert by_hand.found() == {}


@classic
def test_a_dropped_confirm_leaves_its_publish_indeterminate(by_hand):
    with Proxy(by_hand.place.endpoint, [drop("confirm", 10)]) as proxy:
        report = by_hand.publish(endpoint=proxy.endpoint, stall_s=6)
    by_hand.consume(expected=COUNT)
    assert "and none came" in report.error
    assert len(proxy.applied) == 1
    assert by_hand.found() == {"indeterminate": 1, "survived": 1}


@classic
def test_a_repeated_confirm_is_contradicted(by_hand):
    plan = [repeat("confirm", 10)]
    assert publish_through(by_hand, *plan) == plan
    assert (states(by_hand) == SENT | CONFIRMED).all()
    assert by_hand.found() == {"contradicted": 1}
    assert "first confirmed, then confirmed" in str(by_hand.judge())


@pytest.mark.parametrize("kind", [swap, lambda *which: delay(*which, 0.3)])
@pytest.mark.usefixtures("patient")
@classic
def test_confirms_in_another_order_are_no_finding(by_hand, kind):
    plan = [kind("confirm", 10)]
    assert publish_through(by_hand, *plan) == plan
    assert (states(by_hand) == SENT | CONFIRMED).all()
    assert by_hand.found() == {}


@pytest.mark.parametrize("arguments", [{"x-max-length": 20, "x-overflow": "reject-publish"}])
@classic
def test_nacks_are_renumbered_too(by_hand):
    publish_through(by_hand, drop("publish", 3), window=1, expected=20)
    assert (states(by_hand)[:21] == SENT | CONFIRMED).all()
    assert (states(by_hand)[21:] == SENT | NACKED).all()
    assert by_hand.found() == {"lost": 1, "nacked": COUNT - 21}


# --- what only a relay of frames can do ----------------------------------------------------------


@classic
def test_a_publish_that_is_acked_and_then_nacked_is_contradicted(by_hand):
    with Relay(by_hand.place.endpoint, method=nacked_after(1)) as relay:
        assert by_hand.publish(endpoint=relay.endpoint, window=1).error is None
    by_hand.consume(expected=COUNT)
    assert by_hand.found() == {"contradicted": 1}
    assert "first confirmed, then refused" in str(by_hand.judge())


@classic
def test_deliveries_that_come_twice_with_one_tag_and_the_flag_are_repeated(by_hand):
    by_hand.publish()
    with Relay(by_hand.place.endpoint, delivery=flagged_copy) as relay:
        report = by_hand.consume(endpoint=relay.endpoint, expected=None, idle_s=1)
    assert report.error is None
    found = by_hand.found()
    assert found.pop("redelivered") == COUNT, "which they are, too"
    assert found == {"repeated": COUNT}


@classic
def test_one_bit_of_the_send_time_is_corrupted_though_the_checksum_is_right(by_hand):
    def later(body):
        sent = by_hand.recipe.read_head(body)
        head = by_hand.recipe.head(sent.producer, sent.sequence, sent.sent_ns ^ 1)
        return head + body[len(head) :]

    by_hand.publish()
    with Relay(by_hand.place.endpoint, delivery=body_changed(later, 7)) as relay:
        by_hand.consume(endpoint=relay.endpoint, expected=COUNT)
    assert by_hand.found() == {"corrupted": 1}
    assert "the send time in the head of the body" in str(by_hand.judge())
    assert "sequence 6," in str(by_hand.judge())


@classic
def test_a_header_that_nobody_knows_is_corrupted_and_named(by_hand):
    by_hand.publish()
    with Relay(by_hand.place.endpoint, delivery=header_added("x-new", "y")) as relay:
        by_hand.consume(endpoint=relay.endpoint, expected=COUNT)
    assert by_hand.found() == {"corrupted": COUNT}
    assert "the header 'x-new' was added" in str(by_hand.judge())


@pytest.mark.parametrize("name", ["timestamp_in_ms", "x-routed-by"])
@classic
def test_a_header_that_rabbitmq_adds_is_no_finding_and_is_told(by_hand, name):
    by_hand.publish()
    with Relay(by_hand.place.endpoint, delivery=header_added(name, 5)) as relay:
        by_hand.consume(endpoint=relay.endpoint, expected=COUNT)
    assert by_hand.found() == {}
    directory, _ = by_hand.reports[-1]
    entries = read_journal(directory / JOURNAL_FILE)
    assert [each.names for each in entries if isinstance(each, HeadersAdded)] == [[name]]
