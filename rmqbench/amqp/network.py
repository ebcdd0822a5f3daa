"""Where connections are made, and whose time passes there: the real network, or a simulated one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

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
    ``process_timeouts``. ``handshake`` is entered for as long as a connection is being opened.
    """

    clock: Clock = REAL_CLOCK
    io_services: Callable[[], AbstractIOServices] = lambda: SelectorIOServicesAdapter(IOLoop())
    handshake: AbstractContextManager[object] = field(default_factory=nullcontext)


_HANDSHAKES = 64  # at once in one process: more would wait for the processor until they time out
REAL_NETWORK = Network(handshake=threading.BoundedSemaphore(_HANDSHAKES))
