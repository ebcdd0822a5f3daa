"""Draw a history from a seed: any shape of run, any trouble, and at most a few misdeeds."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from rmqbench.simulation import Misdeed
from support.simulated import Act, History, QueuePlan

_KINDS = ("classic", "classic", "quorum")
_ACTS = (
    *("cut", "cut", "kill", "stop", "stall", "busy", "slay"),
    *("swallow", "swallow", "close", "block", "purge", "delete"),
)
# There is no further queue that a message could be misrouted to.
DRAWN = tuple(misdeed for misdeed in Misdeed if misdeed is not Misdeed.MISROUTE_QUEUE)
_MISDEEDS = (  # the worst is tried most, and what shows only where a consumer is cut off as well
    *DRAWN,
    *(Misdeed.LOSE, Misdeed.LOSE),
    *(Misdeed.FORGET_ACK, Misdeed.FORGET_ACK, Misdeed.FORGET_ACK),
)
_SINGLE_ACTIVE = (("x-single-active-consumer", True),)
_LIMITS = (
    (("x-max-length", 4),),
    (("x-max-length-bytes", 300),),
    (("x-max-length", 5), ("x-overflow", "reject-publish")),
    (("x-message-ttl", 60),),
    (("x-message-ttl", 5_000),),
    (("x-max-length", 4), ("x-message-ttl", 60)),
    (("x-max-length", 3), ("x-max-length-bytes", 300)),
    (("x-expires", 400),),
    _SINGLE_ACTIVE,
)
_LIMITS_OF_QUORUM = tuple((("x-delivery-limit", limit),) for limit in range(4))
_SIZES = (*(None,) * 10, 100, 1000, 4096, "60:90", "60*3,4000:5000", "100:9000")
_SETTLING = ("late", "ack*4,late*5", "ack,requeue", "ack*3,reject", "ack,late,requeue,reject")


class _Source:
    """Where decisions come from: a seed, or hypothesis, which can shrink them."""

    def choose(self, values: Any) -> Any:
        raise NotImplementedError

    def number(self, below: int) -> int:
        raise NotImplementedError

    def chance(self, percent: int) -> bool:
        return self.number(100) >= 100 - percent


class _Seeded(_Source):
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choose(self, values: Any) -> Any:
        return self._random.choice(values)

    def number(self, below: int) -> int:
        return self._random.randrange(below)


def draw(seed: int) -> History:
    """Return the history of a seed, always the same."""
    return _history(seed, _Seeded(seed))


def histories() -> Any:
    """Return hypothesis's strategy for any history; the plainest values come first."""
    from hypothesis import strategies as st  # noqa: PLC0415  where it is missing, seeds do

    class Drawn(_Source):
        def __init__(self, draw_one: Any) -> None:
            self._draw = draw_one

        def choose(self, values: Any) -> Any:
            return self._draw(st.sampled_from(values))

        def number(self, below: int) -> int:
            return self._draw(st.integers(0, below - 1))

    @st.composite
    def drawn(draw_one: Any) -> History:
        return _history(draw_one(st.integers(0, 1000)), Drawn(draw_one))

    return drawn()


def _history(seed: int, source: _Source) -> History:
    choose, number, chance = source.choose, source.number, source.chance
    messages = choose((1, 2, 5, 12, 20, 20, 30))
    history = History(
        seed=seed,
        messages=messages,
        producers=min(messages, choose((1, 1, 1, 2, 3))),
        window=choose((1, 3, 8, 50)),
        queues=tuple(_queue(name, source) for name in ("work", "audit")[: choose((1, 1, 2))]),
        during=chance(40),
        vector=choose((True, False)),
        publish_again=chance(40),
        confirm_delay_s=choose((0.0, 0.0, 0.002, 0.05)),
        delivery_delay_s=choose((0.0, 0.0, 0.01)),
        most_at_once=choose((1000, 4, 1)),
        grouped=choose((1.0, 0.5, 0.0)),
        recovery_s=choose((0.0, 2.0)),
        ack_survival=choose((1.0, 1.0, 0.5)),
        ack_delay_s=choose((0.0, 0.0, 0.0, 0.02, 0.5)),
        latency_s=choose((0.0001, 0.005)),
        piece_bytes=choose((*(0,) * 20, 7, 100, 100, 100)),  # the smallest take longest to play
        publish_rate=choose((None, None, 20.0, 200.0)),
        size_bytes=choose(_SIZES),
        lets_go=choose((*(False,) * 5, True)),
        version=choose(("4.3.6", "4.3.6", "4.0.5", "3.10.8")),
        acts=tuple(_act(source) for _ in range(choose((1, 1, 2, 3)) if chance(45) else 0)),
        misdeeds=tuple(
            (choose(_MISDEEDS), number(messages))
            for _ in range(choose((1, 1, 1, 2)) if chance(50) else 0)
        ),
        cancels_every=choose((*(None,) * 9, 1, 2, 7)),
    )
    polls_every_s = choose((*(None,) * 9, 0.01, 0.5))
    first, *others = history.queues
    if first.arguments == _SINGLE_ACTIVE:
        return history
    return replace(history, queues=(replace(first, polls_every_s=polls_every_s), *others))


def _queue(name: str, source: _Source) -> QueuePlan:
    kind, auto_ack = source.choose(_KINDS), source.chance(20)
    limits = _LIMITS + (_LIMITS_OF_QUORUM if kind == "quorum" else ())
    return QueuePlan(
        name,
        kind=kind,
        arguments=source.choose(limits) if source.chance(12) else (),
        consumers=source.choose((1, 1, 1, 2, 3)),
        prefetch=source.choose((100, 10, 3, 1)),
        auto_ack=auto_ack,
        settle=source.choose(_SETTLING) if not auto_ack and source.chance(25) else "ack",
    )


def _act(source: _Source) -> Act:
    return Act(
        at_s=source.number(10_000) / 10_000 * source.choose((0.02, 0.5, 0.5, 3.0, 3.0, 100.0)),
        what=source.choose(_ACTS),
        which=source.number(6),
        lasting_s=source.choose((0.3, 1.0, 3.0, 0.3, 1.0, 3.0, 90.0)),
    )
