"""A scenario: what a run is to do, as a value. :func:`rmqbench.run` does it.

A new workload is a function here that returns one; `rmqbench/cli/run.py` makes a command of it.
"""

from __future__ import annotations

import getpass
import math
import socket
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, get_args, get_type_hints

from rmqbench.amqp import dead_letters
from rmqbench.amqp.routing import reached, routes
from rmqbench.amqp.topology import Exchange, Topology
from rmqbench.errors import UsageError
from rmqbench.faults import FAULTS, Fault, Phase
from rmqbench.limits import Limit
from rmqbench.message import MAX_PRODUCERS, MAX_SEQUENCE, Recipe
from rmqbench.payload import DEFAULT, file_digest
from rmqbench.queues import (
    ConsumedQueue,
    DelayQueue,
    require_between,
)
from rmqbench.schedule import Schedule
from rmqbench.text import counted, require_utf8
from rmqbench.verdict.findings import FINDINGS, OUTCOMES
from rmqbench.verdict.removals import keeps_dead_letters

__all__ = [
    "Scenario",
    "changes_taken",
    "faulty",
    "latency",
    "login_name",
    "online",
    "reliability",
    "soak",
    "storm",
    "stress",
]

_UNLIMITED_RATE = 100_000  # messages a second, for which a run of a duration has room in its ledger

When = Literal["after", "during"]
"""Whether queues are consumed after the publishing, or during it."""


# What dead-letters without a rejection: in a cycle of such RabbitMQ drops a message.
_DROPPED: Final = {"x-message-ttl", "x-max-length", "x-max-length-bytes"}


