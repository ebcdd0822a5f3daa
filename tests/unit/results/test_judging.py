"""A run is judged by its directory alone: the same as by what its writers knew, or not at all."""

import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from support.histories import Consumed, History, Published, Queued
from support.timelines import at, plain, restarted, run_of, write

from rmqbench import judge, pieces
from rmqbench.errors import AccessRefused, MessageTooLarge, UsageError
from rmqbench.run_directory import FORMAT
from rmqbench.run_directory.journal import (
    JOURNAL_FILE,
    ChannelOpened,
    ClockCompared,
    Declared,
    FaultEvent,
    Interrupted,
    Journal,
    PoliciesFound,
    read_journal,
)
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.transfer import mark_away
from rmqbench.verdict.evidence import (
    AGAIN,
    CONFIRMED,
    COPY,
    NACKED,
    REPORTED,
    RETURNED,
    SENT,
    Drain,
)
from rmqbench.verdict.findings import FINDINGS, FindingName, Judgement
from rmqbench.verdict.rules import judge_evidence

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

OK = SENT | CONFIRMED
COUNT = 12
TOLD = ["corrupted", "misrouted", "phantom", "foreign"]


@st.composite
def histories(draw):
    """Any run of up to three producers, queues and consumers, ended or not."""
    states = st.sampled_from([OK] * 8 + [0, SENT, SENT | NACKED, OK | RETURNED])
    published = draw(
        st.lists(
            st.builds(
                Published,
                state=st.lists(states, min_size=1, max_size=COUNT),
                channel_starts=st.lists(st.integers(0, COUNT), max_size=3).map(
                    lambda starts: (0, *sorted(starts))
                ),
                ended=st.sampled_from([True, True, True, False]),
                error=st.sampled_from([None, None, "It gave up."]),
            ),
            min_size=1,
            max_size=3,
        )
    )
    for each in published:
        numbers = st.integers(0, len(each.state) - 1)
        channels = st.integers(1, len(each.channel_starts))
        each.copies = tuple(draw(st.lists(st.tuples(numbers, channels), max_size=6)))
    messages = [(p, s) for p, each in enumerate(published) for s in range(len(each.state))]
    copies = st.sampled_from([0, 0, 0, 1, 2, -1])
    deliveries = st.lists(
        st.tuples(st.sampled_from(messages), st.booleans(), copies), max_size=30
    ).map(lambda many: [(*message, flag, copy) for message, flag, copy in many])
    everything = st.just([(*message, False) for message in messages])
    consumers = st.builds(
        Consumed,
        deliveries=st.one_of(everything, deliveries),
        incidents=st.lists(
            st.tuples(st.sampled_from([*map(FindingName, TOLD)]), *map(st.just, messages[0])),
            max_size=2,
        ),
        acknowledged=st.booleans(),
        closed=st.booleans(),
        ended=st.booleans(),
    )
    queues = st.builds(
        Queued,
        name=st.just("a queue"),
        consumers=st.lists(consumers, max_size=3),
        proof=st.sampled_from(
            [Drain(True)] * 2 + [Drain(False, 3, "left"), Drain(True, there=False), None]
        ),
        removals=st.lists(
            st.tuples(st.just("a purge"), st.one_of(st.none(), st.integers(0, 5))), max_size=2
        ),
        only_consumer=st.booleans(),
    )
    found = draw(st.lists(queues, min_size=1, max_size=3))
    for number, queue in enumerate(found):
        queue.name = f"queue {number}"
    return History(
        published,
        found,
        allowed=draw(st.lists(st.sampled_from([*FINDINGS]), max_size=2, unique=True)),
        troubles=draw(st.sampled_from([(), ("a worker died",)])),
    )


@settings(max_examples=75)
@given(history=histories())
def test_the_directory_gives_the_verdict_that_its_writers_would_have_given(history):
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "run"
        evidence = history.write(path)
        said = judge_evidence(evidence, allowed=history.allowed, evidence_at=str(path))
        assert judge(path).verdict == said
        moved = shutil.move(path, Path(scratch) / "elsewhere")
        assert judge(moved).verdict.findings == said.findings


@settings(max_examples=60)
@given(history=histories(), most=st.integers(1, 5))
def test_in_parts_of_any_size_the_evidence_comes_to_the_same(history, most):
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "run"
        history.write(path)
        result = judge(path)
        with mock.patch.object(pieces, "PIECE", most):
            assert judge(path) == result


# --- evidence that is not there -------------------------------------------------------------------


