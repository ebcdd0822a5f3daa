"""A producer's evidence: written before anything is sent, and settled by what the broker says."""

import itertools
import re
import time
import uuid

import numpy as np
import pytest
from support.confirms import ack, confirms, nack

from rmqbench.clients import producer as producers
from rmqbench.clients.lifetime import Churn
from rmqbench.clients.producer import ProducerPlan
from rmqbench.clock import Clock
from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, ConnectionLost, DeadlineExceeded, MessageTooLarge
from rmqbench.message import Recipe
from rmqbench.run_directory.journal import JOURNAL_FILE, ChannelClosed, ChannelOpened, read_journal
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.verdict.evidence import CONFIRMED, NACKED, RETURNED, SENT

COUNT = 20


@pytest.fixture
def ledger(tmp_path):
    PublishLedger.create(tmp_path / "producer", COUNT)
    return PublishLedger.open(tmp_path / "producer")


def places(ledger, bit):
    return np.flatnonzero(ledger.state & bit).tolist()


# --- a producer on a connection that is told what to do -----------------------------------------


class Link:
    """A connection that publishes nowhere; each turn does what its script says."""

    def __init__(self, script):
        self.script = script
        self.frame_max = 131072
        self.blocked = None
        self.unsent_bytes = self.turns = 0
        self.waited_s = 0.0
        self.channel_number = 1
        self.on_confirms = lambda confirms: None
        self.sent = []  # the state that the ledger had of each message when it was sent
        self.copies = []  # the numbers of those that the ledger then had as sent again
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

    def send(self, pieces):
        frames = b"".join(pieces)
        state = PublishLedger.read(self.directory).state
        self.copies = PublishLedger.read(self.directory).copies()["sequence"].tolist()
        for found in re.finditer(b"RMQB", frames):
            head = found.start()
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
        self.send([body])

    def turn(self, wait_s=None):
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
            number=0,
            count=COUNT,
            directory=tmp_path / "producer",
            exchange="x",
            routing_key="k",
            **{"recipe": Recipe(uuid.UUID(int=1)), "window": 8, "stall_s": 5.0, **changes},
        )
        return plan.run(), links

    return publish


def channels(tmp_path):
    """Return where each channel began, as the journal says."""
    entries = read_journal(tmp_path / "producer" / JOURNAL_FILE)
    return [(each.number, each.first) for each in entries if isinstance(each, ChannelOpened)]


def end(tmp_path):
    """Return the last word of the journal."""
    return list(read_journal(tmp_path / "producer" / JOURNAL_FILE))[-1]


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


def lose_when(sent):
    """End the connection once so many were sent, and settle none of them."""

    def script(link):
        if len(link.sent) >= sent:
            raise ConnectionLost("The connection ended.")

    return script


STANDING_STILL = Clock(time.monotonic, lambda: 1_790_000_000_000_000_000, time.sleep, lambda: 0.0)


@pytest.mark.parametrize("vector", [True, False])
def test_all_is_written_down_as_sent_before_it_is_sent(publish, ledger, vector):
    report, (link,) = publish(confirm_all, vector=vector)
    assert report.error is None
    assert link.sent == [(sequence, SENT) for sequence in range(COUNT)]
    assert (ledger.state == SENT | CONFIRMED).all()
    assert (ledger.sent_ns > 0).all()


def test_after_an_interruption_it_goes_on_with_what_was_never_sent(publish, ledger, tmp_path):
    report, links = publish(confirm_and_lose(ack(2, multiple=True), nack(3)), confirm_all)
    assert [sequence for sequence, _ in links[0].sent] == list(range(8))
    assert [sequence for sequence, _ in links[1].sent] == list(range(8, COUNT))
    assert channels(tmp_path) == [(1, 0), (2, 8)]
    assert [each.why for each in report.interruptions] == ["The connection ended."]
    assert places(ledger, CONFIRMED) == [0, 1, *range(8, COUNT)]
    assert places(ledger, NACKED) == [2]
    assert len(ledger.copies()) == 0


def test_only_what_is_indeterminate_is_sent_again_and_on_record_before(publish, ledger, tmp_path):
    script = confirm_and_lose(ack(2, multiple=True), nack(3), ack(5))
    _, links = publish(script, confirm_all, publish_again=True)
    again = [3, 5, 6, 7]
    assert [sequence for sequence, _ in links[1].sent] == [*again, *range(8, COUNT)]
    assert links[1].copies == again
    assert ledger.copies()["channel"].tolist() == [2] * 4
    assert places(ledger, CONFIRMED) == [0, 1, *range(3, COUNT)]
    assert channels(tmp_path) == [(1, 0), (2, 8)]
    assert (end(tmp_path).repeats, end(tmp_path).incidents) == (4, 0)


