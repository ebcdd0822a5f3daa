"""A clock that is told: its time passes when somebody sleeps, and otherwise never."""

from rmqbench.clock import Clock


class ToldClock:
    """``clock`` is what is given to whoever needs the time; ``slept`` notes each sleep."""

    def __init__(self, now=1_000.0):
        self.now = self._began = now
        self.began_ns = 1_790_000_000_000_000_000
        self.slept = []
        self.clock = Clock(self.monotonic, self.time_ns, self.sleep, lambda: 0.0)

    def monotonic(self):
        """Return the seconds of it."""
        return self.now

    def time_ns(self):
        """Return the Unix nanoseconds of it."""
        return self.began_ns + round((self.now - self._began) * 1e9)

    def sleep(self, seconds):
        """Note the sleep, and let its time pass."""
        self.slept.append(seconds)
        self.now += seconds
