"""A run for hours, in a minute: what is clean is let go, and the verdict is on all of it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rmqbench
from rmqbench import faults, run
from rmqbench.errors import UsageError
from rmqbench.pieces import PIECE
from rmqbench.run_directory.journal import JudgedSoFar
from rmqbench.run_directory.reading import read_run
from rmqbench.runner import letting_go

pytestmark = pytest.mark.slow


def let_go(worker):
    return int((worker.ledger.let_go.segments["rows"] > 0).sum())


def test_a_soak_lets_go_what_is_clean_and_keeps_what_a_kill_has_touched(
    rmqbench_broker, tmp_path, monkeypatch
):
    monkeypatch.setattr(letting_go, "_VERDICT_EVERY_S", 5.0)
    scenario = rmqbench.soak(
        fault="kill-broker", every_s=15, duration_s=40, publish_rate=10_000, size_bytes=100
    )
    said = []
    result = run(
        scenario,
        rmqbench_broker,
        directory=tmp_path / "run",
        watch=lambda now: said.append(now.so_far) if now.so_far else None,
    )
    result.verdict.require_pass()
    assert result.confirmed + result.verdict.count("indeterminate") == result.messages
    assert len(said) >= 3
    assert all(each.endswith("nothing that fails") for each in said)
    record = read_run(tmp_path / "run")
    assert len([*record.of(JudgedSoFar)]) == len(said)
    (producer,) = record.producers
    gone = let_go(producer)
    assert gone >= 1
    consumer, *_ = record.queues[0].consumers  # after a kill there may be a further round
    # Freed by whoever wrote it: those that were let go long enough ago hold nothing.
    freed = [
        not consumer.ledger.state[start : start + PIECE].any()
        for start in range(0, gone * PIECE, PIECE)
    ]
    assert any(freed)
    blocks = (tmp_path / "run" / "producer-0" / "sent_ns.npy").stat().st_blocks * 512
    assert blocks < 8 * (np.count_nonzero(producer.ledger.state) + 2 * PIECE)
    again = rmqbench.judge(tmp_path / "run")
    assert (again.verdict.outcome, again.verdict.found()) == (
        result.verdict.outcome,
        result.verdict.found(),
    )


def test_a_loss_in_a_soak_is_found(rmqbench_broker, tmp_path):
    """In the middle of it, after some of it was let go."""
    scenario = rmqbench.soak(duration_s=40, publish_rate=5000, consume_rate=2400, size_bytes=100)
    with faults.purge_queue(rmqbench_broker, "work.queue", after_messages=150_000):
        result = run(scenario, rmqbench_broker, directory=tmp_path / "run", in_place=True)
    assert result.verdict.count("removed", "work.queue") > 0
    assert not result.verdict.passed
    record = read_run(tmp_path / "run")
    assert let_go(record.producers[0]) >= 1


def test_evidence_of_other_hosts_is_not_let_go(rmqbench_broker, tmp_path):
    with (
        ThreadPoolExecutor() as executor,
        pytest.raises(UsageError, match="With lets_go the evidence is judged where"),
    ):
        run(rmqbench.soak(), rmqbench_broker, directory=tmp_path / "run", executor=executor)
    assert not (tmp_path / "run").exists()
