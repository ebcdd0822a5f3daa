"""Errors of rmqbench: each says what happened, to what, and what to do about it.

Foreign exceptions (pika's, requests', Docker's) are turned into these where input and output
happen, and only there. A face (pytest, the command line) prints ``str(error)`` and nothing more.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessRefused",
    "BrokerError",
    "BrokerUnavailable",
    "ConnectionLost",
    "DeadlineExceeded",
    "ManagementUnavailable",
    "MessageUnreadable",
    "QueueLocked",
    "QueueMismatch",
    "QueueNotEmpty",
    "QueueNotFound",
    "RmqbenchError",
    "UsageError",
]


class RmqbenchError(Exception):
    """Root of everything that rmqbench raises on purpose.

    ``what`` is one sentence on what happened and to what; ``remedy`` one on what to do.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".rstrip())
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[RmqbenchError], tuple[str, str]]:
        """Pickle by the two sentences, so that an error crosses process borders whole."""
        return type(self), (self.what, self.remedy)


class UsageError(RmqbenchError):
    """What was asked for makes no sense; nothing was begun."""

    exit_code = 2


class BrokerError(RmqbenchError):
    """The broker is there, and refused or broke something."""


class BrokerUnavailable(RmqbenchError):
    """No broker could be reached or started."""

    exit_code = 4


class AccessRefused(BrokerUnavailable):
    """The broker is there and does not let us in: user, password, virtual host or permission."""


class ManagementUnavailable(BrokerError):
    """The Management API does not answer, or not as one."""


class QueueLocked(BrokerError):
    """Another connection or consumer has the queue for itself."""


class QueueMismatch(BrokerError):
    """A queue or exchange exists with other arguments (406 PRECONDITION_FAILED)."""

    exit_code = 2


class QueueNotEmpty(BrokerError):
    """A queue holds messages that are not of this run."""

    exit_code = 2


class QueueNotFound(BrokerError):
    """A queue or exchange that was named does not exist (404 NOT_FOUND)."""

    exit_code = 2


class ConnectionLost(BrokerError):
    """An open connection or channel ended although we did not end it."""


class MessageUnreadable(BrokerError):
    """A message or frame from the broker cannot be decoded; it was not acknowledged."""


class DeadlineExceeded(RmqbenchError):
    """A wait reached its limit."""
