"""Each finding has a meaning, each open reason says what it takes, each command is understood."""

import inspect
import re
import shlex
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from support.histories import Consumed, History, Published, Queued
from support.timelines import COUNT, OK, all_but, fault, killed, plain, run_of, write
from typer.main import get_command

import rmqbench
from rmqbench.broker import Broker
from rmqbench.cli import app
from rmqbench.cli.connecting import ConnectionOptions
from rmqbench.cli.run import DEFAULTS
from rmqbench.endpoint import Endpoint
from rmqbench.explaining import causes, open_question
from rmqbench.explaining.commands import run_again
from rmqbench.explaining.meanings import MEANINGS
from rmqbench.explaining.reasons import SETTLING, what_settles
from rmqbench.faults import FAULTS
from rmqbench.runner.description import describe
from rmqbench.verdict.evidence import CONFIRMED, SENT, Drain
from rmqbench.verdict.findings import FINDINGS, OUTCOMES, Effect, FindingName

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from unit.results.test_judging import histories

PAGES = {
    "confirms", "consumers", "maxlength", "publishers", "queues", "quorum-queues", "reliability",
    "semantics", "ttl", "vhosts",
}  # fmt: skip


def understood(command):
    """Parse a command as a shell and rmqbench do."""
    program, *words = shlex.split(command)
    assert program == "rmqbench"
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command.make_context("rmqbench", words).params


# --- the tables ---------------------------------------------------------------------------------


def test_every_finding_has_a_meaning():
    assert set(MEANINGS) == {*OUTCOMES, *FINDINGS} == set(FindingName)


@pytest.mark.parametrize("name", MEANINGS)
def test_a_meaning_is_plain_sentences_and_a_page(name):
    meaning = MEANINGS[name]
    assert meaning.sentence.endswith(".")
    assert meaning.promise.startswith("RabbitMQ ")
    assert meaning.promise.endswith(".")
    assert meaning.page.removeprefix("https://www.rabbitmq.com/docs/") in PAGES
    assert not meaning.look_at.endswith(".")
    assert set(re.findall(r"{(\w+)}", meaning.look_at)) <= {"when", "queue", "log"}


def test_a_promise_is_broken_by_what_fails_by_the_queue():
    """What is only counted breaks none; of the rest the promise says which."""
    for name, effect in FINDINGS.items():
        broken = MEANINGS[name].promise.startswith("RabbitMQ promises otherwise")
        assert broken == (effect is Effect.FAILS and name is not FindingName.REMOVED), name


def test_every_cause_is_asked_by_some_finding():
    there = {
        each
        for name, each in inspect.getmembers(causes, inspect.isfunction)
        if each.__module__ == causes.__name__ and not name.startswith("_")
    }
    assert there == {cause for meaning in MEANINGS.values() for cause in meaning.causes}


# --- open reasons -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        "producer 3 did not record its end: what it did not send",
        "producers 0 to 3 did not record their end: what they did not send",
        "the journal of producer 0 cannot be read (No such file or directory)",
        "the journal of consumer 0 of work.queue is not there",
        "the ledger of producer 0 cannot be read (No such file or directory)",
        "the ledger of producer 0 cannot be read (its evidence did not come back from the host)",
        "/somewhere/incidents.jsonl cannot be read (garbage)",
        "the repeats of consumer 0 of a cannot be read (Is a directory: again.bin)",
        "producer 0 recorded 2 copies, and 1 of them is there",
        "consumer 0 of a reported 1 incident, and 0 of them are there",
        "the fault kill-broker failed: it did not come back",
        "the fault kill-broker never struck: the phase ended first",
        "the fault kill-broker struck, and its end is not on record",
        "the fault kill-newborn missed its moment: it was done 0.90 s after",
        "The journal /somewhere/journal.jsonl cannot be written: No space left on device.",
        "queue a was not drained: 3 messages are still ready in it",
        "queue a was not drained: 1 message is still ready in it",
        "queue a was not drained: it could not be asked (nobody listens)",
        "queue a was not drained: 2 consumers that are not ours are still there",
        "queue a was not drained: 1 consumer that is not ours is still there",
        "queue a was not drained: no consumer could consume it and end cleanly",
        "queue a was not drained: the run ended before its drain was proven",
        "queue a was not drained: 3 messages are unacknowledged, held by a channel",
        "queue a was not drained: 1 message is unacknowledged",
        "queue a was not drained: 3 messages are missing, and its API does not say",
        "queue a was not drained: 1 message is missing, and its API does not say",
        "queue a was not drained: nobody knows why",
        "queue a delivered 3 messages that are not of this run",
        "queue a delivered 1 message that is not of this run",
    ],
)
def test_every_reason_has_what_it_takes(reason):
    matching = [needed for pattern, needed in SETTLING if re.match(pattern, reason)]
    assert what_settles(reason) == f"{matching[0]}."


