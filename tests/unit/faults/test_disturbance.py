"""What a run has been through: which of it keeps a verdict open, and which explains a loss."""

import threading
import time
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace

import pytest

from rmqbench import Broker, Endpoint, Fault, faults
from rmqbench.amqp import topology
from rmqbench.errors import BrokerError, ConnectionLost, UsageError
from rmqbench.faults import FAULTS, Kind, effects
from rmqbench.faults import injection as injections
from rmqbench.faults.disturbance import RECOVERY_S, ConsumerAtWork, Disturbance, Disturber
from rmqbench.run_directory.journal import FaultEvent, MessagesRemoved
from rmqbench.run_directory.ledger import DeliveryLedger
from rmqbench.verdict.evidence import ACKED, DELIVERED, Removal

HERE = Endpoint(virtual_host="of this run")
ELSEWHERE = Endpoint(virtual_host="of another run")
QUEUES = WORK, AUDIT = "work.queue", "audit.queue"


def a_broker(started_at=0.0):
    """A node of ours that is never asked for anything."""
    node = SimpleNamespace(starts=[started_at], ready_at=started_at)
    return Broker("local", Endpoint(), "4.3.6", "of ours", node)


@pytest.fixture
def fault_that(monkeypatch):
    """Have one more fault, ``deed``, that does what is given here."""

    def have(deed):
        monkeypatch.setitem(FAULTS, "deed", Kind("something is done", deed))

    return have


@pytest.fixture
def disturber(fault_that):
    """Give a function that makes a disturber, ready for its run."""
    fault_that(lambda target: None)
    with ExitStack() as stack:

        def make(*given, broker=None, publish_again=False):
            each_comes_once = not publish_again
            made = Disturber(given, broker or a_broker(), 300, each_comes_once=each_comes_once)
            made.entries = []
            made.prepare(HERE, QUEUES, QUEUES, made.entries.append, stack)
            return made

        yield make


# --- from when on a queue is believed -----------------------------------------------------------


@pytest.mark.parametrize("shaken", [False, True])
def test_a_queue_of_a_node_that_was_not_restarted_is_believed_at_once(shaken):
    assert Disturbance(shaken=shaken).certain_at(500.0) == 0.0


def test_a_queue_is_not_believed_too_soon_after_a_restart():
    assert Disturbance(shaken=True, restarted_at=1000.0).certain_at(500.0) == 1000.0 + RECOVERY_S


def test_a_lost_connection_to_a_broker_that_is_not_ours_may_have_been_a_restart():
    assert Disturbance(shaken=True, unknown=True).certain_at(500.0) == 500.0 + RECOVERY_S


def test_a_broker_that_is_not_ours_and_lost_no_connection_is_believed_at_once():
    assert Disturbance(shaken=False, unknown=True).certain_at(500.0) == 0.0


# --- what the run has been through --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["external", "local"])
def test_only_of_a_broker_that_is_not_ours_a_restart_cannot_be_known(disturber, kind):
    theirs = Broker("external", Endpoint(), "4.3.6", "named by its URL")
    state = disturber(broker=theirs if kind == "external" else a_broker()).state(interrupted=True)
    assert state.unknown == (kind == "external")
    assert state.restarted_at is None


def test_a_start_of_our_node_before_the_run_was_no_restart(disturber):
    before = time.monotonic()
    assert disturber(broker=a_broker(before)).state(interrupted=False).restarted_at is None


def test_a_start_of_our_node_during_the_run_was_a_restart(disturber):
    broker = a_broker()
    during = disturber(broker=broker)
    started_at = time.monotonic()
    broker.node.starts.append(started_at)
    assert during.state(interrupted=False).restarted_at == started_at  # and is not ready yet
    broker.node.ready_at = started_at + 12.0
    assert during.state(interrupted=False).restarted_at == started_at + 12.0


def test_an_undisturbed_run_is_not_shaken(disturber):
    assert not disturber().state(interrupted=False).shaken


def test_an_interruption_shakes_a_run(disturber):
    assert disturber().state(interrupted=True).shaken


def test_a_fault_that_struck_shakes_a_run(disturber):
    one = disturber(Fault("deed", "publish", 1))
    one.announce("publish", 1)
    assert one.state(interrupted=False).shaken


