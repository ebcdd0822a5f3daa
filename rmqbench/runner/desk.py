"""The run's end of what it and its jobs on other hosts tell each other (:mod:`runner.line`)."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rmqbench.amqp.admin import admin
from rmqbench.amqp.connection import Connection
from rmqbench.clock import Clock
from rmqbench.endpoint import Endpoint
from rmqbench.errors import RmqbenchError
from rmqbench.runner.line import ANSWER_S, PAUSE_S, TICKET, Names, Report, publish

__all__ = ["Desk"]

_WORD = b"word"
_ASK_S = 5.0  # how often the broker is asked whether it answers
_UNUSED_MS = 3_600_000  # what a run that was killed leaves in a virtual host deletes itself


class Desk:
    """The run's end: a thread that takes reports, tells the time, and gives the word."""

    def __init__(self, endpoint: Endpoint, names: Names, jobs: int, clock: Clock) -> None:
        """Prepare for so many jobs, which are told the time of ``clock``."""
        self._endpoint = endpoint
        self._names = names
        self._jobs = jobs
        self._clock = clock
        self._lock = threading.Lock()
        self._reports: dict[int, Report] = {}
        self._heard_at: dict[int, float] = {}
        self._to_tell: set[int] = set()
        self._hearing = False  # whether a report would be heard
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="rmqbench: reports")

    def __enter__(self) -> Self:
        """Declare the queues, with a ticket in each job's, and begin to listen."""
        try:
            with admin(self._endpoint, name="rmqbench jobs") as channel:
                channel.confirm_delivery()
                for name in self._queues:
                    channel.queue_declare(
                        name,
                        durable=True,
                        arguments={"x-queue-type": "classic", "x-expires": _UNUSED_MS},
                    )
                for number in range(self._jobs):
                    publish(channel, self._names.job(number), TICKET)
        except BaseException:
            self.dismiss()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening, and delete the queues."""
        self._ended.set()
        self._thread.join(2 * ANSWER_S)
        self.dismiss()

    @property
    def _queues(self) -> Sequence[str]:
        return [self._names.desk, *map(self._names.job, range(self._jobs))]

    def dismiss(self) -> None:
        """Delete the queues: jobs that are still at work end, and those that wait do not begin."""
        with contextlib.suppress(RmqbenchError), admin(self._endpoint) as channel:
            for name in self._queues:
                channel.queue_delete(name)

    def report(self, job: int) -> Report | None:
        """Return the last report of a job; None: it has not begun."""
        with self._lock:
            return self._reports.get(job)

    def silent_s(self, job: int) -> float:
        """Return for how long a job that has begun could have reported, and did not.

        While the broker does not answer, or blocks publishers, none can.
        """
        with self._lock:
            now = time.monotonic()
            return now - self._heard_at.get(job, now) if self._hearing else 0.0

    def tell(self, job: int) -> None:
        """Send a job the word for which it waits, as soon as there is a connection."""
        with self._lock:
            self._to_tell.add(job)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with Connection(self._endpoint, name="rmqbench reports", vector=False) as link:
                    self._listen(link)
            except RmqbenchError:
                self._hear(hearing=False)
                self._ended.wait(PAUSE_S)

    def _listen(self, connection: Connection) -> None:
        channel = connection.channel()
        channel.basic_consume(self._names.desk, self._on_report, auto_ack=True)
        telling = connection.channel()
        confirmed: list[object] = []
        connection.expect_confirms(telling, confirmed.append)
        asked_at = time.monotonic()
        self._hear(hearing=True)
        while not self._ended.is_set():
            connection.turn()
            if connection.blocked:
                self._hear(hearing=True)
                continue
            if time.monotonic() - asked_at > _ASK_S:
                self._ask(connection, telling)
                asked_at = time.monotonic()
            self._tell_all(connection, telling, confirmed)

    def _ask(self, connection: Connection, channel: Any) -> None:
        """Ask the broker for any answer; raise RmqbenchError where none comes."""
        answers: list[object] = []
        channel.queue_declare(self._names.desk, passive=True, callback=answers.append)
        connection.wait_until(lambda: bool(answers), ANSWER_S, "the broker to answer")

    def _tell_all(self, connection: Connection, channel: Any, confirmed: list[object]) -> None:
        """Send the word to all who are to have it; ``confirmed`` takes the broker's confirms."""
        with self._lock:
            to_tell = sorted(self._to_tell)
        for job in to_tell:
            confirmed.clear()
            publish(channel, self._names.job(job), _WORD)
            connection.wait_until(lambda: bool(confirmed), ANSWER_S, "the word to be confirmed")
            with self._lock:
                self._to_tell.discard(job)

    def _hear(self, *, hearing: bool) -> None:
        """Begin to count anew for how long nothing is heard of each, or do not count."""
        with self._lock:
            self._hearing = hearing
            self._heard_at = dict.fromkeys(self._heard_at, time.monotonic())

    def _on_report(self, channel: Any, _: object, properties: Any, body: bytes) -> None:
        if properties.reply_to:
            publish(channel, properties.reply_to, str(self._clock.time_ns()).encode())
            return
        report = _read(body)
        if report is None:
            return
        with self._lock:
            self._reports[report.job] = report
            self._heard_at[report.job] = time.monotonic()


def _read(body: bytes) -> Report | None:
    """Return the report that this is; None: it is somebody else's message."""
    try:
        fields = json.loads(body)
        return Report(**{**fields, "done": tuple(fields["done"])})
    except (ValueError, TypeError, KeyError):
        return None
