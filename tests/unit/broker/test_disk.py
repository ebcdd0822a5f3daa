"""Where no power can be cut, the reason is said before anything is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rmqbench.broker import Broker, own_disk
from rmqbench.broker.reaper import unmount
from rmqbench.endpoint import Endpoint
from rmqbench.errors import FaultUnavailable, UsageError


def broker_with(data: Path) -> Broker:
    """A broker of ours whose node must not be touched."""
    node = SimpleNamespace(data_directory=data, reaper=None)
    return Broker("local", Endpoint("127.0.0.1", 1), "4.0.5", "", node)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("Linux", "it needs Linux"),
        ("root", "an ext4 file system in a file needs root, .*; .* user space needs /dev/fuse"),
        ("mkfs.ext4", "mkfs.ext4 cannot be found; a file system in user space needs /dev/fuse"),
        ("data", "the data of the node, .*, is not on this machine"),
    ],
)
def test_the_reason_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str, reason: str
) -> None:
    find, may = shutil.which, os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/dev/fuse" and may(path, mode))
    monkeypatch.setattr(sys, "platform", "darwin" if missing == "Linux" else "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000 if missing == "root" else 0, raising=False)
    monkeypatch.setattr(
        shutil, "which", lambda name: None if name == missing else find(name) or f"/sbin/{name}"
    )
    data = tmp_path / "absent" if missing == "data" else tmp_path
    with (
        pytest.raises(FaultUnavailable, match=f"^No power can be cut here: {reason}"),
        own_disk(broker_with(data)),
    ):
        pass


def test_a_broker_that_is_not_ours_is_not_touched() -> None:
    broker = Broker("external", Endpoint("127.0.0.1", 1), "4.0.5", "")
    with pytest.raises(UsageError, match="not ours"), own_disk(broker):
        pass


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a file system is mounted: needs root"
)
def test_a_place_that_is_in_use_is_unmounted_and_one_that_is_not_mounted_is_left(
    tmp_path: Path,
) -> None:
    (tmp_path / "beneath").touch()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=True)
    with (tmp_path / "above").open("w"):
        unmount(str(tmp_path))
        assert [each.name for each in tmp_path.iterdir()] == ["beneath"]
    unmount(str(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["beneath"]
