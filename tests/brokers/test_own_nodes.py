"""Nodes that rmqbench starts: ready when they say so, and they survive what is done to them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pika
import psutil
import pytest

from rmqbench.broker import Broker, probe
from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, BrokerError, BrokerUnavailable, DeadlineExceeded
from rmqbench.waiting import wait_until

if TYPE_CHECKING:
    from tests.brokers.conftest import OpenChannel

pytestmark = pytest.mark.brokers

QUEUE = "kept.queue"
PERSISTENT = pika.BasicProperties(delivery_mode=2)
SLEEP = "timer:sleep(300000)."  # longer than anything here waits for it


def test_a_node_is_ready_when_it_is_given(broker: Broker) -> None:
    with broker.management as management:
        assert management.overview()["rabbitmq_version"] == broker.version
    assert probe(broker.endpoint) == broker.version
    assert broker.owned
    assert broker.how
    assert broker.version[0].isdigit()


@pytest.mark.quick
def test_guest_does_not_exist(broker: Broker) -> None:
    guest = Endpoint(broker.endpoint.host, broker.endpoint.port)
    with pytest.raises(AccessRefused, match="refused the login of user 'guest'"):
        probe(guest)


@pytest.mark.quick
def test_a_missing_virtual_host_is_named_with_the_way_to_make_it(broker: Broker) -> None:
    with pytest.raises(AccessRefused, match=r"no virtual host 'absent'.* add_vhost absent"):
        probe(broker.endpoint.in_virtual_host("absent"))


def test_the_management_port_is_told_from_the_amqp_port(broker: Broker) -> None:
    port = int(str(broker.endpoint.management_url).rpartition(":")[2])
    with pytest.raises(BrokerUnavailable, match=r"web server.*Name the AMQP port"):
        probe(Endpoint("127.0.0.1", port))


@pytest.mark.quick
def test_a_node_listens_on_loopback_only(broker: Broker) -> None:
    ports = {broker.endpoint.port, int(str(broker.endpoint.management_url).rpartition(":")[2])}
    heard = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    }
    if not heard:
        pytest.skip("this user may not see who listens")
    assert {address for address, _ in heard} <= {"127.0.0.1", "::1"}
    assert {port for _, port in heard} == ports


@pytest.mark.quick
def test_no_process_of_a_local_node_listens_elsewhere(broker: Broker) -> None:
    if broker.kind != "local":
        pytest.skip("a container's processes are the engine's")
    require_loopback_only()


def require_loopback_only() -> None:
    for process in psutil.Process().children(recursive=True):
        connections = []
        with contextlib.suppress(psutil.Error):  # it has just ended
            connections = process.net_connections("tcp")
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::1"), process


@pytest.mark.quick
@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_a_persistent_message_and_the_ports_outlive(
    broker: Broker, ending: str, channel_of: OpenChannel
) -> None:
    before = broker.endpoint
    with channel_of(broker) as channel:
        channel.queue_delete(QUEUE)
        channel.queue_declare(QUEUE, durable=True)
        channel.basic_publish("", QUEUE, ending.encode(), PERSISTENT)
    # A new queue is kept in a buffer of the node for some 2 s (Mnesia, RabbitMQ before 4.2): killed
    # then, it comes back without the queue (seen in 4 of 80 kills of 4.0.5).
    broker.control("eval", "catch mnesia:sync_log().")
    getattr(broker, ending)()
    with pytest.raises(BrokerUnavailable):
        probe(before)
    broker.start()
    assert broker.endpoint == before
    with channel_of(broker) as channel:
        got: list[bytes] = []

        def found() -> bool:
            _, _, body = channel.basic_get(QUEUE, auto_ack=True)
            if body is not None:
                got.append(body)
            return bool(got)

        wait_until(found, 60.0, "the message to be there again")
        channel.queue_delete(QUEUE)
    assert got == [ending.encode()]


def test_a_restart_ends_in_a_ready_node(broker: Broker) -> None:
    broker.restart()
    assert probe(broker.endpoint) == broker.version


def test_start_of_a_running_node_and_kill_of_a_dead_one_change_nothing(broker: Broker) -> None:
    broker.start()
    broker.kill()
    broker.kill()
    broker.stop()
    broker.start()
    assert probe(broker.endpoint) == broker.version


@pytest.mark.quick
def test_a_paused_node_says_nothing_until_it_is_resumed(broker: Broker) -> None:
    broker.pause()
    try:
        with pytest.raises(BrokerUnavailable):
            probe(broker.endpoint, timeout_s=1.0)
    finally:
        broker.resume()

    def answers() -> bool:
        with contextlib.suppress(BrokerUnavailable):
            return probe(broker.endpoint) == broker.version
        return False

    wait_until(answers, 60.0, "the node to go on")


def test_a_connection_outlives_a_pause(broker: Broker, channel_of: OpenChannel) -> None:
    with channel_of(broker) as channel:
        broker.pause()
        broker.resume()
        assert channel.queue_declare("", exclusive=True).method.message_count == 0


def test_a_paused_node_can_be_killed(broker: Broker) -> None:
    broker.pause()
    broker.kill()
    broker.start()
    assert probe(broker.endpoint) == broker.version


@pytest.mark.quick
def test_the_log_is_readable_while_the_node_runs(broker: Broker) -> None:
    assert "rmqbench" in broker.log(1000)
    assert len(broker.log(3).splitlines()) <= 3


@pytest.mark.quick
def test_rabbitmqctl_gives_its_output(broker: Broker) -> None:
    # Through no shell, which would make something else of it.
    assert broker.control("eval", "byte_size(<<\"$HOME `id` 'x'\">>).") == "14\n"
    assert "Listing queues" in broker.control("list_queues", timeout_s=30)
    assert broker.control("list_queues", "--silent") == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("nonsense", "s3cret"),
            r"rabbitmqctl nonsense .*: Command 'nonsense' not found\.$",
        ),
        (("add_user", "a", "s3cret", "x", "y"), r"rabbitmqctl add_user .*: too many arguments\.$"),
        (("delete_queue", "absent"), r"rabbitmqctl delete_queue failed .*: Error: .*[Qq]ueue"),
        (("list_queues", "-n", "no@localhost"), r"contact: .*no@localhost.* 'no' not running"),
        (("eval", 'erlang:error("{password}").'), r"rabbitmqctl eval failed .*…"),
    ],
)
def test_a_failure_of_rabbitmqctl_is_told_in_its_own_words(
    broker: Broker, arguments: tuple[str, ...], words: str
) -> None:
    password = broker.endpoint.password
    with pytest.raises(BrokerError, match=words) as caught:
        broker.control(*(text.replace("{password}", password) for text in arguments))
    assert password not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_rabbitmqctl_is_ended_when_it_takes_too_long(broker: Broker) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="Timed out after 3 s waiting for rabbitmqctl eval"):
        broker.control("eval", SLEEP, timeout_s=3)
    assert time.monotonic() - began < 40
    wait_until(lambda: not commands(), 30.0, "rabbitmqctl to be gone")


def commands() -> list[psutil.Process]:
    """Find the processes of the command that sleeps, in containers too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if SLEEP in process.cmdline():
                found.append(process)
    return found


