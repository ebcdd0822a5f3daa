"""A verdict in words: what is lost, and what is only not known, are two things."""

import pytest

from rmqbench.verdict.findings import Effect, Finding, FindingName, Judgement, Verdict

FAILS, ALLOWED = Effect.FAILS, Effect.ALLOWED


def verdict_of(*rows, outcome=Judgement.FAIL, more=()):
    """A verdict of (name, count, effect, queue) each, with the reasons that it would have."""
    findings = tuple(Finding(FindingName(n), count, e, queue) for n, count, e, queue in rows)
    failing = [f"{f.count} {f.name}" for f in findings if f.effect is FAILS]
    return Verdict(outcome, findings, (*failing, *more))


def arrived(*counts):
    """How many of the indeterminate ones arrived: (queue, arrived, missing) each."""
    for queue, here, gone in counts:
        if here:
            yield "survived", here, ALLOWED, queue
        if gone:
            yield "vanished", gone, ALLOWED, queue


INDETERMINATE = ("indeterminate", 1737, FAILS, None)
UNSENT = ("unsent", 12, FAILS, None)


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        (
            [INDETERMINATE, *arrived(("w", 1700, 37), ("a", 1700, 37))],
            "the outcome of 1737 publishes is unknown (1700 of them arrived)",
        ),
        (
            [INDETERMINATE, *arrived(("w", 1700, 37), ("a", 0, 1737))],
            "the outcome of 1737 publishes is unknown (1700 of them arrived in w, 0 in a)",
        ),
        ([INDETERMINATE], "the outcome of 1737 publishes is unknown"),
        ([UNSENT], "12 messages were not sent"),
        (
            [INDETERMINATE, UNSENT, *arrived(("w", 1737, 0))],
            "the outcome of 1737 publishes is unknown (1737 of them arrived); "
            "12 messages were not sent",
        ),
    ],
)
def test_outcomes_that_are_not_known_are_told_from_a_loss(rows, first):
    verdict = verdict_of(*rows, more=["The broker was away."])
    assert verdict.exit_code == 5
    assert not verdict.passed
    lines = str(verdict).splitlines()
    assert lines[0] == f"FAIL: {first}; nothing is known to be lost; The broker was away."
    assert any("--publish-again" in line and "stall_s" in line for line in lines)


@pytest.mark.parametrize("name", ["lost", "nacked", "returned", "corrupted", "removed"])
def test_with_anything_else_that_fails_it_is_a_fail_like_any_other(name):
    verdict = verdict_of(INDETERMINATE, (name, 1, FAILS, "w"))
    assert verdict.exit_code == 1
    assert str(verdict).startswith(f"FAIL: 1737 indeterminate; 1 {name}")
    assert "--publish-again" not in str(verdict)


@pytest.mark.parametrize(
    ("outcome", "code"), [(Judgement.PASS, 0), (Judgement.INCONCLUSIVE, 3), (Judgement.FAIL, 1)]
)
def test_what_a_scenario_allows_changes_no_exit_code(outcome, code):
    allowed = ("indeterminate", 3, ALLOWED, None)
    rows = [allowed, ("lost", 1, FAILS, "w")] if outcome is Judgement.FAIL else [allowed]
    assert verdict_of(*rows, outcome=outcome).exit_code == code
