"""A cause is named where the evidence shows it, and only there."""

import json
from dataclasses import replace

import pytest
from support.histories import Consumed, History, Published, Queued
from support.timelines import (
    CONSUMER,
    COUNT,
    OK,
    PRODUCER,
    all_but,
    asked,
    at,
    fault,
    interrupted,
    killed,
    plain,
    removed,
    restarted,
    run_of,
    without,
    write,
)

import rmqbench
from rmqbench.run_directory.journal import (
    Declared,
    DrainTried,
    Interrupted,
    PoliciesFound,
    StageBegan,
    WorkEnded,
)
from rmqbench.verdict.evidence import NACKED, RETURNED, SENT, Drain
from rmqbench.verdict.findings import FindingName

PLAIN = {"kind": "classic", "durable": True, "auto_ack": False}


def causes_of(path, name="lost", *, effect="fails"):
    """The causes named for a finding, in their order."""
    (found,) = (
        each
        for each in rmqbench.explain(path).explanations
        if each.finding is not None and (each.finding.name, each.finding.effect) == (name, effect)
    )
    assert len(found.causes) <= 3
    assert bool(found.causes) == ("Nothing in the evidence" not in " ".join(found.lines()))
    return found.causes


def first(path, name="lost", **more):
    """The first cause that is named for a finding, "" if there is none."""
    return next(iter(causes_of(path, name, **more)), "")


def asked_for(path, **queue):
    """Change what the queues were asked for."""
    description = json.loads((path / "run.json").read_text())
    for each in description["queues"]:
        each.update(queue)
    (path / "run.json").write_text(json.dumps(description))
    return path


def described(path, **fields):
    description = json.loads((path / "run.json").read_text())
    for name, value in fields.items():
        description[name] = {**description[name], **value}
    (path / "run.json").write_text(json.dumps(description))
    return path


@pytest.fixture
def losing(tmp_path):
    """A run that lost two messages, and shows nothing that explains it."""
    path = run_of(tmp_path / "run", plain(3, 4), **PLAIN)
    assert causes_of(path) == ()
    return path


# --- lost ---------------------------------------------------------------------------------------


def test_where_nothing_explains_a_loss_it_says_where_to_look(losing):
    (found,) = rmqbench.explain(losing).explanations
    assert found.look_at.startswith("the broker's log around ")
    assert found.look_at.endswith("who else may read, purge or limit work.queue")
    assert "Nothing in the evidence explains it. Look at the broker's log" in str(
        rmqbench.judge(losing).verdict
    )


@pytest.mark.parametrize("over", [True, False])
def test_automatic_acknowledgement_is_named_where_a_consumer_was_killed(losing, over):
    asked_for(killed(losing, CONSUMER), auto_ack=True)
    if over:
        write(losing, "", StageBegan(time_ns=at(21), stage="judge"))
    at_work = "" if over else ", or is still at work"
    assert first(losing) == (
        "automatic acknowledgement (auto_ack): RabbitMQ forgets a message as it sends it, and "
        f"consumer 0 of work.queue was killed{at_work} (its last sign of life: +5.0 s). What was "
        "on its way is gone."
    )


def test_automatic_acknowledgement_is_named_where_a_connection_broke(losing):
    asked_for(interrupted(losing, CONSUMER, 5.5), auto_ack=True)
    assert "consumer 0 of work.queue was interrupted at +5.5 s: The connection ended." in first(
        losing
    )


def test_automatic_acknowledgement_alone_is_no_cause(losing):
    assert causes_of(asked_for(losing, auto_ack=True)) == ()


def test_a_killed_consumer_that_acknowledged_is_not_called_automatic(losing):
    named = " ".join(causes_of(killed(losing, CONSUMER)))
    assert "automatic" not in named
    assert "What it had not acknowledged went back to the queue." in named


def test_no_confirms_is_named_where_a_producer_was_cut_off(losing):
    described(interrupted(losing, PRODUCER, 3.1, first=COUNT), scenario={"confirms": False})
    assert first(losing).startswith("no publisher confirms (confirms=False): nobody knows what")
    assert "producer 0 was interrupted at +3.1 s" in first(losing)