def test_a_connection_that_has_lived_long_enough_is_left_when_all_on_it_is_confirmed(
    publish, ledger, tmp_path
):
    """Each lives for no time: at least one batch is sent on it, and all of that is confirmed."""
    report, links = publish(*[confirm_all] * 10, churn=Churn(1e9, 1))
    used = [[sequence for sequence, _ in link.sent] for link in links if link.sent]
    assert len(used) > 1
    assert all(used)
    assert [*itertools.chain(*used)] == list(range(COUNT))
    assert places(ledger, CONFIRMED) == list(range(COUNT))
    assert channels(tmp_path) == [(n + 1, each[0]) for n, each in enumerate(used)]
    entries = read_journal(tmp_path / "producer" / JOURNAL_FILE)
    closed = [each.number for each in entries if isinstance(each, ChannelClosed)]
    assert closed == [n + 1 for n in range(len(used) - 1)]
    assert (report.error, report.interruptions) == (None, ())


def test_what_is_sent_a_third_time_is_a_further_copy_with_a_time_of_its_own(publish, ledger):
    lost = confirm_and_lose(ack(2, multiple=True))
    publish(lost, lose_when(4), confirm_all, publish_again=True)
    copies = ledger.copies()
    assert copies["sequence"].tolist() == [*range(2, 8), *range(2, 8), *range(8, 10)]
    assert set(copies["channel"].tolist()) == {2, 3}
    times = [ledger.sent_ns[2], *copies["sent_ns"][copies["sequence"] == 2]]
    assert len(set(times)) == 3
    assert times == sorted(times)
    assert (ledger.state == SENT | CONFIRMED).all()


def test_no_moment_of_sending_serves_twice(publish, ledger, monkeypatch):
    """By its send time a message is told from an earlier copy of it."""
    monkeypatch.setattr(producers.Clock, "since", lambda _: STANDING_STILL)
    publish(confirm_and_lose(ack(2, multiple=True)), confirm_all, publish_again=True)
    copies = ledger.copies()
    assert len(copies)
    assert (copies["sent_ns"] > ledger.sent_ns[copies["sequence"]]).all()


@pytest.mark.parametrize("vector", [True, False])
def test_what_the_broker_contradicts_is_on_record_and_it_goes_on(publish, ledger, tmp_path, vector):
    said = []

    def contradict(link):
        if not said:
            said.append(link.on_confirms(confirms(ack(1), nack(1), ack(1))))
        link.on_confirms(confirms(ack(0, multiple=True)))

    report, _ = publish(contradict, vector=vector)
    assert report.error is None
    assert (ledger.state & CONFIRMED != 0).all()
    told = [(each.finding, each.producer, each.sequence) for each in ledger.incidents()]
    assert told == [("contradicted", 0, 0)] * 2
    assert end(tmp_path).incidents == 2


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


@pytest.mark.parametrize("confirmed", [0, 8])
def test_who_is_refused_says_so_where_nothing_was_confirmed_before(publish, tmp_path, confirmed):
    def confirm_and_refuse(link):
        if confirmed and link.turns == 1:
            confirm_all(link)
        else:
            raise AccessRefused("You may not.")

    def refuse(link):
        raise AccessRefused("You may not.")

    report, _ = publish(confirm_and_refuse, *[refuse] * 20, stall_s=0.2)
    assert report.error == "You may not."
    assert end(tmp_path).refused is (confirmed == 0)


def test_a_message_that_is_too_large_for_the_broker_ends_it_at_once(publish, tmp_path):
    def refuse(link):
        raise MessageTooLarge("Too large.", "Make it smaller.")

    report, links = publish(refuse, confirm_all)
    assert report.error == "Too large. Make it smaller."
    assert len(links[0].sent) < COUNT
    assert not links[1].sent
    assert end(tmp_path).too_large
    assert not end(tmp_path).refused


@pytest.mark.parametrize(
    ("size", "most"), [(4_000_000, 4), ("2000000:6000000", 4), ("1000*3,4000000", 16)]
)
def test_of_large_messages_as_many_are_under_way_as_16_mib_hold_on_average(publish, size, most):
    under_way = []

    def wait_and_confirm(link):
        if link.turns == 30:
            under_way.append(len(link.sent))
        if link.turns >= 30:
            confirm_all(link)

    recipe = Recipe(uuid.UUID(int=1), size_bytes=size)
    report, _ = publish(wait_and_confirm, window=COUNT, recipe=recipe)
    assert report.error is None
    assert under_way == [most]


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
