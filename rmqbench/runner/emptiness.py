"""Prove that a queue is empty: ask it, with no consumer of ours there any more, until it is sure.

A passive declare answers with statistics, which nobody may stand behind: a quorum queue whose
leader does not answer soon shows 0 messages and 0 consumers. ``basic.get`` asks the leader itself,
and does not count what consumers hold. (Where a quorum queue has no leader at all, these zeros come
at once; but then ``basic.get`` is not answered.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import pika.spec

from rmqbench.amqp.connection import Connection
from rmqbench.amqp.network import Network
from rmqbench.endpoint import Endpoint
from rmqbench.errors import QueueLocked, QueueNotFound, RmqbenchError
from rmqbench.faults.disturbance import RECOVERY_S
from rmqbench.text import counted
from rmqbench.verdict.evidence import Drain

__all__ = ["SETTLE_S", "Patience", "Prover"]

SETTLE_S = 0.5  # how long an empty queue must stay empty, at the least
_SLOW_S = 0.2  # RabbitMQ waits 250 ms for the figures of a quorum queue (rabbit_quorum_queue.erl)
_ASK_EVERY_S = 0.25
_ASKED_S = 2.0  # how long it is still asked, when all that was to be waited for is over
_BUSY_S = 30.0  # how long it is still asked, when its leader is too busy to say what it holds
_ANSWER_S = 10.0
_LEAST_UNANSWERED = 3  # so often in a row before it is given up: two connections may have bad luck
_HEARTBEAT_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a queue is asked whether it is empty. Moments are monotonic seconds.

    Before ``certain_at`` no answer is believed that says so. It must then say so for ``still_s``.
    After ``until`` no first answer is waited for; one that stays away later, for ``away_s``. After
    ``others_until`` the end of other consumers is not waited for.
    """

    certain_at: float
    until: float
    away_s: float
    others_until: float
    still_s: float = SETTLE_S


