"""However pytest ends, everything that it started ends with it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import platformdirs
import psutil
import pytest

from rmqbench.broker.places import data_root

LIMIT_S = 240
CACHE = platformdirs.user_cache_path()  # before pytester has another home


def wait_until(condition, what):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def packages_are_there(monkeypatch):
    """The other pytest finds the broker's packages unpacked, as this one does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))


def lives_in(process, directory):
    """Whether it was started by one whose temporary directory this is."""
    with contextlib.suppress(psutil.Error):
        return process.environ().get("TMPDIR") == str(directory)
    return False


def worker_of(family):
    for process in family:
        with contextlib.suppress(psutil.Error):
            if "workers.main" in " ".join(process.cmdline()):
                return process
    return None


LONG_TEST = """
    import rmqbench

    def test_long(rmqbench_run):
        rmqbench_run(rmqbench.reliability(messages=5_000_000))
    """


@contextlib.contextmanager
def pytest_at_work(pytester, *arguments, **environment):
    """A pytest whose test has a worker, and the set of all processes that it has started."""
    pytester.makepyfile(LONG_TEST)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=pytester.path,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        top = psutil.Process(process.pid)
        family: set[psutil.Process] = set()

        def working():
            assert process.poll() is None, "pytest ended too early"
            family.update(top.children(recursive=True))
            return worker_of(family) is not None

        wait_until(working, "a worker of the run")
        yield process, family
    finally:
        process.kill()
        process.wait(10)


def end(process, number):
    process.send_signal(number)
    wait_until(lambda: process.poll() is not None, "pytest to end")


def wait_for_the_end_of(family):
    wait_until(lambda: not any(p.is_running() for p in family), f"the end of {family}")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_pytest_that_is_ended_in_the_middle_leaves_no_process_and_no_data(
    pytester, tmp_path, monkeypatch, number
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # as TMPDIR tells the other pytest
    root = data_root()

    def nodes():
        return set(root.glob("rmqbench-node-*"))

    others = nodes()  # where the data cannot be in the temporary directory, it is not ours alone
    with pytest_at_work(pytester, "--rmqbench-broker=local", TMPDIR=str(tmp_path)) as (
        process,
        family,
    ):
        # Those that have left the family (a daemon) are found by where they live.
        family.update(p for p in psutil.process_iter() if lives_in(p, tmp_path))
        assert any(p.name() == "beam.smp" for p in family if p.is_running())
        data = nodes() - others
        assert data, f"no node has its data in {root}"
        end(process, number)
    wait_for_the_end_of(family)
    wait_until(lambda: not any(map(Path.exists, data)), f"{data} to be removed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_pytest_that_is_ended_in_the_middle_leaves_nothing_on_somebody_s_broker(
    pytester, rmqbench_broker, number
):
    def virtual_hosts():
        with rmqbench_broker.management as management:
            return {each["name"] for each in management._list("vhosts")}

    before = virtual_hosts()
    endpoint = rmqbench_broker.endpoint
    with pytest_at_work(
        pytester,
        f"--rmqbench-broker={endpoint.url()}",
        f"--rmqbench-management-url={endpoint.management_url}",
    ) as (process, family):
        assert virtual_hosts() > before
        end(process, number)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert virtual_hosts() == before
    wait_for_the_end_of(family)
