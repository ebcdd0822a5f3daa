"""Standard output and standard error, where nobody may be reading any more.

That output is lost changes no exit code: a closed stream, a reader that has gone and a full disk
are all met here.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

__all__ = [
    "ReaderGone",
    "let_go_of_stdout",
    "prepare_streams",
    "say",
    "settle_stdout",
    "write_out",
]


class ReaderGone(BrokenPipeError):
    """Nobody reads standard output any more. A broken network connection is not meant."""


class _Stdout(io.TextIOWrapper):
    """Standard output, whose broken pipe has a name of its own."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError as error:
            raise ReaderGone(*error.args) from error

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError as error:
            raise ReaderGone(*error.args) from error


class _Stderr(io.TextIOWrapper):
    """Standard error, to which nobody has to listen: what cannot be written is dropped."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            _let_go(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _let_go(self)


def prepare_streams() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams that outlive their readers.

    One that was closed (``>&-``) is opened again, so that no other file gets its number. What is
    written to a closed standard output is lost like that into ``| head -0``.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            _open(number)
    # What a terminal cannot show is no error.
    sys.stdout = _rewrapped(sys.stdout, 1, _Stdout)
    sys.stderr = _rewrapped(sys.stderr, 2, _Stderr)


def _rewrapped(stream: TextIO | None, number: int, kind: type[io.TextIOWrapper]) -> TextIO:
    if stream is None:
        return kind(open(number, "wb", closefd=False), encoding="utf-8", errors="replace")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, lines = stream.encoding, stream.line_buffering
    through = stream.write_through
    return kind(
        stream.detach(),
        encoding=encoding,
        errors="replace",
        line_buffering=lines,
        write_through=through,
    )


def _open(number: int) -> None:
    """Open a closed standard stream: output as a pipe without a reader, the others as nothing."""
    try:
        os.fstat(number)
    except OSError:
        if number == 1:
            reading, opened = os.pipe()
            os.close(reading)
        else:
            opened = os.open(os.devnull, os.O_RDWR)
        os.dup2(opened, number)
        os.set_inheritable(number, True)
        if opened != number:
            os.close(opened)


def say(text: str) -> None:
    """Print a line on standard error, for a person; nobody has to listen."""
    print(text, file=sys.stderr, flush=True)


def write_out(text: str, instead: str = "") -> bool:
    """Write to standard output; where that fails go on, for it is no verdict.

    Return False where there was somebody to read it, and it could not be written.

    ``instead`` is what a person reads then: the result once more, or where it is.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if instead:
            say(f"The result could not be written out ({error.strerror}). {instead}")
        elif not isinstance(error, ReaderGone):
            say(f"Standard output could not be written ({error.strerror}).")
        let_go_of_stdout()
        return isinstance(error, ReaderGone)
    return True


def settle_stdout() -> None:
    """Write out what is left; else Python would try at its end, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        let_go_of_stdout()


def let_go_of_stdout() -> None:
    """Discard standard output from now on, so that Python does not try again at its end."""
    _let_go(sys.stdout)


def _let_go(stream: TextIO) -> None:
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
