"""Closed, broken and full output streams change no exit code, and files for ``--json``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rmqbench.cli import json_file
from rmqbench.cli.json_file import is_stdout, require_writable, write_file
from rmqbench.errors import UsageError

if os.name == "nt":
    pytest.skip("streams are closed by a shell of POSIX", allow_module_level=True)

NOWHERE = "amqp://127.0.0.1:1"
COMMANDS = {
    ("--help",): 0,
    ("run", "faults", "--list"): 0,
    ("produce", "--count", "0"): 2,
    ("run", "reliability", "--url", NOWHERE): 4,
}
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
LEADING = [
    "2>&-",
    "<&- >&- 2>&-",
    "| true",
    "2>&1 | true",
    pytest.param("2>/dev/full", marks=FULL),
]


@pytest.mark.quick
@pytest.mark.slow
@pytest.mark.parametrize("leading", LEADING)
def test_lost_output_changes_no_exit_code(leading: str) -> None:
    codes = {}
    for arguments, process in [(each, begin(each, leading)) for each in COMMANDS]:
        codes[arguments] = process.wait(60)
    assert codes == COMMANDS


@FULL
def test_a_help_that_finds_the_disk_full_says_so() -> None:
    process = begin(["--help"], ">/dev/full", stderr=subprocess.PIPE)
    assert process.communicate(timeout=60)[1] == "Error: No space left on device.\n"
    assert process.returncode == 3


def begin(arguments: Any, leading: str, stderr: int = subprocess.DEVNULL) -> Any:
    """Start a command whose output leads elsewhere; its exit code is the command's own."""
    script = f'"$0" -m rmqbench "$@" {leading}; exit ${{PIPESTATUS[0]}}'
    return subprocess.Popen(
        ["bash", "-c", script, sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
    )


@pytest.mark.parametrize(
    "arguments", ["--help", "run stress --help", "--version", "produce --help"]
)
def test_a_help_of_which_only_the_beginning_is_read_ends_silently(arguments: str) -> None:
    command = [sys.executable, "-m", "rmqbench", *arguments.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        stdout, stderr = process.stdout, process.stderr
        assert stdout is not None
        assert stderr is not None
        stdout.close()
        assert stderr.read() == b""
    assert process.returncode == 0


# --- a file for the result ----------------------------------------------------------------------


def test_what_can_be_written_is_accepted(tmp_path: Path) -> None:
    there, fifo = tmp_path / "there.json", tmp_path / "fifo"
    there.touch()
    os.mkfifo(fifo)
    for path in (there, fifo, tmp_path / "new.json", Path("-"), Path("/dev/null"), None):
        require_writable(path)
    assert not (tmp_path / "new.json").exists()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "x.json", Path("/dev/fd/987")):
        with pytest.raises(UsageError, match="cannot be written"):
            require_writable(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_one_may_not_write_is_refused(tmp_path: Path) -> None:
    locked, there = tmp_path / "locked", tmp_path / "there.json"
    locked.mkdir(mode=0o555)
    there.touch(mode=0o444)
    for path in (locked / "x.json", there):
        with pytest.raises(UsageError, match="cannot be written"):
            require_writable(path)


@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_has_several_names(path: str) -> None:
    assert is_stdout(Path(path))
    assert not is_stdout(Path("/dev/stderr"))


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_a_stream_of_this_process_is_written_to_and_not_begun_anew(
    tmp_path: Path, form: str
) -> None:
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        log.write("before\n")
        log.flush()
        path = Path(form.format(log.fileno()))
        require_writable(path)
        write_file(path, "result\n", "")
        log.write("after\n")
    assert (tmp_path / "log").read_text() == "before\nresult\nafter\n"


def test_a_stream_that_is_only_read_is_refused(tmp_path: Path) -> None:
    with open(os.devnull, encoding="utf-8") as nothing, pytest.raises(UsageError):
        require_writable(Path(f"/dev/fd/{nothing.fileno()}"))


def test_a_named_pipe_gets_the_result_also_if_its_reader_comes_late(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[str] = []

    def read_late() -> None:
        time.sleep(0.2)
        read.append(fifo.read_text())

    reader = threading.Thread(target=read_late)
    reader.start()
    write_file(fifo, "x" * 200_000, "")
    reader.join(30)
    assert read == ["x" * 200_000]


def test_a_named_pipe_without_a_reader_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(json_file, "_READER_S", 0.1)
    os.mkfifo(tmp_path / "fifo")
    write_file(tmp_path / "fifo", "x", "It is in /evidence")
    told = capsys.readouterr().err
    assert "(nobody has read it within 0.1 s). It is in /evidence" in told


@FULL
def test_a_full_disk_is_told_with_where_else_the_result_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    require_writable(Path("/dev/full"))
    write_file(Path("/dev/full"), "x", "It is in /evidence")
    assert capsys.readouterr().err == (
        "The result could not be written out to /dev/full (No space left on device). "
        "It is in /evidence\n"
    )
