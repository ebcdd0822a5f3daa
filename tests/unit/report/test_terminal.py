"""A result as a person sees it, whatever its queues are."""

from dataclasses import replace

import pytest

import rmqbench
from rmqbench.report.terminal import render, result_line, result_view
from rmqbench.results.latencies import Latency, Percentiles
from rmqbench.results.limits import LimitCheck, LimitError
from rmqbench.results.metrics import Throughput
from rmqbench.results.result import Event, QueueFigures, Result
from rmqbench.results.sums import QueueSum
from rmqbench.verdict.findings import Effect, Finding, FindingName, Judgement, Verdict, VerdictError

QUICK = Throughput(10, 1.0, 10.0, 1.0)


def a_result(tmp_path, scenario):
    figures = QueueFigures({}, 10, 0, QueueSum(10, 10, *[0] * 5), 10, 0, QUICK)
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


PERCENTILES = Percentiles(10, 2, 0.5, 1.0, 2.0, 30.0, 123.4, None, 1234.5)


def with_latencies(tmp_path, *limits):
    result = a_result(tmp_path, rmqbench.latency())
    latency = Latency(
        *(getattr(PERCENTILES, name) for name in Percentiles.__slots__), without_lag=PERCENTILES
    )
    queues = {
        name: replace(queue, delivery_latency=latency) for name, queue in result.queues.items()
    }
    return replace(
        result, queues=queues, confirm_latency=latency, lag=PERCENTILES, limits=tuple(limits)
    )


def test_the_latencies_of_an_open_load_are_shown_each_in_a_line(tmp_path):
    text = render([result_view(with_latencies(tmp_path))], width=120, colour=False)
    figures = "p50 0.5, p95 2, p99 30, p99.9 123, max 1,234 ms; 2 missing"
    for what in ("confirm", "deliver work.queue", "deliver audit.queue", "send (its own lag)"):
        assert f"\ndue to {what}: {figures}\n" in text
    assert "acknowledge" not in text
    assert "confirm latency" not in text, "once is enough"


@pytest.mark.parametrize(
    ("outcome", "code"), [(Judgement.PASS, 0), (Judgement.FAIL, 1), (Judgement.INCONCLUSIVE, 3)]
)
def test_a_limit_decides_the_outcome_beside_the_verdict(tmp_path, outcome, code):
    check = LimitCheck("delivery.p99_ms <= 20", "work.queue", 30.0, outcome)
    result = with_latencies(tmp_path, check)
    assert result.verdict.passed
    assert (result.outcome, result.passed, result.exit_code) == (outcome, code == 0, code)
    text = render([result_view(result)], width=120, colour=False)
    assert text.startswith(f"{outcome} latency, ")
    assert f"\n{check}\n" in text
    line = render([result_line(result)], width=1000, colour=False)
    assert (str(check) in line) is (code != 0)
    if code:
        with pytest.raises(LimitError, match=r"delivery\.p99_ms <= 20 of work\.queue: 30 ms"):
            result.require_pass()
        assert result.why == str(check)
    else:
        result.require_pass()


@pytest.mark.parametrize(
    ("verdict", "limit", "outcome", "code"),
    [
        (Judgement.FAIL, Judgement.PASS, Judgement.FAIL, 1),
        (Judgement.FAIL, Judgement.INCONCLUSIVE, Judgement.FAIL, 1),
        (Judgement.INCONCLUSIVE, Judgement.FAIL, Judgement.FAIL, 1),
        (Judgement.INCONCLUSIVE, Judgement.PASS, Judgement.INCONCLUSIVE, 3),
    ],
)
def test_the_worse_of_verdict_and_limits_counts(tmp_path, verdict, limit, outcome, code):
    check = LimitCheck("confirm.p99_ms <= 20", None, 30.0, limit)
    lost = (Finding(FindingName.LOST, 1, Effect.FAILS, "work.queue"),)
    judged = Verdict(verdict, lost if verdict is Judgement.FAIL else (), reasons=("it is open",))
    result = replace(with_latencies(tmp_path, check), verdict=judged)
    assert (result.outcome, result.exit_code) == (outcome, code)
    assert "it is open" in result.why
    with pytest.raises(VerdictError):
        result.require_pass()


def test_unknown_outcomes_and_a_limit_exceeded_are_a_plain_fail(tmp_path):
    unknown = Verdict(Judgement.FAIL, (Finding(FindingName.UNSENT, 1, Effect.FAILS),))
    check = LimitCheck("confirm.p99_ms <= 20", None, 30.0, Judgement.FAIL)
    assert replace(with_latencies(tmp_path), verdict=unknown).exit_code == 5
    assert replace(with_latencies(tmp_path, check), verdict=unknown).exit_code == 1
