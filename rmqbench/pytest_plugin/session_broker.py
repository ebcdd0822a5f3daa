"""The brokers of a pytest session: opened when first asked for, ended with the session."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rmqbench.endpoint import hide_password
from rmqbench.errors import RmqbenchError

if TYPE_CHECKING:
    from rmqbench.broker import Broker
    from rmqbench.pytest_plugin.settings import AskedBroker

__all__ = ["SessionBroker", "quiet_pika"]


class SessionBroker:
    """One broker for the whole session; a failure to open it is remembered, too.

    ``say`` is called with a line when something slow begins, and when the broker is there.
    """

    def __init__(
        self, asked: AskedBroker, management_url: str | None, say: Callable[[str], None]
    ) -> None:
        self._asked = asked
        self._management_url = management_url
        self._say = say
        self._stack = ExitStack()
        self._broker: Broker | None = None
        self._error: RmqbenchError | None = None

    def get(self) -> Broker:
        """Return the broker; open it the first time. Raise RmqbenchError, each time the same."""
        if self._error is not None:
            raise self._error
        if self._broker is None:
            try:
                self._broker = self._open()
            except RmqbenchError as error:
                self._say(f"no broker. {error}")
                self._error = error
                raise
        return self._broker

    def close(self) -> None:
        """End the broker if it was started here; the next :meth:`get` opens it anew."""
        self._broker = None
        self._stack.close()

    def _open(self) -> Broker:
        from rmqbench.broker import open_broker  # noqa: PLC0415  # imports much

        asked = self._asked
        self._say(f"waiting for the broker ({hide_password(asked.image or asked.broker)})")
        self._stack.enter_context(_interrupted_by_sigterm())
        with quiet_pika():
            broker = self._stack.enter_context(
                open_broker(
                    asked.broker,
                    image=asked.image,
                    management_url=self._management_url,
                    say=self._say,
                )
            )
        self._say(f"RabbitMQ {broker.version} at {broker.endpoint}: {broker.how}")
        return broker


@contextmanager
def quiet_pika() -> Iterator[None]:
    """Keep pika from logging what the library handles, or raises as one of its own errors.

    A user who has set the level of pika's logger keeps it.
    """
    logger = logging.getLogger("pika")
    if logger.level != logging.NOTSET:
        yield
        return
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(logging.NOTSET)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Make SIGTERM end pytest as Ctrl-C does, so that a run leaves nothing on somebody's broker.

    It is left alone where somebody else handles or ignores it.
    """
    here = threading.current_thread() is threading.main_thread()  # no other may set a handler
    if not here or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    owner = os.getpid()
    came = False

    def interrupt(number: int, _frame: object) -> None:
        nonlocal came
        if os.getpid() != owner:  # forked from us: it is not pytest
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if not came:  # a second one, which timeout(1) may send, is not to disturb the cleaning up
            came = True
            raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
