"""Which queue gets whose dead letters, as RabbitMQ routes them."""

import random
import re

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.topologies import HEADERS, KEYS, topology_of

from rmqbench.amqp.dead_letters import Death, Origin, deaths_of, delays_of, origins
from rmqbench.amqp.routing import routes
from rmqbench.amqp.topology import Binding, Exchange, Queue, Topology

DLX = "x-dead-letter-exchange"
KEY = "x-dead-letter-routing-key"


def topology(*queues, exchanges=()):
    return Topology("main", "work", queues, exchanges)


def test_what_is_published_reaches_the_queues_that_are_bound_to_it():
    there = topology(
        Queue("all"),
        Queue("other key", bindings=(Binding("main", "other"),)),
        Queue("nothing", bindings=()),
    )
    assert routes(there, "main", "work") == ("all",)
    assert routes(there, "main", "other") == ("other key",)
    assert routes(there, "unknown", "work") == ()


def test_the_default_exchange_routes_by_the_name_of_a_queue():
    assert routes(topology(Queue("a"), Queue("b")), "", "b") == ("b",)


def test_a_fanout_exchange_routes_to_all_that_are_bound_to_it_once():
    twice = Queue("twice", bindings=(Binding("out", "1"), Binding("out", "2")))
    there = topology(Queue("all"), twice, exchanges=(Exchange("out", "fanout"),))
    assert routes(there, "out", "any") == ("twice",)


def test_an_exchange_that_is_bound_to_another_gets_what_that_routes_to_it():
    there = topology(
        Queue("near"),
        Queue("far", bindings=(Binding("third"),)),
        Queue("beside", bindings=(Binding("third"), Binding("main", "work"))),
        exchanges=(
            Exchange("second", "direct", (Binding("main", "work"), Binding("third"))),
            Exchange("third", "fanout", (Binding("second", "work"),)),  # and round again
        ),
    )
    assert routes(there, "main", "work") == ("near", "far", "beside")
    assert routes(there, "main", "other") == ()
    assert routes(there, "second", "work") == ("far", "beside")


def test_what_an_exchange_can_route_nowhere_goes_to_its_alternate():
    there = topology(
        Queue("bound"),
        Queue("unrouted", bindings=(Binding("second"),)),
        exchanges=(Exchange("main", "direct", alternate="second"), Exchange("second")),
    )
    assert routes(there, "main", "work") == ("bound",)
    assert routes(there, "main", "other") == ("unrouted",)


def test_an_exchange_that_leads_nowhere_is_a_way_all_the_same():
    there = topology(
        Queue("unrouted", bindings=(Binding("last"),)),
        exchanges=(
            Exchange("main", "direct", alternate="last"),
            Exchange("dead end", "fanout", (Binding("main", "other"),)),
            Exchange("last"),
        ),
    )
    assert routes(there, "main", "other") == ()
    assert routes(there, "main", "third") == ("unrouted",)


@pytest.mark.parametrize(
    ("arguments", "matches"),
    [
        ({}, True),
        ({"host": "here"}, True),
        ({"host": "there"}, False),
        ({"host": None}, True),
        ({"colour": None}, False),
        ({"host": "here", "colour": "red"}, False),
        ({"x-match": "any", "host": "here", "colour": "red"}, True),
        ({"x-match": "any"}, False),
        ({"host": "here", "x-colour": "red"}, True),
        ({"x-match": "all-with-x", "host": "here", "x-colour": "red"}, False),
        ({"x-match": "any-with-x", "host": "here", "x-colour": "red"}, True),
    ],
)
def test_an_exchange_of_headers_looks_at_those_of_each_message(arguments, matches):
    queue = Queue("q", bindings=(Binding("headers", "ignored", arguments),))
    there = Topology(
        "headers", "any", (queue,), (Exchange("headers", "headers"),), headers={"host": "here"}
    )
    assert routes(there, "headers", "any") == (("q",) if matches else ())


SECOND_ALTERNATE = Topology(
    "main",
    "work",
    (Queue("near", bindings=(Binding("main"),)), Queue("unrouted", bindings=(Binding("last"),))),
    (
        Exchange("main"),
        Exchange("dead end", bindings=(Binding("main"),), alternate="last"),
        Exchange("last"),
    ),
)


def test_each_exchange_on_the_way_has_its_alternate():
    assert routes(SECOND_ALTERNATE, "main", "work") == ("near", "unrouted")


@pytest.mark.parametrize(
    "there", [SECOND_ALTERNATE, *(topology_of(random.Random(seed)) for seed in range(300))]
)
def test_the_model_of_a_broker_routes_alike(there):
    pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
    from rmqbench.simulation.content import Content, encoded  # noqa: PLC0415
    from rmqbench.simulation.exchanges import Binding as Bound  # noqa: PLC0415
    from rmqbench.simulation.exchanges import Exchange as Modelled  # noqa: PLC0415
    from rmqbench.simulation.virtual_host import VirtualHost  # noqa: PLC0415

    host = VirtualHost(None, "/")
    for each in there.exchanges:
        host.exchanges[each.name] = Modelled(each.name, each.type, arguments=each.arguments)
    for is_exchange, those in ((False, there.queues), (True, there.exchanges)):
        for each in those:
            host.queues.setdefault(each.name, each.name)
            for bound in each.bindings:
                way = tuple(bound.arguments.items())
                host.exchanges[bound.exchange].bind(
                    Bound(each.name, is_exchange, bound.routing_key, way)
                )
    content = Content(encoded(pika.BasicProperties(headers=HEADERS)), b"")
    for key in KEYS:
        assert set(host.route(there.exchange, key, content)) == {
            *routes(there, there.exchange, key)
        }


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a.*.c", ["a.b.c", "a..c"], ["a.c", "a.b.b.c", "a.b"]),
        ("a.#", ["a", "a.b", "a.b.c"], ["b.a", "ab"]),
        ("#.a", ["a", "b.a"], ["a.b"]),
        ("#", ["", "a", "a.b"], []),
        ("*", ["a"], ["", "a.b"]),
        ("*.*", ["a.", ".", "a.b"], ["a", ""]),
        ("", [""], ["a"]),
        ("a.#.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "b"]),
    ],
)
def test_a_topic_exchange_matches_words(pattern, matching, others):
    there = topology(
        Queue("q", bindings=(Binding("topics", pattern),)),
        Queue("all"),
        exchanges=(Exchange("topics", "topic"),),
    )
    assert all(routes(there, "topics", key) == ("q",) for key in matching)
    assert all(routes(there, "topics", key) == () for key in others)


