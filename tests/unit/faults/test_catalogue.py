"""Faults as values, and that none is for a broker that is not ours."""

import pytest

from rmqbench import Broker, Endpoint, Fault, Run, faults, faulty
from rmqbench.errors import UsageError
from rmqbench.faults import FAULTS

NOT_OURS = Broker("external", Endpoint(), "4.3.6", "named by its URL")


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_is_for_a_broker_that_is_not_ours(name, tmp_path):
    with pytest.raises(UsageError, match="not ours"), faults.inject(name, NOT_OURS):
        raise AssertionError("it was entered")
    with pytest.raises(UsageError, match="not ours"):
        Run(faulty(name), NOT_OURS, directory=tmp_path / "run")


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_a_scenario_for_each_of_its_phases(name):
    assert faulty(name) == faulty(name, FAULTS[name].phases[0])
    for phase in FAULTS[name].phases:
        scenario = faulty(name, phase)
        assert scenario.faults == (Fault(name, phase),)
        assert set(scenario.allowed) == FAULTS[name].expected
        # Only the phase in question is slowed down.
        slow = {"publish": scenario.publish_rate, "drain": scenario.queues[0].consume_rate}
        assert {each for each, rate in slow.items() if rate} == {phase} - {"backlog"}


def test_what_is_published_again_is_not_expected_to_stay_indeterminate():
    assert "indeterminate" in faulty("kill-broker").allowed
    assert "indeterminate" not in faulty("kill-broker", publish_again=True).allowed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("nonsense",), "no fault 'nonsense'"),
        (("kill-consumer", "publish"), "not for the phase 'publish'"),
        (("kill-broker", "lunch"), "not for the phase 'lunch'"),
        (("kill-broker", "publish", -1), "after_messages is -1"),
        (("pause-broker", "publish", 1, -0.5), "lasting_s is -0.5"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(given, words):
    with pytest.raises(UsageError, match=words):
        Fault(*given)
