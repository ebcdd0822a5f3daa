"""What the Management API says of policies and of who holds messages, and what is made of it."""

from types import SimpleNamespace

import pytest

from rmqbench.amqp.topology import Queue, Topology
from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, ManagementUnavailable, QueueNotFound
from rmqbench.faults.effects import limit_policy
from rmqbench.runner import inspection
from rmqbench.runner.inspection import Inspection
from rmqbench.runner.isolation import Place
from rmqbench.verdict.evidence import Drain

WORK, AUDIT = "work.queue", "audit.queue"
EMPTY = Drain(True)
REFUSED = AccessRefused("You may not.")
AWAY = ManagementUnavailable("Nobody is there.")


class Api:
    """The Management API: what it answers, or what it raises."""

    def __init__(self):
        self.listed = {"policies": [], "operator_policies": []}
        self.figures = {}
        self.held = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def _said(self, answer):
        if isinstance(answer, Exception):
            raise answer
        return answer

    def policies(self, vhost):
        return self._said(self.listed["policies"])

    def operator_policies(self, vhost):
        return self._said(self.listed["operator_policies"])

    def queue(self, name, vhost):
        return {"name": name, **self._said(self.figures.get(name, QueueNotFound("Gone.")))}

    def channels(self, vhost):
        return self._said(self.held)


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def inspect(api, monkeypatch):
    """Inspect two queues, a classic and a quorum one; ``written`` are the entries."""
    slept = []
    monkeypatch.setattr(inspection.time, "sleep", slept.append)
    topology = Topology(queues=(Queue(WORK), Queue(AUDIT, "quorum")))
    written = []
    made = Inspection(
        SimpleNamespace(management=api), Place(Endpoint(), topology, ()), written.append
    )
    made.written, made.slept = written, slept
    return made


def policy(name="p", pattern=".*", to="queues", priority=0, **definition):
    fields = {key.replace("_", "-"): value for key, value in definition.items()}
    return {
        "name": name,
        "pattern": pattern,
        "apply-to": to,
        "priority": priority,
        "definition": fields or {"max-length": 5},
    }


def found(inspect):
    inspect.note_policies()
    return [(each.queue, each.name, each.definition) for each in inspect.written]


# --- policies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "queues"),
    [
        ({}, [WORK, AUDIT]),
        ({"to": "all"}, [WORK, AUDIT]),
        ({"to": "exchanges"}, []),
        ({"to": "streams"}, []),
        ({"to": "classic_queues"}, [WORK]),
        ({"to": "quorum_queues"}, [AUDIT]),
        ({"pattern": "^work"}, [WORK]),
        ({"pattern": "queue$"}, [WORK, AUDIT]),
        ({"pattern": "queues"}, []),
    ],
)
def test_a_policy_is_found_of_the_queues_that_it_is_for(inspect, api, changes, queues):
    api.listed["policies"] = [policy(**changes)]
    assert found(inspect) == [(queue, "policy p", {"max-length": 5}) for queue in queues]


def test_of_several_policies_the_one_with_the_highest_priority_counts(inspect, api):
    api.listed["policies"] = [policy("low"), policy("high", priority=7), policy("b", "^none", 9)]
    assert [name for _, name, _ in found(inspect)] == ["policy high", "policy high"]


def test_an_operator_policy_is_found_beside_a_policy(inspect, api):
    api.listed["policies"] = [policy("p", "^work", max_length=5)]
    api.listed["operator_policies"] = [policy("o", "^work", message_ttl=6)]
    assert found(inspect) == [
        (WORK, "policy p", {"max-length": 5}),
        (WORK, "operator policy o", {"message-ttl": 6}),
    ]


def test_a_policy_is_written_once_and_again_when_it_has_changed(inspect, api):
    api.listed["policies"] = [policy(pattern="^work")]
    assert len(found(inspect)) == len(found(inspect)) == 1
    api.listed["policies"] = [policy(pattern="^work", max_length=6)]
    assert found(inspect)[1:] == [(WORK, "policy p", {"max-length": 6})]


def test_what_a_fault_of_ours_limits_is_no_policy_besides(inspect, api):
    api.listed["policies"] = [policy(limit_policy(WORK), "^work")]
    api.listed["operator_policies"] = [policy("o", "^work")]
    assert [name for _, name, _ in found(inspect)] == ["operator policy o"]


@pytest.mark.parametrize(
    "lists", [REFUSED, [policy(pattern="(?<unreadable")], [policy(pattern="^[[:alpha:].]+$")]]
)
def test_where_the_lists_do_not_tell_the_queues_figures_do(inspect, api, lists):
    api.listed["policies"] = lists
    api.figures[WORK] = {
        "policy": "p",
        "operator_policy": "o",
        "effective_policy_definition": {"max-length": 5},
    }
    api.figures[AUDIT] = {"policy": None, "effective_policy_definition": []}
    assert found(inspect) == [(WORK, "policy p and operator policy o", {"max-length": 5})]


def test_an_api_that_does_not_answer_tells_no_policies(inspect, api):
    api.listed["policies"] = AWAY
    assert found(inspect) == []


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ({"policies": [policy("p"), policy("q", "nothing")]}, ["policy p"]),
        ({"operator_policies": [policy("o", "^work")]}, ["operator policy o"]),
        ({"policies": REFUSED}, []),
        ({"policies": [policy("p", "[[:alpha:]]")]}, []),
        ({}, []),
    ],
)
def test_the_policies_that_a_run_of_its_own_place_does_without_are_named(
    inspect, api, listed, names
):
    api.listed |= listed
    said = inspect.look_for_policies_in("/")
    assert [each.split(" of virtual host '/' does not apply")[0] for each in said] == [
        f"The {name}" for name in names
    ]
    assert not inspect.written, "they bound nothing here"


