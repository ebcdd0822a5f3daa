"""A file system in user space takes back what was not forced to it, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rmqbench.broker.media import FileSystemInUserSpace
from rmqbench.broker.reaper import is_mounted
from rmqbench.errors import FaultUnavailable
from rmqbench.waiting import wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or bool(FileSystemInUserSpace.missing()),
    reason="a file system in user space cannot be had here",
)


@pytest.fixture
def medium(tmp_path: Path) -> FileSystemInUserSpace:
    home = tmp_path / "home"
    home.mkdir()
    return FileSystemInUserSpace(home)


@pytest.fixture
def place(tmp_path: Path, medium: FileSystemInUserSpace) -> Iterator[Path]:
    place = tmp_path / "place"
    place.mkdir()
    medium.mount(place)
    yield place
    medium.unmount(place)
    assert not os.path.ismount(place)


def cut(medium: FileSystemInUserSpace, place: Path) -> dict[str, str]:
    """Cut its power, and return what is there then."""
    medium.forget(place)
    medium.unmount(place)
    medium.mount(place)
    files = (each for each in sorted(place.rglob("*")) if each.is_file())
    return {str(each.relative_to(place)): each.read_text() for each in files}


def put(path: Path, text: str, mode: str = "w", *, forced: bool = False) -> None:
    with path.open(mode) as file:
        file.write(text)
        file.flush()
        if forced:
            os.fsync(file.fileno())


def test_what_was_forced_out_is_there_and_what_was_written_behind_it_is_not(
    medium: FileSystemInUserSpace, place: Path
) -> None:
    put(place / "log", "forced ", forced=True)
    put(place / "log", "not forced", "a")
    put(place / "log", "F", "r+")
    assert (place / "log").read_text() == "Forced not forced"
    assert cut(medium, place) == {"log": "forced "}


def test_what_was_cut_off_and_written_anew_is_as_it_was(
    medium: FileSystemInUserSpace, place: Path
) -> None:
    put(place / "file", "0123456789", forced=True)
    os.truncate(place / "file", 4)
    put(place / "file", "abcdefghijkl", "a")
    assert (place / "file").read_text() == "0123abcdefghijkl"
    put(place / "other", "long before", forced=True)
    put(place / "other", "short")  # it is opened to be emptied
    assert cut(medium, place) == {"file": "0123456789", "other": "long before"}


def test_names_are_as_they_were_when_a_file_was_last_forced_out(
    medium: FileSystemInUserSpace, place: Path
) -> None:
    put(place / "removed", "1", forced=True)
    put(place / "renamed", "2", forced=True)
    put(place / "replaced", "3", forced=True)
    put(place / "linked", "4", forced=True)
    (place / "removed").unlink()
    (place / "renamed").rename(place / "replaced")
    (place / "directory").mkdir()
    put(place / "directory" / "new", "5")
    (place / "link").hardlink_to(place / "linked")
    (place / "symbolic").symlink_to("linked")
    assert (place / "replaced").read_text() == "2"
    assert (place / "symbolic").readlink() == Path("linked")
    assert cut(medium, place) == {"removed": "1", "renamed": "2", "replaced": "3", "linked": "4"}
    assert not (place / "directory").exists()
    assert not (place / "symbolic").is_symlink()


def test_with_a_file_all_names_are_forced_out_and_nobodys_content_but_its_own(
    medium: FileSystemInUserSpace, place: Path
) -> None:
    put(place / "removed", "1", forced=True)
    (place / "removed").unlink()
    put(place / "empty", "not forced")
    put(place / "forced", "2", forced=True)
    assert cut(medium, place) == {"empty": "", "forced": "2"}


def test_a_directory_that_is_forced_out_has_its_names(
    medium: FileSystemInUserSpace, place: Path
) -> None:
    put(place / "new", "1")
    directory = os.open(place, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    assert cut(medium, place) == {"new": ""}


def test_all_is_forced_out_where_that_is_asked_for(
    medium: FileSystemInUserSpace, place: Path
) -> None:
    put(place / "a", "1")
    put(place / "b", "2")
    medium.sync(place)
    assert sorted(each.name for each in place.iterdir()) == ["a", "b"]
    assert cut(medium, place) == {"a": "1", "b": "2"}
    put(place / "c", "3")
    assert cut(medium, place) == {"a": "1", "b": "2"}


def test_it_keeps_modes_and_times(medium: FileSystemInUserSpace, place: Path) -> None:
    put(place / "file", "1", forced=True)
    (place / "file").chmod(0o640)
    os.utime(place / "file", ns=(5_000_000_001, 7_000_000_003))
    status = (place / "file").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 7_000_000_003)
    assert os.statvfs(place).f_bavail > 0
    cut(medium, place)
    assert (place / "file").stat().st_mtime_ns == 7_000_000_003


def test_what_is_left_of_a_mount_whose_process_is_gone_is_unmounted(
    medium: FileSystemInUserSpace, place: Path
) -> None:
    assert medium._process is not None
    medium._process.kill()
    medium._process.wait(10)
    wait_until(lambda: not os.path.ismount(place), 10.0, "the mount to break")
    assert is_mounted(str(place))
    medium.unmount(place)
    assert list(place.iterdir()) == []


def test_where_it_cannot_be_mounted_its_own_words_say_why(
    medium: FileSystemInUserSpace, tmp_path: Path
) -> None:
    with pytest.raises(FaultUnavailable, match=r"No file system in user space at .*absent"):
        medium.mount(tmp_path / "absent")


@dataclass
class Aged:
    """The file system without a mount, and a clock that is set."""

    files: Any
    now: float = 1000.0


@pytest.fixture
def aged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aged:
    from rmqbench.broker import undoing  # noqa: PLC0415  it needs libfuse

    me = os.getuid(), os.getgid(), os.getpid()
    monkeypatch.setattr(undoing.mfusepy, "fuse_get_context", lambda: me)
    aged = Aged(undoing._Undoing(str(tmp_path), "cut", "sync"))
    monkeypatch.setattr(undoing.time, "monotonic", lambda: aged.now)
    return aged


def test_what_the_kernel_has_written_back_meanwhile_is_there(aged: Aged, tmp_path: Path) -> None:
    """What was written after thirty seconds: it need not be forced out."""
    number = aged.files.create("/log", 0o600)
    aged.files.write("/log", b"early ", 0, number)
    aged.now += 29
    aged.files.write("/log", b"later", 6, number)
    aged.now += 2
    aged.files._cut()
    assert (tmp_path / "log").read_bytes() == b"early "


def test_names_are_there_after_five_seconds(aged: Aged, tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    (tmp_path / "kept").touch()
    aged.files.unlink("/old")
    aged.now += 4
    aged.files.unlink("/kept")
    aged.files.create("/young", 0o600)
    aged.now += 2
    aged.files._cut()
    assert sorted(each.name for each in tmp_path.iterdir()) == [".rmqbench-removed", "kept"]
    assert list((tmp_path / ".rmqbench-removed").iterdir()) == []


def test_it_forgets_what_it_cannot_have_to_undo_any_more(aged: Aged, tmp_path: Path) -> None:
    number = aged.files.create("/log", 0o600)
    for at in range(200):
        aged.files.write("/log", b"x", at, number)
        aged.now += 1
        (tmp_path / str(at)).touch()
        aged.files.unlink(f"/{at}")
    (file,) = aged.files._files.values()
    assert len(file.writes) <= 62
    assert len(aged.files._names) <= 7
    assert len(list((tmp_path / ".rmqbench-removed").iterdir())) <= 7
