"""The model of RabbitMQ and a real one answer the same acts in the same way."""

import uuid

import hypothesis
import pytest
from support.lockstep import compare, difference
from support.random_scripts import script_of, scripts
from support.scripts import SCRIPTS, operating, restarting

from rmqbench.amqp.admin import admin

pytestmark = pytest.mark.slow
PATIENCE_S = 3.0  # while hypothesis shrinks, each attempt waits so long for what does not come


@pytest.fixture
def endpoint(rmqbench_broker):
    """A virtual host of its own."""
    name = f"rmqbench-test-{uuid.uuid4().hex[:12]}"
    with rmqbench_broker.management as management:
        management.create_virtual_host(name)
        yield rmqbench_broker.endpoint.in_virtual_host(name)
        management.delete_virtual_host(name)


@pytest.fixture
def own_node(rmqbench_broker):
    """A node that may be ended and started."""
    if not rmqbench_broker.owned:
        pytest.skip("the broker is not ours")
    yield rmqbench_broker
    rmqbench_broker.start()


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_model_answers_as_rabbitmq_does(rmqbench_broker, endpoint, script, kind):
    assert not difference(*compare(script, kind, rmqbench_broker, endpoint))


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_model_answers_random_scripts_as_rabbitmq_does(
    rmqbench_broker, endpoint, kind, request
):
    """A script in which they differ is shrunk to the shortest that still shows it."""

    @hypothesis.seed(request.config.option.rmqbench_seed)
    @hypothesis.settings(max_examples=request.config.option.rmqbench_scripts, database=None)
    @hypothesis.given(scripts())
    def both_answer_alike(drawn):
        with admin(endpoint) as channel:
            for queue in ("q", "dead"):
                channel.queue_delete(queue)
        arguments, acts = drawn
        script = script_of(arguments, acts)
        notes = compare(script, kind, rmqbench_broker, endpoint, patience_s=PATIENCE_S)
        assert not difference(*notes)

    both_answer_alike()


@pytest.mark.parametrize("script", operating.NEEDING_THE_NODE, ids=lambda script: script.__name__)
def test_the_model_takes_an_alarm_as_rabbitmq_does(own_node, endpoint, script):
    assert not difference(*compare(script, "classic", own_node, endpoint))


@pytest.mark.parametrize("script", [restarting.killed, restarting.stopped])
def test_the_model_restarts_as_rabbitmq_does(own_node, endpoint, script):
    assert not difference(*compare(script, "both", own_node, endpoint))
