"""The ledger keeps what happened, also across the death of its writer."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from rmqbench.errors import RmqbenchError
from rmqbench.run_directory import ledger
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.verdict.evidence import AGAIN, CONFIRMED, COPY, SENT


def test_a_message_costs_at_most_39_bytes_with_two_queues(tmp_path):
    """It costs 17 for its publish, and 13 for its delivery by each of both queues."""
    count = 100_000
    PublishLedger.create(tmp_path / "p", count)
    for queue in ("work", "audit"):
        DeliveryLedger.create(tmp_path / queue, count)
    sizes = {path: path.stat().st_size - 128 for path in tmp_path.rglob("*.npy")}  # but heads
    watched = sum(size for path, size in sizes.items() if path.name == "progress.npy")
    assert (sum(sizes.values()) - watched) / count <= 39
    assert watched == 8 * (1 + 2 * 2), "a number of the producer, two of each consumer"


def test_what_comes_again_costs_a_row_of_its_own():
    assert (COPY.itemsize, AGAIN.itemsize) == (20, 25)


@pytest.mark.parametrize(
    ("read", "path", "dtype"),
    [
        (PublishLedger.copies, PublishLedger.copies_path, COPY),
        (DeliveryLedger.again, DeliveryLedger.again_path, AGAIN),
    ],
)
def test_a_row_that_a_crash_tore_is_passed_over(tmp_path, read, path, dtype):
    kind = PublishLedger if dtype is COPY else DeliveryLedger
    kind.create(tmp_path, 4)
    there = kind.read(tmp_path)
    assert len(read(there)) == 0
    rows = np.zeros(3, dtype)
    rows[dtype.names[0]] = [1, 2, 3]
    path.fget(there).write_bytes(rows.tobytes()[:-1])
    assert read(there)[dtype.names[0]].tolist() == [1, 2]


@pytest.mark.parametrize("kind", [PublishLedger, DeliveryLedger])
def test_arrays_of_another_kind_are_refused(tmp_path, kind):
    kind.create(tmp_path, 4)
    for name, dtype in kind.columns.items():
        path = tmp_path / f"{name}.npy"
        right = path.read_bytes()
        for wrong in (np.zeros(4, "<f8"), np.zeros((2, 2), dtype)):
            np.save(path, wrong)
            with pytest.raises(ValueError, match="is no column of a ledger"):
                kind.read(tmp_path)
        path.write_bytes(right)
    kind.read(tmp_path)


def test_what_was_recorded_outlives_a_killed_process(tmp_path):
    PublishLedger.create(tmp_path, 1000)
    code = (
        "import os, signal, sys, pathlib\n"
        "import numpy as np\n"
        "from rmqbench.run_directory.recorder import PublishRecorder\n"
        "from rmqbench.verdict.evidence import CONFIRMED\n"
        "recorder = PublishRecorder(pathlib.Path(sys.argv[1]))\n"
        "recorder.send(np.arange(500), 1, 7)\n"
        "recorder.send(np.arange(10, 20), 2, 8)\n"
        "recorder.ledger.state[:500] |= CONFIRMED\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    there = PublishLedger.read(tmp_path)
    assert (there.state[:500] == SENT | CONFIRMED).all()
    assert not there.state[500:].any()
    assert there.copies().tolist() == [(sequence, 8, 2) for sequence in range(10, 20)]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_an_error_before_anything_is_begun(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.os, "posix_fallocate", full)
    with pytest.raises(RmqbenchError, match="No space left on device"):
        PublishLedger.create(tmp_path / "p", 10)
