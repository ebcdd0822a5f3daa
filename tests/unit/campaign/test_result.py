"""What came of a campaign: the worst counts, and the median is of those that passed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.campaigns import LOST, OPEN, PASSED, UNKNOWN, a_campaign, a_result

from rmqbench.campaign.result import CampaignResult, RunOutcome, RunState, Spread
from rmqbench.errors import BrokerUnavailable, DeadlineExceeded, UsageError

WORST_FIRST = (1, 5, 4, 2, 3, 0)
ENDS = {
    0: PASSED,
    1: LOST,
    5: UNKNOWN,
    3: OPEN,
    4: BrokerUnavailable("There is none."),
    2: UsageError("That makes no sense."),
}


def ended(planned, end, rate=1000.0):
    if isinstance(end, Exception):
        return RunOutcome.failed(planned, end, "now", 1.0)
    return RunOutcome.judged(planned, a_result(end, rate=rate), "now", 1.0)


def result_of(*ends):
    runs = a_campaign(repeats=len(ends)).runs
    outcomes = (
        RunOutcome.of(planned) if end is None else ended(planned, end)
        for planned, end in zip(runs, ends, strict=True)
    )
    return CampaignResult("nightly", Path("/nowhere"), tuple(outcomes))


@pytest.mark.parametrize("code", ENDS)
def test_a_run_has_the_exit_code_that_it_would_have_alone(code):
    result = result_of(ENDS[code])
    assert (result.exit_code, result.runs[0].exit_code) == (code, code)
    assert result.finished


@given(st.lists(st.sampled_from(sorted(ENDS)), min_size=1, max_size=5))
def test_the_exit_code_is_that_of_the_worst_run(codes):
    result = result_of(*(ENDS[code] for code in codes))
    assert result.exit_code == next(code for code in WORST_FIRST if code in codes)


def test_a_campaign_that_is_not_finished_has_not_passed():
    result = result_of(PASSED, None)
    assert (result.exit_code, result.finished) == (3, False)
    assert result_of(LOST, None).exit_code == 1


def test_an_error_is_no_verdict_and_a_bug_is_an_error():
    (planned,) = a_campaign().runs
    late = RunOutcome.failed(planned, DeadlineExceeded("Too late.", "Wait."), "now", 1.0)
    assert (late.state, late.exit_code, late.why) == (RunState.ERROR, 3, "Too late. Wait.")
    bug = RunOutcome.failed(planned, KeyError("tag"), "now", 1.0)
    assert (bug.state, bug.exit_code, bug.why) == (RunState.ERROR, 3, "KeyError: 'tag'")
    assert not late.has_verdict


@given(st.lists(st.floats(1, 1e6), min_size=1))
def test_a_spread_holds_all_its_numbers(values):
    spread = Spread.of([None, *values])
    assert spread.least <= spread.median <= spread.most
    assert {spread.least, spread.most} <= set(values)
    assert (spread.percent == 0) == (spread.least == spread.most)


def test_the_median_is_of_the_repeats_that_passed():
    runs = a_campaign(repeats=4, queue_kind=["classic", "quorum"]).runs
    rates = {1: 100.0, 2: 300.0, 3: 200.0, 4: 9999.0}
    outcomes = [
        ended(each, LOST if each.repeat == 4 else PASSED, rates[each.repeat]) for each in runs
    ]
    first, second = CampaignResult("nightly", Path("/nowhere"), tuple(outcomes)).alike
    assert (first.title, second.title) == ("reliability, classic", "reliability, quorum")
    for each in (first, second):
        assert (each.passed, len(each.runs)) == (3, 4)
        assert each.publish_rate_per_s == each.consume_rate_per_s == Spread(200.0, 100.0, 300.0)
        assert each.as_dict()["publish_rate_per_s"] == {
            "median": 200.0,
            "least": 100.0,
            "most": 300.0,
        }
    assert Spread.of([None]) is None
