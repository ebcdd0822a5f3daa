from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pika
import pytest
from support.topologies import HEADERS, KEYS, topology_of

from rmqbench.amqp.admin import admin
from rmqbench.amqp.routing import routes
from rmqbench.amqp.topology import (
    Declared,
    Queue,
    QueueKind,
    Topology,
    counts,
    declare,
    delete,
    purge,
    ready_count,
    ready_counts,
    require_free,
)
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    BrokerUnavailable,
    ConnectionLost,
    DeadlineExceeded,
    QueueMismatch,
    QueueNotEmpty,
    QueueNotFound,
)
from rmqbench.waiting import wait_until

pytestmark = [pytest.mark.brokers, pytest.mark.quick]


@pytest.fixture
def names(rmqbench_broker: Any) -> Iterator[tuple[str, str, str]]:
    """An exchange and two queues that nobody else uses; gone at the end."""
    run = uuid.uuid4().hex[:12]
    exchange, work, audit = f"t.{run}.exchange", f"t.{run}.work", f"t.{run}.audit"
    yield exchange, work, audit
    with admin(rmqbench_broker.endpoint) as channel:
        channel.queue_delete(work)
        channel.queue_delete(audit)
        channel.exchange_delete(exchange)


def topology(names: tuple[str, str, str], kind: QueueKind = "classic") -> Topology:
    exchange, work, audit = names
    return Topology(exchange, "work", (Queue(work, kind), Queue(audit, kind)))


def publish(endpoint: Endpoint, exchange: str, routing_key: str, count: int = 1) -> None:
    with admin(endpoint) as channel:
        channel.confirm_delivery()
        for _ in range(count):
            channel.basic_publish(exchange, routing_key, b"x", mandatory=True)


def wait_for_counts(endpoint: Endpoint, expected: dict[str, int]) -> None:
    """A quorum queue confirms a little before it counts."""
    wait_until(lambda: ready_counts(endpoint, expected) == expected, 60.0, f"{expected}")


def exists(endpoint: Endpoint, queue: str) -> bool:
    try:
        ready_count(endpoint, queue)
    except QueueNotFound:
        return False
    return True


@pytest.mark.parametrize("kind", ["classic", "lazy", "quorum"])
def test_each_bound_queue_gets_a_copy_of_every_message(
    rmqbench_broker: Any, names: tuple[str, str, str], kind: QueueKind
) -> None:
    endpoint, (exchange, work, audit) = rmqbench_broker.endpoint, names
    declared = declare(endpoint, topology(names, kind), rmqbench_broker.version)
    assert declared.created_exchanges == (names[0],)
    assert declared.created_queues == (work, audit)
    publish(endpoint, exchange, "work", 3)
    wait_for_counts(endpoint, {work: 3, audit: 3})


@pytest.mark.parametrize("seed", range(12))
def test_a_message_is_in_those_queues_to_which_it_is_said_to_be_routed(
    rmqbench_broker: Any, seed: int
) -> None:
    """Of exchanges of all types, bound to each other, with alternates."""
    endpoint = rmqbench_broker.endpoint
    wanted = topology_of(random.Random(seed), f"t.{uuid.uuid4().hex[:12]}.")
    declared = declare(endpoint, wanted, rmqbench_broker.version)
    try:
        assert declared.created_exchanges == wanted.exchange_names
        expected = Counter[str]()
        with admin(endpoint) as channel:
            channel.confirm_delivery()
            for key in KEYS:
                channel.basic_publish(
                    wanted.exchange, key, b"x", pika.BasicProperties(headers=HEADERS)
                )
                expected.update(routes(wanted, wanted.exchange, key))
        wait_for_counts(endpoint, {name: expected[name] for name in wanted.queue_names})
    finally:
        delete(endpoint, declared)


@pytest.mark.parametrize("kind", ["classic", "lazy", "quorum"])
def test_declaring_again_makes_nothing_new(
    rmqbench_broker: Any, names: tuple[str, str, str], kind: QueueKind
) -> None:
    endpoint, version = rmqbench_broker.endpoint, rmqbench_broker.version
    first = declare(endpoint, topology(names, kind), version)
    assert declare(endpoint, topology(names, kind), version) == Declared(
        first.topology, (), (), first.notes
    )


def test_a_queue_declared_without_a_type_is_the_same_as_a_classic_one(
    rmqbench_broker: Any, names: tuple[str, str, str]
) -> None:
    endpoint = rmqbench_broker.endpoint
    with admin(endpoint) as channel:
        channel.queue_declare(names[1], durable=True)
    declared = declare(endpoint, topology(names), rmqbench_broker.version)
    assert declared.created_queues == (names[2],)


