"""Runs in queues and on brokers that others use, too: nothing of theirs is harmed or misjudged."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pika
import pytest
import requests
from support.tools import wait_until

from rmqbench import faulty
from rmqbench.amqp.admin import admin
from rmqbench.amqp.topology import ready_count
from rmqbench.broker import Broker, open_broker
from rmqbench.errors import QueueNotFound
from rmqbench.faults.catalogue import FAULTS
from rmqbench.management.answers import read_connections
from rmqbench.queues import ConsumedQueue
from rmqbench.results.result import Result
from rmqbench.run_directory.journal import DrainTried, Restarted, read_journal
from rmqbench.runner.run import Run, run
from rmqbench.scenarios import Scenario

pytestmark = pytest.mark.brokers

MESSAGES = 200
FOREIGN = b"what somebody else has sent"


@dataclass
class InPlace:
    """A queue in the virtual host that all use, for a run in place."""

    broker: Broker
    directory: Path
    queue: str
    exchange: str
    kind: Any = "classic"

    def scenario(self, **changes: Any) -> Scenario:
        queue = ConsumedQueue(self.queue, self.kind)
        fields: dict[str, Any] = {"queues": (queue,), "messages": MESSAGES, "stall_s": 10.0}
        return Scenario("in place", exchange=self.exchange, **(fields | changes))

    def run(
        self,
        before_the_drain: Callable[[], object] = lambda: None,
        broker: Broker | None = None,
        **changes: Any,
    ) -> Result:
        """Publish, let something happen, and drain."""
        theirs = broker or self.broker
        with Run(
            self.scenario(**changes), theirs, directory=self.directory, in_place=True
        ) as stages:
            stages.publish()
            before_the_drain()
            stages.drain(self.queue)
            return stages.judge()

    def wait_until_nothing_is_ready(self) -> None:
        endpoint = self.broker.endpoint
        wait_until(lambda: not ready_count(endpoint, self.queue), f"{self.queue} to be empty")

    def wait_until_it_is_gone(self) -> None:
        """Look from outside: whoever asks the queue itself keeps it alive."""
        with self.broker.management as management:
            wait_until(
                lambda: self.queue not in [each["name"] for each in management.queues("/")],
                f"{self.queue} to be gone",
            )

    @contextlib.contextmanager
    def taken_by_another(self, count: int, *, cancelled: bool = False) -> Iterator[None]:
        """Have another client hold so many messages."""
        endpoint = self.broker.endpoint
        credentials = pika.PlainCredentials(endpoint.username, endpoint.password)
        connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                endpoint.host,
                endpoint.port,
                "/",
                credentials,
                client_properties={"connection_name": "somebody else"},
            )
        )
        with contextlib.closing(connection):
            channel = connection.channel()
            if cancelled:
                got: list[bytes] = []
                channel.basic_qos(prefetch_count=count)
                tag = channel.basic_consume(self.queue, lambda *each: got.append(each[-1]))
                while len(got) < count:
                    connection.process_data_events(time_limit=1)
                channel.basic_cancel(tag)
            else:
                for _ in range(count):
                    channel.basic_get(self.queue)
            yield

    def entries(self, kind: type) -> list[Any]:
        """Return the entries of a kind in the run's journal."""
        journal = read_journal(self.directory / "journal.jsonl")
        return [each for each in journal if isinstance(each, kind)]


@pytest.fixture
def in_place(broker: Broker, tmp_path: Path) -> Iterator[InPlace]:
    name = f"t.{uuid.uuid4().hex[:12]}"
    yield InPlace(broker, tmp_path / "run", f"{name}.work", f"{name}.exchange")
    with admin(broker.endpoint) as channel:
        channel.queue_delete(f"{name}.work")
        channel.exchange_delete(f"{name}.exchange")


@pytest.fixture
def theirs(broker: Broker) -> Iterator[Broker]:
    """The same broker as one that is not ours: named by its URL."""
    endpoint = broker.endpoint
    with open_broker(endpoint.url(), management_url=endpoint.management_url) as opened:
        yield opened


# --- messages of others ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("consumers", [1, 3])
def test_what_somebody_else_has_sent_is_still_there_and_whole_after_a_run(
    in_place: InPlace, kind: str, consumers: int
) -> None:
    in_place.kind = kind
    properties = pika.BasicProperties(delivery_mode=2, message_id="theirs", headers={"a": 1})

    def send() -> None:
        with admin(in_place.broker.endpoint) as channel:
            channel.confirm_delivery()
            channel.basic_publish("", in_place.queue, FOREIGN, properties)

    queue = ConsumedQueue(in_place.queue, kind, consumers=consumers, prefetch=10)  # type: ignore[arg-type]
    result = in_place.run(send, queues=(queue,))
    assert result.verdict.outcome == "INCONCLUSIVE"
    assert result.verdict.found()["foreign"] >= 1
    assert not {"lost", "removed", "corrupted", "duplicate"} & set(result.verdict.found())
    with admin(in_place.broker.endpoint) as channel:
        method, found, body = channel.basic_get(in_place.queue)
        assert (body, found.message_id, found.headers["a"]) == (FOREIGN, "theirs", 1)
        assert method.message_count == 0
        channel.basic_nack(method.delivery_tag)


