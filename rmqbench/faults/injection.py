"""Faults under which a RabbitMQ loses messages in practice: what each does, and when it strikes.

A fault is a field of a scenario (:class:`Fault`), or a context manager around a run or anything
else that uses a broker of ours::

    with faults.kill_broker(broker, after_messages=3000):
        result = rmqbench.run(scenario, broker)

It strikes in a thread of its own, once, when a run in this process has come so far; without
``after_messages`` when a run's first message is through, or when :meth:`Injection.strike` is
called. Nothing is ever done to a broker that is not ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, get_args

from rmqbench.broker import Broker
from rmqbench.errors import BrokerError, DeadlineExceeded, RmqbenchError, UsageError
from rmqbench.faults import effects as strikes
from rmqbench.faults.effects import Target
from rmqbench.proxy import Proxy

__all__ = [
    "FAULTS",
    "Fault",
    "Injection",
    "Kind",
    "Phase",
    "Target",
    "announce",
    "delete_queue",
    "inject",
    "injection_of",
    "kill_broker",
    "pause_broker",
    "purge_queue",
    "require_ours",
    "restart_broker",
    "struck_since",
]

Phase = Literal["publish", "backlog", "drain"]
"""While publishing, while the backlog stands, while the work queue is drained."""

_OVER_S = 180.0  # no fault takes longer, what it waits for of itself included


@dataclass(frozen=True)
class Fault:
    """A fault of a scenario: its name in :data:`FAULTS`, and when it strikes.

    ``during`` None is the first phase that its kind is for. It strikes when ``after_messages`` of
    the phase are through (None: a third of them).
    ``lasting_s`` is how long it lasts, where it is of that kind (None: as long as the kind's own).
    """

    name: str
    during: Phase | None = None
    after_messages: int | None = None
    lasting_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse what there is not (UsageError)."""
        kind = self.kind
        if self.phase not in kind.phases:
            raise UsageError(
                f"The fault {self.name} is not for the phase {self.during!r}.",
                f"It is for {' or '.join(kind.phases)}.",
            )
        if self.after_messages is not None and self.after_messages < 0:
            raise UsageError(
                f"after_messages is {self.after_messages}.", "Give a number from 0 on."
            )
        if self.lasting_s is not None and not self.lasting_s >= 0:
            raise UsageError(f"lasting_s is {self.lasting_s}.", "Give seconds, 0 or more.")
        object.__setattr__(self, "during", self.phase)

    @property
    def kind(self) -> Kind:
        """What the fault does (UsageError if there is no such fault)."""
        if self.name not in FAULTS:
            raise UsageError(
                f"There is no fault {self.name!r}.", f"Choose of {', '.join(sorted(FAULTS))}."
            )
        return FAULTS[self.name]

    @property
    def phase(self) -> Phase:
        """The phase in which it strikes."""
        return self.during or self.kind.phases[0]

    @property
    def seconds(self) -> float:
        """How long it lasts, where it is of that kind."""
        return self.kind.lasting_s if self.lasting_s is None else self.lasting_s


@dataclass(frozen=True)
class Kind:
    """What a fault does, and what a run under it needs and expects.

    ``text`` completes "the fault is that …". ``expected`` names the findings that fail by default
    and are what RabbitMQ promises here. ``heartbeat_s`` makes a dead connection noticed in time,
    ``rate`` (messages a second) makes a phase of 10,000 messages last long enough. ``rest_s``: so
    long a quorum queue is left alone before anything is published, because a younger one may lose
    everything (see the README).
    """

    text: str
    strike: Callable[[Target], None]
    phases: tuple[Phase, ...] = ("publish", "drain")
    expected: frozenset[str] = frozenset({"indeterminate"})
    lasting_s: float = 0.0
    heartbeat_s: int = 30
    rate: float = 5000.0
    rest_s: float = 0.0
    needs_proxy: bool = False
    first_message: bool = False


class Injection:
    """A fault that is about to strike, as a context manager; leaving it ends what lasts.

    ``struck_at`` says when it began (monotonic seconds), ``failure`` why it could not be carried
    out. Leaving the context raises that failure, unless an error is under way already.
    """

    def __init__(
        self, name: str, target: Target, *, during: Phase | None = None, after_messages: int = 0
    ) -> None:
        self.name = name
        self.target = target
        self.struck_at: float | None = None
        self.failure: RmqbenchError | None = None
        self._during = during
        self._after_messages = after_messages
        self._thread = threading.Thread(target=self._work, name=f"fault {name}", daemon=True)

    def __enter__(self) -> Self:
        """Wait for the moment to come."""
        self.arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self.end()
        if self.failure is not None and error is None:
            raise self.failure

    def arm(self) -> None:
        """Have it wait for its moment. Raises UsageError if the broker is not ours."""
        require_ours(self.target.broker, self.name)
        _waiting.append(self)

    def end(self) -> None:
        """Have it wait no more, and end what lasts."""
        _waiting.remove(self)
        self.target.over.set()
        self.settle()

    def reached(self, phase: str, done: int) -> bool:
        """Tell whether it is to strike now."""
        return (
            self.struck_at is None
            and self._during in (None, phase)
            and done >= max(1, self._after_messages)
        )

    def strike(self) -> None:
        """Strike now, in a thread of its own."""
        self.struck_at = time.monotonic()
        _struck.append(self)
        self._thread.start()

    def settle(self) -> None:
        """Wait until it is over, if it has struck: the broker is back, the alarm is cleared."""
        if self.struck_at is None:
            return
        self._thread.join(_OVER_S)
        if self._thread.is_alive():
            self.failure = DeadlineExceeded(
                f"Waited {_OVER_S:g} s for the fault {self.name} to be over, in vain.",
                "See the broker's log.",
            )

    def _work(self) -> None:
        self.target.note(f"{self.name}: {FAULTS[self.name].text}")
        try:
            FAULTS[self.name].strike(self.target)
        except Exception as error:  # whatever it is, the fault was not what it should have been
            if not isinstance(error, RmqbenchError):
                error = BrokerError(f"{type(error).__name__}: {error}")
            self.failure = error
            self.target.note(f"{self.name} failed: {error.what}")
        else:
            self.target.note(f"{self.name} is over")


def require_ours(broker: Broker, name: str) -> None:
    """Refuse a fault on a broker that we did not start (UsageError)."""
    if not broker.owned:
        raise UsageError(
            f"The fault {name} is not for {broker.endpoint}: faults are never injected into brokers"
            " that are not ours.",
            "Use a broker that rmqbench starts itself: auto, container or local.",
        )


_waiting: list[Injection] = []
_struck: list[Injection] = []


def announce(broker: Broker, phase: str, done: int) -> None:
    """Let every injection for a broker know how far a run has come."""
    for each in _waiting:
        if each.target.broker is broker and each.reached(phase, done):
            each.strike()


def struck_since(broker: Broker, since: float) -> list[Injection]:
    """Give those that struck a broker since then (monotonic seconds)."""
    return [e for e in _struck if e.target.broker is broker and (e.struck_at or 0) >= since]


def injection_of(fault: Fault, target: Target, messages: int) -> Injection:
    """Make ready a fault of a scenario whose phase has so many messages."""
    target.lasting_s = fault.seconds
    after = fault.after_messages
    if after is None:
        after = 1 if fault.kind.first_message else messages // 3
    return Injection(fault.name, target, during=fault.phase, after_messages=after)


# --- as context managers -----------------------------------------------------------------------


def inject(
    name: str,
    broker: Broker,
    *,
    after_messages: int = 0,
    lasting_s: float | None = None,
    virtual_host: str | None = None,
    queue: str = "",
    proxy: Proxy | None = None,
) -> Injection:
    """Make ready any fault of :data:`FAULTS`, to be entered.

    It strikes when a run in this process on this broker has that many messages of a phase through.
    ``virtual_host`` (None: the broker's own) and ``queue`` are for faults of queues and
    connections, ``proxy`` for those of the network: whoever is to notice connects through it.
    """
    endpoint = broker.endpoint
    if virtual_host is not None:
        endpoint = endpoint.in_virtual_host(virtual_host)
    fault = Fault(name, after_messages=after_messages, lasting_s=lasting_s)
    target = Target(broker, endpoint, queue=queue, proxy=proxy, lasting_s=fault.seconds)
    return Injection(name, target, after_messages=after_messages)


def kill_broker(broker: Broker, *, after_messages: int = 0) -> Injection:
    """Kill the broker by SIGKILL and start it again on its data."""
    return inject("kill-broker", broker, after_messages=after_messages)


def restart_broker(broker: Broker, *, after_messages: int = 0) -> Injection:
    """Shut the broker down in order and start it again."""
    return inject("restart-broker", broker, after_messages=after_messages)


def pause_broker(
    broker: Broker, *, lasting_s: float | None = None, after_messages: int = 0
) -> Injection:
    """Freeze the broker for a while (SIGSTOP)."""
    return inject("pause-broker", broker, after_messages=after_messages, lasting_s=lasting_s)


def purge_queue(
    broker: Broker, queue: str, *, virtual_host: str | None = None, after_messages: int = 0
) -> Injection:
    """Purge a queue."""
    return inject(
        "purge-queue",
        broker,
        after_messages=after_messages,
        virtual_host=virtual_host,
        queue=queue,
    )


def delete_queue(
    broker: Broker, queue: str, *, virtual_host: str | None = None, after_messages: int = 0
) -> Injection:
    """Delete a queue with all it holds."""
    return inject(
        "delete-queue",
        broker,
        after_messages=after_messages,
        virtual_host=virtual_host,
        queue=queue,
    )


_NOTHING: frozenset[str] = frozenset()
_REMOVED = frozenset({"removed"})

FAULTS: Mapping[str, Kind] = {
    "kill-broker": Kind(
        "the node is ended by SIGKILL and started again",
        strikes.kill_broker,
        phases=get_args(Phase),
        rest_s=12.0,
    ),
    "kill-newborn": Kind(
        "the node is ended by SIGKILL within a second of the queues' declaration",
        strikes.kill_broker,
        phases=("publish",),
        first_message=True,
    ),
    "restart-broker": Kind(
        "the node is shut down in order and started again",
        strikes.restart_broker,
        phases=get_args(Phase),
        rate=1000.0,
    ),
    "pause-broker": Kind(
        "the node is stopped (SIGSTOP) for longer than the heartbeat, then goes on",
        strikes.pause_broker,
        lasting_s=13.0,  # pika looks every 6 s whether anything came
        heartbeat_s=1,
    ),
    "reset-connection": Kind(
        "all connections are reset",
        strikes.by_proxy(lambda proxy, _: strikes.require_some(proxy.reset())),
        needs_proxy=True,
    ),
    "half-open": Kind(
        "nothing passes any more on connections that stay open",
        strikes.by_proxy(lambda proxy, _: strikes.require_some(proxy.vanish())),
        heartbeat_s=1,
        needs_proxy=True,
    ),
    "cut-frame": Kind(
        "connections end in the middle of a frame",
        strikes.by_proxy(lambda proxy, _: strikes.require_some(proxy.cut_inside_frame())),
        needs_proxy=True,
    ),
    "latency": Kind(
        "everything is 50 ms late, 20 ms more or less",
        strikes.by_proxy(strikes.late),
        expected=_NOTHING,
        lasting_s=2.0,
        needs_proxy=True,
    ),
    "slow-link": Kind(
        "200,000 bytes a second pass each way",
        strikes.by_proxy(strikes.slow),
        expected=_NOTHING,
        lasting_s=2.0,
        needs_proxy=True,
    ),
    "kill-consumer": Kind(
        "a consumer is ended by SIGKILL, with unacknowledged messages",
        strikes.kill_consumer,
        phases=("drain",),
        expected=_NOTHING,
    ),
    "bad-acknowledgement": Kind(
        "a delivery tag is acknowledged that was never given: the broker closes the channel",
        strikes.by_proxy(lambda proxy, _: strikes.require_some(proxy.acknowledge_unknown())),
        phases=("drain",),
        needs_proxy=True,
    ),
    "close-connection": Kind(
        "connections are closed through the Management API",
        strikes.close_connections,
        rate=500.0,  # the Management API lists a connection some seconds late
        first_message=True,
    ),
    "memory-alarm": Kind(
        "the memory alarm blocks publishers",
        strikes.alarm(
            "set_vm_memory_high_watermark",
            "0.0000001",
            "vm_memory_monitor:get_vm_memory_high_watermark().",
        ),
        phases=("publish",),
        expected=_NOTHING,
        lasting_s=2.0,
        rate=1000.0,
    ),
    "disk-alarm": Kind(
        "the disk alarm blocks publishers",
        strikes.alarm(
            "set_disk_free_limit",
            "1000000GB",
            "rabbit_disk_monitor:get_disk_free_limit().",
        ),
        phases=("publish",),
        expected=_NOTHING,
        lasting_s=2.0,
        rate=1000.0,
    ),
    "purge-queue": Kind("the work queue is purged", strikes.purge_queue, expected=_REMOVED),
    "delete-queue": Kind(
        "the work queue is deleted",
        strikes.delete_queue,
        # The publishes under way may end with 541 INTERNAL_ERROR (3.10.8, quorum queue).
        expected=_REMOVED | {"indeterminate"},
    ),
    "limit-queue": Kind(
        "the work queue is limited to 100 messages", strikes.limit_queue, expected=_REMOVED
    ),
}
"""Every fault there is, by its name."""
