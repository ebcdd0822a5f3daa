"""Which broker is taken, and what is said where there is none."""

from __future__ import annotations

import contextlib
import importlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from rmqbench.broker import Broker, open_broker, opening, probe
from rmqbench.broker.places import free_ports
from rmqbench.errors import AccessRefused, BrokerUnavailable, UsageError

if TYPE_CHECKING:
    from tests.brokers.conftest import Kind

pytestmark = pytest.mark.brokers

NO_IMAGE = "rmqbench.invalid/nothing:here"


# What would make another node of a RabbitMQ that heeds it.
FOREIGN = ("NODE_PORT", "DEFAULT_USER", "DEFAULT_PASS", "DEFAULT_VHOST", "NODENAME", "LOGS")


@contextlib.contextmanager
def opened_among_foreign_variables(image: str) -> Iterator[Broker]:
    """Open what ``auto`` takes, while this machine's environment is set up for another RabbitMQ."""
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.ExitStack() as stack:
        for name in FOREIGN:
            monkeypatch.setenv(f"RABBITMQ_{name}", "1")
        monkeypatch.setattr(opening, "DEFAULT_IMAGE", image)
        broker = stack.enter_context(open_broker("auto"))
        monkeypatch.undo()
        yield broker


@pytest.fixture(scope="module")
def node() -> Iterator[Broker]:
    with opened_among_foreign_variables(NO_IMAGE) as broker:
        yield broker


@pytest.fixture(scope="module")
def container(container_kind: Kind) -> Iterator[Broker]:
    with opened_among_foreign_variables(container_kind.image) as broker:
        yield broker


@pytest.mark.quick
def test_a_running_broker_is_taken_by_its_url(node: Broker) -> None:
    with open_broker(node.endpoint.url()) as broker:
        assert (broker.kind, broker.owned) == ("external", False)
        assert broker.started_at is None
        assert broker.version == node.version
        assert node.endpoint.password not in f"{broker!r}{broker.how}"


@pytest.mark.quick
@pytest.mark.parametrize(
    "deed", ["start", "stop", "restart", "kill", "pause", "resume", "log", "control"]
)
def test_a_broker_that_is_not_ours_is_never_harmed(node: Broker, deed: str) -> None:
    with (
        open_broker(node.endpoint.url()) as broker,
        pytest.raises(UsageError, match="never injected into brokers that are not ours"),
    ):
        getattr(broker, deed)()
    with open_broker(node.endpoint.url()) as broker:
        assert broker.version == node.version


@pytest.mark.quick
def test_a_wrong_password_is_told_with_the_user(node: Broker) -> None:
    url = f"amqp://rmqbench:wrong@127.0.0.1:{node.endpoint.port}"
    with pytest.raises(AccessRefused, match="user 'rmqbench'") as raised, open_broker(url):
        pass
    assert "wrong" not in str(raised.value)


@pytest.mark.quick
def test_a_user_without_permission_is_told_the_virtual_host(node: Broker) -> None:
    with node.management as management:
        management._request("PUT", "vhosts/closed")  # no permission for anybody
        management._request("DELETE", "permissions/closed/rmqbench")
        endpoint = node.endpoint.in_virtual_host("closed")
        with (
            pytest.raises(AccessRefused, match=r"refuses user 'rmqbench' access.*'closed'"),
            open_broker(endpoint.url()),
        ):
            pass
        management.delete_virtual_host("closed")


@pytest.mark.quick
def test_tls_towards_a_port_without_it_is_told(node: Broker) -> None:
    url = f"amqps://rmqbench:x@127.0.0.1:{node.endpoint.port}"
    with pytest.raises(BrokerUnavailable, match="No TLS connection"), open_broker(url):
        pass


def test_two_nodes_live_side_by_side(node: Broker) -> None:
    with open_broker("local") as other:
        assert other.endpoint.port != node.endpoint.port
        other.kill()
        with open_broker(node.endpoint.url()) as broker:
            assert broker.version == node.version


@pytest.mark.quick
@pytest.mark.usefixtures("container_kind")
def test_a_container_without_its_image_is_told_at_once() -> None:
    with (
        pytest.raises(BrokerUnavailable, match=f"{NO_IMAGE} is not there and cannot be pulled"),
        open_broker("container", image=NO_IMAGE),
    ):
        pass


@pytest.mark.quick
def test_auto_falls_back_to_a_local_node_and_says_why(node: Broker) -> None:
    assert node.kind == "local"
    assert node.how.startswith("a local node of ")
    assert "Not a container: " in node.how


@pytest.mark.quick
@pytest.mark.usefixtures("container_kind")
def test_auto_takes_nothing_else_in_place_of_an_image_that_was_named() -> None:
    with (
        pytest.raises(BrokerUnavailable, match=f"{NO_IMAGE} is not there and cannot be pulled"),
        open_broker("auto", image=NO_IMAGE),
    ):
        pass


def test_auto_takes_a_container_where_it_can(container: Broker, container_kind: Kind) -> None:
    assert (container.kind, container.version) == ("container", "4.3.6")
    assert container.how == f"a container of the image {container_kind.image}"


def test_variables_of_this_machine_do_not_reach_a_local_node(node: Broker) -> None:
    require_our_own(node)


def test_variables_of_this_machine_do_not_reach_a_container(container: Broker) -> None:
    require_our_own(container)


def require_our_own(broker: Broker) -> None:
    """Fail if the node has another user, virtual host or name than what we gave it."""
    assert broker.endpoint.username == "rmqbench"
    users = broker.control("list_users", "--silent").split()
    assert users == ["rmqbench", "[administrator]"]
    assert broker.control("list_vhosts", "--silent").split() == ["/"]
    assert probe(broker.endpoint) == broker.version


@pytest.mark.parametrize(
    ("spec", "taken", "listening"),
    [
        # By their places among the ports: AMQP, Management API, distribution, port mapper.
        # RabbitMQ itself tries for 10 s to listen at the first two.
        ("local", (0,), False),
        ("local", (2, 3), True),
        ("container", (0, 1), False),
    ],
)
def test_a_port_that_is_taken_meanwhile_is_given_up(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    spec: str,
    taken: tuple[int, ...],
    listening: bool,
) -> None:
    image = request.getfixturevalue("container_kind").image if spec == "container" else None
    module = importlib.import_module(f"rmqbench.broker.{spec}")
    chosen: list[list[int]] = []
    with contextlib.ExitStack() as stack:

        def choose(count: int) -> list[int]:
            chosen.append(free_ports(count))
            if len(chosen) <= len(taken):
                other = stack.enter_context(socket.socket())
                other.bind(("127.0.0.1", chosen[-1][taken[len(chosen) - 1]]))
                if listening:
                    other.listen()
            return chosen[-1]

        monkeypatch.setattr(module, "free_ports", choose)
        with open_broker(spec, image=image) as broker:
            assert broker.endpoint.port == chosen[-1][0]
            assert probe(broker.endpoint) == broker.version
    assert len(chosen) == len(taken) + 1
