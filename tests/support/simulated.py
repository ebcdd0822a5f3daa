"""A whole run in virtual time: our producers, consumers, drain and judge against a model broker.

A :class:`History` says what is to happen; :func:`play` lets it happen. Everything in it follows
from its values, so that it repeats itself to the byte.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from rmqbench import pieces
from rmqbench.amqp.connection import Connection
from rmqbench.amqp.network import Network
from rmqbench.clients import producer as producers
from rmqbench.clients import recording_consumer as consumers
from rmqbench.clients.consumer import Subscription
from rmqbench.clients.lifetime import Churn
from rmqbench.clients.producer import Producer, ProducerPlan
from rmqbench.clients.recording_consumer import ConsumerPlan, RecordingConsumer
from rmqbench.endpoint import Endpoint
from rmqbench.faults.disturbance import Disturbance
from rmqbench.message import HEAD_SIZE, Recipe
from rmqbench.results.judging import judge
from rmqbench.results.result import Result
from rmqbench.run_directory import RunDirectory
from rmqbench.run_directory.journal import Declared, DrainTried, MessagesRemoved, Restarted
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.runner.drain import QueueDrain
from rmqbench.runner.letting_go import LettingGo
from rmqbench.schedule import Schedule
from rmqbench.simulation import Behaviour, Content, Misdeed, ModelBroker, SeededBehaviour
from rmqbench.simulation.network import TO_CLIENT, Link, Transport, simulated_network
from rmqbench.simulation.truth import FoundEmpty
from rmqbench.simulation.world import Task, World

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
EXCHANGE, KEY = "x", "k"
_BUSY_S, _FREE_S = 0.4, 0.1
_FEW = 3  # messages of a segment that may be let go


@dataclass(frozen=True)
class QueuePlan:
    """A queue and its consumers."""

    name: str
    kind: str = "classic"  # or quorum
    arguments: tuple[tuple[str, Any], ...] = ()
    consumers: int = 1
    prefetch: int = 10
    auto_ack: bool = False
    settle: str = "ack"
    polls_every_s: float | None = None


@dataclass(frozen=True)
class Act:
    """Something that happens ``at_s`` seconds after the first publish.

    ``what``: cut or swallow (a connection, by its number: the latter is half-open then), kill (the
    node), stop (the node, cleanly), stall, purge or delete (a queue), slay (a consumer, by its
    number), close (all connections), block (publishers), busy (a queue stands still most of the
    time).
    """

    at_s: float
    what: str
    which: int = 0
    lasting_s: float = 1.0


@dataclass(frozen=True)
class History:
    """What is to happen."""

    seed: int
    messages: int = 20
    producers: int = 1
    window: int = 8
    queues: tuple[QueuePlan, ...] = (QueuePlan("work"), QueuePlan("audit"))
    during: bool = False
    vector: bool = True
    publish_again: bool = False
    confirm_delay_s: float = 0.0
    delivery_delay_s: float = 0.0
    most_at_once: int = 1000
    grouped: float = 1.0
    recovery_s: float = 0.0
    ack_delay_s: float = 0.0  # until a quorum queue's leader hears of it
    ack_survival: float = 1.0  # of those that were under way to the disk at a kill
    latency_s: float = 0.0002
    piece_bytes: int = 0  # how small the network cuts what it carries; 0: not at all
    publish_rate: float | str | None = None
    duration_s: float | None = None
    churn: float | None = None
    size_bytes: int | str | None = None
    lets_go: bool = False  # what is clean, a few messages at a time
    version: str = "4.3.6"
    cancels_every: int | None = None
    acts: tuple[Act, ...] = ()
    misdeeds: tuple[tuple[Misdeed, int], ...] = ()
    flips: tuple[tuple[int, int, int], ...] = ()  # connection, byte that the client reads, mask

    @property
    def counts(self) -> tuple[int, ...]:
        each, rest = divmod(self.messages, self.producers)
        return tuple(each + (number < rest) for number in range(self.producers))

    @property
    def schedule(self) -> Schedule | None:
        return (
            None if self.publish_rate is None else Schedule.of(self.publish_rate, self.duration_s)
        )


@dataclass
class Wire:
    """What a client has seen of one connection."""

    session: int
    transport: Transport
    received: list[tuple[float, bytes]] = field(default_factory=list)  # when, and what
    sent: list[tuple[float, bytes]] = field(default_factory=list)


@dataclass
class Played:
    """What came of a history: what was said of it, and what is known of it."""

    history: History
    result: Result
    broker: ModelBroker
    wires: list[Wire]
    recipe: Recipe
    began_at: float  # from here on acts count
    seconds: float
    held: dict[str, int]  # what each queue truly held when it was last asked whether it is empty
    asked_at: dict[str, float]  # when that was


class Play:
    """One history under way."""

    def __init__(self, history: History, directory: Path) -> None:
        self.history = history
        self.world = World()
        run = uuid.UUID(int=history.seed << 64 | 0xF00D)
        self.recipe = Recipe(run, size_bytes=history.size_bytes)
        self._random = random.Random(history.seed)
        self._links = itertools.count()
        self.broker = ModelBroker(self.world, behaviour=self._behaviour(), version=history.version)
        self.wires: list[Wire] = []
        self.network: Network = simulated_network(
            self.world, self.broker, new_link=self._new_link, made=self._made
        )
        self._directory = RunDirectory(directory)
        self._consumers: list[Task] = []
        self._letting_go: LettingGo | None = None
        self._looks_at = 0.04
        self._restarted_at: float | None = None
        self._shaken = False
        self._held: dict[str, int] = {}
        self._asked_at: dict[str, float] = {}

    def _behaviour(self) -> Behaviour:
        history = self.history
        return SeededBehaviour(
            random.Random(history.seed + 1),
            plan=history.misdeeds,
            confirm_delay_s=history.confirm_delay_s,
            delivery_delay_s=history.delivery_delay_s,
            most_at_once=history.most_at_once,
            grouped=history.grouped,
            recovery_s=history.recovery_s,
            ack_survival=history.ack_survival,
            ack_delay_s=history.ack_delay_s,
            alter=self._alter,
            forge=self._forge,
        )

    def _new_link(self) -> Link:
        latency_s = self.history.latency_s
        number = next(self._links)
        draws = [random.Random(self.history.seed * 1000 + 2 * number + way) for way in (0, 1)]
        begun = [0, 0]

        def cut(way: int, data: bytes) -> list[bytes]:
            at, begun[way] = begun[way], begun[way] + len(data)
            if way == TO_CLIENT:
                data = self._flipped(number, at, data)
            return self._pieces(draws[way], data)

        return Link(self.world, lambda way: latency_s * (0.5 + draws[way].random()), cut)

    def _flipped(self, link: int, begins_at: int, data: bytes) -> bytes:
        """Change the bits that the history names, counted from the first byte of a connection."""
        changed = bytearray(data)
        for which, at, mask in self.history.flips:
            if which == link and 0 <= at - begins_at < len(data):
                changed[at - begins_at] ^= mask
        return bytes(changed)

    def _pieces(self, source: random.Random, data: bytes) -> list[bytes]:
        most = self.history.piece_bytes
        if not most:
            return [data]
        pieces, at = [], 0
        while at < len(data):
            size = source.randint(1, most)
            pieces.append(data[at : at + size])
            at += size
        return pieces

    def _made(self, transport: Transport) -> None:
        wire = Wire(transport.peer.number, transport)
        self.wires.append(wire)
        transport.on_read = lambda data: wire.received.append((self.world.now(), data))
        transport.on_write = lambda data: wire.sent.append((self.world.now(), data))

    def _alter(self, content: Content) -> Content:
        """Change one bit: of the body, of the send time (the checksum redone), or a property."""
        body = bytearray(content.body)
        kind = self._random.randrange(3)
        sent = self.recipe.read_head(content.body)
        if sent is None:
            return content  # not of this run: whatever it says, it is foreign
        if kind == 0:
            body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
            return Content(content.properties, bytes(body))
        if kind == 1:
            other = sent.sent_ns ^ 1 << self._random.randrange(30)
            head = self.recipe.head(sent.producer, sent.sequence, other)
            return Content(content.properties, head + content.body[HEAD_SIZE:])
        properties = bytearray(content.properties)
        properties[-1] ^= 1  # the timestamp's last byte
        return Content(bytes(properties), content.body)

    def _forge(self, content: Content) -> Content:
        """Make a message that carries the run's identity and was never sent."""
        sent = self.recipe.read_head(content.body)
        assert sent is not None
        sequence = self.history.counts[sent.producer] + 3
        body = self.recipe.body(sent.producer, sequence, sent.sent_ns)
        message_id = self.recipe.message_id(sent.producer, sent.sequence).encode()
        forged_id = self.recipe.message_id(sent.producer, sequence).encode()
        properties = content.properties.replace(message_id, forged_id)
        return Content(properties, body)

    # --- the run --------------------------------------------------------------------------------

    def run(self) -> Played:
        result = self.world.run(self._main)
        return Played(
            self.history,
            result,
            self.broker,
            self.wires,
            self.recipe,
            self._began_at,
            self.world.now(),
            self._held,
            self._asked_at,
        )

    def _main(self) -> Result:
        history = self.history
        self._declare()
        with self._directory.open_journal(self.world.clock) as journal:
            names = [queue.name for queue in history.queues]
            journal.write(
                Declared(
                    exchange=EXCHANGE,
                    routing_key=KEY,
                    queues=names,
                    arguments=[dict(queue.arguments) for queue in history.queues],
                    notes=[],
                )
            )
            self._journal = journal
            self._schedule()
            if history.lets_go:
                self._letting_go = LettingGo(
                    *(self._directory, self.world.clock, journal.note, lambda _: None), every_s=0
                )
            drains = [self._drain(index) for index in range(len(names))]
            producers = [
                self.world.spawn(f"producer {plan.number}", self._producer(plan))
                for plan in self._producer_plans()
            ]
            finish = threading.Event()
            early = []
            if history.during:
                early = [
                    self._spawn(plan, finish)
                    for drain in drains
                    for plan in drain.next_round(lingers=True)
                ]
            self._join(producers)
            finish.set()
            self._join(early)
            for drain in drains:
                drain.recount()
            for drain in drains:
                if history.during:
                    self._end_round(drain)
                while not drain.done:
                    self._join([self._spawn(plan) for plan in drain.next_round()])
                    drain.recount()
                    self._end_round(drain)
        return judge(self._directory.path)

    def _declare(self) -> None:
        history = self.history
        self._directory.write_description(
            {
                "run": str(self.recipe.run),
                "scenario": {"consume": "during" if history.during else "after"},
                "counts": list(history.counts),
                "schedule": history.schedule and history.schedule.as_list(),
                "recipe": self.recipe.as_dict(),
                "queues": [
                    {
                        "name": queue.name,
                        "kind": queue.kind,
                        "arguments": dict(queue.arguments),
                        "consumers": queue.consumers,
                        "prefetch": queue.prefetch,
                        "auto_ack": queue.auto_ack,
                        "settle": queue.settle,
                    }
                    for queue in history.queues
                ],
                "allowed": [],
                "faults": [],
                "broker": {"version": history.version},
            }
        )
        with Connection(Endpoint(), name="topology", network=self.network) as connection:
            channel = connection.channel()
            answers: list[object] = []
            channel.exchange_declare(EXCHANGE, "direct", durable=True)
            for queue in history.queues:
                arguments = {"x-queue-type": queue.kind, **dict(queue.arguments)}
                channel.queue_declare(queue.name, durable=True, arguments=arguments)
                channel.queue_bind(queue.name, EXCHANGE, KEY, callback=answers.append)
            connection.wait_until(lambda: len(answers) == len(history.queues), 5, "the topology")

    def _schedule(self) -> None:
        self._began_at = self.world.now()
        for act in self.history.acts:
            self.world.call_later(act.at_s, lambda act=act: self._do(act))

    def _do(self, act: Act) -> None:
        getattr(self, f"_{act.what}")(act)

    def _connection(self, act: Act) -> Transport | None:
        open_ones = [wire.transport for wire in self.wires if not wire.transport.over]
        self._shaken |= bool(open_ones)
        return open_ones[act.which % len(open_ones)] if open_ones else None

    def _cut(self, act: Act) -> None:
        if (transport := self._connection(act)) is not None:
            transport.break_off()

    def _swallow(self, act: Act) -> None:
        if (transport := self._connection(act)) is not None:
            transport.swallow()

    def _close(self, act: Act) -> None:
        self.broker.close_connections()

    def _block(self, act: Act) -> None:
        self.broker.block()
        self.world.call_later(act.lasting_s, self.broker.unblock)

    def _kill(self, act: Act) -> None:
        if self.broker.running:
            self._shaken = True
            began_ns = self.world.time_ns()
            self.broker.restart(down_s=act.lasting_s, clean=act.what == "stop")
            self._restarted_at = self.world.now() + act.lasting_s
            ended_ns = began_ns + round(act.lasting_s * 1e9)
            self._journal.write(Restarted(after_ns=began_ns, before_ns=ended_ns))

    _stop = _kill

    def _slay(self, act: Act) -> None:
        alive = [task for task in self._consumers if not task.ended]
        if alive:
            victim = alive[act.which % len(alive)]
            victim.kill()
            for wire in self.wires:
                if wire.transport.owner is victim:
                    wire.transport.vanish()

    def _queue(self, act: Act) -> str | None:
        """Return the name of a queue that can be acted upon."""
        queue = self.history.queues[act.which % len(self.history.queues)].name
        there = self.broker.running and queue in self.broker.default_host.queues
        return queue if there else None

    def _stall(self, act: Act) -> None:
        if (queue := self._queue(act)) is not None:
            self.broker.stall(queue, act.lasting_s)

    def _busy(self, act: Act) -> None:
        until = self.world.now() + act.lasting_s

        def again() -> None:
            if (queue := self._queue(act)) is not None:
                self.broker.stall(queue, _BUSY_S)
            if self.world.now() < until:
                self.world.call_later(_BUSY_S + _FREE_S, again)

        again()

    def _purge(self, act: Act) -> None:
        """Take messages out of a queue as a fault does, and write it down."""
        if (queue := self._queue(act)) is not None:
            count = self.broker.purge(queue)
            self._journal.write(MessagesRemoved(queue=queue, cause="a purge", at_most=count))

    def _delete(self, act: Act) -> None:
        if (queue := self._queue(act)) is not None:
            self.broker.delete(queue)
            self._journal.write(MessagesRemoved(queue=queue, cause="it was deleted"))

    def _producer_plans(self) -> list[ProducerPlan]:
        history = self.history
        plans, schedule = [], history.schedule
        for number, count in enumerate(history.counts):
            plan = ProducerPlan(
                endpoint=Endpoint(),
                recipe=self.recipe,
                number=number,
                count=count,
                directory=self._directory.producer(number),
                exchange=EXCHANGE,
                routing_key=KEY,
                window=history.window,
                schedule=schedule and schedule.share(number, history.producers),
                duration_s=history.duration_s,
                churn=history.churn and Churn(history.churn, history.producers, number),
                publish_again=history.publish_again,
                vector=history.vector,
            )
            lets_go = [count] if history.lets_go else None
            timed = schedule is not None
            PublishLedger.create(plan.directory, count, timed=timed, lets_go=lets_go)
            plans.append(plan)
        return plans

    def _producer(self, plan: ProducerPlan) -> Callable[[], Any]:
        return lambda: Producer(plan, network=self.network).run()

    def _drain(self, index: int) -> QueueDrain:
        history = self.history
        queue = history.queues[index]
        subscription = Subscription(
            Endpoint(),
            queue.name,
            "",
            "",
            prefetch=queue.prefetch,
            auto_ack=queue.auto_ack,
            vector=history.vector,
            cancels_every=None if queue.polls_every_s else history.cancels_every,
            polls_every_s=queue.polls_every_s,
        )
        plan = ConsumerPlan(
            subscription=subscription,
            recipe=self.recipe,
            counts=history.counts,
            number=0,
            directory=self._directory.queue(index),
            settle=queue.settle,
            exchange=EXCHANGE,
            routing_key=KEY,
            timed=history.schedule is not None,
        )
        return QueueDrain(plan, queue.consumers, self.network, lets_go=history.lets_go)

    def _spawn(self, plan: ConsumerPlan, finish: threading.Event | None = None) -> Task:
        task = self.world.spawn(
            plan.subscription.name, lambda: RecordingConsumer(plan, finish, self.network).run()
        )
        self._consumers.append(task)
        return task

    def _join(self, tasks: list[Task]) -> None:
        while not all(task.ended for task in tasks):
            self.world.sleep(0.02)
            if self._letting_go is not None and self.world.now() > self._looks_at:
                self._letting_go.look()
                self._looks_at *= 1.5
        for task in tasks:
            if task.error is not None:
                raise task.error

    def _end_round(self, drain: QueueDrain) -> None:
        state = Disturbance(
            shaken=self._shaken or drain.interrupted(),
            restarted_at=self._restarted_at,
        )
        proof = drain.end_round(state)
        queue = drain.plan.queue
        self._asked_at[queue] = self.world.now()
        self._held[queue] = 0
        if queue in self.broker.default_host.queues:
            counts = self.broker.counts(queue)
            self._held[queue] = counts.ready + counts.unacked
        if proof.proven and proof.there:  # what has come back since is no fault of the proof
            found = [e.held for e in self.broker.truth.of(FoundEmpty) if e.queue == queue]
            self._held[queue] = found[-1] if found else self._held[queue]
        self._journal.write(DrainTried(queue=drain.plan.queue, **asdict(proof)))


def in_pieces_of(history: History) -> Any:
    """Return a context in which pieces are as short as those that the history may let go."""
    return mock.patch.object(pieces, "PIECE", _FEW if history.lets_go else pieces.PIECE)


def play(history: History, directory: Path | None = None) -> Played:
    """Let a history happen, and return what came of it."""
    scratch = None
    if directory is None:
        directory = scratch = Path(tempfile.mkdtemp(dir=MEMORY))
    try:
        with (  # how much memory this process has is no part of a history
            mock.patch.object(producers, "peak_rss_bytes", return_value=0),
            mock.patch.object(consumers, "peak_rss_bytes", return_value=0),
            in_pieces_of(history),
        ):
            return Play(history, directory).run()
    finally:
        if scratch is not None:
            shutil.rmtree(scratch)