def listens(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(c.status == psutil.CONN_LISTEN for c in process.net_connections("tcp"))
    return False


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_rabbitmqctl_ends_with_its_node(broker: Broker, ending: str) -> None:
    errors: list[BaseException] = []

    def control() -> None:
        try:
            broker.control("eval", SLEEP, timeout_s=240)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=control)
    thread.start()
    try:
        wait_until(lambda: bool(commands()), 60.0, "rabbitmqctl to run")
        if broker.kind == "local":
            wait_until(lambda: any(map(listens, commands())), 60.0, "rabbitmqctl to listen")
            require_loopback_only()
        getattr(broker, ending)()
        thread.join(90.0)
        assert not thread.is_alive()
        assert [type(error) for error in errors] == [BrokerError]
        wait_until(lambda: not commands(), 30.0, "rabbitmqctl to be gone")
        with pytest.raises(BrokerError, match="rabbitmqctl can do nothing"):
            broker.control("status")
    finally:
        thread.join(90.0)
        broker.start()


def test_rabbitmqctl_can_do_nothing_on_a_paused_node(broker: Broker) -> None:
    broker.pause()
    try:
        with pytest.raises(BrokerError, match="paused: rabbitmqctl can do nothing"):
            broker.control("status")
    finally:
        broker.resume()
    assert broker.control("eval", "1 + 1.").strip() == "2"


