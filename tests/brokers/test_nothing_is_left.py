"""Whatever ends a run, nothing of its broker is left: process, container, directory."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    for order in map(str.strip, sys.stdin):
        if order == "exit":
            sys.exit(3)
        if order == "vanish":
            os._exit(4)
        getattr(broker, order)()
        print("done", flush=True)
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
            names = [
                one.name for one in engine.client.containers.list(all=True, ignore_removed=True)
            ]
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


ENDINGS = {
    "SIGINT": [signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "SIGKILL": [signal.SIGKILL],
    "exit-with-a-dead-node": ["kill", "exit"],
    "exit-with-a-paused-node": ["pause", "exit"],
    "vanish-with-a-paused-node": ["pause", "vanish"],
}


@pytest.fixture(scope="module")
def children(request: pytest.FixtureRequest) -> Iterator[Callable[[Kind, str], Child]]:
    """Ready programs, each with a broker; those of a kind are started at once, side by side."""
    ready: dict[Kind, dict[str, Child]] = {}
    wanted = {
        (item.callspec.params["kind"], item.callspec.params["ending"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "children" in item.fixturenames
    }
    with contextlib.ExitStack() as stack:

        def child(kind: Kind, name: str) -> Child:
            if kind not in ready:
                ready[kind] = {
                    ending: stack.enter_context(contextlib.closing(Child(kind)))
                    for ending in ENDINGS
                    if (kind, ending) in wanted
                }
                for each in ready[kind].values():
                    each.wait_for("begun")
                    each.wait_for("ready")
            return ready[kind][name]

        yield child


@pytest.mark.quick
@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_left_after(
    children: Callable[[Kind, str], Child], kind: Kind, ending: str
) -> None:
    child = children(kind, ending)
    child.require_something()
    for each in ENDINGS[ending]:
        if isinstance(each, signal.Signals):
            child.process.send_signal(each)
        else:
            child.order(each)
        if each in ("kill", "pause"):
            child.wait_for("done")
    child.require_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=str)
def test_nothing_is_left_after_a_signal_while_starting(kind: Kind, number: signal.Signals) -> None:
    after_s = (0.05, 0.4, 1.0, 1.5)
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(contextlib.closing(Child(kind))) for _ in after_s]
        with ThreadPoolExecutor(len(children)) as pool:
            list(pool.map(interrupt, children, after_s, [number] * len(children)))
        for child in children:
            child.require_nothing_left()
            assert child.process.returncode in (-number, 1)


def interrupt(child: Child, after_s: float, number: signal.Signals) -> None:
    child.wait_for("begun")
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(after_s)
    child.see()
    child.process.send_signal(number)


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
