"""Delete queues and exchanges: first find them, as a value, then delete exactly these.

A person may think for as long as they like in between: what has appeared since then stays, what is
gone is no error, and a queue that was idle is kept if it no longer is. Ready messages and consumers
come from a passive declare and are exact; only the Management API knows the unacknowledged messages
and the consumers of a stream, whose counts are some seconds old.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from rmqbench.amqp.admin import admin
from rmqbench.amqp.idle import counts_over, delete_if_idle, in_use
from rmqbench.amqp.topology import is_name, require_name
from rmqbench.endpoint import Endpoint, is_loopback
from rmqbench.errors import (
    ConnectionLost,
    DeadlineExceeded,
    ManagementUnavailable,
    QueueNotFound,
    RmqbenchError,
    UsageError,
)
from rmqbench.management.answers import (
    BindingInfo,
    ExchangeInfo,
    PolicyInfo,
    QueueInfo,
    read_bindings,
    read_exchanges,
    read_policies,
    read_queues,
)
from rmqbench.management.client import Management

__all__ = [
    "Candidate",
    "CleanupPlan",
    "Deletion",
    "Scope",
    "delete",
    "find",
    "require_named",
    "scope",
    "unused",
]

Scope = Literal["all", "exchanges", "queues"]

_LIMIT_S = 10.0
_TURN_S = 5.0  # then a new connection, so that the last act has a part of the limit left
_SILENCES = 3  # after this many in a row the broker is asked nothing more
_WORDS = ("all", "exchanges")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queue or exchange that exists. Only a queue has counts; None is unknown.

    ``obstacle`` is why it will be kept, or empty.
    """

    kind: Literal["queue", "exchange"]
    name: str
    type: str | None = None
    ready: int | None = None
    unacknowledged: int | None = None
    consumers: int | None = None
    obstacle: str = ""

    @property
    def holds_messages(self) -> bool:
        """Whether messages go with it. A stream counts as holding some: its figures lag."""
        return bool(self.ready or self.unacknowledged) or self.type == "stream"

    @property
    def is_idle(self) -> bool:
        """Whether it holds no messages and has no consumers."""
        return not self.holds_messages and not self.consumers

    def __str__(self) -> str:
        """Return what it is and its name."""
        return f"{self.kind} {self.name!r}"


