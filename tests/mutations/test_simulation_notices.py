"""Simulated histories alone notice each rule of the judge that is off, within a few thousand."""

import subprocess
import sys

import pytest
from support.mutations.of_histories import RULES

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
pytestmark = pytest.mark.mutation

HISTORIES = 3_000
LIMIT_S = 570

# Plays histories from the first seed on until the verdict on one is not the truth.
PLAY = """
import logging
import sys
from pathlib import Path

import rmqbench
assert Path(rmqbench.__file__).is_relative_to(Path.cwd()), rmqbench.__file__
logging.disable(logging.CRITICAL)
from support.drawing import draw
from support.oracle import disagreements
from support.simulated import play

for seed in range(int(sys.argv[1])):
    try:
        wrong = disagreements(play(draw(seed)))
    except Exception as error:
        wrong = [f"{type(error).__name__}: {error}"]
    if wrong:
        print(seed + 1, "; ".join(wrong))
        break
"""


def histories_needed(copy, rule):
    """Return how many histories it takes to notice, and what was noticed; None for too many."""
    with copy._changed(rule):
        ended = subprocess.run(
            [sys.executable, "-c", PLAY, str(HISTORIES)],
            cwd=copy.directory,
            env={"PYTHONPATH": f"{copy.directory}:{copy.directory / 'tests'}", "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT_S,
        )
    number, _, what = ended.stdout.strip().partition(" ")
    return (int(number), what) if number else None


@pytest.mark.quick
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_that_is_off_is_noticed_by_simulated_histories_alone(copy, rule):
    needed = histories_needed(copy, rule)
    assert needed is not None, f"{HISTORIES} histories do not notice that it is off: {rule.name}"
    print(f"{rule.name}: {needed[0]} histories ({needed[1]})")
