"""Trials at rising rates, each a run that is judged, come to a rate, or to the reason for none."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import rmqbench
from rmqbench.broker import Broker
from rmqbench.capacity import measure_capacity, measuring
from rmqbench.endpoint import Endpoint
from rmqbench.errors import UsageError
from rmqbench.report.capacity import capacity_view, trial_line
from rmqbench.report.terminal import render
from rmqbench.results.limits import LimitCheck
from rmqbench.results.metrics import Throughput
from rmqbench.results.result import QueueFigures, Result
from rmqbench.results.sums import QueueSum
from rmqbench.verdict.findings import Effect, Finding, FindingName, Judgement, Verdict

PASS, FAIL, INCONCLUSIVE = Judgement.PASS, Judgement.FAIL, Judgement.INCONCLUSIVE
BROKER = Broker("external", Endpoint(), "4.3.6", "named by its URL")
LIMIT = "delivery.p99_ms <= 20"
SCENARIO = rmqbench.latency(limits=(LIMIT,))
NONE = Throughput(0, 0.0, 0.0, 0.0)


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measure with trials that come to what a function makes of each rate."""

    def measure(outcome, verdict=lambda rate: Verdict(PASS), scenario=SCENARIO, **more):
        def run(scenario, broker, *, directory, watch, **_):
            rate = scenario.publish_rate
            assert broker is BROKER
            watch(None)
            return Result(
                run="0",
                scenario=scenario.as_dict(),
                broker={},
                verdict=verdict(rate),
                messages=1,
                confirmed=1,
                queues={"work.queue": QueueFigures({}, 0, 0, QueueSum(*[0] * 7), 0, 0, NONE)},
                publish=NONE,
                confirm_latency=None,
                peak_rss_mib=0.0,
                directory=Path(directory),
                limits=(LimitCheck(LIMIT, "work.queue", rate / 100, outcome(rate)),),
            )

        monkeypatch.setattr(measuring, "run", run)
        return measure_capacity(scenario, BROKER, directory=tmp_path / "c", **more)

    return measure


def up_to(most, beyond=FAIL):
    return lambda rate: PASS if rate <= most else beyond


def test_each_search_finds_the_rate_again(measure):
    seen = []
    result = measure(up_to(5300), changed=lambda now: seen.append(len(now.trials)))
    assert len(result.rates_per_s) == 3
    assert all(5300 / 1.05 <= each <= 5300 for each in result.rates_per_s)
    assert result.rate_per_s == sorted(result.rates_per_s)[1]
    assert (result.exit_code, result.failed, result.limited_by_rmqbench) == (0, "", False)
    assert seen == [*range(1, len(result.trials) + 1), len(result.trials)]
    first, *others = (
        [trial for trial in result.trials if trial.search == number] for number in (1, 2, 3)
    )
    assert [trial.rate_per_s for trial in first[:4]] == [1000, 2000, 4000, 8000]
    for each in others:
        assert each[0].rate_per_s in result.rates_per_s, "the next search looks near the last"
        assert len(each) < len(first)
    assert [each.directory for each in result.trials][:2] == ["trial-01", "trial-02"]
    written = json.loads((result.directory / "capacity.json").read_text())
    assert written == json.loads(json.dumps(result.as_dict()))


def test_a_rate_that_rmqbench_could_not_keep_itself_is_said(measure):
    result = measure(up_to(5300, INCONCLUSIVE), searches=1)
    assert result.limited_by_rmqbench
    assert result.exit_code == 0
    text = render([capacity_view(result)], width=120, colour=False)
    assert "rmqbench itself was late: the broker may do more" in text
    assert "not known: rmqbench was late" in trial_line(result.trials[3])


def test_lateness_above_a_rate_that_the_broker_did_not_keep_says_nothing(measure):
    result = measure(lambda rate: up_to(5300)(rate) if rate < 8000 else INCONCLUSIVE, searches=1)
    assert any(each.late for each in result.trials)
    assert not result.limited_by_rmqbench


