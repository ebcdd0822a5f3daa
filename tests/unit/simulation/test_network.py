"""pika on a network of virtual time: bytes on their way, and all the ways in which a link ends."""

import errno

import pika
import pytest

from rmqbench.simulation import ModelBroker
from rmqbench.simulation.network import TO_CLIENT, TO_SERVER, Link, simulated_network
from rmqbench.simulation.truth import Disconnected
from rmqbench.simulation.world import World


@pytest.fixture
def world():
    world = World()
    yield world
    world.close()


@pytest.fixture
def broker(world):
    return ModelBroker(world)


class Client:
    """A connection by pika, and what became of it."""

    def __init__(self, world, broker, **settings):
        self.made, self.events = [], []
        network = simulated_network(world, broker, made=self.made.append, **settings)
        self.channel, self.got, self.world = None, [], world
        self.connection = pika.SelectConnection(
            pika.ConnectionParameters(heartbeat=20),
            on_open_callback=lambda _: self._note("open"),
            on_open_error_callback=lambda _, error: self._end("refused", error),
            on_close_callback=lambda _, error: self._end("closed", error),
            custom_ioloop=network.io_services(),
        )

    def _note(self, what, error=None):
        self.events.append((what, error))

    def _end(self, what, error):
        self._note(what, error)
        self.connection.ioloop.stop()

    def turns(self, done, limit_s=60):
        """Take turns until something is so; return whether it is."""
        until = self.world.now() + limit_s
        while not done() and self.world.now() < until:
            self.connection.ioloop.poll()
            self.connection.ioloop.process_timeouts()
        return done()

    def open(self):
        assert self.turns(lambda: self.events)
        assert self.events == [("open", None)]
        self.connection.channel(on_open_callback=lambda channel: setattr(self, "channel", channel))
        assert self.turns(lambda: self.channel)
        declared = []
        self.channel.queue_declare("q", durable=True, callback=declared.append)
        assert self.turns(lambda: declared)
        return self

    def consume(self):
        self.channel.basic_consume("q", lambda *came: self.got.append(came[-1]), auto_ack=True)

    def publish(self, *bodies):
        for body in bodies:
            self.channel.basic_publish("", "q", body)

    @property
    def what(self):
        return [what for what, _ in self.events]


BODIES = [b"%d" % at * at for at in range(1, 30)]


@pytest.mark.parametrize("size", [0, 1, 7])
def test_bytes_arrive_whole_and_in_order_however_they_are_cut(world, broker, size):
    def cut(way, data):
        return [data[at : at + size] for at in range(0, len(data), size)] if size else [data]

    def main():
        client = Client(world, broker, new_link=lambda: Link(world, lambda _: 0.001, cut)).open()
        client.consume()
        client.publish(*BODIES)
        assert client.turns(lambda: len(client.got) == len(BODIES))
        return client.got

    assert world.run(main) == BODIES


def test_what_is_sent_later_does_not_overtake_what_is_slower(world):
    delays = iter((5.0, 1.0, 1.0, 7.0))
    link = Link(world, lambda _: next(delays))
    seen = []
    for name in "abcd":
        way = TO_CLIENT if name != "c" else TO_SERVER
        link.carry(way, lambda name=name: seen.append((name, world.now())))
    world.run(lambda: world.sleep(10))
    assert seen == [("c", 1), ("a", 5), ("b", 5), ("d", 7)]


def test_a_node_that_is_down_refuses_a_connection(world, broker):
    broker.kill()

    def main():
        client = Client(world, broker)
        client.connection.ioloop.start()
        return client

    client = world.run(main)
    assert client.what == ["refused"]
    assert "ConnectionRefusedError" in repr(client.events[0][1])