def test_a_fault_of_an_earlier_run_on_the_same_broker_does_not_shake_a_run(disturber):
    broker = a_broker()
    earlier = disturber(Fault("deed", "publish", 1), broker=broker)
    earlier.announce("publish", 1)
    earlier.settle()
    assert not disturber(broker=broker).state(interrupted=False).shaken


def test_the_state_is_told_once_a_fault_is_over(disturber, fault_that):
    broker, go_on = a_broker(), threading.Event()

    def restart_late(_):
        go_on.wait(10)
        broker.node.starts.append(time.monotonic())

    fault_that(restart_late)
    one = disturber(Fault("deed", "publish", 1), broker=broker)
    one.announce("publish", 1)
    threading.Timer(0.1, go_on.set).start()
    assert one.state(interrupted=False).restarted_at is not None


# --- what is written down -----------------------------------------------------------------------


def phases(disturber):
    return [(e.fault, e.phase, e.own) for e in disturber.entries if isinstance(e, FaultEvent)]


def test_a_fault_of_the_scenario_is_written_down_from_its_strike_to_its_end(disturber):
    one = disturber(Fault("deed", "publish", 1), Fault("deed", "publish", 999))
    one.announce("publish", 1)
    one.settle()
    assert phases(one) == [("deed", "struck", 0), ("deed", "over", 0)]


def test_a_fault_that_could_not_be_carried_out_is_written_down_as_failed(disturber, fault_that):
    def refuse(_):
        raise BrokerError("Not today.")

    fault_that(refuse)
    one = disturber(Fault("deed", "publish", 1))
    one.announce("publish", 1)
    one.settle()
    assert phases(one) == [("deed", "struck", 0), ("deed", "failed", 0)]
    assert one.entries[-1].text == "Not today."


@pytest.mark.parametrize(
    ("queue", "endpoint", "explained"),
    [(WORK, HERE, True), (AUDIT, HERE, True), (WORK, ELSEWHERE, False)],
)
def test_a_fault_explains_what_is_missing_from_its_own_queue_only(
    disturber, fault_that, queue, endpoint, explained
):
    fault_that(lambda target: target.note_removal(Removal("a deed", 3), "act"))
    broker = a_broker()
    one = disturber(broker=broker)
    host = endpoint.virtual_host
    with faults.inject("deed", broker, virtual_host=host, queue=queue) as injection:
        injection.strike()
    removed = [(e.queue, e.cause, e.at_most) for e in one.entries if isinstance(e, MessagesRemoved)]
    assert removed == ([(queue, "a deed", 3)] if explained else [])


class Deed:
    """What a fault does to a queue, when it is asked to: nothing is known of it before."""

    def __init__(self, answer):
        self.known = []
        self.known_before = None
        self._answer = answer

    def __call__(self, *_):
        self.known_before = list(self.known)
        return self._answer()

    def target(self):
        """Return what a fault may strike, whose removals are known here."""
        return effects.Target(
            a_broker(), HERE, queue=WORK, note_removal=lambda *each: self.known.append(each)
        )


def no_answer():
    raise ConnectionLost("The connection was lost.")


def test_a_purge_is_written_down_before_it_is_done_and_how_many_it_removed_after_it(monkeypatch):
    purge = Deed(lambda: 12)
    monkeypatch.setattr(topology, "purge", purge)
    effects.purge_queue(purge.target())
    (before, act), (after, act_after) = purge.known
    assert purge.known_before == [(before, act)]
    assert before.at_most is None
    assert after == Removal("a purge of 12 messages", 12)
    assert act == act_after
    effects.purge_queue(purge.target())
    assert purge.known[-1][1] != act


def test_a_purge_without_an_answer_may_have_removed_any_number(monkeypatch):
    purge = Deed(no_answer)
    monkeypatch.setattr(topology, "purge", purge)
    with pytest.raises(ConnectionLost):
        effects.purge_queue(purge.target())
    assert [removal for removal, _ in purge.known] == [
        Removal("a purge whose answer did not come, of any number of messages", None)
    ]


def test_a_deletion_is_written_down_before_it_is_done(monkeypatch):
    delete = Deed(lambda: SimpleNamespace(method=SimpleNamespace(message_count=7)))
    channel = SimpleNamespace(queue_delete=delete)
    monkeypatch.setattr(effects, "admin", lambda _: nullcontext(channel))
    effects.delete_queue(delete.target())
    (before, act), (after, act_after) = delete.known
    assert delete.known_before == [(before, act)]
    assert before == Removal("a deletion whose answer did not come")
    text = "it was deleted, with 7 ready messages; what was published later found no queue"
    assert after == Removal(text)
    assert act == act_after


