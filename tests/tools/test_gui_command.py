"""``rmqbench gui`` as a person starts and ends it."""

import contextlib
import os
import re
import signal
import sys
import time

import pika
import pytest
from support.tools import QUEUE, frames_of, numbered, publish, rmqbench, start_rmqbench, wait_until

from rmqbench.amqp.connection import Connection
from rmqbench.amqp.topology import counts, ready_count

pytestmark = pytest.mark.usefixtures("work_queue")


@contextlib.contextmanager
def running(*arguments):
    process = start_rmqbench("gui", *arguments)
    try:
        yield process
    finally:
        with process:  # closes its pipes, and waits
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="signals are not sent to processes there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_soon_and_the_sums_are_right(vhost, display, name):
    """In the middle of its work: what was acknowledged is gone, all else is in the queue."""
    prefetch = 50
    with Connection(vhost, name="publisher") as connection:
        connection.channel()
        connection.send([b"".join(frames_of(b"x", pika.BasicProperties())) * 20_000])
        connection.wait_until(lambda: not connection.unsent_bytes, 60, "everything to be sent")
    wait_until(lambda: ready_count(vhost, QUEUE) == 20_000, "all to be in the queue")
    with running("--url", vhost.url(), "--prefetch", str(prefetch)) as process:
        wait_until(lambda: ready_count(vhost, QUEUE) < 18_000, "it to begin", 90)
        process.send_signal(getattr(signal, name))
        started = time.monotonic()
        out, errors = process.communicate(timeout=60)
        assert time.monotonic() - started < 15
    assert (process.returncode, errors) == (0, "")
    shown, acknowledged = map(int, re.fullmatch(r"shown=(\d+), acknowledged=(\d+)\n", out).groups())
    assert 0 < shown <= 20_000
    # Where its second is not enough for the last acknowledgements, their messages come again.
    assert 0 <= shown - acknowledged <= prefetch
    most = 20_000 - acknowledged + (prefetch if acknowledged < shown else 0)

    def as_told():
        ready, consumers = counts(vhost, QUEUE)
        return not consumers and 20_000 - shown <= ready <= most

    wait_until(as_told, "all that was not acknowledged to be in the queue")


@pytest.mark.skipif(os.name == "nt", reason="signals are not sent to processes there")
def test_a_closed_output_changes_no_exit_code(vhost, display):
    publish(vhost, *numbered(20))
    with running("--url", vhost.url(), "--prefetch", "5") as process:
        process.stdout.close()
        wait_until(lambda: ready_count(vhost, QUEUE) < 15, "some to be shown")
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        assert process.wait(10) == 0, errors
    assert "could not be written out (Broken pipe). shown=" in errors


def test_a_queue_that_is_not_there_is_told_before_a_window_opens(vhost, display):
    told = rmqbench("gui", "--url", vhost.url(), "--queue", "no.queue")
    assert (told.returncode, told.stdout) == (2, "")
    assert "There is no queue 'no.queue'" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only there a display may be missing")
def test_no_display_is_told(vhost):
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    publish(vhost, b"x")
    without = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    told = rmqbench("gui", "--url", vhost.url(), env=without)
    assert (told.returncode, told.stdout) == (3, "")
    assert "no display" in told.stderr
    assert "DISPLAY" in told.stderr
    assert "Traceback" not in told.stderr
    assert ready_count(vhost, QUEUE) == 1
