"""The highest rate that is kept is found, to the precision that was asked for, in few trials."""

import math

import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.capacity.search import Search


def searched(search, keeps):
    trials = 0
    while (rate := search.rate) is not None:
        search.tell(kept=keeps(rate))
        trials += 1
        assert trials < 100, "it goes on for ever"
    return trials


@given(
    limit=st.floats(2.0, 4e6),
    start=st.floats(1.0, 1e6),
    factor=st.sampled_from([1.25, 2.0]),
    precision=st.floats(0.01, 0.5),
)
def test_what_is_found_is_kept_and_a_little_more_is_not(limit, start, factor, precision):
    search = Search(start, factor=factor, precision=precision)
    trials = searched(search, lambda rate: rate <= limit)
    assert search.kept <= limit < search.not_kept
    assert search.not_kept <= search.kept * (1 + precision)
    steps = abs(math.log(limit / start, factor)) + 2
    halvings = math.log2(math.log(factor) / math.log(1 + precision)) + 2
    assert trials <= steps + max(0, halvings)


def test_where_no_rate_is_kept_it_ends():
    search = Search(1000)
    assert searched(search, lambda rate: False) == 10
    assert search.kept == 0


def test_where_every_rate_is_kept_it_ends():
    search = Search(1000)
    assert searched(search, lambda rate: True) == 14
    assert search.not_kept == math.inf