@pytest.fixture
def clean(tmp_path):
    """The directory of a run in which nothing was found."""
    everything = [(0, sequence, False) for sequence in range(COUNT)]
    consumed = Consumed(everything, incidents=[])
    history = History([Published([OK] * COUNT)], [Queued("work.queue", [consumed])])
    history.write(tmp_path / "run")
    assert judge(tmp_path / "run").verdict.passed
    return tmp_path / "run"


def evidence_files():
    """Every file that a verdict needs, of a run with one producer, queue and consumer."""
    consumer = "queue-0/consumer-0"
    return [
        "journal.jsonl",
        "producer-0/journal.jsonl",
        *(f"producer-0/{name}.npy" for name in ("state", "sent_ns", "settled_after_ns")),
        f"{consumer}/journal.jsonl",
        *(f"{consumer}/{name}.npy" for name in ("state", "stamp", "first_ns")),
    ]


@pytest.mark.parametrize("name", evidence_files())
@pytest.mark.parametrize("harm", ["gone", "empty", "garbage"])
def test_without_a_part_of_its_evidence_no_run_passes(clean, name, harm):
    path = clean / name
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if harm == "empty" else b"garbage\n" * 20)
    verdict = judge(clean).verdict
    assert verdict.outcome == "INCONCLUSIVE", str(verdict)
    assert verdict.reasons


def test_incidents_that_are_not_there_any_more_are_missing_evidence(tmp_path):
    consumed = Consumed([(0, 0, False)], incidents=[(FindingName.CORRUPTED, 0, 0)])
    history = History([Published([OK])], [Queued("work.queue", [consumed])])
    history.write(tmp_path / "run")
    assert judge(tmp_path / "run").verdict.found() == {"corrupted": 1}
    (tmp_path / "run/queue-0/consumer-0/incidents.jsonl").unlink()
    verdict = judge(tmp_path / "run").verdict
    assert verdict.outcome == "INCONCLUSIVE"
    assert "reported 1 incident, and 0 of them are there" in str(verdict)


def test_what_was_taken_as_corrupted_and_is_not_told_is_missing_evidence(clean):
    """A killed worker does not say how many incidents there were: its ledger does."""
    state = DeliveryLedger.open(clean / "queue-0/consumer-0").state
    state[2] |= REPORTED
    verdict = judge(clean).verdict
    assert verdict.outcome == "INCONCLUSIVE"
    assert "reported 1 corrupted messages, and 0 of them are there" in str(verdict)


@pytest.mark.parametrize("gone", ["queue-0", "queue-0/consumer-1"])
def test_a_consumer_without_a_directory_is_missing_evidence_and_nothing_is_lost(tmp_path, gone):
    halves = [Consumed([(0, n, False) for n in range(at, COUNT, 2)]) for at in (0, 1)]
    history = History(
        [Published([OK] * COUNT)], [Queued("work.queue", halves, only_consumer=False)]
    )
    history.write(tmp_path / "run")
    assert judge(tmp_path / "run").verdict.passed
    shutil.rmtree(tmp_path / "run" / gone)
    verdict = judge(tmp_path / "run").verdict
    assert verdict.outcome == "INCONCLUSIVE", verdict
    missing = "2 consumers" if gone == "queue-0" else "1 consumer"
    assert f"the evidence of {missing} of work.queue is not there" in verdict.reasons


@pytest.mark.parametrize("damage", [{"counts": ["x"]}, {"run": "hello"}, {"queues": None}])
def test_a_description_that_describes_no_run_is_a_clear_error(clean, damage):
    path = clean / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(UsageError, match="does not describe a run"):
        judge(clean)


@pytest.mark.parametrize("lengths", [(4, 1000), (1000, 4), (4,)])
def test_a_policy_that_was_changed_explains_what_it_took_before(tmp_path, lengths):
    path = run_of(tmp_path / "run", plain(0, 1, 2))
    for length in lengths:
        found = {"queue": "work.queue", "name": "policy p", "definition": {"max-length": length}}
        write(path, "", PoliciesFound(**found))
    assert judge(path).verdict.found() == {"removed": 3}


