"""Judging a run takes the memory of a part of it, however many messages it has."""

import time
import tracemalloc

import numpy as np
import pytest
from support.cost import require_below
from support.large import write_large_run

from rmqbench import judge
from rmqbench.pieces import PIECE
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.verdict.evidence import CONFIRMED, SENT

FEW, MANY = 3 * PIECE, 12 * PIECE
AT_ONCE = 200  # bytes of each message that is looked at together with others


def peak_bytes(directory):
    """Return what judging took at the most, and the verdict; mapped files are the kernel's."""
    judge(directory)  # what is imported or computed once counts for nobody
    tracemalloc.start()
    try:
        verdict = judge(directory).verdict
        return tracemalloc.get_traced_memory()[1], verdict
    finally:
        tracemalloc.stop()


def harm(directory, messages):
    """Let a message of each piece be lost, another late, and one without an answer."""
    ledger = DeliveryLedger.open(directory / "queue-0" / "consumer-0")
    ledger.state[100::PIECE] = 0
    ledger.first_ns[200::PIECE] += 1000
    PublishLedger.open(directory / "producer-0").state[300::PIECE] = SENT
    each = messages // PIECE
    return {"lost": each, "reordered": each, "indeterminate": each}


@pytest.mark.parametrize("harmed", [False, True], ids=["passed", "failed"])
def test_more_messages_take_no_more_memory(tmp_path, harmed):
    peaks = []
    for messages in (FEW, MANY):
        directory = tmp_path / str(messages)
        write_large_run(directory, messages)
        found = harm(directory, messages) if harmed else {}
        peak, verdict = peak_bytes(directory)
        assert found.items() <= verdict.found().items()
        assert verdict.passed is not harmed
        peaks.append(peak)
    assert max(peaks) < AT_ONCE * PIECE, peaks
    assert peaks[1] - peaks[0] < (MANY - FEW) / 2, "half a byte a message"


def test_what_is_counted_in_ledgers_is_counted_in_pieces(tmp_path):
    PublishLedger.create(tmp_path, MANY)
    ledger = PublishLedger.open(tmp_path)
    ledger.state[:] = SENT | CONFIRMED
    tracemalloc.start()
    try:
        assert (ledger.confirmed, ledger.settled) == (MANY, MANY)
        assert tracemalloc.get_traced_memory()[1] < 8 * PIECE
    finally:
        tracemalloc.stop()
    assert np.count_nonzero(ledger.state) == MANY


def test_judging_a_message_costs_as_little_as_sorting_it_a_few_times(tmp_path):
    write_large_run(tmp_path / "run", MANY)
    keys = np.random.default_rng(0).integers(0, 1 << 60, MANY)
    judge(tmp_path / "run")  # what is imported or computed once counts for nobody

    def factors():
        began = time.thread_time()
        assert judge(tmp_path / "run").verdict.passed
        judged = time.thread_time()
        np.argsort(keys, kind="stable")
        return {"CPU": (judged - began) / (time.thread_time() - judged)}

    require_below({"CPU": 14}, factors)  # it is 3 to 4
