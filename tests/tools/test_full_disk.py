"""The disk is full in the middle of a run: the verdict says what is known, and what is missing."""

import json
import resource
import subprocess

import pytest
from support.tools import rmqbench as run_command

import rmqbench
from rmqbench.testing import Proxy, flip

CORRUPTED = [flip("delivery", nth, byte=50) for nth in range(1, 61)]
LIMIT_BYTES = 4096  # of any file: enough for all but result.json and so many incidents


@pytest.fixture
def corrupting(vhost):
    """A broker that delivers the first 60 messages corrupted."""
    with Proxy(vhost, CORRUPTED) as proxy:
        yield proxy.endpoint


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))


def test_what_could_be_written_is_judged_and_what_could_not_is_said(corrupting, tmp_path):
    """Also for a user who is not root: no file may grow beyond its limit."""
    ended = run_command(
        *("run", "reliability", "--messages", "200", "--url", corrupting.url()),
        *("--management-url", corrupting.management_url, "--in-place"),
        *("--directory", str(tmp_path / "run"), "--json", str(tmp_path / "out.json")),
        preexec_fn=limited,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stdout.startswith("FAIL ")
    assert "corrupted in work.queue" in ended.stdout
    assert "could not write what it saw" in ended.stdout
    assert "result.json could not be written" in ended.stderr
    assert f"could not be written out to {tmp_path / 'out.json'}" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not (tmp_path / "run" / "result.json").exists()
    again = rmqbench.judge(tmp_path / "run").verdict
    assert again.outcome == "FAIL"
    assert again.count("corrupted") > 0


def test_a_pass_whose_result_could_not_be_written_is_no_success(vhost, tmp_path):
    ended = run_command(
        *("run", "reliability", "--messages", "200", "--url", vhost.url(), "--in-place"),
        *("--management-url", vhost.management_url, "--directory", str(tmp_path / "run")),
        preexec_fn=limited,
    )
    assert ended.stdout.startswith("PASS "), ended.stdout + ended.stderr
    assert ended.returncode == 3
    assert "result.json could not be written" in ended.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path):
    with (path / "filler").open("wb", buffering=0) as file:
        for size in (4096, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.mark.parametrize("phase", ["publish", "drain work.queue"])
def test_a_disk_that_fills_up_takes_no_verdict_away(corrupting, small_disk, phase):
    seen = []

    def watch(progress):
        if progress.phase.startswith(phase) and progress.done >= 70 and not seen:
            seen.append(progress)
            fill(small_disk)

    scenario = rmqbench.reliability(
        messages=1000, publish_rate=2000.0, consume_rate=500.0, prefetch=20, stall_s=5.0
    )
    with rmqbench.open_broker(corrupting.url(), management_url=corrupting.management_url) as broker:
        result = rmqbench.run(
            scenario, broker, directory=small_disk / "run", in_place=True, watch=watch
        )
    assert seen
    verdict = result.verdict
    assert verdict.outcome == ("INCONCLUSIVE" if phase == "publish" else "FAIL"), str(verdict)
    assert verdict.count("lost") == 0
    assert "No space left on device" in str(verdict)
    assert any("result.json could not be written" in note for note in result.notes)
    assert json.dumps(result.as_dict())
