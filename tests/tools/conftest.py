"""A user's virtual host, a display, and a browser."""

import os
import shutil
import subprocess
import uuid

import pytest
from support.browser import Browser, find_chromium
from support.tools import QUEUE

from rmqbench.amqp.topology import Queue, Topology, declare


@pytest.fixture
def vhost(rmqbench_broker):
    """A virtual host of a user, with whatever a test puts there."""
    name = f"rmqbench-user-{uuid.uuid4().hex[:8]}"
    with rmqbench_broker.management as management:
        management.create_virtual_host(name)
        yield rmqbench_broker.endpoint.in_virtual_host(name)
        management.delete_virtual_host(name)


@pytest.fixture
def work_queue(vhost, rmqbench_broker):
    """The work queue, empty, in the user's virtual host."""
    declare(vhost, Topology(queues=(Queue(QUEUE),)), rmqbench_broker.version)


@pytest.fixture(scope="session")
def display():
    """A display of our own; where there is no Xvfb, the one that is there."""
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    server = shutil.which("Xvfb")
    if server is None:
        if not os.environ.get("DISPLAY"):
            pytest.skip("there is no Xvfb, and no DISPLAY either")
        yield os.environ["DISPLAY"]
        return
    process = subprocess.Popen(
        [server, "-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        name = f":{process.stdout.readline().strip()}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DISPLAY", name)
            yield name
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture(scope="session")
def browser():
    """A real browser, which all tests of a process share."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium")
    with Browser(program) as browser:
        yield browser
