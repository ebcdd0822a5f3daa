"""The one parser of the Management API's answers: what is there is read, and junk is nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import astuple, fields
from typing import Any, cast

import pytest

from rmqbench.management import answers
from rmqbench.management.answers import (
    Alarm,
    BindingInfo,
    ChannelInfo,
    ConnectionInfo,
    ConsumerInfo,
    ExchangeInfo,
    NodeInfo,
    PolicyInfo,
    QueueInfo,
    read_alarms,
    read_bindings,
    read_channels,
    read_connections,
    read_consumers,
    read_exchanges,
    read_nodes,
    read_policies,
    read_queues,
    read_version,
    whole_number,
)
from rmqbench.management.client import Management
from rmqbench.management.sampler import take_sample

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

Read = Callable[[Iterable[object]], list[Any]]

# Each with the fields that are read, as RabbitMQ 3.10.8 to 4.3.6 write them.
QUEUE: dict[str, Any] = {
    "name": "q",
    "vhost": "/",
    "type": "classic",
    "state": "running",
    "exclusive": False,
    "messages_ready": 1,
    "messages_unacknowledged": 2,
    "messages_ram": 3,
    "message_bytes_ready": 4,
    "memory": 5,
    "consumers": 6,
    "message_stats": {
        "publish_details": {"rate": 7.5},
        "deliver_get_details": {"rate": 8.5},
        "ack_details": {"rate": 0.0},
    },
    "arguments": {"x-dead-letter-exchange": "by.argument"},
    "policy": "p",
    "operator_policy": "o",
    "effective_policy_definition": {"dead-letter-exchange": "by.policy"},
}
NODE: dict[str, Any] = {
    "name": "rabbit@a",
    "running": True,
    "mem_used": 1,
    "mem_limit": 2,
    "disk_free": 3,
    "disk_free_limit": 4,
    "mem_alarm": False,
    "disk_free_alarm": True,
}
CONNECTION: dict[str, Any] = {
    "name": "127.0.0.1:1 -> 127.0.0.1:2",
    "user_provided_name": "billing",
    "peer_host": "127.0.0.1",
    "peer_port": 1,
    "user": "ann",
    "vhost": "/",
    "state": "running",
    "channels": 3,
    "recv_oct_details": {"rate": 4.5},
    "send_oct_details": {"rate": 5.5},
}
CONSUMER: dict[str, Any] = {
    "consumer_tag": "t",
    "queue": {"name": "q", "vhost": "/"},
    "channel_details": {"connection_name": "c", "peer_host": "::1", "peer_port": 1},
    "prefetch_count": 10,
    "ack_required": True,
    "activity_status": "up",
}
CHANNEL = {"name": "127.0.0.1:1 -> 127.0.0.1:2 (1)", "messages_unacknowledged": 5}
EXCHANGE: dict[str, Any] = {
    "name": "e",
    "type": "fanout",
    "arguments": {"alternate-exchange": "other"},
}
BINDING = {"source": "e", "destination": "q", "destination_type": "queue"}
POLICY: dict[str, Any] = {
    "name": "p",
    "pattern": "^q",
    "apply-to": "queues",
    "priority": 1,
    "definition": {"alternate-exchange": "other", "dead-letter-exchange": "dead"},
}
ALARM = {"node": "rabbit@a", "resource": "memory"}

KINDS: list[tuple[Read, dict[str, Any], object]] = [
    (
        read_queues,
        QUEUE,
        QueueInfo(
            *("q", "/", "classic", "running", False, 1, 2, 3, 4, 5, 6, 7.5, 8.5, 0.0),
            *("p", "o", {"dead-letter-exchange": "by.policy"}, ("by.argument", "by.policy")),
        ),
    ),
    (read_nodes, NODE, NodeInfo("rabbit@a", True, 1, 2, 3, 4, False, True)),
    (
        read_connections,
        CONNECTION,
        ConnectionInfo(
            *("127.0.0.1:1 -> 127.0.0.1:2", "billing", "127.0.0.1", 1, "ann", "/", "running"),
            *(3, 4.5, 5.5),
        ),
    ),
    (
        read_consumers,
        CONSUMER,
        ConsumerInfo("t", "q", "/", "c", "::1", 1, 10, True, "up"),
    ),
    (read_channels, CHANNEL, ChannelInfo("127.0.0.1:1 -> 127.0.0.1:2 (1)", 5)),
    (read_exchanges, EXCHANGE, ExchangeInfo("e", "fanout", "other")),
    (read_bindings, BINDING, BindingInfo("e", "q", "queue")),
    (
        read_policies,
        POLICY,
        PolicyInfo("p", "^q", "queues", 1, POLICY["definition"], "other", "dead"),
    ),
    (read_alarms, ALARM, Alarm("rabbit@a", "memory")),
]
each_kind = pytest.mark.parametrize(
    ("read", "answer", "value"), KINDS, ids=[type(value).__name__ for _, _, value in KINDS]
)

# Whatever JSON can say: its numbers have no bounds, and Python reads NaN and Infinity as well.
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), -1, -0.0, 2**64])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.sampled_from(["NaN", "-1"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["rate", "name", "publish_details", "definition"]), inner, max_size=3
        )
    ),
    max_leaves=4,
)


@each_kind
def test_every_field_is_read(read: Read, answer: dict[str, Any], value: Any) -> None:
    assert read([answer]) == [value]
    assert len(set(map(repr, astuple(value)))) > 1
    assert None not in astuple(value)


def test_every_kind_is_tried() -> None:
    readers = {name for name in answers.__all__ if name.startswith("read_")} - {"read_version"}
    assert {read.__name__ for read, _, _ in KINDS} == readers


@each_kind
def test_what_the_broker_does_not_say_is_none(
    read: Read, answer: dict[str, Any], value: Any
) -> None:
    name = {"name": "x"} if "name" in answer else {}
    (found,) = read([name])
    unknown = {each.name: getattr(found, each.name) for each in fields(found)}
    assert unknown.pop("name", "x") == "x"
    assert unknown.pop("dead_letter_exchanges", ()) == ()
    assert unknown.pop("policy_definition", {}) == {}
    assert unknown.pop("definition", {}) == {}
    assert set(unknown.values()) == {None}


@given(data=st.data())
@each_kind
def test_any_json_in_any_field_is_read_as_a_number_or_text_that_can_be_or_as_none(
    read: Read, answer: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    answer = json.loads(json.dumps(answer))
    for holder in (answer, *(each for each in answer.values() if isinstance(each, dict))):
        for key in data.draw(st.sets(st.sampled_from(sorted(holder)))):
            holder[key] = data.draw(JSON)
    for found in read([json.loads(json.dumps(answer)), data.draw(JSON)]):
        for each, expected in zip(astuple(found), astuple(value), strict=True):
            assert each is None or type(each) is type(expected)
            if isinstance(each, int | float):
                assert math.isfinite(each)
                assert math.copysign(1, each) == 1


@given(listed=st.lists(JSON, max_size=3))
@pytest.mark.parametrize("read", [read for read, _, _ in KINDS])
def test_an_entry_of_any_other_kind_is_survived(read: Read, listed: list[object]) -> None:
    assert len(read(listed)) <= len(listed)


@given(overview=JSON)
def test_a_version_is_text(overview: object) -> None:
    assert read_version({"rabbitmq_version": "4.1.2"}) == "4.1.2"
    assert read_version(overview) is None
    assert isinstance(read_version({"rabbitmq_version": overview}), str | None)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (12.0, 12),
        (2**63, 2**63),
        (-1, None),
        (True, None),
        ("12", None),
        ("NaN", None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ([], None),
        (None, None),
    ],
)
def test_a_count_is_a_number_that_can_be_counted(value: object, number: int | None) -> None:
    assert whole_number(value) == number


@pytest.mark.parametrize(
    ("value", "rate"),
    [(7, 7.0), (0.2, 0.2), (-0.0, 0.0), (-0.1, None), (math.inf, None), (10**400, None)],
)
def test_a_rate_is_not_negative_and_has_an_end(value: float, rate: float | None) -> None:
    (found,) = read_queues([{"name": "q", "message_stats": {"ack_details": {"rate": value}}}])
    assert repr(found.ack_rate) == repr(rate)  # 0.0 and -0.0 are equal, and shown differently


def test_an_empty_list_in_place_of_an_object_is_an_empty_one() -> None:
    empty = {"name": "q", "message_stats": [], "arguments": [], "effective_policy_definition": []}
    assert read_queues([empty]) == [QueueInfo("q")]
    assert read_queues([{"name": "q", "message_stats": {"ack_details": []}}]) == [QueueInfo("q")]


def test_a_queue_without_a_name_is_none_and_the_default_exchange_is_one() -> None:
    assert read_queues([{"vhost": "/"}, {"name": ""}, {"name": 7}]) == []
    assert read_exchanges([{"name": ""}, {}]) == [ExchangeInfo("")]


@given(queue=JSON, node=JSON)
def test_a_sample_of_any_answer_can_be_written(queue: object, node: object) -> None:
    class Api:
        def queues(self, _: str) -> list[object]:
            return [queue, QUEUE | {"memory": queue, "message_stats": queue}]

        def nodes(self) -> list[object]:
            return [node, NODE | {"mem_used": node, "mem_alarm": node}]

    sample = take_sample(cast("Management", Api()), "/", 1)
    assert sample.error is None
    assert {"q"} <= set(sample.queues)
    json.dumps([astuple(each) for each in sample.queues.values()], allow_nan=False)
    json.dumps([astuple(each) for each in sample.nodes.values()], allow_nan=False)
