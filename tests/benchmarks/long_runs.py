"""What a long run costs who watches and judges it: ``python tests/benchmarks/long_runs.py N …``.

For each number of messages, a producer and a consumer of each of two queues are written as they
would have left them, into a temporary directory (39 bytes a message), and judged. Memory is that of
the process itself (RssAnon, Linux): the pages of mapped files are the kernel's.
"""

import re
import sys
import tempfile
import threading
import time
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.large import write_large_run

from rmqbench.results.judging import judge
from rmqbench.run_directory.ledger import DeliveryLedger
from rmqbench.runner.received import Received

_LOOKS = 1000


def own_mib():
    """Return how much memory of this process is its own."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


class Peak:
    """The most memory that this process had of its own, looked at all along."""

    def __enter__(self):
        self.mib = self.before_mib = own_mib()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.002):
            self.mib = max(self.mib, own_mib())


def look_us(directory, consumers):
    """Return how long a look at the progress of a queue takes, of which one block has changed."""
    received = Received()
    for _ in range(consumers):
        received.add(DeliveryLedger.read(directory / "queue-0" / "consumer-0"))
    received.look()

    def look():
        received._seen[-1] -= 1
        received.look()

    return timeit.timeit(look, number=_LOOKS) / _LOOKS * 1e6


def measure(messages):
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "run"
        write_large_run(directory, messages)
        with Peak() as peak:
            began_s = time.thread_time()
            result = judge(directory)
            took_s = time.thread_time() - began_s
        assert result.verdict.passed
        one, two = (look_us(directory, consumers) for consumers in (1, 2))
    print(
        f"{messages:>11,} messages: {took_s * 1e6 / messages:.2f} s of CPU a million to judge, "
        f"{peak.mib - peak.before_mib:.0f} MiB; a look at an only consumer {one:.0f} µs, at two "
        f"{two:.0f} µs",
        flush=True,
    )


if __name__ == "__main__":
    for each in sys.argv[1:] or ["10000", "1000000", "10000000"]:
        measure(int(each))
