"""Tests of this repository, run on a copy of it in which one thing is changed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

import rmqbench

PACKAGE = Path(rmqbench.__file__).parent
CHECKOUT = Path(__file__).parents[2]
LIMIT_S = 120

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


@dataclass(frozen=True)
class Ended:
    """How an inner pytest ended: its exit code (None: it was ended at the limit) and its output."""

    code: int | None
    output: str

    @property
    def failed(self) -> int:
        """The number of failed tests: no errors, no tests that could not be found."""
        found = re.search(r"^(\d+) failed", self.output.splitlines()[-1]) if self.output else None
        return int(found[1]) if found and self.code == 1 else 0


class Copy:
    """The package and its tests at a place of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        passing_over = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, directory / "rmqbench", ignore=passing_over)
        shutil.copytree(CHECKOUT / "tests", directory / "tests", ignore=passing_over)
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(CHECKOUT / name, directory)
        (directory / "the_copy.py").write_text(GUARD)

    def run(self, change, environment: Mapping[str, str] = MappingProxyType({})) -> Ended:
        """Run the ``tests`` of a mutation while it is made."""
        with self._changed(change):
            return self._run_pytest(change, environment)

    @contextmanager
    def _changed(self, change):
        path = self.directory.joinpath(*change.module.split(".")).with_suffix(".py")
        source = path.read_text()
        found = source.count(change.original)
        if found != 1 and change.original:
            pytest.fail(
                f"the mutation no longer applies: update it ({change.module} has its source "
                f"{found} times)",
                pytrace=False,
            )
        try:
            if change.original:
                _write(path, source.replace(change.original, change.mutated))
            yield
        finally:
            _write(path, source)

    def _run_pytest(self, change, environment: Mapping[str, str]) -> Ended:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "RMQBENCH_", "PYTHON"))
        }
        ours = {
            "PYTHONPATH": str(self.directory),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "CHANGED_MODULE": change.module,
        }
        plugins = ("-p", "the_copy", "-p", "rmqbench.pytest_plugin", "-p", "no:cacheprovider")
        options = ("-x", "-q", "--tb=short", "--no-header", "--basetemp", "tmp")
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "pytest", *plugins, *options, *change.tests],
                cwd=self.directory,
                env={**kept, **ours, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return Ended(None, f"It was not over after {LIMIT_S} s.")
        return Ended(ended.returncode, ended.stdout.strip())


def _write(path: Path, source: str) -> None:
    """Write a source, of which no older bytecode may be left: it goes by whole seconds."""
    path.write_text(source)
    Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def copy(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("copy"))


@pytest.fixture
def broker_environment(rmqbench_broker):
    """Variables by which an inner pytest takes the broker of this one."""
    endpoint = rmqbench_broker.endpoint
    return {
        "RMQBENCH_BROKER": endpoint.url(),
        "RMQBENCH_MANAGEMENT_URL": endpoint.management_url or "",
    }
