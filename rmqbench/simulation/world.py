"""Virtual time: tasks that take turns in one thread, and a clock that jumps to what comes next.

A task is a plain function that waits by :meth:`World.sleep` or :meth:`World.wait`. Nothing else
takes time. What happens at the same moment happens in the order in which it was asked for, so that
a run repeats itself exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from rmqbench.clock import Clock

__all__ = ["Task", "Timer", "World"]

_BEGIN_NS = 1_700_000_000_000_000_000  # what time it is when a world begins
_MOST_EVENTS = 2_000_000


class Timer:
    """Something that will be done; :meth:`cancel` forgets it."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Cancel it."""
        self.callback = None


class Task:
    """A function at work. ``result`` or ``error`` is there once it has ``ended``."""

    def __init__(self, world: World, name: str, function: Callable[[], Any]) -> None:
        self.name = name
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._world = world
        self._function = function
        self._greenlet = greenlet(self._run)
        self._wakeup: Timer | None = None

    def _run(self) -> None:
        try:
            self.result = self._function()
        except Exception as error:  # raised where the task is waited for
            self.error = error
        finally:
            self.ended = True

    def kill(self) -> None:
        """End it where it stands, as SIGKILL ends a process: nothing of it runs any more.

        Not even its ``finally`` blocks do, until :meth:`World.close`.
        """
        if self._wakeup is not None:
            self._wakeup.cancel()
        self.ended = True

    def wake(self) -> None:
        """Resume it now, if it waits."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = self._world.call_later(0.0, self._switch)

    def _switch(self) -> None:
        self._wakeup = None
        if not self.ended:
            self._resume(self._greenlet.switch)

    def _resume(self, how: Callable[[], Any]) -> None:
        """Resume it until it waits or ends: either leads back to here."""
        self._greenlet.parent = getcurrent()
        how()


class World:
    """Holds what is going to happen, and does it in the order of time."""

    def __init__(self) -> None:
        self._now = 0.0
        self._count = 0
        self._heap: list[tuple[float, int, Timer]] = []
        self._hub: greenlet | None = None
        self._tasks: dict[greenlet, Task] = {}
        self._is_closed = False
        self.clock = Clock(self.now, self.time_ns, self.sleep, lambda: 0.0)

    def now(self) -> float:
        """Return the time in seconds."""
        return self._now

    def time_ns(self) -> int:
        """Return the time in Unix nanoseconds."""
        return _BEGIN_NS + round(self._now * 1e9)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call a function after ``delay_s``."""
        timer = Timer(callback)
        self._count += 1
        heapq.heappush(self._heap, (self._now + max(0.0, delay_s), self._count, timer))
        return timer

    def spawn(self, name: str, function: Callable[[], Any]) -> Task:
        """Run a function beside all others, from now on."""
        task = Task(self, name, function)
        self._tasks[task._greenlet] = task
        task._wakeup = self.call_later(0.0, task._switch)
        return task

    def current(self) -> Task:
        """Return the task that is asking."""
        return self._tasks[getcurrent()]

    def sleep(self, seconds: float) -> None:
        """Suspend the current task for that many seconds of virtual time."""
        if self._is_closed:
            raise GreenletExit
        task = self.current()
        task._wakeup = self.call_later(seconds, task._switch)
        self._pause()

    def wait(self, until: float) -> None:
        """Wait until somebody calls the task's :meth:`Task.wake`, or until then at the latest."""
        self.sleep(until - self._now)

    def _pause(self) -> None:
        assert self._hub is not None
        self._hub.switch()

    def run(self, function: Callable[[], Any], limit_s: float = 1e5) -> Any:
        """Run a function as the main task, return what it returns or raise what it raises.

        Raise RuntimeError where it has not ended by ``limit_s``, or everybody waits for nothing.
        What else runs is left where it stands, until :meth:`close`.
        """
        self._hub = getcurrent()
        main = self.spawn("main", function)
        heap = self._heap
        for _ in range(_MOST_EVENTS):
            if main.ended:
                break
            if not heap or heap[0][0] > limit_s:
                raise RuntimeError(f"the main task has not ended after {self._now:g} s")
            at, _number, timer = heapq.heappop(heap)
            if timer.callback is not None:
                self._now = max(self._now, at)
                timer.callback()
        else:
            raise RuntimeError(f"{_MOST_EVENTS} events, and the main task has not ended")
        if main.error is not None:
            raise main.error
        return main.result

    def close(self) -> None:
        """End all that has not ended; time stands still.

        Python runs ``finally`` blocks when it throws a suspended function away, which it does at
        some time or other. Here they run now, those of killed tasks too: whatever they should not
        touch, such as files that a killed process would have left as they were, must be out of
        their reach by now.
        """
        self._is_closed = True
        self._heap.clear()
        for task in self._tasks.values():
            task.ended = True
            if task._greenlet:
                task._resume(partial(task._greenlet.throw, GreenletExit))
        self._tasks.clear()
