"""What faults do to a broker, as far as it can be seen without one."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from rmqbench.endpoint import Endpoint
from rmqbench.errors import ConnectionNotFound, DeadlineExceeded
from rmqbench.faults import effects


class Connections:
    """A Management API that lists connections, some of which are there no more."""

    def __init__(self, *lists, gone=()):
        self.lists, self.gone, self.closed = list(lists), gone, []

    def connections(self, virtual_host):
        listed = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        return [{"name": name, "user_provided_name": name} for name in listed]

    def close_connection(self, name, reason):
        if name in self.gone:
            raise ConnectionNotFound(f"There is no connection {name!r}.")
        self.closed.append(name)


def close_connections(management):
    notes = []
    broker = SimpleNamespace(management=nullcontext(management))
    target = effects.Target(broker, Endpoint(), note=notes.append)
    effects.close_connections(target)
    return notes


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(effects, "_LISTED_S", 0.5)


def test_connections_that_are_listed_and_gone_are_passed_over():
    management = Connections(["a", "b", "the topology"], gone={"a"})
    assert close_connections(management) == ["1 connection was closed"]
    assert management.closed == ["b"]


def test_where_all_that_are_listed_are_gone_the_list_is_asked_for_again():
    management = Connections(["a"], [], ["a", "b", "c"], gone={"a"})
    assert close_connections(management) == ["2 connections were closed"]


def test_where_none_can_be_closed_it_has_not_struck():
    with pytest.raises(DeadlineExceeded, match="a connection that is there"):
        close_connections(Connections(["a"], gone={"a"}))
