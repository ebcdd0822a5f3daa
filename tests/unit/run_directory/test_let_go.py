"""Segments that are let go: their space comes back, and what is counted stays as it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmqbench import pieces
from rmqbench.pieces import PIECE
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.let_go import LetGo, free_rows, holding, segments_of
from rmqbench.run_directory.recorder import DeliveryRecorder, PublishRecorder
from rmqbench.verdict.evidence import ACKED, CONFIRMED, DELIVERED

FIRST = slice(0, PIECE)


def mapped(path, dtype, length):
    column = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(length,))
    return np.asarray(column)


@given(data=st.data(), dtype=st.sampled_from(["u1", "<u4", "<i8"]))
def test_exactly_the_rows_that_are_freed_are_zero(tmp_path_factory, data, dtype):
    length = 20_000
    column = mapped(tmp_path_factory.mktemp("columns") / "column.npy", dtype, length)
    column[:] = 1 + np.arange(length) % 200
    expected = column.copy()
    start, stop = sorted(data.draw(st.tuples(st.integers(0, length), st.integers(0, length))))
    free_rows(column, start, stop)
    expected[start:stop] = 0
    assert (column == expected).all()


def test_what_is_freed_takes_no_space_on_the_disk(tmp_path):
    path = tmp_path / "column.npy"
    column = mapped(path, "<i8", 4 * PIECE)
    column[:] = 7
    before = path.stat().st_blocks
    free_rows(column, PIECE, 3 * PIECE)
    assert path.stat().st_blocks <= before / 2 + 32
    assert path.stat().st_size == 128 + 4 * PIECE * 8


def test_a_page_that_segments_share_is_freed_with_the_last_of_them(tmp_path):
    path = tmp_path / "column.npy"
    column = mapped(path, "u1", 4 * PIECE)
    column[:] = 7
    starts = [0, PIECE, 2 * PIECE, 3 * PIECE]
    assert holding(path, column, starts) == [True] * 4
    for freed in (1, 2):
        free_rows(column, freed * PIECE, (freed + 1) * PIECE)
    column[3 * PIECE - 1] = 0  # nothing new: the page of the next segment holds it
    assert holding(path, column, starts) == [True, True, True, True], "pages of their neighbours"
    free_rows(column, 3 * PIECE, 4 * PIECE)
    assert holding(path, column, starts) == [True, True, False, False]
    column[2 * PIECE + 5] = 1
    assert holding(path, column, starts) == [True, True, True, False]


def test_each_producer_begins_a_segment_of_its_own():
    starts = segments_of((2 * PIECE + 1, 5, PIECE))["start"].tolist()
    end = 2 * PIECE + 1
    assert starts == [0, PIECE, 2 * PIECE, end, end + 5]


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    gone=st.sets(st.integers(0, 20)),
    ends=st.tuples(st.integers(0, 36), st.integers(0, 36)),
)
def test_which_places_are_of_segments_that_were_let_go(tmp_path_factory, counts, gone, ends):
    directory = tmp_path_factory.mktemp("worker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", 3)
        LetGo.create(directory, counts)
        let_go = LetGo.of(directory, "r+")
        expected = []
        for segment, start in enumerate(let_go.segments["start"].tolist()):
            following = [*let_go.segments["start"].tolist(), sum(counts)][segment + 1]
            if segment in gone:
                let_go.prepare(segment, 3, 1, 2, 0)
            expected += [segment in gone] * (following - start)
        start, stop = (min(end, sum(counts)) for end in sorted(ends))
        assert let_go.among(start, stop).tolist() == expected[start:stop]


def publish(directory, count):
    PublishLedger.create(directory, count, lets_go=[count])
    recorder = PublishRecorder(directory)
    recorder.send(np.arange(count), 1, 1_000)
    return recorder


def test_a_producer_frees_what_was_let_go_and_forgets_nothing_that_counts(tmp_path):
    count = 2 * PIECE + 10
    recorder = publish(tmp_path, count)
    recorder.settle(np.arange(2 * PIECE), CONFIRMED, 2_000)
    let_go = LetGo.of(tmp_path, "r+")
    let_go.prepare(0, PIECE, 1_000, 1_000, 0)
    let_go.tell()
    recorder.settle(np.array([2 * PIECE]), CONFIRMED, 3_000)
    assert recorder.ledger.state[FIRST].all(), "it was not decided yet"
    let_go.decide(0)
    recorder.settle(np.array([2 * PIECE + 1]), CONFIRMED, 3_000)
    assert recorder.ledger.state[FIRST].all(), "it was not told yet"
    let_go.tell()
    recorder.settle(np.array([2 * PIECE + 2]), CONFIRMED, 3_000)
    for column in recorder.ledger.arrays.values():
        assert not column[FIRST].any()
        assert column[PIECE : 2 * PIECE].all()
    read = PublishLedger.read(tmp_path)
    assert read.confirmed == read.settled == 2 * PIECE + 3
    assert read.sent(slice(0, count)).all()
    assert recorder.indeterminate(count).tolist() == list(range(2 * PIECE + 3, count))
    assert recorder.indeterminate(5).tolist() == []


def consume(directory, count):
    DeliveryLedger.create(directory, count, lets_go=[count])
    recorder = DeliveryRecorder(directory, [count])
    recorder.open_channel()
    return recorder


def record(recorder, sequences, now_ns, flagged=False):
    sequences = np.asarray(sequences)
    stamps, flags = np.ones(len(sequences), np.uint32), np.full(len(sequences), flagged)
    places = recorder.record(np.zeros_like(sequences), sequences, flags, stamps, now_ns)
    recorder.acknowledge(places, 9_000)


def decided(directory, rows, last_ns, segment=0):
    let_go = LetGo.of(directory, "r+")
    let_go.prepare(segment, rows, 1_000, last_ns, 0)
    let_go.decide(segment)
    let_go.tell()


def test_a_consumer_frees_what_was_let_go_and_what_comes_again_counts(tmp_path):
    count = PIECE + 10
    recorder = consume(tmp_path, count)
    record(recorder, np.arange(PIECE), 1_000)
    decided(tmp_path, PIECE, 1_000 + PIECE - 1)
    record(recorder, [PIECE], 10_000_000)
    for column in recorder.ledger.arrays.values():
        assert not column[FIRST].any()
    record(recorder, [5], 20_000_000, flagged=True)
    read = DeliveryLedger.read(tmp_path)
    assert read.deliveries == PIECE + 2
    assert read.came(FIRST).all()
    assert np.count_nonzero(read.came(slice(PIECE, count))) == 1


def test_a_consumer_keeps_what_has_changed_since_it_was_judged(tmp_path):
    recorder = consume(tmp_path, PIECE)
    record(recorder, np.arange(1, PIECE), 1_000)
    decided(tmp_path, PIECE - 1, 1_000 + PIECE - 2)  # another one had the first
    record(recorder, [0], 20_000_000, flagged=True)
    assert (recorder.ledger.state[1:PIECE] == DELIVERED | ACKED).all()
    assert DeliveryLedger.read(tmp_path).deliveries == PIECE


def test_what_was_freed_lately_is_freed_once_more_unless_something_came(tmp_path, monkeypatch):
    """The disk may have given it space again, for what was on its way there."""
    freed = []
    monkeypatch.setattr(
        "rmqbench.run_directory.recorder.free_rows",
        lambda column, start, stop: (freed.append(start), free_rows(column, start, stop)),
    )
    recorder = consume(tmp_path, 4 * PIECE)
    for segment, again in ((0, None), (1, 5), (2, None)):
        begins_ns = (segment + 1) * 10_000_000
        record(recorder, np.arange(segment * PIECE, (segment + 1) * PIECE), begins_ns)
        decided(tmp_path, PIECE, begins_ns + PIECE - 1, segment)
        record(recorder, [3 * PIECE + segment], begins_ns + 5_000_000)
        if again is not None:
            record(recorder, [again], begins_ns + 6_000_000, flagged=True)
    columns = len(recorder.ledger.arrays)
    assert freed == [0] * columns + [0] * columns + [PIECE] * columns * 2 + [2 * PIECE] * columns
    assert recorder.ledger.state[5]


def test_where_the_file_system_gives_no_space_back_all_stays(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    recorder = consume(tmp_path, PIECE)
    record(recorder, np.arange(PIECE), 1_000)
    monkeypatch.setattr("rmqbench.run_directory.recorder.free_rows", refuse)
    decided(tmp_path, PIECE, 1_000 + PIECE - 1)
    record(recorder, [1], 10_000_000, flagged=True)
    assert recorder.ledger.state.all()
    assert DeliveryLedger.read(tmp_path).deliveries == PIECE
    assert len(recorder.ledger.again()) == 1


def test_where_the_system_knows_no_such_thing_nothing_is_freed_and_all_may_hold(
    tmp_path, monkeypatch
):
    path = tmp_path / "column.npy"
    column = mapped(path, "u1", 2 * PIECE)
    monkeypatch.delattr("mmap.MADV_REMOVE")
    monkeypatch.delattr("os.SEEK_DATA")
    with pytest.raises(OSError, match="not supported"):
        free_rows(column, 0, PIECE)
    assert holding(path, column, [0, PIECE]) == [True, True]


@pytest.mark.parametrize("what", [b"", b"not an array"])
def test_a_file_that_says_nothing_of_segments_is_refused(tmp_path, what):
    PublishLedger.create(tmp_path, 10, lets_go=[10])
    (tmp_path / "let-go.npy").write_bytes(what)
    with pytest.raises((ValueError, EOFError)):
        PublishLedger.read(tmp_path)
