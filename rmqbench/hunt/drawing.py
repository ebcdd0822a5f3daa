"""Draw schedules at random: workloads, faults and settings; a seed is a schedule.

Values lie around what brokers treat differently: bodies around 4,096 bytes, which a classic queue
keeps apart from its index, and around the greatest frame; queues just declared; consumers that hold
on to messages; bodies of little entropy; a node that dies while some messages are acknowledged.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from rmqbench.amqp.topology import Binding, Exchange, QueueKind
from rmqbench.errors import UsageError
from rmqbench.faults import FAULTS, Fault, Phase
from rmqbench.hunt.schedule import Schedule
from rmqbench.queues import ConsumedQueue, ConsumerSettings, DelayQueue
from rmqbench.scenarios import Scenario

__all__ = ["draw"]

_T = TypeVar("_T")

_DEAD: Final = "dead.letters"
_NEWBORN: Final = "kill-newborn"
_POWER_CUT: Final = "power-cut"
_QUORUM_CHAOS: Final = "quorum-chaos"

# Weights: what takes a node down, or a client, finds more than what delays it.
_FAULTS: Final = {
    "kill-broker": 24,
    "restart-broker": 4,
    _NEWBORN: 4,
    _POWER_CUT: 4,
    _QUORUM_CHAOS: 4,
    "reset-connection": 3,
    "cut-frame": 2,
    "close-connection": 2,
    "kill-consumer": 2,
    "half-open": 1,
    "pause-broker": 1,
    "memory-alarm": 1,
}
_PAYLOADS: Final = {"ints": 6, "bytes": 3, "random": 2, "json": 2, "zeros": 1, "ones": 1}
_SIZES: Final = {None: 3, "60:400": 2, "3800:4400": 2, "24000:40000": 9, "120000:140000": 1}
_TOTAL_BYTES: Final = {1_000_000: 1, 20_000_000: 1, 100_000_000: 5}
_PHASES: Final[dict[Phase, int]] = {"publish": 2, "backlog": 1, "drain": 4}
_SETTLING: Final = {
    "ack": 4,
    "ack*4,late*5": 10,
    "late": 1,
    "ack*9,requeue": 2,
    "ack*9,reject": 1,
    "ack@0.2s*1,ack*9": 1,
}
_Queues = tuple[tuple[ConsumedQueue, ...], tuple[Exchange, ...], tuple[DelayQueue, ...]]
_LASTS_S: Final = 3.0  # a phase, for each of its faults
_MOST_MESSAGES, _LEAST_MESSAGES = 8000, 200
_PLAIN_BYTES: Final = 400  # of a body that is as long as its text
_KINDS: Final[dict[QueueKind, int]] = {"classic": 5, "quorum": 4, "lazy": 1}


def draw(seed: int) -> Schedule:
    """Return the schedule of a seed: always the same."""
    source = random.Random(seed)
    while True:
        try:
            return Schedule(
                _scenario(source), uuid.UUID(int=source.getrandbits(128), version=4), seed
            )
        except UsageError:  # what cannot be together is drawn again
            continue


def _choose(source: random.Random, weights: dict[_T, int]) -> _T:
    return source.choices(list(weights), list(weights.values()))[0]


def _scenario(source: random.Random) -> Scenario:
    size = _choose(source, _SIZES)
    mean = _PLAIN_BYTES if size is None else sum(map(int, size.split(":"))) // 2
    messages = _choose(source, _TOTAL_BYTES) // mean
    messages = min(max(messages, _LEAST_MESSAGES), _MOST_MESSAGES)
    queues, exchanges, delays = _queues(source)
    # Of dead letters it is not known how many will come: a fault waits for those that get all.
    faults = _faults(source, messages, [each for each in queues if each.name != "dead"])
    is_newborn = any(each.name == _NEWBORN for each in faults)
    if any(each.name == _POWER_CUT for each in faults):  # other kinds lose by design
        queues = tuple(replace(each, kind="quorum") for each in queues)
        delays = tuple(replace(each, kind="quorum") for each in delays)
    kinds = [FAULTS[each.name] for each in faults]
    expected = frozenset().union(*(kind.expected for kind in kinds))
    dead_letters = exchanges or delays
    if dead_letters and any(kind.cuts_off for kind in kinds):  # published at most once, by design
        expected |= {"removed"}
    return Scenario(
        name="hunt",
        queues=_slowed(queues, messages, faults),
        exchanges=exchanges,
        delays=delays,
        messages=messages,
        consume="after" if is_newborn or source.random() < 0.7 else "during",
        producers=source.choice((1, 1, 1, 2, 4)),
        size_bytes=size,
        payload=_choose(source, _PAYLOADS),
        window=source.choice((2000, 2000, 100, 1)),
        publish_rate=_publish_rate(messages, faults),
        heartbeat_s=min((kind.heartbeat_s for kind in kinds), default=30),
        rest_s=0.0 if is_newborn else _rest_s(queues, faults),
        declare_last=is_newborn,
        allowed=tuple(sorted(expected)),
        faults=faults,
    )


def _publish_rate(messages: int, faults: Sequence[Fault]) -> float | None:
    """Return the rate at which the publishing lasts until all of its faults have struck."""
    rates = [each.kind.rate for each in faults if each.phase == "publish"]
    return min(*rates, messages / (_LASTS_S * len(rates))) if rates else None


def _slowed(
    queues: Sequence[ConsumedQueue], messages: int, faults: Sequence[Fault]
) -> tuple[ConsumedQueue, ...]:
    """Return queues of which none is empty before what strikes while it is consumed does."""
    struck = Counter(each.queue for each in faults if each.phase == "drain" and each.after_messages)
    return tuple(
        replace(each, consume_rate=messages / (_LASTS_S * struck[each.name]))
        if struck[each.name] and "late" not in each.settle
        else each
        for each in queues
    )


def _rest_s(queues: Sequence[ConsumedQueue], faults: Sequence[Fault]) -> float:
    """Return how long queues are left alone: what happens to young ones is another matter."""
    rest_s = max((each.kind.rest_s for each in faults), default=0.0)
    return rest_s if any(each.kind == "quorum" for each in queues) else rest_s / 4


def _queues(source: random.Random) -> _Queues:
    """Draw one to three queues, now and then with a queue for their dead letters."""
    queues = [_queue(source, f"queue.{number}") for number in range(source.choice((1, 2, 2, 3)))]
    if source.random() >= 0.2:
        return tuple(queues), (), ()
    at = source.randrange(len(queues))
    arguments: dict[str, Any] = {"x-dead-letter-exchange": _DEAD}
    if queues[at].kind == "quorum" and source.random() < 0.5:
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    settle = source.choice(("reject", "ack*3,reject"))
    if source.random() < 0.4:  # they come back after a while
        name = queues[at].name
        arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "later"}
        delay = DelayQueue("later", source.choice((0.1, 1.0, 3.0)), "", name, queues[at].kind)
        queues[at] = replace(queues[at], arguments=arguments, settle=settle, settings=())
        return tuple(queues), (), (delay,)
    queues[at] = replace(queues[at], arguments=arguments, settle=settle, settings=())
    if source.random() < 0.3:  # and back to where they come from
        queues[at] = replace(
            queues[at], bindings=(Binding("direct.exchange", "work"), Binding(_DEAD))
        )
    kind = _choose(source, _KINDS)
    queues.append(ConsumedQueue("dead", kind, bindings=(Binding(_DEAD),)))
    return tuple(queues), (Exchange(_DEAD),), ()


def _queue(source: random.Random, name: str) -> ConsumedQueue:
    kind = _choose(source, _KINDS)
    consumers = source.choice((1, 1, 1, 2, 3))
    settings: tuple[ConsumerSettings, ...] = ()
    arguments: dict[str, Any] = {}
    if consumers > 1 and source.random() < 0.3:
        arguments["x-single-active-consumer"] = True
        settings = tuple(
            ConsumerSettings(
                priority=source.choice((0, 1, 100)),
                joins_after_s=source.choice((0.0, 1.0)),
                settle=source.choice((None, "requeue@1s,ack*9")),
            )
            for _ in range(consumers)
        )
    elif source.random() < 0.15:
        settings = (ConsumerSettings(cancels_every=source.choice((1, 10, 100))),)
    elif source.random() < 0.1:
        settings = (ConsumerSettings(polls_every_s=source.choice((0.01, 1.0))),)
    return ConsumedQueue(
        name,
        kind,
        arguments=arguments,
        consumers=consumers,
        prefetch=source.choice((10_000, 1000, 100, 10)),
        settle=_choose(source, _SETTLING),
        settings=settings,
    )


def _faults(
    source: random.Random, messages: int, queues: Sequence[ConsumedQueue]
) -> tuple[Fault, ...]:
    """Draw up to three faults, each at a part of its phase, or some time after that."""
    found: list[Fault] = []
    weights = dict(_FAULTS)
    if all(each.kind != "quorum" for each in queues):
        del weights[_QUORUM_CHAOS]
    for _ in range(source.choice((1, 2, 2, 3))):
        name = _choose(source, weights)
        if name == _NEWBORN:
            found.append(Fault(name))
            continue
        phase = _choose(source, {each: _PHASES[each] for each in FAULTS[name].phases})
        queue = source.choice(queues) if phase == "drain" else None
        holds = queue is not None and "late" in queue.settle
        part = source.choice((0.0, 0.1, 0.5, 0.9, *((1.0, 1.0, 1.0) if holds else ())))
        found.append(
            Fault(
                name,
                phase,
                after_messages=int(messages * part),
                after_s=source.choice((None, 1.0, 3.0)) if holds or phase == "backlog" else None,
                queue=None if queue is None else queue.name,
            )
        )
    order = ("publish", "backlog", "drain")
    return tuple(sorted(found, key=lambda each: order.index(each.phase)))
