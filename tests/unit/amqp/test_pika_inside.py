"""What rmqbench touches inside of pika: a new pika that changes it must fail here, loudly."""

import ast
import inspect
from pathlib import Path

import pika
import pytest
from pika.adapters.utils import io_services_utils

import rmqbench
from rmqbench.amqp import admin, connection

PACKAGE = Path(rmqbench.__file__).parent
TOUCHED = {
    connection: {
        "_on_data_available",
        "_output_marshaled_frames",
        "_adapter_emit_data",
        "_transport",
        "_sock",
        "_tx_buffers",
        "_MAX_RECV_BYTES",
        "_MAX_CONSUME_BYTES",
        "_sigint_safe_recv",
        "_terminate_stream",
        "_proto_connection_lost",
        "_cancelled",
    },
    admin: {"_impl", "_terminate_stream", "_cleanup"},
}
FILES = {Path(module.__file__) for module in TOUCHED}


def private_names(path):
    """Yield the private attributes that a file takes of anything but ``self`` and ``cls``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in ("self", "cls"):
                continue
            if not node.attr.startswith("__"):
                yield node.attr


@pytest.mark.parametrize("module", TOUCHED, ids=lambda module: module.__name__)
def test_a_connection_touches_what_it_says_and_nothing_else(module):
    assert set(private_names(Path(module.__file__))) == TOUCHED[module]
    assert all(f"``{name}``" in module.__doc__ for name in TOUCHED[module])


@pytest.mark.parametrize(
    "path", sorted(set(PACKAGE.rglob("*.py")) - FILES), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_no_other_module_touches_the_inside_of_pika(path):
    of_pika = (pika.SelectConnection, pika.BlockingConnection)
    inside = {n for n in private_names(path) if any(hasattr(owner, n) for owner in of_pika)}
    assert not inside


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (pika.SelectConnection, "_on_data_available", ["self", "data_in"]),
        (pika.SelectConnection, "_output_marshaled_frames", ["self", "marshaled_frames"]),
        (pika.SelectConnection, "_adapter_emit_data", ["self", "data"]),
        (pika.SelectConnection, "_terminate_stream", ["self", "error"]),
        (pika.BlockingConnection, "_cleanup", ["self"]),
    ],
)
def test_the_methods_are_as_they_were(owner, name, parameters):
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_received_bytes_come_by_the_method_that_is_tapped():
    assert "self._on_data_available(data)" in inspect.getsource(
        pika.adapters.base_connection.BaseConnection._proto_data_received
    )


def test_frames_are_written_by_the_method_that_sends_at_once():
    output = inspect.getsource(pika.connection.Connection._output_marshaled_frames)
    assert "self._adapter_emit_data(marshaled_frame)" in output
    emit = inspect.getsource(pika.adapters.base_connection.BaseConnection._adapter_emit_data)
    assert "self._transport.write(data)" in emit
    plain = io_services_utils._AsyncPlaintextTransport
    assert "tx_buffer_was_empty = self.get_write_buffer_size() == 0" in inspect.getsource(
        plain.write
    )
    assert "self._sigint_safe_send(self._sock," in inspect.getsource(plain._produce)


def test_one_turn_reads_until_it_has_as_many_bytes_as_the_attribute_says():
    transport = io_services_utils._AsyncTransportBase
    assert transport._MAX_CONSUME_BYTES == 1024 * 100
    assert "bytes_consumed < self._MAX_CONSUME_BYTES" in inspect.getsource(transport._consume)


def test_one_read_takes_as_many_bytes_as_the_attribute_says():
    transport = io_services_utils._AsyncTransportBase
    assert transport._MAX_RECV_BYTES == 4096
    received = "self._sigint_safe_recv(self._sock, self._MAX_RECV_BYTES)"
    assert received in inspect.getsource(transport._consume)
    assert "return sock.recv(max_bytes)" in inspect.getsource(transport._sigint_safe_recv)


def test_the_heartbeat_counts_the_attribute_that_is_added_to():
    checker = pika.heartbeat.HeartbeatChecker
    source = inspect.getsource(checker.bytes_received_on_connection.fget)
    assert "self._connection.bytes_received" in source


def test_a_cancelled_consumer_s_deliveries_are_given_back_unless_it_is_forgotten():
    channel = pika.channel.Channel
    assert "self._cancelled.add(consumer_tag)" in inspect.getsource(channel.basic_cancel)
    deliver = inspect.getsource(channel._on_deliver)
    assert "if consumer_tag in self._cancelled:" in deliver
    assert "self.basic_reject(" in deliver


def test_a_blocking_connection_stands_on_the_connection_that_is_driven():
    assert "self._impl = " in inspect.getsource(pika.BlockingConnection.__init__)
    assert "_transport = None" in inspect.getsource(
        pika.adapters.base_connection.BaseConnection.__init__
    ) or "_transport: " in inspect.getsource(pika.adapters.base_connection.BaseConnection.__init__)