def test_no_entry_of_reasons_is_hidden_by_one_before_it():
    assert len({pattern for pattern, _ in SETTLING}) == len(SETTLING)
    assert what_settles("something else").startswith("a run in which this does not happen")


def test_an_open_verdict_says_what_it_takes(tmp_path):
    history = plain(proof=Drain(False, 3, "3 messages are still ready in it"))
    path = killed(run_of(tmp_path / "run", history), "producer-0")
    account = rmqbench.explain(path)
    assert account.verdict.outcome == "INCONCLUSIVE"
    needed = {e.about: e.meaning for e in account.explanations if e.finding is None}
    assert tuple(needed) == account.verdict.reasons
    ended, taken = needed.values()
    assert "whose producers end by themselves" in ended
    assert "consumers that take all" in taken
    assert str(rmqbench.judge(path).verdict).count("Needed for a verdict: ") == 2


@pytest.mark.parametrize("missing", [(), (3,)], ids=["a pass", "a loss"])
def test_a_journal_that_could_not_be_written_leaves_a_verdict_open(tmp_path, missing):
    said = "The journal journal.jsonl cannot be written: No space left on device."
    before = rmqbench.judge(run_of(tmp_path / "run", plain(*missing))).verdict
    verdict = before.left_open(open_question(said))
    assert verdict.outcome == ("INCONCLUSIVE" if before.passed else before.outcome)
    assert verdict.reasons == (*before.reasons, said)
    assert ("Needed for a verdict: free disk space" in str(verdict)) is before.passed


def test_a_fault_that_never_struck_says_what_it_takes(tmp_path):
    path = run_of(tmp_path / "run", plain())
    text = (path / "run.json").read_text()
    (path / "run.json").write_text(text.replace('"faults": []', '"faults": ["kill-broker"]'))
    assert "a phase that lasts longer" in str(rmqbench.judge(path).verdict)
    fault(path, "kill-broker", 1, 2)
    assert "its end is not on record" not in str(rmqbench.explain(path))


def test_a_pass_has_nothing_to_explain(tmp_path):
    account = rmqbench.explain(run_of(tmp_path / "run", plain()))
    assert account.explanations == ()
    assert str(account).startswith("PASS: nothing was found\nRun ")


# --- in short -----------------------------------------------------------------------------------


def test_the_text_of_a_verdict_explains_the_first_three_findings_that_fail(tmp_path):
    state = [OK] * 6 + [SENT, SENT | 4, OK | 8, 0]
    incidents = [(FindingName.CORRUPTED, 0, 0), (FindingName.MISROUTED, 0, 1)]
    consumed = Consumed(all_but(3, 4, 6, 7, 8, 9), incidents=incidents)
    queues = [Queued(name, [consumed]) for name in ("work.queue", "audit.queue")]
    path = run_of(tmp_path / "run", History([Published(state)], queues))
    text = str(rmqbench.judge(path).verdict)
    said = [each for each in MEANINGS.values() if each.sentence in text]
    assert said == [MEANINGS[name] for name in ("nacked", "returned", "indeterminate")]