@pytest.mark.parametrize("left", ["none", "some"])
@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("producer-0/copies.bin", COPY, "producer 0 recorded 2 copies, and"),
        (
            "queue-0/consumer-0/again.bin",
            AGAIN,
            "consumer 0 of work.queue recorded 2 repeated deliveries, and",
        ),
    ],
)
def test_what_came_again_and_is_not_there_any_more_is_missing_evidence(
    tmp_path, name, row, said, left
):
    everything = [*((0, n, False) for n in range(3)), (0, 0, False, 1), (0, 1, False, 1)]
    published = Published([OK] * 3, channel_starts=(0, 3), copies=((0, 2), (1, 2)))
    History([published], [Queued("work.queue", [Consumed(everything)])]).write(tmp_path / "run")
    assert judge(tmp_path / "run").verdict.passed
    path = tmp_path / "run" / name
    if left == "none":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: row.itemsize + 5])
    there = "0 of them are" if left == "none" else "1 of them is"
    verdict = judge(tmp_path / "run").verdict
    assert f"{said} {there} there" in str(verdict)
    assert not verdict.passed


@pytest.mark.parametrize("name", ["producer-0/copies.bin", "queue-0/consumer-0/again.bin"])
def test_rows_that_cannot_be_read_are_missing_evidence(clean, name):
    path = clean / name
    path.unlink(missing_ok=True)
    path.mkdir()
    verdict = judge(clean).verdict
    assert verdict.outcome == "INCONCLUSIVE"
    assert name.rsplit("/", 1)[1] in str(verdict)


def rows_of(dtype):
    """Return bytes that are rows of this type, of any content, and perhaps a torn one."""
    numbers = {
        name: st.one_of(st.integers(-2, 2 * COUNT), st.sampled_from([low, high, high - 1]))
        for name, (kind, _) in dtype.fields.items()
        for low, high in [(np.iinfo(kind).min, np.iinfo(kind).max)]
    }

    def pack(rows):
        packed = np.zeros(len(rows), dtype)
        for place, row in enumerate(rows):
            for name, number in row.items():
                info = np.iinfo(dtype[name])
                packed[name][place] = max(info.min, min(info.max, number))
        return packed.tobytes()

    rows = st.lists(st.fixed_dictionaries(numbers), max_size=12).map(pack)
    return st.one_of(st.binary(max_size=200), rows)


@settings(max_examples=100, deadline=None)
@given(
    copies=rows_of(COPY),
    again=rows_of(AGAIN),
    consumers=st.integers(1, 2),
    arguments=st.sampled_from([{}, {"x-message-ttl": 1, "x-max-length": 3}]),
    part=st.booleans(),
)
def test_any_bytes_in_place_of_what_came_again_give_a_verdict(
    copies, again, consumers, arguments, part
):
    everything = [(p, n, False) for p in (0, 1) for n in range(COUNT)]
    consumed = [Consumed(everything[5:] if part else everything), Consumed([])][:consumers]
    history = History([Published([OK] * COUNT)] * 2, [Queued("work.queue", consumed)])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "run"
        history.write(path)
        description = json.loads((path / "run.json").read_text())
        description["queues"][0]["arguments"] = arguments
        (path / "run.json").write_text(json.dumps(description))
        (path / "producer-1/copies.bin").write_bytes(copies)
        (path / "queue-0/consumer-0/again.bin").write_bytes(again)
        result = judge(path)
        assert str(result.verdict)
        assert json.dumps(result.as_dict())


def test_a_producer_that_left_no_word_accuses_nobody(tmp_path):
    everything = [(0, 0, False), (0, 1, False)]
    published = Published([OK, OK, SENT, 0], ended=False)
    History([published], [Queued("work.queue", [Consumed(everything)])]).write(tmp_path / "run")
    verdict = judge(tmp_path / "run").verdict
    assert verdict.outcome == "INCONCLUSIVE"
    assert verdict.found() == {"indeterminate": 1, "unsent": 1, "vanished": 1}
    assert "producer 0 did not record its end" in str(verdict)


def test_what_a_producer_that_left_no_word_was_confirmed_is_owed_all_the_same(tmp_path):
    published = Published([OK, OK, SENT, 0], ended=False)
    consumed = Consumed([(0, 0, False)])
    History([published], [Queued("work.queue", [consumed])]).write(tmp_path / "run")
    verdict = judge(tmp_path / "run").verdict
    assert (verdict.outcome, verdict.count("lost")) == ("FAIL", 1)


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        ([], "the fault kill-broker never struck"),
        (["struck"], "the fault kill-broker struck, and its end is not on record"),
        (["struck", "failed"], "the fault kill-broker failed: what it did"),
        (["struck", "over"], None),
    ],
)
def test_a_fault_that_was_not_what_it_should_have_been_leaves_the_verdict_open(clean, phases, said):
    description = json.loads((clean / "run.json").read_text())
    (clean / "run.json").write_text(json.dumps(description | {"faults": ["kill-broker"]}))
    with Journal(clean / "journal.jsonl") as journal:
        for phase in phases:
            journal.write(FaultEvent(fault="kill-broker", phase=phase, text="what it did", own=0))
    verdict = judge(clean).verdict
    assert verdict.passed == (said is None)
    assert said is None or said in str(verdict)


