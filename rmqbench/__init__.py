"""Does RabbitMQ lose messages, and how fast is it? Evidence for every single message."""

from rmqbench.broker import Broker, open_broker
from rmqbench.endpoint import Endpoint
from rmqbench.errors import RmqbenchError
from rmqbench.faults import Fault
from rmqbench.message import Recipe
from rmqbench.runner.judging import judge
from rmqbench.runner.result import Result
from rmqbench.runner.run import Progress, Run, run
from rmqbench.runner.scenario import ConsumedQueue, Scenario, faulty, online, reliability, stress
from rmqbench.verdict.findings import Finding, Verdict, VerdictError

__all__ = [
    "Broker",
    "ConsumedQueue",
    "Endpoint",
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
    "faulty",
    "judge",
    "online",
    "open_broker",
    "reliability",
    "run",
    "stress",
]

__version__ = "0.1.0"