# --- who holds messages ---------------------------------------------------------------------------


def held(inspect, missing=3):
    return inspect.look_for_holders(WORK, missing, EMPTY)


def test_where_nothing_is_missing_nobody_is_asked(inspect):
    assert held(inspect, missing=0) is EMPTY
    assert inspect.slept == []


def test_where_nobody_holds_any_the_proof_stands(inspect, api):
    api.figures[WORK] = {"messages_unacknowledged": 0}
    assert held(inspect) is EMPTY


def test_the_figures_are_asked_once_they_are_new(inspect, api):
    api.figures[WORK] = {"messages_unacknowledged": 0}
    held(inspect)
    assert sum(inspect.slept) > 5


@pytest.mark.parametrize("first", [{}, {"messages_unacknowledged": 7}], ids=["none", "old"])
def test_figures_that_are_late_are_asked_for_again(inspect, api, first):
    """Those of a queue that is new, or what our own consumers held."""
    said = iter([first, first, {"messages_unacknowledged": 0}])
    api.queue = lambda name, vhost: {"name": name, **next(said)}
    assert held(inspect) is EMPTY


def test_what_somebody_holds_is_no_proof_and_he_is_named(inspect, api):
    api.figures[WORK] = {"messages_unacknowledged": 5}
    api.held = [
        {"name": "a -> b (1)", "messages_unacknowledged": 5},
        {"name": "idle", "messages_unacknowledged": 0},
    ]
    detail = "5 messages are unacknowledged, held by a -> b (1)"
    assert held(inspect) == Drain(False, 0, detail)


def test_of_many_who_hold_some_a_few_are_named_and_none_can_break_the_line(inspect, api):
    api.figures[WORK] = {"messages_unacknowledged": 5}
    api.held = [{"name": f"{n}\n\x1b", "messages_unacknowledged": 1} for n in range(5)]
    detail = "5 messages are unacknowledged, held by 0\\n\\x1b, 1\\n\\x1b, 2\\n\\x1b and others"
    assert held(inspect).detail == detail


@pytest.mark.parametrize("answer", [AWAY, REFUSED, QueueNotFound("Not for you.")])
def test_where_it_cannot_be_asked_who_holds_some_there_is_no_proof(inspect, api, answer):
    api.figures[WORK] = answer
    proof = held(inspect)
    assert not proof.proven
    assert proof.detail == (
        "3 messages are missing, and whether somebody holds them cannot be asked, nor which "
        f"policies apply ({answer.what})"
    )


def test_where_the_api_does_not_say_it_there_is_no_proof(inspect, api):
    api.figures[WORK] = {}
    detail = "3 messages are missing, and the API does not say who holds any"
    assert held(inspect) == Drain(False, 0, detail)


# --- dead letters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "kept", "least_s"),
    [
        ([0], 0, 7),
        ([100, 60, 20, 0], 0, 10),
        ([100, 68], 68, 17),
        ([100, None], None, 17),
        ([None, None, 100, None, 68, None, 0], 0, 13),
    ],
    ids=["none", "on their way", "kept", "no longer told", "now and then not told"],
)
def test_dead_letters_that_are_on_their_way_are_waited_for(
    inspect, api, monkeypatch, told, kept, least_s
):
    """The last figure stays as it is."""
    monkeypatch.setattr(inspection.time, "monotonic", lambda: sum(inspect.slept))
    left = iter(told)

    def queue(name, vhost):
        value = next(left, told[-1])
        return {"name": name} if value is None else {"name": name, "messages_dlx": value}

    monkeypatch.setattr(api, "queue", queue)
    assert inspect.kept_dead_letters(AUDIT, 10.0) == kept
    assert least_s <= sum(inspect.slept) < least_s + 10


@pytest.mark.parametrize(
    ("told", "kept", "least_s"),
    [([0], 0, 27), ([0, 0, 68], 68, 17), ([0, 0, 68, 0], 0, 27)],
    ids=["none", "late figures", "on their way"],
)
def test_that_none_are_kept_is_not_believed_at_once_where_some_are_missing(
    inspect, api, monkeypatch, told, kept, least_s
):
    """The figures of a busy broker are of a time at which there were none yet."""
    monkeypatch.setattr(inspection.time, "monotonic", lambda: sum(inspect.slept))
    left = iter(told)
    monkeypatch.setattr(
        api, "queue", lambda name, vhost: {"name": name, "messages_dlx": next(left, told[-1])}
    )
    assert inspect.kept_dead_letters(AUDIT, 10.0, 20.0) == kept
    assert least_s <= sum(inspect.slept) < least_s + 10


@pytest.mark.parametrize(
    ("said", "kept"), [(QueueNotFound("Gone."), 0), (AccessRefused("No."), None)]
)
def test_a_queue_that_is_gone_keeps_none_and_of_others_it_is_not_known(inspect, api, said, kept):
    api.figures[AUDIT] = said
    assert inspect.kept_dead_letters(AUDIT, 10.0) == kept
