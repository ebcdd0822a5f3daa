"""What makes no run, found out before anything is begun."""

from __future__ import annotations

from rmqbench.errors import UsageError
from rmqbench.open_files import require_open_files
from rmqbench.runner.remote import require_bearable
from rmqbench.runner.workers import open_files_for
from rmqbench.runner.workforce import most_in_a_worker
from rmqbench.scenarios import Scenario

__all__ = ["require_possible"]


def require_possible(scenario: Scenario, *, in_place: bool, elsewhere: bool = False) -> None:
    """Raise UsageError for a scenario that is not run in place, if that is wanted, or not here.

    The limits of other hosts, where the clients work ``elsewhere``, are not known.
    """
    if in_place and any(queue.auto_ack for queue in scenario.queues):
        raise UsageError(
            "With auto_ack a queue is not used in place: what somebody else sends to it would "
            "be acknowledged, too.",
            "Leave out in_place: the run then has a virtual host of its own.",
        )
    if elsewhere:
        require_bearable(scenario.faults)
    if elsewhere and scenario.lets_go:
        raise UsageError(
            "With lets_go the evidence is judged where it is recorded, and an executor's workers "
            "record it elsewhere.",
            "Leave out the executor, or lets_go.",
        )
    if elsewhere and any(scenario.origins):
        raise UsageError(
            "The evidence of dead letters does not come back from other hosts.",
            "Leave out the executor, or the dead-letter exchange.",
        )
    if not elsewhere:
        most = most_in_a_worker(scenario)
        ledgers = most * (1 + max(map(len, scenario.origins)))
        require_open_files(open_files_for(most, ledgers))