@pytest.mark.parametrize("confirms", [True, False])
def test_no_confirms_is_not_named_with_confirms_or_without_a_break(losing, confirms):
    described(losing, scenario={"confirms": confirms})
    if confirms:
        interrupted(losing, PRODUCER, 3.1, first=COUNT)
    assert "no publisher confirms" not in " ".join(causes_of(losing))


def test_transient_messages_are_named_where_the_node_restarted(losing):
    described(restarted(losing, 12.3, 14), recipe={"persistent": False})
    assert first(losing) == (
        "transient messages (persistent=False) do not outlive their node: the node restarted, "
        "or may have, between +12.3 s and +14.0 s, after all of these had been sent."
    )


@pytest.mark.parametrize(
    ("persistent", "kind", "restart_s"),
    [(True, "classic", 12), (False, "quorum", 12), (False, "classic", None), (False, "classic", 0)],
)
def test_transient_messages_are_not_named_otherwise(losing, persistent, kind, restart_s):
    described(asked_for(losing, kind=kind), recipe={"persistent": persistent})
    if restart_s is not None:
        restarted(losing, restart_s)
    assert "transient" not in " ".join(causes_of(losing))


def test_a_queue_that_is_not_durable_is_named_where_the_node_restarted(losing):
    asked_for(restarted(losing, 12.3), durable=False)
    assert first(losing) == (
        "a queue that is not durable is deleted with its node, and so was work.queue: the node "
        "restarted at +12.3 s."
    )


@pytest.mark.parametrize(("durable", "restarts"), [(True, True), (False, False)])
def test_a_queue_that_is_not_durable_is_not_named_otherwise(losing, durable, restarts):
    asked_for(losing, durable=durable)
    if restarts:
        restarted(losing, 12.3)
    assert "not durable" not in " ".join(causes_of(losing))


@pytest.mark.parametrize("up_again", [True, False])
def test_a_newborn_quorum_queue_is_named_first(losing, up_again):
    asked_for(fault(losing, "kill-newborn", 0.4, 4.0), kind="quorum")
    if up_again:
        restarted(losing, 3.9)
    (named,) = causes_of(losing)
    assert named.startswith("a newborn quorum queue: it was declared 0.4 s before the node died")


@pytest.mark.parametrize(("kind", "struck_s"), [("classic", 0.4), ("quorum", 9.0)])
def test_an_old_queue_or_a_classic_one_is_not_called_newborn(losing, kind, struck_s):
    asked_for(fault(losing, "kill-broker", struck_s, 12.0), kind=kind)
    assert "newborn" not in " ".join(causes_of(losing))


@pytest.mark.parametrize("kind", ["classic", "stream"])
def test_a_power_cut_is_named_where_confirms_do_not_wait_for_the_disk(losing, kind):
    asked_for(fault(losing, "power-cut", 12.3, 14), kind=kind)
    (named,) = causes_of(losing)
    assert named.startswith("a power cut: the node restarted between +12.3 s and +14.0 s (the ")
    assert f"RabbitMQ confirms for a {kind}" in named


@pytest.mark.parametrize(
    ("kind", "persistent", "name", "struck_s"),
    [
        ("quorum", True, "power-cut", 12),
        ("classic", False, "power-cut", 12),
        ("classic", True, "kill-broker", 12),
        ("classic", True, "power-cut", 0),
    ],
)
def test_a_power_cut_is_not_named_otherwise(losing, kind, persistent, name, struck_s):
    asked_for(fault(losing, name, struck_s, struck_s + 1), kind=kind)
    described(losing, recipe={"persistent": persistent})
    assert "a power cut" not in " ".join(causes_of(losing))


def test_a_queue_that_is_gone_is_named(losing):
    without(losing, "", DrainTried)
    write(losing, "", asked("work.queue", 20, there=False))
    assert first(losing) == (
        "queue work.queue does not exist any more: it was gone when it was asked at +20.0 s, with "
        "all that it had held."
    )


