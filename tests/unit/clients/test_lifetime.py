"""Many clients open connections at an even pace, from the first one on."""

import itertools

import pytest

from rmqbench.clients.lifetime import Churn, Lifetime

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st


def ends(churn, count):
    """Return when the first connections of a client end, if each begins as the last one ends."""
    now = [0.0]
    lifetime = Lifetime(churn, lambda: now[0])
    moments = []
    for _ in range(count):
        lifetime.begin()
        assert not lifetime.is_over
        while not lifetime.is_over:
            now[0] += 1 / 64
        moments.append(now[0])
    return moments


def test_without_churn_a_connection_lives_for_good():
    lifetime = Lifetime(None, lambda: 1e300)
    assert not lifetime.is_over
    lifetime.begin()
    assert not lifetime.is_over


def test_before_its_first_connection_no_lifetime_is_over():
    assert not Lifetime(Churn(1, 1), lambda: 1e9).is_over


@given(st.integers(1, 8), st.sampled_from([1, 2, 4, 8]), st.integers(0, 50))
def test_all_clients_together_open_as_many_a_second_as_asked_for(clients, per_s, first):
    churns = [Churn(per_s, clients, first + number) for number in range(clients)]
    moments = sorted(itertools.chain(*(ends(churn, 3) for churn in churns)))
    assert moments == pytest.approx([(n + 1) / per_s for n in range(3 * clients)], abs=0.07)
