"""The texts are those of real brokers: of 3.10.8 and 4.3.6 where one differs from the other."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pika
import pika.exceptions
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
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
    ConnectionOpenAborted,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from rmqbench.amqp.diagnosis import channel_error, connect_error, pika_parameters
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    BrokerUnavailable,
    ConnectionLost,
    QueueLocked,
    QueueMismatch,
    QueueNotEmpty,
    QueueNotFound,
    RmqbenchError,
    UsageError,
)

ENDPOINT = Endpoint("rabbit.example", 5673, "ann", "s3cret", "team")


def closed(code: int, text: str) -> RmqbenchError:
    return channel_error(ChannelClosedByBroker(code, text), ENDPOINT)


# --- a mismatch --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "argument", "asked", "has"),
    [
        (
            "inequivalent arg 'x-queue-mode' for queue 'q' in vhost '/': received none but current "
            "is the value 'lazy' of type 'longstr'",
            "x-queue-mode",
            "none",
            "'lazy'",
        ),
        (
            "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '10' "
            "of type 'signedint' but current is none",
            "x-max-length",
            "'10'",
            "none",
        ),
        (
            "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '11' but current "
            "is '10'",
            "x-max-length",
            "'11'",
            "'10'",
        ),
        (
            "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current "
            "is 'true'",
            "durable",
            "'false'",
            "'true'",
        ),
        (
            "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but "
            "current is 'classic'",
            "x-queue-type",
            "'quorum'",
            "'classic'",
        ),
        (
            "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received the value "
            "'quorum' of type 'longstr' but current is none",
            "x-queue-type",
            "'quorum'",
            "none",
        ),
    ],
)
def test_a_mismatch_names_the_argument_and_both_values(
    text: str, argument: str, asked: str, has: str
) -> None:
    error = closed(406, f"PRECONDITION_FAILED - {text}")
    assert isinstance(error, QueueMismatch)
    assert error.what == (
        f"The queue 'q' in virtual host '/' exists with another {argument}: it has {has}, asked "
        f"for was {asked}."
    )
    assert "Delete" in error.remedy
    assert "another name" in error.remedy
    assert "match" in error.remedy


def test_a_mismatch_of_an_exchange_is_called_one() -> None:
    error = closed(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'ex' in vhost '/': received "
        "'topic' but current is 'direct'",
    )
    assert isinstance(error, QueueMismatch)
    assert "The exchange 'ex'" in str(error)
    assert "it has 'direct', asked for was 'topic'" in str(error)


def test_a_quote_in_a_name_does_not_confuse_a_mismatch() -> None:
    error = closed(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'it's' in vhost 'a's': "
        "received 'false' but current is 'true'",
    )
    assert "it's" in str(error)
    assert "a's" in str(error)
    assert "it has 'true', asked for was 'false'" in str(error)


def test_a_refusal_that_nobody_knows_keeps_the_words_of_the_broker() -> None:
    text = "invalid arg 'x-queue-mode' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"
    error = closed(406, f"PRECONDITION_FAILED - {text}")
    assert type(error) is BrokerError
    assert text in str(error)


# --- other codes of a channel ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["queue", "exchange"])
def test_what_is_missing_is_named_with_its_virtual_host(kind: str) -> None:
    error = closed(404, f"NOT_FOUND - no {kind} 'x' in vhost 'team'")
    assert isinstance(error, QueueNotFound)
    assert f"no {kind} 'x' in virtual host 'team'" in str(error)


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("NOT_FOUND - no queue 'xxx...", True),
        ("NOT_FOUND - no exchange 'xxx...", True),
        (b"NOT_FOUND - no queue 'x\xc3...", True),
        ("NOT_FOUND - queue 'no queue' in vhost '/' process is stopped by supervisor", False),
        ("NOT_FOUND - home node 'b' of durable queue 'q' in vhost '/' is down", False),
    ],
)
def test_a_name_that_is_cut_off_is_missing_and_a_queue_that_is_down_is_not(
    text: str | bytes, absent: bool
) -> None:
    assert isinstance(closed(404, str(text)), QueueNotFound) is absent


@pytest.mark.parametrize(
    ("text", "which"),
    [
        ("configure access to queue 'q' in vhost 'v' refused for user 'ann'", "configure "),
        ("read access to queue 'q' in vhost 'v' refused for user 'ann'", "read "),
        ("access to queue 'q' in vhost 'v' refused for user 'ann'", ""),
    ],
)
def test_a_missing_permission_is_named(text: str, which: str) -> None:
    error = closed(403, f"ACCESS_REFUSED - {text}")
    assert isinstance(error, AccessRefused)
    assert f"User 'ann' has no {which}permission for queue 'q' in vhost 'v'." in str(error)
    assert "rabbitmqctl set_permissions -p team ann" in error.remedy


def test_a_reserved_name_is_a_wrong_wish_and_no_matter_of_permission() -> None:
    error = closed(403, "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'")
    assert isinstance(error, UsageError)
    assert "amq.x" in str(error)


def test_an_exclusive_queue_is_named() -> None:
    error = closed(
        405,
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It "
        "could be originally declared on another connection or the exclusive property value does "
        "not match that of the original declaration.",
    )
    assert isinstance(error, QueueLocked)
    assert "Queue 'mine'" in str(error)


def test_a_queue_with_an_exclusive_consumer_is_no_matter_of_permission() -> None:
    error = closed(403, "ACCESS_REFUSED - queue 'mine' in vhost '/' in exclusive use")
    assert isinstance(error, QueueLocked)
    assert "Queue 'mine'" in str(error)
    assert "set_permissions" not in error.remedy


def test_a_queue_kept_because_it_is_not_empty_is_no_mismatch() -> None:
    error = closed(406, "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty")
    assert isinstance(error, QueueNotEmpty)


def test_a_consumer_that_did_not_acknowledge_in_time_lost_its_channel() -> None:
    error = closed(
        406,
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value "
        "used: 1800000 ms. This timeout value can be configured, see consumers doc guide",
    )
    assert isinstance(error, ConnectionLost)
    assert "consumer_timeout" in error.remedy


def test_a_denied_deprecated_feature_says_so_in_one_line() -> None:
    error = channel_error(
        ConnectionClosedByBroker(
            541,
            "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\nIts use is not "
            "permitted per the configuration (overriding the default, which is permitted):\n…",
        ),
        ENDPOINT,
    )
    assert type(error) is BrokerError
    assert "transient_nonexcl_queues" in str(error)
    assert "durable" in error.remedy
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionClosedByBroker(320, "CONNECTION_FORCED - bye"), "320 CONNECTION_FORCED - bye"),
        (StreamLostError("Transport indicated EOF"), "Transport indicated EOF"),
        (ConnectionBlockedTimeout("blocked"), "blocked publishing"),
    ],
)
def test_an_end_of_the_connection_is_a_lost_connection(error: Exception, words: str) -> None:
    mapped = channel_error(error, ENDPOINT)
    assert isinstance(mapped, ConnectionLost)
    assert words in str(mapped)


def test_a_value_that_amqp_cannot_carry_is_a_wrong_wish() -> None:
    with pytest.raises(pika.exceptions.UnsupportedAMQPFieldException) as caught:
        pika.spec.Queue.Declare(queue="q", arguments={"x": object()}).encode()
    assert isinstance(channel_error(caught.value, ENDPOINT), UsageError)


@pytest.mark.parametrize("explain", [channel_error, connect_error])
def test_an_error_of_our_own_stays_as_it_is(
    explain: Callable[[BaseException, Endpoint], RmqbenchError],
) -> None:
    error = QueueNotFound("It is gone.")
    assert explain(error, ENDPOINT) is error


# --- connecting: each as BlockingConnection raises it and as SelectConnection reports it -------

REFUSED = AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "Connection refused"))
UNKNOWN = socket.gaierror(-2, "Name or service not known")
STACK_TIMEOUT = AMQPConnectorStackTimeout("Timeout during AMQP handshake'h'/(...); ssl=False")
CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")
CERTIFICATE.verify_message = "self-signed certificate"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (AMQPConnectionError(REFUSED), BrokerUnavailable, "connection refused"),
        (
            AMQPConnectionError(AMQPConnectionWorkflowFailed([REFUSED])),
            BrokerUnavailable,
            "connection refused",
        ),
        (UNKNOWN, BrokerUnavailable, "'rabbit.example' is not known"),
        (AMQPConnectionWorkflowFailed([UNKNOWN]), BrokerUnavailable, "is not known"),
        (STACK_TIMEOUT, BrokerUnavailable, "in time"),
        (
            ConnectionOpenAborted(
                "Connection.close() called before connection finished opening: "
                "prev_state=PROTOCOL (320): \"Timeout while setting up AMQP to 'h'/(...)\""
            ),
            BrokerUnavailable,
            "in time",
        ),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorTransportSetupError(STACK_TIMEOUT)]),
            BrokerUnavailable,
            "in time",
        ),
        (
            IncompatibleProtocolError("StreamLostError: ('Transport indicated EOF',)"),
            BrokerUnavailable,
            "hung up",
        ),
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
            "takes no more connections",
        ),
        (CERTIFICATE, BrokerUnavailable, "does not verify: self-signed certificate"),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorTransportSetupError(CERTIFICATE)]),
            BrokerUnavailable,
            "does not verify",
        ),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
            BrokerUnavailable,
            "No TLS connection",
        ),
        (OSError(113, "No route to host"), BrokerUnavailable, "No route to host"),
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


@pytest.mark.parametrize(("user", "told"), [("guest", True), ("ann", False)])
def test_only_guest_is_told_that_it_may_log_in_locally_only(user: str, told: bool) -> None:
    error = ProbableAuthenticationError("ConnectionClosedByBroker: (403) 'ACCESS_REFUSED'")
    mapped = connect_error(error, Endpoint(username=user))
    assert ("its own host only" in str(mapped)) is told


@contextlib.contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    """Listen on loopback and do one thing with whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepted: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                accepted.append(connection)
                behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Endpoint("127.0.0.1", listening.getsockname()[1])
        thread.join(5)
        for each in accepted:
            each.close()


