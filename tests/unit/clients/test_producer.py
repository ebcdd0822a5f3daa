"""A producer's ledger: written before anything is sent, and settled by what the broker says."""

import uuid

import numpy as np
import pytest

from rmqbench.amqp.vector import Confirms
from rmqbench.clients import producer as producers
from rmqbench.clients.producer import ProducerPlan, _Settling
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, ConnectionLost, DeadlineExceeded
from rmqbench.message import Recipe
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.verdict.evidence import CONFIRMED, NACKED, RETURNED, SENT, SENT_AGAIN

COUNT = 20
NOTHING = np.empty(0, np.int64)


@pytest.fixture
def ledger(tmp_path):
    PublishLedger.create(tmp_path / "producer", COUNT)
    return PublishLedger.open(tmp_path / "producer")


def confirms(*rows):
    """Acks and nacks as they came: (tag, multiple, nack) each."""
    tags, multiple, nack = zip(*rows, strict=True)
    return Confirms(1, np.array(tags), np.array(multiple, bool), np.array(nack, bool))


def ack(tag, multiple=False):
    return tag, multiple, False


def nack(tag, multiple=False):
    return tag, multiple, True


def places(ledger, bit):
    return np.flatnonzero(ledger.state & bit).tolist()


# --- tags and sequence numbers ------------------------------------------------------------------


def test_tags_follow_the_order_of_sending_from_one_on(ledger):
    settling = _Settling(ledger, NOTHING, 0)
    assert settling.take(3).tolist() == [0, 1, 2]
    assert settling.take(2).tolist() == [3, 4]
    settling.settle(confirms(ack(4), ack(1)))
    assert places(ledger, CONFIRMED) == [0, 3]
    assert np.flatnonzero(ledger.settled_ns).tolist() == [0, 3]
    assert (settling.sent, settling.settled) == (5, 2)


def test_a_later_channel_begins_its_tags_anew(ledger):
    settling = _Settling(ledger, NOTHING, 7)
    assert settling.take(3).tolist() == [7, 8, 9]
    settling.settle(confirms(ack(1), ack(3)))
    assert places(ledger, CONFIRMED) == [7, 9]


def test_what_is_sent_again_comes_first_and_has_the_first_tags(ledger):
    settling = _Settling(ledger, np.array([2, 5, 6]), 9)
    assert settling.take(2).tolist() == [2, 5]
    assert settling.take(3).tolist() == [6, 9, 10]
    settling.settle(confirms(ack(2), nack(3), ack(5)))
    assert places(ledger, CONFIRMED) == [5, 10]
    assert places(ledger, NACKED) == [6]
    settling.settle(confirms(ack(5, multiple=True)))
    assert places(ledger, CONFIRMED) == [2, 5, 9, 10]
    assert settling.settled == 5


def test_multiple_covers_all_up_to_its_tag(ledger):
    settling = _Settling(ledger, NOTHING, 0)
    settling.take(10)
    settling.settle(confirms(ack(4, multiple=True)))
    assert places(ledger, CONFIRMED) == [0, 1, 2, 3]
    settling.settle(confirms(ack(7, multiple=True), ack(9)))
    assert places(ledger, CONFIRMED) == [0, 1, 2, 3, 4, 5, 6, 8]
    settling.settle(confirms(ack(3, multiple=True)))
    assert settling.settled == 8


def test_multiple_with_tag_0_covers_all_that_were_sent(ledger):
    settling = _Settling(ledger, NOTHING, 0)
    settling.take(6)
    settling.settle(confirms(ack(2), ack(0, multiple=True)))
    assert places(ledger, CONFIRMED) == [0, 1, 2, 3, 4, 5]
    assert settling.settled == 6


def test_a_nack_is_told_from_an_ack_in_the_same_burst(ledger):
    settling = _Settling(ledger, NOTHING, 0)
    settling.take(8)
    settling.settle(confirms(ack(1), nack(3, multiple=True), ack(5), nack(7), ack(8, True)))
    assert places(ledger, CONFIRMED) == [0, 3, 4, 5, 7]
    assert places(ledger, NACKED) == [1, 2, 6]
    assert settling.settled == 8


def test_what_is_settled_stays_as_it_is_and_counts_once(ledger):
    settling = _Settling(ledger, NOTHING, 0)
    settling.take(3)
    settling.settle(confirms(nack(1)))
    settling.settle(confirms(ack(1), ack(2), ack(2, multiple=True)))
    settling.settle(confirms(ack(2)))
    assert places(ledger, NACKED) == [0]
    assert places(ledger, CONFIRMED) == [1]
    assert settling.settled == 2


@pytest.mark.parametrize("row", [ack(4), ack(4, multiple=True), nack(10**12)])
def test_a_tag_that_was_never_given_is_an_error_and_settles_nothing(ledger, row):
    settling = _Settling(ledger, NOTHING, 0)
    settling.take(3)
    with pytest.raises(BrokerError, match="only 3 messages were published"):
        settling.settle(confirms(ack(1), row))
    assert places(ledger, CONFIRMED) == []


# --- a producer on a connection that is told what to do -----------------------------------------


