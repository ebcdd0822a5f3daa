"""The ledger keeps what happened, also across the death of its writer."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from rmqbench.errors import RmqbenchError
from rmqbench.run_directory import ledger
from rmqbench.run_directory.ledger import DeliveryLedger, DeliveryRecorder, PublishLedger
from rmqbench.verdict.evidence import CONFIRMED, FIRST_REDELIVERED, SENT, Incident


@pytest.fixture
def recorder(tmp_path):
    DeliveryLedger.create(tmp_path / "queue", 30)
    recorder = DeliveryRecorder(tmp_path / "queue", (10, 20))
    recorder.open_channel()
    yield recorder
    recorder.close()


def record(recorder, producer, sequences, redelivered=False, now_ns=7):
    n = len(sequences)
    return recorder.record(
        np.full(n, producer), np.array(sequences), np.full(n, redelivered), now_ns
    )


def findings(recorder):
    return [(i.finding, i.producer, i.sequence) for i in recorder.ledger.incidents()]


def test_a_message_costs_at_most_40_bytes_with_two_queues(tmp_path):
    count = 100_000
    PublishLedger.create(tmp_path / "p", count)
    for queue in ("work", "audit"):
        DeliveryLedger.create(tmp_path / queue, count)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    assert size / count <= 40


def test_deliveries_are_counted_at_the_place_of_their_producer(recorder):
    places = record(recorder, 1, [0, 1, 2])
    assert places.tolist() == [10, 11, 12]
    assert np.flatnonzero(recorder.ledger.delivered).tolist() == [10, 11, 12]
    assert recorder.ledger.first_ns[11] == 7
    assert (recorder.deliveries, recorder.distinct) == (3, 3)
    assert findings(recorder) == []


def test_producers_that_alternate_are_each_in_order(recorder):
    recorder.record(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), np.zeros(4, bool), 7)
    assert findings(recorder) == []
    assert recorder.distinct == 4


def test_a_lower_sequence_number_is_reordered_whether_alone_or_in_a_burst(recorder):
    record(recorder, 0, [5])
    record(recorder, 0, [3, 4, 6])
    record(recorder, 0, [9, 8])
    assert findings(recorder) == [
        ("reordered", 0, 3),
        ("reordered", 0, 4),
        ("reordered", 0, 8),
    ]


def test_a_lower_sequence_number_with_the_flag_is_counted_apart(recorder):
    record(recorder, 0, [5])
    record(recorder, 0, [3, 4], redelivered=True)
    assert findings(recorder) == []
    assert recorder.reordered_redeliveries == 2


def test_the_flag_on_a_first_delivery_is_told_from_a_second_delivery(recorder):
    record(recorder, 0, [0], redelivered=True)
    record(recorder, 0, [1])
    record(recorder, 0, [0, 1], redelivered=True)
    assert recorder.ledger.delivered[:2].tolist() == [2, 2]
    assert recorder.ledger.redelivered[:2].tolist() == [FIRST_REDELIVERED | 2, 1]


def test_a_message_twice_in_one_burst_is_delivered_twice(recorder):
    record(recorder, 0, [4, 4])
    assert recorder.ledger.delivered[4] == 2
    assert (recorder.deliveries, recorder.distinct) == (2, 1)


def test_again_after_its_ack_on_the_same_channel_is_reported(recorder):
    recorder.acknowledge(record(recorder, 0, [0, 1]))
    record(recorder, 0, [1], redelivered=True)
    assert findings(recorder) == [("redelivered after ack", 0, 1)]


def test_again_after_its_ack_on_a_channel_that_ended_is_not(recorder):
    recorder.acknowledge(record(recorder, 0, [0, 1]))
    recorder.open_channel()
    record(recorder, 0, [1], redelivered=True)
    assert findings(recorder) == []


@pytest.mark.parametrize(("producer", "sequence"), [(0, 10), (1, 20), (2, 0), (4095, 2**47)])
def test_a_number_that_nobody_was_given_is_a_phantom(recorder, producer, sequence):
    assert record(recorder, producer, [sequence]).tolist() == []
    assert findings(recorder) == [("phantom", producer, sequence)]
    assert not recorder.ledger.delivered.any()


def test_counts_stop_instead_of_starting_again_at_0(recorder):
    for _ in range(300):
        record(recorder, 0, [0], redelivered=True)
    assert recorder.ledger.delivered[0] == 127
    assert recorder.ledger.redelivered[0] == FIRST_REDELIVERED | 127


def test_a_line_cut_off_by_a_crash_is_passed_over(recorder):
    recorder.report(Incident("foreign", 1, detail="a \x1b[31m b"))
    with recorder.ledger.incidents_path.open("ab") as file:
        file.write(b'{"finding": "corr')
    assert [i.detail for i in recorder.ledger.incidents()] == ["a \x1b[31m b"]
    assert b"\x1b" not in recorder.ledger.incidents_path.read_bytes()


def test_what_was_recorded_outlives_a_killed_process(tmp_path):
    PublishLedger.create(tmp_path, 1000)
    code = (
        "import os, signal, sys, pathlib\n"
        "from rmqbench.run_directory.ledger import *\n"
        "from rmqbench.verdict.evidence import CONFIRMED, SENT\n"
        "ledger = PublishLedger.open(pathlib.Path(sys.argv[1]))\n"
        "ledger.state[:500] = SENT | CONFIRMED\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    state = PublishLedger.read(tmp_path).state
    assert (state[:500] == SENT | CONFIRMED).all()
    assert not state[500:].any()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_an_error_before_anything_is_begun(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.os, "posix_fallocate", full)
    with pytest.raises(RmqbenchError, match="No space left on device"):
        PublishLedger.create(tmp_path / "p", 10)


@pytest.mark.parametrize("sequences", [[3, 4], [4, 3], [4, 4]])
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

    columns = ("delivered", "redelivered", "first_ns")
    for name in columns:
        setattr(recorder.ledger, name, Noting(name))
    record(recorder, 0, sequences, redelivered=True)
    assert set(order[:2]) == {"redelivered", "first_ns"}
    assert order[2] == order[-1] == "delivered"
    assert (recorder.ledger.delivered.array[sequences] > 0).all()


def test_the_flag_on_a_first_delivery_is_kept_whether_alone_or_in_a_burst(recorder):
    record(recorder, 0, [1, 2], redelivered=True)
    record(recorder, 0, [5, 4], redelivered=True)
    record(recorder, 0, [6, 6])
    flagged = recorder.ledger.redelivered
    assert flagged[[1, 2, 4, 5]].tolist() == [FIRST_REDELIVERED | 1] * 4
    assert flagged[6] == 0


def test_a_second_delivery_without_the_flag_is_never_a_redelivery(recorder):
    recorder.acknowledge(record(recorder, 0, [0, 1]))
    record(recorder, 0, [0, 1])
    assert recorder.ledger.delivered[:2].tolist() == [2, 2]
    assert recorder.ledger.redelivered[:2].tolist() == [0, 0]
    assert findings(recorder) == []


def test_a_second_delivery_in_the_middle_of_a_burst_is_counted(recorder):
    record(recorder, 0, [3])
    record(recorder, 0, [2, 3, 4])
    assert recorder.ledger.delivered[2:5].tolist() == [1, 2, 1]
    assert (recorder.deliveries, recorder.distinct) == (4, 3)
    assert findings(recorder) == [("reordered", 0, 2)]


def test_again_is_told_by_the_channel_of_its_ack_also_on_later_channels(recorder):
    recorder.open_channel()
    recorder.acknowledge(record(recorder, 0, [0]))
    assert recorder.ledger.acked[0] == recorder.channel == 2
    record(recorder, 0, [0], redelivered=True)
    assert findings(recorder) == [("redelivered after ack", 0, 0)]


def test_again_without_an_ack_is_nothing_but_redelivered(recorder):
    record(recorder, 0, [0])
    record(recorder, 0, [0], redelivered=True)
    assert findings(recorder) == []


def test_after_channel_255_comes_channel_1(recorder):
    for _ in range(254):
        recorder.open_channel()
    recorder.acknowledge(record(recorder, 0, [0]))
    assert recorder.ledger.acked[0] == 255
    recorder.open_channel()
    assert recorder.channel == 1


def test_phantoms_in_a_burst_leave_the_others_as_they_are(recorder):
    places = recorder.record(
        np.array([0, 7, 1, 0]), np.array([0, 1, 20, 1]), np.array([False, True, True, False]), 7
    )
    assert places.tolist() == [0, 1]
    assert findings(recorder) == [("phantom", 7, 1), ("phantom", 1, 20)]
    assert recorder.ledger.redelivered[:2].tolist() == [0, 0]
    assert recorder.deliveries == 2


def test_what_a_reordered_message_came_behind_is_told(recorder):
    record(recorder, 0, [8])
    record(recorder, 0, [3, 4])
    record(recorder, 0, [5])
    record(recorder, 0, [9, 7])
    assert [i.behind for i in recorder.ledger.incidents()] == [8, 8, 8, 9]