def test_a_trial_that_loses_messages_ends_it(measure):
    lost = Verdict(
        FAIL,
        (Finding(FindingName.LOST, 3, Effect.FAILS, "work.queue"),),
        reasons=("3 lost in work.queue",),
    )
    result = measure(up_to(1e9), lambda rate: lost if rate > 3000 else Verdict(PASS))
    assert len(result.trials) == 3
    assert result.failed == "trial-03, at 4,000/s: 3 lost in work.queue"
    assert (result.exit_code, result.finished, result.rate_per_s) == (1, False, None)
    assert render([capacity_view(result)], width=120, colour=False).count("FAIL trial-03") == 1


def test_a_verdict_that_is_open_is_tried_once_more_and_then_ends_it(measure):
    seen = []

    def open_at_2000(rate):
        seen.append(rate)
        is_open = rate == 2000 and seen.count(2000) < 2
        return Verdict(INCONCLUSIVE, reasons=("it is open",)) if is_open else Verdict(PASS)

    result = measure(up_to(5300), open_at_2000, searches=1)
    assert seen[:4] == [1000, 2000, 2000, 4000]
    assert result.exit_code == 0
    assert "its verdict is open" in trial_line(result.trials[1])


def test_a_verdict_that_stays_open_is_no_rate_that_is_not_kept(measure):
    always = lambda rate: Verdict(INCONCLUSIVE, reasons=("it is open",))  # noqa: E731
    result = measure(up_to(5300), always, searches=1)
    assert len(result.trials) == 2
    assert (result.exit_code, result.rate_per_s) == (3, None)
    assert result.failed == "trial-02, at 1,000/s: it is open"


def test_no_rate_is_tried_at_which_a_producer_would_have_no_message(measure):
    scenario = rmqbench.latency(limits=(LIMIT,), producers=50, duration_s=10.0)
    result = measure(up_to(0), scenario=scenario, searches=1)
    assert result.exit_code == 3
    assert min(each.rate_per_s for each in result.trials) >= 5


def test_where_no_rate_is_kept_there_is_none(measure):
    result = measure(up_to(0), searches=1)
    assert (result.exit_code, result.rate_per_s, result.finished) == (3, None, True)
    assert "No rate was found that keeps delivery.p99_ms <= 20" in render(
        [capacity_view(result)], width=120, colour=False
    )


def test_what_is_shown_is_the_median_and_the_spread(measure):
    result = replace(measure(up_to(5300)), rates_per_s=(5000.0, 4000.0, 5250.0))
    text = render([capacity_view(result)], width=120, colour=False)
    assert (
        "PASS 5,000/s keeps delivery.p99_ms <= 20 (median of 3 searches, 4,000 to 5,250/s)" in text
    )
    assert trial_line(result.trials[0]) == "search 1, 1,000/s: kept (10 ms)"


def test_an_interrupt_leaves_what_was_measured(measure, tmp_path):
    @contextmanager
    def following(search, rate):
        if rate > 3000:
            raise KeyboardInterrupt
        yield lambda _: None

    with pytest.raises(KeyboardInterrupt):
        measure(up_to(1e9), following=following)
    written = json.loads((tmp_path / "c" / "capacity.json").read_text())
    assert [each["rate_per_s"] for each in written["trials"]] == [1000, 2000]
    assert (written["finished"], written["exit_code"]) == (False, 3)


@pytest.mark.parametrize(
    ("scenario", "more", "why"),
    [
        (rmqbench.latency(), {}, "and there is none"),
        (rmqbench.online(publish_rate=10.0, limits=(LIMIT,)), {}, "a duration for each trial"),
        (rmqbench.latency(limits=(LIMIT,), publish_rate="10,20"), {}, "steps or ramps"),
        (rmqbench.latency(limits=(LIMIT,), publish_rate="10:20"), {}, "steps or ramps"),
        (SCENARIO, {"searches": 0}, "0 searches"),
        (SCENARIO, {"precision": 0.0}, "a precision of 0 "),
    ],
)
def test_what_cannot_be_searched_for_is_refused_before_anything(
    measure, tmp_path, scenario, more, why
):
    with pytest.raises(UsageError, match=why):
        measure(up_to(1), scenario=scenario, **more)
    assert not (tmp_path / "c").exists()
