"""What the Management API says of a run's queues where AMQP says nothing: policies, who holds what.

Neither decides that a run passes or that anything is lost: policies bound what may have been
removed, and what somebody holds is not called lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from rmqbench.endpoint import Endpoint
from rmqbench.errors import DeadlineExceeded, QueueNotFound, RmqbenchError
from rmqbench.management.answers import QueueInfo, read_channels, read_queues
from rmqbench.management.client import Management
from rmqbench.run_directory.journal import PoliciesFound
from rmqbench.text import visible
from rmqbench.waiting import wait_until

__all__ = ["held_by_somebody", "policies_found"]

_FIGURES_S = 7.0  # the broker renews its figures every 5 s
_NAMED = 3


def policies_found(
    management: Management, endpoint: Endpoint, queues: Iterable[str]
) -> Iterator[PoliciesFound]:
    """Yield the policies of these queues, as far as the API tells them."""
    for name in queues:
        with suppress(RmqbenchError):
            (queue,) = read_queues([management.queue(name, endpoint.virtual_host)])
            names = [
                f"{kind} {visible(policy)}"
                for kind, policy in (
                    ("policy", queue.policy),
                    ("operator policy", queue.operator_policy),
                )
                if policy is not None
            ]
            if names and queue.policy_definition:
                yield PoliciesFound(
                    queue=name,
                    name=" and ".join(names),
                    definition=dict(queue.policy_definition),
                )


def held_by_somebody(
    management: Callable[[], Management], endpoint: Endpoint, queue: str, missing: int
) -> str | None:
    """Say why ``missing`` messages of an empty queue may not be lost; None where they are.

    They are not where somebody holds messages unacknowledged, and may not be where nobody can say.
    """
    figures: list[QueueInfo] = []
    virtual_host = endpoint.virtual_host

    def somebody_holds_some() -> bool:
        with management() as api:
            figures[:] = read_queues([api.queue(queue, virtual_host)])
        return bool(figures and figures[0].messages_unacknowledged)

    try:
        with suppress(DeadlineExceeded):
            wait_until(somebody_holds_some, _FIGURES_S, "somebody to hold messages", every_s=0.5)
        held = figures[0].messages_unacknowledged if figures else None
        if held == 0:
            return None
        if held is None:
            return f"{missing} messages are missing, and its API does not say who holds any"
        return f"{held} messages are unacknowledged{_holders(management, virtual_host)}"
    except QueueNotFound:
        return None
    except RmqbenchError as error:
        return (
            f"{missing} messages are missing, and whether somebody holds them cannot be asked "
            f"({error.what})"
        )


def _holders(management: Callable[[], Management], virtual_host: str) -> str:
    """Name the channels that hold messages, as far as the API tells them."""
    with management() as api:
        channels = read_channels(api.channels(virtual_host))
    holding = [each for each in channels if each.messages_unacknowledged]
    if not holding:
        return ""
    named = ", ".join(visible(each.name) for each in holding[:_NAMED])
    return f", held by {named}" + (" and others" if len(holding) > _NAMED else "")
