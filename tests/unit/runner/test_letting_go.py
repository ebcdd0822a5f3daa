"""Evidence is let go while a run is under way: when it is looked at, and what is said."""

import numpy as np
import pytest
from support.clocks import ToldClock
from support.large import write_large_run

from rmqbench.errors import RmqbenchError
from rmqbench.pieces import PIECE
from rmqbench.results.judging import judge
from rmqbench.run_directory import RunDirectory
from rmqbench.run_directory.journal import JudgedSoFar
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.let_go import LetGo
from rmqbench.run_directory.recorder import DeliveryRecorder, PublishRecorder
from rmqbench.runner import letting_go
from rmqbench.runner.letting_go import LettingGo

COUNT = 3 * PIECE + 100


@pytest.fixture
def run(tmp_path):
    """Write a run in which everything was clean, as one that lets go has its files."""
    path = tmp_path / "run"
    write_large_run(path, COUNT)
    for place in workers(path):
        LetGo.create(place, [COUNT])
    return path


def workers(path):
    return [path / "producer-0", path / "queue-0" / "consumer-0", path / "queue-1" / "consumer-0"]


class Looking:
    """Looks at a run, and notes what is written and said."""

    def __init__(self, path, **more):
        self.clock, self.entries, self.said = ToldClock(), [], []
        self.letting_go = LettingGo(
            *(RunDirectory(path), self.clock.clock, self.entries.append, self.said.append), **more
        )

    def after(self, seconds):
        self.clock.now += seconds
        self.letting_go.look()


def let_go(path):
    return [int((LetGo.of(place).segments["rows"] > 0).sum()) for place in workers(path)]


def test_it_is_looked_at_every_few_seconds(run):
    looking = Looking(run)
    looking.after(4.9)
    assert let_go(run) == [0, 0, 0]
    looking.after(0.2)
    assert let_go(run) == [3, 3, 3], "the last segment is no whole one"


def test_the_result_is_the_same_after_the_workers_have_freed_what_was_let_go(run):
    before = judge(run)
    Looking(run).after(6)
    PublishRecorder(run / "producer-0").settle(np.array([COUNT - 1]), 0, 1)
    for place in workers(run)[1:]:
        DeliveryRecorder(place, [COUNT]).acknowledge(np.array([COUNT - 1]), 9_000)
    for place, kind in zip(workers(run), (PublishLedger, *[DeliveryLedger] * 2), strict=True):
        assert not any(column[: 3 * PIECE].any() for column in kind.read(place).arrays.values())
    after = judge(run)
    assert after.verdict.passed
    assert (after.verdict.found(), after.confirmed) == (before.verdict.found(), COUNT)
    assert [queue.delivered for queue in after.queues.values()] == [COUNT, COUNT]
    assert after.publish.messages == before.publish.messages
    for one, other in zip(
        (before.confirm_latency.p50_ms, before.confirm_latency.p99_ms),
        (after.confirm_latency.p50_ms, after.confirm_latency.p99_ms),
        strict=True,
    ):
        assert other == pytest.approx(one, rel=1 / 64, abs=1e-6)
    assert after.confirm_latency.max_ms == before.confirm_latency.max_ms


def test_once_a_minute_it_says_what_was_found_so_far(run):
    looking = Looking(run)
    looking.after(59)
    assert looking.said == []
    looking.after(6)
    assert looking.said == [
        f"after 1 min: {COUNT} messages confirmed, {3 * PIECE:,} of them judged and let go: "
        "nothing that fails"
    ]
    (entry,) = looking.entries
    assert entry == JudgedSoFar(confirmed=COUNT, let_go=3 * PIECE, failing=[])
    looking.after(30)
    assert len(looking.said) == 1


def test_what_fails_so_far_is_said(run):
    ledger = DeliveryLedger.open(run / "queue-0" / "consumer-0")
    ledger.state[5] = 0
    ledger.state[7] = 0
    looking = Looking(run)
    looking.after(65)
    assert looking.said[0].endswith("FAIL: 2 lost in work.queue")
    assert looking.entries[0].failing == ["2 lost in work.queue"]
    assert let_go(run) == [2, 2, 2]


def test_a_disk_that_is_nearly_full_ends_the_run_before_its_workers_die_of_it(run, monkeypatch):
    full = letting_go.shutil.disk_usage(run)._replace(free=100 << 20)
    monkeypatch.setattr(letting_go.shutil, "disk_usage", lambda _: full)
    with pytest.raises(RmqbenchError, match="has 100 MiB left"):
        Looking(run).after(6)
    assert let_go(run) == [0, 0, 0]
