"""Real nodes for these tests: each kind that this machine can have."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pika
import pytest

from rmqbench.broker import Broker, open_broker
from rmqbench.broker.engine import Engine
from rmqbench.errors import BrokerUnavailable

CONTAINER_IMAGES = ("rabbitmq:4.3.6-management", "rabbitmq:3.10.8-management")


@dataclass(frozen=True)
class Kind:
    """What to open, or to skip where it cannot be had."""

    spec: str
    image: str = ""

    def __str__(self) -> str:
        return f"{self.spec}-{self.image.partition(':')[2].partition('-')[0]}".rstrip("-")

    def require(self) -> None:
        if self.spec != "container":
            return
        try:
            with contextlib.closing(Engine()) as engine:
                present = [tag for image in engine.client.images.list() for tag in image.tags]
        except BrokerUnavailable as error:
            pytest.skip(str(error))
        if self.image not in present:
            pytest.skip(f"the image {self.image} is not there (.ci/images builds it)")


LOCAL = Kind("local")
CONTAINERS = [Kind("container", image) for image in CONTAINER_IMAGES]


Channel = pika.adapters.blocking_connection.BlockingChannel
OpenChannel = Callable[[Broker], contextlib.AbstractContextManager[Channel]]


@contextlib.contextmanager
def _channel_of(broker: Broker) -> Iterator[Channel]:
    """Open a plain pika channel in confirm mode."""
    connection = pika.BlockingConnection(
        pika.ConnectionParameters(
            broker.endpoint.host,
            broker.endpoint.port,
            broker.endpoint.virtual_host,
            pika.PlainCredentials(broker.endpoint.username, broker.endpoint.password),
            socket_timeout=5,
            stack_timeout=5,
            blocked_connection_timeout=5,
        )
    )
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()


@pytest.fixture(scope="module", params=[LOCAL, CONTAINERS[0]], ids=str)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A node of ours, of each kind (and of an old and a new version), shared by a module."""
    kind: Kind = request.param
    kind.require()
    with open_broker(kind.spec, image=kind.image or None) as opened:
        yield opened


@pytest.fixture(params=[LOCAL, CONTAINERS[0]], ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One local node and one container, for tests that open them in their own way."""
    kind: Kind = request.param
    kind.require()
    return kind


@pytest.fixture
def container_kind() -> Kind:
    """A container, or a skip."""
    CONTAINERS[0].require()
    return CONTAINERS[0]


@pytest.fixture
def channel_of() -> OpenChannel:
    """Give the way to open a plain channel."""
    return _channel_of
