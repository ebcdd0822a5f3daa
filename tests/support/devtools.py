"""Chromium's DevTools protocol over two pipes: JSON, each message ended by a zero byte."""

import itertools
import json
import os
import select
import time

LIMIT_S = 60.0  # for each wait


class BrowserError(Exception):
    """What the browser did not do, or refused."""


class DevTools:
    """Commands to a browser, and what it reports meanwhile.

    There is no thread: reports are taken whenever something is waited for.
    """

    def __init__(self, to_browser, from_browser, last_words):
        self._to, self._from = to_browser, from_browser
        self._last_words = last_words  # what the browser wrote, for the error when it has ended
        os.set_blocking(self._to.fileno(), False)
        self._unsent = bytearray()
        self._parts = []  # of a message whose end is still to come
        self._numbers = itertools.count(1)
        self._answers = {}  # of each command that is waited for, None until it comes
        self.listeners = {}  # a session: what is called with the name and the facts of each report

    def send(self, method, session=None, **parameters):
        """Send a command whose answer nobody waits for; return its number."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._unsent += json.dumps(message).encode() + b"\0"
        return number

    def command(self, method, session=None, *, limit_s=LIMIT_S, what=None, **parameters):
        """Send a command and return its result."""
        number = self.send(method, session, **parameters)
        self._answers[number] = None
        try:
            what = what or f"the answer to {method}"
            self.wait_until(lambda: self._answers[number] is not None, what, limit_s)
        finally:
            answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait_until(self, condition, what, limit_s=LIMIT_S):
        """Exchange messages until a condition holds, which these bring about."""
        deadline = time.monotonic() + limit_s
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise BrowserError(f"waited {limit_s:g} s for {what}")
            self._exchange(left)

    def _exchange(self, timeout_s):
        ready = select.poll()  # any number of open files, where select() takes 1,024
        ready.register(self._from, select.POLLIN)
        if self._unsent:
            ready.register(self._to, select.POLLOUT)
        files = {file for file, _ in ready.poll(timeout_s * 1000)}
        try:
            if self._to.fileno() in files:
                del self._unsent[: os.write(self._to.fileno(), self._unsent)]
            data = os.read(self._from.fileno(), 1 << 20) if self._from.fileno() in files else None
        except BrokenPipeError:
            data = b""
        if data == b"":
            raise BrowserError(f"the browser has ended: {self._last_words()}")
        if data:
            self._take(data)

    def _take(self, data):
        *ends, begun = data.split(b"\0")
        if ends:
            ends[0] = b"".join([*self._parts, ends[0]])
            self._parts.clear()
        self._parts.append(begun)
        for each in ends:
            match message := json.loads(each):
                case {"id": number}:
                    if number in self._answers:
                        self._answers[number] = message
                case {"method": method, "params": facts}:
                    if listener := self.listeners.get(message.get("sessionId")):
                        listener(method, facts)
