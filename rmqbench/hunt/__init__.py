"""The hunt: random workloads and faults, and what fails made smaller, replayed by one line."""

from __future__ import annotations

from rmqbench.hunt.drawing import draw
from rmqbench.hunt.hunting import Find, Hunt, Replay, Runs, broker_of, replay_schedule, runs_on
from rmqbench.hunt.schedule import Schedule
from rmqbench.hunt.signature import Signature

__all__ = [
    "Find",
    "Hunt",
    "Replay",
    "Runs",
    "Schedule",
    "Signature",
    "broker_of",
    "draw",
    "replay_schedule",
    "runs_on",
]
