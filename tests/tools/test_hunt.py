"""A schedule is replayed, and a hunt goes on and ends, on brokers that are started for it."""

import json
import re
import signal
import uuid

import pytest
from support.tools import rmqbench, start_rmqbench

from rmqbench.faults import Fault
from rmqbench.hunt import Schedule
from rmqbench.queues import ConsumedQueue
from rmqbench.scenarios import Scenario

QUEUES = (ConsumedQueue("work"),)
KILLED = (Fault("restart-broker", "backlog"),)


@pytest.fixture
def local(rmqbench_broker):
    """The options of a broker of our own, of the kind that the session has."""
    if rmqbench_broker.kind != "local":
        pytest.skip("once is enough, with the quickest broker")
    return "--broker", "local"


def replay(tmp_path, local, **changes):
    schedule = Schedule(Scenario("replayed", QUEUES, messages=300, **changes), uuid.UUID(int=5))
    schedule.write(tmp_path / "schedule.json")
    arguments = ("--directory", tmp_path / "replays", "--json", tmp_path / "told.json")
    ended = rmqbench("replay", tmp_path / "schedule.json", *arguments, *local, timeout=180)
    return ended, json.loads((tmp_path / "told.json").read_text())


@pytest.mark.slow
def test_a_schedule_that_fails_says_so_and_keeps_its_evidence(tmp_path, local):
    """Transient messages do not outlive their node."""
    allowed = ("indeterminate",)
    ended, told = replay(tmp_path, local, faults=KILLED, persistent=False, allowed=allowed)
    assert ended.returncode == 1, ended.stderr
    assert "lost in a classic queue: 1 of 1 times" in ended.stdout
    assert told["shown"] == {"lost in a classic queue": 1}
    assert (tmp_path / "replays" / "run-1" / "result.json").exists()


def test_a_schedule_that_does_not_fail_says_so(tmp_path, local):
    ended, told = replay(tmp_path, local)
    assert ended.returncode == 0, ended.stderr
    assert "PASS: nothing failed, 1 of 1 runs" in ended.stdout
    assert (told["runs"], told["shown"], told["errors"]) == (1, {}, [])


def test_a_hunt_ends_in_order_when_it_is_interrupted(tmp_path, local):
    place = tmp_path / "hunt"
    arguments = ("--minutes", "10", "--seed", "4", "--directory", place)
    process = start_rmqbench("hunt", *arguments, *local)
    said = ""
    while "starting" not in said.lower() and (line := process.stderr.readline()):
        said += line
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=90)
    assert process.returncode == 130, said + rest
    assert re.search(r"1 schedules? tried, 0 messages judged: nothing found", out), out
    assert (Schedule.read(place / "schedule-0.json")).seed == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "/nowhere/schedule.json"], "cannot be read"),
        (["hunt", "--broker", "amqp://here"], "is not ours to start and stop"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, arguments, words):
    ended = rmqbench(*arguments, "--directory", tmp_path / "there")
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