def test_a_policy_that_holds_only_in_place_is_named_where_the_run_has_a_place_of_its_own(
    theirs: Broker, tmp_path: Path
) -> None:
    name = f"t.{uuid.uuid4().hex[:12]}"
    scenario = Scenario("mine", (ConsumedQueue(name),), messages=10)
    with theirs.management as management:
        management.set_policy(name, f"^{name}$", {"max-length": 5}, vhost="/")
        try:
            result = run(scenario, theirs, directory=tmp_path / "run")
        finally:
            management.delete_policy(name, "/")
    assert result.verdict.passed
    assert f"The policy {name} of virtual host '/' does not apply" in " ".join(result.notes)


# --- messages that somebody holds -----------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True], ids=["got", "cancelled"])
def test_what_somebody_holds_unacknowledged_is_not_lost_and_he_is_named(
    in_place: InPlace, cancelled: bool
) -> None:
    with contextlib.ExitStack() as stack:

        def take() -> None:
            stack.enter_context(in_place.taken_by_another(3, cancelled=cancelled))

        verdict = in_place.run(take).verdict
        with in_place.broker.management as management:
            connections = read_connections(management.connections("/"))
        (name,) = [each.name for each in connections if each.given_name == "somebody else"]
    assert verdict.outcome == "INCONCLUSIVE", verdict
    assert verdict.count("lost") == 0
    assert f"3 messages are unacknowledged, held by {name} (1)" in str(verdict)


def test_where_nobody_can_say_who_holds_what_nothing_is_called_lost(
    in_place: InPlace, theirs: Broker
) -> None:
    endpoint = replace(theirs.endpoint, management_url="http://127.0.0.1:1")
    with contextlib.ExitStack() as stack:

        def take() -> None:
            stack.enter_context(in_place.taken_by_another(3))

        verdict = in_place.run(take, replace(theirs, endpoint=endpoint)).verdict
    assert verdict.outcome == "INCONCLUSIVE", verdict
    assert "3 messages are missing, and whether somebody holds them cannot be asked" in str(verdict)


def test_what_nobody_holds_is_lost(in_place: InPlace) -> None:
    def take_away() -> None:
        with admin(in_place.broker.endpoint) as channel:
            for _ in range(3):
                channel.basic_get(in_place.queue, auto_ack=True)

    verdict = in_place.run(take_away).verdict
    assert verdict.outcome == "FAIL", verdict
    assert verdict.found() == {"lost": 3}


# --- a restart that is not ours -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_restart_of_a_broker_that_is_not_ours_is_seen_while_no_worker_is_there(
    in_place: InPlace, theirs: Broker, kind: str
) -> None:
    in_place.kind = kind
    moments: list[int] = []

    def restart() -> None:
        moments.append(time.time_ns())
        in_place.broker.restart()
        moments.append(time.time_ns())

    rest_s = FAULTS["kill-broker"].rest_s / (1 if kind == "quorum" else 4)
    result = in_place.run(restart, theirs, stall_s=60.0, rest_s=rest_s)
    assert result.verdict.outcome == "PASS", result.verdict
    began_ns, ended_ns = moments
    restarts = in_place.entries(Restarted)
    assert restarts
    assert all(each.after_ns < ended_ns and each.before_ns > began_ns for each in restarts)
    (proven,) = [each for each in in_place.entries(DrainTried) if each.proven]
    assert proven.time_ns - ended_ns >= 8 * 10**9
    assert not [each for each in threading.enumerate() if each.name == "broker watch"]


def test_a_broker_that_is_not_ours_and_is_not_restarted_is_believed_at_once(
    in_place: InPlace, theirs: Broker
) -> None:
    began = time.monotonic()
    assert in_place.run(broker=theirs).verdict.passed
    assert time.monotonic() - began < 8
    assert in_place.entries(Restarted) == []


def test_each_restart_of_our_own_node_is_written_down(in_place: InPlace) -> None:
    def restart_twice() -> None:
        in_place.broker.restart()
        in_place.broker.restart()

    rest_s = FAULTS["kill-broker"].rest_s / 4  # a classic queue
    assert in_place.run(restart_twice, stall_s=60.0, rest_s=rest_s).verdict.passed
    noted = [each.before_ns for each in in_place.entries(Restarted)]
    assert len(noted) == 2
    assert noted[0] < noted[1]


