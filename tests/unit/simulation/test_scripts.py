"""The scripts that are played against a real broker, too (tests/parts), run on the model."""

import pytest
from support.lockstep import ModelParty, play
from support.scripts import SCRIPTS, operating, restarting


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5", "4.3.6"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_script_runs_on_the_model(script, version, kind):
    require_played(script, version, kind)


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5", "4.3.6"])
@pytest.mark.parametrize(
    "script", [*operating.NEEDING_THE_NODE, restarting.killed, restarting.stopped]
)
def test_a_script_of_the_node_runs_on_the_model(script, version):
    require_played(script, version, "classic")


def require_played(script, version, kind):
    notes = play(script, ModelParty(version), kind)
    assert not [each for each in notes if "has ended" in each]
