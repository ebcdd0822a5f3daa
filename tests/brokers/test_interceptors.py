"""What RabbitMQ adds to every message where it is configured to is no corruption, and is told."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rmqbench.broker import open_broker
from rmqbench.proxy import Proxy, delay
from rmqbench.queues import ConsumedQueue
from rmqbench.runner.run import run
from rmqbench.scenarios import Scenario
from tests.brokers.conftest import NEWEST, OTHER, Kind

pytestmark = pytest.mark.brokers

TIMESTAMP = "message_interceptors.incoming.set_header_timestamp.overwrite"
WRITE = "mkdir -p /etc/rabbitmq/conf.d && cat >/etc/rabbitmq/conf.d/90-more.conf"
ROUTING_NODE = "message_interceptors.incoming.set_header_routing_node.overwrite"


@pytest.mark.parametrize("kind", [OTHER, NEWEST], ids=str)
@pytest.mark.parametrize("overwrite", ["false", "true"])
@pytest.mark.parametrize("vector", [True, False], ids=["vector", "pika"])
def test_headers_that_rabbitmq_is_configured_to_add_are_no_corruption_and_are_told(
    kind: Kind, overwrite: str, vector: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.require()
    monkeypatch.setenv("RMQBENCH_VECTOR", "1" if vector else "0")
    queues = (ConsumedQueue("work"), ConsumedQueue("audit", "quorum"))
    with open_broker("container", image=kind.image) as broker:
        configuration = f"{TIMESTAMP} = {overwrite}\n{ROUTING_NODE} = true\n"
        subprocess.run(
            ["docker", "exec", "-i", broker.node.name, "sh", "-c", WRITE],
            input=configuration.encode(),
            check=True,
            capture_output=True,
            timeout=60,
        )
        broker.restart()
        # The broker takes each message in a later second than that in which it was sent.
        with Proxy(broker.endpoint, [delay("publish", 1, 1.2)]) as proxy:
            result = run(
                Scenario("intercepted", queues, messages=500),
                replace(broker, endpoint=proxy.endpoint),
                directory=tmp_path / "run",
            )
    result.verdict.require_pass()
    assert result.verdict.found() == {}
    (note,) = [each for each in result.notes if "headers" in each]
    assert note.endswith(": timestamp_in_ms, x-routed-by.")
