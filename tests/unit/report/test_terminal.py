"""A result as a person sees it, whatever its queues are."""

from dataclasses import replace

import pytest

import rmqbench
from rmqbench.report.terminal import render, result_view
from rmqbench.results.metrics import Throughput
from rmqbench.results.result import Event, QueueFigures, Result
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


def test_a_fault_that_struck_several_times_is_named_once(tmp_path):
    result = a_result(tmp_path, rmqbench.soak(fault="kill-broker"))
    text = render([result_view(result)], width=100, colour=False)
    assert "soak, kill-broker during publish (5 times), classic queues, 1 consumer\n" in text


@pytest.mark.parametrize(("interruptions", "shown", "more"), [(10, 10, ""), (11, 3, "8 more")])
def test_of_many_interruptions_in_a_row_the_first_ones_are_shown(
    tmp_path, interruptions, shown, more
):
    scenario = rmqbench.online()
    events = [
        Event(0, "stage", "publish"),
        Event(1_000_000_000, "fault", "restart-broker: it is restarted"),
        *(
            Event(2_000_000_000 + n * 10_000_000, "interruption", f"client {n} was interrupted")
            for n in range(interruptions)
        ),
        Event(3_000_000_000, "fault", "restart-broker is over"),
        Event(4_000_000_000, "interruption", "client 99 was interrupted"),
    ]
    result = replace(a_result(tmp_path, scenario), events=tuple(events))
    text = render([result_view(result)], width=100, colour=False)
    lines = [line for line in text.splitlines() if "was interrupted" in line]
    assert len(lines) == shown + 1
    assert "client 99" in lines[-1]
    if more:
        assert "   2.10 s  8 more interruptions up to here" in text.splitlines()
    else:
        assert "more interruption" not in text
    assert "restart-broker is over" in text
