"""Single keys, as they are pressed: the one place that knows terminals of both families."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from types import TracebackType
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import select
    import termios
    import tty

__all__ = ["Keys"]

_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""What arrows and other special keys send: its letters are no keys that were pressed."""
_LOOK_S = 0.02


class Keys:
    """A context manager that reads keys without Enter, and puts the terminal back as it was.

    Where standard input is no terminal there are no keys: ``on`` is False, and waiting only waits.
    Ctrl-C and Ctrl-Z keep their meaning.
    """

    def __init__(self) -> None:
        self.on = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
        self._before: list[Any] | None = None

    if sys.platform == "win32":

        def __enter__(self) -> Keys:
            """Begin: there is nothing to set here."""
            return self

        def _restore(self) -> None:
            while self.on and msvcrt.kbhit():  # what was typed was not for the shell
                msvcrt.getwch()

        def wait(self, timeout_s: float) -> str:
            """Give the keys pressed, as soon as there are some, or nothing after the time."""
            end = time.monotonic() + timeout_s
            while True:
                if self.on and msvcrt.kbhit():
                    key = msvcrt.getwch()
                    if key in ("\x00", "\xe0"):  # a special key is two
                        msvcrt.getwch()
                        return ""
                    return key
                rest = end - time.monotonic()
                if rest <= 0:
                    return ""
                time.sleep(min(rest, _LOOK_S))

    else:

        def __enter__(self) -> Keys:
            """Let keys come at once, and unseen."""
            if self.on:
                file = sys.stdin.fileno()
                self._before = termios.tcgetattr(file)
                tty.setcbreak(file, termios.TCSANOW)
            return self

        def _restore(self) -> None:
            if self._before is None:
                return
            file = sys.stdin.fileno()
            with contextlib.suppress(termios.error):  # the terminal may be gone
                termios.tcflush(file, termios.TCIFLUSH)  # what was typed was not for the shell
                termios.tcsetattr(file, termios.TCSANOW, self._before)
            self._before = None

        def wait(self, timeout_s: float) -> str:
            """Give the keys pressed, as soon as there are some, or nothing after the time.

            A terminal that is gone is told as ``q``.
            """
            if not self.on:
                time.sleep(timeout_s)
                return ""
            file = sys.stdin.fileno()
            if not select.select([file], [], [], timeout_s)[0]:
                return ""
            try:
                pressed = os.read(file, 1024)
            except OSError:
                pressed = b""
            if not pressed:
                return "q"
            return _SEQUENCE.sub("", pressed.decode(errors="replace"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the terminal back."""
        self._restore()
