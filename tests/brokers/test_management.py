from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from rmqbench.amqp.admin import admin
from rmqbench.amqp.topology import ready_count
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    ConnectionLost,
    ManagementUnavailable,
    QueueNotFound,
)
from rmqbench.management import answers
from rmqbench.management.client import Management
from rmqbench.management.sampler import Sampler, read_samples

pytestmark = [pytest.mark.brokers, pytest.mark.quick]


@pytest.fixture
def queue(rmqbench_broker: Any) -> Iterator[str]:
    """A durable queue whose name needs encoding; gone at the end."""
    name = f"t/{uuid.uuid4().hex[:12]} 100%"
    with admin(rmqbench_broker.endpoint) as channel:
        channel.queue_declare(name, durable=True)
    yield name
    with admin(rmqbench_broker.endpoint) as channel:
        channel.queue_delete(name)


@pytest.fixture
def own_vhost(rmqbench_broker: Any) -> Iterator[Endpoint]:
    """A virtual host of the test's own; gone at the end."""
    name = f"t.{uuid.uuid4().hex[:12]}"
    with rmqbench_broker.management as management:
        management.create_virtual_host(name)
        yield rmqbench_broker.endpoint.in_virtual_host(name)
        management.delete_virtual_host(name)


def wait_until(what: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait for something true: figures of the Management API come seconds late."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"not {what.__name__} within {timeout_s:g} s"
        time.sleep(0.2)
    return found


def test_the_overview_names_the_version(rmqbench_broker: Any) -> None:
    assert rmqbench_broker.management.overview()["rabbitmq_version"] == rmqbench_broker.version


def test_a_queue_is_found_by_a_name_that_needs_encoding(rmqbench_broker: Any, queue: str) -> None:
    found = rmqbench_broker.management.queue(queue)
    assert (found["name"], found["vhost"]) == (queue, rmqbench_broker.endpoint.virtual_host)


def test_all_queues_of_a_virtual_host_are_listed(rmqbench_broker: Any, queue: str) -> None:
    management, vhost = rmqbench_broker.management, rmqbench_broker.endpoint.virtual_host
    assert queue in [each["name"] for each in management.queues(vhost)]
    assert queue in [each["name"] for each in management.queues()]


def test_a_queue_or_virtual_host_that_is_not_there_is_named(rmqbench_broker: Any) -> None:
    management = rmqbench_broker.management
    with pytest.raises(QueueNotFound, match=r"'t\.nowhere'"):
        management.queue("t.nowhere")
    with pytest.raises(BrokerError, match=r"no virtual host 't\.nowhere'"):
        management.queues("t.nowhere")


def test_the_built_in_exchanges_are_listed(rmqbench_broker: Any) -> None:
    vhost = rmqbench_broker.endpoint.virtual_host
    names = [each["name"] for each in rmqbench_broker.management.exchanges(vhost)]
    assert "amq.direct" in names
    assert "" in names


def test_nodes_tell_memory_disk_and_alarms(rmqbench_broker: Any) -> None:
    management = rmqbench_broker.management

    def complete() -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = management.nodes()  # without figures just after the start
        return nodes if all("mem_used" in node for node in nodes) else []

    for node in wait_until(complete):
        assert node["mem_used"] > 0
        assert node["disk_free"] > 0
        assert node["mem_alarm"] is False
    assert management.alarms() == []


def test_the_broker_writes_every_field_that_is_read(
    rmqbench_broker: Any, own_vhost: Endpoint
) -> None:
    management, vhost = rmqbench_broker.management, own_vhost.virtual_host
    definition = {"dead-letter-exchange": "dead", "alternate-exchange": "other"}
    management.set_policy("p", "^no such name$", definition, vhost=vhost, apply_to="all")
    definition = {"dead-letter-exchange": "by.policy"}
    management.set_policy("q", "^q$", definition, vhost=vhost, apply_to="queues")

    def read() -> list[Any]:
        return [
            # There is no operator policy here; another test sets one.
            *(
                replace(q, operator_policy="")
                for q in answers.read_queues(management.queues(vhost))
            ),
            *answers.read_connections(management.connections(vhost)),
            *answers.read_consumers(management.consumers(vhost)),
            *answers.read_nodes(management.nodes()),
        ]

    with admin(own_vhost, name="test", timeout_s=120) as channel:
        arguments = {"x-dead-letter-exchange": "by.argument"}
        channel.queue_declare("q", durable=True, arguments=arguments)
        channel.exchange_declare("e", "fanout", arguments={"alternate-exchange": "other"})
        channel.queue_bind("q", "e")
        for _ in range(3):
            channel.basic_publish("", "q", b"x")
        channel.basic_qos(prefetch_count=1)
        tags: list[int] = []
        channel.basic_consume(
            "q", lambda _, method, *__: tags.append(method.delivery_tag), consumer_tag="tag"
        )

        def delivered() -> bool:
            channel.connection.process_data_events(0.1)
            return bool(tags)

        def complete() -> list[Any]:
            channel.connection.process_data_events(0)
            found = read()
            whole = len(found) >= 4 and all(None not in astuple(each) for each in found)
            # The API gathers each kind of figure at a time of its own.
            return found if whole and found[0].messages_ready == 1 else []

        wait_until(delivered)
        channel.basic_ack(tags[0])
        queue, connection, consumer, *nodes = wait_until(complete, 90.0)

    assert (queue.name, queue.vhost, queue.type) == ("q", vhost, "classic")
    assert set(queue.dead_letter_exchanges) == {"by.argument", "by.policy"}
    assert (queue.messages_unacknowledged, queue.consumers) == (1, 1)
    assert queue.message_bytes_ready >= 1
    assert (queue.policy, queue.policy_definition) == ("q", {"dead-letter-exchange": "by.policy"})
    assert queue.exclusive is False
    assert connection.given_name == "test"
    assert connection.peer_port == consumer.peer_port
    assert (consumer.tag, consumer.queue, consumer.vhost) == ("tag", "q", vhost)
    assert (consumer.connection, consumer.prefetch) == (connection.name, 1)
    assert consumer.manual_ack is True
    assert all(each.running for each in nodes)
    assert answers.read_version(management.overview()) == rmqbench_broker.version
    exchanges = answers.read_exchanges(management.exchanges(vhost))
    assert answers.ExchangeInfo("e", "fanout", "other") in exchanges
    bindings = answers.read_bindings(management.bindings(vhost))
    assert answers.BindingInfo("e", "q", "queue") in bindings
    policies = answers.read_policies(management.policies(vhost))
    found = {(each.alternate_exchange, each.dead_letter_exchange) for each in policies}
    assert ("other", "dead") in found


def test_a_wrong_password_is_told_without_showing_it(rmqbench_broker: Any) -> None:
    wrong = replace(rmqbench_broker.endpoint, password="wr0ng")
    with Management(wrong) as management, pytest.raises(AccessRefused) as caught:
        management.overview()
    assert "refused the login of user" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_the_port_of_amqp_is_no_management_api(rmqbench_broker: Any) -> None:
    endpoint: Endpoint = rmqbench_broker.endpoint
    wrong = replace(endpoint, management_url=f"http://{endpoint.host}:{endpoint.port}")
    with Management(wrong) as management, pytest.raises(ManagementUnavailable) as caught:
        management.overview()
    assert "rabbitmq-plugins enable rabbitmq_management" in caught.value.remedy


def test_a_virtual_host_can_be_used_at_once_and_is_gone_when_deleted(
    rmqbench_broker: Any,
) -> None:
    management, name = rmqbench_broker.management, f"t/{uuid.uuid4().hex[:12]}"
    endpoint = rmqbench_broker.endpoint.in_virtual_host(name)
    try:
        assert management.create_virtual_host(name) is True
        assert management.create_virtual_host(name) is False
        with admin(endpoint) as channel:
            channel.queue_declare("q", durable=True)
        assert ready_count(endpoint, "q") == 0
        assert [each["name"] for each in management.queues(name)] == ["q"]
    finally:
        management.delete_virtual_host(name)
    with pytest.raises(AccessRefused, match="no virtual host"):
        ready_count(endpoint, "q")
    management.delete_virtual_host(name)


def test_a_consumer_and_its_connection_are_seen_and_the_connection_can_be_closed(
    rmqbench_broker: Any, queue: str
) -> None:
    management, endpoint = rmqbench_broker.management, rmqbench_broker.endpoint
    consumers, vhost, label = management.consumers, endpoint.virtual_host, f"t.{uuid.uuid4().hex}"

    def ours() -> list[str]:
        return [
            each["name"]
            for each in management.connections(vhost)
            if each.get("user_provided_name") == label
        ]

    def consume_until_closed() -> None:
        with admin(endpoint, name=label, timeout_s=240) as channel:
            channel.basic_consume(queue, lambda *_: None)
            (name,) = wait_until(ours)
            wait_until(lambda: queue in [each["queue"]["name"] for each in consumers(vhost)])
            management.close_connection(name, "enough\nof you")
            channel.connection.process_data_events(time_limit=30)

    with pytest.raises(ConnectionLost, match=r"320 CONNECTION_FORCED - enough of you"):
        consume_until_closed()
    with pytest.raises(BrokerError, match=r"no connection 't\.nowhere'"):
        management.close_connection("t.nowhere", "")


def test_the_sampler_sees_a_backlog_and_the_node(
    rmqbench_broker: Any, queue: str, tmp_path: Path
) -> None:
    endpoint = rmqbench_broker.endpoint

    def complete() -> bool:
        seen = sampler.latest.queues.get(queue) if sampler.latest else None
        # The API gathers each kind of figure at a time of its own.
        nodes = sampler.latest.nodes.values() if sampler.latest else ()
        return (
            seen is not None
            and seen.messages_ready == 10
            and None not in (seen.publish_rate, seen.messages_ram)
            and bool(seen.memory_bytes)
            and bool(nodes)
            and all(None not in astuple(node) for node in nodes)
        )

    # The rate is a figure of the channel: one that is closed at once may leave none.
    with admin(endpoint, timeout_s=300) as channel:
        channel.confirm_delivery()
        for _ in range(10):
            channel.basic_publish("", queue, b"x")
        with Sampler(endpoint, tmp_path, interval_s=0.2, timeout_s=15) as sampler:
            wait_until(complete, 120.0)
    last = read_samples(tmp_path)[-1]
    assert last == sampler.latest
    assert last.error is None
    seen = last.queues[queue]
    assert seen.messages_unacknowledged == 0
    assert seen.messages_ram is not None
    assert seen.memory_bytes
    (node,) = last.nodes.values()
    assert node.mem_used_bytes
    assert node.disk_free_bytes
    assert (node.mem_alarm, node.disk_free_alarm) == (False, False)
