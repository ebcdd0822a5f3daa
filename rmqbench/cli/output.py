"""What a subcommand writes to standard output, where nobody may be reading any more."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from rmqbench.cli.options import say

__all__ = ["let_go_of_stdout", "write_out"]


def write_out(text: str, instead: str = "") -> None:
    """Write to standard output; where that fails go on, for it is no verdict.

    ``instead`` is what a person is told then: the result once more, or where it is.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if instead:
            say(f"The result could not be written out ({error.strerror}). {instead}")
        let_go_of_stdout()


def let_go_of_stdout() -> None:
    """See that nothing is tried again when Python ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
