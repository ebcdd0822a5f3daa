"""Whatever happens in a simulated history, all that is said of it can be explained."""

import re

import pytest
from support.drawing import draw
from support.simulated import in_pieces_of, play

import rmqbench

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
pytestmark = pytest.mark.simulation

MANY, PARTS = 100, 10


@pytest.mark.parametrize("part", range(PARTS))
def test_every_finding_and_every_named_message_of_a_history_is_explained(part, tmp_path):
    for seed in range(part, MANY, PARTS):
        directory = tmp_path / str(seed)
        directory.mkdir()
        history = draw(seed)
        verdict = play(history, directory).result.verdict
        with in_pieces_of(history):
            require_explained(directory, verdict)


def require_explained(directory, verdict):
    """Require that a verdict is explained as it is, and the life of each message that it names."""
    account = rmqbench.explain(directory)
    assert account.verdict == verdict
    assert [e.finding for e in account.explanations if e.finding] == [*verdict.findings]
    assert all(line for each in account.explanations for line in each.lines())
    for finding in verdict.findings:
        for message in finding.messages:
            if message.message_id is not None:
                require_life(rmqbench.explain(directory, message.message_id), finding, message)


def require_life(account, finding, message):
    """Require that a life ends as the finding says, and is in the order of time."""
    life = account.message
    assert (life.producer, life.sequence) == (message.producer, message.sequence)
    times = [each.time_ns for each in life.moments]
    assert times == sorted(times)
    assert str(account)
    ends = {end.partition(":")[0]: end for end in life.ends}
    of_queue = ends.get(finding.queue, "")
    if finding.name in {"lost", "removed"}:
        assert re.search(r"lost|removed", of_queue), of_queue
    elif finding.name in {"duplicate", "redelivered", "repeated", "redelivered after ack"}:
        assert re.search(r"delivered \d+ times", of_queue), of_queue
    elif finding.name == "vanished":
        assert "never delivered" in of_queue, of_queue
