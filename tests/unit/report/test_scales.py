"""Values stand where they belong, and are written in few characters that people read."""

import itertools
import math

import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.report.html.scales import Linear, Log, duration_text, milliseconds_text, short

spans = st.tuples(st.floats(0, 1e9), st.floats(1e-3, 1e9)).map(lambda pair: (pair[0], sum(pair)))


@given(spans, st.floats(0, 1))
def test_a_linear_scale_keeps_shares(span, share):
    low, high = span
    scale = Linear(low, high)
    assert scale.at(low + share * (high - low)) == pytest.approx(share, abs=1e-4)
    assert (scale.at(low - 1), scale.at(high + 1)) == (0, 1)


@given(st.floats(1e-3, 1e6), st.floats(1.01, 1e6), st.floats(0, 1))
def test_a_logarithmic_scale_keeps_factors(low, factor, share):
    scale = Log(low, low * factor)
    assert scale.at(low * factor**share) == pytest.approx(share, abs=1e-6)
    assert (scale.at(low / 2), scale.at(0), scale.at(low * factor * 2)) == (0, 0, 1)


@given(spans, st.integers(2, 10))
def test_the_steps_of_a_linear_scale_are_few_inside_and_even(span, most):
    ticks = Linear(*span).ticks(most)
    assert len(ticks) <= most + 1
    assert all(0 <= each.at <= 1 for each in ticks)
    gaps = [b.at - a.at for a, b in itertools.pairwise(ticks)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3) for gap in gaps)


@given(st.floats(1e-3, 1e6), st.floats(20, 1e6))
def test_a_logarithmic_scale_has_steps(low, factor):
    ticks = Log(low, low * factor).ticks(8)
    assert 1 <= len(ticks) <= max(8, math.log10(factor) + 2)
    assert all(0 <= each.at <= 1 for each in ticks)


def test_a_scale_without_an_extent_has_a_step_all_the_same():
    assert [each.text for each in Linear(0, 0).ticks()] == ["0"]
    assert Log(5, 5).at(5) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (12, "12"),
        (1500, "1.5k"),
        (20e6, "20M"),
        (3e9, "3G"),
        (-2500, "-2.5k"),
    ],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "never"),
        (0.35, "350 µs"),
        (12.34, "12.3 ms"),
        (1500, "1.5 s"),
        (90_000, "1.5 min"),
    ],
)
def test_milliseconds_have_the_unit_that_fits(value, text):
    assert milliseconds_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.84, "0.8 s"), (42.4, "42 s"), (600, "10 min"), (4320, "1 h 12 min")]
)
def test_durations_are_as_people_say_them(seconds, text):
    assert duration_text(seconds) == text
