"""Which broker is taken, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from rmqbench.broker import Broker, open_broker
from rmqbench.errors import AccessRefused, BrokerUnavailable, UsageError

if TYPE_CHECKING:
    from tests.brokers.conftest import Kind

pytestmark = pytest.mark.brokers

NO_IMAGE = "rmqbench.invalid/nothing:here"


@pytest.fixture(scope="module")
def node() -> Iterator[Broker]:
    with open_broker("local") as broker:
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
def test_auto_falls_back_to_a_local_node_and_says_why() -> None:
    with open_broker("auto", image=NO_IMAGE) as broker:
        assert broker.kind == "local"
        assert broker.how.startswith("a local node of ")
        assert "Not a container: " in broker.how


def test_auto_takes_a_container_where_it_can(container_kind: Kind) -> None:
    with open_broker("auto", image=container_kind.image) as broker:
        assert (broker.kind, broker.version) == ("container", "4.3.6")


def test_variables_of_this_machine_do_not_reach_a_node(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NODE_PORT", "DEFAULT_USER", "DEFAULT_PASS", "DEFAULT_VHOST", "NODENAME", "LOGS"):
        monkeypatch.setenv(f"RABBITMQ_{name}", "1")
    with open_broker(kind.spec, image=kind.image or None) as broker:
        assert broker.endpoint.username == "rmqbench"
        assert broker.endpoint.virtual_host == "/"
