"""Percentiles of very many values are those of all of them."""

import numpy as np
import pytest

from rmqbench.results.ranks import percentiles, ranked

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

HOUR_NS = 3600 * 10**9


def in_pieces(values, size=3):
    array = np.array(values, np.int64)
    return lambda: (array[at : at + size] for at in range(0, len(array), size))


values = st.lists(
    st.one_of(st.integers(0, 5), st.integers(10**6, 10**6 + 10**5), st.integers(-5, HOUR_NS)),
    min_size=1,
    max_size=40,
)


@given(values=values)
def test_each_rank_has_the_value_that_sorting_gives_it(values):
    assert ranked(in_pieces(values), range(len(values))) == sorted(values)


@given(values=values, of=st.lists(st.floats(0, 100), min_size=1, max_size=4))
def test_percentiles_are_those_of_numpy(values, of):
    expected = np.percentile(np.array(values), of)
    assert percentiles(in_pieces(values), len(values), of) == pytest.approx(expected, rel=1e-9)
