from __future__ import annotations

import contextlib
import pickle
import warnings
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rmqbench.amqp import topology
from rmqbench.amqp.dead_letters import origins
from rmqbench.amqp.idle import in_use
from rmqbench.amqp.topology import (
    Binding,
    Exchange,
    Queue,
    QueueKind,
    Topology,
    arguments,
)
from rmqbench.broker import Broker
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, UsageError
from rmqbench.runner.isolation import _clean_up


def test_the_default_topology_copies_every_message_to_work_and_audit() -> None:
    topology = Topology()
    assert (topology.exchange, topology.routing_key) == ("direct.exchange", "work")
    assert topology.queue_names == ("work.queue", "audit.queue")
    assert all(queue.durable and queue.kind == "classic" for queue in topology.queues)


@pytest.mark.parametrize("version", ["3.10.8", "3.12.0", "4.3.6"])
def test_a_classic_queue_says_that_it_is_one(version: str) -> None:
    assert arguments(Queue("q"), version) == ({"x-queue-type": "classic"}, None)


@pytest.mark.parametrize("version", ["3.10.8", "4.3.6"])
def test_a_quorum_queue_says_that_it_is_one(version: str) -> None:
    assert arguments(Queue("q", "quorum"), version) == ({"x-queue-type": "quorum"}, None)


@pytest.mark.parametrize("version", ["3.10.8", "3.9", "3.11.28", "unknown", ""])
def test_lazy_is_sent_where_it_may_have_an_effect(version: str) -> None:
    sent, note = arguments(Queue("q", "lazy"), version)
    assert sent == {"x-queue-type": "classic", "x-queue-mode": "lazy"}
    assert note is None


@pytest.mark.parametrize("version", ["3.12.0", "3.13.7", "4.0.5", "4.3.6", "10.1.0-rc.1"])
def test_lazy_is_told_to_have_no_effect_on_later_brokers(version: str) -> None:
    sent, note = arguments(Queue("q", "lazy"), version)
    assert sent == {"x-queue-type": "classic"}
    assert note is not None
    assert version in note
    assert "declared as plain ones" in note


def test_arguments_of_ones_own_are_sent_as_well() -> None:
    queue = Queue("q", arguments={"x-max-length": 3, "x-queue-mode": "lazy"})
    assert arguments(queue, "4.3.6")[0] == {
        "x-queue-type": "classic",
        "x-max-length": 3,
        "x-queue-mode": "lazy",
    }


def test_a_queue_does_not_change_with_the_mapping_it_was_made_from() -> None:
    given = {"x-max-length": 3}
    queue = Queue("q", arguments=given)
    given["x-max-length"] = 4
    assert queue.arguments == {"x-max-length": 3}


