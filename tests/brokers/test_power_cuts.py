"""A disk whose power is cut: what was forced to it is there, what was not is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from rmqbench.broker import Broker, open_broker, own_disk
from rmqbench.broker.media import MEDIA, FileSystemInAFile, FileSystemInUserSpace, Medium
from rmqbench.broker.places import data_root
from rmqbench.errors import BrokerUnavailable, FaultUnavailable
from rmqbench.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.brokers.conftest import Kind, OpenChannel

pytestmark = [
    pytest.mark.brokers,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="a file system is mounted: needs root"
    ),
]

QUEUE = "kept.queue"


@pytest.fixture(params=MEDIA, ids=lambda medium: medium.__name__)
def medium(request: pytest.FixtureRequest) -> type[Medium]:
    """What the disk is made of."""
    kind: type[Medium] = request.param
    if reason := kind.missing():
        require = pytest.fail if os.environ.get("RMQBENCH_REQUIRE_BROKER") else pytest.skip
        require(reason)
    return kind


def disks() -> set[str]:
    """What there is of disks: mounted places, loop devices, directories."""
    listed = subprocess.run(["losetup", "-nO", "BACK-FILE"], capture_output=True, check=True)
    files = {each for each in listed.stdout.decode().split() if "rmqbench-disk-" in each}
    mounted = {
        each.mountpoint
        for each in psutil.disk_partitions(all=True)
        if each.device.startswith("/dev/loop") or each.device == "rmqbench"
    }
    return files | mounted | {str(each) for each in data_root().glob("rmqbench-disk-*")}


@pytest.fixture(scope="module")
def own_node(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A node that ends with these tests: one of them breaks it."""
    with open_broker("local") as opened:
        yield opened


def put(channel_of: OpenChannel, broker: Broker, text: str) -> None:
    with channel_of(broker) as channel:
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_publish("", QUEUE, text.encode())


def taken(channel_of: OpenChannel, broker: Broker) -> list[str]:
    """What is in the queue; it goes back."""
    with channel_of(broker) as channel:
        found = []
        while (got := channel.basic_get(QUEUE))[0] is not None:
            found.append(got[2].decode())
        return found


def test_what_was_forced_to_the_disk_outlives_a_cut_and_nothing_else(
    broker: Broker, channel_of: OpenChannel, medium: type[Medium]
) -> None:
    before = disks()
    with channel_of(broker) as channel:
        channel.queue_delete(QUEUE)
    put(channel_of, broker, "before the disk")
    with own_disk(broker, [medium]) as disk:
        in_a_file = medium is FileSystemInAFile
        assert len(disks() - before) == 2 + in_a_file, "where it is mounted, a directory, its file"
        assert taken(channel_of, broker) == ["before the disk"]
        put(channel_of, broker, "before the cut")
        kept, lost = broker.data_directory / "kept", broker.data_directory / "lost"
        with kept.open("w") as file:
            file.write("kept")
            file.flush()
            os.fsync(file.fileno())
        lost.write_text("lost")
        disk.cut_power()
        assert not broker.is_running()
        assert kept.read_text() == "kept"
        assert not lost.exists() or lost.read_text() == ""
        broker.start()
        assert taken(channel_of, broker) == ["before the disk", "before the cut"]
    assert taken(channel_of, broker) == ["before the disk", "before the cut"]
    assert not (broker.data_directory / "lost+found").exists()
    assert disks() == before


def test_a_disk_that_another_namespace_of_mounts_holds_is_cut_all_the_same(
    own_node: Broker, channel_of: OpenChannel
) -> None:
    """It has the mounts of the time at which it began, for as long as it lives."""
    before = disks()
    put(channel_of, own_node, "before the disk")
    with own_disk(own_node, [FileSystemInAFile]) as disk:
        alone = ["unshare", "--mount", "--propagation", "private", "--", "sleep", "600"]
        with subprocess.Popen(alone) as holder:
            try:
                put(channel_of, own_node, "before the cut")
                (own_node.data_directory / "lost").write_text("lost")
                disk.cut_power()
                assert not (own_node.data_directory / "lost").exists()
                own_node.start()
                assert taken(channel_of, own_node) == ["before the disk", "before the cut"]
            finally:
                holder.kill()
    assert taken(channel_of, own_node) == ["before the disk", "before the cut"]
    assert disks() == before


def test_a_node_that_cannot_be_started_after_a_cut_goes_on_with_what_it_had_before(
    own_node: Broker, channel_of: OpenChannel
) -> None:
    before = disks()
    with channel_of(own_node) as channel:
        channel.queue_delete(QUEUE)
    put(channel_of, own_node, "before the disk")
    with own_disk(own_node) as disk:
        put(channel_of, own_node, "gone")
        disk.cut_power()
        for each in own_node.data_directory.rglob("*"):
            if each.is_file():
                each.write_bytes(b"broken")
        with pytest.raises(BrokerUnavailable):
            own_node.start()
    assert taken(channel_of, own_node) == ["before the disk"]
    assert disks() == before


PROGRAM = """
import os, sys
from rmqbench.broker import media, open_broker, own_disk
medium = getattr(media, sys.argv[3])
with open_broker(sys.argv[1], image=sys.argv[2] or None) as broker, own_disk(broker, [medium]):
    print(broker.data_directory, flush=True)
    sys.stdin.readline()
    os._exit(4)
"""


def test_nothing_is_left_of_the_disk_of_a_process_that_vanishes(
    kind: Kind, medium: type[Medium]
) -> None:
    before = disks()
    command = [sys.executable, "-c", PROGRAM, kind.spec, kind.image, medium.__name__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        place = Path(child.stdout.readline().strip())
        assert place.is_mount()
        child.communicate("vanish\n", timeout=60)
    wait_until(lambda: disks() == before, 60.0, "the disk to go")
    wait_until(lambda: not place.exists(), 60.0, f"{place} to go")


def test_a_disk_that_the_node_does_not_see_is_told(
    own_node: Broker, channel_of: OpenChannel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = disks()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(Broker, "data_directory", elsewhere)
    with pytest.raises(FaultUnavailable, match="does not write to the disk"), own_disk(own_node):
        pass
    assert own_node.is_running()
    assert disks() == before


CUT = """
from rmqbench.broker import open_broker, own_disk
with open_broker("local") as broker, own_disk(broker) as disk:
    kept = broker.data_directory / "kept"
    kept.write_text("kept")
    disk._medium.sync(broker.data_directory)
    lost = broker.data_directory / "lost"
    lost.write_text("lost")
    disk.cut_power()
    print(type(disk._medium).__name__, kept.read_text(), lost.exists(), flush=True)
    broker.start()
"""


def test_who_may_mount_nothing_has_a_file_system_in_user_space() -> None:
    """As root of a namespace of its own, which may use no loop device."""
    if reason := FileSystemInUserSpace.missing():
        require = pytest.fail if os.environ.get("RMQBENCH_REQUIRE_BROKER") else pytest.skip
        require(reason)
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--"]
    ended = subprocess.run(
        [*alone, sys.executable, "-c", CUT],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["FileSystemInUserSpace", "kept", "False"]
