"""Why a connection could not be opened: told alike by every entry, quickly and in plain words."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pika
import pika.exceptions
import pika.frame
import pika.spec
import pytest
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorAMQPHandshakeError,
    AMQPConnectorSocketConnectError,
    AMQPConnectorStackTimeout,
    AMQPConnectorTransportSetupError,
)
from pika.exceptions import (
    AMQPConnectionError,
    ConnectionOpenAborted,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    ShortStringTooLong,
)

from rmqbench.amqp.admin import admin
from rmqbench.amqp.connection import Connection
from rmqbench.amqp.diagnosis import connect_error
from rmqbench.amqp.framing import PROTOCOL_HEADER
from rmqbench.broker.external import probe
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerUnavailable,
    ConnectionLost,
    DeadlineExceeded,
    MessageUnreadable,
    RmqbenchError,
    UsageError,
)
from rmqbench.proxy import Proxy

ENDPOINT = Endpoint("rabbit.example", 5673, "ann", "s3cret", "team")

# --- by pika's error alone: as BlockingConnection raises it and as SelectConnection reports it ---

REFUSED = AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "Connection refused"))
UNKNOWN = socket.gaierror(-2, "Name or service not known")
STACK_TIMEOUT = AMQPConnectorStackTimeout("Timeout during AMQP handshake'h'/(...); ssl=False")
TCP_TIMEOUT = AMQPConnectorSocketConnectError(TimeoutError("TCP connection attempt timed out: …"))
HUNG_UP = IncompatibleProtocolError("StreamLostError: ('Transport indicated EOF',)")
CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")
CERTIFICATE.verify_message = "self-signed certificate"

REFUSED_WORDS = "Nothing listens at rabbit.example:5673: the connection was refused"
LATE_WORDS = "rabbit.example:5673 did not complete the AMQP handshake in time"
HUNG_UP_WORDS = "rabbit.example:5673 closed the connection without an AMQP greeting"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (AMQPConnectionError(REFUSED), BrokerUnavailable, REFUSED_WORDS),
        (
            AMQPConnectionError(AMQPConnectionWorkflowFailed([REFUSED])),
            BrokerUnavailable,
            REFUSED_WORDS,
        ),
        (UNKNOWN, BrokerUnavailable, "'rabbit.example' cannot be resolved: Name or service"),
        (AMQPConnectionWorkflowFailed([UNKNOWN]), BrokerUnavailable, "cannot be resolved"),
        (
            UnicodeError("encoding with 'idna' codec failed (UnicodeError: label too long)"),
            BrokerUnavailable,
            "'rabbit.example' is not a host name: label too long.",
        ),
        (
            AMQPConnectionWorkflowFailed(
                [UnicodeError("'idna' codec can't encode characters in position 7-6: label empty")]
            ),
            BrokerUnavailable,
            "'rabbit.example' is not a host name: label empty.",
        ),
        (STACK_TIMEOUT, BrokerUnavailable, LATE_WORDS),
        (
            ConnectionOpenAborted(
                "Connection.close() called before connection finished opening: "
                "prev_state=PROTOCOL (320): \"Timeout while setting up AMQP to 'h'/(...)\""
            ),
            BrokerUnavailable,
            LATE_WORDS,
        ),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorTransportSetupError(STACK_TIMEOUT)]),
            BrokerUnavailable,
            LATE_WORDS,
        ),
        (DeadlineExceeded("Timed out."), BrokerUnavailable, LATE_WORDS),
        (TCP_TIMEOUT, BrokerUnavailable, "rabbit.example:5673 did not answer in time"),
        (HUNG_UP, BrokerUnavailable, HUNG_UP_WORDS),
        (ConnectionResetError(104, "Connection reset by peer"), BrokerUnavailable, HUNG_UP_WORDS),
        (
            ProbableAuthenticationError(
                "ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused using "
                "authentication mechanism PLAIN. For details see the broker logfile.'"
            ),
            AccessRefused,
            "refused the login of user 'ann'",
        ),
        (
            AMQPConnectionWorkflowFailed(
                [
                    AMQPConnectorAMQPHandshakeError(
                        ProbableAuthenticationError("ConnectionClosedByBroker: (403) 'x'")
                    )
                ]
            ),
            AccessRefused,
            "refused the login of user 'ann'",
        ),
        (
            ProbableAuthenticationError("StreamLostError: ('Transport indicated EOF',)"),
            BrokerUnavailable,
            "closed the connection during the login",
        ),
        (
            ProbableAccessDeniedError("StreamLostError: ('Transport indicated EOF',)"),
            BrokerUnavailable,
            "closed the connection during the login",
        ),
        (
            ProbableAccessDeniedError(
                "ConnectionClosedByBroker: (530) 'NOT_ALLOWED - vhost team not found'"
            ),
            AccessRefused,
            "has no virtual host 'team'",
        ),
        (
            ProbableAccessDeniedError(
                "ConnectionClosedByBroker: (530) \"NOT_ALLOWED - access to vhost 'team' refused "
                "for user 'ann'\""
            ),
            AccessRefused,
            "refuses user 'ann' access to virtual host 'team'",
        ),
        (
            ProbableAccessDeniedError(
                "ConnectionClosedByBroker: (530) \"NOT_ALLOWED - access to vhost 'team' refused "
                "for user 'ann': connection limit (1) is reached\""
            ),
            AccessRefused,
            "accepts no more connections",
        ),
        (
            ProbableAccessDeniedError(
                "ConnectionClosedByBroker: (530) \"NOT_ALLOWED - vhost 'team' is down\""
            ),
            AccessRefused,
            "Virtual host 'team' of the broker at rabbit.example:5673 is down",
        ),
        (ShortStringTooLong("v" * 300), UsageError, "virtual host 'team' is too long"),
        (CERTIFICATE, BrokerUnavailable, "cannot be verified: self-signed certificate"),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorTransportSetupError(CERTIFICATE)]),
            BrokerUnavailable,
            "cannot be verified",
        ),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
            BrokerUnavailable,
            "No TLS connection to rabbit.example:5673",
        ),
        (OSError(113, "No route to host"), BrokerUnavailable, "cannot be reached: No route to"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            BrokerUnavailable,
            "No AMQP connection to rabbit.example:5673: UnicodeDecodeError: 'utf-8' codec",
        ),
    ],
)
def test_a_failure_to_connect_is_told_by_its_cause(
    error: Exception, kind: type[RmqbenchError], words: str
) -> None:
    mapped = connect_error(error, ENDPOINT)
    assert type(mapped) is kind
    assert words in mapped.what
    assert mapped.remedy
    assert "s3cret" not in str(mapped)


@pytest.mark.parametrize(
    ("attempts", "words"),
    [
        ([REFUSED, STACK_TIMEOUT], LATE_WORDS),
        ([HUNG_UP, REFUSED], HUNG_UP_WORDS),
        ([REFUSED, TCP_TIMEOUT], "did not answer in time"),
        ([TCP_TIMEOUT, REFUSED], REFUSED_WORDS),
    ],
)
def test_of_several_addresses_the_one_that_took_the_connection_counts(
    attempts: list[Exception], words: str
) -> None:
    error = AMQPConnectionError(AMQPConnectionWorkflowFailed(attempts))
    assert words in connect_error(error, ENDPOINT).what


@pytest.mark.parametrize(("user", "told"), [("guest", True), ("ann", False)])
def test_only_guest_is_told_that_it_may_log_in_locally_only(user: str, told: bool) -> None:
    error = ProbableAuthenticationError("ConnectionClosedByBroker: (403) 'ACCESS_REFUSED'")
    mapped = connect_error(error, Endpoint(username=user))
    assert ("its own host only" in str(mapped)) is told


# --- by every entry ------------------------------------------------------------------------------


def open_connection(endpoint: Endpoint, timeout_s: float, *, vector: bool = True) -> None:
    with Connection(endpoint, name="t", vector=vector, connect_timeout_s=timeout_s):
        pytest.fail("it is open")


def use_admin(endpoint: Endpoint, timeout_s: float) -> None:
    with admin(endpoint, timeout_s=timeout_s):
        pytest.fail("it is open")


ENTRIES = [open_connection, partial(open_connection, vector=False), use_admin, probe]


def refusals(endpoint: Endpoint, timeout_s: float = 10.0) -> list[RmqbenchError]:
    """Return what each entry raises."""

    def refusal(enter: Callable[[Endpoint, float], object]) -> RmqbenchError:
        with pytest.raises(RmqbenchError) as caught:
            enter(endpoint, timeout_s)
        return caught.value

    with ThreadPoolExecutor() as pool:  # they wait side by side
        return list(pool.map(refusal, ENTRIES))


def require_told(endpoint: Endpoint, words: str, timeout_s: float = 10.0) -> None:
    """Fail unless each entry raises BrokerUnavailable, all of them with the same words."""
    raised = refusals(endpoint, timeout_s)
    assert {type(error) for error in raised} == {BrokerUnavailable}
    assert len({str(error) for error in raised}) == 1, raised
    assert words in raised[0].what
    assert raised[0].remedy


@contextlib.contextmanager
def serving(behave: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    """Listen on loopback and do the same with whoever comes, each in a thread."""
    threads: list[threading.Thread] = []
    accepted: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            behave(connection)

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                accepted.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        acceptor = threading.Thread(target=accept, args=(server,), daemon=True)
        acceptor.start()
        yield Endpoint("127.0.0.1", server.getsockname()[1])
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    for thread in [acceptor, *threads]:
        thread.join(10)


def answer(data: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(data)
        while connection.recv(100):
            pass

    return behave


def hang_up(connection: socket.socket) -> None:
    connection.recv(100)


def keep_silent(connection: socket.socket) -> None:
    while connection.recv(100):
        pass


def receive_until(end: bytes, connection: socket.socket) -> None:
    received = b""
    while end not in received:
        data = connection.recv(4096)
        if not data:
            raise ConnectionError("the client has ended it")
        received += data


def serve_web(connection: socket.socket) -> None:
    """Answer as the Management API does: only after the end of what seems to be a request."""
    receive_until(b"\r\n\r\n", connection)
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")


def reset(connection: socket.socket) -> None:
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "A web server listens at 127.0.0.1:{}"),
        (answer(b"AMQP\x00\x01\x00\x00"), "The broker at 127.0.0.1:{} does not speak AMQP 0-9-1"),
        (answer(b"\x15\x03\x01\x00\x02\x02\x46"), "127.0.0.1:{} expects TLS"),
        (answer(b"SSH-2.0-OpenSSH_9.2\r\n"), "127.0.0.1:{} is not an AMQP broker (it answers b'SS"),
        (answer(b"\x07" + bytes(6) + b"\xce"), "127.0.0.1:{} is not an AMQP broker (it answers"),
        (hang_up, "127.0.0.1:{} closed the connection without an AMQP greeting"),
        (lambda _: None, "127.0.0.1:{} closed the connection without an AMQP greeting"),
        (reset, "127.0.0.1:{} closed the connection without an AMQP greeting"),
    ],
    ids=["web", "AMQP 1.0", "TLS", "SSH", "no frame type", "hanging up", "closing", "resetting"],
)
def test_what_is_not_an_amqp_broker_is_named_alike_by_every_entry(
    behave: Callable[[socket.socket], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rmqbench.amqp.diagnosis.connecting._LOOK_S", 30.0)  # it does answer
    with serving(behave) as endpoint:
        require_told(endpoint, words.format(endpoint.port), timeout_s=3.0)


def test_a_peer_that_is_gone_before_the_client_looks_at_it_has_closed_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def not_connected(_: socket.socket) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(socket.socket, "getpeername", not_connected)  # pika's look
    with serving(reset) as endpoint:
        words = f"127.0.0.1:{endpoint.port} closed the connection without an AMQP greeting"
        require_told(endpoint, words, timeout_s=3.0)


@pytest.mark.parametrize(
    ("behave", "look_s", "words"),
    [
        (keep_silent, 0.3, "What listens at {} did not answer an AMQP client in time"),
        (serve_web, 3.0, "A web server listens at {}, not an AMQP broker"),
    ],
)
def test_what_is_silent_to_an_amqp_client_is_named_alike_by_every_entry(
    behave: Callable[[socket.socket], None],
    look_s: float,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rmqbench.amqp.diagnosis.connecting._LOOK_S", look_s)
    with serving(behave) as endpoint:
        require_told(endpoint, words.format(endpoint.address), timeout_s=3.0)


@pytest.mark.parametrize("behave", [answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"), hang_up])
def test_tls_towards_what_has_none_is_told_alike_by_every_entry(
    behave: Callable[[socket.socket], None],
) -> None:
    with serving(behave) as endpoint:
        for error in refusals(replace(endpoint, tls=True)):
            assert f"No TLS connection to 127.0.0.1:{endpoint.port}" in str(error)


def test_a_port_where_nobody_listens_is_told_alike_by_every_entry() -> None:
    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint("127.0.0.1", taken.getsockname()[1])
        require_told(endpoint, f"Nothing listens at {endpoint.address}: the connection was refused")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
def test_a_host_that_does_not_answer_is_told_alike_by_every_entry() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # more than the backlog holds: the next ones get no answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        endpoint = Endpoint("127.0.0.1", full.getsockname()[1])
        require_told(endpoint, f"{endpoint.address} did not answer in time", timeout_s=0.5)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "host", ["rabbit..example", ".rabbit", "a" * 70, f"rabbit.{'b' * 64}.example", "\u2028"]
)
def test_what_cannot_be_a_host_name_is_told_alike_by_every_entry(host: str, tls: bool) -> None:
    require_told(Endpoint(host, tls=tls), f"{host!r} is not a host name: ")


@pytest.mark.parametrize("host", ["rabbit..example", "a" * 70])
def test_a_proxy_in_front_of_what_cannot_be_a_host_name_has_nothing_to_connect_to(
    host: str,
) -> None:
    with Proxy(Endpoint(host)) as proxy:
        require_told(proxy.endpoint, "closed the connection without an AMQP greeting")


def test_the_limit_of_opening_holds_whatever_the_limit_of_an_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rmqbench.amqp.diagnosis.connecting._LOOK_S", 0.3)
    started = time.monotonic()
    with serving(keep_silent) as endpoint:
        connection = Connection(endpoint, name="t", connect_timeout_s=600)
        with pytest.raises(BrokerUnavailable, match="did not answer an AMQP client in time"):
            connection.open(timeout_s=0.5)
    assert time.monotonic() - started < 60


def test_pika_logs_nothing_while_a_broker_is_probed(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("pika").setLevel(logging.INFO)
    try:
        with serving(hang_up) as endpoint, pytest.raises(BrokerUnavailable):
            probe(endpoint, timeout_s=0.5)
        assert [record for record in caplog.records if record.name.startswith("pika")] == []
        assert logging.getLogger("pika").level == logging.INFO
    finally:
        logging.getLogger("pika").setLevel(logging.NOTSET)


# --- a stand-in for a broker ---------------------------------------------------------------------


def frame(channel: int, method: object) -> bytes:
    return bytes(pika.frame.Method(channel, method).marshal())


START = frame(0, pika.spec.Connection.Start(0, 9, {"version": "9.9.9"}, "PLAIN", "en_US"))


def let_in(connection: socket.socket) -> None:
    """Accept a client as a broker does."""
    assert connection.recv(8) == PROTOCOL_HEADER
    connection.sendall(START)
    connection.recv(4096)
    connection.sendall(frame(0, pika.spec.Connection.Tune(10, 131072, 0)))
    receive_until(pika.spec.Connection.Open.INDEX.to_bytes(4), connection)
    connection.sendall(frame(0, pika.spec.Connection.OpenOk()))


def test_the_version_is_the_one_that_the_broker_reports() -> None:
    def serve(connection: socket.socket) -> None:
        let_in(connection)
        connection.recv(4096)
        connection.sendall(frame(0, pika.spec.Connection.CloseOk()))

    with serving(serve) as endpoint:
        assert probe(endpoint) == "9.9.9"


def test_an_end_during_the_login_is_not_taken_for_a_wrong_password() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(8)
        connection.sendall(START)
        connection.recv(4096)

    with serving(serve) as endpoint:
        require_told(endpoint, f"The broker at {endpoint.address} closed the connection during")


def test_a_virtual_host_with_too_long_a_name_is_a_usage_error() -> None:
    with serving(let_in) as endpoint:
        for error in refusals(replace(endpoint, virtual_host="v" * 256)):
            assert type(error) is UsageError
            assert "is too long for AMQP" in error.what


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize(
    ("malformed", "kind", "words"),
    [
        (b"\x08\x00\x00\x00\x00\x00\x00\xcf", ConnectionLost, "Invalid FRAME_END marker"),
        (b"\x07\x00\x00\x00\x00\x00\x00\xce", ConnectionLost, "Unknown frame type"),
        (b"\x01\x00\x00\x00\x00\x00\x00\xce", MessageUnreadable, "cannot be read"),
    ],
)
def test_malformed_frames_of_an_open_connection_are_told_in_a_sentence(
    malformed: bytes, kind: type[RmqbenchError], words: str, vector: bool
) -> None:
    def serve(connection: socket.socket) -> None:
        let_in(connection)
        connection.sendall(malformed)
        keep_silent(connection)

    def use(endpoint: Endpoint) -> None:
        with Connection(endpoint, name="t", vector=vector) as connection:
            connection.wait_until(lambda: False, 10, "an end")

    with serving(serve) as endpoint, pytest.raises(kind, match=words):
        use(endpoint)
