"""Nodes that rmqbench starts: ready when they say so, and they survive what is done to them."""

from __future__ import annotations

import contextlib
import random
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pika
import psutil
import pytest

from rmqbench import reliability
from rmqbench.broker import Broker, probe
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    BrokerUnavailable,
    DeadlineExceeded,
    RmqbenchError,
)
from rmqbench.runner.run import run
from rmqbench.waiting import wait_until

if TYPE_CHECKING:
    from tests.brokers.conftest import OpenChannel

pytestmark = pytest.mark.brokers

QUEUE = "kept.queue"
PERSISTENT = pika.BasicProperties(delivery_mode=2)
LOOPBACK = {"127.0.0.1", "::1"}
# Longer than anything here waits for it, and nobody else's on this machine.
SLEEP = f"timer:sleep({random.randrange(300_000, 900_000)})."


def test_a_node_is_ready_when_it_is_given(broker: Broker) -> None:
    with broker.management as management:
        assert management.overview()["rabbitmq_version"] == broker.version
    assert probe(broker.endpoint) == broker.version
    assert broker.owned
    assert broker.how
    assert broker.version[0].isdigit()
    assert ("sha256:" in broker.image_digest) is (broker.kind == "container")


@pytest.mark.quick
def test_the_log_of_a_node_that_ends_with_the_test_is_kept_with_the_evidence(
    broker: Broker, tmp_path: Path
) -> None:
    result = run(reliability(messages=10), broker, directory=tmp_path / "run")
    assert result.verdict.passed
    assert "rmqbench-" in (tmp_path / "run" / "broker.log").read_text(), "its virtual host"


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
        probe(Endpoint("127.0.0.1", port), timeout_s=1.0)


@pytest.mark.quick
def test_a_node_listens_on_loopback_only(broker: Broker) -> None:
    ports = {broker.endpoint.port, int(str(broker.endpoint.management_url).rpartition(":")[2])}
    ours = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET
    }
    # What listens at all addresses does so at this one, too, on a machine that has no other.
    elsewhere = (ours | {"127.0.0.2"}) - {"127.0.0.1"}
    for port in ports:
        socket.create_connection(("127.0.0.1", port), timeout=5.0).close()
        for address in elsewhere:
            with pytest.raises(OSError, match=r"refused|unreachable|assign"):
                socket.create_connection((address, port), timeout=5.0).close()


@pytest.mark.quick
def test_no_process_of_a_local_node_listens_elsewhere(broker: Broker) -> None:
    if broker.kind != "local":
        pytest.skip("a container's processes are the engine's")
    listening = listeners(psutil.Process().children(recursive=True))
    assert len(listening) >= 4  # AMQP, Management API, distribution, port mapper
    assert set(listening) <= LOOPBACK


