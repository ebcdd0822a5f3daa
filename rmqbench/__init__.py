"""Does RabbitMQ lose messages, and how fast is it? Evidence for every single message."""

from rmqbench.broker import Broker, open_broker
from rmqbench.endpoint import Endpoint
from rmqbench.errors import RmqbenchError
from rmqbench.faults import Fault
from rmqbench.message import Recipe
from rmqbench.result import Result
from rmqbench.runner import Progress, Run, run
from rmqbench.scenario import Scenario, faulty, reliability, stress
from rmqbench.verdict import Finding, Verdict, VerdictError

__all__ = [
    "Broker",
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
    "open_broker",
    "reliability",
    "run",
    "stress",
]

__version__ = "0.1.0"
