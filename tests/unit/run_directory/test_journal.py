"""A journal has whole entries, also where the disk is full."""

import resource
import subprocess
import sys

import pytest

from rmqbench.errors import EvidenceNotWritten
from rmqbench.run_directory.journal import (
    FaultEvent,
    HeadersAdded,
    Journal,
    MessagesRemoved,
    StageBegan,
    TroubleSeen,
    read_journal,
)

FILL = """
import sys, pathlib
from rmqbench.errors import EvidenceNotWritten
from rmqbench.run_directory.journal import Journal, TroubleSeen
with Journal(pathlib.Path(sys.argv[1])) as journal:
    for number in range(1000):
        if sys.argv[2] == "note":
            journal.note(TroubleSeen(text=f"{number} " + "x" * (number % 50)))
            continue
        try:
            journal.write(TroubleSeen(text=f"{number} " + "x" * (number % 50)))
        except EvidenceNotWritten as error:
            print(error.what)
            break
    print(journal.failure)
"""


def fill(path, way):
    """Write until a file of 5000 bytes is full; return what it says."""
    ended = subprocess.run(
        [sys.executable, "-c", FILL, str(path), way],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    return ended.stdout


@pytest.mark.parametrize("way", ["write", "note"])
def test_of_an_entry_for_which_there_is_no_room_nothing_is_left(tmp_path, way):
    said = fill(tmp_path / "journal.jsonl", way)
    assert f"The journal {tmp_path / 'journal.jsonl'} cannot be written: " in said
    found = [each.text.split()[0] for each in read_journal(tmp_path / "journal.jsonl")]
    assert len(found) > 20
    assert found == [str(number) for number in range(len(found))]  # and none behind the hole
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write(StageBegan(stage="after"))
    assert isinstance([*read_journal(tmp_path / "journal.jsonl")][-1], StageBegan)


def test_a_journal_that_cannot_be_written_says_which_and_why(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.close()
    with pytest.raises(EvidenceNotWritten, match=r"journal\.jsonl cannot be written"):
        journal.write(TroubleSeen(text="too late"))


@pytest.mark.parametrize(
    "line",
    [
        b"7",
        b'{"kind":"nothing known"}',
        b'{"kind":"stage","time_ns":1}',
        b'{"kind":"stage","time_ns":1,"stage":"x","more":1}',
        b'{"kind":"stage","time_ns":"1","stage":"x"}',
        b'{"kind":"stage","time_ns":1,"stage":7}',
        b'{"kind":"removed","queue":"q","cause":"c","at_most":"5"}',
        b'{"kind":"drain","queue":"q","proven":1,"ready":0,"detail":"","there":true}',
        b'{"kind":"policies","queue":"q","name":"p","definition":[]}',
        b'{"kind":"headers","names":"x"}',
    ],
)
def test_a_line_that_is_no_entry_makes_a_journal_unreadable(tmp_path, line):
    (tmp_path / "journal.jsonl").write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"entry of a journal|missing"):
        list(read_journal(tmp_path / "journal.jsonl"))


def test_numbers_and_what_may_be_absent_are_read_as_json_has_them(tmp_path):
    entries = [
        FaultEvent(time_ns=1, fault="f", phase="over", text="", own=None, within_s=1),
        FaultEvent(time_ns=1, fault="f", phase="over", text="", own=2, within_s=0.8),
        MessagesRemoved(time_ns=1, queue="q", cause="c", at_most=None, act="a"),
        HeadersAdded(time_ns=1, names=["x"]),
    ]
    with Journal(tmp_path / "journal.jsonl") as journal:
        for each in entries:
            journal.write(each)
    assert [*read_journal(tmp_path / "journal.jsonl")] == entries
