"""Which broker is opened, and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rmqbench.broker import engine, installation, open_broker, opening
from rmqbench.broker.installation import find_installed, newest
from rmqbench.errors import BrokerUnavailable, UsageError


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setattr(engine, "_SOCKETS", (str(tmp_path / "none.sock"),))


@pytest.mark.parametrize("spec", ["", "docker", "http://h", "amqp:/x", "AUTO"])
def test_an_unknown_broker_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="auto, container, local"), open_broker(spec):
        pass


def test_a_password_in_a_wrong_url_is_not_repeated() -> None:
    with pytest.raises(UsageError) as raised, open_broker("http://u:secret@h"):
        pass
    assert "secret" not in str(raised.value)


@pytest.mark.usefixtures("no_docker")
def test_auto_lists_what_was_tried_and_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_installed", lambda: None)
    monkeypatch.setattr(opening, "can_unpack", lambda: False)
    with (
        pytest.raises(
            BrokerUnavailable,
            match=r"Not a container: No Docker.* Not a local node: No rabbitmq-server.*Ways out",
        ),
        open_broker("auto"),
    ):
        pass


@pytest.mark.usefixtures("no_docker")
def test_a_container_asked_for_is_not_replaced() -> None:
    with pytest.raises(BrokerUnavailable, match="No Docker engine"), open_broker("container"):
        pass


@pytest.mark.parametrize("spec", ["ann:secret@h", "http://me@corp.example:secret@h", "x:se cret@h"])
def test_what_is_not_a_broker_is_told_without_its_password(spec: str) -> None:
    with pytest.raises(UsageError, match="is not a broker") as caught, open_broker(spec):
        pass
    assert "cret" not in str(caught.value)


def test_importing_brokers_imports_no_docker() -> None:
    program = (
        "import sys, rmqbench.broker; "
        "sys.exit(any(name in sys.modules for name in ('docker', 'testcontainers')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def fake_scripts(sbin: Path) -> None:
    sbin.mkdir(parents=True)
    for name in ("rabbitmq-server", "rabbitmq-defaults"):
        (sbin / name).touch(mode=0o755)


def test_an_unpacked_rabbitmq_is_found_by_rabbitmq_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_scripts(tmp_path / "rabbit" / "sbin")
    erlang = tmp_path / "erlang" / "bin"
    erlang.mkdir(parents=True)
    for name in ("erl", "epmd"):
        (erlang / name).touch(mode=0o755)
    monkeypatch.setenv("RABBITMQ_HOME", str(tmp_path / "rabbit"))
    monkeypatch.setenv("PATH", str(erlang))
    found = find_installed()
    assert found is not None
    assert (found.sbin, found.erlang_bin) == (tmp_path / "rabbit" / "sbin", erlang)


def test_a_rabbitmq_without_erlang_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_scripts(tmp_path / "sbin")
    monkeypatch.setenv("RABBITMQ_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(installation, "_ERLANG_HOMES", ())
    assert find_installed() is None


def test_the_newest_of_several_is_taken_by_number_not_by_letter() -> None:
    paths = [Path(f"rabbitmq_server-{version}") for version in ("3.9.1", "3.10.8", "3.10.2")]
    assert newest(paths) == paths[1]
