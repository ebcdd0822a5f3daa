"""The vector path alone, without a broker: frames a second, and bytes of ledger a message.

A stand-in for the broker renders the very bytes that it would deliver; what is timed is all that
the client does with them.
"""

import time
import uuid
import zlib
from statistics import median

import numpy as np
import pytest
from support.cost import require_below

from rmqbench.amqp.framing import OVERHEAD
from rmqbench.amqp.shape import Shape
from rmqbench.amqp.vector import Splitter
from rmqbench.memory import peak_rss_bytes
from rmqbench.message import Recipe
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.recorder import DeliveryRecorder

pika = pytest.importorskip("pika")

BURST = 500
RECIPE = Recipe(uuid.UUID(int=7), size_bytes=100)
FRAME_MAX = 131072
READ_BYTES = 1 << 16


def publish_shape():
    return Shape.of_publish(
        RECIPE,
        channel=1,
        exchange="direct.exchange",
        routing_key="work",
        mandatory=True,
        frame_max=FRAME_MAX,
    )


def delivery_shape(recipe=RECIPE):
    method = pika.spec.Basic.Deliver("consumer-0", 1, False, "direct.exchange", "work")
    body, room = recipe.body(0, 0, 0), FRAME_MAX - OVERHEAD
    frames = (
        pika.frame.Method(1, method),
        pika.frame.Header(1, len(body), recipe.properties(0, 0, 0)),
        *(pika.frame.Body(1, body[at : at + room]) for at in range(0, len(body), room)),
    )
    return Shape.of_delivery(b"".join(frame.marshal() for frame in frames), recipe, FRAME_MAX)


def bursts(count):
    """Yield the numbers of ``count`` messages, a burst at a time."""
    for start in range(0, count, BURST):
        yield np.arange(start, min(start + BURST, count))


class StandIn:
    """Delivers messages as a broker would; only what the client does is timed.

    In seconds of its thread on a processor: what else the machine does is not the client's.
    """

    def __init__(self, directory, count):
        DeliveryLedger.create(directory, count)
        self.recorder = DeliveryRecorder(directory, (count,))
        self.recorder.open_channel()
        self.splitter = Splitter()
        self.splitter.expect_deliveries(1, delivery_shape())
        self.source = delivery_shape()
        self.count = count
        self.client_s = 0.0

    def deliver_all(self):
        for sequences in bursts(self.count):
            flags = np.zeros(len(sequences), np.bool_)
            data = b"".join(self.source.render_deliveries(0, sequences, 1, sequences + 1, flags))
            started = time.thread_time()
            for event in self.splitter.feed(data):
                places = self.recorder.record(
                    event.producers, event.sequences, event.redelivered, event.stamps, 5
                )
                self.recorder.acknowledge(places, 9_000)
            self.client_s += time.thread_time() - started
        assert self.recorder.distinct == self.count
        self.recorder.close()


def test_rendering_publishes(benchmark):
    shape = publish_shape()
    benchmark.extra_info["messages"] = 100_000

    def render():
        for sequences in bursts(100_000):
            shape.render(0, sequences, 1)

    benchmark(render)


def test_checking_and_recording_deliveries(benchmark, tmp_path):
    number = iter(range(10**6))
    benchmark.extra_info["messages"] = 100_000

    def fresh():
        return (StandIn(tmp_path / str(next(number)), 100_000),), {}

    benchmark.pedantic(StandIn.deliver_all, setup=fresh, rounds=5)


def test_checking_and_recording_a_delivery_costs_as_little_as_its_checksum_a_few_times(tmp_path):
    number = iter(range(100))

    def factors():
        stand_in = StandIn(tmp_path / str(next(number)), 100_000)
        stand_in.deliver_all()
        stream = bytes(100_000 * delivery_shape().mean_bytes)
        began = time.thread_time()
        zlib.crc32(stream)
        return {"CPU": stand_in.client_s / (time.thread_time() - began)}

    require_below({"CPU": 20}, factors)  # it is 4 to 6


def seconds_a_byte(body_bytes):
    """How long checking takes that reads from a socket, in seconds of its thread."""
    recipe = Recipe(uuid.UUID(int=7), size_bytes=body_bytes)
    shape, splitter = delivery_shape(recipe), Splitter()
    splitter.expect_deliveries(1, shape)
    sequences = np.arange((64 << 20) // body_bytes)
    flags = np.zeros(len(sequences), np.bool_)
    source = delivery_shape(recipe)
    matched = length = 0
    spent = 0.0
    for first in range(0, len(sequences), source.max_rows):
        some = sequences[first : first + source.max_rows]
        stream = b"".join(source.render_deliveries(0, some, 1, some + 1, flags[some]))
        length += len(stream)
        began = time.thread_time()
        for at in range(0, len(stream), READ_BYTES):
            piece = stream[at : at + READ_BYTES]
            room = splitter.room(len(piece))
            room[:] = piece
            matched += sum(len(each.tags) for each in splitter.feed(room))
        spent += time.thread_time() - began
    assert matched == len(sequences), "each is matched as a whole"
    return spent / length


def test_a_byte_of_a_large_body_takes_no_longer_than_one_of_a_small_body():
    small, *large = (
        min(seconds_a_byte(size) for _ in range(3)) for size in (1 << 14, 1 << 20, 16 << 20)
    )
    assert max(large) < 2 * small, (small, large)  # it is a fifth: each message costs something


@pytest.mark.slow
def test_ten_million_messages_cost_ten_times_one_million(tmp_path):
    seconds = {1_000_000: [], 10_000_000: []}
    for number, count in enumerate([1_000_000] * 3 + [10_000_000]):  # the short one is noisier
        before = peak_rss_bytes()
        stand_in = StandIn(tmp_path / str(number), count)
        stand_in.deliver_all()
        seconds[count].append(stand_in.client_s)
        grown = peak_rss_bytes() - before
        assert (stand_in.recorder.ledger.state != 0).all()
        assert stand_in.recorder.repeats == 0
        assert grown < 20 * count + (32 << 20), "memory a message"
    ratio = median(seconds[10_000_000]) / median(seconds[1_000_000])
    assert 5 < ratio < 20, f"ten times the messages took {ratio:.1f} times as long"


def test_the_ledger_of_a_message_takes_at_most_39_bytes(tmp_path):
    count = 1_000_000
    PublishLedger.create(tmp_path / "producer", count)
    for queue in ("work", "audit"):
        DeliveryLedger.create(tmp_path / queue, count)
    files = list(tmp_path.rglob("*.npy"))
    assert sum(path.stat().st_size for path in files) <= 39 * count + 256 * len(files)
