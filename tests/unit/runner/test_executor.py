"""Where a run's producers and consumers work is a scheduler's address, or a wrong use."""

import sys

import pytest

from rmqbench.errors import UsageError
from rmqbench.runner.executor import opened_executor


def test_without_an_address_there_is_no_executor():
    with opened_executor(None) as executor:
        assert executor is None


@pytest.mark.parametrize("address", ["", "host:8786", "http://host:8786", "amqp://host"])
def test_what_is_no_address_of_a_scheduler_is_a_wrong_use(address):
    with pytest.raises(UsageError, match="is not the address"), opened_executor(address):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UsageError, match=r"pip install 'rmqbench\[dask\]'"),
        opened_executor("tcp://host:8786"),
    ):
        pass