@pytest.mark.parametrize(
    ("asked", "argument"),
    [
        ({"kind": "quorum"}, "x-queue-type"),
        ({"durable": False}, "durable"),
        ({"arguments": {"x-queue-mode": "lazy"}}, "x-queue-mode"),
        ({"arguments": {"x-max-length": 5}}, "x-max-length"),
        ({"arguments": {"x-message-ttl": 5}}, "x-message-ttl"),
    ],
)
def test_a_mismatch_names_the_argument_and_makes_nothing(
    rmqbench_broker: Any, names: tuple[str, str, str], asked: dict[str, Any], argument: str
) -> None:
    endpoint, (exchange, work, audit) = rmqbench_broker.endpoint, names
    with admin(endpoint) as channel:
        channel.queue_declare(audit, durable=True)
    wanted = Topology(exchange, "work", (Queue(work), Queue(audit, **asked)))
    with pytest.raises(
        QueueMismatch, match=f"another {argument}: it has .*, and .* was requested"
    ) as e:
        declare(endpoint, wanted, rmqbench_broker.version)
    assert repr(audit) in str(e.value)
    assert not exists(endpoint, work)
    with pytest.raises(QueueNotFound), admin(endpoint) as channel:
        channel.exchange_declare(exchange, passive=True)


def test_a_mismatch_tells_both_values(rmqbench_broker: Any, names: tuple[str, str, str]) -> None:
    endpoint, (exchange, work, _) = rmqbench_broker.endpoint, names
    limited = Queue(work, arguments={"x-max-length": 10})
    declare(endpoint, Topology(exchange, queues=(limited,)), rmqbench_broker.version)
    other = replace(limited, arguments={"x-max-length": 11})
    with pytest.raises(QueueMismatch, match="it has '10', and '11' was requested"):
        declare(endpoint, Topology(exchange, queues=(other,)), rmqbench_broker.version)
    with pytest.raises(QueueMismatch, match="it has '10', and none was requested"):
        declare(endpoint, Topology(exchange, queues=(Queue(work),)), rmqbench_broker.version)


def test_an_exchange_of_another_type_is_a_mismatch(
    rmqbench_broker: Any, names: tuple[str, str, str]
) -> None:
    endpoint = rmqbench_broker.endpoint
    with admin(endpoint) as channel:
        channel.exchange_declare(names[0], "topic", durable=True)
    with pytest.raises(
        QueueMismatch, match=r"another type: it has 'topic', and 'direct' was requested"
    ):
        declare(endpoint, topology(names), rmqbench_broker.version)


def test_what_was_made_is_removed_when_a_later_step_fails(
    rmqbench_broker: Any, names: tuple[str, str, str]
) -> None:
    endpoint, (exchange, work, audit) = rmqbench_broker.endpoint, names
    refused = Queue(audit, arguments={"x-max-length": "many"})
    with pytest.raises(BrokerError, match="x-max-length"):
        declare(endpoint, Topology(exchange, "work", (Queue(work), refused)), "4.3.6")
    assert not exists(endpoint, work)


def test_only_what_was_made_is_deleted(rmqbench_broker: Any, names: tuple[str, str, str]) -> None:
    endpoint, (exchange, work, audit) = rmqbench_broker.endpoint, names
    with admin(endpoint) as channel:
        channel.queue_declare(work, durable=True)
    declared = declare(endpoint, topology(names), rmqbench_broker.version)
    assert delete(endpoint, declared) == (audit, exchange)
    assert exists(endpoint, work)
    assert not exists(endpoint, audit)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_if_empty_keeps_a_queue_with_messages_and_its_exchange(
    rmqbench_broker: Any, names: tuple[str, str, str], kind: QueueKind
) -> None:
    endpoint, (exchange, work, audit) = rmqbench_broker.endpoint, names
    declared = declare(endpoint, topology(names, kind), rmqbench_broker.version)
    publish(endpoint, "", work, 2)
    wait_for_counts(endpoint, {work: 2})
    with pytest.raises(QueueNotEmpty, match=f"^Queue '{work}'.* holds 2 messages"):
        delete(endpoint, declared, if_empty=True)
    assert exists(endpoint, work)
    assert not exists(endpoint, audit)
    with admin(endpoint) as channel:
        channel.exchange_declare(exchange, passive=True)
    assert purge(endpoint, work) == 2
    assert delete(endpoint, declared, if_empty=True) == (work, audit, exchange)