def test_a_restart_is_named_with_how_many_had_been_sent(losing):
    restarted(losing, 12.3)
    assert first(losing) == (
        "a restart: the node restarted at +12.3 s, after all of these had been sent."
    )


def test_a_restart_before_anything_was_sent_is_none(losing):
    assert causes_of(restarted(losing, 0.2)) == ()


def test_a_restart_by_a_fault_of_the_run_is_sure_and_named_after_it(losing):
    fault(losing, "kill-broker", 12.0, 14.0)
    assert first(losing).startswith(
        "a restart: the node restarted between +12.0 s and +14.0 s (the run's own fault "
        "kill-broker, +12.0 s), after"
    )


def test_a_fault_that_restarts_no_node_is_no_restart(losing):
    assert causes_of(fault(losing, "latency", 2, 4)) == ()


def test_a_consumer_that_was_interrupted_is_named_with_the_fault_that_did_it(losing):
    interrupted(fault(losing, "reset-connection", 5.2, 5.3), CONSUMER, 5.5)
    assert first(losing).startswith(
        "consumer 0 of work.queue was interrupted at +5.5 s (the run's own fault "
        "reset-connection, +5.2 s): The connection ended."
    )


def test_a_fault_that_was_long_over_is_not_blamed(losing):
    interrupted(fault(losing, "reset-connection", 5.2, 5.3), CONSUMER, 60)
    assert "fault" not in first(losing)


def test_altered_traffic_is_named_where_other_findings_break_the_protocol(tmp_path):
    consumed = Consumed([*all_but(3), (0, 5, False)])
    history = History([Published([OK] * COUNT)], [Queued("work.queue", [consumed])])
    path = run_of(tmp_path / "run", history, **PLAIN)
    assert first(path).startswith("something between rmqbench and the broker alters AMQP traffic")
    assert "the run also saw 1 duplicate." in first(path)


def test_altered_traffic_is_named_where_something_could_not_be_read(losing):
    interrupted(losing, CONSUMER, 5.5, "A message or frame that the broker sent cannot be read.")
    assert "alters AMQP traffic" in " ".join(causes_of(losing))


def test_altered_traffic_is_not_named_where_a_connection_only_ended(losing):
    interrupted(losing, CONSUMER, 5.5)
    assert "alters AMQP traffic" not in " ".join(causes_of(losing))


@pytest.mark.parametrize(
    "given_up",
    [
        {"recipe": {"persistent": False}},
        {"scenario": {"confirms": False}},
        {"durable": False},
        {"auto_ack": True},
        {},
    ],
)
def test_no_promise_is_said_to_be_broken_that_the_run_has_given_up(losing, given_up):
    described(
        losing, **{key: given_up.pop(key) for key in ("recipe", "scenario") & given_up.keys()}
    )
    asked_for(losing, **given_up)
    (found,) = rmqbench.explain(losing).explanations
    description = json.loads((losing / "run.json").read_text())
    changed = given_up or description["scenario"] or not description["recipe"]["persistent"]
    said = "RabbitMQ does not promise otherwise here" if changed else "RabbitMQ promises otherwise"
    assert found.promise.startswith(f"{said}: it keeps")
    unconfirmed = bool(description["scenario"])
    assert found.meaning.startswith(
        "These were written, no confirm was asked for" if unconfirmed else "The broker confirmed"
    )


# --- removed ------------------------------------------------------------------------------------


def test_a_purge_on_record_is_named_with_its_time_and_its_page(tmp_path):
    history = plain(3, 4, removals=[("a purge of 2 messages", 2)])
    path = run_of(tmp_path / "run", history, **PLAIN)
    assert causes_of(path, "removed") == ("a purge of 2 messages at +10.0 s (at most 2 messages).",)
    (found,) = rmqbench.explain(path).explanations
    assert found.page == "https://www.rabbitmq.com/docs/queues"


