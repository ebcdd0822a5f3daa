"""The heartbeat stays true although most bytes pass pika by."""

import time
import uuid

import numpy as np
import pytest

from rmqbench.amqp.connection import Connection
from rmqbench.amqp.network import REAL_NETWORK
from rmqbench.amqp.shape import Shape
from rmqbench.errors import ConnectionLost
from rmqbench.message import Recipe
from rmqbench.proxy import Proxy
from rmqbench.runner.emptiness import Patience, Prover
from rmqbench.verdict.evidence import Drain

COUNT = 50
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
        connection.send(shape.render(0, np.arange(10), time.time_ns()))
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


@pytest.mark.parametrize("by_hand", ["classic"], indirect=True)
@pytest.mark.parametrize("vector", [True])
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_half_open_consumer_is_there_for_two_to_three_intervals_and_the_drain_waits(
    by_hand, cancelled
):
    """RabbitMQ looks once an interval, and gives up at the second look without anything new.

    A consumer that is cancelled is in no figure of a classic queue, and holds its messages still.
    """
    endpoint = by_hand.place.endpoint
    by_hand.publish()
    with Proxy(endpoint) as proxy:
        consumer = Connection(proxy.endpoint, name="half-open", heartbeat_s=HEARTBEAT_S).open()
        channel = consumer.channel()
        came = []
        tag = channel.basic_consume(by_hand.queue, lambda *each: came.append(each))
        consumer.wait_until(lambda: len(came) == COUNT, 10, "all messages")
        prover = Prover(endpoint, by_hand.queue, REAL_NETWORK, heartbeat_s=HEARTBEAT_S)
        if cancelled:
            gone = []
            consumer.cancel(channel, tag, gone.append)
            consumer.wait_until(lambda: bool(gone), 10, "the consumer to be cancelled")
        proxy.vanish()
        began = time.monotonic()
        if cancelled:
            prover.expect_back(began)
        until = began + prover.half_open_s
        drain = prover.prove(Patience(0.0, until, 0.0, until))
        took_s = time.monotonic() - began
        consumer.abort()
    # What the consumer held is ready again, once its broker has noticed.
    assert drain == Drain(False, COUNT, f"{COUNT} messages are still ready in it")
    assert 1.9 * HEARTBEAT_S < took_s < 3 * HEARTBEAT_S + 1