def listeners(processes: list[psutil.Process]) -> list[str]:
    """Return the addresses at which processes listen."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            found += [
                connection.laddr.ip
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            ]
    return found


def test_a_restart_ends_in_a_ready_node(broker: Broker) -> None:
    before = broker.started_at
    assert before is not None
    began = time.monotonic()
    broker.restart()
    assert probe(broker.endpoint) == broker.version
    assert broker.started_at is not None
    assert before < began < broker.started_at


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


@pytest.mark.quick
def test_the_log_is_readable_while_the_node_runs(broker: Broker) -> None:
    assert "rmqbench" in broker.log(1000)
    assert len(broker.log(3).splitlines()) <= 3


@pytest.mark.quick
def test_rabbitmqctl_gives_its_output(broker: Broker) -> None:
    # Through no shell, which would make something else of it.
    assert broker.control("eval", "byte_size(<<\"$HOME `id` 'x'\">>).") == "14\n"
    assert "Listing queues" in broker.control("list_queues", timeout_s=30)
    assert "Listing queues" not in broker.control("list_queues", "--silent")


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


def kill_paused(broker: Broker) -> None:
    broker.pause()
    broker.kill()


def kill_twice_and_stop(broker: Broker) -> None:
    broker.kill()
    broker.kill()
    broker.stop()


ENDINGS: dict[str, Callable[[Broker], None]] = {
    "kill": kill_twice_and_stop,  # what is done to a dead node changes nothing
    "kill-paused": kill_paused,
    "stop": Broker.stop,
}


@dataclass(frozen=True)
class Ended:
    """What was seen of a node that was ended while rabbitmqctl ran, before its next start."""

    name: str
    endpoint: Endpoint
    at: float
    running: bool
    refusal: RmqbenchError | None
    command_listened_at: list[str]
    command_error: BaseException | None
    command_left: list[psutil.Process]
    next_command_error: RmqbenchError | None


@pytest.fixture(scope="module", params=ENDINGS)
def ended(request: pytest.FixtureRequest, broker: Broker, channel_of: OpenChannel) -> Ended:
    """End a node with a message in a queue and a rabbitmqctl under way, and start it again."""
    name: str = request.param
    before = broker.endpoint
    with channel_of(broker) as channel:
        channel.queue_delete(QUEUE)
        channel.queue_declare(QUEUE, durable=True)
        channel.basic_publish("", QUEUE, name.encode(), PERSISTENT)
    # A new queue is kept in a buffer of the node for some 2 s (Mnesia, RabbitMQ before 4.2): killed
    # then, it comes back without the queue (seen in 4 of 80 kills of 4.0.5).
    broker.control("eval", "catch mnesia:sync_log().")
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(broker.control, "eval", SLEEP, timeout_s=240)
        wait_until(lambda: bool(commands()), 60.0, "rabbitmqctl to run")
        if broker.kind == "local":
            wait_until(lambda: bool(listeners(commands())), 60.0, "rabbitmqctl to listen")
        listened = listeners(commands()) if broker.kind == "local" else []
        try:
            ENDINGS[name](broker)
            at = time.monotonic()
            wait_until(command.done, 90.0, "the call of rabbitmqctl to end")
            with contextlib.suppress(DeadlineExceeded):
                wait_until(lambda: not commands(), 30.0, "rabbitmqctl to be gone")
            seen = Ended(
                name,
                before,
                at,
                broker.is_running(),
                error_of(lambda: probe(before)),
                listened,
                command.exception(),
                commands(),
                error_of(lambda: broker.control("status")),
            )
        finally:
            broker.start()
    return seen


def error_of(call: Callable[[], object]) -> RmqbenchError | None:
    try:
        call()
    except RmqbenchError as error:
        return error
    return None


def test_an_ended_node_is_gone(ended: Ended) -> None:
    assert not ended.running
    assert type(ended.refusal) is BrokerUnavailable


def test_rabbitmqctl_ends_with_its_node(ended: Ended) -> None:
    assert type(ended.command_error) is BrokerError
    assert ended.command_left == []


def test_rabbitmqctl_can_do_nothing_on_an_ended_node(ended: Ended) -> None:
    assert "rabbitmqctl can do nothing" in str(ended.next_command_error)


def test_rabbitmqctl_listens_on_loopback_only(broker: Broker, ended: Ended) -> None:
    if broker.kind != "local":
        pytest.skip("a container's processes are the engine's")
    assert ended.command_listened_at
    assert set(ended.command_listened_at) <= LOOPBACK


@pytest.mark.quick
def test_the_ports_and_the_data_outlive_a_node(
    broker: Broker, ended: Ended, channel_of: OpenChannel
) -> None:
    assert broker.endpoint == ended.endpoint
    assert probe(ended.endpoint) == broker.version
    got: list[bytes] = []
    with channel_of(broker) as channel:

        def found() -> bool:
            _, _, body = channel.basic_get(QUEUE, auto_ack=True)
            if body is not None:
                got.append(body)
            return bool(got)

        wait_until(found, 60.0, "the message to be there again")
        assert channel.queue_delete(QUEUE).method.message_count == 0
    assert got == [ended.name.encode()]


def test_the_time_of_the_start_is_that_of_the_last_process(broker: Broker, ended: Ended) -> None:
    started_at = broker.started_at
    assert started_at is not None
    assert ended.at <= started_at < time.monotonic()
    broker.pause()
    broker.resume()
    broker.start()
    assert broker.started_at == started_at


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
            wait_until(lambda: publish_and_count() == 2, 60.0, "the policy to be applied")
        finally:
            management.delete_policy("short/1")
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
