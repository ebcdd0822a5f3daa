"""``rmqbench broker``: a RabbitMQ in the foreground."""

import re
import signal
import threading

import psutil
import pytest
from support.tools import start_rmqbench

from rmqbench.broker import probe
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable


def start(*arguments):
    return start_rmqbench("broker", "start", *arguments)


@pytest.fixture
def started():
    """A running ``rmqbench broker start``, and the endpoint that it has printed."""
    process = start("--broker", "local")
    watchdog = threading.Timer(300, process.kill)  # a line that never comes ends the reading
    watchdog.start()
    try:
        lines = [process.stdout.readline() for _ in range(5)]
        assert lines[0].startswith("RabbitMQ "), process.stderr.read()
        values = dict(re.split(r"  +", line.strip().replace("URL ", "URL  ")) for line in lines[1:])
        yield process, Endpoint.from_url(values["AMQP URL"]), values
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate(timeout=30)


def test_it_prints_how_to_reach_it_and_ctrl_c_ends_it(started):
    process, endpoint, values = started
    assert re.match(r"\d+\.\d+", probe(endpoint))
    assert values["password"] == endpoint.password
    assert values["management URL"].startswith("http://127.0.0.1:")
    family = psutil.Process(process.pid).children(recursive=True)
    for line in process.stderr:  # it tells how to end it, and listens for it from then on
        if line == "Ctrl-C ends it.\n":
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=90)
    assert (process.returncode, "Traceback" in errors) == (0, False)
    assert psutil.wait_procs(family, timeout=60)[1] == []
    with pytest.raises(BrokerUnavailable):
        probe(endpoint)


@pytest.mark.slow
def test_it_ends_by_itself_when_its_node_dies(started):
    process, _, _ = started
    node = [p for p in psutil.Process(process.pid).children() if p.name() == "beam.smp"]
    assert len(node) == 1
    node[0].kill()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 4
    assert "ended by itself" in errors


def test_a_broker_at_a_url_is_not_started():
    process = start("--broker", "amqp://127.0.0.1")
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 2
    assert "not ours to start" in errors
