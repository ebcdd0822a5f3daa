"""What makes no run is found out before anything is begun: its directory is not even made."""

import resource
from dataclasses import replace

import pytest

from rmqbench import Scenario, faulty, online, reliability
from rmqbench.broker import Broker
from rmqbench.endpoint import Endpoint
from rmqbench.errors import UsageError
from rmqbench.queues import ConsumedQueue
from rmqbench.runner.possible import require_possible
from rmqbench.runner.run import Run
from rmqbench.runner.workforce import most_in_a_worker

MANY = tuple(ConsumedQueue(f"queue.{number}") for number in range(11))
QUEUES = (ConsumedQueue("a", consumers=30), ConsumedQueue("b", consumers=20))


@pytest.mark.parametrize(
    ("scenario", "most"),
    [
        (reliability(processes=1), 1),
        (reliability(processes=1, producers=7), 7),
        (reliability(processes=2, producers=7), 4),
        (online(processes=1, consumers=99), 100),
        (Scenario("x", queues=QUEUES, processes=1), 30),
        (Scenario("x", queues=QUEUES, processes=1, consume="during"), 50),
        (Scenario("x", queues=QUEUES, processes=4, consume="during"), 13),
        (Scenario("x", queues=MANY, processes=1), 11),
        (replace(faulty("kill-consumer", processes=1), queues=MANY), 1),
        (faulty("kill-consumer", processes=1, consumers=50), 1),
        (faulty("kill-consumer", processes=1, consumers=50, producers=9), 9),
    ],
)
def test_how_many_clients_share_a_process_is_known_before(scenario, most):
    assert most_in_a_worker(scenario) == most


def test_a_worker_that_may_not_have_its_files_is_refused_before_anything_is_begun(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    broker = Broker("external", Endpoint(), "4.3.6", "named by its URL")
    scenario = online(producers=100, consumers=1, processes=1)
    with pytest.raises(UsageError, match=r"needs 1,300 open files .*--processes"):
        Run(scenario, broker, directory=tmp_path / "run")
    assert not [*tmp_path.iterdir()]
    require_possible(scenario, in_place=False, elsewhere=True)
    require_possible(online(producers=100, consumers=1, processes=2), in_place=False)


def test_no_queue_is_used_in_place_with_automatic_acknowledgement():
    require_possible(reliability(auto_ack=True), in_place=False)
    with pytest.raises(UsageError, match="in place"):
        require_possible(reliability(auto_ack=True), in_place=True)


def test_dead_letters_are_followed_on_this_host_only():
    own = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    scenario = Scenario("x", queues=(ConsumedQueue("q", arguments=own),))
    require_possible(scenario, in_place=False)
    with pytest.raises(UsageError, match="dead letters does not come back from other hosts"):
        require_possible(scenario, in_place=False, elsewhere=True)
