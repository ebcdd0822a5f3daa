"""The live dashboard: asks, draws and reads keys, and leaves the terminal as it found it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType

from rich.console import Console
from rich.live import Live

from rmqbench.errors import RmqbenchError
from rmqbench.monitor.controls import after
from rmqbench.monitor.keys import Keys
from rmqbench.monitor.model import Picture
from rmqbench.monitor.source import Source
from rmqbench.monitor.view import Dashboard, Scene, clock_time

__all__ = ["watch"]

_LOOK_S = 0.1  # how often signals and the size of the terminal are checked
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP")
_SUSPEND: int = getattr(signal, "SIGTSTP", 0)  # Ctrl-Z; there is none on Windows


def watch(
    console: Console,
    fetch: Callable[[], Picture],
    scene: Scene,
    *,
    keys: Keys | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> None:
    """Show what ``fetch`` returns on the alternate screen, until a key ends it.

    ``fetch`` is called in a thread of its own. What the first call raises is raised here; later a
    RmqbenchError is shown above the last picture, and ``fetch`` is called again.
    """
    source = Source(fetch)
    try:
        screen = _Screen(
            console, source, scene, keys=keys or Keys(), clock=clock, wall_clock=wall_clock
        )
        screen.run()
    finally:
        source.close()


class _Screen:
    def __init__(
        self,
        console: Console,
        source: Source,
        scene: Scene,
        *,
        keys: Keys,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._console = console
        self._source = source
        self._scene = replace(scene, live=True, keys=keys.on)
        self._keys = keys
        self._clock = clock
        self._wall_clock = wall_clock
        self._due = clock()
        self._lost_at = ""
        self._heard = 0

    def run(self) -> None:
        """Show the dashboard until it is ended; a signal then does what it did before."""
        with self._signals():
            self._show()
            while self._heard == _SUSPEND != 0:
                self._suspend()
                self._show()
        if self._heard:
            signal.raise_signal(self._heard)

    def _show(self) -> None:
        live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        drawn: tuple[Scene, tuple[int, int]] | None = None
        with self._keys:
            try:
                live.start()
                while not (self._scene.controls.ended or self._heard):
                    self._fetch()
                    now = self._scene, self._follow_size()
                    if now != drawn:
                        live.update(Dashboard(self._scene), refresh=True)
                        drawn = now
                    self._listen()
            finally:  # after an error, too
                live.stop()

    def _fetch(self) -> None:
        """Ask when it is time, and take what was fetched; a paused picture stays as it is."""
        if self._scene.controls.paused:
            return
        result = self._source.take()
        if isinstance(result, Picture):
            self._scene = replace(self._scene, picture=result, trouble="")
            self._lost_at = ""
        elif isinstance(result, Exception):
            if self._scene.picture is None or not isinstance(result, RmqbenchError):
                raise result
            self._lost_at = self._lost_at or clock_time(self._wall_clock())
            words = f"The Management API has not answered since {self._lost_at}: {result.what}"
            self._scene = replace(self._scene, trouble=words)
        if result is not None:
            self._due = self._clock() + self._scene.controls.interval_s
        if not self._source.busy and self._clock() >= self._due:
            self._source.ask()

    def _listen(self) -> None:
        before = self._scene.controls
        controls = before
        for key in self._keys.wait(_LOOK_S):
            controls = after(controls, key)
        if controls.interval_s != before.interval_s:
            self._due = min(self._due, self._clock() + controls.interval_s)
        self._scene = replace(self._scene, controls=controls)

    def _follow_size(self) -> tuple[int, int]:
        """Set the size of the terminal, which rich otherwise takes from the environment."""
        with suppress(OSError, ValueError):
            size = os.get_terminal_size(self._console.file.fileno())
            if size.columns > 0 and size.lines > 0:
                self._console.size = size
        return self._console.size

    # --- signals: noted, and handled between two drawings -----------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def hear(number: int, _frame: FrameType | None) -> None:
            if self._heard in (0, _SUSPEND):
                self._heard = number

        numbers = [getattr(signal, name, 0) for name in _SIGNALS]
        heard = [each for each in numbers if each and signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, hear) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _suspend(self) -> None:
        """Stop with the terminal in order until the shell continues us."""
        self._heard = 0
        ours = signal.signal(_SUSPEND, signal.SIG_DFL)
        signal.raise_signal(_SUSPEND)  # returns when we are continued
        signal.signal(_SUSPEND, ours)
        self._due = self._clock()