@pytest.mark.parametrize(("after_s", "in_time"), [(0.1, True), (0.8, True), (0.9, False)])
@pytest.mark.parametrize("phases", [["struck", "over"], ["struck", "happened", "over"]])
def test_a_fault_of_newborn_queues_that_came_too_late_leaves_the_verdict_open(
    clean, phases, after_s, in_time
):
    description = json.loads((clean / "run.json").read_text())
    (clean / "run.json").write_text(json.dumps(description | {"faults": ["kill-newborn"]}))
    (declared,) = (e for e in read_journal(clean / "journal.jsonl") if isinstance(e, Declared))
    at = {"struck": 0.05, "over": 5.0, phases[-2]: after_s}
    with Journal(clean / "journal.jsonl") as journal:
        for phase in phases:
            time_ns = declared.time_ns + round(at[phase] * 1e9)
            more = {"own": 0, "within_s": 0.8, "time_ns": time_ns}
            journal.write(FaultEvent(fault="kill-newborn", phase=phase, text="it did", **more))
    verdict = judge(clean).verdict
    assert verdict.outcome == ("PASS" if in_time else "INCONCLUSIVE")
    missed = "the fault kill-newborn missed its moment: it was done 0.90 s after the declaration"
    assert (missed in str(verdict)) is not in_time


def test_a_fault_is_in_time_when_a_producer_has_felt_it_in_time(clean):
    description = json.loads((clean / "run.json").read_text())
    (clean / "run.json").write_text(json.dumps(description | {"faults": ["kill-newborn"]}))
    (declared,) = (e for e in read_journal(clean / "journal.jsonl") if isinstance(e, Declared))

    def at(seconds):
        return declared.time_ns + round(seconds * 1e9)

    with Journal(clean / "journal.jsonl") as journal:
        for phase, seconds in (("struck", 0.1), ("happened", 1.5), ("over", 5.0)):
            more = {"own": 0, "within_s": 0.8, "time_ns": at(seconds)}
            journal.write(FaultEvent(fault="kill-newborn", phase=phase, text="it did", **more))
    assert judge(clean).verdict.outcome == "INCONCLUSIVE"
    with Journal(clean / "producer-0" / "journal.jsonl") as journal:
        journal.write(Interrupted(time_ns=at(0.05), why="before it struck"))
    assert judge(clean).verdict.outcome == "INCONCLUSIVE"
    with Journal(clean / "producer-0" / "journal.jsonl") as journal:
        journal.write(Interrupted(time_ns=at(0.3), why="the node is gone"))
    assert judge(clean).verdict.passed


# --- directories that are none --------------------------------------------------------------------


def test_a_directory_of_another_format_is_refused_with_a_sentence(clean):
    description = json.loads((clean / "run.json").read_text())
    (clean / "run.json").write_text(json.dumps(description | {"format": FORMAT + 1}))
    with pytest.raises(UsageError, match=rf"in format {FORMAT + 1}, .* reads format {FORMAT}\."):
        judge(clean)


@pytest.mark.parametrize("content", [None, "", "no JSON", "[]", "{}", '{"format": 1}'])
def test_what_is_no_run_s_directory_is_refused_with_a_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UsageError):
        judge(tmp_path)


def test_a_directory_that_is_not_there_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="is not the directory of a run"):
        judge(tmp_path / "nowhere")


def notes_of(path, said):
    return [each for each in judge(path).notes if said in each]


def test_how_soon_clients_were_connected_again_is_told(tmp_path):
    """One whose work was over before the restart is not waited for, nor counted."""
    path = run_of(tmp_path / "run", plain())
    restarted(path, 2.0, 2.5)
    write(path, "producer-0", ChannelOpened(time_ns=at(6.25), number=2, first=COUNT))
    assert notes_of(path, "connected again") == []  # of one client there is nothing to tell
    write(
        path,
        "queue-0/consumer-0",
        ChannelOpened(time_ns=at(1.0), number=2),
        ChannelOpened(time_ns=at(9.0), number=3),
    )
    (note,) = notes_of(path, "connected again")
    assert note == (
        "2 of 2 clients were connected again, the last one 3.8 s after the node was started."
    )


