"""What stands in a queue is known to be shown when the broker's figures hold all of it."""

import uuid

import numpy as np
import pytest

from rmqbench.message import Recipe
from rmqbench.runner.backlog import least_bytes
from rmqbench.verdict.evidence import CONFIRMED, NACKED, RETURNED, SENT

RUN = uuid.UUID(int=1)
MIXED = Recipe(RUN, size_bytes="100:1000")
OK = SENT | CONFIRMED
STATES = [
    np.array([OK, OK, SENT, OK], np.uint8),
    np.array([OK | RETURNED, OK, SENT | NACKED], np.uint8),
]
SUM = sum(MIXED.size_of(*each) for each in [(0, 0), (0, 1), (0, 3), (1, 1)])


@pytest.mark.parametrize(
    ("ready", "least"),
    [(4, SUM), (6, SUM + 200), (3, max(SUM - 1000, 300)), (1, 100), (0, 0)],
)
def test_of_mixed_sizes_what_was_confirmed_is_summed_and_the_rest_may_be_of_any_size(ready, least):
    assert least_bytes(MIXED, STATES, ready) == least


@pytest.mark.parametrize("ready", [0, 3, 4, 9])
def test_of_one_size_the_sum_is_exact_however_many_are_ready(ready):
    assert least_bytes(Recipe(RUN, size_bytes=300), STATES, ready) == 300 * ready
