"""Figures are what they say."""

import pytest

from rmqbench.results.metrics import throughput_of


def test_a_throughput_lasts_from_the_first_start_to_the_last_end():
    phase = throughput_of(
        1000, [(1_000_000_000, 2_000_000_000), (1_500_000_000, 3_000_000_000)], 0.002
    )
    assert phase.seconds == 2.0
    assert phase.rate_per_s == 500
    assert phase.cpu_us_per_message == pytest.approx(2.0)


def test_a_throughput_without_anything_has_no_rate():
    assert throughput_of(0, [], 0.0).rate_per_s == 0
    assert throughput_of(5, [(7, 7), None], 0.0).rate_per_s == 0
