"""What the tests of the tools share: commands in processes of their own, messages, and waiting."""

import subprocess
import sys
import time

import pika

from rmqbench.amqp.admin import admin

PROGRAM = (sys.executable, "-m", "rmqbench")
QUEUE = "work.queue"

# Ctrl-C reaches those whose terminal it is: the program takes it as its own before it begins.
IN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'rmqbench', *sys.argv[1:]])"
)


def rmqbench(*arguments, timeout=90, **more):
    """Run a command to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        **{"stdin": subprocess.DEVNULL, "text": True, **more},
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def start_rmqbench(*arguments, **more):
    """Start a command, whose output is read."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*PROGRAM, *arguments], **pipes | more)


def wait_until(condition, what, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.01)


def numbered(count):
    return [b"%d" % number for number in range(count)]


def publish(endpoint, *bodies, **properties):
    with admin(endpoint) as channel:
        for body in bodies:
            channel.basic_publish("", QUEUE, body, pika.BasicProperties(**properties))


def frames_of(body, properties):
    method = pika.spec.Basic.Publish(exchange="", routing_key=QUEUE)
    yield pika.frame.Method(1, method).marshal()
    yield pika.frame.Header(1, len(body), properties).marshal()
    yield pika.frame.Body(1, body).marshal()
