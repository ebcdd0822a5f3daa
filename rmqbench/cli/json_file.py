"""``--json FILE``: where the result of a run goes besides the terminal.

It is a file, a pipe with a name, a device, or a stream of this process (``-``, ``/dev/stdout``).
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from pathlib import Path
from typing import Annotated

import typer

from rmqbench.cli.output import say, write_out
from rmqbench.errors import UsageError

__all__ = ["JsonOption", "is_stdout", "require_writable", "write_file", "write_text_and_json"]

JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the result to a file as JSON; - is stdout."),
]

# They are written to by their number: to open them would need a right that a process may lack (a
# terminal of another user, after su), and would begin a file anew that others are writing to.
_STREAM = re.compile(r"/dev/(?:std(?P<name>out|err)|fd/(?P<fd>\d+))|/proc/self/fd/(?P<proc>\d+)")
_READER_S = 10.0
_LOOK_S = 0.05


def is_stdout(path: Path | None) -> bool:
    """Whether the result is to go to standard output, in place of what a person reads there."""
    return path is not None and (str(path) == "-" or _descriptor(path) == 1)


def require_writable(path: Path | None) -> None:
    """Raise UsageError for a file that cannot be written: before a long run, not after it."""
    if path is None or is_stdout(path):
        return
    number = _descriptor(path)
    if number is not None:
        writable = _is_writable(number)
    elif path.exists():
        writable = not path.is_dir() and os.access(path, os.W_OK)
    else:
        writable = path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)
    if not writable:
        raise UsageError(
            f"The result cannot be written to {path}.",
            "Name a file that you may write, in a folder that exists.",
        )


def write_file(path: Path, text: str, instead: str) -> bool:
    """Write a text and return whether it is there; else say so, and ``instead`` where it is."""
    try:
        with os.fdopen(_opened(path), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        say(f"The result could not be written out to {path} ({error.strerror}). {instead}")
        return False
    return True


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path stands for; None for any other path."""
    found = _STREAM.fullmatch(str(path))
    if found is None:
        return None
    name, fd, proc = found.group("name", "fd", "proc")
    return {"out": 1, "err": 2}[name] if name else int(fd or proc)


def _is_writable(number: int) -> bool:
    try:
        os.write(number, b"")
    except OSError:
        return False
    return True


def _opened(path: Path) -> int:
    """Open a path for writing; a pipe with a name needs a reader, who is waited for."""
    number = _descriptor(path)
    if number is not None:
        return os.dup(number)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    if not path.exists() or not stat.S_ISFIFO(path.stat().st_mode):
        return os.open(path, flags, 0o666)
    deadline = time.monotonic() + _READER_S
    while True:
        try:
            opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > deadline:
                nobody = f"nobody has read it within {_READER_S:g} s"
                raise OSError(errno.ENXIO, nobody) from error
            time.sleep(_LOOK_S)
        else:
            os.set_blocking(opened, True)
            return opened


def write_text_and_json(text: str, told: object, path: Path | None) -> bool:
    """Write a text for people, and to a file where there is one values as JSON.

    Return whether both were written. Where the file is standard output, there is no text.
    """
    as_json = json.dumps(told, indent=2) + "\n"
    if is_stdout(path):
        return write_out(as_json)
    written = write_out(text)
    return written if path is None else write_file(path, as_json, "The evidence is kept.") & written
