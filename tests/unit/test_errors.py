from __future__ import annotations

import pickle

import pytest

from rmqbench import errors
from rmqbench.errors import RmqbenchError

EVERY_ERROR = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_an_error_crosses_a_process_border_whole(kind: type[RmqbenchError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("It broke.", "Mend it.")))
    assert type(copy) is kind
    assert (copy.what, copy.remedy, str(copy)) == ("It broke.", "Mend it.", "It broke. Mend it.")


def test_an_error_without_a_remedy_ends_with_its_sentence() -> None:
    assert str(RmqbenchError("It broke.")) == "It broke."


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        ("UsageError", 2),
        ("QueueMismatch", 2),
        ("QueueNotEmpty", 2),
        ("QueueNotFound", 2),
        ("MessageTooLarge", 2),
        ("BrokerUnavailable", 4),
        ("AccessRefused", 4),
        ("ManagementUnavailable", 3),
        ("ConnectionLost", 3),
        ("MessageUnreadable", 3),
        ("DeadlineExceeded", 3),
    ],
)
def test_an_error_carries_the_exit_code_of_the_command_line(kind: str, exit_code: int) -> None:
    assert getattr(errors, kind).exit_code == exit_code


def test_every_error_is_public_and_has_the_one_root() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == set(errors.__all__)
    assert all(issubclass(kind, RmqbenchError) for kind in EVERY_ERROR)
