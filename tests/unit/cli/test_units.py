"""Rates and durations are read as people write them."""

import pytest
import typer

from rmqbench.cli.units import _duration, _per_second


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
    assert _duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "8 h", "8x", "1.2.3s", "30m!", "nan", "inf", "1e999"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match=r"such as 90s or 8h"):
        _duration(text)


@pytest.mark.parametrize(("text", "rate"), [("50", 50), ("50/s", 50), ("0.5/s", 0.5)])
def test_a_rate_is_a_number_a_second(text, rate):
    assert _per_second(text) == rate


@pytest.mark.parametrize("text", ["", "/s", "x", "50/m", "nan/s", "inf"])
def test_what_is_no_rate_is_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match=r"such as 50/s"):
        _per_second(text)
