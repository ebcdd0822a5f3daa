"""Ports and directories for a node."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from rmqbench.broker import places
from rmqbench.broker.places import data_root, free_ports, is_in_memory, require_space
from rmqbench.errors import BrokerUnavailable


def test_free_ports_are_different_and_can_be_bound() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    for port in ports:
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


def test_free_ports_are_none_that_a_client_may_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_ephemeral_range", lambda: (15000, 31990))
    assert all(port > 31990 for port in _some_ports())


def _some_ports() -> list[int]:
    # Few are left: the draw may hold none of them, which is an error of its own.
    for _ in range(200):
        try:
            return free_ports(1)
        except BrokerUnavailable:
            continue
    raise AssertionError("never found one")


def test_no_free_port_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_ephemeral_range", lambda: (1, 65535))
    with pytest.raises(BrokerUnavailable, match="ports are free on"):
        free_ports(1)


def test_memory_is_told_from_disk_by_the_innermost_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outer = str(tmp_path.resolve())
    found = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=outer, fstype="tmpfs"),
        SimpleNamespace(mountpoint=f"{outer}/disk", fstype="ext4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)
    assert is_in_memory(tmp_path / "x")
    assert not is_in_memory(tmp_path / "disk" / "x")
    assert not is_in_memory(Path("/somewhere"))


def test_data_goes_to_the_cache_where_the_temporary_directory_is_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path / "memory"))
    monkeypatch.setattr(places, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.setattr(places, "is_in_memory", lambda path: path.name == "memory")
    assert data_root() == tmp_path / "cache" / "nodes"


def test_data_never_goes_where_start_scripts_would_trip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path / "a b"))
    monkeypatch.setattr(places, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.setattr(places, "is_in_memory", lambda path: False)
    assert data_root() == tmp_path / "cache" / "nodes"


def test_too_little_space_says_how_much_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(BrokerUnavailable, match=r"10 MB left; a node needs 150 MB.*TMPDIR"):
        require_space(tmp_path, 150, "a node")
