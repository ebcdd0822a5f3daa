"""What a recorder writes: each delivery once, in its order, and so that no crash can bend it."""

import os

import numpy as np
import pytest

from rmqbench.run_directory.ledger import BLOCK, DeliveryLedger, PublishLedger
from rmqbench.run_directory.recorder import DeliveryRecorder, PublishRecorder
from rmqbench.verdict.evidence import (
    ACKED,
    CONFIRMED,
    DELIVERED,
    NACKED,
    REDELIVERED,
    REPORTED,
    SENT,
    Incident,
)


@pytest.fixture
def recorder(tmp_path):
    DeliveryLedger.create(tmp_path / "queue", 30)
    recorder = DeliveryRecorder(tmp_path / "queue", (10, 20))
    recorder.open_channel()
    yield recorder
    recorder.close()


def record(recorder, producer, sequences, redelivered=False, now_ns=7, **how):
    n, sequences = len(sequences), np.array(sequences, np.int64)
    stamps = np.zeros(n, np.uint32) if "headless" in how else (sequences + 100).astype(np.uint32)
    return recorder.record(
        np.full(n, producer),
        sequences,
        np.full(n, redelivered),
        stamps,
        now_ns,
        corrupted=bool(how),
    )


def findings(recorder):
    return [(i.finding, i.producer, i.sequence) for i in recorder.ledger.incidents()]


def rows(recorder, *names):
    return [tuple(int(row[name]) for name in names) for row in recorder.ledger.again()]


# --- deliveries -----------------------------------------------------------------------------------


def test_a_delivery_stands_at_the_place_of_its_producer(recorder):
    places = record(recorder, 1, [0, 1, 2])
    assert places.tolist() == [10, 11, 12]
    assert np.flatnonzero(recorder.ledger.state).tolist() == [10, 11, 12]
    assert (recorder.ledger.state[10:13] == DELIVERED).all()
    assert recorder.ledger.stamp[10:13].tolist() == [100, 101, 102]
    assert (recorder.deliveries, recorder.distinct, recorder.repeats) == (3, 3, 0)
    assert findings(recorder) == []


def test_each_delivery_has_a_moment_of_its_own_which_keeps_the_order(recorder):
    record(recorder, 0, [5, 3], now_ns=70)
    record(recorder, 0, [4, 5, 1], now_ns=70)
    record(recorder, 0, [0, 1], now_ns=20)  # the clock never goes back, and if it did
    record(recorder, 0, [2], now_ns=900)
    first_ns = recorder.ledger.first_ns
    assert first_ns[[5, 3, 4, 1, 0, 2]].tolist() == [70, 71, 72, 74, 75, 900]
    assert rows(recorder, "place", "at_ns") == [(5, 73), (1, 76)]


def test_producers_that_alternate_stand_each_at_its_own_place(recorder):
    stamps = np.arange(4, dtype=np.uint32)
    places = recorder.record(
        np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), np.zeros(4, bool), stamps, 7
    )
    assert places.tolist() == [0, 10, 1, 11]
    assert recorder.ledger.stamp[[0, 10, 1, 11]].tolist() == [0, 1, 2, 3]
    assert (recorder.distinct, findings(recorder)) == (4, [])


@pytest.mark.parametrize("sequences", [[1, 2], [5, 4], [6], [7, 8, 8]])
def test_the_flag_on_a_first_delivery_is_kept_whether_alone_or_in_a_burst(recorder, sequences):
    record(recorder, 0, sequences, redelivered=True)
    record(recorder, 0, [9])
    state = recorder.ledger.state
    assert (state[sequences] & REDELIVERED != 0).all()
    assert state[9] & REDELIVERED == 0


def test_the_flag_is_each_delivery_s_own_also_in_a_burst(recorder):
    flags = np.array([False, True, True, False])
    recorder.record(
        np.zeros(4, np.int64), np.array([0, 1, 0, 1]), flags, np.array([1, 2, 3, 4], np.uint32), 7
    )
    state = recorder.ledger.state
    assert (state[:2] & REDELIVERED).tolist() == [0, REDELIVERED]
    assert recorder.ledger.stamp[:2].tolist() == [1, 2]
    assert rows(recorder, "place", "stamp", "flags") == [
        (0, 3, REDELIVERED),
        (1, 4, 0),
    ]


def test_what_comes_again_is_a_row_and_leaves_the_first_delivery_as_it_was(recorder):
    record(recorder, 0, [3], redelivered=True, now_ns=10)
    record(recorder, 0, [2, 3, 4], now_ns=20)
    assert recorder.ledger.first_ns[2:5].tolist() == [20, 10, 22]
    assert recorder.ledger.state[3] & REDELIVERED
    assert rows(recorder, "place", "at_ns", "stamp") == [(3, 21, 103)]
    assert (recorder.deliveries, recorder.distinct, recorder.repeats) == (4, 3, 1)


