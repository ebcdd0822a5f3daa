"""Rates and durations are read as people write them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.errors import UsageError
from rmqbench.units import read_per_second, read_seconds

NUMBERS = st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("0.5s", 0.5),
        ("30m", 1800),
        ("8h", 28_800),
        ("1h30m", 5400),
        ("1d", 86_400),
        ("-5", -5),  # which the scenario refuses, by its name
    ],
)
def test_a_duration_has_units(text, seconds):
    assert read_seconds(text) == seconds


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_the_parts_of_a_duration_add_up(days, hours, minutes, seconds):
    text = f"{days}d{hours}h{minutes}m{seconds}s"
    assert read_seconds(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@pytest.mark.parametrize(
    "text", ["", "h", "8 h", "8x", "1.2.3s", "30m!", "!30m", "5m5", "nan", "inf", "1e999"]
)
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"is no duration\. Write it such as 90s or 8h"):
        read_seconds(text)


@pytest.mark.parametrize(("text", "rate"), [("50", 50), ("50/s", 50), ("0.5/s", 0.5)])
def test_a_rate_is_a_number_a_second(text, rate):
    assert read_per_second(text) == rate


@pytest.mark.parametrize("text", ["", "/s", "x", "50/m", "nan/s", "inf", "50/s/s"])
def test_what_is_no_rate_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"no number of times a second\. Write it such as 50/s"):
        read_per_second(text)


@given(st.text())
def test_any_text_is_a_number_or_wrong_usage(text):
    for read in (read_per_second, read_seconds):
        with suppress(UsageError):
            assert isinstance(read(text), float | int)
