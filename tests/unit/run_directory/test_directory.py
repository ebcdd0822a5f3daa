"""The directory of a run: made where it was asked for, and nothing is written over."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.run_directory import RunDirectory


@pytest.mark.parametrize("kind", [str, Path])
def test_a_relative_path_of_any_kind_is_made_and_known_from_everywhere(monkeypatch, tmp_path, kind):
    monkeypatch.chdir(tmp_path)
    made = RunDirectory.make(kind("runs/mine"), "mine").path
    assert made == tmp_path / "runs" / "mine"
    assert made.is_dir()


def test_a_directory_that_holds_something_is_not_written_over(tmp_path):
    (tmp_path / "notes").write_text("of a user")
    with pytest.raises(UsageError, match="is not empty"):
        RunDirectory.make(tmp_path, "mine")
    with pytest.raises(UsageError, match="is not empty"):
        RunDirectory.require_free(tmp_path)


def test_a_directory_that_cannot_be_made_is_a_wrong_request(tmp_path):
    (tmp_path / "file").touch(0o755)
    for way in (lambda path: RunDirectory.make(path, "mine"), RunDirectory.require_free):
        for name in ("file", "file/run", "file/deeper/run"):
            with pytest.raises(UsageError, match="cannot be made"):
                way(tmp_path / name)


def test_a_directory_where_one_may_not_write_is_a_wrong_request(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(UsageError, match=r"cannot be made: .*Permission denied"):
        RunDirectory.require_free(tmp_path / "new" / "run")


def test_to_ask_whether_a_directory_is_free_makes_nothing(tmp_path):
    RunDirectory.require_free(tmp_path / "new" / "run")
    RunDirectory.require_free(tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_has_not_begun_leaves_nothing(tmp_path, there):
    """The directory of a user who made it beforehand stays, for the next try."""
    path = tmp_path / "mine"
    if there:
        path.mkdir()
    made = RunDirectory.make(path, "mine")
    made.write_description({})
    made.open_journal().close()
    (path / "samples").write_text("")
    made.remove("samples", "not there")
    assert path.exists() is there
    assert RunDirectory.make(path, "mine").path == path


def test_what_somebody_else_has_put_there_meanwhile_stays(tmp_path):
    path = tmp_path / "mine"
    made = RunDirectory.make(path, "mine")
    made.write_description({})
    (path / "sub").mkdir()
    (path / "thesis.txt").write_text("years of work")
    made.remove()
    assert {each.name for each in path.iterdir()} == {"sub", "thesis.txt"}
    RunDirectory(tmp_path / "gone").remove()


def test_the_broker_s_log_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    run.write_broker_log("first")

    def fill(path, text, **_):
        with path.open("w") as file:
            file.write(text[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(OSError, match="No space left"):
        run.write_broker_log("second")
    assert [each.name for each in tmp_path.iterdir()] == ["broker.log"]
    assert run.broker_log_path.read_text() == "first"


@pytest.mark.parametrize("text", ["[]", "7", "{}"])
def test_what_describes_no_run_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"run\.json does not describe a run"):
        RunDirectory(tmp_path).read_description()


def test_a_file_is_no_directory_of_a_run(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match=r"run\.json is not the directory of a run"):
        RunDirectory(tmp_path / "run.json").read_description()


def test_a_run_whose_evidence_has_no_room_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=13 * 1000 + 13 * 2000))
    directory = RunDirectory.make(tmp_path / "run", "any")
    directory.require_room(1000, 2000)
    with pytest.raises(RmqbenchError, match=r"1001 messages takes 0\.0 GiB"):
        directory.require_room(1001, 2000)
    with pytest.raises(RmqbenchError, match="lower rate or a shorter time"):
        directory.require_room(1000, 2001)
    assert [*(tmp_path / "run").iterdir()] == []
