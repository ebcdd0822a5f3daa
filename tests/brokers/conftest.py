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

NEWEST_IMAGE, OTHER_IMAGE = "rabbitmq:4.3.6-management", "rabbitmq:4.0.5-management"


@dataclass(frozen=True)
class Kind:
    """What to open, or to skip where it is not available."""

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
NEWEST = Kind("container", NEWEST_IMAGE)
OTHER = Kind("container", OTHER_IMAGE)


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


@pytest.fixture(scope="module", params=[LOCAL, OTHER, NEWEST], ids=str)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A node of ours, of each kind and of three versions, shared by a module."""
    kind: Kind = request.param
    kind.require()
    with open_broker(kind.spec, image=kind.image or None) as opened:
        yield opened


@pytest.fixture(params=[LOCAL, NEWEST], ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One local node and one container, for tests that open them in their own way."""
    kind: Kind = request.param
    kind.require()
    return kind


@pytest.fixture(scope="session")
def container_kind() -> Kind:
    """A container, or a skip."""
    NEWEST.require()
    return NEWEST


@pytest.fixture(scope="session")
def channel_of() -> OpenChannel:
    """How to open a plain channel."""
    return _channel_of
