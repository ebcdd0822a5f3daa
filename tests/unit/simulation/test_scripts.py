"""The scripts that are played against a real broker, too (tests/parts), run on the model."""

import pytest
from support.scripts import SCRIPTS
from support.lockstep import ModelParty, play


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5", "4.3.6"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_script_runs_on_the_model(script, version, kind):
    assert play(script, ModelParty(version), kind)
