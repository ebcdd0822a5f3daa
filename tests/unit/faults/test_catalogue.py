"""Faults as values, and that none is for a broker that is not ours."""

import pytest

from rmqbench import Broker, Endpoint, Fault, Run, faults, faulty
from rmqbench.errors import FaultUnavailable, UsageError
from rmqbench.faults import FAULTS
from rmqbench.faults.injection import require_able

NOT_OURS = Broker("external", Endpoint(), "4.3.6", "named by its URL")


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_is_for_a_broker_that_is_not_ours(name, tmp_path):
    with pytest.raises(UsageError, match="not ours"), faults.inject(name, NOT_OURS):
        raise AssertionError("it was entered")
    with pytest.raises(UsageError, match="not ours"):
        Run(faulty(name), NOT_OURS, directory=tmp_path / "run")


@pytest.mark.parametrize(
    ("version", "has_it"), [("4.2.9", False), ("4.3.0", True), ("4.10.0", True), ("main", True)]
)
def test_a_fault_that_a_version_has_not_got_is_refused(version, has_it, tmp_path):
    broker = Broker("local", Endpoint(), version, "", object())
    if has_it:
        require_able(broker, "quorum-chaos")
        return
    with pytest.raises(FaultUnavailable, match=r"needs RabbitMQ 4.3.0 or later; this one is 4.2.9"):
        Run(faulty("quorum-chaos"), broker, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