def _texts(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return some texts; raise UsageError for one alone, which would be taken by its letters."""
    if isinstance(values, str):
        raise UsageError(f"{name} is the text {values!r}.", f"Give a tuple: {name}=({values!r},).")
    return values


@dataclass(frozen=True)
class Scenario:
    """Publish to an exchange, consume every queue that is bound to it, and judge.

    ``queues`` are declared and bound with the routing key: each gets every message, but for those
    that say to what else they are bound, one of the ``exchanges`` for example, and get others' dead
    letters, which may wait in ``delays``. They are consumed once all is published, one after the
    other (more than ten at the same time, unless each consumer takes a process, and always where
    dead letters are followed); with ``consume`` ``"during"`` all of them from the first message on.

    ``messages`` is how many are published, by all ``producers`` together; with ``duration_s`` the
    publishing ends when that time is over, and ``messages`` (None: as many as a fast broker takes)
    is the most. ``size_bytes`` is the size of each body (None: as long as head and text), or as a
    text those from which each has one of its own: ``"100:16384"``, ``"100:1000*9,1048576"``.
    ``payload`` is what fills them behind the text (:mod:`rmqbench.payload`): ``"ints"``.
    ``window`` is the number of publishes without a confirm, of each producer. ``priorities`` are
    those of the producers' messages, in turn: ``(0, 9)`` (none: messages have none).

    ``publish_rate`` says when messages are due, those of all producers together: so many a second,
    or as a text steps (``"1000,5000,10000"``) and ramps (``"1000:10000@60s"``), see
    :mod:`rmqbench.schedule`. The load is open: what is late is sent as soon as it goes, and its
    latency counts from the moment at which it was due. None: as fast as the window allows.
    ``limits`` are on latencies of such a load, such as ``("delivery.p99_ms <= 20",)``.

    With ``look_at_backlog`` the broker is asked where its backlog is, in memory or on disk, while
    it stands. ``stall_s`` is how long anything may go without progress. ``allowed`` names findings
    that fail by default and are expected here. ``rest_s`` is how long the queues are left alone
    before anything is published. With ``declare_last`` the queues are declared only when all
    producers are connected and ready to publish: for what happens to queues just made.

    Producers share ``processes`` processes, consumers that are at work at the same time as many
    (None: a quarter of the processors, at least one); each has a connection and a thread of its
    own. With ``churn`` they close their connections when all is confirmed or acknowledged on them,
    and open others: so many a second, all clients at work together.

    With ``lets_go`` the run is judged while it is under way, every minute, and evidence is let go
    in which there is nothing left to be found, so that the disk holds what is under way, however
    long the run is. It needs ``consume`` ``"during"``.

    ``faults`` strike while it runs. Then the workers reconnect and go on; what is indeterminate is
    published again only with ``publish_again``.

    What people do who lose messages: messages that are not ``persistent``, no publisher
    ``confirms`` (what is written then counts as confirmed), and of a queue: not ``durable``,
    ``auto_ack``, ``arguments`` such as ``x-max-length``.
    """

    name: str
    queues: tuple[ConsumedQueue, ...] = (ConsumedQueue("work.queue"), ConsumedQueue("audit.queue"))
    messages: int | None = None
    duration_s: float | None = None
    consume: When = "after"
    producers: int = 1
    text: str = "Hello World"
    size_bytes: int | str | None = None
    payload: str = DEFAULT
    window: int = 2000
    exchange: str = "direct.exchange"
    routing_key: str = "work"
    exchanges: tuple[Exchange, ...] = ()
    delays: tuple[DelayQueue, ...] = ()
    look_at_backlog: bool = False
    stall_s: float = 30.0
    limits: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    persistent: bool = True
    priorities: tuple[int, ...] = ()
    confirms: bool = True
    publish_again: bool = False
    publish_rate: float | str | None = None
    heartbeat_s: int = 30
    rest_s: float = 0.0
    declare_last: bool = False
    processes: int | None = None
    churn: float | None = None
    lets_go: bool = False
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError for numbers that make no run, before anything is begun."""
        self._require_load()
        require_between("window", self.window, 1, 1_000_000)
        require_between("heartbeat_s", self.heartbeat_s, 1, 65_535)
        if self.processes is not None:
            require_between("processes", self.processes, 1, 1000)
        unknown = set(_texts("allowed", self.allowed)) - {*OUTCOMES, *FINDINGS}
        if unknown:
            raise UsageError(
                f"allowed names what is no finding: {', '.join(sorted(unknown))}.",
                f"There are {', '.join([*OUTCOMES, *FINDINGS])}.",
            )
        if self.consume not in get_args(When):
            raise UsageError(f"consume is {self.consume!r}.", "It is 'after' or 'during'.")
        if self.declare_last and (self.rest_s or self.consume == "during"):
            raise UsageError(
                "With declare_last the queues are there only when the publishing begins: they "
                "cannot rest, nor have consumers, before it.",
                "Leave out rest_s, and consume them after the publishing.",
            )
        if self.lets_go and self.consume != "during":
            raise UsageError(
                "With lets_go queues are consumed during the publishing: before that there is "
                "nothing to judge.",
                "Give consume='during'.",
            )
        require_utf8("text", self.text)
        if not self.stall_s > 0:
            raise UsageError(f"stall_s is {self.stall_s}.", "Give seconds, more than 0.")
        if not self.rest_s >= 0:
            raise UsageError(f"rest_s is {self.rest_s}.", "Give seconds, 0 or more.")
        for fault in self.faults:
            if fault.queue is not None and fault.queue not in self.queue_names:
                raise UsageError(
                    f"The fault {fault.name} is for the queue {fault.queue!r}, which the scenario "
                    "does not have.",
                    f"It has {', '.join(self.queue_names)}.",
                )
            if fault.phase == "backlog" and self.consume == "during":
                raise UsageError(
                    f"The fault {fault.name} is for the backlog, and there is none where queues "
                    "are consumed during the publishing.",
                    "Let it strike during publish or drain.",
                )
        self._require_limits()
        self.recipe(uuid.UUID(int=0))
        if not any(self.gets_all):
            raise UsageError(
                f"No queue is bound to {self.exchange!r} by {self.routing_key!r}: what is "
                "published arrives nowhere.",
                "Leave the bindings of one of them out.",
            )
        self._require_short_ways()
        self._require_delays()
        if self.lets_go and any(self.origins):
            raise UsageError(
                "With lets_go evidence of dead letters would be let go, too.",
                "Leave out lets_go, or the dead-letter exchange.",
            )

    def _require_short_ways(self) -> None:
        """Raise UsageError for dead letters that go on, or that RabbitMQ drops in a cycle."""
        for place, (queue, origins) in enumerate(zip(self.queues, self.origins, strict=True)):
            if any(place in of for of in self.origins) and any(each != place for each in origins):
                raise UsageError(
                    f"Dead letters that come to {queue.name!r} go on from there: they are followed "
                    "to the first queue only.",
                    "Leave its dead-letter exchange out.",
                )
            if len({*origins}) < len(origins):
                raise UsageError(
                    f"Dead letters of one queue come to {queue.name!r} in two ways.",
                    "Leave one of them.",
                )
            if place in origins and _DROPPED & queue.arguments.keys():
                raise UsageError(
                    f"Queue {queue.name!r} gets its own dead letters, and expires messages or has "
                    "a greatest length: what comes back so is dropped by RabbitMQ.",
                    "Leave the TTL or the length out.",
                )

    def _require_delays(self) -> None:
        """Raise UsageError for a delay queue that gets what is published, or leads nowhere."""
        topology = self.topology()
        published = reached(topology, self.exchange, self.routing_key)
        names = {each.name for each in self.delays}
        for delay in topology.delays:
            way = dead_letters.way_on(delay, self.routing_key)
            onward = set[str]() if way is None else reached(topology, *way)
            what = ""
            if delay.name in published:
                what = "gets what is published: it is for dead letters"
            elif onward & names:
                what = "leads to another: dead letters are followed through one"
            elif not onward:
                what = "leads to no queue of the scenario"
            if what:
                raise UsageError(
                    f"The delay queue {delay.name!r} {what}.",
                    "See its bindings, its exchange and its routing_key.",
                )

    def _require_limits(self) -> None:
        limits = [Limit.of(text) for text in _texts("limits", self.limits)]
        if limits and self.schedule is None:
            raise UsageError(
                f"limits has {limits[0]}, and the load is as high as the window allows: a latency "
                "then says nothing.",
                "Give a publish_rate.",
            )
        if not self.confirms and any(each.latency == "confirm" for each in limits):
            raise UsageError(
                "limits are on confirms, and there are none.", "Leave out confirms=False."
            )
        if self.consume == "after" and any(each.latency != "confirm" for each in limits):
            raise UsageError(
                "limits are on deliveries, and queues are consumed after the publishing.",
                "Give consume='during'.",
            )

    def _require_load(self) -> None:
        if self.duration_s is not None and not 0 < self.duration_s < math.inf:
            raise UsageError(f"duration_s is {self.duration_s}.", "Give seconds, more than 0.")
        if self.schedule is not None and math.isfinite(self.schedule.duration_s):
            object.__setattr__(self, "duration_s", self.schedule.duration_s)
        if self.duration_s is None and self.messages is None:
            object.__setattr__(self, "messages", 10_000)
        if self.messages is not None:
            require_between("messages", self.messages, 1, MAX_SEQUENCE)
        if self.churn is not None and not 0 < self.churn < math.inf:
            raise UsageError(f"churn is {self.churn}.", "Give connections a second, more than 0.")
        require_between("producers", self.producers, 1, MAX_PRODUCERS)
        if self.producers > self.most_messages:
            messages = counted(self.most_messages, "message is", "messages are", form=",")
            longer = " (a longer duration_s, a higher publish_rate)" if self.duration_s else ""
            raise UsageError(
                f"producers is {self.producers:,}, and {messages} published at the most: each "
                "producer needs one.",
                f"Give fewer producers, or more messages{longer}.",
            )

    @property
    def most_messages(self) -> int:
        """The number of messages that are published at the most."""
        if self.messages is not None:
            return min(self.messages, sys.maxsize if self.schedule is None else self.schedule.most)
        assert self.duration_s is not None
        return int((self.schedule or Schedule.of(_UNLIMITED_RATE, self.duration_s)).messages)

    @property
    def known_messages(self) -> int | None:
        """The number of messages, where it does not depend on how fast the broker is, else None."""
        return self.messages if self.schedule is None else self.most_messages

    @cached_property
    def schedule(self) -> Schedule | None:
        """When the messages of all producers are due; None: as fast as it goes."""
        if self.publish_rate is None:
            return None
        return Schedule.of(self.publish_rate, self.duration_s)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of messages of each producer, at the most."""
        each, rest = divmod(self.most_messages, self.producers)
        return tuple(each + (number < rest) for number in range(self.producers))

    @property
    def clients(self) -> int:
        """The number of producers and of consumers of all queues."""
        return self.producers + sum(queue.consumers for queue in self.queues)

    @property
    def longest_pause_s(self) -> float:
        """How long a worker may do nothing only because its own rate asks for it.

        A producer waits for one message; a consumer may have to for all that it has prefetched.
        """
        pauses = [
            queue.consumers * (queue.prefetch + 1) / queue.consume_rate
            for queue in self.queues
            if queue.consume_rate
        ]
        for queue in self.queues:
            pauses += [each.joins_after_s for each in queue.settings]
            pauses += [each.polls_every_s or 0.0 for each in queue.settings]
            pauses += [each.longest_delay_s for each in queue.settlings]
        if self.schedule:
            pauses.append(self.producers / self.schedule.lowest_per_s)
        return max(pauses, default=0.0)

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The names of the queues, in their order."""
        return tuple(queue.name for queue in self.queues)

    def recipe(self, run: uuid.UUID) -> Recipe:
        """Return the recipe by which a run's messages are computed."""
        return Recipe(
            run=run,
            text=self.text,
            size_bytes=self.size_bytes,
            producer_id=login_name(),
            host=socket.gethostname(),
            persistent=self.persistent,
            priorities=self.priorities,
            payload=self.payload,
            payload_digest=file_digest(self.payload),
        )

    def topology(self) -> Topology:
        """Return the exchange and its queues, as they are declared."""
        return Topology(
            exchange=self.exchange,
            routing_key=self.routing_key,
            queues=tuple(queue.declared() for queue in self.queues),
            exchanges=self.exchanges,
            delays=tuple(each.declared() for each in self.delays),
            headers={"producer_id": login_name(), "host": socket.gethostname()},
        )

    @cached_property
    def origins(self) -> tuple[tuple[int, ...], ...]:
        """The places of those queues whose dead letters each queue gets."""
        names, topology = self.queue_names, self.topology()
        found = dead_letters.origins(topology)
        return tuple(tuple(names.index(each.queue) for each in found[name]) for name in names)

    @cached_property
    def keeps_dead_letters(self) -> tuple[bool, ...]:
        """Of each queue, whether its dead letters are kept until confirmed, on all their way."""
        topology = self.topology()
        return tuple(
            all(
                keeps_dead_letters(each.kind, each.arguments)
                for each in (queue, *dead_letters.delays_of(topology, queue))
            )
            for queue in topology.queues
        )

    @cached_property
    def gets_all(self) -> tuple[bool, ...]:
        """Of each queue, whether it gets every message that is published."""
        topology = self.topology()
        there = routes(topology, self.exchange, self.routing_key)
        return tuple(name in there for name in self.queue_names)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values.

        Where there are two queues, what they have in common stands beside them too, under the
        names that :func:`reliability` takes.
        """
        return asdict(self) | self._in_short()

    def _in_short(self) -> dict[str, Any]:
        if len(self.queues) != 2:
            return {}
        work, audit = self.queues
        return {
            "queue_kind": work.kind,
            "consumers": work.consumers,
            "prefetch": work.prefetch,
            "work_queue": work.name,
            "audit_queue": audit.name,
            "queue_arguments": dict(work.arguments),
            "durable": work.durable,
            "auto_ack": work.auto_ack,
            "settle": work.settle,
            "consume_rate": work.consume_rate,
        }


def reliability(**changes: Any) -> Scenario:
    """Return the reliability scenario: 10,000 messages, published while no consumer is there.

    ``changes`` are fields of :class:`Scenario`, or say what its two queues are like:
    ``queue_kind``, ``durable``, ``queue_arguments``, ``prefetch`` and ``auto_ack`` of both,
    ``work_queue`` and ``audit_queue`` (their names), ``consumers``, ``consume_rate`` and ``settle``
    of the work queue; the audit queue has one consumer::

        reliability(messages=50_000, queue_kind="quorum", consumers=3)
    """
    return _two_queues({"name": "reliability"}, changes)


def stress(**changes: Any) -> Scenario:
    """Return the stress scenario: 1,000,000 messages of 100 bytes through disk-backed queues.

    ``changes`` are those of :func:`reliability`.
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
    return _two_queues(defaults, changes)


def online(**changes: Any) -> Scenario:
    """Return the online scenario: 10,000 messages, consumed while they are published.

    ``changes`` are those of :func:`reliability`.
    """
    return _two_queues({"name": "online", "consume": "during"}, changes)


def latency(**changes: Any) -> Scenario:
    """Return the latency scenario: 1,000 messages a second for 10 seconds, consumed meanwhile.

    The load is open: see ``publish_rate`` of :class:`Scenario`, and ``limits``. ``changes`` are
    those of :func:`reliability`.
    """
    defaults: dict[str, Any] = {
        "name": "latency",
        "consume": "during",
        "messages": None,
        "publish_rate": 1000.0,
        "duration_s": None if "@" in str(changes.get("publish_rate")) else 10.0,
        "size_bytes": 100,
    }
    return _two_queues(defaults, changes)


def faulty(fault: str = "kill-broker", during: Phase | None = None, **changes: Any) -> Scenario:
    """Return a run of 10,000 messages under one fault of :data:`rmqbench.faults.FAULTS`.

    ``during`` is the phase in which it strikes (None: the first that it is for). What RabbitMQ
    promises under this fault is expected, and nothing else. ``changes`` are those of
    :func:`reliability`.
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
        "declare_last": kind.within_s is not None,
        "rest_s": kind.rest_s if changes.get("queue_kind") == "quorum" else kind.rest_s / 4,
        "consumers": 3 if fault == "kill-consumer" else 1,
        "prefetch": 500,
        "publish_rate": kind.rate if phase == "publish" else None,
        "consume_rate": kind.rate if phase == "drain" and not changes.get("auto_ack") else None,
    }
    return _two_queues(defaults, changes)


def storm(fault: str = "restart-broker", **changes: Any) -> Scenario:
    """Return a run in which 200 clients lose their connections at once, and connect again at once.

    100 producers and 100 consumers are at work when the ``fault`` strikes, a third of the way. What
    RabbitMQ promises under it is expected. ``changes`` are those of :func:`reliability`. Raise
    UsageError for a fault that cuts nobody off.
    """
    if not Fault(fault).kind.cuts_off:
        those = ", ".join(name for name, kind in FAULTS.items() if kind.cuts_off)
        raise UsageError(
            f"A storm is of clients that come back, and the fault {fault} cuts nobody off.",
            f"Choose one that does: {those}.",
        )
    defaults: dict[str, Any] = {
        "name": "storm",
        "consume": "during",
        "producers": 100,
        "consumers": 99,
        "window": 100,
        "stall_s": 60.0,
    }
    return faulty(fault, "publish", **defaults | changes)


def soak(*, fault: str | None = None, every_s: float = 300.0, **changes: Any) -> Scenario:
    """Return a run that goes on for half an hour, or as long as ``duration_s`` says.

    5,000 messages a second are consumed while they are published, and what is clean is let go. A
    ``fault`` strikes again and again, each time after ``every_s``, the last time well before the
    end. What RabbitMQ promises under it is expected. ``changes`` are those of :func:`reliability`.
    """
    if not every_s > 0:
        raise UsageError(f"every_s is {every_s}.", "Give seconds, more than 0.")
    defaults: dict[str, Any] = {
        "name": "soak",
        "consume": "during",
        "messages": None,
        "duration_s": 1800.0,
        "publish_rate": 5000.0,
        "lets_go": True,
    }
    asked = defaults | changes
    if fault is None:
        return _two_queues(asked, {})
    strikes = [Fault(fault, "publish", after_s=every_s)]
    while (next_s := (len(strikes) + 1) * every_s) < (asked["duration_s"] or 0) - every_s / 2:
        strikes.append(Fault(fault, "publish", after_s=next_s))
    return faulty(fault, "publish", **asked | {"faults": tuple(strikes)})


_OF_BOTH = {
    "queue_kind": "kind",
    "durable": "durable",
    "queue_arguments": "arguments",
    "prefetch": "prefetch",
    "auto_ack": "auto_ack",
}
_OF_WORK = {
    "work_queue": "name",
    "consumers": "consumers",
    "consume_rate": "consume_rate",
    "settle": "settle",
}
_OF_AUDIT = {"audit_queue": "name"}


def changes_taken() -> dict[str, Any]:
    """Return the type of each change that :func:`reliability` takes, by its name.

    Left out are ``queues`` and ``faults``, which are lists of values.
    """
    of_queue = get_type_hints(ConsumedQueue)
    names = _OF_BOTH | _OF_WORK | _OF_AUDIT
    taken = get_type_hints(Scenario) | {name: of_queue[field] for name, field in names.items()}
    return {name: hint for name, hint in taken.items() if name not in ("queues", "faults")}


def _two_queues(defaults: dict[str, Any], changes: dict[str, Any]) -> Scenario:
    """Make a scenario of the work and the audit queue, from what is said of both or of one."""
    asked = defaults | changes
    short = {name: asked.pop(name) for name in (*_OF_BOTH, *_OF_WORK, *_OF_AUDIT) if name in asked}
    if "queues" in changes:
        if clash := set(short) & set(changes):
            raise UsageError(
                f"queues and {', '.join(sorted(clash))} both say what the queues are like.",
                "Say it in queues.",
            )
        return Scenario(**asked)
    work, audit = ConsumedQueue("work.queue"), ConsumedQueue("audit.queue")
    work = replace(work, **_renamed(short, _OF_BOTH | _OF_WORK))
    audit = replace(audit, **_renamed(short, _OF_BOTH | _OF_AUDIT))
    return Scenario(**asked, queues=(work, audit))


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[name]: value for name, value in values.items() if name in names}


def login_name() -> str:
    """Return the user's login name, the default of the header ``producer_id``."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without an entry in the password database
        return "rmqbench"
