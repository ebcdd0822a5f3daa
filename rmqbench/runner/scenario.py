"""A scenario: what a run is to do, as a value. :func:`rmqbench.run` does it."""

from __future__ import annotations

import getpass
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rmqbench.amqp.topology import Queue, QueueKind, Topology
from rmqbench.errors import UsageError
from rmqbench.faults.injection import Fault, Phase
from rmqbench.message import MAX_PRODUCERS, MAX_SEQUENCE, Recipe
from rmqbench.text import is_utf8
from rmqbench.verdict.rules import FINDINGS, OUTCOMES

__all__ = ["Scenario", "faulty", "reliability", "stress"]


@dataclass(frozen=True)
class Scenario:
    """Publish with no consumer there, then drain the work queue, then the audit queue.

    ``size_bytes`` is the size of each body (None: as long as head and text). ``window`` is the
    number of publishes without a confirm, ``prefetch`` that of deliveries without an
    acknowledgement, of each producer and consumer. ``consumers`` share the work queue; the audit
    queue has one. With ``look_at_backlog`` the broker is asked where its backlog is, in memory or
    on disk, while it stands. ``stall_s`` is how long anything may go without progress. ``allowed``
    names findings that fail by default and are expected here.

    ``faults`` strike while it runs. Then the workers reconnect and go on; what is indeterminate is
    published again only with ``publish_again``. ``publish_rate`` and ``consume_rate`` (messages a
    second, of all workers of the work queue together; None: as fast as it goes) make a phase last.
    ``rest_s`` is how long the queues are left alone before anything is published.

    What people do who lose messages: queues that are not ``durable``, messages that are not
    ``persistent``, no publisher ``confirms`` (what is written then counts as confirmed),
    ``auto_ack``, ``queue_arguments`` such as ``x-max-length``.
    """

    name: str
    messages: int = 10_000
    queue_kind: QueueKind = "classic"
    producers: int = 1
    consumers: int = 1
    text: str = "Hello World"
    size_bytes: int | None = None
    window: int = 2000
    prefetch: int = 1000
    exchange: str = "direct.exchange"
    routing_key: str = "work"
    work_queue: str = "work.queue"
    audit_queue: str = "audit.queue"
    look_at_backlog: bool = False
    stall_s: float = 30.0
    allowed: tuple[str, ...] = ()
    queue_arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    durable: bool = True
    persistent: bool = True
    confirms: bool = True
    publish_again: bool = False
    auto_ack: bool = False
    publish_rate: float | None = None
    consume_rate: float | None = None
    heartbeat_s: int = 30
    rest_s: float = 0.0
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that make no run, before anything is begun (UsageError)."""
        _require_between("messages", self.messages, 1, MAX_SEQUENCE)
        _require_between("producers", self.producers, 1, min(MAX_PRODUCERS, self.messages))
        _require_between("consumers", self.consumers, 1, 1000)
        _require_between("window", self.window, 1, 1_000_000)
        _require_between("prefetch", self.prefetch, 1, 65_535)
        unknown = set(self.allowed) - {*OUTCOMES, *FINDINGS}
        if unknown:
            raise UsageError(
                f"allowed names what is no finding: {', '.join(sorted(unknown))}.",
                f"There are {', '.join([*OUTCOMES, *FINDINGS])}.",
            )
        if not is_utf8(self.text):
            raise UsageError(
                "The text has half of a surrogate pair, which UTF-8 cannot hold.", "Remove it."
            )
        if not self.stall_s > 0:
            raise UsageError(f"stall_s is {self.stall_s}.", "Give seconds, more than 0.")
        _require_between("heartbeat_s", self.heartbeat_s, 1, 65_535)
        if not self.rest_s >= 0:
            raise UsageError(f"rest_s is {self.rest_s}.", "Give seconds, 0 or more.")
        for name, rate in (
            ("publish_rate", self.publish_rate),
            ("consume_rate", self.consume_rate),
        ):
            if rate is not None and not rate > 0:
                raise UsageError(f"{name} is {rate}.", "Give messages a second, more than 0.")
        if self.auto_ack and self.consume_rate is not None:
            raise UsageError(
                "consume_rate cannot be held with auto_ack: the broker then waits for nobody.",
                "Leave one of them out.",
            )
        self.recipe(uuid.UUID(int=0))
        self.topology()

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of messages of each producer."""
        each, rest = divmod(self.messages, self.producers)
        return tuple(each + (number < rest) for number in range(self.producers))

    def recipe(self, run: uuid.UUID) -> Recipe:
        """Give the recipe by which a run's messages are computed."""
        return Recipe(
            run=run,
            text=self.text,
            size_bytes=self.size_bytes,
            producer_id=login_name(),
            host=socket.gethostname(),
            persistent=self.persistent,
        )

    def topology(self) -> Topology:
        """Give the exchange and the two queues, the work queue first."""
        names = (self.work_queue, self.audit_queue)
        return Topology(
            exchange=self.exchange,
            routing_key=self.routing_key,
            queues=tuple(
                Queue(name, self.queue_kind, self.durable, self.queue_arguments) for name in names
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return asdict(self)


def reliability(**changes: Any) -> Scenario:
    """Describe the reliability scenario: 10,000 messages, published while no consumer is there.

    ``changes`` are fields of :class:`Scenario`.
    """
    return Scenario(**{"name": "reliability", **changes})


def stress(**changes: Any) -> Scenario:
    """Describe the stress scenario: 1,000,000 messages of 100 bytes through disk-backed queues.

    ``changes`` are fields of :class:`Scenario`.
    """
    defaults: dict[str, Any] = {
        "name": "stress",
        "messages": 1_000_000,
        "queue_kind": "lazy",
        "size_bytes": 100,
        "prefetch": 5000,
        "work_queue": "work.queue.1m",
        "audit_queue": "audit.queue.1m",
        "look_at_backlog": True,
    }
    return Scenario(**{**defaults, **changes})


def faulty(fault: str = "kill-broker", during: Phase | None = None, **changes: Any) -> Scenario:
    """Describe a run of 10,000 messages under one fault of :data:`rmqbench.faults.FAULTS`.

    ``during`` is the phase in which it strikes (None: the first that it is for). What RabbitMQ
    promises under this fault is expected, and nothing else. ``changes`` are fields of
    :class:`Scenario`.
    """
    described = Fault(fault, during)
    kind, phase = described.kind, described.phase
    expected = kind.expected
    if changes.get("publish_again"):
        expected -= {"indeterminate"}
    defaults: dict[str, Any] = {
        "name": "faults",
        "faults": (described,),
        "allowed": tuple(sorted(expected)),
        "heartbeat_s": kind.heartbeat_s,
        "rest_s": kind.rest_s if changes.get("queue_kind") == "quorum" else 0.0,
        "consumers": 3 if fault == "kill-consumer" else 1,
        "prefetch": 500,
        "publish_rate": kind.rate if phase == "publish" else None,
        "consume_rate": kind.rate if phase == "drain" and not changes.get("auto_ack") else None,
    }
    return Scenario(**{**defaults, **changes})


def login_name() -> str:
    """Tell the user's login name, the default of the header ``producer_id``."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without an entry in the password database
        return "rmqbench"


def _require_between(name: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise UsageError(
            f"{name} is {value!r}.", f"Give a whole number between {least:,} and {most:,}."
        )