@pytest.mark.parametrize(
    ("resource", "asked", "setting", "too_much"),
    [
        (
            "disk space",
            "rabbit_disk_monitor:get_disk_free_limit().",
            "set_disk_free_limit",
            "1000GB",
        ),
        (
            "memory",
            "vm_memory_monitor:get_vm_memory_high_watermark().",
            "set_vm_memory_high_watermark",
            "0.0000001",
        ),
    ],
)
def test_an_alarm_is_set_off_and_reset(
    broker: Broker, resource: str, asked: str, setting: str, too_much: str
) -> None:
    before = broker.control("eval", asked).strip()
    with broker.management as management:
        assert management.alarms() == []
        broker.control(setting, too_much)
        try:
            wait_until(
                lambda: [each["resource"] for each in management.alarms()] == [resource],
                60.0,
                "the alarm",
            )
        finally:
            broker.control(setting, before)
        wait_until(lambda: management.alarms() == [], 60.0, "the alarm to go away")
    assert broker.control("eval", asked).strip() == before


def test_the_time_of_the_start_is_that_of_the_last_process(broker: Broker) -> None:
    first = broker.started_at
    assert first is not None
    assert 0 < first < time.monotonic()
    broker.pause()
    broker.resume()
    broker.start()
    broker.pause()
    broker.resume()
    assert broker.started_at == first
    for end in (broker.kill, broker.stop):
        end()
        ended_at = time.monotonic()
        broker.start()
        assert broker.started_at is not None
        assert ended_at <= broker.started_at < time.monotonic()


@pytest.fixture
def queue(broker: Broker, channel_of: OpenChannel) -> Iterator[str]:
    name = f"policy/{uuid.uuid4().hex}"
    with channel_of(broker) as channel:
        channel.queue_declare(name, durable=True)
        yield name
        channel.queue_delete(name)


def test_a_policy_holds_from_when_it_is_set_until_it_is_deleted(
    broker: Broker, queue: str, channel_of: OpenChannel
) -> None:
    def publish_and_count() -> int:
        for _ in range(5):
            channel.basic_publish("", queue, b"x", PERSISTENT)
        count: int = channel.queue_declare(queue, passive=True).method.message_count
        channel.queue_purge(queue)
        return count

    with broker.management as management, channel_of(broker) as channel:
        assert publish_and_count() == 5
        management.set_policy("short/1", f"^{queue}$", {"max-length": 2})
        try:
            wait_until(lambda: management.queue(queue).get("policy") == "short/1", 60.0, "policy")
            assert management.queue(queue)["effective_policy_definition"] == {"max-length": 2}
            # The API knows of it before the queue does.
            wait_until(lambda: publish_and_count() == 2, 60.0, "the policy to be applied")
        finally:
            management.delete_policy("short/1")
        wait_until(lambda: not management.queue(queue).get("policy"), 60.0, "no policy")
        wait_until(lambda: publish_and_count() == 5, 60.0, "the policy to end")
        management.delete_policy("short/1")
        with pytest.raises(BrokerError, match="400"):
            management.set_policy("short/1", "", {"max-length": "many"})
        with pytest.raises(BrokerError, match="no virtual host 'absent'"):
            management.set_policy("short/1", "", {"max-length": 2}, vhost="absent")


@pytest.mark.quick
def test_a_free_port_is_refused_in_words() -> None:
    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(BrokerUnavailable, match=f"Nothing listens at 127.0.0.1:{port}"):
            probe(Endpoint("127.0.0.1", port))
