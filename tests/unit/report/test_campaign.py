"""A campaign as a person sees it: all runs, the medians, and what did not pass."""

import re

import pytest
from support.campaigns import LOST, PASSED, UNKNOWN, a_campaign, a_result

from rmqbench.campaign.result import CampaignResult, RunOutcome, RunState
from rmqbench.errors import BrokerUnavailable
from rmqbench.report.campaign import campaign_view, outcome_line, plan_view
from rmqbench.report.terminal import render


def outcomes(verdicts, rates, **tables):
    runs = a_campaign(repeats=len(verdicts), **tables).runs
    for planned in runs:
        verdict, rate = verdicts[planned.repeat - 1], rates[planned.repeat - 1]
        if isinstance(verdict, Exception):
            yield RunOutcome.failed(planned, verdict, "now", 1.0)
        elif verdict is None:
            yield RunOutcome.of(planned)
        else:
            yield RunOutcome.judged(planned, a_result(verdict, rate=rate), "now", 2.0)


def shown(path, verdicts, rates, width=120, **tables):
    result = CampaignResult("nightly", path, tuple(outcomes(verdicts, rates, **tables)))
    return render([campaign_view(result)], width=width, colour=False)


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_the_table_has_each_run_and_the_median_of_those_that_are_alike(tmp_path):
    text = shown(tmp_path, [PASSED] * 3, [1000.0, 3000.0, 2000.0], queue_kind=["lazy", "quorum"])
    assert text.startswith("PASS nightly, 6 runs: 6 PASS\n")
    table = rows(text)[1:-1]
    assert table[:5] == [
        ["verdict", "run", "published/s", "consumed/s", "seconds"],
        ["PASS", "reliability,", "lazy", "#1", "1,000", "1,000", "2.0"],
        ["PASS", "reliability,", "lazy", "#2", "3,000", "3,000", "2.0"],
        ["PASS", "reliability,", "lazy", "#3", "2,000", "2,000", "2.0"],
        ["median", "of", "3", "(spread)", "2,000", "(100%)", "2,000", "(100%)", "2.0", "(0%)"],
    ]
    assert len(table) == 9
    assert text.endswith(f"The evidence lies in {tmp_path}\n")


def test_what_did_not_pass_is_told_under_the_table(tmp_path):
    none = BrokerUnavailable("There is none.", "Start one.")
    text = shown(tmp_path, [PASSED, LOST, none, PASSED, None], [1000.0, 5.0, 0.0, 1000.0, 0.0])
    assert text.startswith("FAIL nightly, 5 runs: 2 PASS, 1 FAIL, 1 ERROR, 1 NOT RUN\n")
    assert re.search(r"\n +median of 2 of 5 \(spread\) +1,000 \(0%\) +1,000 \(0%\)", text)
    assert "\nFAIL reliability #2: 3 lost in work.queue\n" in text
    assert "\nERROR reliability #3: There is none. Start one.\n" in text
    assert ["ERROR", "reliability", "#3", "-", "-", "1.0"] in rows(text)
    assert ["NOT", "RUN", "reliability", "#5", "-", "-", "-"] in rows(text)


def test_one_run_that_passed_has_no_spread(tmp_path):
    assert "median" not in shown(tmp_path, [PASSED, LOST], [1000.0, 1000.0])


def test_the_evidence_of_a_bad_run_is_named_where_there_is_any(tmp_path):
    (planned,) = a_campaign().runs
    (tmp_path / planned.directory_name).mkdir()
    assert f": 3 lost in work.queue ({planned.directory_name})\n" in shown(tmp_path, [LOST], [1.0])


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (LOST, "FAIL"),
        (UNKNOWN, "FAIL (outcomes unknown)"),
        (BrokerUnavailable("There is none."), "ERROR"),
        (None, "INCONCLUSIVE"),
    ],
)
def test_the_headline_is_of_the_worst_run(tmp_path, verdict, word):
    text = shown(tmp_path, [PASSED, verdict], [1.0, 1.0])
    assert text.startswith(f"{word} nightly, 2 runs: ")


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal_drops_no_figure(tmp_path, width):
    text = shown(tmp_path, [PASSED] * 2, [1000.0, 4000.0], width)
    words = " ".join(text.split())
    for said in ("published/s 1,000", "consumed/s 4,000", "seconds 2.0", "2,500 (120%)"):
        assert said in words


def test_a_line_tells_what_became_of_a_run():
    good, bad, none = outcomes([PASSED, LOST, BrokerUnavailable("No\nPASS")], [1000.0, 2.0, 0.0])
    assert outcome_line(good) == "PASS reliability #1: published 1,000/s, consumed 1,000/s, 2.0 s"
    assert outcome_line(bad).endswith("2.0 s: 3 lost in work.queue")
    assert outcome_line(none) == "ERROR reliability #3: 1.0 s: No\\nPASS"
    (planned,) = a_campaign().runs
    stopped = RunOutcome.of(planned, state=RunState.INTERRUPTED, why="It was interrupted.")
    assert outcome_line(stopped) == "INTERRUPTED reliability: It was interrupted."


def test_the_plan_shows_how_often_each_run_is_done():
    campaign = a_campaign(queue_kind=["lazy", "quorum"], run=[{"repeats": 2}, {"duration_s": 5}])
    text = render([plan_view(campaign)], width=100, colour=False)
    assert text.startswith("nightly: 6 runs\n")
    assert [(row[0], row[-2:]) for row in rows(text)[2:]] == [
        ("2", ["local", "10,000"]),
        ("2", ["local", "10,000"]),
        ("once", ["local", "-"]),
        ("once", ["local", "-"]),
    ]
