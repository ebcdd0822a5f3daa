"""What a connection keeps back for more to come is taken in time, and before the end."""

import socket
import threading
import uuid
from contextlib import closing, contextmanager
from itertools import chain

import pika
import pika.exceptions
import pika.frame
import pika.spec
import pytest
from support.frames import delivery

from rmqbench.amqp.connection import Connection
from rmqbench.amqp.framing import FrameCutter
from rmqbench.amqp.shape import Shape
from rmqbench.endpoint import Endpoint
from rmqbench.errors import ConnectionLost
from rmqbench.message import Recipe

RECIPE = Recipe(uuid.UUID(int=1), size_bytes=50_000)
NOW = 1_790_000_000_123_456_789
LIMIT_S = 30

spec = pika.spec
ANSWERS = {
    spec.Connection.StartOk: (0, spec.Connection.Tune(2047, 131072, 0)),
    spec.Connection.Open: (0, spec.Connection.OpenOk()),
    spec.Channel.Open: (1, spec.Channel.OpenOk()),
    spec.Channel.Close: (1, spec.Channel.CloseOk()),
    spec.Connection.Close: (0, spec.Connection.CloseOk()),
}


class Server:
    """Answers what opens a connection, and sends what it is told."""

    def __init__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(LIMIT_S)
        self.port = self._listening.getsockname()[1]
        self.client = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send(self, data):
        """Send from a thread of its own."""
        thread = threading.Thread(target=self.client.sendall, args=(data,), daemon=True)
        thread.start()
        return thread

    def close(self):
        self._listening.close()
        if self.client is not None:
            self.client.close()
        self._thread.join(LIMIT_S)

    def _serve(self):
        self.client, _ = self._listening.accept()
        self.client.settimeout(LIMIT_S)
        self.client.recv(8)
        start = spec.Connection.Start(0, 9, {}, "PLAIN", "en_US")
        self.client.sendall(pika.frame.Method(0, start).marshal())
        cutter = FrameCutter()
        try:
            while data := self.client.recv(1 << 16):
                for frame in cutter.feed(data):
                    for asked, (channel, answer) in ANSWERS.items():
                        if frame.method == asked.INDEX:
                            self.client.sendall(pika.frame.Method(channel, answer).marshal())
        except OSError:
            pass


@contextmanager
def connected():
    """Open a connection whose deliveries are of a learned shape; give it, and what has come."""
    server = Server()
    endpoint = Endpoint(host="127.0.0.1", port=server.port, username="u", password="p")
    try:
        with Connection(endpoint, name="test") as connection:
            channel, pieces = connection.channel(), []
            connection.expect_deliveries(channel, lambda some: pieces.append(some.tags.tolist()))
            first = delivery(RECIPE, 1, False, (0, 0, NOW))
            connection.learn(channel, Shape.of_delivery(first, RECIPE, 131072))
            yield server, connection, pieces
    finally:
        server.close()


def stream(count):
    """Return the frames of deliveries with the tags 1, 2 …."""
    return b"".join(delivery(RECIPE, n, False, (0, n, NOW)) for n in range(1, count + 1))


def test_nothing_is_kept_back_where_nothing_may_wait():
    with connected() as (server, connection, pieces):
        frames, before = stream(200), connection.received_bytes
        thread = server.send(frames)
        while connection.received_bytes < before + len(frames):
            connection.turn()
            whole = (connection.received_bytes - before) * 200 // len(frames)
            assert sum(map(len, pieces)) >= whole - 1
        thread.join(LIMIT_S)
        assert list(chain(*pieces)) == list(range(1, 201))


def test_what_came_in_several_turns_is_compared_together_where_it_may_wait():
    with connected() as (server, connection, pieces):
        connection.longest_pause_s = 1.0
        thread = server.send(stream(400))
        connection.wait_until(lambda: sum(map(len, pieces)) == 400, LIMIT_S, "all")
        thread.join(LIMIT_S)
        assert list(chain(*pieces)) == list(range(1, 401))
        in_a_turn = (1 << 20) // 50_000
        assert max(map(len, pieces)) > in_a_turn + 1


class Source:
    """A socket that gives what it has, as much at a time as there is room for.

    There always seems to be more.
    """

    def __init__(self, data):
        self.left = data
        self.ends = socket.socketpair()
        self.ends[1].send(b"more")

    def fileno(self):
        return self.ends[0].fileno()

    def close(self):
        for each in self.ends:
            each.close()

    def recv_into(self, room):
        some, self.left = self.left[: len(room)], self.left[len(room) :]
        room[: len(some)] = some
        return len(some)


def lose(connection):
    """End the stream as pika does where it fails to send: nothing is received any more."""
    connection._pika._terminate_stream(pika.exceptions.StreamLostError("broken pipe"))
    with pytest.raises(ConnectionLost):
        connection.turn()


@pytest.mark.parametrize("end", [lose, Connection.abort], ids=["lost", "aborted"])
def test_what_is_kept_back_is_taken_before_the_end(end):
    with connected() as (_, connection, pieces):
        all_reads_full = (1 << 14) + (1 << 15) + (1 << 16) + (1 << 17)  # each is twice the last
        frames = stream(5)[:all_reads_full]
        connection.longest_pause_s = 1.0
        with closing(Source(frames)) as source:
            while source.left:
                connection._received_data(connection._receive(source, 1 << 18))
            came = sum(map(len, pieces))
            end(connection)
            connection.abort()
        assert came < sum(map(len, pieces)) == len(frames) // 50_000
