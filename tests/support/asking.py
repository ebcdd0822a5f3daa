"""A queue that answers as it is told, to whoever asks whether it is empty."""

from types import SimpleNamespace

import pika.spec

from rmqbench.errors import BrokerUnavailable, DeadlineExceeded, QueueLocked, QueueNotFound
from rmqbench.runner import emptiness

AWAY = BrokerUnavailable("Nobody is there.")
GONE = QueueNotFound("There is no queue 'work.queue'.")
SILENT, REFUSED = "silent", "refused"


class Answers:
    """What the queue says, one after the other; the last is repeated.

    Each is (ready, consumers), an exception, or a function that returns one of these. With a third
    number ``basic.get`` finds more than was said (SILENT: it is never answered; REFUSED: the queue
    does not let itself be asked so); with SILENT as a fourth it is not answered that this was given
    back. ``given_back`` counts what it gave back. ``link_s`` is how long a channel takes to open.
    """

    def __init__(self):
        self.left = [(0, 0)]
        self.asked = self.got = self.given_back = 0
        self.link_s = 0.0

    def say(self, *answers):
        """Say these from now on."""
        self.left = list(answers)

    def next(self):
        """Return the next answer."""
        self.asked += 1
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def answering(monkeypatch):
    """Return the answers of a queue, empty and alone as long as nothing else is said."""
    answers = Answers()

    def connect(*_, network, heartbeat_s, **__):
        answers.heartbeat_s = heartbeat_s
        return _Link(answers, network.clock)

    monkeypatch.setattr(emptiness, "Connection", connect)
    return answers


class _Link:
    """A connection and its channel in one."""

    def __init__(self, answers, clock):
        self._answers = answers
        self._clock = clock
        self._next = self._got = 0
        self._closes = True
        self._on_empty = lambda frame: None

    def open(self):
        pass

    def channel(self):
        self._clock.sleep(self._answers.link_s)
        return self

    def queue_declare(self, queue, passive, callback):
        assert passive
        answer = self._answers.next()
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        ready, consumers, *got = answer
        method = SimpleNamespace(message_count=ready, consumer_count=consumers)
        callback(SimpleNamespace(method=method))
        self._next = got[0] if got else 0
        self._closes = got[1:] != [SILENT]

    def add_callback(self, callback, replies):
        assert replies == [pika.spec.Basic.GetEmpty]
        self._on_empty = callback

    def basic_get(self, queue, callback):
        self._answers.got += 1
        self._got = self._next
        if self._got in (SILENT, REFUSED):
            return
        if self._got:
            method = pika.spec.Basic.GetOk(7, False, "x", "k", self._got - 1)
            callback(self, method, pika.BasicProperties(), b"")
        else:
            self._on_empty(None)

    def basic_reject(self, tag, requeue):
        assert (tag, requeue) == (7, True), "what it was given it gives back"
        self._answers.given_back += 1

    def wait_until(self, condition, timeout_s, what):
        if self._got == REFUSED:
            self._got = 0
            raise QueueLocked("The queue is locked.")
        if not condition():
            raise DeadlineExceeded(f"Timed out waiting for {what}.")

    def close_channel(self, channel, timeout_s):
        self.wait_until(lambda: self._closes, timeout_s, "the channel to close")

    def close(self):
        pass

    def abort(self):
        pass
