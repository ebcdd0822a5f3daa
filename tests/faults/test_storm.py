"""All clients lose their connections at once, and all of them come back."""

import pytest

from rmqbench import run, storm

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("fault", ["restart-broker", "kill-broker"])
def test_all_clients_come_back(own_broker, tmp_path, fault, kind):
    scenario = storm(
        fault,
        messages=20_000,  # more than it is through with before the node is down
        producers=20,
        consumers=20,
        queue_kind=kind,
        rest_s=12.0 if kind == "quorum" else 3.0,
    )
    result = run(scenario, own_broker, directory=tmp_path / "run")
    result.verdict.require_pass()
    (note,) = (each for each in result.notes if "connected again" in each)
    assert note.startswith("41 of 41 clients were connected again, the last one ")
