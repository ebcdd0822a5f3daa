"""A table that many threads need at the same moment is computed by one of them."""

import threading
from concurrent.futures import ThreadPoolExecutor

from rmqbench.once import once


def test_many_threads_that_need_a_value_at_once_compute_it_once():
    meeting, calls = threading.Barrier(8), []

    @once
    def table():
        calls.append(threading.get_ident())
        threading.Event().wait(0.05)  # long enough that all the others come in between
        return object()

    def fetch(_):
        meeting.wait(60)
        return table()

    with ThreadPoolExecutor(8) as pool:
        values = set(pool.map(fetch, range(8)))
    assert len(values) == len(calls) == 1
