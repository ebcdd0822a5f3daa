"""A run that is interrupted, at whatever moment, ends what it has begun."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from rmqbench import reliability
from rmqbench.broker import Broker
from rmqbench.endpoint import Endpoint
from rmqbench.errors import RmqbenchError
from rmqbench.message import MAX_SEQUENCE
from rmqbench.run_directory.journal import TroubleSeen
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.recorder import PublishRecorder
from rmqbench.runner import run as runs
from rmqbench.runner import workforce
from rmqbench.runner.isolation import own_place
from rmqbench.runner.run import Run
from rmqbench.runner.workforce import Workforce
from rmqbench.verdict.evidence import CONFIRMED


@pytest.fixture
def run(tmp_path):
    """A run that has not been entered, on a broker that is not ours."""
    broker = Broker("external", Endpoint(), "4.3.6", "named by its URL")
    return Run(reliability(messages=10), broker, directory=tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "The run was interrupted."),
        (SystemExit(143), "The run was interrupted."),
        (AssertionError(), "The run broke off: AssertionError."),
        (ValueError("No.\nMore of it."), "The run broke off: ValueError: No."),
    ],
)
def test_why_a_run_ended_early_is_written_down_in_a_sentence(run, error, said):
    written = []
    run._write = written.append
    run.__exit__(type(error), error, None)
    assert written == [TroubleSeen(text=said)]


def test_what_was_begun_is_ended_also_where_nothing_can_be_written_down(run):
    def interrupt_again(_):
        raise KeyboardInterrupt

    ended = []
    run._write = interrupt_again
    run._stack.callback(ended.append, 1)
    with pytest.raises(KeyboardInterrupt):
        run.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert ended == [1]


def test_a_virtual_host_is_deleted_where_an_interrupt_comes_as_it_is_made():
    """It may be there already: nobody has heard the answer."""

    class Api:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def create_virtual_host(self, name):
            raise KeyboardInterrupt

        def delete_virtual_host(self, name):
            deleted.append(name)

    deleted = []
    broker = SimpleNamespace(endpoint=Endpoint(), management=Api(), owned=False)
    place = own_place(broker, reliability().topology(), "rmqbench-1", in_place=False)
    with pytest.raises(KeyboardInterrupt):
        place.__enter__()
    assert deleted == ["rmqbench-1"]


def test_a_look_at_how_far_the_publishing_is_reads_no_column_of_a_ledger(run, monkeypatch):
    seen = []
    plan = SimpleNamespace(directory=run._directory.producer(0), count=10, schedule=None)
    ledgers = run._publish_ledgers

    def blind():
        (ledger,) = ledgers()
        ledger.arrays.clear()
        ledger.state = ledger.sent_ns = ledger.settled_after_ns = None
        return [ledger]

    def poll(shares, *, progress, **_):
        recorder = PublishRecorder(plan.directory)
        for done in (3, 5):
            recorder.send(np.arange(done), 1, 7)
            recorder.settle(np.arange(done), CONFIRMED, 8)
            seen.append(progress())
        recorder.close()
        raise KeyboardInterrupt

    run._planner = SimpleNamespace(producers=lambda: [plan])
    run._workforce = Workforce(run.scenario, run._disturber, lambda _: None)
    monkeypatch.setattr(run, "_publish_ledgers", blind)
    monkeypatch.setattr(workforce, "run_workers", poll)
    with pytest.raises(KeyboardInterrupt):
        run.publish()
    assert seen == [3, 5]


def test_a_run_for_which_there_is_no_room_leaves_nothing(tmp_path):
    broker = Broker("external", Endpoint(), "4.3.6", "named by its URL")
    scenario = reliability(messages=MAX_SEQUENCE)
    with pytest.raises(RmqbenchError, match="The evidence of up to"):
        Run(scenario, broker, directory=tmp_path / "run").__enter__()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("short", [0, 1])
def test_room_is_needed_for_the_deliveries_to_each_consumer(tmp_path, monkeypatch, short):
    """A message of one queue may come to any of its consumers."""
    free = 1000 * PublishLedger.row_bytes() + 5 * 1000 * DeliveryLedger.row_bytes() - short
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))

    def begin(*_, **__):
        raise RmqbenchError("It begins.")

    monkeypatch.setattr(runs, "own_place", begin)
    broker = Broker("external", Endpoint(), "4.3.6", "named by its URL")
    scenario = reliability(messages=1000, producers=2, consumers=4)
    said = "The evidence of up to 1000 messages" if short else "It begins"
    with pytest.raises(RmqbenchError, match=said):
        Run(scenario, broker, directory=tmp_path / "run").__enter__()
