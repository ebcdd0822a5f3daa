"""What a consumer does with its messages besides acknowledging them: as people's consumers do.

``ack*4,late*5`` is a choice of actions by weight: of nine messages four are acknowledged at once
and five late, on average. Which it is follows from run, producer and sequence as all of a message
does: SplitMix64 with the producer's seed, inverted bit by bit, draws a number for each sequence,
and its upper 32 bits choose by weight as they do for sizes (:mod:`rmqbench.sizes`).

=========== ====================================================================================
``ack``     ``basic.ack`` as soon as it was taken
``late``    ``basic.ack`` when nothing more comes, one by one, the last ones first; at the most
            three quarters of the prefetch are held; at once where it was redelivered
``requeue`` ``basic.nack`` with ``requeue`` when it comes to this consumer first, then ``ack``
``reject``  ``basic.reject`` without ``requeue``: dead-lettered where the queue says so, else gone
=========== ====================================================================================
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from rmqbench.errors import UsageError
from rmqbench.splitmix import Uint64Array, numbers

__all__ = ["Action", "Settling"]

_CHOICE: Final = re.compile(r"([a-z]+)(?:\*([0-9]{1,9}))?")
_HALF: Final = np.uint64(32)


class Action(IntEnum):
    """What is done with a message; the value is the index of its name."""

    ACK = 0
    LATE = 1
    REQUEUE = 2
    REJECT = 3


@dataclass(frozen=True)
class Settling:
    """Actions and their weights, in the order in which they were given."""

    choices: tuple[tuple[Action, int], ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``ACTION[*WEIGHT][,…]``; raise UsageError for anything else."""
        choices = []
        for each in str(text).split(","):
            read = _CHOICE.fullmatch(each)
            action = read and Action.__members__.get(read[1].upper())
            if read is None or action is None or not int(read[2] or 1):
                raise UsageError(
                    f"settle is {text!r}, and {each!r} is no way to settle a message.",
                    "Give ack, late, requeue or reject, or several with weights: ack*4,late*5.",
                )
            choices.append((action, int(read[2] or 1)))
        return cls(tuple(choices))

    @property
    def only_acknowledges(self) -> bool:
        """Whether all messages are acknowledged as soon as they were taken."""
        return all(action is Action.ACK for action, _ in self.choices)

    @property
    def actions(self) -> frozenset[Action]:
        """The actions that may be chosen."""
        return frozenset(action for action, _ in self.choices)

    def actions_of(self, seeds: Uint64Array, sequences: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Compute the actions for ``n`` messages: uint8 of shape (n,), each an :class:`Action`.

        ``seeds`` (:func:`rmqbench.splitmix.seeds_of`) and ``sequences`` have this shape.
        """
        bounds = self._bounds
        drawn = (numbers(~seeds, sequences) >> _HALF) * bounds[-1] >> _HALF
        actions: npt.NDArray[np.uint8] = self._values[np.searchsorted(bounds, drawn, side="right")]
        return actions

    @cached_property
    def _bounds(self) -> Uint64Array:
        return np.array([*itertools.accumulate(weight for _, weight in self.choices)], np.uint64)

    @cached_property
    def _values(self) -> npt.NDArray[np.uint8]:
        return np.array([action for action, _ in self.choices], np.uint8)
