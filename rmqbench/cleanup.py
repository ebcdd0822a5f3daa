"""Queues and exchanges that are to go: find them as a value, then delete just these.

Between the two a person may think for as long as they like: what has appeared since stays, what
is gone is no error, and a queue that was found idle and is not any more is kept. Ready messages
and consumers come from a passive declare and are exact, but for streams, whose figures lag by some
seconds; unacknowledged messages are known to the Management API alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from rmqbench.amqp.connection import admin
from rmqbench.amqp.topology import is_name
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

__all__ = ["Deed", "Found", "Plan", "Scope", "delete", "find", "require_named", "scope", "unused"]

Scope = Literal["all", "exchanges", "queues"]

_LIMIT_S = 10.0
_TURN_S = 5.0  # one connection is used for so long, so that what is begun last has time too
_SILENCES = 3  # so many in a row, and no more is asked of this broker
_WORDS = ("all", "exchanges")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Found:
    """A queue or exchange that is there. Counts are of queues; None is not known.

    ``trouble`` says why it will be kept, and is empty where nothing is in the way.
    """

    kind: Literal["queue", "exchange"]
    name: str
    type: str | None = None
    ready: int | None = None
    unacknowledged: int | None = None
    consumers: int | None = None
    trouble: str = ""

    @property
    def holds_messages(self) -> bool:
        """Tell whether messages go with it. A stream counts as holding some: its figures lag."""
        return bool(self.ready or self.unacknowledged) or self.type == "stream"

    @property
    def is_idle(self) -> bool:
        """Tell whether it holds nothing and serves nobody."""
        return not self.holds_messages and not self.consumers

    def __str__(self) -> str:
        """Name it."""
        return f"{self.kind} {self.name!r}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found: queues first. ``notes`` are sentences for a person."""

    endpoint: Endpoint
    scope: Scope
    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()

    @property
    def goes(self) -> tuple[Found, ...]:
        """Give what :func:`delete` will delete."""
        return tuple(each for each in self.found if not each.trouble)

    @property
    def stays(self) -> tuple[Found, ...]:
        """Give what will be kept, and why."""
        return tuple(each for each in self.found if each.trouble)


@dataclass(frozen=True, slots=True)
class Deed:
    """What became of one thing; ``reason`` says why it was kept."""

    what: Found
    outcome: Literal["deleted", "gone", "kept"]
    reason: str = ""


def scope(words: Sequence[str], exact: Sequence[str] = ()) -> Scope:
    """Say what is meant: ``all`` and ``exchanges`` stand alone, everything else names queues.

    ``exact`` are names of queues come what may. Raises UsageError.
    """
    if not words and not exact:
        raise UsageError("Nothing is named.", "Name queues, or say 'all' or 'exchanges'.")
    for word in _WORDS:
        if word in words:
            if len(words) > 1 or exact:
                raise _stands_alone(word)
            return "all" if word == "all" else "exchanges"
    return "queues"


def require_named(endpoint: Endpoint, wanted: Scope, name: str | None) -> None:
    """Raise UsageError where all of a broker elsewhere was asked for without naming its host.

    A name that was given must be right in any case.
    """
    host = endpoint.host
    right = f"--yes-really {host}"
    if name is not None and name != host:
        raise UsageError(
            f"--yes-really names {name!r}, and the broker's host is {host!r}; nothing was deleted.",
            f"If you mean this one: {right}",
        )
    if wanted == "all" and name is None and not is_loopback(host):
        raise UsageError(
            f"The broker at {host!r} is not on this machine: everything in virtual host "
            f"{endpoint.virtual_host!r} is not deleted by --yes or an answer alone.",
            f"If you mean it: {right}. To look only: --dry-run.",
        )


