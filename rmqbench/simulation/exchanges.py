"""Exchanges: what is bound to them, and where they route a message.

https://www.rabbitmq.com/tutorials/amqp-concepts#exchanges
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["PREDECLARED", "TYPES", "Binding", "Exchange"]

TYPES: Final = frozenset({"direct", "fanout", "topic", "headers"})
PREDECLARED: Final = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}


class Binding(NamedTuple):
    """That an exchange leads to a queue, or to another exchange."""

    target: str
    to_exchange: bool
    routing_key: str
    arguments: tuple[tuple[str, Any], ...] = ()


class Exchange:
    """An exchange and its bindings."""

    def __init__(
        self,
        name: str,
        kind: str,
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.type = kind
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = dict(arguments or {})
        self.bindings: dict[Binding, None] = {}  # in the order in which they were made
        self._by_key: dict[str, list[Binding]] = {}

    @property
    def alternate(self) -> str | None:
        """Return the exchange that gets what is bound to nothing here."""
        name: str | None = self.arguments.get("alternate-exchange")
        return name

    def bind(self, binding: Binding) -> None:
        """Bind; a binding that is there already stays."""
        if binding not in self.bindings:
            self.bindings[binding] = None
            self._by_key.setdefault(binding.routing_key, []).append(binding)

    def unbind(self, binding: Binding) -> None:
        """Remove a binding, if it is there."""
        if binding in self.bindings:
            del self.bindings[binding]
            self._by_key[binding.routing_key].remove(binding)

    def forget(self, target: str, *, is_exchange: bool = False) -> None:
        """Remove all bindings that lead to a queue, or to an exchange."""
        for binding in list(self.bindings):
            if binding.target == target and binding.to_exchange == is_exchange:
                self.unbind(binding)

    def matches(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[Binding]:
        """Return the bindings that a message takes."""
        if self.type == "direct":
            return self._by_key.get(routing_key, ())
        if self.type == "fanout":
            return self.bindings
        if self.type == "topic":
            return [each for each in self.bindings if _topic_matches(each.routing_key, routing_key)]
        return [each for each in self.bindings if _headers_match(dict(each.arguments), headers)]


def _topic_matches(pattern: str, routing_key: str) -> bool:
    """Whether a pattern covers a key: ``*`` is one word, ``#`` none or more.

    An empty key has no word.
    """
    if "#" not in pattern and "*" not in pattern:
        return pattern == routing_key
    regex = ""
    for word in pattern.split(".") if pattern else ():
        piece = (
            r"(\..*)?" if word == "#" else r"\.[^.]*" if word == "*" else rf"\.{re.escape(word)}"
        )
        regex += piece
    return re.fullmatch(regex, f".{routing_key}" if routing_key else "", re.DOTALL) is not None


def _headers_match(wanted: dict[str, Any], headers: Mapping[str, Any]) -> bool:
    """Whether headers meet the arguments of a binding (``x-match``, all by default)."""
    mode = wanted.pop("x-match", "all")
    if not mode.endswith("with-x"):
        wanted = {name: value for name, value in wanted.items() if not name.startswith("x-")}
    hits = [name in headers and value in (None, headers[name]) for name, value in wanted.items()]
    return any(hits) if mode.startswith("any") else all(hits)
