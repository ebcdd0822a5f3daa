"""Whatever ends a run, nothing of its broker is left: process, container, directory."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from rmqbench.broker import open_broker
from rmqbench.broker.engine import Engine
from rmqbench.broker.places import data_root
from rmqbench.waiting import wait_until

if TYPE_CHECKING:
    from tests.brokers.conftest import Kind

pytestmark = pytest.mark.brokers

# The token makes the names known to the test; it replaces the random one.
PROGRAM = """
import os, secrets, sys
token = sys.argv[3]
random_hex = secrets.token_hex
secrets.token_hex = lambda size: token if size == 8 else random_hex(size)
from rmqbench.broker import open_broker
print("begun", flush=True)
with open_broker(sys.argv[1], image=sys.argv[2] or None) as broker:
    print("ready", flush=True)
    order = sys.stdin.readline().strip()
    if order == "raise":
        raise LookupError
    if order == "exit":
        sys.exit(3)
    if order == "vanish":
        os._exit(4)
    if order == "kill the node":
        broker.kill()
    if order == "pause the node":
        broker.pause()
        sys.stdin.readline()
"""


class Child:
    """A Python program with a broker open."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.token = secrets.token_hex(8)
        self.directory = data_root() / f"rmqbench-node-{self.token}"
        self.seen: set[psutil.Process] = set()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, kind.spec, kind.image, self.token],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def order(self, text: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()

    def see(self) -> set[psutil.Process]:
        """Remember every process it has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self.seen

    def container_is_there(self) -> bool:
        with contextlib.closing(Engine()) as engine:
            names = [one.name for one in engine.client.containers.list(all=True)]
        return f"rmqbench-{self.token}" in names

    def require_something(self) -> None:
        """Fail unless there is something that could be left behind."""
        assert len(self.see()) >= (3 if self.kind.spec == "local" else 1)
        if self.kind.spec == "local":
            assert self.directory.is_dir()
        else:
            assert self.container_is_there()

    def require_nothing_left(self) -> None:
        self.process.wait(60)
        wait_until(lambda: not any(map(_lives, self.seen)), 30.0, f"{self.seen} to end")
        wait_until(lambda: not self.directory.exists(), 20.0, f"{self.directory} to go")
        if self.kind.spec == "container":
            wait_until(lambda: not self.container_is_there(), 30.0, "the container to go")

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.kill()
        self.process.wait(10)


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def child(kind: Kind) -> Iterator[Child]:
    child = Child(kind)
    try:
        yield child
    finally:
        child.close()


@pytest.mark.parametrize(
    "order", ["end", "raise", "exit", "vanish", "kill the node", "pause the node"]
)
def test_nothing_is_left_when_a_program_ends_by(child: Child, order: str) -> None:
    child.wait_for("begun")
    child.wait_for("ready")
    child.require_something()
    child.order(order)
    if order == "pause the node":
        child.order("and end")
    child.require_nothing_left()


@pytest.mark.quick
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_nothing_is_left_after_a_signal(child: Child, number: signal.Signals) -> None:
    child.wait_for("begun")
    child.wait_for("ready")
    child.require_something()
    child.process.send_signal(number)
    child.require_nothing_left()


@pytest.mark.parametrize("after_s", [0.05, 0.4, 1.5])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=str)
def test_nothing_is_left_after_a_signal_while_starting(
    child: Child, number: signal.Signals, after_s: float
) -> None:
    child.wait_for("begun")
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(after_s)
    child.see()
    child.process.send_signal(number)
    child.require_nothing_left()
    assert child.process.returncode in (-number, 1)


def _family(process: psutil.Process) -> set[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return set(process.children(recursive=True))
    return set()


def test_nothing_is_left_in_this_process_either(kind: Kind) -> None:
    before = _family(psutil.Process())
    started: set[psutil.Process] = set()
    directory = Path("none")

    def run() -> None:
        nonlocal directory
        with open_broker(kind.spec, image=kind.image or None) as broker:
            now = _family(psutil.Process())
            # Another node of this session may have started a helper since.
            started.update(now - before.union(*map(_family, before)))
            directory = getattr(broker.node, "directory", directory)
            raise LookupError

    with pytest.raises(LookupError):
        run()
    assert started
    assert not any(map(_lives, started))
    assert not directory.exists()
