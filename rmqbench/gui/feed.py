"""Messages from a queue in batches: a thread consumes, a window shows. No Tk here."""

from __future__ import annotations

import enum
import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from rmqbench.amqp.shape import Deliveries
from rmqbench.amqp.topology import require_name
from rmqbench.clients.consumer import Consumer, Look, Subscription
from rmqbench.endpoint import Endpoint
from rmqbench.errors import QueueNotFound, RmqbenchError
from rmqbench.gui.rows import KEPT_BYTES, Received

__all__ = ["Activity", "Batch", "Feed", "State"]

_LOOK_AGAIN_S = 1.0  # for a queue that was deleted
_STOP_S = 0.9  # what is not closed by then ends with the process


class Activity(enum.Enum):
    """What the feed is doing."""

    CONNECTING = "connecting"
    CONSUMING = "consuming"
    RECONNECTING = "reconnecting"
    NO_QUEUE = "no queue"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class State:
    """The activity, since when (Unix seconds), and why, in a sentence where there is one."""

    activity: Activity
    since_s: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in the order of their delivery, all from the same channel."""

    channel: int
    messages: list[Received]


class Feed:
    """Consumes a queue, and acknowledges what :meth:`mark_shown` names; never anything else.

    What was received waits to be taken. As none of it is acknowledged, the prefetch bounds it: for
    a pause it is enough to take nothing. After an interruption everything unacknowledged comes
    again, so what still waits is dropped. Entering waits until the queue is being consumed, or
    raises why it cannot be; later interruptions show in :attr:`state`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        queue: str,
        *,
        name: str = "Viewer",
        prefetch: int = 1000,
    ) -> None:
        """Prepare to consume; ``name`` is that of the connection and the consumer at the broker."""
        require_name("queue", queue)
        require_name("consumer", name)
        self.endpoint = endpoint
        self.queue = queue
        self.name = name
        self.prefetch = prefetch
        self.failure: RmqbenchError | None = None
        self.shown = 0
        self.acknowledged = 0
        self._state = State(Activity.CONNECTING, time.time())
        self._lock = threading.Lock()  # guards what follows, up to the empty line
        self._waiting: deque[Received] = deque()
        self._channel = 0
        self._due: tuple[int, int] | None = None  # the delivery tag up to which, and how many
        self._look: Look | None = None  # while it consumes

        self._stopping = threading.Event()
        self._settled = threading.Event()  # it is consuming, or has failed
        self._consumer = Consumer(
            Subscription(
                endpoint=endpoint,
                queue=queue,
                name=name,
                tag=name,
                prefetch=prefetch,
                vector=False,  # each is shown
                stall_s=math.inf,
            ),
            self,
            on_lost=self._lost,
            sleep=self._stopping.wait,
        )
        self._thread = threading.Thread(target=self._run, name=f"feed of {queue}", daemon=True)

    def __enter__(self) -> Self:
        """Begin, and wait until it consumes."""
        self._thread.start()
        try:
            while not self._settled.wait(
                0.1
            ):  # in pieces: on Windows Ctrl-C only arrives in between
                pass
            if self.failure is not None:
                raise self.failure
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def state(self) -> State:
        """What it is doing now."""
        return self._state

    @property
    def waiting(self) -> int:
        """The number of messages that were received and not taken yet."""
        return len(self._waiting)

    def next_batch(self, limit: int) -> Batch | None:
        """Take the next messages, at most ``limit``; None if there are none."""
        with self._lock:
            count = min(limit, len(self._waiting))
            if not count:
                return None
            return Batch(self._channel, [self._waiting.popleft() for _ in range(count)])

    def mark_shown(self, batch: Batch) -> None:
        """Acknowledge a batch, with all that was taken before it from the same channel."""
        count = len(batch.messages)
        with self._lock:
            self.shown += count
            if batch.channel == self._channel:
                already = self._due[1] if self._due else 0
                self._due = batch.messages[-1].delivery_tag, already + count
                self._wake_up()

    def stop(self) -> None:
        """Acknowledge what is due and close the connection; the rest returns to the queue."""
        self._stopping.set()
        with self._lock:
            self._wake_up()
        self._thread.join(_STOP_S)

    # --- in the thread -------------------------------------------------------------------------

    def begin(self) -> None:
        """Drop what came from the last channel: it comes again."""
        with self._lock:
            self._channel += 1
            self._waiting.clear()
            self._due = None

    def end(self) -> None:
        """Do nothing: what was acknowledged is shown already."""

    def take(self, method: Any, properties: Any, body: bytes) -> None:
        """Keep a message to be taken; it is acknowledged after it was shown."""
        values = {name: value for name, value in vars(properties).items() if value is not None}
        message = Received(
            received_s=time.time(),
            exchange=method.exchange,
            routing_key=method.routing_key,
            redelivered=bool(method.redelivered),
            delivery_tag=method.delivery_tag,
            headers=values.pop("headers", {}),
            properties=values,
            body=body[:KEPT_BYTES],
            size_bytes=len(body),
        )
        with self._lock:
            self._waiting.append(message)

    def take_many(self, deliveries: Deliveries) -> tuple[int, npt.NDArray[np.int64]]:
        """Take none: each message is shown, so each is taken alone."""
        return 0, np.empty(0, np.int64)

    def acknowledge(self, places: npt.NDArray[np.int64]) -> None:
        """Do nothing: what is held is acknowledged after it was shown."""

    def _run(self) -> None:
        try:
            while True:
                error = self._consumer.run(self._go_on)
                if error is None or self._stopping.is_set():
                    return
                if not isinstance(error, QueueNotFound):
                    self._fail(error)
                    return
                if self._stopping.wait(_LOOK_AGAIN_S):
                    return
        finally:
            self._settled.set()

    def _go_on(self, look: Look) -> bool:
        """Acknowledge what was shown; return whether to go on."""
        going = not self._stopping.is_set()
        with self._lock:
            due, self._due = self._due, None
            if due is not None:
                self.acknowledged += due[1]
            self._look = look if going else None
        if due is not None:
            look.acknowledge(due[0])
        if self._state.activity is not Activity.CONSUMING:
            self._state = State(Activity.CONSUMING, time.time())
            self._settled.set()
        return going

    def _lost(self, error: RmqbenchError) -> None:
        """Record why nothing comes now; give up what could not even begin."""
        with self._lock:
            self._look = None
            self._waiting.clear()
        if not self._settled.is_set():
            self._fail(error)
            self._stopping.set()
            return
        gone = isinstance(error, QueueNotFound)
        activity = Activity.NO_QUEUE if gone else Activity.RECONNECTING
        since_s = self._state.since_s if self._state.activity is activity else time.time()
        self._state = State(activity, since_s, error.what)

    def _wake_up(self) -> None:
        """Make the thread look at once. The lock is held."""
        if self._look is not None:
            self._look.wake()

    def _fail(self, error: RmqbenchError) -> None:
        """End for good."""
        self.failure = error
        self._state = State(Activity.ENDED, time.time(), error.what)
