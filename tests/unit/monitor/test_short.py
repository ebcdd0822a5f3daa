"""Numbers and names, short enough for a card."""

import pytest

from rmqbench.monitor.short import line, short, short_bytes, short_rate

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st
from support.pictures import HOSTILE


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1K"),
        (1234, "1.2K"),
        (9_949, "9.9K"),
        (9_960, "10K"),
        (10_000, "10K"),
        (12_345, "12K"),
        (999_499, "999K"),
        (999_500, "1M"),
        (1_500_000, "1.5M"),
        (12_000_000_000, "12G"),
    ],
)
def test_numbers_are_short(number, words):
    assert short(number) == words


@given(st.integers(0, 10**20))
def test_no_number_is_longer_than_four_characters(number):
    assert len(short(number)) <= 4


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0, "0/s"),
        (0.04, "<0.1/s"),
        (0.2, "0.2/s"),
        (9.96, "10/s"),
        (61.4, "61/s"),
        (1500, "1.5K/s"),
    ],
)
def test_a_slow_rate_is_not_nothing(rate, words):
    assert short_rate(rate) == words


def test_bytes_have_units():
    assert [short_bytes(each) for each in (0, 999, 1500, 2_000_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2 MB",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_text_is_one_printable_line(name):
    shown = line(name)
    assert shown.isprintable()
    assert "\ufe0f" not in shown
