"""The Docker engine: what it costs to find none, and what becomes of a pull."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testcontainers.core import docker_client

from rmqbench.broker import engine, open_broker
from rmqbench.broker.engine import Engine
from rmqbench.errors import BrokerUnavailable


def test_no_docker_costs_milliseconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setattr(engine, "_SOCKETS", (str(tmp_path / "none.sock"),))
    took = []
    for _ in range(10):
        began = time.perf_counter()
        with pytest.raises(BrokerUnavailable, match="No Docker engine"):
            Engine()
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05


@pytest.mark.parametrize("address", ["tcp://10.1.2.3:2375", "ssh://user@elsewhere"])
def test_an_engine_elsewhere_is_not_used(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(BrokerUnavailable, match="on another machine"):
        Engine()


@pytest.mark.parametrize("named", [True, False])
def test_a_socket_at_which_nobody_answers_is_told_without_leaking_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: bool
) -> None:
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    monkeypatch.setattr(engine, "_SOCKETS", (path,))
    monkeypatch.setenv("HOME", str(tmp_path))
    if named:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    else:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        monkeypatch.setattr(docker_client, "get_docker_host", lambda: None)
    with pytest.raises(BrokerUnavailable, match=r"at \S*docker\.sock"):
        Engine()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False


Event = dict[str, object]
Pull = Callable[[threading.Event], Iterator[Event]]


@contextlib.contextmanager
def engine_that_pulls(path: Path, pull: Pull) -> Iterator[str]:
    """Serve the few requests of Docker's API that a pull consists of, at a socket."""
    stopped = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, text: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Api-Version", "1.44")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            if self.path.endswith("/version"):
                self._answer(200, b'{"ApiVersion": "1.44"}')
            elif self.path.endswith("/_ping"):
                self._answer(200, b"OK")
            else:
                self._answer(404, b'{"message": "No such image"}')

        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                for event in pull(stopped):
                    line = json.dumps(event).encode() + b"\r\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.write(b"0\r\n\r\n")

        def address_string(self) -> str:
            return "local"

        def log_message(self, format: str, *args: object) -> None:
            pass

    with _Server(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix://{path}"
        stopped.set()
        server.shutdown()


def fail_to_pull(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pull: Pull
) -> tuple[str, list[str]]:
    """Try to open a container whose image must be pulled; return the error and what was said."""
    said: list[str] = []
    with engine_that_pulls(tmp_path / "d.sock", pull) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        began = time.monotonic()
        with (
            pytest.raises(BrokerUnavailable, match="some:image is not there and cannot be") as told,
            open_broker("container", image="some:image", say=said.append),
        ):
            pass
    assert time.monotonic() - began < 25
    assert "Check its name and the network" in told.value.remedy
    return told.value.what, said


def downloading(layer: str, megabytes: float) -> Event:
    return {"status": "Downloading", "id": layer, "progressDetail": {"current": megabytes * 1e6}}


def test_a_pull_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hang(stopped: threading.Event) -> Iterator[Event]:
        yield downloading("a", 1)
        stopped.wait(30)

    monkeypatch.setattr(engine, "_PULL_SILENCE_S", 1.0)
    told, said = fail_to_pull(monkeypatch, tmp_path, hang)
    assert "(no progress for 1 s)" in told
    assert said == ["Pulling the image some:image"]


def test_a_pull_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def go_on(stopped: threading.Event) -> Iterator[Event]:
        while not stopped.wait(0.1):
            yield downloading("a", 1)

    monkeypatch.setattr(engine, "_PULL_TIMEOUT_S", 1.5)
    told, _ = fail_to_pull(monkeypatch, tmp_path, go_on)
    assert "(not done after 1.5 s)" in told


def test_a_long_pull_says_how_much_has_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def go_on(stopped: threading.Event) -> Iterator[Event]:
        yield downloading("a", 10)
        yield {"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 2}}
        for part in range(1, 5):
            stopped.wait(0.2)
            yield downloading("b", 8 * part)
        yield {"error": "no space left"}

    monkeypatch.setattr(engine, "_PULL_REPORT_S", 0.3)
    told, said = fail_to_pull(monkeypatch, tmp_path, go_on)
    assert "(no space left)" in told
    begun, *reports = said
    assert begun == "Pulling the image some:image"
    assert reports
    possible = [f"{begun}: {10 + 8 * part} MB so far" for part in range(5)]
    assert [line for line in possible if line in reports] == reports  # in order, none twice
    assert all(len(line) < 80 for line in said)