def test_what_is_known_of_an_act_in_the_end_is_all_that_is_known_of_it(fault_that):
    def strike(target):
        target.note_removal(Removal("one, or it was to be"), "one")
        target.note_removal(Removal("another, or it was to be"), "another")
        target.note_removal(Removal("one", 3), "one")

    fault_that(strike)
    with faults.inject("deed", a_broker(), queue=WORK) as injection:
        injection.strike()
        injection.settle()
        assert injection.removals == (Removal("one", 3), Removal("another, or it was to be"))


# --- whose faults strike -------------------------------------------------------------------------


def test_two_runs_on_one_broker_never_strike_with_each_other_s_faults(disturber):
    broker = a_broker()
    one = disturber(Fault("deed", "publish", 5), broker=broker)
    other = disturber(broker=broker)
    other.announce("publish", 100)
    assert not one.has_struck()
    one.announce("publish", 5)
    one.settle()
    assert phases(one)
    assert phases(other) == []


def test_a_fault_around_a_run_strikes_when_the_run_has_come_so_far(disturber):
    broker = a_broker()
    with faults.inject("deed", broker, after_messages=7) as injection:
        one = disturber(broker=broker)
        one.announce("publish", 6)
        assert injection.struck_at is None
        one.announce("drain", 7, AUDIT)
        assert injection.struck_at is not None
    assert phases(one) == [("deed", "struck", None), ("deed", "over", None)]


def test_a_fault_entered_within_a_run_is_the_run_s_too(disturber):
    broker = a_broker()
    one = disturber(broker=broker)
    with faults.inject("deed", broker):
        one.announce("publish", 1)
    assert phases(one) == [("deed", "struck", None), ("deed", "over", None)]


def test_a_fault_that_was_left_strikes_no_more(disturber):
    broker = a_broker()
    one = disturber(broker=broker)
    with faults.inject("deed", broker) as injection:
        pass
    one.announce("publish", 1)
    assert injection.struck_at is None


def test_a_fault_of_another_thread_does_not_strike_a_run(disturber):
    broker, entered, leave = a_broker(), threading.Event(), threading.Event()
    struck = []

    def elsewhere():
        with faults.inject("deed", broker) as injection:
            entered.set()
            leave.wait(10)
            struck.append(injection.struck_at)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert entered.wait(10)
    one = disturber(broker=broker)
    one.announce("publish", 1)
    leave.set()
    thread.join(10)
    assert (struck, phases(one)) == ([None], [])


def test_a_fault_around_a_run_on_another_broker_is_none_of_it(disturber):
    with faults.inject("deed", a_broker()) as injection:
        disturber(broker=a_broker()).announce("publish", 1)
    assert injection.struck_at is None


def test_a_fault_waits_for_the_drain_of_its_own_queue(disturber):
    one = disturber(Fault("deed", "drain", 5, queue=AUDIT))
    one.announce("drain", 300, WORK)
    assert not one.has_struck()
    one.announce("drain", 5, AUDIT)
    assert one.has_struck()


def test_nothing_is_kept_of_a_run_that_is_over():
    before = injections._around.get(), injections._adopters.get()
    with ExitStack() as stack:
        one = Disturber((), a_broker(), 10, each_comes_once=True)
        one.prepare(HERE, QUEUES, QUEUES, lambda _: None, stack)
        assert injections._adopters.get() != before[1]
        stack.enter_context(faults.inject("kill-broker", a_broker()))
    assert (injections._around.get(), injections._adopters.get()) == before


# --- a consumer that is killed -------------------------------------------------------------------


class Worker:
    """A consumer's process, which may acknowledge what it holds the moment before it halts."""

    def __init__(self, directory, *acknowledges):
        DeliveryLedger.create(directory, 10)
        self.directory = directory
        self.pid = 4711
        self.done = []
        self._acknowledges = list(acknowledges)
        self._dead = False

    def hold(self, count):
        ledger = DeliveryLedger.open(self.directory)
        ledger.state[:count] = DELIVERED

    def ended(self):
        return self._dead

    def halt(self):
        self.done.append("halt")
        ledger = DeliveryLedger.open(self.directory)
        ledger.state[: self._acknowledges.pop(0)] |= ACKED

    def go_on(self):
        self.done.append("go on")
        self.hold(3)  # and takes others

    def strike(self):
        self.done.append("strike")
        self._dead = True