def test_who_never_came_back_is_counted(tmp_path):
    path = restarted(run_of(tmp_path / "run", plain()), 4.5, 4.6)
    (note,) = notes_of(path, "connected again")
    assert note.startswith("0 of 2 clients were connected again")


def test_a_worker_that_is_away_is_missing_evidence_and_nothing_against_the_broker(tmp_path):
    path = run_of(tmp_path / "run", plain())
    assert judge(path).verdict.outcome is Judgement.PASS
    for column in PublishLedger.open(path / "producer-0").arrays.values():
        column[:] = 0  # as the run made it, before its worker began elsewhere
    (path / "producer-0" / JOURNAL_FILE).unlink()
    mark_away(path / "producer-0")
    verdict = judge(path).verdict
    assert verdict.outcome is Judgement.INCONCLUSIVE
    assert {name for name, count in verdict.counts().items() if count} <= {"unsent"}
    assert any("did not come back" in reason for reason in verdict.reasons)


def test_a_consumer_that_is_away_leaves_the_verdict_open(tmp_path):
    path = run_of(tmp_path / "run", plain())
    place = path / "queue-0" / "consumer-0"
    for column in DeliveryLedger.open(place).arrays.values():
        column[:] = 0
    (place / JOURNAL_FILE).unlink()
    mark_away(place)
    verdict = judge(path).verdict
    assert verdict.outcome is Judgement.INCONCLUSIVE
    assert not any(verdict.counts().values())


def test_by_how_much_the_clocks_of_other_hosts_were_off_is_told(tmp_path):
    path = run_of(tmp_path / "run", plain())
    for host, offset_ns, drift_ns in [
        ("b", -1_500_000, None),
        ("a", 20_000_000, 3_000),
        ("a", 20_100_000, -8_000),
    ]:
        entry = ClockCompared(
            host=host, offset_ns=offset_ns, uncertainty_ns=100_000, drift_ns=drift_ns
        )
        write(path, ".", entry)
    assert notes_of(path, "clock") == [
        "2 jobs worked on a: its clock was 20.000 ms ahead, within 0.100 ms, and moved by at most "
        "0.008 ms meanwhile. Its times are corrected.",
        "1 job worked on b: its clock was 1.500 ms behind, within 0.100 ms. Its times are "
        "corrected.",
    ]


def test_how_many_connections_took_the_place_of_others_is_told(tmp_path):
    path = run_of(tmp_path / "run", plain(), scenario={"churn": 2.0})
    for number in range(2, 5):
        opened = ChannelOpened(time_ns=at(0.6 + number), number=number, first=COUNT)
        write(path, "producer-0", opened)
    (note,) = notes_of(path, "took the place")
    assert note == "3 connections took the place of others, 0.75 a second (2 asked for)."


@pytest.mark.parametrize(
    ("why", "error"), [("refused", AccessRefused), ("too_large", MessageTooLarge)]
)
def test_one_refused_producer_takes_no_verdict_from_what_others_have_published(
    tmp_path, why, error
):
    history = History([Published([OK] * COUNT), Published([0] * COUNT)], [])
    path = run_of(tmp_path / "run", history)
    journal = path / "producer-1" / "journal.jsonl"
    *entries, ended = map(json.loads, journal.read_text().splitlines())
    entries.append(ended | {why: True, "error": "It was refused."})
    journal.write_text("".join(json.dumps(each) + "\n" for each in entries))
    assert judge(path).confirmed == COUNT
    PublishLedger.open(path / "producer-0").state[:] = SENT
    with pytest.raises(error, match=r"It was refused\."):
        judge(path)


def test_what_went_wrong_is_a_note_of_a_pass_and_a_reason_of_all_else(tmp_path):
    history = plain()
    history.troubles = ("the process of consumer 0 of work ended by SIGKILL",)
    path = run_of(tmp_path / "pass", history)
    said = "The process of consumer 0 of work ended by SIGKILL."
    assert judge(path).verdict.passed
    assert notes_of(path, "SIGKILL") == [said]
    history.queues[0].proof = None
    path = run_of(tmp_path / "open", history)
    assert history.troubles[0] in judge(path).verdict.reasons
    assert notes_of(path, "SIGKILL") == []


def test_producers_that_left_no_word_are_named_in_one_sentence(tmp_path):
    published = [Published([OK] * COUNT, ended=number == 3) for number in range(5)]
    reasons = judge(run_of(tmp_path / "run", History(published, []))).verdict.reasons
    (reason,) = (each for each in reasons if "did not record" in each)
    assert reason.startswith("producers 0 to 2 and 4 did not record their end: what they")