@pytest.mark.parametrize(
    ("arguments", "said", "page"),
    [
        ({"x-max-length": 8}, "x-max-length=8 with overflow drop-head: the oldest", "maxlength"),
        ({"x-message-ttl": 5}, "x-message-ttl=5: what waits longer than that is dropped.", "ttl"),
    ],
)
def test_an_argument_of_the_queue_is_named_with_its_page(tmp_path, arguments, said, page):
    path = run_of(tmp_path / "run", plain(3, 4), **PLAIN, arguments=arguments)
    assert first(path, "removed").startswith(said)
    (found,) = rmqbench.explain(path).explanations
    assert found.page == f"https://www.rabbitmq.com/docs/{page}"


def test_a_cause_that_can_have_removed_nothing_is_not_named(tmp_path):
    history = plain(3, 4, removals=[("a purge of 0 messages", 0), ("a purge of 2 messages", 2)])
    path = run_of(tmp_path / "run", history, **PLAIN)
    assert "of 0" not in " ".join(causes_of(path, "removed"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"x-max-length": 9}, "x-max-length=9 with overflow drop-head: by what the run knows it"),
        ({"x-delivery-limit": 2}, "x-delivery-limit=2: by what the run knows it removed 0 at most"),
        ({}, ""),
    ],
)
def test_a_setting_that_took_no_more_of_what_the_run_knows_is_named_for_a_loss(
    tmp_path, arguments, said
):
    path = run_of(tmp_path / "run", plain(3, 4), **PLAIN, arguments=arguments)
    assert first(path, "lost").startswith(said)
    assert bool(first(path, "lost")) == bool(said)


# --- outcomes -----------------------------------------------------------------------------------


def with_outcomes(path, state, **more):
    history = plain(*(n for n, each in enumerate(state) if each != OK), state=state)
    history.published[0].error = more.pop("error", None)
    return run_of(path, history, **PLAIN, **more)


def test_what_rejects_messages_is_named_for_a_nack(tmp_path):
    full = {"x-max-length": 9, "x-overflow": "reject-publish"}
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [SENT | NACKED], arguments=full)
    assert first(path, "nacked") == (
        "queue work.queue rejects what exceeds its limit: x-max-length=9 with "
        "x-overflow=reject-publish."
    )


def with_policy(path, **definition):
    definition = {name.replace("_", "-"): value for name, value in definition.items()}
    found = PoliciesFound(
        time_ns=at(0.1), queue="work.queue", name="policy p", definition=definition
    )
    return write(path, "", found)


def test_a_policy_that_rejects_messages_is_named_for_a_nack(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [SENT | NACKED])
    with_policy(path, max_length=9, overflow="reject-publish")
    assert first(path, "nacked") == (
        "queue work.queue rejects what exceeds its limit: policy p: max-length=9 with policy p: "
        "overflow=reject-publish."
    )


def test_a_policy_that_drops_messages_is_named_for_what_is_removed(losing):
    with_policy(losing, max_length=8)
    assert first(losing, "removed").startswith(
        "max-length=8 with overflow drop-head (policy p): the oldest message is dropped when"
    )


def test_a_queue_that_drops_its_head_is_not_named_for_a_nack(tmp_path):
    path = with_outcomes(
        tmp_path / "run", [OK] * 9 + [SENT | NACKED], arguments={"x-max-length": 9}
    )
    assert causes_of(path, "nacked") == ()


def test_a_deletion_on_record_is_named_for_a_return(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [OK | RETURNED])
    assert causes_of(path, "returned") == ()
    write(path, "", removed("work.queue", "it was deleted, with 3 ready messages", 1.0))
    assert first(path, "returned") == ("queue work.queue was deleted at +1.0 s, by the run itself.")


def test_a_deletion_whose_answer_did_not_come_is_one(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [OK | RETURNED])
    write(path, "", removed("work.queue", "a deletion whose answer did not come", 1.0))
    assert "deleted at +1.0 s" in first(path, "returned")


def test_of_an_act_its_last_entry_is_told(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [OK | RETURNED])
    acts = (
        ("a deletion whose answer did not come", 1.0),
        ("it was deleted, with 3 ready messages", 1.5),
    )
    for cause, seconds in acts:
        write(path, "", replace(removed("work.queue", cause, seconds), act="one"))
    assert "deleted at +1.5 s" in first(path, "returned")
    told = [each.what for each in rmqbench.explain(path, "0:3").message.moments]
    assert "queue work.queue: it was deleted, with 3 ready messages" in told
    assert "queue work.queue: a deletion whose answer did not come" not in told