def test_both_sides_notice_a_connection_that_breaks_off_and_what_is_under_way_is_lost(
    world, broker
):
    def main():
        client = Client(world, broker).open()
        client.publish(b"arrives")
        world.sleep(1)
        client.publish(b"is lost")
        client.made[0].break_off()
        assert client.turns(lambda: "closed" in client.what)
        return client

    client = world.run(main)
    assert f"{errno.ECONNRESET}" in str(client.events[-1][1])
    assert broker.counts("q").ready == 1
    assert len(list(broker.truth.of(Disconnected))) == 1
    client.made[0].write(b"nobody hears it")
    client.made[0].abort()


def test_of_a_client_that_vanishes_arrives_what_it_had_sent_and_nothing_more(world, broker):
    def main():
        client = Client(world, broker).open()
        client.consume()
        client.publish(b"1", b"2")
        client.made[0].vanish()
        client.publish(b"3")
        world.sleep(1)
        return client

    client = world.run(main)
    assert client.what == ["open"]
    assert client.got == []
    assert broker.counts("q") == (0, 0, 0)  # delivered without acknowledgement, to nobody
    assert len(list(broker.truth.of(Disconnected))) == 1


def test_nothing_passes_a_link_that_swallows_and_heartbeats_tell(world, broker):
    def main():
        client = Client(world, broker).open()
        world.sleep(1)
        client.made[0].swallow()
        client.publish(b"1")
        begun = world.now()
        assert client.turns(lambda: "closed" in client.what, 100)
        return client, world.now() - begun

    client, lasted_s = world.run(main)
    assert 10 < lasted_s < 61
    assert "heartbeat" in str(client.events[-1][1]).lower()
    assert broker.counts("q").ready == 0


def test_a_server_that_leaves_is_noticed_behind_all_that_it_had_sent(world, broker):
    def main():
        client = Client(world, broker).open()
        client.consume()
        client.publish(b"1", b"2")
        assert client.turns(lambda: len(client.got) == 2)
        broker.close_connections("enough")
        assert client.turns(lambda: "closed" in client.what)
        return client

    client = world.run(main)
    assert client.events[-1][1].reply_code == 320
    assert client.made[0].over


def test_a_killed_node_takes_the_connection_with_it(world, broker):
    def main():
        client = Client(world, broker).open()
        broker.kill()
        assert client.turns(lambda: "closed" in client.what)
        return client

    assert "reset" in str(world.run(main).events[-1][1]).lower()


def test_two_clients_wait_for_each_other(world, broker):
    def consumer():
        client = Client(world, broker).open()
        client.consume()
        assert client.turns(lambda: len(client.got) == 2)
        return client.got, world.now()

    def main():
        task = world.spawn("consumer", consumer)
        client = Client(world, broker).open()
        for body in (b"1", b"2"):
            world.sleep(5)
            client.publish(body)
        while not task.ended:
            world.sleep(0.1)
        if task.error is not None:
            raise task.error
        return task.result

    got, ended_at = world.run(main)
    assert got == [b"1", b"2"]
    assert 10 < ended_at < 10.2


def test_a_callback_from_elsewhere_wakes_the_loop(world, broker):
    def main():
        client = Client(world, broker).open()
        loop, seen = client.connection.ioloop, []
        world.call_later(3, lambda: loop.add_callback_threadsafe(lambda: seen.append(world.now())))
        assert client.turns(lambda: seen, 10)
        loop.call_later(2, loop.stop)
        loop.start()
        return seen, world.now()

    (seen,), ended_at = world.run(main)
    assert seen > 3
    assert ended_at == pytest.approx(seen + 2)


def test_an_error_in_a_callback_leaves_what_has_arrived_to_the_next_turn(world, broker):
    def main():
        client = Client(world, broker).open()
        taken = []
        client.connection.ioloop.readable += [
            lambda: taken.append(1),
            lambda: 1 / 0,
            lambda: taken.append(2),
        ]
        with pytest.raises(ZeroDivisionError):
            client.connection.ioloop.poll()
        assert taken == [1]
        client.connection.ioloop.poll()
        return taken

    assert world.run(main) == [1, 2]
