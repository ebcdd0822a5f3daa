"""A result as a person sees it, whatever its queues are."""

from dataclasses import replace

import pytest

import rmqbench
from rmqbench.report.terminal import render, result_view
from rmqbench.results.metrics import Throughput
from rmqbench.results.result import QueueFigures, Result
from rmqbench.verdict.findings import Effect, Finding, FindingName, Judgement, Verdict

QUICK = Throughput(10, 1.0, 10.0, 1.0)


def a_result(tmp_path, scenario):
    figures = QueueFigures({}, 10, 0, 10, 0, QUICK)
    return Result(
        run="0",
        scenario=scenario.as_dict(),
        broker={"version": "4.3.6", "endpoint": "amqp://here", "how": "a stand-in"},
        verdict=Verdict(Judgement.PASS),
        messages=10,
        confirmed=10,
        queues=dict.fromkeys(scenario.queue_names, figures),
        publish=QUICK,
        confirm_latency=None,
        peak_rss_mib=1.0,
        directory=tmp_path,
    )


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["quorum"], "mine, quorum queue, 2 consumers"),
        (["classic", "classic"], "mine, classic queues, 2 consumers"),
        (["classic", "quorum", "classic"], "mine, classic and quorum queues, 2 consumers"),
    ],
)
def test_any_number_of_queues_is_described(tmp_path, kinds, said):
    queues = [
        rmqbench.ConsumedQueue(f"queue {n}", kind, consumers=2) for n, kind in enumerate(kinds)
    ]
    scenario = rmqbench.Scenario("mine", tuple(queues))
    text = render([result_view(a_result(tmp_path, scenario))], width=100, colour=False)
    assert said in text
    for queue in queues:
        assert queue.name in text


def test_the_figures_of_one_queue_are_those_of_both_halves(tmp_path):
    scenario = rmqbench.Scenario("mine", (rmqbench.ConsumedQueue("only"),))
    plain = a_result(tmp_path, scenario).as_dict()
    assert plain["consume"] == plain["audit"] == plain["queues"]["only"]["consume"]


def test_the_faults_and_what_they_were_allowed_to_take_are_shown(tmp_path):
    """The table has no column for it, and a PASS no text of its own."""
    scenario = rmqbench.faulty("purge-queue", "publish")
    removed = Finding(FindingName.REMOVED, 1166, Effect.ALLOWED, "work.queue", detail="a purge")
    redelivered = Finding(FindingName.REDELIVERED, 7, Effect.ALLOWED, "work.queue")
    verdict = Verdict(Judgement.PASS, (removed, redelivered))
    result = replace(a_result(tmp_path, scenario), verdict=verdict)
    text = render([result_view(result)], width=100, colour=False)
    assert "PASS faults, purge-queue during publish, classic queues, 1 consumer\n" in text
    assert "\nwork.queue: 1,166 removed (allowed): a purge\n" in text
    assert "7 redelivered" not in text, "the table has a column for it"
    assert str(verdict).startswith("PASS: what was found is allowed\n")
    assert str(Verdict(Judgement.PASS)).startswith("PASS: nothing was found")
