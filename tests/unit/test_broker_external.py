"""A broker that cannot be used is told apart from a wrong address, quickly and in plain words."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from rmqbench.broker import external
from rmqbench.broker.external import probe
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    """Serve every connection by a function."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Endpoint("127.0.0.1", server.getsockname()[1])
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def say(data: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(data)

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "A web server listens at"),
        (say(b"AMQP\x00\x01\x00\x00"), "does not speak AMQP 0-9-1"),
        (say(b"\x15\x03\x01\x00\x02\x02\x46"), "expects TLS"),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n"), "is no AMQP broker"),
        (lambda connection: None, "closes it at once"),
    ],
    ids=["web server", "AMQP 1.0", "TLS", "SSH", "closing"],
)
def test_what_is_not_an_amqp_broker_is_named(
    answer: Callable[[socket.socket], None], words: str
) -> None:
    with serving(answer) as endpoint, pytest.raises(BrokerUnavailable, match=words):
        probe(endpoint, timeout_s=1.0)


def test_a_silent_port_is_given_up() -> None:
    def hold(connection: socket.socket) -> None:
        while connection.recv(100):
            pass

    with (
        serving(hold) as endpoint,
        pytest.raises(BrokerUnavailable, match="says nothing to an AMQP client"),
    ):
        probe(endpoint, timeout_s=0.5)


def test_nothing_listening_is_told_with_the_address() -> None:
    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(BrokerUnavailable, match=f"Nothing listens at 127.0.0.1:{port}"):
            probe(Endpoint("127.0.0.1", port))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "'b' cannot be resolved"),
        (TimeoutError(), "No answer from b:5672 within 1 s"),
        (OSError(113, "No route to host"), "b:5672 cannot be reached: No route to host"),
    ],
    ids=["name", "timeout", "route"],
)
def test_an_unreachable_host_is_told_by_its_reason(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def fail(*_: object) -> socket.socket:
        raise error

    monkeypatch.setattr(external.socket, "create_connection", fail)
    told = external._diagnose(Endpoint("b"), 1.0)
    assert words in str(told)


def test_pika_says_nothing_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("pika").setLevel(logging.INFO)
    try:
        with serving(lambda _: None) as endpoint, pytest.raises(BrokerUnavailable):
            probe(endpoint, timeout_s=0.5)
        assert [record for record in caplog.records if record.name.startswith("pika")] == []
        assert logging.getLogger("pika").level == logging.INFO
    finally:
        logging.getLogger("pika").setLevel(logging.NOTSET)
