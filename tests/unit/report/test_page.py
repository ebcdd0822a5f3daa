"""A page says what the results say, of runs of any shape, and stays small."""

import json
import re

import pytest
from support.histories import Consumed, History, Published, Queued
from support.timelines import OK, at, run_of

import rmqbench
from rmqbench.errors import UsageError
from rmqbench.report.html.page import page
from rmqbench.report.html.scales import milliseconds_text
from rmqbench.run_directory.journal import ChannelOpened, Interrupted, Journal

COUNT = 10


def made_up(path, *, missing=(), version="4.3.6", queues=("work",), **described):
    """Write a run of ten messages, of which each queue did not deliver some."""
    consumed = Consumed([(0, n, False) for n in range(COUNT) if n not in missing])
    history = History([Published([OK] * COUNT)], [Queued(name, [consumed]) for name in queues])
    allowed = described.get("allowed", [])
    scenario = rmqbench.reliability(messages=COUNT, allowed=tuple(allowed)).as_dict()
    run_of(path, history, scenario=scenario)
    description = json.loads((path / "run.json").read_text())
    broker = {"version": version, "endpoint": "amqp://here", "how": "by name"}
    (path / "run.json").write_text(json.dumps({**description, "broker": broker, **described}))
    return path


def text_of(*paths, title=""):
    """Return what a person reads of a page."""
    text = page([(path, "") for path in paths], title)
    text = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", text, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_a_run_that_passed_says_so_in_a_sentence(tmp_path):
    text = text_of(made_up(tmp_path / "run"))
    assert "PASS 10 messages were published and confirmed, and work delivered every one" in text
    assert "work 10 = 10 0 0 0 0 ✓ adds up" in text


def test_a_loss_that_is_allowed_is_not_called_none(tmp_path):
    path = made_up(tmp_path / "run", missing=(3, 4), allowed=["lost"])
    text = text_of(path)
    assert "PASS Found, and allowed: 2 lost." in text
    assert "work 10 = 8 0 2 0 0 ✓ adds up" in text


def test_without_confirms_nothing_is_said_to_be_confirmed(tmp_path):
    path = made_up(tmp_path / "run")
    description = json.loads((path / "run.json").read_text())
    description["scenario"]["confirms"] = False
    (path / "run.json").write_text(json.dumps(description))
    text = text_of(path)
    assert "10 messages were published, without confirms, and work delivered" in text
    assert "confirm, p99" not in text


def test_the_percentiles_of_the_curve_are_those_of_the_result(tmp_path):
    path = made_up(tmp_path / "run")
    latency = rmqbench.judge(path).confirm_latency
    text = page([(path, "")])
    figure = re.search(r"Latency by percentile.*?</details>", text, re.S)[0]
    cells = re.findall(r"<td>(.*?)</td>", figure)
    expected = [latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms]
    assert cells[1::2][:4] == [milliseconds_text(each) for each in expected]
    assert cells[-1] == milliseconds_text(latency.max_ms)


def test_what_changed_from_one_version_to_another_is_said(tmp_path):
    olds = [made_up(tmp_path / f"old-{n}", version="4.0.5") for n in range(2)]
    text = text_of(*olds, made_up(tmp_path / "new"))
    assert "from RabbitMQ 4.0.5 to 4.3.6 figure before after change" in text
    assert "publish.confirm_latency.p50_ms 1 1 +0.0% too few runs to say" in text
    assert "RabbitMQ 4.0.5 4.3.6 reliability" in text
    assert "from RabbitMQ" not in text_of(*olds), "nothing to compare"


def test_versions_stand_side_by_side_with_the_worst_that_came_of_them(tmp_path):
    good = [made_up(tmp_path / f"good-{n}", version="4.0.5") for n in range(2)]
    bad = made_up(tmp_path / "bad", version="4.0.5", missing=(3,))
    other = made_up(tmp_path / "other", version="4.3.6")
    text = text_of(*good, bad, other)
    assert re.search(
        r"RabbitMQ 4\.0\.5 4\.3\.6 reliability, [^ ]+ queues?, 1 consumer, 10 messages "
        r"FAIL, 1 of 3 1 lost [\d,]+/s published [\d,]+/s consumed confirm p99 [\d.]+ .?s PASS ",
        text,
    ), text


def test_runs_of_other_sizes_are_not_taken_for_alike(tmp_path):
    paths = [made_up(tmp_path / "small", version="4.0.5"), made_up(tmp_path / "large")]
    description = json.loads((paths[1] / "run.json").read_text())
    description["scenario"]["size_bytes"] = 1000
    (paths[1] / "run.json").write_text(json.dumps(description))
    text = text_of(*paths)
    assert "10 messages, 1000 bytes" in text
    assert "from RabbitMQ" not in text


def test_a_run_that_cannot_be_read_costs_only_its_own_part(tmp_path):
    text = text_of(made_up(tmp_path / "run"), tmp_path / "nowhere")
    assert "2 runs" in text
    assert "NOT READ" in text
    assert "there is no run.json in it" in text
    with pytest.raises(UsageError, match=r"no run\.json"):
        page([(tmp_path / "nowhere", "")])


def test_a_run_without_a_single_entry_has_a_page(tmp_path):
    path = made_up(tmp_path / "run")
    for file in path.rglob("*"):
        if file.is_file() and file.name != "run.json":
            file.unlink()
    text = text_of(path)
    assert "INCONCLUSIVE" in text
    assert "not known when" in text
    assert "1970" not in text


@pytest.mark.slow
def test_thousands_of_channels_and_interruptions_are_few_marks(tmp_path):
    path = made_up(tmp_path / "run")
    with Journal(path / "producer-0" / "journal.jsonl") as journal:
        for number in range(2, 5002):
            moment = at(1 + number / 1000)
            journal.write(Interrupted(time_ns=moment - 1, why="It broke."))
            journal.write(ChannelOpened(time_ns=moment, number=number, first=9))
    text = page([(path, "")])
    assert len(text) < 400_000
    assert text.count('class="bar') < 500
    assert text.count('class="band interruption"') < 500


def test_a_thousand_queues_are_a_few_lines(tmp_path):
    names = tuple(f"queue-{n}" for n in range(300))
    path = made_up(tmp_path / "run", queues=names)
    text = page([(path, "")])
    assert "others together" in text
    assert len(text) < 1_500_000
    assert text.count("<figure") < 10
