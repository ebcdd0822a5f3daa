"""The brokers of a campaign: chosen by its file, which holds no password, and opened in turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import quote

from rmqbench.broker import Broker, open_broker, probe
from rmqbench.campaign.tables import meant
from rmqbench.endpoint import Endpoint, hide_password
from rmqbench.errors import RmqbenchError, UsageError

__all__ = ["BrokerChoice", "OpenBroker"]

_OWN = ("auto", "container", "local")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LOGIN = re.compile(r"(?<=://)(?P<user>[^:/@]*)(?::(?P<password>.*))?@")


@dataclass(frozen=True)
class BrokerChoice:
    """Which broker is meant. ``name`` is what the file says of it, and all that is ever shown."""

    name: str
    spec: str = field(repr=False)
    image: str | None = field(default=None, repr=False)
    management_url: str | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, name: str, management_url: str | None, environment: Mapping[str, str]
    ) -> BrokerChoice:
        """Return the broker of that name: one of our own, an image, or a URL.

        ``${NAME}`` in it is replaced by what the environment has. Raise UsageError.
        """
        filled = _filled(name, environment)
        management_url = None if management_url is None else _filled(management_url, environment)
        if filled.startswith(("amqp://", "amqps://")):
            try:
                Endpoint.from_url(filled)
            except UsageError:  # which quotes what is not to be shown
                raise UsageError(
                    f"The broker {name!r} is no AMQP URL, once its variables are put in.",
                    "Write amqp://user:${PASSWORD}@host:5672/vhost.",
                ) from None
            return cls(name, filled, management_url=management_url)
        if management_url is not None:
            raise UsageError(
                f"management_url is for a broker at a URL, and the broker is {name!r}.",
                "Leave one of them out.",
            )
        if filled in _OWN:
            return cls(name, filled)
        if "://" not in filled and re.search(r"[:/]", filled):
            return cls(name, "container", image=filled)
        raise UsageError(
            f"{name!r} is no broker.",
            f"{meant(filled if filled == name else '', _OWN)} "
            "An image is written rabbitmq:4-management, a URL amqp://user:${PASSWORD}@host.",
        )

    @property
    def owned(self) -> bool:
        """Whether it is started here, and ends with the campaign."""
        return "://" not in self.spec

    def open(self, say: Callable[[str], None]) -> AbstractContextManager[Broker]:
        """Return the broker, which is opened as its context begins."""
        return open_broker(self.spec, image=self.image, management_url=self.management_url, say=say)


def _filled(text: str, environment: Mapping[str, str]) -> str:
    """Put variables into a name or URL: a user and a password are %-encoded, a whole URL is not.

    Raise UsageError for a variable that is not there, and for a password that the file holds.
    """
    login = _LOGIN.search(text)
    if login and _VARIABLE.sub("", login["password"] or ""):
        raise UsageError(
            f"{hide_password(text)!r} has a password in it, for whoever reads the file.",
            "Write ${NAME} in its place, and set the environment variable NAME.",
        )

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name not in environment:
            raise UsageError(
                f"The environment variable {name}, of {hide_password(text)!r}, is not set.",
                f"Set {name}.",
            )
        inside = login is not None and found.start() < login.end()
        return quote(environment[name], safe="") if inside else environment[name]

    return _VARIABLE.sub(put, text)


class OpenBroker:
    """Keeps one broker open for the runs that stand behind each other on it.

    ``say`` is called with a line when something slow begins, and ``opened`` with each broker.
    """

    def __init__(
        self, say: Callable[[str], None], opened: Callable[[Broker], None] = lambda _: None
    ) -> None:
        self._say = say
        self._opened = opened
        self._choice: BrokerChoice | None = None
        self._broker: Broker | None = None
        self._failure: RmqbenchError | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the broker that is open, if it is ours."""
        self.close()

    def get(self, choice: BrokerChoice) -> Broker:
        """Return a broker of this choice: the open one while it is sound, else a new one.

        Raise RmqbenchError, the same again for all runs that follow: none waits for it anew.
        """
        if choice != self._choice:
            self.close()
            self._choice, self._failure = choice, None
        if self._failure is not None:
            raise self._failure
        if self._broker is not None and not _is_sound(self._broker):
            self._say(f"The broker {choice.name} does not answer any more: a new one is taken.")
            self.close()
        if self._broker is None:
            try:
                self._broker = self._stack.enter_context(choice.open(self._say))
            except RmqbenchError as error:
                self._failure = error
                raise
            self._opened(self._broker)
        return self._broker

    def close(self) -> None:
        """End the broker that is open; the next run gets a new one."""
        self._broker = None
        with suppress(RmqbenchError):  # the runs on it are over, and the reaper has what is left
            self._stack.close()


def _is_sound(broker: Broker) -> bool:
    """Whether a node of ours is as it was; what is not ours is asked by each run itself."""
    if not broker.owned:
        return True
    try:
        return broker.is_running() and bool(probe(broker.endpoint))
    except (RmqbenchError, OSError):
        return False