def test_a_message_twice_in_one_burst_is_delivered_twice(recorder):
    record(recorder, 0, [4, 4])
    assert rows(recorder, "place", "channel", "flags") == [(4, 1, 0)]
    assert (recorder.deliveries, recorder.distinct) == (2, 1)


@pytest.mark.parametrize("at_once", [1, 24, 26])
def test_rows_of_which_the_kernel_takes_a_part_are_written_on(recorder, monkeypatch, at_once):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:at_once]))
    record(recorder, 0, [4, 4, 4])
    record(recorder, 0, [4])
    assert rows(recorder, "place", "stamp") == [(4, 104)] * 3


def test_each_row_says_its_channel(recorder):
    record(recorder, 0, [0])
    record(recorder, 0, [0], redelivered=True)
    recorder.open_channel()
    record(recorder, 0, [0, 1], redelivered=True)
    record(recorder, 0, [1])
    assert rows(recorder, "place", "channel", "flags") == [
        (0, 1, REDELIVERED),
        (0, 2, REDELIVERED),
        (1, 2, 0),
    ]


def test_a_new_channel_forgets_nothing(recorder):
    recorder.acknowledge(record(recorder, 0, [0, 1], redelivered=True), 9_000)
    recorder.open_channel()
    left = DELIVERED | REDELIVERED | ACKED
    assert (recorder.ledger.state[:2] == left).all()


def test_what_is_acknowledged_is_marked_and_nothing_else(recorder):
    places = record(recorder, 0, [0, 1, 2])
    recorder.acknowledge(places[1:], 9_000)
    acked = recorder.ledger.state & ACKED
    assert np.flatnonzero(acked).tolist() == [1, 2]


def test_what_is_reported_as_corrupted_is_marked_and_has_no_stamp(recorder):
    record(recorder, 0, [3], headless=True)
    record(recorder, 0, [3], headless=True)
    record(recorder, 0, [3])
    assert recorder.ledger.state[3] & REPORTED
    assert recorder.ledger.stamp[3] == 0
    assert rows(recorder, "stamp", "flags") == [(0, REPORTED), (103, 0)]


def test_what_is_corrupted_behind_a_whole_head_is_still_this_copy_of_it(recorder):
    record(recorder, 0, [3], corrupted=True)
    record(recorder, 0, [3], corrupted=True)
    assert recorder.ledger.state[3] & REPORTED
    assert recorder.ledger.stamp[3] == 103
    assert rows(recorder, "stamp", "flags") == [(103, REPORTED)]


@pytest.mark.parametrize(("producer", "sequence"), [(0, 10), (1, 20), (2, 0), (4095, 2**47)])
def test_a_number_that_nobody_was_given_is_a_phantom(recorder, producer, sequence):
    assert record(recorder, producer, [sequence]).tolist() == [-1]
    assert findings(recorder) == [("phantom", producer, sequence)]
    assert not recorder.ledger.state.any()


def test_phantoms_in_a_burst_leave_the_others_as_they_are(recorder):
    places = recorder.record(
        np.array([0, 7, 1, 0]),
        np.array([0, 1, 20, 1]),
        np.array([False, True, True, False]),
        np.array([1, 2, 3, 4], np.uint32),
        7,
    )
    assert places.tolist() == [0, -1, -1, 1]
    recorder.acknowledge(places, 8)
    recorder.give_up(places[1:3], requeue=False)
    assert np.flatnonzero(recorder.ledger.state).tolist() == [0, 1]
    assert findings(recorder) == [("phantom", 7, 1), ("phantom", 1, 20)]
    assert not (recorder.ledger.state & REDELIVERED).any()
    assert recorder.ledger.stamp[:2].tolist() == [1, 4]
    assert recorder.deliveries == 2


def test_more_deliveries_and_channels_than_a_byte_counts_are_kept(recorder):
    for _ in range(600):
        record(recorder, 0, [0], redelivered=True)
        recorder.open_channel()
    assert recorder.channel == 601
    assert rows(recorder, "channel") == [(channel,) for channel in range(2, 601)]
    assert recorder.repeats == 599


