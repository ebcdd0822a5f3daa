"""What comes from a queue, handed over in batches: a thread consumes, a face shows. No Tk here."""

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

from rmqbench.amqp.topology import require_name
from rmqbench.amqp.vector import Deliveries
from rmqbench.clients.subscriber import Held, Look, Subscriber, Subscription
from rmqbench.endpoint import Endpoint
from rmqbench.errors import QueueNotFound, RmqbenchError
from rmqbench.gui.rows import KEPT_BYTES, Message

__all__ = ["Batch", "Feed", "Phase", "State"]

_LOOK_AGAIN_S = 1.0  # for a queue that was there and is gone
_STOP_S = 0.9  # what cannot be closed in order by then is left to the end of the process


class Phase(enum.Enum):
    """What the feed is about."""

    CONNECTING = "connecting"
    CONSUMING = "consuming"
    RECONNECTING = "reconnecting"
    NO_QUEUE = "no queue"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class State:
    """The phase, since when (Unix seconds), and why, in a sentence where there is one."""

    phase: Phase
    since_s: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in the order of their delivery, all over the same channel."""

    channel: int
    messages: list[Message]


class Feed:
    """Consumes a queue, and acknowledges what it is told has been shown; never anything else.

    What was received waits to be taken; as nothing of it is acknowledged, the prefetch bounds it.
    Not taking is therefore all that a pause needs. After an interruption everything that was not
    acknowledged comes again, so what still waits is dropped. Entering waits until the queue is
    being consumed, or raises what hinders it; from then on interruptions are a :attr:`state`.
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
        self._state = State(Phase.CONNECTING, time.time())
        self._lock = threading.Lock()  # over all that follows, up to the next empty line
        self._waiting: deque[Message] = deque()
        self._channel = 0
        self._due: tuple[int, int] | None = None  # the delivery tag up to which, and how many
        self._look: Look | None = None  # while it consumes

        self._stopping = threading.Event()
        self._settled = threading.Event()  # it is consuming, or has failed
        self._subscriber = Subscriber(
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
            while not self._settled.wait(0.1):  # in pieces: Windows hears Ctrl-C only in between
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
        """What it is about just now."""
        return self._state

    @property
    def waiting(self) -> int:
        """How many messages were received and not taken yet."""
        return len(self._waiting)

    def next_batch(self, limit: int) -> Batch | None:
        """Give what came since, in order; None if nothing did."""
        with self._lock:
            count = min(limit, len(self._waiting))
            if not count:
                return None
            return Batch(self._channel, [self._waiting.popleft() for _ in range(count)])

    def mark_shown(self, batch: Batch) -> None:
        """Have a batch acknowledged, with all that was taken before it over the same channel."""
        count = len(batch.messages)
        with self._lock:
            self.shown += count
            if batch.channel == self._channel:
                already = self._due[1] if self._due else 0
                self._due = batch.messages[-1].delivery_tag, already + count
                self._wake_up()

    def stop(self) -> None:
        """Acknowledge what is due, close the connection, and give the rest back to the queue."""
        self._stopping.set()
        with self._lock:
            self._wake_up()
        self._thread.join(_STOP_S)

    # --- in the thread -------------------------------------------------------------------------

    def begin(self) -> None:
        """Let go of what came over the last channel: it comes again."""
        with self._lock:
            self._channel += 1
            self._waiting.clear()
            self._due = None

    def take(self, method: Any, properties: Any, body: bytes) -> Held:
        """Keep a message to be taken; it is acknowledged when it was shown."""
        values = {name: value for name, value in vars(properties).items() if value is not None}
        message = Message(
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
        return Held()

    def take_many(self, deliveries: Deliveries) -> tuple[int, npt.NDArray[np.int64]]:
        """Take none: messages come one by one, as each is shown."""
        return 0, np.empty(0, np.int64)

    def acknowledge(self, places: npt.NDArray[np.int64]) -> None:
        """Note nothing: what is held is acknowledged when it was shown."""

    def _run(self) -> None:
        try:
            while True:
                error = self._subscriber.run(self._go_on)
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
        """Acknowledge what was shown; tell whether to go on."""
        going = not self._stopping.is_set()
        with self._lock:
            due, self._due = self._due, None
            if due is not None:
                self.acknowledged += due[1]
            self._look = look if going else None
        if due is not None:
            look.acknowledge(due[0])
        if self._state.phase is not Phase.CONSUMING:
            self._state = State(Phase.CONSUMING, time.time())
            self._settled.set()
        return going

    def _lost(self, error: RmqbenchError) -> None:
        """Say why nothing comes just now. What could not even begin is given up."""
        with self._lock:
            self._look = None
            self._waiting.clear()
        if not self._settled.is_set():
            self._fail(error)
            self._stopping.set()
            return
        phase = Phase.NO_QUEUE if isinstance(error, QueueNotFound) else Phase.RECONNECTING
        since_s = self._state.since_s if self._state.phase is phase else time.time()
        self._state = State(phase, since_s, error.what)

    def _wake_up(self) -> None:
        """Have the thread look at once. The lock is held."""
        if self._look is not None:
            self._look.wake()

    def _fail(self, error: RmqbenchError) -> None:
        """End for good."""
        self.failure = error
        self._state = State(Phase.ENDED, time.time(), error.what)
