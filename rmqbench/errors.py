"""Errors of rmqbench: each says what happened, to what, and what to do about it.

Foreign exceptions (of pika, requests, Docker) are turned into these where input and output happen,
and only there: of AMQP in ``rmqbench.amqp.diagnosis``, of the Management API in
``rmqbench.management.client``. What a person sees, in pytest or on the command line, is
``str(error)``. ``exit_code`` is that of the command line: 2 wrong usage, 3 inconclusive, 4 no
broker.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessRefused",
    "BrokerError",
    "BrokerUnavailable",
    "ConnectionLost",
    "ConnectionNotFound",
    "DeadlineExceeded",
    "EvidenceNotWritten",
    "FaultUnavailable",
    "ManagementUnavailable",
    "MessageTooLarge",
    "MessageUnreadable",
    "QueueLocked",
    "QueueMismatch",
    "QueueNotEmpty",
    "QueueNotFound",
    "RmqbenchError",
    "UsageError",
]


class RmqbenchError(Exception):
    """The root of all errors that rmqbench raises on purpose.

    ``what`` says in a sentence what happened and to what, ``remedy`` what to do about it.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".rstrip())
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[RmqbenchError], tuple[str, str]]:
        """Pickle both sentences, so that an error reaches another process whole."""
        return type(self), (self.what, self.remedy)


class UsageError(RmqbenchError):
    """The request makes no sense; nothing was started."""

    exit_code = 2


class BrokerError(RmqbenchError):
    """The broker is there, and refused something or failed."""


class BrokerUnavailable(RmqbenchError):
    """No broker could be reached or started."""

    exit_code = 4


class AccessRefused(BrokerUnavailable):
    """The broker refuses access: user, password, virtual host or permission."""


class ManagementUnavailable(BrokerError):
    """The Management API does not answer, or something else answers in its place."""


class QueueLocked(BrokerError):
    """Another connection or consumer has exclusive use of the queue."""


class QueueMismatch(BrokerError):
    """A queue or exchange exists with other arguments (406 PRECONDITION_FAILED)."""

    exit_code = 2


class QueueNotEmpty(BrokerError):
    """A queue holds messages, or has a consumer, although it must not."""

    exit_code = 2


class QueueNotFound(BrokerError):
    """A queue or exchange does not exist (404 NOT_FOUND)."""

    exit_code = 2


class ConnectionNotFound(BrokerError):
    """A broker has no connection of a name."""


class ConnectionLost(BrokerError):
    """An open connection or channel ended, and not by us."""


class MessageTooLarge(BrokerError):
    """A message is larger than the broker takes (its setting ``max_message_size``)."""

    exit_code = 2


class MessageUnreadable(BrokerError):
    """A message or frame from the broker cannot be decoded; it was not acknowledged."""


class FaultUnavailable(RmqbenchError):
    """This machine has not got what a fault needs."""


class EvidenceNotWritten(RmqbenchError):
    """What was seen could not be written down: the disk is full, for example."""


class DeadlineExceeded(RmqbenchError):
    """A wait reached its limit."""
