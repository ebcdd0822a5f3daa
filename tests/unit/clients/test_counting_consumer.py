"""Consumers never take more than is wanted, and count each message once, for its sender."""

import sys
import threading
import uuid
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pika
import pytest

from rmqbench.amqp.shape import Deliveries
from rmqbench.clients.consumer import Subscription, Taken
from rmqbench.clients.counting_consumer import NOBODY, OTHERS, CountingConsumer, Tally
from rmqbench.endpoint import Endpoint
from rmqbench.errors import ConnectionLost
from rmqbench.message import Recipe

RECIPE = Recipe(uuid.UUID(int=1), producer_id="me")
LOOK = None  # what a consumer sees of its queue: it doesn't look
THREADS = 4


def consumer_of(tally, show=None):
    return CountingConsumer(Subscription(Endpoint(), "work.queue", "name", "tag"), tally, show)


def properties(sender="me"):
    return pika.BasicProperties(headers={"producer_id": sender})


def take(consumer, *senders):
    """Give the places of those that were taken; the others were held."""
    outcomes = [consumer.take(None, properties(sender), b"text") for sender in senders]
    return [each.places for each in outcomes if each is not None]


def take_many(consumer, count, recipe=RECIPE):
    zeros = np.zeros(count, np.int64)
    deliveries = Deliveries(1, zeros + 1, zeros > 0, zeros, zeros, zeros, zeros, recipe)
    taken, places = consumer.take_many(deliveries)
    assert taken == len(places)
    return places


def acknowledge(consumer, *places):
    for each in places:
        consumer.acknowledge(each)


def goes_on(consumer):
    return consumer._go_on(LOOK)


# --- no more than are wanted ---------------------------------------------------------------------


def test_one_taker_never_takes_more_than_the_limit():
    tally = Tally(10)
    consumer = consumer_of(tally)
    consumer.begin()
    many = take_many(consumer, 7)
    assert len(many) == 7
    assert goes_on(consumer)
    single = take(consumer, "me", "me")
    assert len(single) == 2
    last = take_many(consumer, 7)
    assert len(last) == 1
    assert tally.full
    assert not goes_on(consumer)
    assert len(take_many(consumer, 3)) == 0
    assert consumer.take(None, properties(), b"") is None
    acknowledge(consumer, many, *single, last)
    assert len(take_many(consumer, 3)) == 0
    assert tally.acknowledged == 10
    assert tally.senders == {"me": 10}


def test_several_takers_together_never_take_more_than_the_limit():
    tally = Tally(10)
    one, other = consumer_of(tally), consumer_of(tally)
    first = take_many(one, 6)
    assert goes_on(other)
    second = take_many(other, 6)
    assert len(second) == 4
    assert take(one, "me") == []
    assert not goes_on(one)
    acknowledge(one, first)
    acknowledge(other, second)
    assert len(take_many(consumer_of(tally), 1)) == 0
    assert tally.acknowledged == 10


def test_without_a_limit_all_are_taken():
    tally = Tally()
    consumer = consumer_of(tally)
    for _ in range(3):
        acknowledge(consumer, take_many(consumer, 100_000))
    assert tally.acknowledged == 300_000
    assert not tally.full
    assert goes_on(consumer)


@pytest.fixture
def hasty_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work):
    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.usefixtures("hasty_threads")
def test_takers_in_several_threads_take_exactly_the_limit():
    """Each loses its connection now and then, and takes again what others have not taken."""
    limit = 5_000
    tally = Tally(limit)
    done = []

    def work(number):
        consumer, acknowledged = consumer_of(tally), 0
        recipe = Recipe(uuid.UUID(int=1), producer_id=f"sender-{number}")
        consumer.begin()
        turn = 0
        while tally.acknowledged != limit:
            turn += 1
            places = take_many(consumer, 1 + turn % 7, recipe)
            if turn % 5 == 0:
                consumer.begin()
                continue
            acknowledge(consumer, places)
            acknowledged += len(places)
        done.append((f"sender-{number}", acknowledged))

    in_threads(work)
    assert len(done) == THREADS
    assert tally.acknowledged == limit
    assert tally.senders == Counter(dict(done))
    assert tally.claim(1) == 0


@pytest.mark.usefixtures("hasty_threads")
def test_a_tally_loses_nothing_between_threads():
    tally = Tally(10**9)

    def work(number):
        for _ in range(2_000):
            assert tally.claim(3) == 3
            tally.give_back(1)
            tally.acknowledge(Counter({"all": 1, f"sender-{number}": 1}))

    in_threads(work)
    assert tally.acknowledged == 4_000 * THREADS
    assert tally.senders["all"] == 2_000 * THREADS
    assert all(tally.senders[f"sender-{n}"] == 2_000 for n in range(THREADS))
    assert tally.claim(10**9) == 10**9 - tally.acknowledged


# --- what comes again ----------------------------------------------------------------------------