@dataclass(frozen=True, slots=True)
class CleanupPlan:
    """What was found: queues first. ``notes`` are sentences for a person."""

    endpoint: Endpoint
    scope: Scope
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()

    @property
    def to_delete(self) -> tuple[Candidate, ...]:
        """Return what :func:`delete` will delete, if it is still as it was found."""
        return tuple(each for each in self.candidates if not each.obstacle)

    @property
    def to_keep(self) -> tuple[Candidate, ...]:
        """Return what has an obstacle and will be kept."""
        return tuple(each for each in self.candidates if each.obstacle)


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of a candidate; ``reason`` is why it was kept."""

    candidate: Candidate
    status: Literal["deleted", "gone", "kept"]
    reason: str = ""


def scope(words: Sequence[str], exact: Sequence[str] = ()) -> Scope:
    """Return what the words mean: ``all`` or ``exchanges`` alone, otherwise names of queues.

    ``exact`` are always names of queues. Raise UsageError.
    """
    if not words and not exact:
        raise UsageError(
            "What to delete is missing.", "Name queues, or write 'all' or 'exchanges'."
        )
    for word in _WORDS:
        if word in words:
            if len(words) > 1 or exact:
                raise _stands_alone(word)
            return "all" if word == "all" else "exchanges"
    return "queues"


def require_named(endpoint: Endpoint, wanted: Scope, name: str | None) -> None:
    """Raise UsageError if everything on another machine is to go and its host is not confirmed.

    ``name`` confirms it; a wrong name is an error in any case.
    """
    host = endpoint.host
    right = f"--yes-really {host}"
    if name is not None and name != host:
        raise UsageError(
            f"--yes-really names {name!r}, but the broker's host is {host!r}; nothing was deleted.",
            f"If you mean this one: {right}",
        )
    if wanted == "all" and name is None and not is_loopback(host):
        raise UsageError(
            f"The broker at {host!r} is not on this machine: to delete everything in its virtual "
            f"host {endpoint.virtual_host!r}, neither --yes nor an answer is enough.",
            f"If you mean it: {right}. To only look: --dry-run.",
        )


def find(endpoint: Endpoint, words: Sequence[str], exact: Sequence[str] = ()) -> CleanupPlan:
    """Find what the words mean (see :func:`scope`); nothing is changed.

    A word with commas is one name if such a queue exists, otherwise several. Raise QueueNotFound
    with all names that do not exist, ManagementUnavailable for ``all`` and ``exchanges``, which
    need the Management API, and what :func:`~rmqbench.amqp.admin.admin` raises.
    """
    wanted = scope(words, exact)
    if wanted == "queues":
        return _find_named(endpoint, words, exact)
    try:
        with Management(endpoint) as management:
            if wanted == "all":
                return _find_all(endpoint, management)
            return _find_unused(endpoint, management)
    except ManagementUnavailable as error:
        raise ManagementUnavailable(
            f"{wanted!r} needs the Management API to list what exists: {error.what}",
            f"{error.remedy} Or name the queues: that works without it.",
        ) from error


def unused(
    exchanges: Sequence[ExchangeInfo],
    bindings: Iterable[BindingInfo],
    queues: Iterable[QueueInfo],
    policies: Iterable[PolicyInfo],
) -> tuple[ExchangeInfo, ...]:
    """Return the exchanges that nothing uses, without the built-in ones.

    An exchange is used if a binding leads from it or to it, or if a queue, another exchange or a
    policy names it as the destination of dead-lettered or unroutable messages.
    """
    used: set[str | None] = set()
    for binding in bindings:
        used.add(binding.source)
        if binding.destination_type == "exchange":
            used.add(binding.destination)
    for exchange in exchanges:
        used.add(exchange.alternate_exchange)
    for queue in queues:
        used.update(queue.dead_letter_exchanges)
    for policy in policies:
        used.update((policy.alternate_exchange, policy.dead_letter_exchange))
    return tuple(
        each for each in exchanges if each.name not in used and not _is_built_in(each.name)
    )


def delete(plan: CleanupPlan) -> Iterator[Deletion]:
    """Delete what was found, and yield what became of each; one failure stops nothing.

    A queue found idle is deleted only if it still is (see
    :func:`~rmqbench.amqp.idle.delete_if_idle`), an exchange found unused only if no binding leads
    from it by now.
    """
    yield from (Deletion(each, "kept", each.obstacle) for each in plan.to_keep)

    def act(channel: Any, each: Candidate) -> str:
        """Return why it is kept, nothing if it was deleted."""
        if each.kind == "exchange":
            channel.exchange_declare(each.name, passive=True)  # deleting what is gone is no error
            channel.exchange_delete(each.name, if_unused=plan.scope == "exchanges")
        elif each.is_idle:
            counts = delete_if_idle(channel, plan.endpoint, each.name, each.type)
            return f"it {in_use(*counts)} now" if counts else ""
        else:
            channel.queue_declare(each.name, passive=True)
            channel.queue_delete(each.name)
        return ""

    for each, result in _with_each(plan.endpoint, plan.to_delete, act):
        if isinstance(result, QueueNotFound):
            yield Deletion(each, "gone")
        elif isinstance(result, RmqbenchError):
            yield Deletion(each, "kept", _reason(each, result))
        else:
            yield Deletion(each, "kept" if result else "deleted", result)


# --- finding -----------------------------------------------------------------------------------


def _find_all(endpoint: Endpoint, management: Management) -> CleanupPlan:
    vhost = endpoint.virtual_host
    listed = [_queue(each) for each in read_queues(management.queues(vhost))]
    exchanges = [
        _exchange(each)
        for each in read_exchanges(management.exchanges(vhost))
        if not _is_built_in(each.name)
    ]
    return CleanupPlan(endpoint, "all", (*_counted(endpoint, listed), *exchanges))


def _find_unused(endpoint: Endpoint, management: Management) -> CleanupPlan:
    vhost = endpoint.virtual_host
    exchanges = unused(
        read_exchanges(management.exchanges(vhost)),
        read_bindings(management.bindings(vhost)),
        read_queues(management.queues(vhost)),
        read_policies(management.policies(vhost)),
    )
    return CleanupPlan(endpoint, "exchanges", tuple(map(_exchange, exchanges)))


def _find_named(endpoint: Endpoint, words: Sequence[str], exact: Sequence[str]) -> CleanupPlan:
    wholes = dict.fromkeys((*words, *exact))
    for name in wholes:
        _check_name(name, may_be_long="," in name and name not in exact)
    parts = {word: _parts(word) for word in words if "," in word}
    candidates = dict.fromkeys(
        (*(each for each in wholes if is_name(each)), *(p for each in parts.values() for p in each))
    )
    known, notes = _known(endpoint)
    there = {
        each.name: each
        for each in _counted(endpoint, [known.get(n, Candidate("queue", n)) for n in candidates])
    }
    wanted: dict[str, None] = {}
    for name in wholes:
        if name in there or name not in parts or name in exact:
            wanted[name] = None
            continue
        for word in _WORDS:
            if word in parts[name]:
                raise _stands_alone(word)
        wanted |= dict.fromkeys(parts[name])
    missing = [name for name in wanted if name not in there]
    if missing:
        names = ", ".join(map(repr, missing))
        raise QueueNotFound(
            f"There {'is no queue' if len(missing) == 1 else 'are no queues'} {names} in virtual "
            f"host {endpoint.virtual_host!r} of the broker at {endpoint.address}; "
            "nothing was deleted.",
            "Check the name and the virtual host: rmqbench monitor shows what exists.",
        )
    return CleanupPlan(endpoint, "queues", tuple(there[name] for name in wanted), tuple(notes))


def _known(endpoint: Endpoint) -> tuple[dict[str, Candidate], list[str]]:
    """Return the queues as the Management API knows them, or a note if it cannot be asked."""
    try:
        with Management(endpoint) as management:
            queues = read_queues(management.queues(endpoint.virtual_host))
    except UsageError:
        raise
    except RmqbenchError as error:
        return {}, [f"Unacknowledged messages are not known: {_sentence(error)}."]
    return {each.name: _queue(each) for each in queues}, []


def _counted(endpoint: Endpoint, queues: Sequence[Candidate]) -> list[Candidate]:
    """Return the queues with exact counts; those that no longer exist are left out."""

    def count(channel: Any, each: Candidate) -> Candidate:
        ready, consumers = counts_over(channel, each.name)
        if each.type == "stream":  # whose consumers are not counted there
            return replace(each, ready=ready)
        return replace(each, ready=ready, consumers=consumers)

    asked = [each for each in queues if not each.obstacle]
    results = {each.name: result for each, result in _with_each(endpoint, asked, count)}
    counted = []
    for each in queues:
        result = results.get(each.name, each)
        if isinstance(result, Candidate):
            counted.append(result)
        elif not isinstance(result, QueueNotFound):
            counted.append(replace(each, obstacle=_sentence(result)))
    return counted


def _queue(queue: QueueInfo) -> Candidate:
    obstacle = _unnameable(queue.name)
    if queue.exclusive:
        obstacle = "it belongs to another connection (exclusive), and is deleted with it"
    return Candidate(
        "queue",
        queue.name,
        queue.type,
        unacknowledged=queue.messages_unacknowledged,
        consumers=queue.consumers,
        obstacle=obstacle,
    )


def _exchange(exchange: ExchangeInfo) -> Candidate:
    return Candidate("exchange", exchange.name, exchange.type, obstacle=_unnameable(exchange.name))


def _unnameable(name: str) -> str:
    """Return why AMQP cannot name it: the broker drops line breaks, and would take another one."""
    return "its name has a line break, so AMQP cannot name it" if {"\r", "\n"} & set(name) else ""


def _check_name(name: str, *, may_be_long: bool) -> None:
    if _unnameable(name):
        raise UsageError(f"{name!r} is no name for a queue.", "A name has no line breaks.")
    if not may_be_long:
        require_name("queue", name)


def _parts(word: str) -> list[str]:
    parts = [part for part in (each.strip() for each in word.split(",")) if part]
    for part in parts:
        _check_name(part, may_be_long=False)
    if not parts:
        raise UsageError(
            f"There is no name between the commas of {word!r}.",
            f"If it is the whole name of a queue: --queue {word!r}",
        )
    return parts


def _is_built_in(exchange: str) -> bool:
    return not exchange or exchange.startswith("amq.")


def _stands_alone(word: str) -> UsageError:
    return UsageError(
        f"{word!r} cannot be combined with names of queues.",
        f"If you mean a queue of this name: --queue {word}",
    )


# --- doing -------------------------------------------------------------------------------------


def _with_each(
    endpoint: Endpoint,
    candidates: Iterable[Candidate],
    act: Callable[[Any, Candidate], _Result],
) -> Iterator[tuple[Candidate, _Result | RmqbenchError]]:
    """Do something with each over few connections; yield its result or its error.

    An error ends the connection, and is that of one candidate alone. Only if the first connection
    cannot be opened is that raised; later it is the error of all that are left, and so is a broker
    that keeps silent.
    """
    left = deque(candidates)
    answered, silences = False, 0
    while left:
        begun = False
        try:
            with admin(endpoint, name="rmqbench cleanup", timeout_s=_LIMIT_S) as channel:
                begun, started = True, time.monotonic()
                while left and channel.is_open and time.monotonic() < started + _TURN_S:
                    result = act(channel, left[0])
                    answered, silences = True, 0
                    yield left.popleft(), result
        except RmqbenchError as error:
            if not begun and not answered:
                raise
            answered = True
            silences = silences + 1 if isinstance(error, DeadlineExceeded) else 0
            yield left.popleft(), error
            while left and (not begun or silences == _SILENCES):
                yield left.popleft(), error


def _reason(each: Candidate, error: RmqbenchError) -> str:
    if each.kind == "exchange" and getattr(error.__cause__, "reply_code", None) == 406:
        return "it has a binding now"
    unsure = isinstance(error, ConnectionLost | DeadlineExceeded)
    return _sentence(error) + ("; whether it was deleted is not known" if unsure else "")


def _sentence(error: RmqbenchError) -> str:
    return error.what.rstrip(".")