def find(endpoint: Endpoint, words: Sequence[str], exact: Sequence[str] = ()) -> Plan:
    """Find what is meant (see :func:`scope`); nothing is changed.

    A word with commas is one name where there is such a queue, and several otherwise. Raises
    QueueNotFound with all names that are not there, ManagementUnavailable where ``all`` or
    ``exchanges`` cannot be known, and what hinders a connection.
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
            f"Only the Management API can list what there is, for {wanted!r}: {error.what}",
            f"{error.remedy} Or name the queues: that needs no Management API.",
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


def delete(plan: Plan) -> Iterator[Deed]:
    """Delete what was found, and say of each what became of it; one failure stops nothing.

    A queue found idle is deleted only if it still is: a classic one looks and is deleted in one
    step; of the others, which cannot, the counts are read just before. An exchange found unused is
    deleted only if no binding leads from it by now.
    """
    yield from (Deed(each, "kept", each.trouble) for each in plan.stays)
    two_steps = {
        each.name
        for each in plan.goes
        if each.kind == "queue" and each.type not in (None, "classic")
    }

    def act(channel: Any, each: Found) -> str:
        if each.kind == "exchange":
            channel.exchange_declare(each.name, passive=True)
            channel.exchange_delete(each.name, if_unused=plan.scope == "exchanges")
            return ""
        now = channel.queue_declare(each.name, passive=True).method
        if not each.is_idle:
            channel.queue_delete(each.name)
        elif now.message_count or now.consumer_count:
            return _not_idle(now.message_count, now.consumer_count)
        else:
            one_step = each.name not in two_steps
            channel.queue_delete(each.name, if_empty=one_step, if_unused=one_step)
        return ""

    def again(each: Found, error: RmqbenchError) -> bool:
        """Take two steps with a queue of unknown type that cannot do it in one."""
        if _reply_code(error) != 540 or each.kind != "queue" or each.name in two_steps:
            return False
        two_steps.add(each.name)
        return True

    for each, result in _with_each(plan.endpoint, plan.goes, act, again):
        if isinstance(result, RmqbenchError) and isinstance(result, QueueNotFound):
            yield Deed(each, "gone")
        elif isinstance(result, RmqbenchError):
            yield Deed(each, "kept", _reason(each, result))
        else:
            yield Deed(each, "kept" if result else "deleted", result)


# --- finding -----------------------------------------------------------------------------------


def _find_all(endpoint: Endpoint, management: Management) -> Plan:
    vhost = endpoint.virtual_host
    listed = [_queue(each) for each in read_queues(management.queues(vhost))]
    exchanges = [
        _exchange(each)
        for each in read_exchanges(management.exchanges(vhost))
        if not _is_built_in(each.name)
    ]
    return Plan(endpoint, "all", (*_counted(endpoint, listed), *exchanges))


def _find_unused(endpoint: Endpoint, management: Management) -> Plan:
    vhost = endpoint.virtual_host
    exchanges = unused(
        read_exchanges(management.exchanges(vhost)),
        read_bindings(management.bindings(vhost)),
        read_queues(management.queues(vhost)),
        read_policies(management.policies(vhost)),
    )
    return Plan(endpoint, "exchanges", tuple(map(_exchange, exchanges)))


def _find_named(endpoint: Endpoint, words: Sequence[str], exact: Sequence[str]) -> Plan:
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
        for each in _counted(endpoint, [known.get(n, Found("queue", n)) for n in candidates])
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
            "Check the name and the virtual host: rmqbench monitor shows what there is.",
        )
    return Plan(endpoint, "queues", tuple(there[name] for name in wanted), tuple(notes))


def _known(endpoint: Endpoint) -> tuple[dict[str, Found], list[str]]:
    """Ask for what only the Management API knows, which named queues can do without."""
    try:
        with Management(endpoint) as management:
            queues = read_queues(management.queues(endpoint.virtual_host))
    except UsageError:
        raise
    except RmqbenchError as error:
        return {}, [f"Unacknowledged messages are not known: {_sentence(error)}."]
    return {each.name: _queue(each) for each in queues}, []


def _counted(endpoint: Endpoint, queues: Sequence[Found]) -> list[Found]:
    """Count each queue exactly; those that are not there any more are left out."""

    def count(channel: Any, each: Found) -> Found:
        now = channel.queue_declare(each.name, passive=True).method
        return replace(each, ready=int(now.message_count), consumers=int(now.consumer_count))

    asked = [each for each in queues if not each.trouble]
    results = {each.name: result for each, result in _with_each(endpoint, asked, count)}
    counted = []
    for each in queues:
        result = results.get(each.name, each)
        if isinstance(result, Found):
            counted.append(result)
        elif not isinstance(result, QueueNotFound):
            counted.append(replace(each, trouble=_sentence(result)))
    return counted


def _queue(queue: QueueInfo) -> Found:
    trouble = _unspeakable(queue.name)
    if queue.exclusive:
        trouble = "it belongs to another connection alone (exclusive), and goes with it"
    return Found(
        "queue",
        queue.name,
        queue.type,
        unacknowledged=queue.messages_unacknowledged,
        trouble=trouble,
    )


def _exchange(exchange: ExchangeInfo) -> Found:
    return Found("exchange", exchange.name, exchange.type, trouble=_unspeakable(exchange.name))


def _unspeakable(name: str) -> str:
    """Say that AMQP cannot name it: the broker drops line breaks, and would take another one."""
    return "its name has a line break, which AMQP cannot say" if {"\r", "\n"} & set(name) else ""


def _check_name(name: str, *, may_be_long: bool) -> None:
    if not name or _unspeakable(name):
        raise UsageError(f"{name!r} is no name of a queue.", "It is empty, or has a line break.")
    if not may_be_long and not is_name(name):
        raise UsageError(f"{name!r} is no name of a queue.", "A name has at most 255 bytes, UTF-8.")


def _parts(word: str) -> list[str]:
    parts = [part for part in (each.strip() for each in word.split(",")) if part]
    for part in parts:
        _check_name(part, may_be_long=False)
    if not parts:
        raise UsageError(f"{word!r} names no queue.", f"Or do you mean --queue {word!r}?")
    return parts


def _is_built_in(exchange: str) -> bool:
    return not exchange or exchange.startswith("amq.")


def _stands_alone(word: str) -> UsageError:
    return UsageError(
        f"{word!r} stands alone: it cannot go with names of queues.",
        f"A queue of this name is --queue {word}.",
    )


# --- doing -------------------------------------------------------------------------------------


def _with_each(
    endpoint: Endpoint,
    all_of_them: Iterable[Found],
    act: Callable[[Any, Found], _Result],
    again: Callable[[Found, RmqbenchError], bool] = lambda *_: False,
) -> Iterator[tuple[Found, _Result | RmqbenchError]]:
    """Do something about each, over few connections; give its result or its error.

    An error costs the connection, and concerns the one alone. Only where none comes about in the
    beginning is that raised; later it is the error of all that are left, and so is a broker's
    silence.
    """
    left = deque(all_of_them)
    answered, silences = False, 0
    while left:
        begun = False
        try:
            with admin(endpoint, name="rmqbench cleanup", timeout_s=_LIMIT_S) as channel:
                begun, started = True, time.monotonic()
                while left and time.monotonic() < started + _TURN_S:
                    result = act(channel, left[0])
                    answered, silences = True, 0
                    yield left.popleft(), result
        except RmqbenchError as error:
            if begun and again(left[0], error):
                continue
            if not begun and not answered:
                raise
            answered = True
            silences = silences + 1 if isinstance(error, DeadlineExceeded) else 0
            yield left.popleft(), error
            while left and (not begun or silences == _SILENCES):
                yield left.popleft(), error


def _reason(each: Found, error: RmqbenchError) -> str:
    code = _reply_code(error)
    if code == 406 and each.kind == "queue" and each.is_idle:
        return "it holds messages or has a consumer by now"
    if code == 406 and each.kind == "exchange":
        return "it has a binding by now"
    unsure = isinstance(error, ConnectionLost | DeadlineExceeded)
    return _sentence(error) + ("; whether it was deleted is not known" if unsure else "")


def _not_idle(ready: int, consumers: int) -> str:
    holds = f"holds {ready:,} message{'' if ready == 1 else 's'}" if ready else ""
    serves = f"has {consumers:,} consumer{'' if consumers == 1 else 's'}" if consumers else ""
    return f"it {' and '.join(part for part in (holds, serves) if part)} by now"


def _reply_code(error: RmqbenchError) -> int | None:
    """Give AMQP's code for what the broker refused."""
    code = getattr(error.__cause__, "reply_code", None)
    return code if isinstance(code, int) else None


def _sentence(error: RmqbenchError) -> str:
    return error.what.rstrip(".")