def test_a_purge_on_record_is_not_named_for_a_return(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [OK | RETURNED])
    write(path, "", removed("work.queue", "a purge of 3 messages", 1.0))
    assert causes_of(path, "returned") == ()


def test_a_broken_connection_is_named_for_what_is_indeterminate(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [SENT])
    assert causes_of(path, "indeterminate") == ()
    interrupted(path, PRODUCER, 3.1, first=COUNT)
    assert first(path, "indeterminate") == (
        "producer 0 was interrupted at +3.1 s: The connection ended. It does not publish again "
        "what is unknown then."
    )
    described(path, scenario={"publish_again": True})
    assert "publish again" not in first(path, "indeterminate")


def test_why_a_producer_gave_up_is_named(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [0], error="Nobody is there.")
    assert first(path, "unsent") == "producer 0 gave up at +7.0 s: Nobody is there."


def test_a_producer_that_ended_well_is_not_said_to_have_given_up(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [0])
    assert causes_of(path, "unsent") == ()


def test_a_producer_that_was_killed_is_named(tmp_path):
    path = killed(with_outcomes(tmp_path / "run", [OK] * 9 + [0]), PRODUCER)
    assert "producer 0 was killed" in first(path, "unsent", effect="inconclusive")


def test_an_alarm_is_named_for_what_was_never_sent_and_is_no_break(tmp_path):
    path = with_outcomes(tmp_path / "run", [OK] * 9 + [0])
    (end,) = without(path, PRODUCER, WorkEnded)
    why = "The broker blocks publishers: low on memory."
    fault(path, "memory-alarm", 1, 4)
    write(path, PRODUCER, Interrupted(time_ns=at(2), why=why), end)
    assert causes_of(path, "unsent") == (
        "producer 0 was kept waiting from +2.0 s (the run's own fault memory-alarm, +1.0 s) on: "
        f"{why}",
    )


# --- what the messages show ---------------------------------------------------------------------


def delivering(path, deliveries, *, incidents=(), arguments=None, consumers=1, **more):
    consumed = Consumed(deliveries, incidents=incidents)
    others = [Consumed([]) for _ in range(consumers - 1)]
    history = History([Published([OK] * COUNT)], [Queued("work.queue", [consumed, *others])])
    return run_of(path, history, **PLAIN, arguments=arguments or {}, **more)


def test_twice_on_one_open_channel_is_named_for_a_duplicate(tmp_path):
    path = delivering(tmp_path / "run", [*all_but(), (0, 3, False)])
    assert first(path, "duplicate").startswith(
        "message 0:3 came 2 times on channel 1 of consumer 0 of work.queue, which was open"
    )


def test_twice_to_two_consumers_is_not_called_one_channel(tmp_path):
    one, other = Consumed(all_but()), Consumed([(0, 3, False)])
    queued = Queued("work.queue", [one, other], only_consumer=False)
    path = run_of(tmp_path / "run", History([Published([OK] * COUNT)], [queued]), **PLAIN)
    assert causes_of(path, "duplicate") == ()


def test_a_copy_that_came_by_another_way_is_named_for_a_duplicate(tmp_path):
    deliveries = [*all_but(), (0, 3, False)]
    for number, sequence in enumerate((3, 4)):
        incidents = [(FindingName.MISROUTED, 0, sequence)]
        path = delivering(tmp_path / f"run-{number}", deliveries, incidents=incidents)
        said = "message 0:3 came by as reported, too: something publishes messages again"
        assert first(path, "duplicate").startswith(said) == (sequence == 3)


