"""Evidence comes back from other hosts as it was there, or is known not to be here."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.transfer import is_away, mark_away, pack, unpack


def packed(workers, tmp_path):
    pack(workers, tmp_path / "archive.zip", lambda: None)
    return (tmp_path / "archive.zip").read_bytes()


def away(tmp_path, count=100):
    """A directory whose worker is elsewhere, with its ledger made."""
    PublishLedger.create(tmp_path / "here", count)
    mark_away(tmp_path / "here")
    return tmp_path / "here"


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_evidence_comes_back_to_the_last_byte(tmp_path):
    there = [tmp_path / "there-0", tmp_path / "there-1"]
    here = [tmp_path / "here-0", tmp_path / "here-1"]
    for at, kind in [(0, PublishLedger), (1, DeliveryLedger)]:
        for directory in (there[at], here[at]):
            kind.create(directory, 1000)
        for column in kind.open(there[at]).arrays.values():
            column[:] = np.random.default_rng(at).integers(0, 250, 1000)
        (there[at] / "journal.jsonl").write_text("{}\n" * at)
        (there[at] / "again.bin").write_bytes(bytes(3 << 20))
        mark_away(here[at])
    pieces = []
    pack(there, tmp_path / "archive.zip", lambda: pieces.append(1))
    unpack((tmp_path / "archive.zip").read_bytes(), here)
    assert [contents(each) for each in here] == [contents(each) for each in there]
    assert len(pieces) > 12, "large files are packed a piece at a time"


def test_who_has_mapped_an_array_sees_it_filled(tmp_path):
    here, there = away(tmp_path), tmp_path / "there"
    PublishLedger.create(there, 100)
    PublishLedger.open(there).state[:] = 3
    mapped = PublishLedger.read(here).state
    unpack(packed([there], tmp_path), [here])
    assert (mapped == 3).all()


def test_what_came_back_is_not_away_any_more(tmp_path):
    here, there = away(tmp_path), tmp_path / "there"
    PublishLedger.create(there, 100)
    assert is_away(here)
    unpack(packed([there], tmp_path), [here])
    assert not is_away(here)


@given(st.data())
def test_damaged_evidence_is_refused_or_the_same(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("damaged")
    here, there = away(tmp_path), tmp_path / "there"
    PublishLedger.create(there, 100)
    PublishLedger.open(there).sent_ns[:] = np.arange(100) ** 3
    archive = bytearray(packed([there], tmp_path))
    at = data.draw(st.integers(0, len(archive) - 1))
    archive[at] ^= data.draw(st.integers(1, 255))
    try:
        unpack(bytes(archive), [here])
    except ValueError:
        assert is_away(here)
    else:  # a byte that says nothing of what is in the files
        assert contents(here) == contents(there)


@given(length=st.floats(0, 0.999))
def test_evidence_that_was_cut_off_is_refused(tmp_path_factory, length):
    tmp_path = tmp_path_factory.mktemp("cut")
    here, there = away(tmp_path), tmp_path / "there"
    PublishLedger.create(there, 100)
    archive = packed([there], tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        unpack(archive[: int(len(archive) * length)], [here])
    assert is_away(here)


@pytest.mark.parametrize(
    "name",
    [
        "../run.json",
        "/etc/passwd",
        "0/../../run.json",
        "0/..",
        "0/away",
        "0/sub/state.npy",
        "0/run.json",
        "1/state.npy",
        "-1/state.npy",
        "0\\state.npy",
        "state.npy",
    ],
)
def test_nothing_is_written_but_the_files_of_its_workers(tmp_path, name):
    here = away(tmp_path)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, b"x")
    before = {path for path in tmp_path.rglob("*")}
    with pytest.raises(ValueError, match="no file of a worker"):
        unpack(data.getvalue(), [here])
    assert {path for path in tmp_path.rglob("*")} == before
    assert is_away(here)


def test_nothing_is_written_through_a_symbolic_link(tmp_path):
    here = away(tmp_path)
    (tmp_path / "precious").write_bytes(b"x")
    (here / "worker.log").symlink_to(tmp_path / "precious")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("0/worker.log", b"y")
    with pytest.raises(ValueError, match="symbolic link"):
        unpack(data.getvalue(), [here])
    assert (tmp_path / "precious").read_bytes() == b"x"


def test_an_array_of_another_length_is_refused(tmp_path):
    here, there = away(tmp_path), tmp_path / "there"
    PublishLedger.create(there, 101)
    with pytest.raises(ValueError, match="another length"):
        unpack(packed([there], tmp_path), [here])
    assert is_away(here)
