"""What a run has been through: which of it keeps a verdict open, and which explains a loss."""

import threading
import time
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace

import pytest

from rmqbench import Broker, Endpoint, Fault, Scenario, faults
from rmqbench.amqp import topology
from rmqbench.amqp.topology import Queue, Topology, removals
from rmqbench.errors import BrokerError
from rmqbench.faults import effects as strikes
from rmqbench.faults.disturbance import Disturbance, Disturber
from rmqbench.faults.injection import FAULTS, Kind
from rmqbench.runner.isolation import Place
from rmqbench.verdict.evidence import Removal

RECOVERY_S = 8.0
HERE = Endpoint(virtual_host="of this run")
ELSEWHERE = Endpoint(virtual_host="of another run")
WORK, AUDIT = Queue("work.queue"), Queue("audit.queue")


def a_broker(started_at=0.0):
    """A node of ours that is never asked for anything."""
    return Broker("local", Endpoint(), "4.3.6", "of ours", SimpleNamespace(started_at=started_at))


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

        def make(*given, broker=None, **changes):
            scenario = Scenario("disturbed", messages=300, faults=given, **changes)
            made = Disturber(scenario, broker or a_broker())
            made.prepare(Place(HERE, Topology(), ()), stack)
            return made

        yield make


# --- from when on a queue is believed -----------------------------------------------------------


@pytest.mark.parametrize("shaken", [False, True])
def test_a_queue_of_a_node_that_was_not_restarted_is_believed_at_once(shaken):
    assert Disturbance(shaken=shaken).certain_at() == 0.0


def test_a_queue_is_not_believed_too_soon_after_a_restart():
    assert Disturbance(shaken=True, restarted_at=1000.0).certain_at() == 1000.0 + RECOVERY_S


def test_a_lost_connection_to_a_broker_that_is_not_ours_may_have_been_a_restart():
    before = time.monotonic()
    certain_at = Disturbance(shaken=True, unknown=True).certain_at()
    assert before + RECOVERY_S <= certain_at <= time.monotonic() + RECOVERY_S


def test_a_broker_that_is_not_ours_and_lost_no_connection_is_believed_at_once():
    assert Disturbance(shaken=False, unknown=True).certain_at() == 0.0


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
    broker.node.started_at = time.monotonic()
    assert during.state(interrupted=False).restarted_at == broker.node.started_at


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
        broker.node.started_at = time.monotonic()

    fault_that(restart_late)
    one = disturber(Fault("deed", "publish", 1), broker=broker)
    one.announce("publish", 1)
    threading.Timer(0.1, go_on.set).start()
    assert one.state(interrupted=False).restarted_at is not None


# --- faults that were not what they should have been --------------------------------------------


def test_a_fault_that_struck_as_it_should_is_no_failure(disturber):
    one = disturber(Fault("deed", "publish", 1))
    one.announce("publish", 1)
    one.settle()
    assert one.failures() == ()


def test_a_fault_that_never_struck_is_a_failure(disturber):
    one = disturber(Fault("deed", "publish", 100))
    one.announce("publish", 99)
    assert one.failures() == ("the fault deed never struck: the phase was over before",)


def test_a_fault_that_could_not_be_carried_out_is_a_failure(disturber, fault_that):
    def refuse(_):
        raise BrokerError("Not today.")

    fault_that(refuse)
    one = disturber(Fault("deed", "publish", 1))
    one.announce("publish", 1)
    one.settle()
    assert one.failures() == ("the fault deed failed: Not today.",)


# --- what explains that messages are missing ----------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "causes"),
    [
        ({}, []),
        ({"x-message-ttl": 5}, ["x-message-ttl=5"]),
        ({"x-expires": 6}, ["x-expires=6"]),
        ({"x-delivery-limit": 7}, ["x-delivery-limit=7"]),
        ({"x-max-length": 8}, ["x-max-length=8 with overflow drop-head"]),
        ({"x-max-length-bytes": 9}, ["x-max-length-bytes=9 with overflow drop-head"]),
        (
            {"x-max-length": 8, "x-overflow": "drop-head"},
            ["x-max-length=8 with overflow drop-head"],
        ),
        ({"x-max-length": 8, "x-overflow": "reject-publish"}, []),
        ({"x-max-length": 8, "x-overflow": "reject-publish-dlx"}, []),
    ],
)
def test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else(disturber, arguments, causes):
    queue = Queue("work.queue", arguments=arguments)
    assert [removal.cause for removal in removals(queue)] == causes
    assert disturber().removals(queue) == removals(queue)


@pytest.mark.parametrize(
    ("queue", "endpoint", "explained"),
    [(WORK, HERE, True), (AUDIT, HERE, False), (WORK, ELSEWHERE, False)],
)
def test_a_fault_explains_what_is_missing_from_its_own_queue_only(
    disturber, fault_that, queue, endpoint, explained
):
    removal = Removal("a deed", 3)
    fault_that(lambda target: target.removals.append(("work.queue", removal)))
    broker = a_broker()
    one = disturber(broker=broker)
    with faults.inject("deed", broker, virtual_host=endpoint.virtual_host) as injection:
        injection.strike()
    assert one.removals(queue) == ((removal,) if explained else ())


def test_a_purge_explains_as_many_as_it_removed(monkeypatch):
    monkeypatch.setattr(topology, "purge", lambda *_: 12)
    target = strikes.Target(a_broker(), HERE, queue="work.queue")
    strikes.purge_queue(target)
    assert target.removals == [("work.queue", Removal("a purge of 12 messages", 12))]


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
    one.announce(*given[0])
    one.settle()
    (target,) = targets
    target.broker = Limited(lambda: one.announce("drain", 290))
    strikes.limit_queue(target)
    assert [removal.at_most for _, removal in target.removals] == [at_most]
