"""Run a scenario: declare, publish, consume, judge. What happens when, and nothing else."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from rmqbench.amqp import topology as topologies
from rmqbench.broker import Broker
from rmqbench.clock import Clock, epoch_now_ns
from rmqbench.errors import RmqbenchError
from rmqbench.explaining import open_question
from rmqbench.faults.disturbance import Disturber
from rmqbench.management.sampler import SAMPLES_FILE, Sample, Sampler
from rmqbench.memory import peak_rss_bytes
from rmqbench.open_files import allow_open_files
from rmqbench.results.judging import judge
from rmqbench.results.metrics import Throughput, consume_throughput, publish_throughput
from rmqbench.results.result import Result
from rmqbench.run_directory import RunDirectory
from rmqbench.run_directory.journal import (
    Declared,
    Entry,
    Journal,
    MemoryUsed,
    Restarted,
    StageBegan,
    TroubleSeen,
)
from rmqbench.run_directory.ledger import PublishLedger
from rmqbench.run_directory.reading import read_run
from rmqbench.runner.backlog import count_ready, least_bytes, show_backlog
from rmqbench.runner.description import describe
from rmqbench.runner.drains import Drains
from rmqbench.runner.inspection import Inspection
from rmqbench.runner.isolation import Place, declared, own_place
from rmqbench.runner.letting_go import LettingGo
from rmqbench.runner.live import LiveFigures, Progress
from rmqbench.runner.plans import Planner, drains_together
from rmqbench.runner.possible import require_possible
from rmqbench.runner.remote import Elsewhere
from rmqbench.runner.watch import BrokerWatch
from rmqbench.runner.workforce import Workforce
from rmqbench.scenarios import Scenario

__all__ = ["Progress", "Run", "run"]

_T = TypeVar("_T")

_LOG_LINES = 10_000
_OPEN_FILES, _OPEN_FILES_EACH = 200, 6  # of what the workers write, their columns are read
_LOOK_S = 0.1
_LETS_GO_ROOM = 10_000_000  # messages, of which there is room for the evidence at the beginning


def run(
    scenario: Scenario,
    broker: Broker,
    *,
    directory: str | os.PathLike[str] | None = None,
    in_place: bool = False,
    watch: Callable[[Progress], None] = lambda _: None,
    executor: Executor | None = None,
    run_id: uuid.UUID | None = None,
) -> Result:
    """Run a scenario against a broker and judge it.

    The evidence is kept in ``directory`` (None: a new one among the user's runs, which the command
    line tidies). The run has a virtual host of its own unless ``in_place``; see
    :func:`rmqbench.runner.isolation.own_place`. ``watch`` is called all along, with the progress.
    Producers and consumers are processes of this host, or jobs for an ``executor``, which may be
    that of many hosts; see :mod:`rmqbench.runner.remote`. All messages are computed from
    ``run_id`` (None: a new one): with that of another run they are the same but for their times.

    A bad verdict is not raised: ``result.verdict.require_pass()`` does that. Raise RmqbenchError
    where the run could not be begun, AccessRefused or MessageTooLarge also where nothing could be
    published.
    """
    with Run(
        scenario,
        broker,
        directory=directory,
        in_place=in_place,
        watch=watch,
        executor=executor,
        run_id=run_id,
    ) as stages:
        stages.publish()
        if scenario.consume == "after":
            stages.look_at_backlog()
            stages.disturb_backlog()
        if drains_together(scenario, elsewhere=executor is not None):
            stages.drain_all()
        else:
            for name in scenario.queue_names:
                stages.drain(name)
        return stages.judge()


class Run:
    """One run, stage by stage, each once and in the order in which they stand here.

    A context manager: entering it declares the topology, leaving it removes what was declared.
    :func:`run` does it all.
    """

    def __init__(
        self,
        scenario: Scenario,
        broker: Broker,
        *,
        directory: str | os.PathLike[str] | None = None,
        in_place: bool = False,
        watch: Callable[[Progress], None] = lambda _: None,
        executor: Executor | None = None,
        run_id: uuid.UUID | None = None,
    ) -> None:
        """Make the run's directory; raise UsageError for what makes no run."""
        require_possible(scenario, in_place=in_place, elsewhere=executor is not None)
        self._executor = executor
        allow_open_files(_OPEN_FILES + scenario.clients * _OPEN_FILES_EACH)
        self.scenario = scenario
        self.broker = broker
        self._in_place = in_place
        self._watch = watch
        self._epoch_ns = epoch_now_ns()
        self._clock = Clock.since(self._epoch_ns)
        self._id = run_id or uuid.uuid4()
        self._name = f"rmqbench-{uuid.uuid4().hex[:12]}"
        self._recipe = scenario.recipe(self._id)
        self._disturber = Disturber(
            scenario.faults,
            broker,
            scenario.most_messages,
            each_comes_once=not scenario.publish_again,
        )
        self._directory = RunDirectory.make(directory, f"{scenario.name}-{self._id.hex[:8]}")
        self._stack = ExitStack()
        self._place: Place | None = None
        self._planner: Planner | None = None
        self._journal: Journal | None = None
        self._write: Callable[[Entry], None] = lambda _: None
        self._sampler: Sampler | None = None
        self._inspection: Inspection | None = None
        self._workforce: Workforce | None = None
        self._broker_watch: BrokerWatch | None = None
        self._starts_noted = 0
        self._judged = False
        self._drains: Drains | None = None

    def __enter__(self) -> Self:
        """Declare the topology in a place of its own; what cannot begin leaves no directory."""
        try:
            self._enter()
        except BaseException:
            self._directory.remove(SAMPLES_FILE)
            raise
        return self

    def _enter(self) -> None:
        most = self.scenario.most_messages
        ledgers = sum(
            queue.consumers * (1 + len(origins))
            for queue, origins in zip(self.scenario.queues, self.scenario.origins, strict=True)
        )
        if self.scenario.lets_go:
            most = min(most, _LETS_GO_ROOM)
        timed = self.scenario.schedule is not None
        self._directory.require_room(most, most * ledgers, timed=timed)
        description = describe(
            self._id, self.scenario, self._recipe, self.broker, in_place=self._in_place
        )
        self._directory.write_description(description)
        with ExitStack() as stack:
            self._journal = journal = stack.enter_context(self._directory.open_journal(self._clock))
            self._write = journal.write
            self._disturber.equip(stack)
            self._starts_noted = len(self.broker.starts)
            topology = self.scenario.topology()
            self._place = place = stack.enter_context(
                own_place(self.broker, topology, self._name, in_place=self._in_place)
            )
            self._inspection = Inspection(self.broker, place, journal.note)
            if not self.scenario.declare_last:
                self._declare(stack)
            self._sampler = stack.enter_context(
                Sampler(place.endpoint, self._directory.path, clock_ns=self._clock.time_ns)
            )
            if not self.broker.owned:
                self._broker_watch = stack.enter_context(
                    BrokerWatch(place.endpoint, self._clock, journal.note)
                )
            names = place.topology.queue_names
            endpoint = self._disturber.prepare(
                place.endpoint, names, self.scenario.queue_names, journal.note, stack
            )
            self._planner = Planner(
                scenario=self.scenario,
                recipe=self._recipe,
                directory=self._directory,
                endpoint=endpoint,
                topology=place.topology,
                together=drains_together(self.scenario, elsewhere=self._executor is not None),
                epoch_ns=self._epoch_ns,
                in_place=self._in_place,
            )
            if self.scenario.rest_s:
                self._write(StageBegan(stage=f"rest for {self.scenario.rest_s:g} s"))
                time.sleep(self.scenario.rest_s)
            self._stack = stack.pop_all()
        self._write = journal.note  # from here on a full disk does not take the verdict away
        make_crew = None
        if self._executor is not None:
            make_crew = Elsewhere(
                self._executor,
                place.endpoint,
                self._name,
                self._clock,
                journal.note,
                self.scenario.rest_s,
            ).crew
        self._workforce = Workforce(self.scenario, self._disturber, journal.note, make_crew)
        self._drains = Drains(
            scenario=self.scenario,
            directory=self._directory,
            plans=self._plans,
            workers=self._workforce,
            disturber=self._disturber,
            inspection=self._inspection,
            broker_watch=self._broker_watch,
            write=journal.note,
            came=self._note_came,
            note_restarts=self._note_restarts,
            may_be_shared=place.endpoint == self.broker.endpoint,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove what was declared; write down what made the run end before its end."""
        try:
            if error is not None and not self._judged:
                self._write(TroubleSeen(text=_why_it_broke_off(error)))
                self._keep_broker_log()
        finally:
            self._stack.__exit__(kind, error, traceback)

    @property
    def place(self) -> Place:
        """Where the run happens; there once it is entered."""
        return _entered(self._place)

    @property
    def confirmed(self) -> int:
        """How many publishes the broker has confirmed (and not returned)."""
        return sum(each.confirmed for each in self._publish_ledgers())

    def publish(self) -> Throughput:
        """Publish everything; consumers are at work only where the scenario says so.

        Raise AccessRefused or MessageTooLarge where the broker let nothing be published.
        """
        self._write(StageBegan(stage="publish"))
        producers = self._plans.producers()
        for plan in producers:
            lets_go = [plan.count] if self.scenario.lets_go else None
            timed = plan.schedule is not None
            PublishLedger.create(plan.directory, plan.count, timed=timed, lets_go=lets_go)
        ledgers = self._publish_ledgers()
        settled = [each.progress() for each in ledgers]
        drains = []
        if self.scenario.consume == "during":
            drains = [self._queue_drains.begin(name) for name in self.scenario.queue_names]
        consumers = [plan for drain in drains for plan in drain.next_round(lingers=True)]

        live = LiveFigures(
            producers,
            ledgers,
            settled,
            drains,
            sample=self._sample,
            monotonic=self._clock.monotonic,
        )

        def announce(done: int) -> None:
            self._disturber.announce("publish", done)
            self._watch(Progress("publish", done, self.scenario.known_messages, live=live.look()))

        def say(text: str) -> None:
            done = sum(int(each[0]) for each in settled)
            self._watch(Progress("publish", done, self.scenario.known_messages, text))

        letting_go = None
        if self.scenario.lets_go:
            letting_go = LettingGo(self._directory, self._clock, self._write, say)

        def progress() -> int:
            done = sum(int(each[0]) for each in settled)
            announce(done)
            if letting_go is not None:
                letting_go.look()
            return done + sum(self._queue_drains.progress_of(drain) for drain in drains)

        def begin() -> None:
            if self.scenario.declare_last:
                self._declare(self._stack)

        self._workers.publish(producers, consumers, progress, begin)
        announce(sum(each.settled for each in ledgers))
        for drain in drains:
            self._queue_drains.recount(drain)
        self._disturber.settle()
        self._inspector.note_policies()
        record = read_run(self._directory.path)
        record.require_published()
        return publish_throughput(record.producers, self.confirmed)

    def look_at_backlog(self) -> None:
        """Ask what each queue holds before any consumer is there; it decides no verdict."""
        try:
            ready = count_ready(self.place, self.confirmed, self._disturber.has_struck, self._write)
            if self.scenario.look_at_backlog:
                states = [each.state for each in self._publish_ledgers()]
                bytes_of = partial(least_bytes, self._recipe, states)
                show_backlog(self.broker, self.place, ready, bytes_of, self._write)
        except RmqbenchError as error:
            text = f"The backlog could not be looked at: {error.what}"
            self._write(TroubleSeen(text=text))

    def disturb_backlog(self) -> None:
        """Strike with the faults that are for the standing backlog, and wait for their end."""
        faults = [each for each in self.scenario.faults if each.phase == "backlog"]
        until = self._clock.monotonic() + max((each.after_s or 0.0 for each in faults), default=0.0)
        while True:
            for _ in faults:  # one at a time
                self._disturber.announce("backlog", self.confirmed)
                self._disturber.settle()
            if not self._disturber.awaits("backlog") or self._clock.monotonic() > until:
                return
            time.sleep(_LOOK_S)

    def drain(self, queue: str) -> Throughput:
        """Consume one queue of the scenario until it is proven empty, or gives no more.

        What keeps it from that, a full disk for example, is written down, not raised.
        """
        self._queue_drains.drain([queue])
        index = self.scenario.queue_names.index(queue)
        return consume_throughput(read_run(self._directory.path).queues[index].consumers)

    def drain_all(self) -> None:
        """Drain all queues of the scenario, as :meth:`drain` does, at the same time."""
        self._queue_drains.drain(self.scenario.queue_names)

    def drain_work_queue(self) -> Throughput:
        """Drain the scenario's first queue."""
        return self.drain(self.scenario.queue_names[0])

    def drain_audit_queue(self) -> Throughput:
        """Drain the scenario's second queue."""
        return self.drain(self.scenario.queue_names[1])

    def judge(self) -> Result:
        """Judge by what is in the directory, write ``result.json``, and return the result.

        What cannot be written down leaves the verdict open, or is a note.
        """
        self._write(StageBegan(stage="judge"))
        self._write(MemoryUsed(peak_rss_bytes=peak_rss_bytes()))
        self._keep_broker_log()
        self._judged = True
        result = judge(self._directory.path)
        if self._journal is not None and (failure := self._journal.failure):
            result = replace(result, verdict=result.verdict.left_open(open_question(failure)))
        try:
            self._directory.write_result(result.as_dict())
        except OSError as error:
            note = f"result.json could not be written ({error.strerror})."
            result = replace(result, notes=(*result.notes, note))
        return result

    def _keep_broker_log(self) -> None:
        """Write down the log of a broker of our own, which ends with it."""
        if self.broker.owned:
            with suppress(OSError, RmqbenchError):
                self._directory.write_broker_log(self.broker.log(_LOG_LINES))

    # --- how ------------------------------------------------------------------------------------

    def _sample(self) -> Sample | None:
        """Return the newest of the broker's own figures."""
        return None if self._sampler is None else self._sampler.latest

    def _publish_ledgers(self) -> list[PublishLedger]:
        return self._directory.publish_ledgers(self.scenario.producers)

    @property
    def _plans(self) -> Planner:
        return _entered(self._planner)

    @property
    def _workers(self) -> Workforce:
        return _entered(self._workforce)

    @property
    def _inspector(self) -> Inspection:
        return _entered(self._inspection)

    @property
    def _queue_drains(self) -> Drains:
        return _entered(self._drains)

    def _note_restarts(self) -> None:
        """Write down each restart of our own node that is not written down yet."""
        starts = self.broker.starts
        for started_at in starts[self._starts_noted :]:
            at_ns = self._epoch_ns + round(started_at * 1e9)
            self._write(Restarted(after_ns=at_ns, before_ns=at_ns))
        self._starts_noted = len(starts)

    def _note_came(self, queue: str, count: int) -> None:
        self._disturber.announce("drain", count, queue)
        self._watch(Progress(f"drain {queue}", count, self.scenario.known_messages))

    def _declare(self, stack: ExitStack) -> None:
        """Declare the topology, which is removed with the run, and write that down."""
        began_ns = self._clock.time_ns()
        self._write(StageBegan(time_ns=began_ns, stage="declare"))
        place = stack.enter_context(declared(self.broker, self.place, in_place=self._in_place))
        self._place = place
        version, topology = self.broker.version, place.topology
        notes = list(place.notes)
        if not self.broker.owned and place.endpoint != self.broker.endpoint:
            notes += self._inspector.look_for_policies_in(self.broker.endpoint.virtual_host)
        self._write(
            Declared(
                exchange=topology.exchange,
                routing_key=topology.routing_key,
                queues=list(topology.queue_names),
                arguments=[topologies.arguments(each, version)[0] for each in topology.queues],
                notes=notes,
                since_ns=began_ns,
            )
        )


def _why_it_broke_off(error: BaseException) -> str:
    if isinstance(error, RmqbenchError):
        return f"The run broke off: {error.what}"
    if isinstance(error, KeyboardInterrupt | SystemExit):  # Ctrl-C, SIGTERM
        return "The run was interrupted."
    said = "".join(str(error).splitlines()[:1]).rstrip(".")
    return f"The run broke off: {type(error).__name__}{': ' if said else ''}{said}."


def _entered(what: _T | None) -> _T:
    """Return what there is once a run is entered."""
    if what is None:
        raise RuntimeError("enter the run first: with Run(…) as stages")
    return what
