"""Ctrl-C at any moment of the first second: exit code 130, and not a word."""

import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

MODULE = [sys.executable, "-m", "rmqbench"]
PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
ENTRY_MODULE, ENTRY_NAME = PROJECT["project"]["scripts"]["rmqbench"].split(":")
# What the installer writes.
SCRIPT = [
    *(sys.executable, "-c"),
    f"import re, sys; from {ENTRY_MODULE} import {ENTRY_NAME} as main; sys.exit(main())",
]
COMMANDS = {
    ("--version",): 0,
    ("run", "faults", "--list"): 0,
    ("judge", "/nowhere"): 2,
    ("explain", "/nowhere"): 2,
    ("run", "reliability", "--url", "amqp://127.0.0.1:1"): 4,
    ("monitor", "--once", "--host", "127.0.0.1:1"): 3,
}
ROUNDS, MOST_ROUNDS = 3, 20
SPREAD_S = 0.6

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


def is_prepared(pid: int, command: list[str]) -> bool:
    """Whether the program has begun: it catches SIGALRM, which Python by itself does not."""
    try:
        if Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1] != command:
            return False  # still a copy of ours, with our signals
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGALRM - 1) & 1)


def interrupted(command, pause_s):
    """Run a command, interrupt it so long after it has begun, and return how it ended.

    It gives way to this process: on a busy machine it would be over before it is seen.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(["nice", "-n", "19", *command], **pipes) as process:
        while process.poll() is None and not is_prepared(process.pid, command):
            time.sleep(0.0002)
        time.sleep(pause_s)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in out + errors
    assert "Exception ignored" not in errors
    if process.returncode == 130:  # it may have said before what went wrong
        assert not errors or errors.startswith("Error: ")
    return process.returncode


@pytest.mark.parametrize("program", [MODULE, SCRIPT], ids=["module", "script"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_in_the_first_second_ends_it_quietly(program, command):
    chance = random.Random(repr((program[0], command)))
    whole = [*program, *command]
    pauses = [SPREAD_S * (moment + chance.random()) / ROUNDS for moment in range(ROUNDS)]
    codes = [interrupted(whole, pause_s) for pause_s in pauses]
    # On a busy machine all may have ended before.
    while 130 not in codes and len(codes) < MOST_ROUNDS:
        codes.append(interrupted(whole, 0.0))
    assert set(codes) <= {130, COMMANDS[command]}
    if command != ("--version",):  # which may be over each time: it does nothing else
        assert 130 in codes


def test_one_that_ignores_interrupts_goes_on_ignoring_them():
    command = f"trap '' INT; exec {sys.executable} -m rmqbench --version"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(["sh", "-c", command], **pipes) as process:
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert out


TOLD = """
import os, signal, time
from rmqbench.cli.signals import interrupts_told

signal.signal(signal.SIGTERM, lambda *_: print("before", flush=True))
with interrupts_told("said once."):
    for number in (signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
        time.sleep(0)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0)
"""


def test_the_first_interrupt_is_told_and_all_goes_on_as_it_would():
    ended = subprocess.run(
        [sys.executable, "-c", TOLD], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "before\n" * 3
    assert ended.stderr == "\nrmqbench: said once.\n"


def test_where_interrupts_are_ignored_nothing_is_told():
    program = TOLD.replace('lambda *_: print("before", flush=True)', "signal.SIG_IGN")
    assert program != TOLD
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