def connect(endpoint: Endpoint, timeout_s: float = 10.0) -> RmqbenchError:
    parameters = pika_parameters(endpoint, connection_name="t", connect_timeout_s=timeout_s)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - pika raises of many families
        pika.BlockingConnection(parameters)
    blocking = connect_error(caught.value, endpoint)
    assert type(blocking) is BrokerUnavailable
    return blocking


def test_a_port_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert "connection refused" in str(connect(Endpoint("127.0.0.1", port)))


def test_a_server_that_says_nothing_is_left_in_time() -> None:
    with server(lambda connection: None) as endpoint:
        assert "in time" in str(connect(endpoint, timeout_s=0.5))


def test_a_server_that_hangs_up_is_no_broker() -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.recv(8)
        connection.close()

    with server(hang_up) as endpoint:
        assert "hung up" in str(connect(endpoint))


# --- parameters --------------------------------------------------------------------------------


def test_parameters_hold_the_endpoint_and_bound_every_wait() -> None:
    parameters = pika_parameters(
        ENDPOINT, connection_name="me", connect_timeout_s=3, heartbeat_s=7, blocked_timeout_s=9
    )
    assert (parameters.host, parameters.port) == ("rabbit.example", 5673)
    assert parameters.virtual_host == "team"
    assert parameters.credentials == pika.PlainCredentials("ann", "s3cret")
    assert parameters.client_properties == {"connection_name": "me"}
    assert parameters.connection_attempts == 1
    assert (parameters.socket_timeout, parameters.stack_timeout) == (3, 3)
    assert (parameters.heartbeat, parameters.blocked_connection_timeout) == (7, 9)
    assert parameters.ssl_options is None


def test_tls_verifies_certificate_and_host_name() -> None:
    parameters = pika_parameters(Endpoint("h", tls=True), connection_name="t")
    context = parameters.ssl_options.context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname is True
    assert parameters.ssl_options.server_hostname == "h"


def test_more_parameters_of_pika_go_through() -> None:
    assert pika_parameters(ENDPOINT, connection_name="t", channel_max=5).channel_max == 5
