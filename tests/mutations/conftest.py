"""Tests of this repository, run on a copy of it in which one thing is changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

import pytest

import rmqbench

PACKAGE = Path(rmqbench.__file__).parent
CHECKOUT = Path(__file__).parents[2]
COPIES = 2  # so many inner pytests run at a time
LIMIT_S = 60

# A plugin beside the copied package: what runs there must be the copy, or else nothing may run.
GUARD = """
import importlib
import os
from pathlib import Path

import pytest


def pytest_configure(config):
    for name in ("rmqbench", "rmqbench.pytest_plugin", os.environ["CHANGED_MODULE"]):
        file = Path(importlib.import_module(name).__file__)
        if not file.is_relative_to(Path(__file__).parent):
            raise pytest.UsageError(f"{name} was imported from {file}")
"""

# A program beside it: what all inner pytests import is imported once, and each is a fork of it.
# The package itself is imported by the fork, as it then stands in the copy.
SERVER = """
import json
import os
import signal
import sys
import time
import traceback

import hypothesis.strategies
import numpy
import pika
import psutil
import pytest
import requests
import rich.console
import typer


def run_pytest(job):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    os.environ.update(job["environment"])
    try:
        return int(pytest.main(job["arguments"]))
    except BaseException:
        traceback.print_exc()
        return 3


def wait(child, limit_s):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        code = run_pytest(job)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(json.dumps(wait(child, job["limit_s"])), flush=True)
"""


class Change(Protocol):
    """What is changed in a copy, and which tests are run on it."""

    module: str
    original: str
    mutated: str

    @property
    def selection(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Ended:
    """How an inner pytest ended: its exit code (None: it had to be ended) and what it said."""

    code: int | None
    said: str

    @property
    def failed(self) -> int:
        """The number of tests that failed (no errors, no tests that could not be found)."""
        found = re.search(r"^(\d+) failed", self.said.splitlines()[-1]) if self.said else None
        return int(found[1]) if found and self.code == 1 else 0


class NoLongerAppliesError(Exception):
    """The source to be changed is not there, or more than once."""


class Copy:
    """The package and its tests at a place of their own, where bytecode may be kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        passing_over = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, directory / "rmqbench", ignore=passing_over)
        shutil.copytree(CHECKOUT / "tests", directory / "tests", ignore=passing_over)
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(CHECKOUT / name, directory)
        (directory / "the_copy.py").write_text(GUARD)
        (directory / "serve.py").write_text(SERVER)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "RMQBENCH_", "PYTHON"))
        }
        self._server = subprocess.Popen(
            [sys.executable, "serve.py"],
            cwd=directory,
            env={
                **kept,
                "PYTHONPATH": str(directory),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "OPENBLAS_NUM_THREADS": "1",  # a process with threads is not to be forked
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the server."""
        with self._server:
            assert self._server.stdin is not None
            self._server.stdin.close()

    def run(self, change: Change, environment: Mapping[str, str]) -> Ended:
        """Run the tests of a change while it is made."""
        with self._changed(change):
            return self._run_pytest(change, environment)

    @contextmanager
    def _changed(self, change: Change) -> Iterator[None]:
        path = self.directory.joinpath(*change.module.split(".")).with_suffix(".py")
        source = path.read_text()
        found = source.count(change.original) if change.original else 1
        if found != 1:
            raise NoLongerAppliesError(
                "the mutation no longer applies: update it "
                f"({change.module} has its source {found} times)"
            )
        try:
            if change.original:
                _write(path, source.replace(change.original, change.mutated))
            yield
        finally:
            _write(path, source)

    def _run_pytest(self, change: Change, environment: Mapping[str, str]) -> Ended:
        job = {
            "environment": {"CHANGED_MODULE": change.module, **environment},
            "arguments": [
                *("-x", "-q", "--tb=short", "--no-header", "-p", "the_copy"),
                *("-p", "rmqbench.pytest_plugin", "-p", "no:cacheprovider"),
                *("--basetemp", "tmp", *change.selection),
            ],
            "limit_s": LIMIT_S,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        code = json.loads(self._server.stdout.readline())
        return Ended(code, (self.directory / "said.txt").read_text().strip())


def _write(path: Path, source: str) -> None:
    """Write a source, of which no older bytecode may be left."""
    path.write_text(source)
    for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        cached.unlink()


class InnerRuns:
    """Runs inner pytests two at a time, ahead of the tests that ask for their outcome."""

    def __init__(self, directory: Path) -> None:
        self._pool = ThreadPoolExecutor(COPIES)
        self._begun: dict[Change, Future[Ended]] = {}
        self._all = [Copy(directory / f"copy-{number}") for number in range(COPIES)]
        self._copies: SimpleQueue[Copy] = SimpleQueue()
        for each in self._all:
            self._copies.put(each)

    def outcome(
        self, change: Change, ahead: Iterable[Change], environment: Mapping[str, str]
    ) -> Ended:
        """Give the outcome of a change; those ``ahead`` are begun, all in the same environment."""
        for each in (change, *ahead):
            if each not in self._begun:
                self._begun[each] = self._pool.submit(self._run, each, environment)
        return self._begun[change].result()

    def _run(self, change: Change, environment: Mapping[str, str]) -> Ended:
        copy = self._copies.get()
        try:
            return copy.run(change, environment)
        finally:
            self._copies.put(copy)

    def close(self) -> None:
        """Begin no more, and wait for those that are running."""
        self._pool.shutdown(cancel_futures=True)
        for each in self._all:
            each.close()


@pytest.fixture(scope="session")
def inner_runs(tmp_path_factory):
    runs = InnerRuns(tmp_path_factory.mktemp("mutations"))
    yield runs
    runs.close()


@pytest.fixture
def outcome_of(inner_runs, request):
    """Give a function that runs the tests of a change, and ahead those that the next tests need."""

    alike = [
        item.callspec.params.get("change")
        for item in request.session.items
        if item.path == request.node.path and item.originalname == request.node.originalname
    ]

    def outcome(
        change: Change,
        environment: Mapping[str, str] | None = None,
        ahead: Sequence[Change] = alike,
    ) -> Ended:
        try:
            return inner_runs.outcome(change, ahead, environment or {})
        except NoLongerAppliesError as error:
            pytest.fail(str(error), pytrace=False)

    return outcome


@pytest.fixture
def broker_environment(rmqbench_broker):
    """Variables by which an inner pytest takes the broker of this one."""
    endpoint = rmqbench_broker.endpoint
    return {
        "RMQBENCH_BROKER": endpoint.url(),
        "RMQBENCH_MANAGEMENT_URL": endpoint.management_url or "",
    }
