"""The model of RabbitMQ and a real one answer the same acts in the same way."""

import uuid

import pytest
from support.scripts import SCRIPTS
from support.lockstep import compare


@pytest.fixture
def endpoint(rmqbench_broker):
    """A virtual host of its own."""
    name = f"rmqbench-test-{uuid.uuid4().hex[:12]}"
    with rmqbench_broker.management as management:
        management.create_virtual_host(name)
        yield rmqbench_broker.endpoint.in_virtual_host(name)
        management.delete_virtual_host(name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_model_answers_as_rabbitmq_does(rmqbench_broker, endpoint, script, kind):
    model, real = compare(script, kind, rmqbench_broker, endpoint)
    assert model == real
