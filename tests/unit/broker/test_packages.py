"""What is taken of the distribution's packages, and how their failures are told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import filelock
import pytest

from rmqbench.broker import packages
from rmqbench.broker.packages import (
    _failure,
    _find_tree,
    _Package,
    _relocate_erlang,
    _system,
    _tree_name,
    _wanted,
    installation_from_packages,
)
from rmqbench.errors import BrokerUnavailable

CLOSURE = [
    _Package(name, "1:2.3-4")
    for name in ("libc6", "libsctp1", "adduser", "socat", "erlang-base", "rabbitmq-server")
]


def test_erlang_is_taken_whole_even_if_installed_and_tools_never() -> None:
    names = [package.name for package in _wanted(CLOSURE, {"libc6", "erlang-base"})]
    assert names == ["libsctp1", "erlang-base", "rabbitmq-server"]


def test_a_tree_is_named_by_its_versions() -> None:
    name = _tree_name(CLOSURE)
    assert name.startswith(f"{_system()}_1-2.3-4_erlang-1-2.3-4_")
    assert name != _tree_name([*CLOSURE[:-1], _Package("rabbitmq-server", "1:2.3-5")])


def test_only_a_complete_tree_counts(tmp_path: Path) -> None:
    tree = tmp_path / _tree_name(CLOSURE)
    tree.mkdir()
    assert _find_tree(tmp_path) is None
    (tree / ".complete").touch()
    assert _find_tree(tmp_path) == tree


def erl(tmp_path: Path, text: str) -> Path:
    script = tmp_path / "usr/lib/erlang/bin/erl"
    script.parent.mkdir(parents=True)
    script.write_text(text)
    return script


def test_erlang_is_told_where_it_is(tmp_path: Path) -> None:
    script = erl(
        tmp_path, 'if x\nthen\n    ROOTDIR=/usr/lib/erlang\nelse\n    ROOTDIR="$ERL_ROOTDIR"\nfi\n'
    )
    _relocate_erlang(tmp_path, Path("/new place"))
    assert "    ROOTDIR='/new place/usr/lib/erlang'\n" in script.read_text()


def test_an_erlang_that_cannot_be_moved_is_told(tmp_path: Path) -> None:
    erl(tmp_path, "exec erlexec\n")
    with pytest.raises(BrokerUnavailable, match="has no line ROOTDIR="):
        _relocate_erlang(tmp_path, Path("/new"))


@pytest.mark.parametrize(
    "said",
    [
        "E: You don't have enough free space in /x/archives/.",
        "dpkg-deb: error: cannot copy 'x': failed to write (No space left on device)",
    ],
)
def test_a_full_disk_is_told_as_one(said: str) -> None:
    assert "The disk is full: apt-get could not do it" in str(_failure("apt-get", "do it", said))


def test_the_tools_own_complaint_is_passed_on() -> None:
    told = str(_failure("apt-get", "find it", "noise\nE: Unable to locate package it\n"))
    assert told.startswith("apt-get could not find it: E: Unable to locate package it")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "No space left"), (errno.EACCES, "Permission denied")],
)
def test_a_cache_that_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, words: str
) -> None:
    def fail(*_: object) -> Path:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(packages, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(packages, "_fill", fail)
    with pytest.raises(BrokerUnavailable, match=f"{words}.*XDG_CACHE_HOME"):
        installation_from_packages(lambda _: None)


def test_a_cache_with_blanks_in_its_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "cache_directory", lambda: tmp_path / "a b")
    with pytest.raises(BrokerUnavailable, match="blanks"):
        installation_from_packages(lambda _: None)


def test_a_second_process_waits_for_the_first_with_a_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(packages, "_LOCK_TIMEOUT_S", 0.1)
    (tmp_path / "packages").mkdir()
    said: list[str] = []
    with (
        filelock.FileLock(tmp_path / "packages" / "lock"),
        pytest.raises(BrokerUnavailable, match="Another process has been unpacking"),
    ):
        installation_from_packages(said.append)
    assert said == ["Waiting for another process, which is unpacking RabbitMQ's packages"]


# What apt and dpkg do, as far as it is asked for: three packages of 1.5 MB, of which one is empty.
TOOLS = {
    "apt-get": """
        case " $* " in
        *" update "*) ;;
        *" -s "*)
            printf 'Inst %s (1.0 Debian:12 [amd64])\\n' libsctp1 erlang-base rabbitmq-server ;;
        *" --print-uris "*)
            for name in libsctp1 erlang-base rabbitmq-server; do
                echo "'http://deb.example/$name.deb' $name.deb 1500000 SHA256:0"
            done ;;
        *" download "*) touch libsctp1.deb erlang-base.deb $LAST.deb ;;
        *) exit 9 ;;
        esac
    """,
    "dpkg-query": "echo installed libc6",
    "dpkg-deb": """
        case $2 in
        *erlang*) mkdir -p "$3/usr/lib/erlang/bin"
            echo ROOTDIR=/usr/lib/erlang >"$3/usr/lib/erlang/bin/erl" ;;
        *rabbitmq*) mkdir -p "$3/usr/lib/rabbitmq/lib/rabbitmq_server-1.0/sbin"
            touch "$3/usr/lib/rabbitmq/lib/rabbitmq_server-1.0/sbin/rabbitmq-server"
            touch "$3/usr/lib/rabbitmq/lib/rabbitmq_server-1.0/sbin/rabbitmq-defaults" ;;
        esac
    """,
}


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a distribution that has RabbitMQ 1.0."""
    for name, script in TOOLS.items():
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\nset -eu\n{script}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LAST", "rabbitmq-server")
    monkeypatch.setattr(packages, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "packages"


def test_each_step_of_filling_the_cache_is_said_once(cache: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        found = installation_from_packages(said.append)
        assert found.what == "the distribution's package 1.0, unpacked in the user's cache"
        assert found.sbin.is_relative_to(cache)
        assert f"ROOTDIR='{found.erlang_bin.parent}'" in (found.erlang_bin / "erl").read_text()
    assert said == [
        "Fetching the package lists (once, for a RabbitMQ in the user's cache)",
        "Downloading 3 packages (4 MB; nothing is installed)",
        f"Unpacking them into {cache}",
    ]


def test_a_download_that_lacks_a_package_leaves_nothing_that_counts(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAST", "erlang-base")
    with pytest.raises(BrokerUnavailable, match="downloaded 2 of 3 packages"):
        installation_from_packages(lambda _: None)
    assert [path.name for path in cache.iterdir()] == ["lock"]
    monkeypatch.setenv("LAST", "rabbitmq-server")
    assert installation_from_packages(lambda _: None).sbin.is_dir()


def test_what_an_interrupted_process_left_is_removed(cache: Path) -> None:
    (cache / "filling-0").mkdir(parents=True)
    installation_from_packages(lambda _: None)
    assert not (cache / "filling-0").exists()
