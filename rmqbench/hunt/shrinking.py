"""Make a schedule smaller for as long as it still shows the same failure.

Delta debugging: a simpler candidate that shows it takes the place of the schedule, and all begins
anew; one that does not is set aside. What shows only now and then is tried several times before it
counts as gone.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

from rmqbench.amqp.topology import DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY
from rmqbench.errors import UsageError
from rmqbench.faults import Fault
from rmqbench.hunt.schedule import Schedule
from rmqbench.queues import ConsumedQueue
from rmqbench.scenarios import Scenario

__all__ = ["candidates", "shrink", "tries_for"]

_CERTAIN = 0.95  # how likely a failure that is there shows in as many tries
_MOST_TRIES = 5
# At-least-once dead letters need both: with one of them alone they are another matter.
_TOGETHER = (frozenset({"x-dead-letter-strategy", "x-overflow"}),)
_LEAST_MESSAGES, _LEAST_BYTES = 10, 100


def tries_for(rate: float) -> int:
    """Return how often a candidate is tried before it counts as one that does not show it.

    ``rate`` is how often of all times the schedule has shown it.
    """
    if rate >= 1:
        return 1
    if rate <= 0:
        return _MOST_TRIES
    return min(_MOST_TRIES, math.ceil(math.log(1 - _CERTAIN) / math.log(1 - rate)))


def shrink(
    schedule: Schedule,
    shows: Callable[[Schedule], bool],
    *,
    tries: int = 1,
    goes_on: Callable[[], bool] = lambda: True,
    note: Callable[[Schedule], None] = lambda _: None,
) -> Schedule:
    """Return the smallest schedule found that still shows a failure.

    ``shows`` runs one; ``goes_on`` is asked before each run. ``note`` is called with each that is
    smaller. The schedule that was given is not run again.
    """
    set_aside: list[Scenario] = []
    while True:
        for scenario in candidates(schedule.scenario):
            if scenario in set_aside:
                continue
            candidate = schedule.with_scenario(scenario)
            for _ in range(tries):
                if not goes_on():
                    return schedule
                if shows(candidate):
                    break
            else:
                set_aside.append(scenario)
                continue
            schedule = candidate
            note(schedule)
            break
        else:
            return schedule


def candidates(scenario: Scenario) -> Iterator[Scenario]:
    """Yield what is simpler than a scenario in one respect, the largest steps first."""
    for change in _changes(scenario):
        try:
            candidate = change()
        except UsageError:  # it makes no run
            continue
        if candidate != scenario:
            yield candidate


def _changes(scenario: Scenario) -> Iterator[Callable[[], Scenario]]:
    yield from (_without_fault(scenario, at) for at in reversed(range(len(scenario.faults))))
    yield from (_without_queue(scenario, at) for at in reversed(range(len(scenario.queues))))
    messages = scenario.messages or 0
    for fewer in (messages // 4, messages // 2, messages * 3 // 4):
        if fewer >= _LEAST_MESSAGES:
            yield _with_messages(scenario, fewer)
    plain = Scenario(scenario.name)
    for names in (
        *(("producers",), ("consume",), ("payload",), ("size_bytes", "payload"), ("window",)),
        *(("publish_rate",), ("rest_s",), ("heartbeat_s",), ("exchanges",), ("delays",)),
    ):
        yield _like(scenario, plain, names)
    yield lambda: _without_delays(scenario)
    yield from (_with_size(scenario, size) for size in _smaller_sizes(scenario))
    for at, queue in enumerate(scenario.queues):
        for simpler in _simpler_queues(queue):
            yield _with_queue(scenario, at, simpler)
    for at, fault in enumerate(scenario.faults):
        for plainer in _plainer_faults(fault):
            yield _with_fault(scenario, at, plainer)


def _like(scenario: Scenario, plain: Scenario, names: tuple[str, ...]) -> Callable[[], Scenario]:
    return lambda: replace(scenario, **{name: getattr(plain, name) for name in names})


def _without_fault(scenario: Scenario, at: int) -> Callable[[], Scenario]:
    left = scenario.faults[:at] + scenario.faults[at + 1 :]
    newborn = scenario.declare_last and any(each.kind.within_s for each in left)
    return lambda: replace(scenario, faults=left, declare_last=newborn)


def _without_queue(scenario: Scenario, at: int) -> Callable[[], Scenario]:
    gone = scenario.queues[at].name
    faults = tuple(
        replace(each, queue=None) if each.queue == gone else each for each in scenario.faults
    )
    left = scenario.queues[:at] + scenario.queues[at + 1 :]
    return lambda: replace(scenario, queues=left, faults=faults)


def _with_messages(scenario: Scenario, messages: int) -> Callable[[], Scenario]:
    """Return it with fewer messages, and the anchors of its faults as far on as they were."""
    before = scenario.messages or messages
    faults = tuple(
        each
        if each.after_messages is None
        else replace(each, after_messages=each.after_messages * messages // before)
        for each in scenario.faults
    )
    return lambda: replace(scenario, messages=messages, faults=faults)


def _without_delays(scenario: Scenario) -> Scenario:
    """Return it with dead letters that go at once where they went after a while."""
    onward = {each.name: each.declared().arguments for each in scenario.delays}

    def at_once(queue: ConsumedQueue) -> ConsumedQueue:
        way = onward.get(queue.arguments.get(DEAD_LETTER_KEY, ""), {})
        names = {DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY} if way else set()
        left = {name: value for name, value in queue.arguments.items() if name not in names}
        return replace(queue, arguments=left | {name: way[name] for name in names & way.keys()})

    return replace(scenario, queues=tuple(map(at_once, scenario.queues)), delays=())


def _smaller_sizes(scenario: Scenario) -> Iterator[int]:
    """Yield one size in place of several, and smaller ones."""
    if scenario.size_bytes is not None:
        largest = scenario.recipe(uuid.UUID(int=0)).sizes.largest
        for size in (largest // 4, largest // 2, largest):
            if size >= _LEAST_BYTES and size != scenario.size_bytes:
                yield size


def _with_size(scenario: Scenario, size: int) -> Callable[[], Scenario]:
    return lambda: replace(scenario, size_bytes=size)


def _with_queue(scenario: Scenario, at: int, queue: ConsumedQueue) -> Callable[[], Scenario]:
    queues = (*scenario.queues[:at], queue, *scenario.queues[at + 1 :])
    return lambda: replace(scenario, queues=queues)


def _with_fault(scenario: Scenario, at: int, fault: Fault) -> Callable[[], Scenario]:
    faults = (*scenario.faults[:at], fault, *scenario.faults[at + 1 :])
    return lambda: replace(scenario, faults=faults)


def _simpler_queues(queue: ConsumedQueue) -> Iterator[ConsumedQueue]:
    plain = ConsumedQueue(queue.name)
    if queue.consumers > 1:
        yield replace(queue, consumers=1, settings=())
    yield replace(queue, consume_rate=None)
    yield replace(queue, settings=())
    if len(queue.settings) > 1:
        yield replace(queue, settings=queue.settings[:1])
    yield replace(queue, settle=plain.settle)
    for names in _TOGETHER:
        left = {each: value for each, value in queue.arguments.items() if each not in names}
        yield replace(queue, arguments=left)
    for name in queue.arguments.keys() - set().union(*_TOGETHER):
        left = {each: value for each, value in queue.arguments.items() if each != name}
        yield replace(queue, arguments=left)
    if queue.kind == "lazy":
        yield replace(queue, kind="classic")
    yield replace(queue, prefetch=plain.prefetch)


def _plainer_faults(fault: Fault) -> Iterator[Fault]:
    if fault.after_s is not None:
        yield replace(fault, after_s=None)
    if fault.after_messages:
        yield replace(fault, after_messages=0)
