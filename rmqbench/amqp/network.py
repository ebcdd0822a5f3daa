"""Where connections are made, and whose time passes there: the real network, or a simulated one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.nbio_interface import AbstractIOServices
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from rmqbench.clock import REAL_CLOCK, Clock

__all__ = ["REAL_NETWORK", "Network"]


@dataclass(frozen=True)
class Network:
    """What a connection needs of its surroundings.

    ``io_services`` makes pika's input and output for one connection. Its native loop has the
    methods of :class:`pika.adapters.select_connection.IOLoop` that take one turn: ``poll`` and
    ``process_timeouts``.
    """

    clock: Clock = REAL_CLOCK
    io_services: Callable[[], AbstractIOServices] = lambda: SelectorIOServicesAdapter(IOLoop())


REAL_NETWORK = Network()
