"""A comparison fails where something became worse, and not where it is only noise."""

import random

import pytest

from rmqbench.comparing import Condition, compare
from rmqbench.comparing.conditions import figure_of
from rmqbench.errors import UsageError

SLOWER = Condition.of("publish.rate_per_s < 0.9")


def result(rate, outcome="PASS", p99=10.0):
    throughput = {"rate_per_s": rate, "cpu_us_per_message": 3.0}
    return {
        "outcome": outcome,
        "publish": {**throughput, "confirm_latency": p99 and {"p50_ms": 1.0, "p99_ms": p99}},
        "consume": throughput,
        "peak_rss_mib": 100.0,
        "queues": {"work.queue": {"delivered": 7}},
    }


def noisy(source, level, count, spread=0.05):
    return [result(level * source.gauss(1, spread)) for _ in range(count)]


def test_a_fifth_less_is_seen_and_the_same_is_not_a_fall():
    """Twenty comparisons of a side with itself, and twenty with one that is slowed by a fifth."""
    source = random.Random(7)
    alike = [
        compare(noisy(source, 1000, 5), noisy(source, 1000, 5), [SLOWER], in_pairs=pairs)
        for _ in range(20)
        for pairs in (True, False)
    ]
    assert {each.exit_code for each in alike} == {0}
    slowed = [
        compare(noisy(source, 1000, 5), noisy(source, 800, 5), [SLOWER], in_pairs=pairs)
        for _ in range(20)
        for pairs in (True, False)
    ]
    assert sum(each.exit_code == 1 for each in slowed) >= 36


def test_pairs_see_through_what_disturbs_both_sides():
    """The machine is at times three times as slow: the pairs tell what the sides alone do not."""
    levels = [1000, 400, 900, 330, 1100]
    base, new = [result(each) for each in levels], [result(0.85 * each) for each in levels]
    assert compare(base, new, [SLOWER], in_pairs=True).exit_code == 1
    assert compare(base, new, [SLOWER], in_pairs=False).exit_code == 0


def test_a_change_is_noise_unless_chance_makes_it_seldom():
    base = [result(each) for each in (1000, 1010, 990, 1005, 995)]
    (rate, *_) = compare(base, [result(each) for each in (1001, 1012, 989, 1003, 996)]).changes
    assert rate.figure == "publish.rate_per_s"
    assert rate.is_noise
    (rate, *_) = compare(base, [result(each) for each in (900, 910, 890, 905, 895)]).changes
    assert not rate.is_noise
    assert rate.chance == pytest.approx(1 / 252)
    assert (rate.base, rate.new, rate.ratio) == (1000, 900, 0.9)


def test_of_few_runs_every_ratio_counts_and_it_is_said():
    once = compare([result(1000)], [result(800)], [SLOWER])
    assert once.exit_code == 1
    assert "1 of 5 runs that a test needs" in once.failed[0].why
    assert once.changes[0].chance is None
    assert once.changes[0].is_noise, "nobody knows"
    mixed = compare([result(1000), result(850)], [result(800), result(820)], [SLOWER])
    assert mixed.exit_code == 0


def test_what_rises_is_a_condition_too():
    slower = Condition.of("publish.confirm_latency.p99_ms > 1.5")
    base = [result(1000, p99=10 + n / 10) for n in range(5)]
    new = [result(1000, p99=20 + n / 10) for n in range(5)]
    found = compare(base, new, [slower])
    assert found.exit_code == 1
    assert found.failed[0].condition == "publish.confirm_latency.p99_ms > 1.5"
    assert compare(new, base, [slower]).exit_code == 0


def test_runs_that_did_not_pass_are_named_and_not_compared():
    base = [result(1000), result(1.0, outcome="FAIL")]
    found = compare(base, [result(1000), result(1000)], [SLOWER], names=("4.0", "4.3"))
    assert found.runs == (1, 2)
    assert found.not_passed == ("4.0 2: FAIL",)
    assert found.changes[0].base == 1000
    nothing = compare([result(1, outcome="FAIL")], [result(1)], [SLOWER])
    assert nothing.exit_code == 3
    pairs = compare(base, [result(500), result(1000)], in_pairs=True)
    assert pairs.runs == (1, 1), "with a run its pair goes, too"


def test_a_figure_that_is_not_known_is_left_out_or_refused():
    base, new = [result(1000, p99=None)], [result(1000)]
    names = [each.figure for each in compare(base, new).changes]
    assert "publish.confirm_latency.p99_ms" not in names
    with pytest.raises(UsageError, match="is not known of any run of a side"):
        compare(base, new, [Condition.of("publish.confirm_latency.p99_ms > 2")])


def test_any_number_of_a_result_may_be_compared():
    assert figure_of(result(5.0), "queues.work.queue.delivered") == 7
    for wrong, why in (("publish", "is no number"), ("publish.rate", "has no 'rate'")):
        with pytest.raises(UsageError, match=why):
            figure_of(result(5.0), wrong)


@pytest.mark.parametrize(
    "text", ["", "publish.rate_per_s", "a < b", "a < -1", "a = 1", "a < 0", "< 1"]
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(UsageError, match="is no condition"):
        Condition.of(text)


def test_a_condition_is_read_as_it_is_written():
    for text in ("publish.rate_per_s < 0.9", "queues.work.queue.consume.rate_per_s > 1.5"):
        assert str(Condition.of(text.replace(" ", ""))) == text