def test_a_dead_letter_exchange_is_named(tmp_path):
    incidents = [(FindingName.MISROUTED, 0, 3)]
    for number, arguments in enumerate(({}, {"x-dead-letter-exchange": "dlx"})):
        path = delivering(
            tmp_path / f"run-{number}", all_but(), incidents=incidents, arguments=arguments
        )
        named = " ".join(causes_of(path, "misrouted"))
        assert ("x-dead-letter-exchange='dlx'" in named) == bool(arguments)
        assert "it came by as reported" in named


def test_priorities_are_named_for_disorder(tmp_path):
    swapped = [(0, n, False) for n in (1, 0, *range(2, COUNT))]
    for number, arguments in enumerate(({}, {"x-max-priority": 3})):
        path = delivering(tmp_path / f"run-{number}", swapped, arguments=arguments)
        named = causes_of(path, "reordered")
        assert ("x-max-priority=3" in " ".join(named)) == bool(arguments)


def test_what_differs_is_named_and_who_can_have_done_it(tmp_path):
    incidents = [(FindingName.CORRUPTED, 0, 3)]
    path = delivering(tmp_path / "run", all_but(), incidents=incidents)
    assert first(path, "corrupted").startswith("what differs is as reported. RabbitMQ changes no")
    assert "alters AMQP traffic" in causes_of(path, "corrupted")[1]


def test_altered_traffic_is_not_named_where_a_restart_may_explain_it(tmp_path):
    incidents = [(FindingName.PHANTOM, 0, 30)]
    path = delivering(tmp_path / "run", all_but(), incidents=incidents)
    assert "alters AMQP traffic" in first(path, "phantom")
    assert causes_of(restarted(path, 12), "phantom") == ()


def test_a_redelivery_is_explained_by_the_consumer_that_was_interrupted(tmp_path):
    path = delivering(tmp_path / "run", [*all_but(), (0, 3, True)])
    assert causes_of(interrupted(path, CONSUMER, 5.0000000105), "redelivered", effect="allowed")


def test_what_a_queue_says_of_its_origin_is_named_for_foreign_messages(tmp_path):
    incidents = [(FindingName.FOREIGN, None, None)]
    path = delivering(tmp_path / "run", all_but(), incidents=incidents)
    assert first(path, "foreign", effect="inconclusive") == (
        "somebody else publishes to this queue: as reported."
    )


def test_why_a_consumer_gave_up_is_named_for_what_is_stuck(tmp_path):
    history = plain(proof=Drain(False, 3, "3 messages are still ready in it"))
    path = run_of(tmp_path / "run", history, **PLAIN)
    assert causes_of(path, "stuck", effect="inconclusive") == ()
    without(path, CONSUMER, WorkEnded)
    error = "Consumer 0 of work.queue received nothing for 30 s."
    write(path, CONSUMER, WorkEnded(time_ns=at(7), until_ns=9, cpu_s=0, messages=9, error=error))
    assert first(path, "stuck", effect="inconclusive") == (
        f"consumer 0 of work.queue gave up at +7.0 s: {error}"
    )


def test_a_restart_in_between_is_named_for_what_came_after_its_acknowledgement(tmp_path):
    one, other = Consumed(all_but()), Consumed([(0, 3, True)])
    history = History([Published([OK] * COUNT)], [Queued("work.queue", [one, other])])
    path = run_of(tmp_path / "run", history, **PLAIN)
    assert causes_of(path, "redelivered after ack") == ()
    restarted(path, 4.99, 5.1)
    assert first(path, "redelivered after ack", effect="allowed").startswith(
        "acknowledgements may not have reached the disk when the node restarted"
    )


def test_at_most_three_causes_are_named(tmp_path):
    path = run_of(tmp_path / "run", plain(3), **PLAIN, recipe={"persistent": False})
    asked_for(path, durable=False, auto_ack=True)
    interrupted(restarted(path, 12), CONSUMER, 5.5)
    assert len(causes_of(path)) == 3


def test_times_count_from_the_first_entry_of_the_run(losing):
    (declared,) = without(losing, "", Declared)
    assert rmqbench.explain(losing).began_ns == at(20) != declared.time_ns
    without(losing, "", DrainTried)
    assert rmqbench.explain(losing).began_ns == at(0.5)  # of its workers