class Prover:
    """Proves that one queue is empty, or finds that it is not.

    What was delivered on a channel that has ended for us may be in no figure of its queue before
    the channel has ended for the broker, too: up to :attr:`half_open_s` later. Until then no answer
    is believed that says it is empty (see :meth:`expect_back`).
    """

    def __init__(
        self, endpoint: Endpoint, queue: str, network: Network, *, heartbeat_s: int
    ) -> None:
        """Take what to ask, and the interval of heartbeats of all connections; ask nothing yet."""
        self._endpoint = endpoint
        self._queue = queue
        self._network = network
        self._heartbeat_s = heartbeat_s
        self._all_back_at = self._consumers_gone_at = 0.0

    @property
    def half_open_s(self) -> float:
        """After how many seconds the broker must have noticed that a connection has ended.

        It learns of one that is half-open by the heartbeats that do not come: it looks once in an
        interval, and gives up at the second look that shows nothing new (rabbit_heartbeat.erl),
        which is before three of them are over.
        """
        return 3 * self._heartbeat_s + _HEARTBEAT_MARGIN_S

    def expect_back(self, ended_at: float, *, counted: bool = False) -> None:
        """Take into account that a channel has ended, by then, that may have held messages.

        ``counted``: its consumer was not cancelled, so that the queue counts it as long as it holds
        any. Of such a one an answer knows that is not slow.
        """
        noticed_at = ended_at + self.half_open_s
        if counted:
            self._consumers_gone_at = max(self._consumers_gone_at, noticed_at)
        else:
            self._all_back_at = max(self._all_back_at, noticed_at)

    def prove(self, patience: Patience) -> Drain:
        """Ask the queue, with no consumer of ours there any more, until its answer holds still.

        Soon after it could not be asked no answer is believed that says it is empty: its node may
        have restarted. A queue that does not exist any more holds nothing.
        """
        monotonic = self._network.clock.monotonic
        certain_at, still_since = patience.certain_at, math.inf
        back_at = self._all_back_at  # it moves on as long as the queue does not answer
        answered, away_until, busy_until = False, 0.0, 0.0
        unanswered = 0  # in a row
        given_up_at = self._given_up_at(patience)
        with _Question(self._endpoint, self._queue, self._network, self._heartbeat_s) as question:
            while True:
                asked_at = monotonic()  # an answer may be old when it is read
                answer = question.ask()
                now = monotonic()
                if answer.ready:
                    what = counted(answer.ready, "message is", "messages are")
                    detail = f"{what} still ready in it"
                    return Drain(
                        False, answer.ready, detail, looks=question.looks, others=answer.others
                    )
                unanswered = unanswered + 1 if answer.broke_off else 0
                if answer.broke_off:
                    certain_at = max(certain_at, now + RECOVERY_S)
                    if question.may_hold_one:
                        self.expect_back(now)
                    away_s = patience.away_s if answered else _ASK_EVERY_S
                    away_until = away_until or now + away_s
                else:
                    answered, away_until = True, 0.0
                if answer.busy:  # it says nothing, and nothing against what it said before
                    busy_until = busy_until or now + _BUSY_S
                elif answer.trouble:
                    still_since = math.inf
                if answer.trouble:
                    asked_until = max(away_until, busy_until, back_at + _ASKED_S)
                    limit = max(asked_until, self._limit(patience, answer))
                    once_more = 0 < unanswered < _LEAST_UNANSWERED
                    if now >= (given_up_at if once_more else min(limit, given_up_at)):
                        return Drain(False, 0, answer.trouble, looks=question.looks)
                else:
                    still_since = min(still_since, asked_at)
                    if asked_at >= max(
                        still_since + patience.still_s, certain_at, self._all_in(answer)
                    ):
                        return Drain(True, there=answer.there, looks=question.looks)
                self._network.clock.sleep(_ASK_EVERY_S)

    def _limit(self, patience: Patience, answer: _Answer) -> float:
        """Return when a queue is given up that answers so and proves nothing."""
        if answer.others:
            return patience.others_until
        return max(patience.until, self._consumers_gone_at + _ASKED_S if answer.slow else 0.0)

    def _given_up_at(self, patience: Patience) -> float:
        """Return when a queue is given up that answers now and then, and never long enough."""
        waited_for = patience.certain_at, patience.until, patience.others_until
        latest = max(*waited_for, self._all_back_at, self._consumers_gone_at)
        return latest + patience.still_s + patience.away_s + self.half_open_s

    def _all_in(self, answer: _Answer) -> float:
        """Return from when on such an answer leaves out nothing of ours."""
        if not answer.there:
            return 0.0
        return max(self._all_back_at, self._consumers_gone_at if answer.slow else 0.0)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a queue says: its ready messages, and its consumers, which are ``others``.

    ``there``: it exists. ``slow``: the figures took so long that they may be nobody's. ``trouble``
    is why they prove nothing, empty where they do; ``broke_off``: because there was no answer;
    ``busy``: because they are likely to be nobody's, and there is no other way to ask.
    """

    ready: int = 0
    others: int = 0
    there: bool = True
    slow: bool = False
    trouble: str = ""
    broke_off: bool = False
    busy: bool = False


class _Question:
    """Asks one queue, over a connection that is made when it is needed.

    ``may_hold_one``: the last connection was asked for a message, and it is not known that it got
    none or has given it back. ``looks`` counts the messages that all connections got, or may have
    got, and gave back.
    """

    def __init__(self, endpoint: Endpoint, queue: str, network: Network, heartbeat_s: int) -> None:
        self._endpoint = endpoint
        self._queue = queue
        self._network = network
        self._heartbeat_s = heartbeat_s
        self._connection: Connection | None = None
        self._channel: Any = None
        self.may_hold_one = False
        self.looks = 0
        self._monotonic = network.clock.monotonic
        self._link_s = math.inf  # how long the link needs for question and answer, at the most
        self._declared_in_s = 0.0  # how long the last figures took, the link included

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            if kind is None:
                self._connection.close()
            else:
                self._connection.abort()

    def ask(self) -> _Answer:
        """Ask what the queue holds, and who consumes it."""
        try:
            return self._ask()
        except QueueNotFound:
            self._abort()
            return _Answer(there=False)
        except RmqbenchError as error:
            self._abort()
            return _Answer(trouble=f"it could not be asked ({error.what})", broke_off=True)
        except BaseException:
            self._abort()
            raise

    def _ask(self) -> _Answer:
        if self._connection is None:
            self._connection = Connection(
                self._endpoint,
                name="rmqbench drain",
                network=self._network,
                vector=False,
                heartbeat_s=self._heartbeat_s,
            )
            self.may_hold_one = False
            self._connection.open()
            began_at = self._monotonic()
            self._channel = self._connection.channel()
            self._took(began_at)
        answer = self._declare()
        if answer.ready:
            return answer
        if answer.others:
            who = ("consumer that is not ours is", "consumers that are not ours are")
            return replace(answer, trouble=f"{counted(answer.others, *who)} still there")
        try:
            return replace(answer, ready=self._get())
        except QueueLocked:
            # The leader of a quorum queue with a single active consumer refuses it with this
            # error: it is there, so what was declared stands if it had the time to say it.
            self._abort()
            self._got_none()
            if self._declared_in_s < self._link_s + _SLOW_S:
                return answer
            trouble = "its leader is too busy to say what it holds"
            return replace(answer, trouble=trouble, busy=True)

    def _declare(self) -> _Answer:
        answers: list[Any] = []
        asked_at = self._monotonic()
        self._channel.queue_declare(self._queue, passive=True, callback=answers.append)
        self._wait_until(lambda: bool(answers))
        self._declared_in_s = self._took(asked_at)
        slow = self._declared_in_s >= _SLOW_S
        method = answers[0].method
        return _Answer(int(method.message_count), int(method.consumer_count), slow=slow)

    def _get(self) -> int:
        """Ask the queue for a message; return how many it had, and give back what it gave."""
        answers: list[Any] = []
        got: list[Any] = []
        self._channel.add_callback(answers.append, [pika.spec.Basic.GetEmpty])

        def on_message(_: object, method: Any, *__: object) -> None:
            got.append(method)
            answers.append(method)

        self.may_hold_one = True
        self.looks += 1  # until it is known that it got none
        self._channel.basic_get(self._queue, on_message)
        self._wait_until(lambda: bool(answers))
        if not got:
            self._got_none()
            return 0
        assert self._connection is not None
        self._channel.basic_reject(got[0].delivery_tag, requeue=True)
        self._connection.close_channel(self._channel, _ANSWER_S)
        self.may_hold_one = False
        return int(got[0].message_count) + 1

    def _got_none(self) -> None:
        self.may_hold_one = False
        self.looks -= 1

    def _took(self, asked_at: float) -> float:
        """Return how long the answer took that has just come."""
        took_s = self._monotonic() - asked_at
        self._link_s = min(self._link_s, took_s)
        return took_s

    def _abort(self) -> None:
        """End the connection; the next question makes another."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        assert self._connection is not None
        self._connection.wait_until(condition, _ANSWER_S, f"queue {self._queue!r} to answer")