class Link:
    """A connection that publishes nowhere; each turn does what its script says."""

    def __init__(self, script):
        self.script = script
        self.frame_max = 131072
        self.blocked = None
        self.unsent_bytes = self.turns = 0
        self.channel_number = 1
        self.on_confirms = lambda confirms: None
        self.sent = []  # the state that the ledger had of each message when it was sent
        self.asked_after = []  # so many messages were sent before it asked for an answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def channel(self):
        return self

    def add_on_return_callback(self, callback):
        self.on_return = callback

    def expect_confirms(self, channel, handler):
        self.on_confirms = handler

    def send(self, frames):
        state = PublishLedger.read(self.directory).state
        stride = len(frames) // frames.count(b"RMQB")
        for at in range(0, len(frames), stride):
            head = frames.index(b"RMQB", at)
            sequence = int.from_bytes(frames[head + 24 : head + 32], "big")
            self.sent.append((sequence, int(state[sequence])))

    def basic_qos(self, prefetch_count, callback):
        self.asked_after.append(len(self.sent))
        self.answer = callback

    def wait_until(self, condition, timeout_s, what):
        assert not condition(), "it waits for what has not come yet"
        self.answer(None)
        assert condition(), what

    def basic_publish(self, exchange, routing_key, body, properties, mandatory):
        self.send(body)

    def turn(self):
        self.turns += 1
        assert self.turns < 1000, "it goes on for ever"
        self.script(self)


@pytest.fixture
def publish(tmp_path, ledger, monkeypatch):
    """Run a producer whose connections, one after the other, do what these scripts say."""

    def publish(*scripts, **changes):
        links = [Link(script) for script in scripts]
        left = iter(links)

        def connect(*_, **__):
            link = next(left)
            link.directory = tmp_path / "producer"
            return link

        monkeypatch.setattr(producers, "Connection", connect)
        plan = ProducerPlan(
            endpoint=Endpoint(),
            recipe=Recipe(uuid.UUID(int=1)),
            number=0,
            count=COUNT,
            directory=tmp_path / "producer",
            exchange="x",
            routing_key="k",
            **{"window": 8, "stall_s": 5.0, **changes},
        )
        return plan.run(), links

    return publish


def confirm_all(link):
    link.on_confirms(confirms(ack(0, multiple=True)))


def lose(link):
    raise ConnectionLost("The connection ended.")


def confirm_and_lose(*rows):
    """Settle these tags, once enough was sent, and end the connection."""

    def script(link):
        if len(link.sent) >= 8:
            link.on_confirms(confirms(*rows))
            raise ConnectionLost("The connection ended.")

    return script


@pytest.mark.parametrize("vector", [True, False])
def test_all_is_written_down_as_sent_before_it_is_sent(publish, ledger, vector):
    report, (link,) = publish(confirm_all, vector=vector)
    assert report.error is None
    assert link.sent == [(sequence, SENT) for sequence in range(COUNT)]
    assert (ledger.state == SENT | CONFIRMED).all()
    assert (ledger.sent_ns > 0).all()


def test_after_an_interruption_it_goes_on_with_what_was_never_sent(publish, ledger):
    report, links = publish(confirm_and_lose(ack(2, multiple=True), nack(3)), confirm_all)
    assert [sequence for sequence, _ in links[0].sent] == list(range(8))
    assert [sequence for sequence, _ in links[1].sent] == list(range(8, COUNT))
    assert report.channel_starts == (0, 8)
    assert [each.why for each in report.interruptions] == ["The connection ended."]
    assert places(ledger, CONFIRMED) == [0, 1, *range(8, COUNT)]
    assert places(ledger, NACKED) == [2]
    assert places(ledger, SENT_AGAIN) == []


def test_only_what_is_indeterminate_is_sent_again_and_marked(publish, ledger):
    script = confirm_and_lose(ack(2, multiple=True), nack(3), ack(5))
    report, links = publish(script, confirm_all, publish_again=True)
    again = [3, 5, 6, 7]
    assert [sequence for sequence, _ in links[1].sent] == [*again, *range(8, COUNT)]
    assert links[1].sent[0] == (3, SENT | SENT_AGAIN)
    assert places(ledger, SENT_AGAIN) == again
    assert places(ledger, CONFIRMED) == [0, 1, *range(3, COUNT)]
    assert report.channel_starts == (0, 8)


def test_what_was_returned_is_not_sent_again(publish, ledger):
    recipe = Recipe(uuid.UUID(int=1))

    def send_back_and_lose(link):
        if len(link.sent) >= 8:
            message = (0, 4, 1)
            body, properties = recipe.body(*message), recipe.properties(*message)
            link.on_return(None, None, properties, body)
            raise ConnectionLost("The connection ended.")

    _, links = publish(send_back_and_lose, confirm_all, publish_again=True)
    assert [sequence for sequence, _ in links[1].sent[:7]] == [0, 1, 2, 3, 5, 6, 7]
    assert places(ledger, RETURNED) == [4]


def test_a_window_is_not_exceeded_and_a_missing_confirm_is_an_error(publish, ledger):
    def wait(link):
        raise DeadlineExceeded("waited in vain")

    report, links = publish(wait, stall_s=0)
    assert "in vain" in report.error
    assert len(links[0].sent) <= 8
    assert not places(ledger, CONFIRMED)


def test_without_confirms_what_is_written_counts_as_confirmed(publish, ledger):
    report, links = publish(lambda link: None, confirms=False)
    assert report.error is None
    assert len(links[0].sent) == COUNT
    assert (ledger.state == SENT | CONFIRMED).all()


@pytest.mark.parametrize(("confirmed", "asked_after"), [(False, [COUNT]), (True, [])])
def test_without_confirms_it_ends_with_an_answer_that_comes_behind_all_publishes(
    publish, confirmed, asked_after
):
    """Nothing else says that the broker has read them."""
    report, (link,) = publish(confirm_all, confirms=confirmed)
    assert report.error is None
    assert link.asked_after == asked_after