def test_a_topology_can_be_hashed_and_sent_to_another_process() -> None:
    topology = Topology(queues=(Queue("q", arguments={"x-max-length": 3}),))
    assert {topology: 1}[pickle.loads(pickle.dumps(topology))] == 1


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"name": ""}, "no name for a queue"),
        ({"name": "ü" * 128}, "no name for a queue"),
        ({"name": "\udcff"}, "no name for a queue"),
        ({"name": "amq.q"}, "keeps the name 'amq.q' for itself"),
        ({"name": "q", "kind": "stream"}, "not a kind of queue"),
        ({"name": "q", "kind": "quorum", "durable": False}, "cannot be a quorum queue"),
        ({"name": "q", "arguments": {"x-queue-type": "quorum"}}, "x-queue-type"),
    ],
)
def test_a_queue_that_no_broker_takes_is_refused(wish: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Queue(**wish)


def test_a_name_of_255_bytes_is_taken() -> None:
    assert Queue("q" * 255).name == "q" * 255


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"exchange": ""}, "no name for an exchange"),
        ({"queues": ()}, "without a queue"),
        ({"queues": (Queue("q"), Queue("q", "lazy"))}, "names one queue twice"),
        ({"exchanges": (Exchange("x"), Exchange("x", "topic"))}, "names one exchange twice"),
        (
            {"exchanges": (Exchange("x", bindings=(Binding("y"),)),)},
            "Exchange 'x' is bound to the exchange 'y', which its topology does not have",
        ),
        (
            {"exchanges": (Exchange("x", alternate="y"),)},
            "Exchange 'x' has as its alternate the exchange 'y', which",
        ),
        (
            {"queues": (Queue("q", bindings=(Binding("dead"),)),)},
            "bound to the exchange 'dead', which its topology does not have",
        ),
    ],
)
def test_a_topology_that_makes_no_sense_is_refused(wish: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Topology(**wish)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"name": ""}, "no name for an exchange"),
        ({"name": "amq.own"}, "keeps the name"),
        ({"name": "x", "type": "x-delayed-message"}, "is not a type of exchange"),
    ],
)
def test_an_exchange_that_no_broker_takes_is_refused(wish: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Exchange(**wish)


def test_under_other_names_all_leads_where_it_led() -> None:
    there = Topology(
        "main",
        "work",
        (
            Queue("a", arguments={"x-dead-letter-exchange": "dead", "x-max-length": 3}),
            Queue("b", bindings=(Binding("dead", "work"),)),
            Queue(
                "c",
                arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"},
            ),
            Queue("d", arguments={"x-dead-letter-exchange": "away"}),
        ),
        (Exchange("dead", "direct"),),
    )
    renamed = there.renamed(lambda name: f"{name}.run")
    a, b, c, d = renamed.queues
    assert (renamed.exchange, renamed.routing_key) == ("main.run", "work")
    assert renamed.exchanges == (Exchange("dead.run", "direct"),)
    assert a == Queue("a.run", arguments={"x-dead-letter-exchange": "dead.run", "x-max-length": 3})
    assert b.bindings == (Binding("dead.run", "work"),)
    assert c.arguments["x-dead-letter-routing-key"] == "b.run"
    assert d.arguments == {"x-dead-letter-exchange": "away"}
    before, after = origins(there), origins(renamed)
    assert {f"{name}.run" for name in before} == after.keys()
    assert [each.queue for each in after["b.run"]] == ["a.run", "c.run"]


def test_a_built_in_exchange_can_be_used() -> None:
    assert Topology(exchange="amq.direct").exchange == "amq.direct"


def test_what_is_left_behind_is_said_and_never_raised(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where every warning is an error: it must not hide how the run went."""

    def delete() -> None:
        raise BrokerError("The broker is gone.")

    somebodys = SimpleNamespace(owned=False, endpoint=Endpoint())
    with pytest.warns(UserWarning, match="queue 'q' is left behind"):
        _clean_up(cast(Broker, somebodys), "queue 'q'", delete)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _clean_up(cast(Broker, somebodys), "queue 'q'", delete)
    assert "queue 'q' is left behind" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("while_interrupted", [False, True])
def test_a_second_interrupt_ends_the_deletion_and_what_is_left_behind_is_said(
    kind: type[BaseException], while_interrupted: bool
) -> None:
    """The first one is what ended the run, or comes in the middle of it."""
    tried: list[int] = []

    def delete() -> None:
        tried.append(1)
        raise kind

    def run() -> None:
        with contextlib.ExitStack() as stack:
            somebodys = cast(Broker, SimpleNamespace(owned=False, endpoint=Endpoint()))
            stack.callback(_clean_up, somebodys, "v", delete)
            if while_interrupted:
                raise kind

    left = pytest.warns(UserWarning, match="v is left behind at .*: interrupted a second time")
    with left, pytest.raises(kind):
        run()
    assert len(tried) == (1 if while_interrupted else 2)


def test_an_interrupt_in_the_middle_of_the_deletion_does_not_end_it() -> None:
    tried: list[int] = []

    def delete() -> None:
        tried.append(1)
        if len(tried) == 1:
            raise KeyboardInterrupt

    somebodys = cast(Broker, SimpleNamespace(owned=False, endpoint=Endpoint()))
    with pytest.raises(KeyboardInterrupt):
        _clean_up(somebodys, "virtual host 'v'", delete)
    assert len(tried) == 2


@pytest.mark.parametrize(
    ("ready", "consumers", "words"),
    [
        (1, 0, "holds 1 message"),
        (1200, 0, "holds 1,200 messages"),
        (0, 1, "has 1 consumer"),
        (2, 2, "holds 2 messages and has 2 consumers"),
        (0, 0, "is in use"),  # what kept it was gone before it could be counted
    ],
)
def test_why_a_queue_is_not_idle_is_said_in_words(ready: int, consumers: int, words: str) -> None:
    assert in_use(ready, consumers) == words


@pytest.mark.parametrize(
    ("kind", "queue_type"), [("classic", "classic"), ("lazy", "classic"), ("quorum", "quorum")]
)
def test_a_kind_has_the_brokers_type(kind: QueueKind, queue_type: str) -> None:
    assert Queue("q", kind).type == queue_type


def test_what_is_done_to_a_thousand_queues_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    limits_s: list[float] = []

    @contextlib.contextmanager
    def admin(_: Endpoint, *, timeout_s: float) -> Any:
        limits_s.append(timeout_s)
        raise BrokerError("that is all", "")
        yield

    monkeypatch.setattr(topology, "admin", admin)
    many = Topology(queues=tuple(Queue(f"queue.{number}") for number in range(1000)))
    made = topology.Declared(many, True, many.queue_names)
    for act in (
        lambda: topology.declare(Endpoint(), many, "3.10.8"),
        lambda: topology.delete(Endpoint(), made),
        lambda: topology.ready_counts(Endpoint(), iter(many.queue_names)),
        lambda: topology.require_free(Endpoint(), iter(many.queue_names)),
    ):
        with pytest.raises(BrokerError):
            act()
    assert limits_s == [100.0] * 4
