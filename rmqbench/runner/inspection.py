"""What the Management API says of a run's queues where AMQP says nothing: policies, who holds what.

Neither decides that a run passes or that anything is lost: policies bound what may have been
removed, and what somebody holds is not called lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from rmqbench.broker import Broker
from rmqbench.errors import QueueNotFound, RmqbenchError
from rmqbench.faults.effects import limit_policy
from rmqbench.management.answers import read_channels, read_queues
from rmqbench.run_directory.journal import Entry, PoliciesFound
from rmqbench.runner.isolation import Place
from rmqbench.text import visible_line
from rmqbench.verdict.evidence import Drain

__all__ = ["Inspection"]

_FIGURES_S = 7.0  # the broker renews its figures every 5 s
_NAMED = 3


class Inspection:
    """Looks at the queues of one run's place; ``write`` takes which policies they have."""

    def __init__(self, broker: Broker, place: Place, write: Callable[[Entry], None]) -> None:
        self._broker = broker
        self._virtual_host = place.endpoint.virtual_host
        self._queues = place.topology.queue_names
        self._write = write
        self._known: dict[str, PoliciesFound] = {}

    def note_policies(self) -> None:
        """Write down which policies the queues have now, as far as the API tells them."""
        with suppress(RmqbenchError):
            for found in self._policies():
                if self._known.get(found.queue) != found:
                    self._known[found.queue] = found
                    self._write(found)

    def _policies(self) -> Iterator[PoliciesFound]:
        with self._broker.management as management:
            for name in self._queues:
                try:
                    listed = [management.queue(name, self._virtual_host)]
                except QueueNotFound:
                    continue
                for queue in read_queues(listed):
                    policies = [
                        f"{kind} {visible_line(policy)}"
                        for kind, policy in (
                            ("policy", queue.policy),
                            ("operator policy", queue.operator_policy),
                        )
                        if policy is not None
                    ]
                    # What a fault of ours has set is on record as its act.
                    if policies and queue.policy != limit_policy(name) and queue.policy_definition:
                        definition = dict(queue.policy_definition)
                        yield PoliciesFound(
                            queue=name, name=" and ".join(policies), definition=definition
                        )

    def look_for_holders(self, queue: str, missing: int, proof: Drain) -> Drain:
        """Return what the proof that a queue is empty comes to, where others may use that queue.

        It is none where somebody who does not consume it holds messages, or may hold those that
        are ``missing``: these are not lost then.
        """
        if not missing:
            return proof
        try:
            held = self._unacknowledged(queue)
            if held == 0:
                return proof
            if held is None:
                why = f"{missing} messages are missing, and the API does not say who holds any"
            else:
                why = f"{held} messages are unacknowledged{self._holders()}"
        except RmqbenchError as error:
            why = (
                f"{missing} messages are missing, and whether somebody holds them cannot be asked "
                f"({error.what})"
            )
        return replace(proof, proven=False, detail=why)

    def _unacknowledged(self, queue: str) -> int | None:
        """Return how many messages of a queue are unacknowledged, once its figures are new.

        The old ones may still count what our own consumers held, or not yet what others hold.
        """
        time.sleep(_FIGURES_S)
        with self._broker.management as management:
            figures = read_queues([management.queue(queue, self._virtual_host)])
        return figures[0].messages_unacknowledged if figures else None

    def _holders(self) -> str:
        """Name the channels that hold messages, as far as the API tells them."""
        with self._broker.management as management:
            channels = read_channels(management.channels(self._virtual_host))
        holding = [each for each in channels if each.messages_unacknowledged]
        if not holding:
            return ""
        named = ", ".join(visible_line(each.name) for each in holding[:_NAMED])
        return f", held by {named}" + (" and others" if len(holding) > _NAMED else "")
