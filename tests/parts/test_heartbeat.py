"""The heartbeat stays true although most bytes pass pika by."""

import time
import uuid

import numpy as np
import pytest

from rmqbench.amqp.connection import Connection
from rmqbench.amqp.vector import Shape
from rmqbench.errors import ConnectionLost
from rmqbench.message import Recipe

HEARTBEAT_S = 3
# Every heartbeat and 5 s pika looks whether any byte came since. At the first time it sees those
# of the opening; where the burst's bytes were not counted, the second would be the end.
BURST_S = 2 * (HEARTBEAT_S + 5) + 2


class Counter:
    def __init__(self):
        self.total = 0

    def on_confirms(self, confirms):
        self.total = int(confirms.tags.max())


def burst(connection, counter, seconds):
    """Publish what is unroutable, window by window: nothing but confirms comes back."""
    channel = connection.channel()
    connection.expect_confirms(channel, counter.on_confirms)
    shape = Shape.of_publish(
        Recipe(uuid.uuid4()),
        channel=channel.channel_number,
        exchange="amq.direct",
        routing_key="nowhere",
        mandatory=False,
        frame_max=connection.frame_max,
    )
    until = time.monotonic() + seconds
    sent = 0
    while time.monotonic() < until:
        connection.send(shape.render(0, np.arange(10), time.time_ns()).tobytes())
        sent += 10
        connection.wait_until(lambda: counter.total > sent - 10, 30, "a confirm")  # noqa: B023


@pytest.mark.slow
def test_a_burst_of_confirms_is_a_sign_of_life(rmqbench_broker):
    counter = Counter()
    endpoint = rmqbench_broker.endpoint
    with Connection(endpoint, name="heartbeat", heartbeat_s=HEARTBEAT_S) as connection:
        burst(connection, counter, BURST_S)
        # What the broker has sent has been counted, and by nobody twice.
        assert connection._pika.bytes_received > counter.total
    assert counter.total > 100


def test_a_peer_that_is_silent_is_noticed(rmqbench_broker):
    if not rmqbench_broker.owned:
        pytest.skip("a broker that is not ours is not paused")
    with Connection(rmqbench_broker.endpoint, name="heartbeat", heartbeat_s=1) as connection:
        rmqbench_broker.pause()
        try:
            with pytest.raises(ConnectionLost):
                connection.wait_until(lambda: False, 60, "the heartbeat to fail")
        finally:
            rmqbench_broker.resume()
