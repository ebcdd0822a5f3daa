"""What is to be deleted, chosen from given answers; and whose everything is not deleted lightly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from rmqbench.cleanup import Candidate, CleanupPlan, require_named, scope, unused
from rmqbench.endpoint import Endpoint
from rmqbench.errors import UsageError
from rmqbench.management.answers import BindingInfo, ExchangeInfo, PolicyInfo, QueueInfo

BUILT_IN = ("", "amq.direct", "amq.fanout", "amq.rabbitmq.trace")


def exchanges(*names: str, **alternates: str) -> list[ExchangeInfo]:
    """Return these and the built-in ones; ``alternates`` are alternate exchanges by name."""
    named = [ExchangeInfo(name, "fanout", alternate) for name, alternate in alternates.items()]
    return [ExchangeInfo(name) for name in (*BUILT_IN, *names)] + named


def names(found: Iterable[ExchangeInfo]) -> list[str]:
    return [each.name for each in found]


def test_an_exchange_without_a_binding_is_unused_and_built_in_ones_never_are() -> None:
    assert names(unused(exchanges("a", "b"), [], [], [])) == ["a", "b"]


def test_a_binding_from_it_or_to_it_is_a_use() -> None:
    bindings = [
        BindingInfo("a", "q", "queue"),
        BindingInfo("a", "b", "exchange"),
        BindingInfo("", "c", "queue"),
    ]
    assert names(unused(exchanges("a", "b", "c"), bindings, [], [])) == ["c"]


def test_a_queue_of_the_same_name_is_no_use() -> None:
    bindings = [BindingInfo("", "work", "queue")]
    assert names(unused(exchanges("work"), bindings, [], [])) == ["work"]


@pytest.mark.parametrize(
    ("queues", "policies"),
    [
        ([QueueInfo("q", dead_letter_exchanges=("dead",))], []),
        ([QueueInfo("q", dead_letter_exchanges=("other", "dead"))], []),
        ([], [PolicyInfo(dead_letter_exchange="dead")]),
        ([], [PolicyInfo(alternate_exchange="dead")]),
    ],
)
def test_where_dead_or_unrouted_messages_go_is_in_use(
    queues: list[QueueInfo], policies: list[PolicyInfo]
) -> None:
    assert names(unused(exchanges("dead", "b"), [], queues, policies)) == ["b"]


def test_the_alternate_exchange_of_another_one_is_in_use() -> None:
    assert names(unused(exchanges("other", main="other"), [], [], [])) == ["main"]


def test_what_the_broker_does_not_say_is_no_use() -> None:
    said_nothing = [BindingInfo()], [QueueInfo("q")], [PolicyInfo()]
    assert names(unused(exchanges("a"), *said_nothing)) == ["a"]


@pytest.mark.parametrize(
    ("found", "idle"),
    [
        (Candidate("queue", "q", "classic", 0, 0, 0), True),
        (Candidate("queue", "q", None, 0, None, 0), True),
        (Candidate("queue", "q", "classic", 1, 0, 0), False),
        (Candidate("queue", "q", "classic", 0, 1, 0), False),
        (Candidate("queue", "q", "quorum", 0, 0, 1), False),
        (Candidate("queue", "q", "stream", 0, 0, 0), False),
        (Candidate("exchange", "e", "direct"), True),
    ],
)
def test_idle_is_what_holds_nothing_and_serves_nobody(found: Candidate, idle: bool) -> None:
    assert found.is_idle is idle


def test_what_has_an_obstacle_is_kept() -> None:
    free, locked = Candidate("queue", "a"), Candidate("queue", "b", obstacle="it is locked")
    plan = CleanupPlan(Endpoint(), "all", (locked, free))
    assert (plan.to_delete, plan.to_keep) == ((free,), (locked,))


@pytest.mark.parametrize(
    ("words", "exact", "meant"),
    [
        (["all"], [], "all"),
        (["exchanges"], [], "exchanges"),
        (["a", "b"], ["c"], "queues"),
        ([], ["all"], "queues"),
        (["All"], [], "queues"),
        (["all,b"], [], "queues"),
    ],
)
def test_all_and_exchanges_are_told_from_names(
    words: list[str], exact: list[str], meant: str
) -> None:
    assert scope(words, exact) == meant


@pytest.mark.parametrize(
    ("words", "exact"), [(["all", "a"], []), (["all"], ["a"]), (["exchanges", "all"], [])]
)
def test_all_and_a_name_together_make_no_sense(words: list[str], exact: list[str]) -> None:
    with pytest.raises(UsageError, match=r"cannot be combined.*--queue (all|exchanges)"):
        scope(words, exact)


def test_nothing_named_is_not_everything() -> None:
    with pytest.raises(UsageError, match="What to delete is missing"):
        scope([])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_all_of_a_broker_on_this_machine_needs_no_name(host: str) -> None:
    require_named(Endpoint(host), "all", None)


@pytest.mark.parametrize(
    "host", ["rabbit.example", "10.0.0.1", "0.0.0.0", "localhost.example", "127.0.0.1.example"]
)
def test_all_of_a_broker_elsewhere_needs_its_host_once_more(host: str) -> None:
    with pytest.raises(UsageError, match=f"not on this machine.*--yes-really {host}"):
        require_named(Endpoint(host), "all", None)
    require_named(Endpoint(host), "all", host)
    require_named(Endpoint(host), "queues", None)
    require_named(Endpoint(host), "exchanges", None)


@pytest.mark.parametrize("wanted", ["all", "exchanges", "queues"])
@pytest.mark.parametrize("host", ["rabbit.example", "localhost"])
@pytest.mark.parametrize("name", ["rabbit", "rabbit.example.", "Rabbit.example", "rabbit.*", ""])
def test_a_host_that_is_not_exactly_the_brokers_is_refused(
    wanted: Any, host: str, name: str
) -> None:
    with pytest.raises(UsageError, match="nothing was deleted"):
        require_named(Endpoint(host), wanted, name)
