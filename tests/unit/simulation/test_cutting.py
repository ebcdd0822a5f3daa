"""It makes no difference in which pieces the bytes of a client come."""

import pika.frame
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import Basic, Channel, Connection, Queue
from support.amqp_client import Client, VirtualTime

from rmqbench.simulation import ModelBroker


class Recording(Client):
    """Remembers all that it has sent."""

    def __init__(self, broker):
        self.sent = b""
        super().__init__(broker)

    def send_bytes(self, data):
        self.sent += data
        super().send_bytes(data)


def a_history():
    """Return the bytes of a client that does a little of everything, and those that it got."""
    client = Recording(ModelBroker(VirtualTime()))
    client.open(channels=2, confirm=True)
    client.declare()
    client.declare("r", quorum=True)
    client.bind("x", key="k")
    client.publish(b"", b"one", b"two" * 100, exchange="x", key="k", mandatory=True)
    client.publish(b"r1", key="r", channel=2)
    client.publish(b"lost", key="nowhere", mandatory=True)
    client.consume(prefetch=2)
    client.consume("r", channel=2)
    client.ack(1)
    client.send(Basic.Nack(2, False, True))
    client.send(Basic.Reject(1, True), 2)
    client.call(Basic.Cancel("c"))
    client.get()
    client.call(Queue.Declare(queue="missing", passive=True), 2)
    client.send(Channel.CloseOk(), 2)
    client.call(Connection.Close(200, "", 0, 0), 0)
    assert client.lost
    return client.sent, client.raw


SENT, GOT = a_history()


def frames(data):
    found = []
    while data:
        taken, frame = pika.frame.decode_frame(data)
        assert frame is not None
        found.append(data[:taken])
        data = data[taken:]
    return found


def replay(pieces):
    """Send bytes in pieces; return what came, and whether the connection was ended."""
    came = []
    session = ModelBroker(VirtualTime()).connect(came.append, lambda: came.append(None))
    for piece in pieces:
        session.receive(piece)
    assert came.pop() is None
    return b"".join(came)


def without_confirms(data):
    """Leave out acks, which are grouped by what came in one piece."""
    ack = Basic.Ack.INDEX.to_bytes(4, "big")
    return [frame for frame in frames(data) if frame[7:11] != ack]


@given(st.sets(st.integers(1, len(SENT) - 1), max_size=40))
def test_bytes_may_be_cut_anywhere(cuts):
    ends = [*sorted(cuts), len(SENT)]
    got = replay(SENT[start:end] for start, end in zip([0, *ends], ends, strict=False))
    assert sorted(without_confirms(got)) == sorted(without_confirms(GOT))


def test_bytes_may_come_one_by_one_or_all_at_once():
    assert sorted(without_confirms(replay([SENT]))) == sorted(without_confirms(GOT))
    one_by_one = replay(SENT[at : at + 1] for at in range(len(SENT)))
    assert without_confirms(one_by_one) == without_confirms(GOT)


@given(st.binary(max_size=200), st.integers(0, len(SENT)), st.integers(0, 40))
def test_no_bytes_whatever_make_the_model_fall(noise, at, length):
    session = ModelBroker(VirtualTime()).connect(lambda data: None, lambda: None)
    session.receive(SENT[:at] + noise + SENT[at + length :])