def test_a_queue_with_messages_is_named_with_the_ways_out(
    rmqbench_broker: Any, names: tuple[str, str, str]
) -> None:
    endpoint, (_, work, audit) = rmqbench_broker.endpoint, names
    declare(endpoint, topology(names), rmqbench_broker.version)
    require_free(endpoint, [work, audit])
    publish(endpoint, "", audit)
    wait_for_counts(endpoint, {audit: 1})
    with pytest.raises(QueueNotEmpty) as caught:
        require_free(endpoint, [work, audit])
    assert f"Queue {audit!r}" in caught.value.what
    assert "holds 1 message." in caught.value.what
    assert "consume or purge its messages" in caught.value.remedy
    purge(endpoint, audit)
    with admin(endpoint) as channel:
        channel.basic_consume(work, lambda *_: None)
        with pytest.raises(QueueNotEmpty, match=f"Queue {work!r} .* has 1 consumer"):
            require_free(endpoint, [work, audit])


def test_consumers_are_counted(rmqbench_broker: Any, names: tuple[str, str, str]) -> None:
    endpoint = rmqbench_broker.endpoint
    declare(endpoint, topology(names), rmqbench_broker.version)
    assert counts(endpoint, names[1]) == (0, 0)
    with admin(endpoint) as channel:
        channel.basic_consume(names[1], lambda *_: None)
        assert counts(endpoint, names[1]) == (0, 1)


@pytest.mark.parametrize("ask", [ready_count, counts, purge])
def test_a_queue_that_is_not_there_is_named(rmqbench_broker: Any, ask: Any) -> None:
    with pytest.raises(QueueNotFound, match=r"no queue 't\.nowhere'"):
        ask(rmqbench_broker.endpoint, "t.nowhere")


def test_a_queue_exclusive_to_another_connection_is_told(
    rmqbench_broker: Any, names: tuple[str, str, str]
) -> None:
    endpoint = rmqbench_broker.endpoint
    with admin(endpoint) as channel:
        channel.queue_declare(names[1], exclusive=True)
        with pytest.raises(BrokerError, match=f"Queue '{names[1]}' .* is locked"):
            ready_count(endpoint, names[1])


def test_a_wrong_password_is_told_apart_from_a_missing_virtual_host(rmqbench_broker: Any) -> None:
    endpoint = rmqbench_broker.endpoint
    with pytest.raises(AccessRefused, match="refused the login of user") as caught:
        ready_count(replace(endpoint, password="wr0ng"), "q")
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(AccessRefused, match=r"has no virtual host 't\.nowhere'"):
        ready_count(endpoint.in_virtual_host("t.nowhere"), "q")


def test_an_end_of_the_connection_inside_is_an_error_of_ours(rmqbench_broker: Any) -> None:
    def lose(proxy: Proxy) -> None:
        with admin(proxy.endpoint) as channel:
            proxy.cut()
            channel.queue_declare("t.nowhere", passive=True)

    with Proxy(rmqbench_broker.endpoint) as proxy, pytest.raises(ConnectionLost, match="ended"):
        lose(proxy)


def test_a_broker_that_stops_answering_is_left_in_time(rmqbench_broker: Any) -> None:
    def wait_in_vain(proxy: Proxy) -> None:
        with admin(proxy.endpoint, timeout_s=3) as channel:
            proxy.freeze()
            channel.queue_declare("t.nowhere", passive=True)

    started = time.monotonic()
    with (
        Proxy(rmqbench_broker.endpoint) as proxy,
        pytest.raises(DeadlineExceeded, match="did not answer within 3 s"),
    ):
        wait_in_vain(proxy)
    assert time.monotonic() - started < 30


def test_a_broker_that_is_frozen_from_the_start_is_unavailable(rmqbench_broker: Any) -> None:
    with Proxy(rmqbench_broker.endpoint) as proxy:
        proxy.freeze()
        with (
            pytest.raises(BrokerUnavailable, match="in time"),
            admin(proxy.endpoint, timeout_s=0.5),
        ):
            pytest.fail("there was no connection")


class Proxy:
    """Forward TCP connections to the broker until told to keep silent, or to hang up."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._target = (endpoint.host, endpoint.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listening]
        self._threads: list[threading.Thread] = []
        self._frozen = threading.Event()
        self.endpoint = replace(endpoint, host="127.0.0.1", port=self._listening.getsockname()[1])

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()

    def freeze(self) -> None:
        self._frozen.set()

    def cut(self) -> None:
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                broker = socket.create_connection(self._target, timeout=5)
                broker.settimeout(None)
                self._sockets += [client, broker]
                self._start(self._pump, client, broker)
                self._start(self._pump, broker, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._frozen.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
