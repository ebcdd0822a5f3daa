"""The life of a message: all that happened to it, and around it, in the order of time."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from support.histories import RECIPE, Consumed, History, Published, Queued
from support.timelines import (
    BEGAN,
    CONSUMER,
    COUNT,
    OK,
    PRODUCER,
    all_but,
    fault,
    interrupted,
    killed,
    plain,
    removed,
    restarted,
    run_of,
    write,
)
from typer.testing import CliRunner

import rmqbench
from rmqbench.cli import app
from rmqbench.errors import UsageError
from rmqbench.message import Recipe
from rmqbench.verdict.evidence import AGAIN, CONFIRMED, COPY, NACKED, RETURNED, SENT, Drain
from rmqbench.verdict.findings import FindingName

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from unit.results.test_judging import rows_of


def life_of(path, message="0:3"):
    return rmqbench.explain(path, message).message


def lines_of(path, message="0:3"):
    """Return (seconds since the run began, what) of each moment; what is around in brackets."""
    return [
        (round((m.time_ns - BEGAN) / 1e9, 2), f"[{m.what}]" if m.around else m.what)
        for m in life_of(path, message).moments
    ]


def words_of(path, message="0:3"):
    return [what for _, what in lines_of(path, message)]


@pytest.fixture
def good(tmp_path):
    return run_of(tmp_path / "run", plain())


def test_a_message_is_sent_confirmed_delivered_and_acknowledged(good):
    assert lines_of(good) == [
        (1.0, "producer 0 sent it on channel 1"),
        (1.0, "the broker confirmed it"),
        (
            5.0,
            "consumer 0 of work.queue received it on channel 1, not flagged as redelivered",
        ),
        (
            6.0,
            "consumer 0 of work.queue closed channel 1 cleanly: the broker had taken all its "
            "acknowledgements",
        ),
    ]
    assert life_of(good).ends == (
        "Its publish was confirmed.",
        "work.queue: delivered once, and acknowledged.",
    )


def test_a_message_is_named_by_its_id_or_by_its_numbers(good):
    by_id = life_of(good, RECIPE.message_id(0, 3))
    assert by_id == life_of(good, "0:3") == life_of(good, RECIPE.message_id(0, 3).upper())
    assert (by_id.producer, by_id.sequence) == (0, 3)


@pytest.mark.parametrize(
    ("state", "said", "end"),
    [
        (0, [], "It was never sent."),
        (SENT, [], "It was sent, and the broker never answered: its outcome is not known."),
        (SENT | NACKED, ["the broker nacked it"], "Its publish was nacked."),
        (
            OK | RETURNED,
            ["the broker returned and confirmed it"],
            "Its publish was returned.",
        ),
    ],
)
def test_what_the_broker_said_of_the_publish_is_told(tmp_path, state, said, end):
    history = plain(3, state=[OK] * 3 + [state] + [OK] * 6)
    path = run_of(tmp_path / "run", history)
    assert [each for each in words_of(path) if each.startswith("the broker")] == said
    assert life_of(path).ends[0] == end


def test_without_confirms_what_was_written_is_not_called_confirmed(tmp_path):
    path = run_of(tmp_path / "run", plain(), scenario={"confirms": False})
    assert life_of(path).ends[0].startswith("It was written, which counts as confirmed")


def test_each_copy_has_its_channel_and_each_delivery_its_copy(tmp_path):
    published = Published([OK] * COUNT, channel_starts=(0, 5), copies=((3, 2),))
    consumed = Consumed([*all_but(), (0, 3, False, 1)])
    path = run_of(tmp_path / "run", History([published], [Queued("work.queue", [consumed])]))
    told = words_of(path)
    assert "producer 0 sent it on channel 1" in told
    assert "producer 0 sent it again, as copy 2 on channel 2" in told
    received = [each for each in told if "received it" in each]
    assert [each.rpartition(", ")[2] for each in received] == ["copy 1", "copy 2"]
    assert life_of(path, "0:7").moments[0].what == "producer 0 sent it on channel 2"


def test_a_broken_channel_is_told_with_when_and_why(good):
    interrupted(good, CONSUMER, 5.5, "Somebody pulled the plug.")
    assert (5.5, "channel 1 of consumer 0 of work.queue broke off: Somebody pulled the plug.") in (
        lines_of(good)
    )
    assert not any("cleanly" in each for each in words_of(good))


def test_a_killed_consumer_leaves_a_last_sign_of_life(good):
    killed(good, CONSUMER)
    told = "the last sign of life of channel 1 of consumer 0 of work.queue"
    assert told in words_of(good)


def test_a_publishing_channel_that_broke_is_told(good):
    interrupted(good, PRODUCER, 3.0, "It broke.", first=COUNT)
    assert (3.0, "channel 1 of producer 0 broke off: It broke.") in lines_of(good)


def test_a_message_that_came_again_is_told_each_time(tmp_path):
    consumed = Consumed([*all_but(), (0, 3, True)])
    path = run_of(
        tmp_path / "run", History([Published([OK] * COUNT)], [Queued("work.queue", [consumed])])
    )
    told = [each for each in words_of(path) if "received it" in each]
    assert told == [
        "consumer 0 of work.queue received it on channel 1, not flagged as redelivered",
        "consumer 0 of work.queue received it again on channel 1, flagged as redelivered",
    ]
    assert life_of(path).ends[1] == (
        "work.queue: delivered 2 times, and acknowledged, by consumer 0 of work.queue."
    )


def test_what_was_not_acknowledged_and_what_acknowledges_itself_are_told_apart(tmp_path):
    history = History(
        [Published([OK] * COUNT)], [Queued("work.queue", [Consumed(all_but(), acknowledged=False)])]
    )
    path = run_of(tmp_path / "run", history)
    assert life_of(path).ends[1] == (
        "work.queue: delivered once, and never acknowledged by us; the queue is empty, and it did "
        "not come again: lost."
    )
    path = run_of(tmp_path / "other", plain(), auto_ack=True)
    assert life_of(path).ends[1] == "work.queue: delivered once, with automatic acknowledgement."


@pytest.mark.parametrize(
    ("queued", "end"),
    [
        ({}, "never delivered, and the queue is empty: lost."),
        (
            {"removals": [("a purge", 1)]},
            "never delivered, and the queue is empty: removed (a purge).",
        ),
        (
            {"proof": Drain(False, 1, "1 is still in it")},
            "not delivered, and the queue was not proven empty (1 is still in it): so this "
            "message is not judged.",
        ),
        (
            {"proof": None},
            "not delivered, and the queue was not proven empty (the run ended before its drain "
            "was proven): so this message is not judged.",
        ),
    ],
)
def test_what_became_of_it_in_a_queue_that_did_not_deliver_it(tmp_path, queued, end):
    path = run_of(tmp_path / "run", plain(3, **queued))
    assert life_of(path).ends[1] == f"work.queue: {end}"


def test_lost_or_removed_is_not_decided_where_nobody_can(tmp_path):
    path = run_of(tmp_path / "run", plain(3, 4, removals=[("a purge", 1)]))
    assert (
        "lost or removed (1 of 2 can have been removed; which ones is not known)"
        in (life_of(path).ends[1])
    )


def test_what_happened_around_it_is_told_until_the_queue_was_asked(tmp_path):
    path = run_of(tmp_path / "run", plain(3))
    restarted(fault(path, "kill-broker", 12, 14, text="the node is killed"), 12.5, 13.5)
    write(path, "", removed("audit.queue", "a purge of 1 message", 15), removed("x", "late", 23))
    write(path, "", removed("x", "in time", 21.9))
    assert lines_of(path)[2:] == [
        (12.0, "[kill-broker: the node is killed]"),
        (12.5, "[the node restarted, or may have, after this moment]"),
        (13.5, "[… and before this one]"),
        (14.0, "[kill-broker is over]"),
        (15.0, "[queue audit.queue: a purge of 1 message]"),
        (20.0, "[queue work.queue was asked: it is empty]"),
        (21.9, "[queue x: in time]"),
    ]


def test_what_happened_long_after_a_message_had_gone_is_not_told(good):
    restarted(good, 8.1)
    assert not any("restarted" in each for each in words_of(good))
    restarted(good, 7.9)
    assert "[the node restarted]" in words_of(good)


def test_what_a_consumer_reported_is_told(tmp_path):
    consumed = Consumed(all_but(), incidents=[(FindingName.CORRUPTED, 0, 3)])
    path = run_of(
        tmp_path / "run", History([Published([OK] * COUNT)], [Queued("work.queue", [consumed])])
    )
    assert (
        "queue work.queue, consumer 0 of work.queue reported it as corrupted: as reported"
        in words_of(path)
    )
    assert not any("reported" in each for each in words_of(path, "0:4"))


def test_a_phantom_has_a_life_although_it_was_never_sent(tmp_path):
    consumed = Consumed(all_but(), incidents=[(FindingName.PHANTOM, 0, 30)])
    path = run_of(
        tmp_path / "run", History([Published([OK] * COUNT)], [Queued("work.queue", [consumed])])
    )
    assert life_of(path, RECIPE.message_id(0, 30)).ends == (
        "It was never sent: the run has no such message.",
        "work.queue: delivered, although it was never sent.",
    )


def test_a_run_that_was_killed_tells_what_it_has(tmp_path):
    history = plain(3, 4, proof=None)
    path = killed(run_of(tmp_path / "run", history), PRODUCER)
    (path / "producer-0/settled_after_ns.npy").unlink()
    assert "the ledger of producer 0 cannot be read" in life_of(path).ends[0]
    (path / "journal.jsonl").unlink()
    assert life_of(path).ends
    assert str(rmqbench.explain(path))


def test_a_run_that_was_killed_before_it_began_is_explained(tmp_path):
    path = run_of(tmp_path / "run", plain())
    for each in [*path.iterdir()]:
        if each.name != "run.json":
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    assert life_of(path).ends == (
        "Whether it was sent is not known: the ledger of producer 0 cannot be read.",
        "work.queue: no delivery is on record.",
    )
    text = str(rmqbench.explain(path))
    assert text.startswith("INCONCLUSIVE: producer 0 did not record its end")
    assert "Needed    a run whose producers end by themselves" in text


@settings(max_examples=60, deadline=None)
@given(copies=rows_of(COPY), again=rows_of(AGAIN))
def test_any_bytes_in_place_of_what_came_again_make_a_life(copies, again):
    with tempfile.TemporaryDirectory() as scratch:
        path = run_of(Path(scratch) / "run", plain(3))
        (path / PRODUCER / "copies.bin").write_bytes(copies)
        (path / CONSUMER / "again.bin").write_bytes(again)
        assert str(rmqbench.explain(path))
        for sequence in range(4):
            account = rmqbench.explain(path, f"0:{sequence}")
            assert str(account)
            assert json.dumps(account.as_dict())


# --- what names no message ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("0:10", r"There is no message 0:10 in this run\. It has 0:0 to 0:9\."),
        ("1:0", r"There is no message 1:0 in this run\."),
        (RECIPE.message_id(0, 99), r"There is no message 0:99 in this run\."),
        ("9999999999999999999:0", "There is no message"),
        (
            Recipe(type(RECIPE.run)(int=78 << 90)).message_id(0, 3),
            "is of another run: this directory is of the run 00000000-0000-0000-0000-00000000004d",
        ),
        ("", "names no message"),
        ("3", "names no message"),
        ("-1:3", "names no message"),
        ("0:3:1", "names no message"),
        ("hello\x1b", r"names no message\. Give a message_id as a verdict prints it"),
        ("00000000-0000-4000-8000-000000000003", "names no message"),
    ],
)
def test_what_names_no_message_is_refused_with_a_sentence(good, message, said):
    with pytest.raises(UsageError, match=said) as refused:
        rmqbench.explain(good, message)
    assert "\x1b" not in str(refused.value)


def test_what_is_no_directory_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="is not the directory of a run"):
        rmqbench.explain(tmp_path, "0:3")


# --- as a text, as JSON, as a command -----------------------------------------------------------


def test_no_line_is_longer_than_asked_for_but_what_is_to_be_copied(good):
    interrupted(good, CONSUMER, 5.5, "It broke " + "and broke " * 30)
    for width in (60, 80, 120):
        for message in (None, "0:3"):
            for line in rmqbench.explain(good, message).text(width).splitlines():
                assert len(line) <= width or re.match(r"The evidence|Message|  Next", line), line


def test_a_message_reads_well_at_80_columns(good):
    header, run, where, empty, *moments = str(rmqbench.explain(good, "0:3")).splitlines()
    assert header == f"Message {RECIPE.message_id(0, 3)}: producer 0, sequence 3"
    assert run == f"Run {RECIPE.run} began at 2026-09-21 14:13:19.000 UTC."
    assert (where, empty) == (f"The evidence lies in {good}", "")
    assert moments[0] == "14:13:20.000  +1.000 s  producer 0 sent it on channel 1"


def test_the_json_has_the_same(good):
    told = rmqbench.explain(good, "0:3").as_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["message"]["message_id"] == RECIPE.message_id(0, 3)
    (first, *_) = told["message"]["moments"]
    assert first == {
        "time_ns": BEGAN + 1_000_000_003,
        "utc": "2026-09-21T14:13:20.000000003Z",
        "after_s": 1.0,
        "what": "producer 0 sent it on channel 1",
        "around": False,
    }
    assert rmqbench.explain(good).as_dict()["message"] is None


def test_the_command_writes_the_text_or_the_json(good, tmp_path):
    run = CliRunner().invoke
    told = run(app, ["explain", str(good), "0:3"])
    assert (told.exit_code, told.output) == (0, rmqbench.explain(good, "0:3").text())
    told = run(app, ["explain", str(good), "--json", "-"])
    assert json.loads(told.output) == rmqbench.explain(good).as_dict()
    told = run(app, ["explain", str(good), "--json", str(tmp_path / "out.json")])
    assert told.output.startswith("PASS")
    assert json.loads((tmp_path / "out.json").read_text()) == rmqbench.explain(good).as_dict()


def test_the_command_of_a_fail_exits_with_0_and_writes_nothing(tmp_path):
    path = run_of(tmp_path / "run", plain(3))
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    assert CliRunner().invoke(app, ["explain", str(path)]).exit_code == 0
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == before


def test_what_the_command_cannot_explain_is_wrong_usage(good):
    told = CliRunner().invoke(app, ["explain", str(good), "7:7"])
    assert isinstance(told.exception, UsageError)
    assert told.exception.exit_code == 2


def test_a_state_that_no_producer_writes_is_told_all_the_same(tmp_path):
    path = run_of(tmp_path / "run", plain(3, state=[OK] * 3 + [CONFIRMED] + [OK] * 6))
    assert life_of(path).ends[0] == "It was never sent."