@given(
    st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5),
)
def test_a_pattern_of_topics_is_that_regular_expression(pattern, words):
    """Each word with a dot behind it, so that any number of them may stand anywhere."""
    each = {"*": r"[^.]*\.", "#": r"(?:[^.]*\.)*"}
    expression = "".join(each.get(word, re.escape(word) + r"\.") for word in pattern)
    expected = re.fullmatch(expression, ".".join(words) + ".") is not None
    queue = Queue("q", bindings=(Binding("topics", ".".join(pattern)),))
    there = topology(queue, exchanges=(Exchange("topics", "topic"),))
    assert bool(routes(there, "topics", ".".join(words))) is expected


def test_each_queue_knows_whose_dead_letters_it_gets_and_how_they_come():
    there = topology(
        Queue("work", "quorum", arguments={DLX: "dead", "x-message-ttl": 5}),
        Queue("other", arguments={DLX: "", KEY: "parked", "x-max-length": 3}),
        Queue("parked", bindings=(Binding("dead", "work"),)),
        Queue("away", arguments={DLX: "not of this topology"}),
        exchanges=(Exchange("dead", "direct"),),
    )
    assert origins(there) == {
        "work": (),
        "other": (),
        "parked": (
            Origin("work", "dead", "work", frozenset({"rejected", "expired", "delivery_limit"})),
            Origin("other", "", "parked", frozenset({"rejected", "maxlen"})),
        ),
        "away": (),
    }
    limited = origins(there, may_be_limited=True)["parked"]
    assert all("maxlen" in each.reasons for each in limited)


def test_a_queue_may_get_its_own_dead_letters():
    own = Queue("work", arguments={DLX: "", KEY: "work"})
    (origin,) = origins(topology(own))["work"]
    assert (origin.queue, origin.exchange, origin.routing_key) == ("work", "", "work")


def test_dead_letters_may_wait_on_their_way():
    there = Topology(
        "main",
        "work",
        (
            Queue("work", arguments={DLX: "", KEY: "later"}),
            Queue("other", "quorum", arguments={DLX: "dead"}),
            Queue("parked", bindings=(Binding("parked", "work"),)),
        ),
        (Exchange("dead"), Exchange("parked", "direct")),
        delays=(
            Queue("later", arguments={DLX: "", KEY: "work", "x-message-ttl": 1}, bindings=()),
            Queue("on", arguments={DLX: "parked"}, bindings=(Binding("dead"),)),
        ),
    )
    found = origins(there)
    (again,), (parked,) = found["work"], found["parked"]
    assert again == Origin("work", "", "work", frozenset({"rejected"}), "later")
    reasons = frozenset({"rejected", "delivery_limit"})
    assert parked == Origin("other", "parked", "work", reasons, "on")
    assert found["other"] == ()
    assert [each.name for each in delays_of(there, there.queues[0])] == ["later"]
    assert [each.name for each in delays_of(there, there.queues[1])] == ["on"]
    assert delays_of(there, there.queues[2]) == ()

    renamed = origins(there.renamed(lambda name: name + "!"))
    assert renamed["work!"][0].delay == "later!"
    assert renamed["parked!"][0].exchange == "parked!"


@pytest.mark.parametrize(
    ("delay", "deaths", "is_one"),
    [
        ("", [("work", "rejected")], True),
        ("", [("work", "expired")], False),
        ("", [("other", "rejected"), ("work", "rejected")], False),
        ("later", [("later", "expired"), ("work", "rejected")], True),
        ("later", [("later", "expired"), ("later", "expired"), ("work", "rejected")], True),
        ("later", [("later", "maxlen"), ("work", "rejected")], False),
        ("later", [("later", "expired"), ("other", "rejected")], False),
        ("later", [("work", "rejected")], False),
        ("later", [("later", "expired")], False),
    ],
)
def test_by_its_deaths_it_is_known_where_a_message_came_from(delay, deaths, is_one):
    origin = Origin("work", "", "work", frozenset({"rejected"}), delay)
    assert origin.is_of([Death(*each) for each in deaths]) is is_one


def test_the_latest_death_stands_first():
    deaths = [{"queue": "b", "reason": "expired"}, {"queue": "a", "reason": "rejected"}]
    assert deaths_of({"x-death": deaths}) == [Death("b", "expired"), Death("a", "rejected")]
    last = {"x-last-death-queue": "c", "x-last-death-reason": "maxlen"}
    assert deaths_of({"x-death": deaths, **last})[0] == Death("c", "maxlen"), "it says so"


@pytest.mark.parametrize("headers", [None, {}, {"x-death": []}, {"x-death": "b"}, {"x-death": [7]}])
def test_what_tells_no_death_has_none(headers):
    assert deaths_of(headers) == []
