"""Does RabbitMQ lose messages, and how fast is it? Evidence for every single message.

A name is imported when it is first used: ``import rmqbench`` alone, which pytest does for every
project of an environment where rmqbench is installed, costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # to import it from typing would take longer than all the rest
if TYPE_CHECKING:  # what type checkers and editors see; _HOMES is what Python does
    from rmqbench.amqp.topology import Binding, Exchange
    from rmqbench.broker import Broker, open_broker
    from rmqbench.campaign import Campaign, CampaignResult, run_campaign
    from rmqbench.capacity import CapacityResult, measure_capacity
    from rmqbench.endpoint import Endpoint
    from rmqbench.errors import RmqbenchError
    from rmqbench.explaining import explain
    from rmqbench.faults import Fault
    from rmqbench.message import Recipe
    from rmqbench.queues import ConsumedQueue, ConsumerSettings, DelayQueue
    from rmqbench.results.judging import judge
    from rmqbench.results.result import Result
    from rmqbench.runner.run import Progress, Run, run
    from rmqbench.scenarios import (
        Scenario,
        faulty,
        latency,
        online,
        reliability,
        soak,
        storm,
        stress,
    )
    from rmqbench.verdict import Finding, Verdict, VerdictError

__all__ = [
    "Binding",
    "Broker",
    "Campaign",
    "CampaignResult",
    "CapacityResult",
    "ConsumedQueue",
    "ConsumerSettings",
    "DelayQueue",
    "Endpoint",
    "Exchange",
    "Fault",
    "Finding",
    "Progress",
    "Recipe",
    "Result",
    "RmqbenchError",
    "Run",
    "Scenario",
    "Verdict",
    "VerdictError",
    "explain",
    "faulty",
    "judge",
    "latency",
    "measure_capacity",
    "online",
    "open_broker",
    "reliability",
    "run",
    "run_campaign",
    "soak",
    "storm",
    "stress",
]

__version__ = "0.1.0"

_HOMES = {
    "Binding": "rmqbench.amqp.topology",
    "Broker": "rmqbench.broker",
    "Campaign": "rmqbench.campaign",
    "CampaignResult": "rmqbench.campaign",
    "CapacityResult": "rmqbench.capacity",
    "ConsumedQueue": "rmqbench.queues",
    "ConsumerSettings": "rmqbench.queues",
    "DelayQueue": "rmqbench.queues",
    "Exchange": "rmqbench.amqp.topology",
    "Endpoint": "rmqbench.endpoint",
    "Fault": "rmqbench.faults",
    "Finding": "rmqbench.verdict",
    "Progress": "rmqbench.runner.run",
    "Recipe": "rmqbench.message",
    "Result": "rmqbench.results.result",
    "RmqbenchError": "rmqbench.errors",
    "Run": "rmqbench.runner.run",
    "Scenario": "rmqbench.scenarios",
    "Verdict": "rmqbench.verdict",
    "VerdictError": "rmqbench.verdict",
    "explain": "rmqbench.explaining",
    "faulty": "rmqbench.scenarios",
    "judge": "rmqbench.results.judging",
    "latency": "rmqbench.scenarios",
    "measure_capacity": "rmqbench.capacity",
    "online": "rmqbench.scenarios",
    "open_broker": "rmqbench.broker",
    "reliability": "rmqbench.scenarios",
    "run": "rmqbench.runner.run",
    "run_campaign": "rmqbench.campaign",
    "soak": "rmqbench.scenarios",
    "storm": "rmqbench.scenarios",
    "stress": "rmqbench.scenarios",
}
"""The module in which each public name is defined."""

_ROOMS = frozenset({"broker", "endpoint", "errors", "faults", "message", "testing"})
"""Modules for users: ``rmqbench.faults`` works after ``import rmqbench`` alone."""

if not TYPE_CHECKING:  # a checker that saw it would take any misspelt name for a good one

    def __getattr__(name: str) -> object:
        """Import what is asked for, and keep it: the next look finds it at once (PEP 562)."""
        if name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
        elif name in _ROOMS:
            value = import_module(f"rmqbench.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
