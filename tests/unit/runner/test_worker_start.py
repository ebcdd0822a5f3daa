"""A worker imports what its plan needs: a run may start many of them."""

import pickle

import pytest
from support.cost import loaded_by, ours_in, packages
from support.histories import RECIPE
from support.plans import consumer_plan

from rmqbench.clients.producer import ProducerPlan
from rmqbench.endpoint import Endpoint

UNNEEDED = {
    *("docker", "filelock", "platformdirs", "psutil", "pydantic", "pytest", "requests", "rich"),
    *("tempfile", "testcontainers", "typer", "urllib3"),
}
ROOMS = {
    *("amqp", "checksum", "clients", "clock", "endpoint", "errors", "memory", "message"),
    *("once", "open_files", "payload", "pieces", "run_directory", "runner", "sizes", "splitmix"),
    *("text", "verdict"),
}
OF_ITS_KIND = {"producer": {"schedule", "units"}, "consumer": {"settling", "units"}}


def producer_plan(directory):
    return ProducerPlan(
        endpoint=Endpoint(),
        recipe=RECIPE,
        number=0,
        count=1,
        directory=directory,
        exchange="x",
        routing_key="k",
    )


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_a_worker_imports_nothing_that_its_plan_does_not_need(tmp_path, kind):
    plan = producer_plan(tmp_path) if kind == "producer" else consumer_plan(RECIPE, (1,), tmp_path)
    program = (
        f"import pickle\nfrom rmqbench.runner import workers\npickle.loads({pickle.dumps(plan)})"
    )
    loaded = loaded_by(program)
    assert packages(loaded) & UNNEEDED == set()
    ours = {tuple(each.split(".")[1:]) for each in ours_in(loaded)}
    assert {each[0] for each in ours if each} == ROOMS | OF_ITS_KIND[kind]
    assert {each for each in ours if each[:1] == ("runner",)} == {
        ("runner",),
        ("runner", "workers"),
    }
    own, others = ("producer", "recording_consumer")[:: 1 if kind == "producer" else -1]
    assert ("clients", own) in ours
    assert ("clients", others) not in ours