@pytest.fixture
def kill(disturber, tmp_path):
    """Have a consumer of the work queue killed, whose process this is; return what is said."""

    def kill(*workers, auto_ack=False):
        one = disturber()
        one.note_consumers(
            [ConsumerAtWork(each, WORK, each.directory, auto_ack) for each in workers]
        )
        return one._kill_one_consumer(WORK)

    return kill


def test_a_consumer_is_halted_before_it_is_killed_and_what_it_then_holds_is_told(kill, tmp_path):
    worker = Worker(tmp_path / "a", 2)
    worker.hold(5)
    assert kill(worker) == ("the consumer in process 4711 is dead, with 3 unacknowledged messages")
    assert worker.done == ["halt", "strike"]


def test_a_consumer_that_has_acknowledged_all_before_it_halts_goes_on(kill, tmp_path):
    worker = Worker(tmp_path / "a", 5, 0)
    worker.hold(5)
    assert kill(worker).endswith("with 3 unacknowledged messages")
    assert worker.done == ["halt", "go on", "halt", "strike"]


def test_the_consumer_that_holds_most_is_killed_and_who_shares_its_process_is_told(kill, tmp_path):
    few, many = Worker(tmp_path / "few", 0), Worker(tmp_path / "many", 0)
    few.hold(1)
    many.hold(4)
    assert kill(few, many).endswith("with 4 unacknowledged messages")
    assert (few.done, many.done) == ([], ["halt", "strike"])
    shared = Worker(tmp_path / "shared", 0)
    shared.hold(2)
    assert kill(shared, shared, auto_ack=True) == (
        "the consumer in process 4711 is dead, with 2 deliveries; 1 consumer died with it"
    )


def test_where_no_consumer_is_left_none_is_killed(kill, tmp_path):
    worker = Worker(tmp_path / "a")
    worker.strike()
    with pytest.raises(BrokerError, match="no consumer left"):
        kill(worker)


# --- the limit of a queue ------------------------------------------------------------------------


class Limited:
    """A broker of ours that takes a policy, and does something the moment before."""

    def __init__(self, just_before):
        self.management = nullcontext(self)
        self._just_before = just_before

    def set_policy(self, *_, **__):
        self._just_before()


@pytest.mark.parametrize(
    ("given", "changes", "at_most"),
    [
        ([("drain", 60)], {}, 300 - 60 - 100),
        ([("drain", 250)], {}, 0),
        ([("publish", 60)], {}, 300 - 100),
        # What comes again may push others out.
        ([("drain", 60)], {"publish_again": True}, None),
        ([("drain", 60), ("drain", 299)], {}, None),
    ],
)
def test_a_limit_explains_no_more_than_all_but_what_it_leaves(
    disturber, fault_that, given, changes, at_most
):
    targets = []
    fault_that(targets.append)
    one = disturber(*(Fault("deed", *when) for when in given), **changes)
    phase, done = given[0]
    one.announce(phase, done, WORK if phase == "drain" else None)
    one.settle()
    (target,) = targets
    target.broker = Limited(lambda: one.announce("drain", 290, WORK))
    effects.limit_queue(target)
    removed = [each for each in one.entries if isinstance(each, MessagesRemoved)]
    assert [each.at_most for each in removed] == [at_most, at_most]
    assert len({each.act for each in removed}) == 1


# --- at a time ------------------------------------------------------------------------------------


def test_a_fault_may_strike_so_many_seconds_after_the_first_message(disturber, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(injections.time, "monotonic", lambda: now[0])
    run = disturber(Fault("deed", "publish", after_s=5), Fault("deed", "publish", after_s=9))

    def struck():
        return [entry.own for entry in run.entries if entry.phase == "struck"]

    run.announce("publish", 0)
    now[0] += 100  # nothing has come through: its time has not begun
    run.announce("publish", 1)
    now[0] += 4.9
    run.announce("drain", 100, WORK)
    run.announce("publish", 100)
    assert struck() == []
    now[0] += 0.1
    run.announce("publish", 100)
    assert struck() == [0]
    now[0] += 4
    run.announce("publish", 200)
    assert struck() == [0, 1]


def test_a_time_that_is_none_is_refused():
    with pytest.raises(UsageError, match="after_s is -1"):
        Fault("kill-broker", after_s=-1)
