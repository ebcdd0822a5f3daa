"""Faults under which a RabbitMQ loses messages in practice: what each does, and when it strikes."""

from rmqbench.faults.catalogue import FAULTS, Fault, Kind, Phase
from rmqbench.faults.effects import Target
from rmqbench.faults.injection import (
    Injection,
    delete_queue,
    inject,
    kill_broker,
    pause_broker,
    purge_queue,
    restart_broker,
)

__all__ = [
    "FAULTS",
    "Fault",
    "Injection",
    "Kind",
    "Phase",
    "Target",
    "delete_queue",
    "inject",
    "kill_broker",
    "pause_broker",
    "purge_queue",
    "restart_broker",
]
