"""Single keys, as they are pressed: the one place that knows POSIX and Windows terminals."""

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
"""What arrows and other special keys send: their letters are not keys that were pressed."""
_LOOK_S = 0.02


class Keys:
    """A context manager that reads keys without Enter, and restores the terminal afterwards.

    If standard input is not a terminal there are no keys: ``on`` is False, and :meth:`wait` only
    waits. Ctrl-C and Ctrl-Z keep their meaning.
    """

    def __init__(self) -> None:
        self.on = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
        self._before: list[Any] | None = None

    if sys.platform == "win32":

        def __enter__(self) -> Keys:
            """Return itself: Windows has nothing to set."""
            return self

        def _restore(self) -> None:
            while self.on and msvcrt.kbhit():  # no key is for the shell
                msvcrt.getwch()

        def wait(self, timeout_s: float) -> str:
            """Return the keys pressed, as soon as there are any, or nothing after the time."""
            end = time.monotonic() + timeout_s
            while True:
                if self.on and msvcrt.kbhit():
                    key = msvcrt.getwch()
                    if key in ("\x00", "\xe0"):  # a special key sends two
                        msvcrt.getwch()
                        return ""
                    return key
                rest = end - time.monotonic()
                if rest <= 0:
                    return ""
                time.sleep(min(rest, _LOOK_S))

    else:

        def __enter__(self) -> Keys:
            """Switch the terminal to single keys without echo."""
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
                termios.tcflush(file, termios.TCIFLUSH)  # no key is for the shell
                termios.tcsetattr(file, termios.TCSANOW, self._before)
            self._before = None

        def wait(self, timeout_s: float) -> str:
            """Return the keys pressed, as soon as there are any, or nothing after the time.

            A terminal that is gone counts as ``q``.
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
        """Restore the terminal."""
        self._restore()
