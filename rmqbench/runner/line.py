"""What a run and its jobs on other hosts tell each other, by the broker and by nothing else.

Each job has a queue, with a ticket in it that its first start takes: a second start finds none. The
next message in that queue is the word for which the job's plans wait; it stays there, and may be
looked at as often as the connection needs. When the queue is gone, the job is to end.

All jobs report to one queue, which the run consumes, and always all that there is to say: a report
may be lost. As long as it has a consumer, the run is alive. Over the same queue the run tells them
what time it is. The run's end of it is :mod:`rmqbench.runner.desk`.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

import pika
import pika.channel
import pika.spec

from rmqbench.amqp.connection import Connection
from rmqbench.clock import epoch_now_ns
from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, ConnectionLost, QueueNotFound, RmqbenchError

__all__ = [
    "ANSWER_S",
    "PAUSE_S",
    "TICKET",
    "ClockReading",
    "Line",
    "Names",
    "Report",
    "RunIsOver",
    "publish",
]

TICKET = b"ticket"
ANSWER_S = 10.0
PAUSE_S = 0.5  # between two attempts to connect
_REFUSED_S = 5.0  # a broker that is starting may refuse for a moment
_GONE_S = 30.0  # without a consumer of the reports: the run has ended, or lost its way
_ROUNDS = 10  # of asking what time it is: the quickest one counts


class RunIsOver(RmqbenchError):
    """The run has ended, or does not want this job any more."""


@dataclass(frozen=True, slots=True)
class Names:
    """The queues between a run and the jobs of one stage."""

    prefix: str

    @property
    def desk(self) -> str:
        """Where all jobs report."""
        return f"{self.prefix}.reports"

    def job(self, number: int) -> str:
        """Return the queue of one job."""
        return f"{self.prefix}.job-{number}"


@dataclass(frozen=True, slots=True)
class Report:
    """Where a job stands: on which host, how many of its plans are connected, how far each is.

    ``packed`` counts pieces of its evidence. One that is ``returning`` with it reports no more.
    """

    job: int
    host: str = field(default_factory=socket.gethostname)
    connected: int = 0
    done: tuple[int, ...] = ()
    packed: int = 0
    returning: bool = False


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The run's time on another host: ``epoch_ns`` with the monotonic clock there gives it.

    It is right within ``uncertainty_ns``. ``offset_ns`` is how far the host's time of day is ahead
    of the run's time.
    """

    epoch_ns: int
    uncertainty_ns: int
    offset_ns: int


class Line:
    """A job's end of it. What fails on the way is tried again by the next :meth:`look`."""

    def __init__(self, endpoint: Endpoint, names: Names, job: int) -> None:
        self._endpoint = endpoint
        self._names = names
        self._queue = names.job(job)
        self._connection: Connection | None = None
        self._channel: pika.channel.Channel | None = None
        self._refused_since: float | None = None
        self._heard_at = time.monotonic()
        self._told = False

    def __enter__(self) -> Self:
        """Connect."""
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up."""
        self._drop(clean=kind is None)

    def take_ticket(self) -> None:
        """Take the ticket of this job, or raise RunIsOver where it has begun once already.

        A scheduler begins a job again whose worker it has lost: a producer would publish twice.
        """
        connection, channel = self._there()
        answers: list[bytes | None] = []
        channel.add_callback(lambda _: answers.append(None), [pika.spec.Basic.GetEmpty])
        channel.basic_get(self._queue, lambda *got: answers.append(got[-1]), auto_ack=True)
        connection.wait_until(lambda: bool(answers), ANSWER_S, "the ticket of a job")
        if answers[0] != TICKET:
            raise RunIsOver(
                "It was begun a second time, and refused to do again what may have been done.",
                "The worker on which it began is lost, and what it saw is lost with it.",
            )

    def compare_clocks(self) -> ClockReading:
        """Ask the run what time it is, and return the best of some answers.

        The answer is taken to be of the moment halfway between question and answer, as NTP does; it
        cannot be further off than half of what lies between.
        """
        connection, _ = self._there()
        channel = connection.channel()
        answers: list[bytes] = []
        channel.basic_consume(
            "amq.rabbitmq.reply-to", lambda *got: answers.append(got[-1]), auto_ack=True
        )
        readings = []
        for _ in range(_ROUNDS):
            answers.clear()
            asked_ns = time.monotonic_ns()
            publish(channel, self._names.desk, b"", reply_to="amq.rabbitmq.reply-to")
            connection.wait_until(lambda: bool(answers), ANSWER_S, "the run to tell the time")
            took_ns = time.monotonic_ns() - asked_ns
            epoch_ns = int(answers[0]) - asked_ns - took_ns // 2
            readings.append(ClockReading(epoch_ns, (took_ns + 1) // 2, epoch_now_ns() - epoch_ns))
        connection.close_channel(channel, ANSWER_S)
        return min(readings, key=lambda each: each.uncertainty_ns)

    def look(self, report: Report) -> bool:
        """Report, and return whether the word was given. Raise RunIsOver where it is."""
        try:
            if self._connection is None:
                self._open()
            self._look(report)
            self._refused_since = None
        except RunIsOver:
            raise
        except QueueNotFound:
            self._drop(clean=False)  # its channel is closed
            raise RunIsOver("The run has ended, or does not want this job any more.") from None
        except RmqbenchError as error:
            self._drop(clean=False)
            now = time.monotonic()
            if not isinstance(error, AccessRefused):
                self._refused_since, self._heard_at = None, now
            elif now - (self._refused_since or now) > _REFUSED_S:
                raise RunIsOver(f"The run's virtual host is gone: {error.what}") from None
            else:
                self._refused_since = self._refused_since or now
        return self._told

    def _look(self, report: Report) -> None:
        _, channel = self._there()
        publish(channel, self._names.desk, json.dumps(asdict(report)).encode())
        self._told = self._declared(self._queue).message_count > 0
        now = time.monotonic()
        if self._declared(self._names.desk).consumer_count:
            self._heard_at = now
        elif now - self._heard_at > _GONE_S:
            raise RunIsOver(f"Nobody has listened to this job for {_GONE_S:g} s.")

    def _declared(self, queue: str) -> Any:
        connection, channel = self._there()
        answers: list[Any] = []
        channel.queue_declare(queue, passive=True, callback=answers.append)
        connection.wait_until(lambda: bool(answers), ANSWER_S, f"queue {queue!r} to answer")
        return answers[0].method

    def _open(self) -> None:
        connection = Connection(self._endpoint, name=f"rmqbench {self._queue}", vector=False)
        connection.open()
        self._connection = connection
        self._channel = connection.channel()

    def _there(self) -> tuple[Connection, pika.channel.Channel]:
        if self._connection is None or self._channel is None:
            raise ConnectionLost("There is no connection to the run any more.")
        return self._connection, self._channel

    def _drop(self, *, clean: bool) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            (connection.close if clean else connection.abort)()


def publish(channel: Any, queue: str, body: bytes, **properties: Any) -> None:
    """Publish one message that survives a restart to one queue."""
    channel.basic_publish(
        "", queue, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=False
    )
