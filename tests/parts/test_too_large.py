"""A message that is larger than the broker takes: that is the result, at once, and no verdict."""

import uuid

import numpy as np
import pytest
from support.tools import rmqbench as run_command

import rmqbench
from rmqbench.errors import MessageTooLarge
from rmqbench.run_directory.journal import ChannelOpened
from rmqbench.run_directory.reading import read_run

LIMIT = 20_000
RUN = uuid.UUID(int=4 << 80 | 0xF00D << 64 | 4)
REFUSED = r"refused a message of 30,000 bytes: it takes 20,000 at most\. .*max_message_size"
SET = (
    "application:set_env(rabbit, max_message_size, {0}), "
    "persistent_term:put(max_message_size, {0})."
)
GET = "{ok, Size} = application:get_env(rabbit, max_message_size), Size."


@pytest.fixture
def broker(rmqbench_broker):
    """A broker that takes small messages only, as if its rabbitmq.conf had said so."""
    before = rmqbench_broker.control("eval", GET).strip()
    rmqbench_broker.control("eval", SET.format(LIMIT))
    yield rmqbench_broker
    rmqbench_broker.control("eval", SET.format(before))


@pytest.mark.parametrize("more", [{}, {"consume": "during", "producers": 5}])
def test_a_run_of_messages_that_are_too_large_ends_without_another_try(broker, tmp_path, more):
    scenario = rmqbench.reliability(messages=100, size_bytes=30_000, **more)
    with pytest.raises(MessageTooLarge, match=REFUSED):
        rmqbench.run(scenario, broker, directory=tmp_path / "run")
    for producer in read_run(tmp_path / "run").producers:
        assert len([*producer.of(ChannelOpened)]) == 1
    with pytest.raises(MessageTooLarge, match=REFUSED):  # the directory says the same
        rmqbench.judge(tmp_path / "run")


def test_where_some_were_small_enough_they_are_judged_and_the_reason_is_told(
    broker, tmp_path, monkeypatch
):
    monkeypatch.setattr(uuid, "uuid4", lambda: RUN)  # by it the sizes are drawn
    scenario = rmqbench.reliability(messages=2000, size_bytes="1000*99,30000", window=10)
    sizes = scenario.recipe(RUN).sizes_of(0, np.arange(2000))
    assert np.argmax(sizes > LIMIT) > 10 * scenario.window, "many are confirmed before it"
    verdict = rmqbench.run(scenario, broker, directory=tmp_path / "run").verdict
    assert not verdict.passed
    assert verdict.count("unsent") > 0
    assert verdict.count("lost") == 0
    assert "refused a message of 30,000 bytes" in str(verdict)
    assert "The broker was away" not in str(verdict)


def test_the_largest_that_the_broker_takes_passes(broker, tmp_path):
    scenario = rmqbench.reliability(messages=20, size_bytes=LIMIT)
    rmqbench.run(scenario, broker, directory=tmp_path / "run").verdict.require_pass()


def test_produce_ends_without_another_try_and_says_why(broker):
    with broker.management as management:
        management.create_virtual_host("too large")
        url = broker.endpoint.in_virtual_host("too large").url()
        ended = run_command("produce", "--count", "10", "--size", "30000", "--url", url, timeout=90)
        management.delete_virtual_host("too large")
    assert ended.returncode == 3
    assert "it takes 20,000 at most" in ended.stderr
    assert ended.stderr.count("Interrupted:") == 1
