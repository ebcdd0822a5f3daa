"""A model of RabbitMQ on a clock that stands still."""

import pytest
from support.amqp_client import Client, VirtualTime

from rmqbench.simulation import ModelBroker


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def broker(time):
    return ModelBroker(time)


@pytest.fixture
def client(broker):
    return Client(broker).open(channels=2)


@pytest.fixture
def publisher(broker):
    """A second connection, in confirm mode."""
    return Client(broker).open(confirm=True)


@pytest.fixture(params=["classic", "quorum"])
def kind(request):
    return request.param


@pytest.fixture
def declare(client, kind):
    """Declare a queue of each type in turn."""

    def declare(name="q", **settings):
        return client.declare(name, quorum=kind == "quorum", **settings)

    return declare
