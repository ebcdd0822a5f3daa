"""The texts are those of real brokers: of 3.10.8 and 4.3.6 where one differs from the other."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pika
import pika.exceptions
import pytest
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
    StreamLostError,
)

from rmqbench.amqp.diagnosis import channel_error, connect_error, diagnose
from rmqbench.amqp.parameters import pika_parameters
from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    ConnectionLost,
    MessageTooLarge,
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
        f"The queue 'q' in virtual host '/' exists with another {argument}: it has {has}, and "
        f"{asked} was requested."
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
    assert "it has 'direct', and 'topic' was requested" in str(error)


def test_a_quote_in_a_name_does_not_confuse_a_mismatch() -> None:
    error = closed(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'it's' in vhost 'a's': "
        "received 'false' but current is 'true'",
    )
    assert "it's" in str(error)
    assert "a's" in str(error)
    assert "it has 'true', and 'false' was requested" in str(error)


def test_a_refusal_that_nobody_knows_keeps_the_words_of_the_broker() -> None:
    text = "invalid arg 'x-queue-mode' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"
    error = closed(406, f"PRECONDITION_FAILED - {text}")
    assert type(error) is BrokerError
    assert text in str(error)


@pytest.mark.parametrize(
    ("words", "most"), [("configured max size", "16,777,216"), ("max size", "536,870,912")]
)
def test_a_message_that_is_too_large_is_told_with_both_sizes_and_the_setting(
    words: str, most: str
) -> None:
    limit = most.replace(",", "")
    text = f"PRECONDITION_FAILED - message size 600000000 is larger than {words} {limit}"
    error = closed(406, text)
    assert isinstance(error, MessageTooLarge)
    assert f"refused a message of 600,000,000 bytes: it takes {most} at most." in error.what
    assert "max_message_size" in error.remedy
    assert "--size" in error.remedy


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


@pytest.mark.parametrize("explain", [channel_error, connect_error, diagnose])
def test_an_error_of_our_own_stays_as_it_is(
    explain: Callable[[BaseException, Endpoint], RmqbenchError],
) -> None:
    error = QueueNotFound("It is gone.")
    assert explain(error, ENDPOINT) is error


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
