"""What would make a verdict conclusive, for each reason for which it can be open."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["SETTLING", "what_settles"]

_COPY = (
    "the whole directory: copy it again from where the run wrote it, or run it again and let it end"
)

SETTLING: Final[tuple[tuple[str, str], ...]] = (
    (
        r"producers? \d.* did not record (its|their) end",
        "a run whose producers end by themselves: this one was killed, or the run was. Its "
        "worker.log has its last words",
    ),
    (
        r".* cannot be read \(its evidence did not come back",
        "hosts that stay until the run has ended: see what became of its jobs, and run it again",
    ),
    (r".* cannot be read \(", _COPY),
    (r"the (journal|evidence) of .* is not there", _COPY),
    (r".* (recorded|reported) \d+ .*, and \d+ of them (is|are) there", _COPY),
    (r"The journal .* cannot be written", "free disk space, or another --directory for the run"),
    (r"the fault .* failed:", "a fault that does what it should: see why it failed, and run again"),
    (
        r"the fault .* never struck",
        "a phase that lasts longer: more messages, or a smaller publish_rate or consume_rate",
    ),
    (
        r"the fault .* struck, and its end is not on record",
        "a run that goes on until its fault is over",
    ),
    (
        r"the fault .* missed its moment",
        "a node that dies sooner after the declaration: run it again, with less else going on",
    ),
    (
        r"queue .* was not drained: \d+ messages? (is|are) still ready",
        "consumers that take all: see why they stopped (their worker.log, the broker's log), or "
        "give them more time (stall_s)",
    ),
    (
        r"queue .* was not drained: it could not be asked",
        "a broker that answers to the end: see its log",
    ),
    (
        r"queue .* was not drained: \d+ consumers? that (is|are) not ours",
        "a queue that only the run reads: end the other consumers, or leave out --in-place",
    ),
    (
        r"queue .* was not drained: no consumer could consume it",
        "consumers that can close their channel cleanly: see the broker's log for why they could "
        "not",
    ),
    (
        r"queue .* was not drained: the run ended before",
        "a run that goes on to its end: this one was interrupted or killed, or is still at work",
    ),
    (
        r"queue .* was not drained: \d+ messages? (is|are) unacknowledged",
        "that whoever holds these messages acknowledges them or disconnects; they are not ours to "
        "take",
    ),
    (
        r"queue .* was not drained: \d+ messages? (is|are) missing",
        "a Management API that says who holds messages",
    ),
    (r"queue .* was not drained", "a queue that can be emptied to the end: see the broker's log"),
    (
        r"queue .* delivered \d+ messages? that (is|are) not of this run",
        "a queue that only the run writes to: leave out --in-place, or stop whoever else publishes",
    ),
)
"""Patterns of reasons, and what each takes to be settled."""


def what_settles(reason: str) -> str:
    """Return what would make the verdict conclusive, in words that end with a full stop."""
    for pattern, needed in SETTLING:
        if re.match(pattern, reason, re.DOTALL):
            return f"{needed}."
    return "a run in which this does not happen: run it again."