def test_a_restart_of_our_own_node_by_a_fault_is_written_down(in_place: InPlace) -> None:
    scenario = faulty("restart-broker", "publish", messages=MESSAGES, stall_s=60.0)
    with Run(scenario, in_place.broker, directory=in_place.directory) as stages:
        stages.publish()
        for name in scenario.queue_names:
            stages.drain(name)
        assert stages.judge().verdict.passed
    assert len(in_place.entries(Restarted)) == 1


# --- policies -------------------------------------------------------------------------------------


@pytest.fixture
def limited(in_place: InPlace) -> Iterator[Callable[..., None]]:
    """Set a policy, or an operator policy, for the queue of the run."""
    paths = []

    def request(method: str, path: str, **how: Any) -> None:
        endpoint = in_place.broker.endpoint
        answer = requests.request(
            method,
            f"{endpoint.management_url}/api/{path}",
            auth=(endpoint.username, endpoint.password),
            timeout=10,
            **how,
        )
        answer.raise_for_status()

    def limit(kind: str = "policies", name: str = "limits", **definition: Any) -> None:
        paths.append(f"{kind}/%2F/{name}")
        body = {
            "pattern": f"^{in_place.queue}$",
            "apply-to": "queues",
            "priority": 1,
            "definition": {key.replace("_", "-"): value for key, value in definition.items()},
        }
        request("PUT", paths[-1], json=body)

    yield limit
    for path in paths:
        request("DELETE", path)


@pytest.mark.parametrize("kind", ["policies", "operator-policies"])
@pytest.mark.parametrize("queue", ["classic", "quorum"])
def test_what_a_policy_drops_is_removed_and_the_policy_is_named(
    in_place: InPlace, limited: Callable[..., None], kind: str, queue: str
) -> None:
    in_place.kind = queue
    limited(kind, max_length=150)
    result = in_place.run()
    named = "policy limits" if kind == "policies" else "operator policy limits"
    assert result.verdict.found() == {"removed": MESSAGES - 150}, result.verdict
    assert f"max-length=150 with overflow drop-head ({named})" in str(result.verdict)
    assert any(
        note == f"The {named} of the broker applies to queue {in_place.queue}: max-length=150."
        for note in result.notes
    )


def test_a_policy_that_cannot_have_dropped_so_many_leaves_the_rest_lost(
    in_place: InPlace, limited: Callable[..., None]
) -> None:
    limited(max_length=MESSAGES - 2)

    def take_away() -> None:
        with admin(in_place.broker.endpoint) as channel:
            for _ in range(5):
                channel.basic_get(in_place.queue, auto_ack=True)

    verdict = in_place.run(take_away).verdict
    assert verdict.found() == {"removed": 2, "lost": 5}


def test_what_a_policy_lets_expire_is_removed(
    in_place: InPlace, limited: Callable[..., None]
) -> None:
    limited("operator-policies", message_ttl=1000)
    result = in_place.run(in_place.wait_until_nothing_is_ready)
    assert result.verdict.found() == {"removed": MESSAGES}, result.verdict
    assert "message-ttl=1000 (operator policy limits)" in str(result.verdict)


def test_a_queue_that_a_policy_lets_expire_takes_its_messages_with_it(
    in_place: InPlace, limited: Callable[..., None]
) -> None:
    limited(expires=6000)
    result = in_place.run(in_place.wait_until_it_is_gone)
    assert result.verdict.found() == {"removed": MESSAGES}, result.verdict
    assert "expires=6000 (policy limits)" in str(result.verdict)


def test_a_queue_that_expires_while_it_is_published_to_took_what_it_had(
    in_place: InPlace, limited: Callable[..., None]
) -> None:
    """It is not there any more when anybody asks for its policy."""
    limited(expires=1000)

    def something_is_there() -> bool:
        """Look, which keeps it alive."""
        with contextlib.suppress(QueueNotFound):
            return ready_count(in_place.broker.endpoint, in_place.queue) > 0
        return False

    with ThreadPoolExecutor(1) as beside:
        alive = beside.submit(wait_until, something_is_there, "a message to be there")
        found = in_place.run(publish_rate=50.0).verdict.found()
        alive.result()
    assert {*found} - {"nacked"} == {"removed", "returned"}  # nacked: on its way as it went
    assert found["removed"] > 0


def test_where_a_policy_dead_letters_to_is_a_note_and_no_cause(
    in_place: InPlace, limited: Callable[..., None]
) -> None:
    limited(dead_letter_exchange="elsewhere")
    result = in_place.run()
    assert result.verdict.passed, result.verdict
    assert any("dead-letter-exchange=elsewhere" in note for note in result.notes)