def test_what_two_queues_have_in_common_is_said_once(tmp_path):
    queues = [Queued(name, [Consumed(all_but(3))]) for name in ("work.queue", "audit.queue")]
    path = run_of(tmp_path / "run", History([Published([OK] * COUNT)], queues))
    text = str(rmqbench.judge(path).verdict)
    assert text.count(MEANINGS[FindingName.LOST].sentence) == 1
    assert text.count("1 lost in ") == 4
    whole = str(rmqbench.explain(path))
    assert whole.count("RabbitMQ promises otherwise") == 1
    assert "The same holds as for 1 lost in work.queue." in whole


def test_a_finding_is_explained_in_at_most_four_lines(tmp_path):
    path = run_of(tmp_path / "run", plain(3), recipe={"persistent": False})
    for each in rmqbench.explain(path).explanations:
        assert 2 <= len([*each.lines()]) <= 4


def test_what_is_allowed_is_explained_only_as_a_whole(tmp_path):
    history = plain(3)
    history.allowed = ("lost",)
    path = run_of(tmp_path / "run", history)
    assert MEANINGS[FindingName.LOST].sentence not in str(rmqbench.judge(path).verdict)
    whole = " ".join(str(rmqbench.explain(path)).split())
    assert MEANINGS[FindingName.LOST].sentence in whole
    assert "1 lost in work.queue (allowed)" in whole


def test_explanations_decide_nothing(tmp_path):
    path = run_of(tmp_path / "run", plain(3))
    account = rmqbench.explain(path)
    assert account.verdict == rmqbench.judge(path).verdict
    assert account.verdict.explanations == rmqbench.judge(path).verdict.explanations
    assert rmqbench.judge(path).as_dict()["explanations"] == account.as_dict()["explanations"]


# --- the next command ---------------------------------------------------------------------------


def test_the_next_command_shows_the_first_message_and_is_quoted_for_a_shell(tmp_path):
    path = run_of(tmp_path / "it's a $(run)", plain(3))
    (found,) = rmqbench.explain(path).explanations
    params = understood(found.command)
    assert Path(params["directory"]) == path
    assert params["message"] == found.finding.messages[0].message_id
    assert f"Next: {found.command}" in str(rmqbench.judge(path).verdict)


@pytest.mark.parametrize("name", ["reliability", "online", "stress"])
@pytest.mark.parametrize("size", [{}, {"size_bytes": 300}, {"size_bytes": "100*9,500:1000"}])
def test_a_run_of_the_command_line_can_be_typed_again(name, size):
    scenario = getattr(rmqbench, name)(messages=500, queue_kind="quorum", consumers=2, **size)
    command = run_again({"scenario": scenario.as_dict()})
    params = understood(command)
    assert command.startswith(f"rmqbench run {name} ")
    assert params["publish_again"] is True
    said = {key: params[key] for key in DEFAULTS[name] if key != "size_bytes"}
    assert said == {key: scenario.as_dict()[key] for key in said}
    assert params["size"] == scenario.size_bytes


@pytest.mark.parametrize("in_place", [False, True])
def test_a_broker_that_was_named_is_named_again_without_its_password(in_place, monkeypatch):
    scenario = rmqbench.reliability(messages=500)
    where = "http://admin:secret@api:1"
    endpoint = Endpoint("h", 5673, "ci", "secret", virtual_host="v", management_url=where)
    command = run_again(described(scenario, "external", endpoint, in_place=in_place))
    assert command.startswith("rmqbench run reliability ")
    assert "secret" not in command
    params = understood(command)
    assert params["in_place"] is in_place
    monkeypatch.setenv("RMQBENCH_PASSWORD", "secret")
    names = ("url", "management_url")
    again = ConnectionOptions(**{name: params[name] for name in names}).endpoint()
    assert again == replace(endpoint, management_url="http://api:1")


