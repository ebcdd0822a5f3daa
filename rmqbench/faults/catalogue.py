"""The catalogue: every fault there is, what it does, and what a run under it needs and expects.

A new fault is one entry of :data:`FAULTS`, and a function in :mod:`rmqbench.faults.effects`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from rmqbench.errors import UsageError
from rmqbench.faults import effects
from rmqbench.faults.effects import Target

__all__ = ["FAULTS", "Fault", "Kind", "Phase"]

Phase = Literal["publish", "backlog", "drain"]
"""While publishing, while the backlog stands, while a queue is drained."""


@dataclass(frozen=True)
class Fault:
    """A fault of a scenario: its name in :data:`FAULTS`, and when it strikes.

    ``during`` None is the first phase that its kind is for. It strikes when ``after_messages`` of
    the phase are through, and with ``after_s`` so many seconds later. Both None: after a third of
    them, or the first message where its kind says so, as do ``kill-newborn`` and
    ``close-connection``; ``after_s`` alone counts from the first message. ``lasting_s`` is how long
    it lasts, where it is of that kind (None: as long as the kind's own). ``queue`` is the one that
    it strikes, and whose drain it waits for
    (None: the scenario's first).
    """

    name: str
    during: Phase | None = None
    after_messages: int | None = None
    lasting_s: float | None = None
    queue: str | None = None
    after_s: float | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for what does not exist."""
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
        if self.after_s is not None and not self.after_s >= 0:
            raise UsageError(f"after_s is {self.after_s}.", "Give seconds, 0 or more.")
        if self.lasting_s is not None and not self.lasting_s >= 0:
            raise UsageError(f"lasting_s is {self.lasting_s}.", "Give seconds, 0 or more.")
        object.__setattr__(self, "during", self.phase)

    @property
    def kind(self) -> Kind:
        """What the fault does; raise UsageError if there is no such fault."""
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
    ``rate`` (messages a second) makes a phase of 10,000 messages last long enough.
    ``rest_s`` is how long a quorum queue is left alone before anything is published, because a
    younger one may lose everything; a classic queue is left alone for a quarter of it, because
    before RabbitMQ 4.2 one younger than about 2 s may itself be gone (see the page on faults).
    ``needs_proxy``: the workers connect through a proxy, on which the fault acts.
    ``needs_disk``: the node runs on a disk of its own, on which the fault acts (Linux).
    ``first_message``: it strikes at the first message of the phase, not after a third of them.
    ``within_s``: it shows something only this soon after the queues' declaration, which therefore
    waits until the producers are ready.
    ``kills_consumer``: it ends the process of a consumer, which nobody may share.
    ``cuts_off``: it ends the connections of all clients that are at work.
    ``since``: the first version of RabbitMQ that has it.
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
    needs_disk: bool = False
    first_message: bool = False
    within_s: float | None = None
    kills_consumer: bool = False
    cuts_off: bool = False
    since: str = ""


_NOTHING: frozenset[str] = frozenset()
_REMOVED = frozenset({"removed"})

FAULTS: Mapping[str, Kind] = {
    "kill-broker": Kind(
        "the node is ended by SIGKILL and started again",
        effects.kill_broker,
        phases=get_args(Phase),
        rest_s=12.0,
        cuts_off=True,
    ),
    "kill-newborn": Kind(
        "the node is ended by SIGKILL at the first confirm, right after the queues' declaration",
        effects.kill_broker,
        phases=("publish",),
        first_message=True,
        within_s=0.8,
    ),
    "power-cut": Kind(
        "the power of the node and of its disk is cut, and it is started again",
        effects.cut_power,
        phases=get_args(Phase),
        rest_s=12.0,
        needs_disk=True,
        cuts_off=True,
    ),
    "restart-broker": Kind(
        "the node is shut down cleanly and started again",
        effects.restart_broker,
        phases=get_args(Phase),
        rate=1000.0,
        cuts_off=True,
    ),
    "pause-broker": Kind(
        "the node is stopped (SIGSTOP) for longer than the heartbeat, then goes on",
        effects.pause_broker,
        lasting_s=13.0,  # pika looks every 6 s whether anything came
        heartbeat_s=1,
        cuts_off=True,
    ),
    "quorum-chaos": Kind(
        "RabbitMQ's own chaos kills what quorum queues are made of, once a second",
        effects.quorum_chaos,
        lasting_s=10.0,
        rate=500.0,
        rest_s=12.0,
        since="4.3.0",
    ),
    "reset-connection": Kind(
        "all connections are reset",
        effects.by_proxy(lambda proxy, _: effects.require_some(proxy.reset())),
        needs_proxy=True,
        cuts_off=True,
    ),
    "half-open": Kind(
        "nothing passes any more on connections that stay open",
        effects.by_proxy(lambda proxy, _: effects.require_some(proxy.vanish())),
        heartbeat_s=1,
        needs_proxy=True,
        cuts_off=True,
    ),
    "cut-frame": Kind(
        "connections end in the middle of a frame",
        effects.by_proxy(lambda proxy, _: effects.require_some(proxy.cut_inside_frame())),
        needs_proxy=True,
        cuts_off=True,
    ),
    "latency": Kind(
        "everything is 50 ms late, 20 ms more or less",
        effects.by_proxy(effects.late),
        expected=_NOTHING,
        lasting_s=2.0,
        needs_proxy=True,
    ),
    "slow-link": Kind(
        "200,000 bytes a second pass each way",
        effects.by_proxy(effects.slow),
        expected=_NOTHING,
        lasting_s=2.0,
        needs_proxy=True,
    ),
    "kill-consumer": Kind(
        "a consumer is ended by SIGKILL, with unacknowledged messages",
        effects.kill_consumer,
        phases=("drain",),
        expected=_NOTHING,
        kills_consumer=True,
    ),
    "bad-acknowledgement": Kind(
        "a delivery tag is acknowledged that was never given: the broker closes the channel",
        effects.by_proxy(lambda proxy, _: effects.require_some(proxy.acknowledge_unknown())),
        phases=("drain",),
        needs_proxy=True,
    ),
    "close-connection": Kind(
        "connections are closed through the Management API",
        effects.close_connections,
        rate=500.0,  # the Management API lists a connection some seconds late
        first_message=True,
        cuts_off=True,
    ),
    "memory-alarm": Kind(
        "the memory alarm blocks publishers",
        effects.alarm(
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
        effects.alarm(
            "set_disk_free_limit",
            "1000000GB",
            "rabbit_disk_monitor:get_disk_free_limit().",
        ),
        phases=("publish",),
        expected=_NOTHING,
        lasting_s=2.0,
        rate=1000.0,
    ),
    "purge-queue": Kind("a queue is purged", effects.purge_queue, expected=_REMOVED),
    "delete-queue": Kind(
        "a queue is deleted, with all that it holds",
        effects.delete_queue,
        # The publishes under way may end with 541 INTERNAL_ERROR (3.10.8, quorum queue).
        expected=_REMOVED | {"indeterminate"},
    ),
    "limit-queue": Kind(
        "a queue is limited by a policy to 100 messages, the oldest dropped",
        effects.limit_queue,
        expected=_REMOVED,
    ),
}
"""Every fault there is, by its name."""