@pytest.mark.parametrize("sequences", [[3, 4], [4, 3], [4, 4], [4]])
def test_that_it_was_delivered_is_written_last(recorder, sequences):
    """A record that its writer's death tears apart must be a delivery that was not seen."""
    order = []

    class Noting:
        def __init__(self, name):
            self.name, self.array = name, getattr(recorder.ledger, name)

        def __getitem__(self, at):
            return self.array[at]

        def __setitem__(self, at, value):
            order.append(self.name)
            self.array[at] = value

    for name in ("state", "stamp", "first_ns"):
        setattr(recorder.ledger, name, Noting(name))
    record(recorder, 0, sequences, redelivered=True)
    assert order[-1] == "state"
    assert sorted(order[:-1]) == ["first_ns", "stamp"]
    assert (recorder.ledger.state.array[sequences] & DELIVERED != 0).all()


def test_how_far_it_has_come_is_counted_by_blocks_each_message_once(tmp_path):
    DeliveryLedger.create(tmp_path / "queue", 3 * BLOCK)
    recorder = DeliveryRecorder(tmp_path / "queue", (BLOCK + 1, 2 * BLOCK - 1))
    record(recorder, 0, [0, 1, 1, BLOCK])
    record(recorder, 1, [0, BLOCK, 2 * BLOCK - 2], redelivered=True)
    record(recorder, 1, [0])
    recorder.close()
    progress = DeliveryLedger.read(tmp_path / "queue").progress()
    assert progress.tolist() == [2, 2, 2, 0]
    assert progress.sum() == recorder.distinct


# --- incidents ------------------------------------------------------------------------------------


def test_an_incident_says_on_which_channel_it_was_seen(recorder):
    recorder.open_channel()
    recorder.report(Incident("foreign", 1, detail="x"))
    assert [each.channel for each in recorder.ledger.incidents()] == [2]
    assert recorder.incidents == 1


def test_a_line_cut_off_by_a_crash_is_passed_over(recorder):
    recorder.report(Incident("foreign", 1, detail="a \x1b[31m b"))
    with recorder.ledger.incidents_path.open("ab") as file:
        file.write(b'{"finding": "corr')
    assert [i.detail for i in recorder.ledger.incidents()] == ["a \x1b[31m b"]
    assert b"\x1b" not in recorder.ledger.incidents_path.read_bytes()


# --- publishes ------------------------------------------------------------------------------------


@pytest.fixture
def publishes(tmp_path):
    PublishLedger.create(tmp_path / "producer", 10)
    recorder = PublishRecorder(tmp_path / "producer")
    yield recorder
    recorder.close()


def test_what_is_sent_first_is_in_the_arrays_and_no_copy(publishes):
    publishes.send(np.array([0, 1, 2]), 1, 70)
    assert publishes.ledger.state.tolist() == [SENT] * 3 + [0] * 7
    assert publishes.ledger.sent_ns[:4].tolist() == [70, 70, 70, 0]
    assert (publishes.repeats, len(publishes.ledger.copies())) == (0, 0)


def test_what_is_sent_again_is_a_row_and_leaves_the_first_send_as_it_was(publishes):
    publishes.send(np.array([0, 1, 2]), 1, 70)
    publishes.ledger.state[1] |= CONFIRMED
    publishes.send(np.array([0, 2, 3]), 2, 80)
    publishes.send(np.array([2]), 3, 90)
    assert publishes.ledger.copies().tolist() == [(0, 80, 2), (2, 80, 2), (2, 90, 3)]
    assert publishes.ledger.sent_ns[:4].tolist() == [70, 70, 70, 80]
    assert publishes.ledger.state[:4].tolist() == [SENT, SENT | CONFIRMED, SENT, SENT]
    assert publishes.repeats == 3


def test_what_the_broker_contradicts_is_an_incident_of_the_channel_that_it_names(publishes):
    publishes.report(Incident("contradicted", 5, 0, 3, "first confirmed, then refused", 4))
    (told,) = publishes.ledger.incidents()
    assert (told.channel, told.sequence, publishes.incidents) == (4, 3, 1)


def test_each_publish_is_settled_once_whatever_is_said_of_it_later(publishes):
    publishes.send(np.arange(5), 1, 70)
    publishes.settle(np.array([0, 1]), CONFIRMED, 80)
    publishes.settle(np.array([1, 2]), NACKED, 90)
    ledger = PublishLedger.read(publishes.ledger.directory)
    assert ledger.state[:4].tolist() == [
        SENT | CONFIRMED,
        SENT | CONFIRMED | NACKED,
        SENT | NACKED,
        SENT,
    ]
    assert ledger.settled_after_ns[:4].tolist() == [10, 20, 20, 0]
    assert ledger.settled_ns(slice(4)).tolist() == [80, 90, 90, 0]
    assert ledger.last_ns == 90
    assert ledger.progress().tolist() == [3] == [ledger.settled]
