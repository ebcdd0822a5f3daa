"""The verdict equals the truth, in histories that nobody has thought of.

``pytest -m simulation --rmqbench-histories 20000 --rmqbench-seed 5`` tries so many from a seed on;
the same seed is the same history, to the byte.
"""

import hashlib
from contextlib import suppress
from dataclasses import replace

import pytest
from support.drawing import DRAWN, draw, histories
from support.oracle import disagreements
from support.simulated import Act, History, QueuePlan, play

from rmqbench.errors import RmqbenchError

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings, strategies

from rmqbench.simulation import Misdeed

pytestmark = pytest.mark.simulation

LEAST_PARTS, MOST_HISTORIES = 40, 500  # so that processes can share them, and none takes long


def pytest_generate_tests(metafunc):
    """Part the histories that were asked for."""
    if "part" in metafunc.fixturenames:
        many = metafunc.config.option.rmqbench_histories
        parts = max(LEAST_PARTS, many // MOST_HISTORIES)
        metafunc.parametrize(("part", "parts"), [(part, parts) for part in range(parts)])


def require_true(history):
    """Require that what is said of a history is what is true of it."""
    played = play(history)
    wrong = disagreements(played)
    assert not wrong, f"{'; '.join(wrong)}\n{history}\n{played.result.verdict}"


def test_the_verdict_on_a_history_of_any_seed_is_the_truth(part, parts, request):
    option = request.config.option
    many, first = option.rmqbench_histories, option.rmqbench_seed
    wrong = []
    for seed in range(first + part, first + many, parts):
        played = play(draw(seed))
        if said := disagreements(played):
            wrong.append(f"seed {seed}: {'; '.join(said)}")
    assert not wrong, "\n".join(wrong)


@settings(max_examples=40, derandomize=True)
@given(history=histories())
def test_the_verdict_on_any_history_is_the_truth(history):
    """One that is found here is shrunk to the smallest that still shows it."""
    require_true(history)


@pytest.mark.parametrize("vector", [True, False], ids=["vector", "pika"])
@pytest.mark.parametrize("misdeed", DRAWN, ids=lambda misdeed: misdeed.name.lower())
def test_each_misdeed_alone_is_found_and_nothing_else(misdeed, vector):
    history = History(seed=6, vector=vector, misdeeds=((misdeed, 5),))
    played = play(history)
    done = [each.misdeed for each in played.broker.truth.misdeeds]
    assert done == [misdeed]
    assert not played.result.verdict.passed
    assert not disagreements(played)


def test_a_consumer_that_came_back_by_its_tag_and_falls_silent_may_hold_messages():
    """A classic queue does not count it, and the broker does not know that it is gone."""
    history = History(
        seed=12924,
        window=3,
        queues=(QueuePlan("work", prefetch=1),),
        confirm_delay_s=0.002,
        most_at_once=4,
        latency_s=0.005,
        cancels_every=1,
        acts=(Act(0.3974, "swallow", 3),),
    )
    require_true(history)


def test_a_copy_that_comes_while_a_consumer_is_there_counts_also_where_it_had_left_before():
    history = History(
        seed=3536,
        messages=5,
        producers=2,
        window=1,
        queues=(
            QueuePlan("work", "quorum", consumers=3),
            QueuePlan("audit", "quorum", consumers=3, prefetch=100, auto_ack=True),
        ),
        during=True,
        vector=False,
        publish_again=True,
        confirm_delay_s=0.05,
        delivery_delay_s=0.01,
        grouped=0.5,
        recovery_s=2.0,
        latency_s=0.005,
        cancels_every=2,
        misdeeds=((Misdeed.DOUBLE_FLAGGED, 3), (Misdeed.DOUBLE_FLAGGED, 3)),
    )
    require_true(history)


def test_without_any_trouble_nothing_is_found():
    played = play(History(seed=1, queues=(QueuePlan("work"), QueuePlan("audit", "quorum"))))
    assert played.result.verdict.passed
    assert played.result.verdict.found() == {}


def said_by_both(history):
    """Return what is said of the same bytes with the vector path and without."""
    for vector in (True, False):
        verdict = play(replace(history, vector=vector)).result.verdict
        yield verdict.outcome, {q.name: verdict.found(q.name) for q in history.queues}


@pytest.mark.parametrize("seed", range(200, 230))
def test_both_ways_of_the_client_say_the_same(seed):
    # Acts meet them at different moments, and so do delays of what each acknowledges in its way.
    history = replace(draw(seed), acts=(), ack_delay_s=0.0)
    if history.during:  # which of two queues is the next to do something wrong is chance
        history = replace(history, queues=history.queues[:1])
    one, other = said_by_both(history)
    assert one == other


@settings(max_examples=80, derandomize=True)
@given(
    connection=strategies.integers(2, 3),  # a consumer's, and the drain's
    at=strategies.integers(480, 4000),
    bit=strategies.integers(0, 7),
    more=strategies.sampled_from([0, 0, 255]),
)
def test_both_ways_say_the_same_of_a_stream_in_which_a_bit_is_flipped(connection, at, bit, more):
    flips = ((connection, at, 1 << bit | more),)
    one, other = said_by_both(History(seed=3, queues=(QueuePlan("work"),), flips=flips))
    assert one == other


@settings(max_examples=60, derandomize=True)
@given(
    vector=strategies.booleans(),
    connection=strategies.integers(0, 4),
    at=strategies.integers(0, 4000),
    mask=strategies.integers(1, 255),
)
def test_no_changed_byte_crashes_a_run(vector, connection, at, mask):
    """Whatever is sent to us, there is a verdict, or a sentence on why nothing could be begun."""
    flips = ((connection, at, mask),)
    history = History(seed=3, queues=(QueuePlan("work"),), flips=flips, vector=vector)
    with suppress(RmqbenchError):
        play(history)


def test_the_same_seed_is_the_same_history_to_the_byte(tmp_path):
    def digest(directory):
        play(draw(77), directory)
        sums = hashlib.sha256()
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                sums.update(path.relative_to(directory).as_posix().encode() + path.read_bytes())
        return sums.hexdigest()

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    assert digest(first) == digest(second)
