"""What a consumer does with its messages besides acknowledging them: as people's consumers do.

``ack*4,late*5`` is a choice of actions by weight: of nine messages four are acknowledged at once
and five late, on average. Which it is follows from run, producer and sequence as all of a message
does: SplitMix64 with the producer's seed, inverted bit by bit, draws a number for each sequence,
and its upper 32 bits choose by weight as they do for sizes (:mod:`rmqbench.sizes`).

=========== ====================================================================================
``ack``     ``basic.ack`` as soon as it was taken
``late``    ``basic.ack`` when nothing more comes, one by one, the last ones first; at the most
            three quarters of the prefetch are held; at once where it was redelivered
``requeue`` ``basic.reject`` with ``requeue`` when it comes to this consumer first, then ``ack``
``reject``  ``basic.reject`` without ``requeue``: dead-lettered where the queue says so, else gone
``crash``   the connection is broken off each time it comes, and all that the consumer holds is
            given back: at most 25 times for each message and 500 for each consumer; then ``ack``
=========== ====================================================================================

Each but ``late`` may wait before it is done: ``requeue@3s``.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from rmqbench.errors import UsageError
from rmqbench.splitmix import Uint64Array, numbers
from rmqbench.units import read_seconds

__all__ = ["AT_ONCE", "Action", "Choice", "Settling"]

_CHOICE: Final = re.compile(r"([a-z]+)(?:@([0-9.smh]+))?(?:\*([0-9]{1,9}))?")
_HALF: Final = np.uint64(32)


class Action(Enum):
    """What is done with a message."""

    ACK = "ack"
    LATE = "late"
    REQUEUE = "requeue"
    REJECT = "reject"
    CRASH = "crash"


class Choice(NamedTuple):
    """An action, how long it waits, and how often it is chosen beside others."""

    action: Action
    delay_s: float = 0.0
    weight: int = 1


AT_ONCE: Final = Choice(Action.ACK)


@dataclass(frozen=True)
class Settling:
    """The choices, in the order in which they were given."""

    choices: tuple[Choice, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``ACTION[@DELAY][*WEIGHT][,…]``; raise UsageError for anything else."""
        return cls(tuple(_choice(each, text) for each in str(text).split(",")))

    @property
    def only_acknowledges(self) -> bool:
        """Whether all messages are acknowledged as soon as they were taken."""
        return all(each[:2] == AT_ONCE[:2] for each in self.choices)

    @property
    def longest_delay_s(self) -> float:
        """How long a message waits at the most."""
        return max(each.delay_s for each in self.choices)

    @property
    def actions(self) -> frozenset[Action]:
        """The actions that may be chosen."""
        return frozenset(each.action for each in self.choices)

    def chosen(self, seeds: Uint64Array, sequences: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Compute which of the ``choices`` is that of each of ``n`` messages: int64 of shape (n,).

        ``seeds`` (:func:`rmqbench.splitmix.seeds_of`) and ``sequences`` have this shape.
        """
        bounds = self._bounds
        drawn = (numbers(~seeds, sequences) >> _HALF) * bounds[-1] >> _HALF
        chosen: npt.NDArray[np.int64] = np.searchsorted(bounds, drawn, side="right")
        return chosen

    @cached_property
    def _bounds(self) -> Uint64Array:
        return np.array([*itertools.accumulate(each.weight for each in self.choices)], np.uint64)


def _choice(text: str, whole: str) -> Choice:
    read = _CHOICE.fullmatch(text)
    if read is not None and read[1] in Action._value2member_map_ and int(read[3] or 1):
        action, delay_s = Action(read[1]), read_seconds(read[2] or "0")
        if action is not Action.LATE or not delay_s:
            return Choice(action, delay_s, int(read[3] or 1))
    raise UsageError(
        f"settle is {whole!r}, and {text!r} is no way to settle a message.",
        "Give ack, late, requeue, reject or crash, or several: ack*4,late*5; after a while: "
        "requeue@3s.",
    )