def test_what_was_not_acknowledged_is_given_back_and_counted_once_in_the_end():
    tally = Tally(10)
    consumer = consumer_of(tally)
    consumer.begin()
    take_many(consumer, 4)
    take(consumer, "me", "you")
    consumer.begin()
    assert tally.acknowledged == 0
    assert tally.claim(11) == 10, "all were given back"
    tally.give_back(10)
    consumer.begin()
    assert tally.claim(11) == 10, "and only once"
    tally.give_back(10)
    acknowledge(consumer, take_many(consumer, 4), *take(consumer, "me", "you"))
    assert tally.senders == {"me": 5, "you": 1}
    assert len(take_many(consumer, 10)) == 4


def test_what_was_acknowledged_is_not_given_back():
    tally = Tally(10)
    consumer = consumer_of(tally)
    acknowledge(consumer, take_many(consumer, 4))
    take(consumer, "me")
    consumer.begin()
    assert tally.acknowledged == 4
    assert len(take_many(consumer, 10)) == 6


def test_a_taker_that_holds_something_ends_and_goes_on_only_on_a_new_channel():
    """What it holds is never delivered to it again, though others may have given back theirs."""
    tally = Tally(5)
    one, other = consumer_of(tally), consumer_of(tally)
    take_many(one, 5)
    assert take(other, "me") == []
    one.begin()
    assert not tally.full
    assert not goes_on(other)
    other.begin()
    assert goes_on(other)
    assert len(take_many(other, 6)) == 5
    assert not goes_on(other)


def test_a_taker_that_is_given_up_leaves_what_it_has_taken_to_others(monkeypatch):
    tally = Tally(10)
    consumer = consumer_of(tally)
    error = ConnectionLost("The connection ended.")

    def run(go_on):
        consumer.begin()
        assert go_on(LOOK)
        take_many(consumer, 10)
        assert not go_on(LOOK)
        return error

    monkeypatch.setattr(consumer, "_consumer", SimpleNamespace(run=run))
    assert consumer.run() is error
    other = consumer_of(tally)
    assert goes_on(other)
    assert len(take_many(other, 11)) == 10


# --- senders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [None, {}, {"host": "here"}, *({"producer_id": each} for each in (None, 5, b"me", ["me"], {}))],
)
def test_without_a_name_it_is_nobody_s_message(headers):
    tally = Tally()
    consumer = consumer_of(tally)
    taken = consumer.take(None, pika.BasicProperties(headers=headers), b"text")
    assert isinstance(taken, Taken)
    assert taken.recipe is None
    consumer.acknowledge(taken.places)
    assert tally.senders == {NOBODY: 1}


def test_senders_are_counted_when_acknowledged_over_all_takers():
    tally = Tally()
    one, other = consumer_of(tally), consumer_of(tally)
    acknowledge(one, *take(one, "a", "b", "a"))
    acknowledge(other, *take(other, "b", "c"), take_many(other, 10))
    take(one, "never acknowledged")
    assert tally.senders == {"a": 2, "b": 2, "c": 1, "me": 10}
    assert tally.acknowledged == 15


def test_senders_behind_the_first_thousand_are_counted_together():
    tally = Tally()
    consumer = consumer_of(tally)
    acknowledge(consumer, *take(consumer, *(f"sender-{n}" for n in range(1_500))))
    acknowledge(
        consumer, take_many(consumer, 100), *take(consumer, "sender-7", "sender-1400", None)
    )
    assert len(tally.senders) == 1_001
    assert tally.senders[OTHERS] == 500 + 100 + 2
    assert tally.senders["sender-7"] == 2
    assert tally.acknowledged == 1_603


# --- stopping, showing, learning -----------------------------------------------------------------


def test_a_taker_that_was_stopped_takes_nothing_more():
    tally = Tally()
    consumer = consumer_of(tally)
    places = take_many(consumer, 3)
    assert goes_on(consumer)
    consumer.stop()
    assert not goes_on(consumer)
    assert len(take_many(consumer, 3)) == 0
    assert take(consumer, "me") == []
    acknowledge(consumer, places)
    assert tally.acknowledged == 3
    consumer.begin()
    assert not goes_on(consumer), "not even on a new channel"


def test_each_message_is_shown_before_its_acknowledgement_and_none_is_learned_from():
    shown = []
    tally = Tally(2)

    def show(method, properties, body):
        shown.append((method, properties.headers["producer_id"], body, tally.acknowledged))

    consumer = consumer_of(tally, show)
    sent = RECIPE.properties(0, 1, 2), RECIPE.body(0, 1, 2)
    for number in range(3):
        taken = consumer.take(f"method {number}", *sent)
        if isinstance(taken, Taken):
            assert taken.recipe is None
            consumer.acknowledge(taken.places)
    assert shown == [("method 0", "me", sent[1], 0), ("method 1", "me", sent[1], 1)]


def test_without_showing_a_message_of_a_run_is_learned_from():
    taken = consumer_of(Tally()).take(None, RECIPE.properties(0, 1, 2), RECIPE.body(0, 1, 2))
    assert isinstance(taken, Taken)
    assert taken.recipe == RECIPE


def test_what_could_not_be_shown_is_given_back():
    def show(*_):
        raise BrokenPipeError

    tally = Tally(1)
    consumer = consumer_of(tally, show)
    with pytest.raises(BrokenPipeError):
        take(consumer, "me")
    consumer.begin()
    assert tally.claim(1) == 1
