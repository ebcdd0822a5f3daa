"""``python -m rmqbench`` is ``rmqbench``: here both begin.

Nothing is imported before Ctrl-C has its handler. An exception that is raised in the middle of an
import may be swallowed there, or leave half a module and a traceback: it waits until that is over.
"""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

_AGAIN_S = 0.01
_INTERRUPTED = 128 + signal.SIGINT
# In code that was a text, an interrupt that is caught later still makes Python end by the signal.
_NOT_IN = ("<frozen importlib", "<string>")


def main() -> None:
    """Run the command line, and exit with its code: 130 after Ctrl-C, without a traceback."""
    try:
        # Where a shell has started it in the background, Ctrl-C is not for it.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
            signal.signal(signal.SIGALRM, _interrupt)
            sys.unraisablehook = _not_ignored
        try:
            from rmqbench.cli import main as run_command  # noqa: PLC0415

            run_command()
        finally:
            _ignore_interrupts()  # what is left is Python's own end
    except KeyboardInterrupt:
        _ignore_interrupts()
        sys.exit(_INTERRUPTED)


def _ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGALRM):
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or try again a little later if an import is under way."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith(_NOT_IN):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _not_ignored(ignored: sys.UnraisableHookArgs) -> None:
    """Try again where Python would ignore the interrupt: in a finalizer, say."""
    if isinstance(ignored.exc_value, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    else:
        sys.__unraisablehook__(ignored)


if __name__ == "__main__":
    main()
