"""However pytest ends, everything that it started ends with it."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

LIMIT_S = 60


def wait_until(condition, what):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.05)


def worker_of(family):
    for process in family:
        with contextlib.suppress(psutil.Error):
            if "workers.main" in " ".join(process.cmdline()):
                return process
    return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_pytest_that_is_ended_in_the_middle_leaves_no_process_and_no_data(
    pytester, tmp_path, number
):
    pytester.makepyfile(
        """
        import rmqbench

        def test_long(rmqbench_run):
            rmqbench_run(rmqbench.reliability(messages=5_000_000))
        """
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pytest_process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--rmqbench-broker=local", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    me = psutil.Process()
    before = {p.pid for p in psutil.process_iter()}
    try:
        top = psutil.Process(pytest_process.pid)
        family: set[psutil.Process] = set()

        def working():
            assert pytest_process.poll() is None, "pytest ended too early"
            family.update(top.children(recursive=True))
            return worker_of(family) is not None

        wait_until(working, "a worker of the run")
        # Those that have left the family (a daemon) are found among all that came since.
        family.update(
            p
            for p in psutil.process_iter(["name"])
            if p.pid not in before and p.info["name"] in ("beam.smp", "epmd", "erl_child_setup")
        )
        assert any(p.name() == "beam.smp" for p in family if p.is_running())
        pytest_process.send_signal(number)
        wait_until(lambda: pytest_process.poll() is not None, "pytest to end")
    finally:
        pytest_process.kill()
        pytest_process.wait(10)
    left = family - {me}
    wait_until(lambda: not any(p.is_running() for p in left), f"the end of {left}")
    wait_until(lambda: not list(tmp_path.glob("*rabbit*")), "the node's data to be removed")
