"""What a run's journal tells of its queues."""

from types import SimpleNamespace

import pytest

from rmqbench.run_directory.journal import PoliciesFound
from rmqbench.run_directory.journal_facts import errors_of_clients, hidden_s

ALL = {"x-delayed-retry-type": "all"}


@pytest.mark.parametrize(
    ("arguments", "policies", "seconds"),
    [
        ({}, [], 0),
        ({"x-max-length": 5000}, [{"message-ttl": 9000}], 0),
        ({**ALL, "x-delayed-retry-min": 4000}, [], 4),
        ({**ALL, "x-delayed-retry-min": 4000, "x-delayed-retry-max": 60_000}, [], 60),
        ({}, [{"delayed-retry-type": "failed", "delayed-retry-min": 1500}], 1.5),
        ({**ALL, "x-delayed-retry-min": 4000}, [{"delayed-retry-max": 9000}], 9),
        ({**ALL, "x-delayed-retry-min": "soon"}, [], 0),
    ],
)
def test_a_delayed_retry_hides_for_the_longest_time_that_it_may_take(arguments, policies, seconds):
    queue = SimpleNamespace(name="q", asked={"arguments": arguments})
    entries = [
        PoliciesFound(queue=name, name="p", definition=definition)
        for definition in policies
        for name in ("another", "q")
    ]
    assert hidden_s(queue, entries) == seconds


def test_the_policies_of_another_queue_are_not_its_own():
    queue = SimpleNamespace(name="q", asked={"arguments": {}})
    definition = {"delayed-retry-type": "all", "delayed-retry-min": 4000}
    assert hidden_s(queue, [PoliciesFound(queue="other", name="p", definition=definition)]) == 0


def test_errors_of_many_clients_that_differ_only_in_numbers_are_one_sentence():
    errors = [(f"producer {n}", f"Producer {n} waited 30 s for {n} confirms.") for n in range(20)]
    errors.insert(7, ("consumer 0 of q", "The connection ended."))
    assert [*errors_of_clients(errors)] == [
        "Producer 0 waited 30 s for 0 confirms. (This ended producers 0 to 19.)",
        "The connection ended. (This ended consumer 0 of q.)",
    ]
    assert [*errors_of_clients(errors[:1])] == ["Producer 0 waited 30 s for 0 confirms."]