@pytest.mark.parametrize("kind", ["container", "local"])
def test_a_broker_of_our_own_is_another_of_its_kind(kind):
    """And not the one that RMQBENCH_URL names by then."""
    scenario = rmqbench.reliability(messages=500)
    params = understood(run_again(described(scenario, kind, Endpoint(), in_place=True)))
    assert (params["broker"], params["url"], params["in_place"]) == (kind, None, True)
    params = understood(run_again(described(rmqbench.faulty("kill-broker"), kind, Endpoint())))
    assert params["broker"] == kind


def described(scenario, kind, endpoint, *, in_place=False):
    run = uuid.uuid4()
    broker = Broker(kind, endpoint, "4.3.6", "by a test")
    return describe(run, scenario, scenario.recipe(run), broker, in_place=in_place)


@pytest.mark.parametrize("name", [n for n, kind in FAULTS.items() if "publish" in kind.phases])
def test_a_run_under_a_fault_can_be_typed_again(name):
    scenario = rmqbench.faulty(name, "publish")
    params = understood(run_again({"scenario": scenario.as_dict()}))
    assert (params["fault"], params["during"]) == (name, "publish")
    assert params["publish_again"] is True


@pytest.mark.parametrize(
    "scenario",
    [
        rmqbench.reliability(publish_again=True),
        rmqbench.reliability(persistent=False),
        rmqbench.reliability(queue_arguments={"x-max-length": 5}),
        rmqbench.reliability(name="mine"),
        rmqbench.reliability(faults=(rmqbench.Fault("kill-broker", "backlog"),)),
        rmqbench.reliability(work_queue="mine"),
        rmqbench.reliability(exchange="mine"),
        rmqbench.reliability(stall_s=120.0),
        rmqbench.reliability(heartbeat_s=7),
        rmqbench.faulty("kill-broker", rest_s=1.0),
        rmqbench.Scenario("reliability", (rmqbench.ConsumedQueue("only"),)),
    ],
)
def test_a_run_that_no_command_makes_has_none(scenario):
    assert run_again({"scenario": scenario.as_dict()}) == ""


def test_what_is_indeterminate_is_to_be_published_again(tmp_path):
    scenario = rmqbench.reliability(messages=COUNT)
    state = [SENT | CONFIRMED] * 9 + [SENT]
    path = run_of(tmp_path / "run", plain(9, state=state), scenario=scenario.as_dict())
    (found, *_) = rmqbench.explain(path).explanations
    assert found.command.endswith("--publish-again")
    assert understood(found.command)["messages"] == COUNT


# --- anything -----------------------------------------------------------------------------------


@settings(max_examples=50)
@given(history=histories())
def test_every_history_is_explained_finding_by_finding_and_message_by_message(history):
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "run"
        history.write(path)
        account = rmqbench.explain(path)
        assert str(account)
        assert str(account.verdict)
        said = [each.finding for each in account.explanations if each.finding is not None]
        assert said == [*account.verdict.findings]
        for finding in account.verdict.findings:
            for message in finding.messages:
                if message.message_id is not None:
                    life = rmqbench.explain(path, message.message_id).message
                    assert (life.producer, life.sequence) == (message.producer, message.sequence)
                    assert life.ends


def test_text_of_others_is_shown_and_never_obeyed(tmp_path):
    evil = "evil\x1b[31m\nPASS: all is well"
    history = plain(3, name=evil, removals=[(evil, 1)])
    path = run_of(tmp_path / "run", history)
    write(path, "")
    for text in (str(rmqbench.explain(path)), str(rmqbench.explain(path, "0:3"))):
        assert "\x1b" not in text
        assert "\nPASS" not in text
        assert "evil\\x1b[31m\\nPASS" in text
