"""Test what speaks AMQP: a proxy that alters traffic on purpose, and a simulated RabbitMQ.

See :mod:`rmqbench.proxy` and :mod:`rmqbench.simulation`. ``World`` and ``simulated_network`` need
greenlet, which the extra ``simulation`` brings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from rmqbench.proxy import (
    Alteration,
    Applied,
    Proxy,
    cut,
    cut_inside,
    delay,
    drop,
    flip,
    forge,
    misroute,
    repeat,
    swap,
)
from rmqbench.simulation import Behaviour, Misdeed, ModelBroker, SeededBehaviour, Truth

if TYPE_CHECKING:
    from rmqbench.simulation.network import simulated_network
    from rmqbench.simulation.world import World

__all__ = [
    "Alteration",
    "Applied",
    "Behaviour",
    "Misdeed",
    "ModelBroker",
    "Proxy",
    "SeededBehaviour",
    "Truth",
    "World",
    "cut",
    "cut_inside",
    "delay",
    "drop",
    "flip",
    "forge",
    "misroute",
    "repeat",
    "simulated_network",
    "swap",
]

_NEED_GREENLET: Final = {
    "World": "rmqbench.simulation.world",
    "simulated_network": "rmqbench.simulation.network",
}


def __getattr__(name: str) -> Any:
    """Import what needs greenlet when it is asked for. Raise ImportError without greenlet."""
    if name not in _NEED_GREENLET:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_NEED_GREENLET[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "greenlet":
            raise
        raise ImportError(
            f"{__name__}.{name} needs greenlet, which is not installed. "
            "Install it: python -m pip install 'rmqbench[simulation]'"
        ) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
