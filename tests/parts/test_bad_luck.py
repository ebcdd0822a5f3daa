"""What happens to a run when what it stands on is taken away: it ends, and says what is known."""

import time
from pathlib import Path

import psutil
import pytest

import rmqbench
from rmqbench import Run, open_broker, run
from rmqbench.errors import UsageError
from rmqbench.management.client import Management
from rmqbench.report.terminal import render, result_view


class Strike:
    """Does one thing when a phase has come so far."""

    def __init__(self, phase, messages, deed):
        self.phase, self.messages, self.deed = phase, messages, deed
        self.done = False

    def __call__(self, progress):
        if not self.done and progress.phase == self.phase and progress.done >= self.messages:
            self.done = True
            self.deed()


def kill_worker():
    (worker,) = [
        each for each in psutil.Process().children() if "workers.main" in " ".join(each.cmdline())
    ]
    worker.kill()


@pytest.mark.slow
@pytest.mark.parametrize("queue_kind", ["classic", "quorum"])
def test_a_killed_consumer_leaves_its_evidence_and_another_takes_over(
    rmqbench_broker, tmp_path, queue_kind
):
    strike = Strike("drain work.queue", 1, kill_worker)
    # Slow enough that there is still somebody to kill.
    scenario = rmqbench.reliability(messages=60_000, queue_kind=queue_kind, consume_rate=15_000.0)
    result = run(scenario, rmqbench_broker, directory=tmp_path / "run", watch=strike)
    assert strike.done
    result.verdict.require_pass()
    # Only what had not been acknowledged may have come again.
    found = {name for name, count in result.verdict.counts().items() if count}
    assert found <= {"redelivered"}
    assert result.verdict.count("redelivered") <= scenario.queues[0].prefetch
    assert len(list((tmp_path / "run" / "queue-0").iterdir())) == 2


@pytest.mark.slow
def test_a_pass_says_that_all_its_consumers_were_killed_at_once(rmqbench_broker, tmp_path):
    consumers = []

    def kill_consumers():
        for each in psutil.Process().children():
            directory = Path(each.open_files()[0].path).parent if each.open_files() else tmp_path
            if directory.parent.name.startswith("queue-"):
                consumers.append(each)
                each.kill()

    strike = Strike("publish", 2000, kill_consumers)
    scenario = rmqbench.online(messages=6000, publish_rate=2000, consumers=20, processes=1)
    result = run(scenario, rmqbench_broker, directory=tmp_path / "run", watch=strike)
    assert len(consumers) == 1
    result.verdict.require_pass()
    (note,) = (each for each in result.notes if "SIGKILL" in each)
    work, audit = result.queues
    assert f"The process of consumers 0 to 19 of {work} and consumer 0 of {audit} (" in note
    assert note in render([result_view(result)], width=1000, colour=False)


def test_a_killed_producer_leaves_open_what_it_did_not_do(rmqbench_broker, tmp_path):
    strike = Strike("publish", 1, kill_worker)
    scenario = rmqbench.reliability(messages=100_000, publish_rate=20_000.0)
    result = run(scenario, rmqbench_broker, directory=tmp_path / "run", watch=strike)
    verdict = result.verdict
    assert verdict.outcome == "INCONCLUSIVE"
    assert verdict.count("unsent") > 0
    assert verdict.count("lost") == verdict.count("phantom") == 0
    for queue in ("work.queue", "audit.queue"):
        arrived_or_not = verdict.count("survived", queue) + verdict.count("vanished", queue)
        assert arrived_or_not == verdict.count("indeterminate")
    assert "by SIGKILL" in str(verdict)
    assert "producer 0 did not record its end" in str(verdict)


@pytest.mark.slow
def test_a_broker_that_dies_under_the_drain_is_inconclusive_and_soon(tmp_path):
    with open_broker("local") as broker:
        strike = Strike("drain work.queue", 1, broker.kill)
        started = time.monotonic()
        result = run(
            rmqbench.reliability(messages=40_000, stall_s=5.0),
            broker,
            directory=tmp_path / "run",
            watch=strike,
        )
    assert strike.done
    assert result.verdict.outcome == "INCONCLUSIVE"
    assert result.verdict.count("lost") == 0
    assert result.verdict.exit_code == 3
    assert time.monotonic() - started < 120
    assert (tmp_path / "run" / "result.json").exists()


def test_evidence_that_cannot_be_read_is_inconclusive(rmqbench_broker, tmp_path):
    scenario = rmqbench.reliability(messages=100)
    spoiled = tmp_path / "run" / "queue-1" / "consumer-0" / "incidents.jsonl"

    def spoil():
        spoiled.write_text("no JSON\n")

    strike = Strike("drain audit.queue", 100, spoil)
    result = run(scenario, rmqbench_broker, directory=tmp_path / "run", watch=strike)
    assert result.verdict.outcome == "INCONCLUSIVE"
    assert str(spoiled) in str(result.verdict)


def test_stages_out_of_order_are_an_error_of_the_caller(rmqbench_broker, tmp_path):
    stages = Run(rmqbench.reliability(), rmqbench_broker, directory=tmp_path / "run")
    with pytest.raises(RuntimeError, match="enter the run first"):
        stages.publish()


def test_a_backlog_is_looked_at_when_all_its_figures_are_there(
    rmqbench_broker, tmp_path, monkeypatch
):
    """The count of a queue may be there before, or be younger than, where its messages are."""
    whole, withheld = Management.queue, []

    def half(self, name, vhost=None):
        figures = whole(self, name, vhost)
        if figures.get("messages_ready") == 500 and withheld.count(name) < 3:
            withheld.append(name)
            for figure in ("messages_ram", "message_bytes_ready"):
                figures.pop(figure, None)
            if withheld.count(name) == 3:
                figures |= {"messages_ram": 499, "message_bytes_ready": 1}
        return figures

    monkeypatch.setattr(Management, "queue", half)
    result = run(rmqbench.stress(messages=500), rmqbench_broker, directory=tmp_path / "run")
    result.verdict.require_pass()
    assert sorted(withheld) == ["audit.queue.1m"] * 3 + ["work.queue.1m"] * 3
    assert all(queue.backlog.messages_ram < 10 for queue in result.queues.values())


def test_with_automatic_acknowledgement_no_queue_is_used_in_place(rmqbench_broker, tmp_path):
    """What somebody else sends to such a queue would be acknowledged unasked."""
    scenario = rmqbench.reliability(auto_ack=True)
    with pytest.raises(UsageError, match="in place"):
        run(scenario, rmqbench_broker, directory=tmp_path / "run", in_place=True)
    assert not (tmp_path / "run").exists()
