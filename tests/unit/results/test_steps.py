"""Latencies that are counted in steps: how exact what is read from them is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.results.steps import (
    add_counts,
    count_of,
    percentile_of,
    read_counts,
    steps_of,
    sum_of,
)

LATENCIES = st.lists(st.integers(0, 1 << 45), min_size=1, max_size=50)


@given(LATENCIES, st.floats(0.1, 100))
def test_a_percentile_is_too_high_by_a_sixty_fourth_at_most(values, percent):
    exact = np.percentile(np.maximum(values, 1), percent, method="inverted_cdf")
    assert exact <= percentile_of(steps_of(np.array(values)), percent) <= exact * (1 + 1 / 64)


@given(LATENCIES)
def test_the_highest_is_exact(values):
    assert percentile_of(steps_of(np.array(values)), 100) == max(*values, 1)


@given(LATENCIES, LATENCIES)
def test_sums_are_those_of_all(some, others):
    both = sum_of([steps_of(np.array(some)), steps_of(np.array(others))])
    assert (both == steps_of(np.array(some + others))).all()


def test_what_is_added_to_a_file_is_there_together(tmp_path):
    assert read_counts(tmp_path) is None
    nothing = np.zeros(0, np.int64)
    add_counts(tmp_path, [np.array([1_000, 2_000]), nothing])
    add_counts(tmp_path, [np.array([5_000_000]), np.array([7])])
    counts, others = read_counts(tmp_path)
    assert (count_of(counts), count_of(others)) == (3, 1)
    assert percentile_of(counts, 50) == pytest.approx(2_000, rel=1 / 64)
    assert percentile_of(counts, 100) == 5_000_000
