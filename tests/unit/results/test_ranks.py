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
    return lambda: ([array[at : at + size]] for at in range(0, len(array), size))


values = st.lists(
    st.one_of(st.integers(0, 5), st.integers(10**6, 10**6 + 10**5), st.integers(-5, HOUR_NS)),
    min_size=1,
    max_size=40,
)


@given(values=values)
def test_each_rank_has_the_value_that_sorting_gives_it(values):
    assert ranked(in_pieces(values), [range(len(values))]) == [sorted(values)]


@given(values=values, of=st.lists(st.floats(0, 100), min_size=1, max_size=4))
def test_percentiles_are_those_of_numpy(values, of):
    expected = np.percentile(np.array(values), of)
    (found,) = percentiles(in_pieces(values), [len(values)], of)
    assert found == pytest.approx(expected, rel=1e-9)


@given(
    st.lists(values, min_size=1, max_size=3), st.lists(st.floats(0, 100), min_size=1, max_size=3)
)
def test_rows_are_gone_through_together_and_keep_apart(rows, of):
    arrays = [np.array(row, np.int64) for row in rows]
    found = percentiles(lambda: iter([arrays]), [len(row) for row in rows], of)
    for each, array in zip(found, arrays, strict=True):
        assert each == pytest.approx(np.percentile(array, of), rel=1e-9)


@given(values, st.integers(0, 40), st.floats(0, 100))
def test_what_lies_among_larger_values_is_not_known(values, beyond, percent):
    (found,) = percentiles(in_pieces(values), [len(values)], [percent], beyond=[beyond])
    place = percent / 100 * (len(values) + beyond - 1)
    expected = np.percentile(np.array([*values, *[10 * HOUR_NS] * beyond]), percent)
    if place <= len(values) - 1:
        assert found == [pytest.approx(expected, rel=1e-9)]
    else:
        assert found == [None]


def test_a_row_without_values_has_no_percentiles():
    nothing = np.zeros(0, np.int64)
    rows = lambda: iter([[nothing, np.array([7])]])  # noqa: E731
    assert percentiles(rows, [0, 1], [50, 99]) == [[None, None], [7, 7]]
