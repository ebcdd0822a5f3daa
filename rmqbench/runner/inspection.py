"""What the Management API says of a run's queues where AMQP says nothing: policies, who holds what.

Neither decides that a run passes or that anything is lost: policies bound what may have been
removed, and what somebody holds is not called lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from rmqbench.amqp.topology import Queue
from rmqbench.broker import Broker
from rmqbench.errors import AccessRefused, QueueNotFound, RmqbenchError
from rmqbench.faults.effects import limit_policy
from rmqbench.management.answers import (
    PolicyInfo,
    read_channels,
    read_policies,
    read_queues,
    whole_number,
)
from rmqbench.management.client import Management
from rmqbench.run_directory.journal import Entry, PoliciesFound
from rmqbench.runner.isolation import Place
from rmqbench.text import counted, visible_line
from rmqbench.verdict.evidence import Drain

__all__ = ["Inspection"]

_FIGURES_S = 7.0  # the broker renews its figures every 5 s; a busy one is late
_LATE_FIGURES = 10  # how often it is asked again, a second apart
_NAMED = 3


class Inspection:
    """Looks at the queues of one run's place; ``write`` takes which policies they have."""

    def __init__(self, broker: Broker, place: Place, write: Callable[[Entry], None]) -> None:
        self._broker = broker
        self._virtual_host = place.endpoint.virtual_host
        self._queues = place.topology.all_queues
        self._write = write
        self._known: dict[tuple[str, str], PoliciesFound] = {}

    def note_policies(self) -> None:
        """Write down which policies the queues have now, as far as the API tells them."""
        with suppress(RmqbenchError), self._broker.management as management:
            try:
                found = list(self._listed(management, self._virtual_host))
            except (AccessRefused, re.error):
                found = list(self._shown(management))
            for each in found:
                if self._known.get((each.queue, each.name)) != each:
                    self._known[each.queue, each.name] = each
                    self._write(each)

    def look_for_policies_in(self, virtual_host: str) -> tuple[str, ...]:
        """Return in sentences which policies of another virtual host the queues would have there.

        Nothing where the API does not tell them.
        """
        with suppress(RmqbenchError, re.error), self._broker.management as management:
            would = [each.name for each in self._listed(management, virtual_host)]
            return tuple(
                f"The {name} of virtual host {visible_line(repr(virtual_host))} does not apply in "
                "the run's own virtual host. To test the queues with it, run in place "
                "(--in-place, in_place=True)."
                for name in dict.fromkeys(would)
            )
        return ()

    def _listed(self, management: Management, virtual_host: str) -> Iterator[PoliciesFound]:
        """Yield the policies by the lists of them, which are up to date at any time."""
        lists = {
            "policy": read_policies(management.policies(virtual_host)),
            "operator policy": read_policies(management.operator_policies(virtual_host)),
        }
        for queue in self._queues:
            for kind, policies in lists.items():
                matching = [each for each in policies if _applies(each, queue)]
                highest = max((_priority(each) for each in matching), default=0)
                for each in matching:
                    # Of equal ones RabbitMQ takes any. What a fault of ours has set is on record
                    # as its act.
                    if _priority(each) == highest and each.name != limit_policy(queue.name):
                        yield PoliciesFound(
                            queue=queue.name,
                            name=f"{kind} {visible_line(each.name or '')}",
                            definition=dict(each.definition),
                        )

    def _shown(self, management: Management) -> Iterator[PoliciesFound]:
        """Yield the policies by the queues' figures, which any user may see: a few seconds old."""
        for queue in self._queues:
            with suppress(QueueNotFound):
                for each in read_queues([management.queue(queue.name, self._virtual_host)]):
                    names = [
                        f"{kind} {visible_line(name)}"
                        for kind, name in (
                            ("policy", each.policy),
                            ("operator policy", each.operator_policy),
                        )
                        if name is not None
                    ]
                    if names and each.policy != limit_policy(queue.name):
                        yield PoliciesFound(
                            queue=queue.name,
                            name=" and ".join(names),
                            definition=dict(each.policy_definition),
                        )

    def look_for_holders(self, queue: str, missing: int, proof: Drain) -> Drain:
        """Return what the proof that a queue is empty comes to, where others may use that queue.

        It is none where somebody who does not consume it holds messages, or may hold those that
        are ``missing``: these are not lost then.
        """
        if not missing:
            return proof
        missed = counted(missing, "message is", "messages are")
        try:
            held = self._unacknowledged(queue)
            if held == 0:
                return proof
            if held is None:
                why = f"{missed} missing, and the API does not say who holds any"
            else:
                holding = counted(held, "message is", "messages are")
                why = f"{holding} unacknowledged{self._holders()}"
        except RmqbenchError as error:
            why = (
                f"{missed} missing, and whether somebody holds {'it' if missing == 1 else 'them'} "
                f"cannot be asked, nor which policies apply ({error.what})"
            )
        return replace(proof, proven=False, detail=why)

    def kept_dead_letters(self, queue: str, patience_s: float, none_s: float = 0.0) -> int | None:
        """Return how many dead letters a queue keeps, when their number has long been the same.

        That it keeps none is believed when it was said for ``none_s``: the figures of a busy broker
        may be of a time at which it had none yet. None where the API does not tell it.
        """
        time.sleep(_FIGURES_S)
        patience_s = max(patience_s, _FIGURES_S)
        kept, since, unanswered = -1, time.monotonic(), 0
        while True:
            told = self._ask_for_dead_letters(queue)
            unanswered = unanswered + 1 if told is None else 0
            if unanswered > _LATE_FIGURES:
                return None
            if told is not None:
                now = time.monotonic()
                if told < kept or (kept == 0 and told):
                    since = now
                if now - since >= (patience_s if told else none_s):
                    return told
                kept = told
            time.sleep(1.0)

    def _ask_for_dead_letters(self, queue: str) -> int | None:
        try:
            with self._broker.management as management:
                figures = management.queue(queue, self._virtual_host)
        except QueueNotFound:
            return 0
        except RmqbenchError:
            return None
        return whole_number(figures.get("messages_dlx"))

    def _unacknowledged(self, queue: str) -> int | None:
        """Return how many messages of a queue are unacknowledged, once its figures are new.

        The old ones may still count what our own consumers held, or not yet what others hold: any
        but 0 are asked for again for a while, and so are those that are not there yet.
        """
        time.sleep(_FIGURES_S)
        held = self._ask_for_unacknowledged(queue)
        for _ in range(_LATE_FIGURES):
            if held == 0:
                break
            time.sleep(1.0)
            held = self._ask_for_unacknowledged(queue)
        return held

    def _ask_for_unacknowledged(self, queue: str) -> int | None:
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


def _applies(policy: PolicyInfo, queue: Queue) -> bool:
    """Whether a policy is for a queue; raise re.error where its pattern cannot be read here."""
    own = "quorum_queues" if queue.kind == "quorum" else "classic_queues"
    to = policy.apply_to in {None, "all", "queues", own}
    pattern = policy.pattern or ""
    if "[[:" in pattern:
        raise re.error("POSIX classes mean something else here", pattern)
    return to and re.search(pattern, queue.name) is not None


def _priority(policy: PolicyInfo) -> int:
    return -1 if policy.priority is None else policy.priority
