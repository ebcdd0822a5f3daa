"""A limit is exceeded only where the broker exceeds it, and kept only where that is known."""

from dataclasses import replace

import pytest

from rmqbench.errors import UsageError
from rmqbench.limits import FIGURES, LATENCIES, Limit
from rmqbench.results.latencies import Latency, Percentiles
from rmqbench.results.limits import checked
from rmqbench.verdict.findings import Judgement

PASS, FAIL, INCONCLUSIVE = Judgement.PASS, Judgement.FAIL, Judgement.INCONCLUSIVE


def percentiles(ms, missing=0):
    return Percentiles(1000, missing, *[ms] * 6, max_ms=ms or 0.0)


def latency(ms, without_lag=None, missing=0):
    known = percentiles(ms, missing)
    return Latency(
        *(getattr(known, name) for name in Percentiles.__slots__),
        without_lag=percentiles(ms if without_lag is None else without_lag),
    )


def outcomes(limits, confirm=None, **queues):
    queues = {
        name: pair if isinstance(pair, tuple) else (pair, None) for name, pair in queues.items()
    }
    return [each.outcome for each in checked(limits, confirm, queues)]


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (latency(20.0), PASS),
        (latency(20.0, without_lag=1.0), PASS),
        (latency(20.1), FAIL),
        (latency(100.0, without_lag=20.1), FAIL),
        (latency(100.0, without_lag=20.0), INCONCLUSIVE),
        (None, INCONCLUSIVE),
    ],
)
def test_what_only_the_producers_own_lag_exceeds_is_not_known(measured, expected):
    assert outcomes(["confirm.p99_ms <= 20"], measured) == [expected]


def test_what_is_missing_took_longer_than_any():
    never = replace(latency(5.0), p99_ms=None, missing=50)
    (known,) = checked(["confirm.p99_ms <= 20"], replace(never, without_lag=never), {})
    assert (known.outcome, known.ms) == (FAIL, None)
    assert str(known) == "confirm.p99_ms <= 20: never, exceeded"
    # What was due and not sent at all may be the producers' own doing.
    assert outcomes(["confirm.p99_ms <= 20"], never) == [INCONCLUSIVE]
    assert outcomes(["confirm.p50_ms <= 20"], never) == [PASS]
    assert outcomes(["confirm.max_ms <= 20"], replace(never, without_lag=never)) == [FAIL]


def test_a_limit_on_deliveries_is_for_each_queue():
    pairs = {"work": (latency(5.0), latency(30.0)), "audit": (latency(50.0), latency(1.0))}
    found = list(checked(["delivery.p50_ms <= 20", "acknowledge.p50_ms <= 20"], None, pairs))
    assert [(each.queue, each.outcome) for each in found] == [
        ("work", PASS),
        ("audit", FAIL),
        ("work", FAIL),
        ("audit", PASS),
    ]
    assert str(found[1]) == "delivery.p50_ms <= 20 of audit: 50 ms, exceeded"


@pytest.mark.parametrize(("ms", "expected"), [(14.9, PASS), (15.1, INCONCLUSIVE), (25.1, FAIL)])
def test_what_the_clocks_of_two_hosts_may_differ_by_is_not_known(ms, expected):
    queues = {"work": (latency(ms), None)}
    (found,) = checked(["delivery.p99_ms <= 20"], None, queues, clocks_differ_ms=5)
    assert found.outcome is expected
    (confirm,) = checked(["confirm.p99_ms <= 20"], latency(19.0), queues, clocks_differ_ms=5)
    assert confirm.outcome is PASS, "one host alone has seen it"


@pytest.mark.parametrize("latency_name", LATENCIES)
@pytest.mark.parametrize("figure", FIGURES)
def test_a_limit_is_read_as_it_is_written(latency_name, figure):
    limit = Limit.of(f" {latency_name}.{figure}<=2.5 ")
    assert limit == Limit(latency_name, figure, 2.5)
    assert Limit.of(str(limit)) == limit


@pytest.mark.parametrize(
    "text",
    ["", "p99 <= 5", "delivery.p98_ms <= 5", "delivery.p99_ms < 5", "delivery.p99_ms <= fast"]
    + [f"delivery.p99_ms <= {value}" for value in ("0", "-1", "nan", "inf", "")],
)
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(UsageError, match="is no limit on a latency") as error:
        Limit.of(text)
    assert "delivery.p99_ms <= 20" in error.value.remedy
