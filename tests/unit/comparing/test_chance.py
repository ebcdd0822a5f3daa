"""The two tests come to what counting all cases comes to."""

import itertools

import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.comparing.chance import chance_of_pairs, chance_of_sides

few = st.integers(-4, 4).map(float)


def mean_ranks(values):
    return [
        sum(other < each for other in values) + (sum(other == each for other in values) + 1) / 2
        for each in values
    ]


@given(st.lists(few, max_size=7))
def test_pairs_are_as_likely_as_a_count_of_all_signs_says(differences):
    ranks = mean_ranks([abs(each) for each in differences])
    pairs = [*zip(ranks, differences, strict=True)]
    seen = sum(rank for rank, each in pairs if each < 0)
    seen += sum(rank for rank, each in pairs if each == 0) / 2
    cases = [*itertools.product((0, 1), repeat=len(ranks))]
    as_far = sum(
        sum(rank for rank, taken in zip(ranks, case, strict=True) if taken) >= seen
        for case in cases
    )
    assert chance_of_pairs(differences) == pytest.approx(as_far / len(cases))


@given(st.lists(few, max_size=4), st.lists(few, max_size=4))
def test_sides_are_as_likely_as_a_count_of_all_choices_says(lower, higher):
    ranks = mean_ranks([*lower, *higher])
    seen = sum(ranks[: len(lower)])
    cases = [*itertools.combinations(ranks, len(lower))]
    assert chance_of_sides(lower, higher) == pytest.approx(
        sum(sum(case) <= seen for case in cases) / len(cases)
    )


def test_the_least_chances_are_those_of_the_tables():
    assert chance_of_pairs([-1, -2, -3, -4, -5]) == 1 / 32
    assert chance_of_pairs([1, -2, -3, -4, -5]) == 2 / 32
    assert chance_of_sides([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == 1 / 252
    assert chance_of_pairs([]) == chance_of_sides([], [1.0]) == chance_of_sides([1.0], []) == 1


def test_many_are_counted_soon():
    assert 0.4 < chance_of_pairs([1, -1] * 20) < 0.6
    assert 0.4 < chance_of_sides([1, 2] * 15, [1, 2] * 15) < 0.65
