"""Causes that a run's evidence shows for a finding: each a function that yields sentences.

A cause is named only where the evidence has it. Which finding has which causes, in which order, is
in :mod:`rmqbench.explaining.meanings`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rmqbench.explaining.deliveries import deliveries_of
from rmqbench.explaining.facts import Break, Facts
from rmqbench.run_directory.journal import Interrupted
from rmqbench.text import counted
from rmqbench.verdict.evidence import Removal, Restart
from rmqbench.verdict.findings import Effect, Finding, FindingName

__all__ = ["Cause"]

Cause = Callable[[Facts, Finding], Iterator[str]]
"""Yields sentences on what the evidence shows, none where it shows nothing of that kind."""

_YOUNG_NS = 3_000_000_000  # a quorum queue this young may be forgotten when its node dies
_DELETIONS = ("it was deleted", "a deletion")
_BLOCKED = "The broker blocks publishers"  # how a producer begins to say that it has to wait
_BROKEN_PROTOCOL = (
    FindingName.CONTRADICTED,
    FindingName.CORRUPTED,
    FindingName.DUPLICATE,
    FindingName.REPEATED,
    FindingName.PHANTOM,
)
_ALTERED = "something between rmqbench and the broker alters AMQP traffic (a proxy, a middlebox)"


# --- how the run published and consumed -----------------------------------------------------------


def automatic_acknowledgement(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that the broker forgot what it sent, where a consumer was cut off."""
    queue = facts.queue_of(finding)
    if queue and queue.auto_ack and queue.breaks:
        yield (
            "automatic acknowledgement (auto_ack): RabbitMQ forgets a message as it sends it, and "
            f"{_breaks_in_words(facts, queue.breaks)}. What was on its way is gone."
        )


def no_confirms(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that nobody waited for confirms, where a connection or the node broke."""
    if facts.confirms:
        return
    broken = [_breaks_in_words(facts, facts.producer_breaks)] if facts.producer_breaks else []
    broken += [facts.restart_in_words(each) for each in _restarts_after_sending(facts, finding)[:1]]
    if broken:
        yield (
            "no publisher confirms (confirms=False): nobody knows what the broker had taken when "
            f"{broken[0]}. What was written counts as confirmed here."
        )


def transient_messages(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that messages were not persistent, where the node restarted after they were sent."""
    queue, restarts = facts.queue_of(finding), _restarts_after_sending(facts, finding)
    if (
        queue
        and not facts.recipe.persistent
        and restarts
        and queue.kind not in {"quorum", "stream"}
    ):
        yield (
            "transient messages (persistent=False) do not outlive their node: "
            f"{_with_count(facts, finding, restarts)}."
        )


def not_durable(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that a queue was not durable, where the node restarted."""
    queues = [queue] if (queue := facts.queue_of(finding)) else [*facts.queues.values()]
    restarts = _restarts_after_sending(facts, finding)
    for queue in queues:
        if not queue.durable and restarts:
            yield (
                "a queue that is not durable is deleted with its node, and so was "
                f"{queue.record.name}: "
                f"{facts.restart_in_words(restarts[0])}."
            )
            return


def newborn_queue(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that a quorum queue was very young when its node died."""
    queue, since_ns = facts.queue_of(finding), facts.declared_ns
    if queue is None or queue.kind != "quorum" or since_ns is None:
        return
    for restart in facts.restarts:
        if restart.before_ns > since_ns and restart.after_ns - since_ns <= _YOUNG_NS:
            age_s = max(0, restart.after_ns - since_ns) / 1e9
            yield (
                f"a newborn quorum queue: it was declared {age_s:.1f} s before the node died. A "
                "queue that young may come back empty."
            )
            return


def power_cut(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that the power was cut of a queue whose confirms do not wait for the disk."""
    queue = facts.queue_of(finding)
    cuts = facts.restarts_by("power-cut")
    restarts = [each for each in _restarts_after_sending(facts, finding) if each in cuts]
    if queue and queue.kind != "quorum" and facts.recipe.persistent and restarts:
        kind = "stream" if queue.kind == "stream" else "classic queue"
        yield (
            f"a power cut: {_with_count(facts, finding, restarts)}. RabbitMQ confirms for a {kind} "
            "what the kernel has, which writes it to the disk within half a minute; for a quorum "
            "queue it confirms what is on the disk."
        )


def gone_queue(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that a queue did not exist any more."""
    queues = [queue] if (queue := facts.queue_of(finding)) else [*facts.queues.values()]
    for queue in queues:
        name = queue.record.name
        asked = facts.drains(name)
        if asked and not queue.drain.there:
            yield (
                f"queue {name} does not exist any more: it was gone when it was asked at "
                f"{facts.at(asked[-1].time_ns)}, with all that it had held."
            )
            return


def restarted_node(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that the node restarted after some of what the finding is about was sent.

    Not where another cause says it already.
    """
    said = (transient_messages, not_durable, newborn_queue, power_cut)
    if any(True for cause in said for _ in cause(facts, finding)):
        return
    if restarts := _restarts_after_sending(facts, finding):
        yield f"a restart: {_with_count(facts, finding, restarts)}."


def restart_in_between(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield the restart before which an acknowledgement may not have reached the disk."""
    if finding.effect is Effect.ALLOWED and facts.restarts:
        restart = facts.restart_in_words(facts.restarts[0])
        yield f"acknowledgements may not have reached the disk when {restart}."


# --- connections --------------------------------------------------------------------------------


def broken_consumer(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that a consumer was cut off from what it had not acknowledged."""
    queue = facts.queue_of(finding)
    if queue and queue.breaks and not queue.auto_ack:
        yield (
            f"{_breaks_in_words(facts, queue.breaks)}. What it had not acknowledged went back to "
            "the queue."
        )


def consumer_gave_up(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield why a consumer of the queue ended before its work was done."""
    queue = facts.queue_of(finding)
    for consumer in queue.record.consumers if queue else ():
        if consumer.end is not None and consumer.end.error:
            when = facts.at(consumer.end.time_ns)
            yield f"{consumer.name} gave up at {when}: {consumer.end.error}"
            return


def broken_publisher(facts: Facts, _: Finding) -> Iterator[str]:
    """Yield that a producer was cut off, and whether it publishes again what is unknown then."""
    final = [each.end.error for each in facts.record.producers if each.end and each.end.error]
    breaks = [
        each
        for each in facts.producer_breaks
        if not (each.why and any(error.startswith(each.why) for error in final))
    ]
    if breaks:
        again = "" if facts.publish_again else " It does not publish again what is unknown then."
        yield f"{_breaks_in_words(facts, breaks)}.{again}"


def producer_gave_up(facts: Facts, _: Finding) -> Iterator[str]:
    """Yield why a producer ended before its work was done."""
    for producer in facts.record.producers:
        if producer.end is not None and producer.end.error:
            when = facts.at(producer.end.time_ns)
            yield f"{producer.name} gave up at {when}: {producer.end.error}"
            return


def blocked_publishers(facts: Facts, _: Finding) -> Iterator[str]:
    """Yield that the broker kept publishers waiting."""
    for producer in facts.record.producers:
        for each in producer.of(Interrupted):
            if each.why.startswith(_BLOCKED):
                fault = facts.fault_before(each.time_ns)
                since = f"{facts.at(each.time_ns)}{fault}"
                yield f"{producer.name} was kept waiting from {since} on: {each.why}"
                return


# --- what a queue was told ------------------------------------------------------------------------


def removals(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield each cause on record that takes messages out of the queue."""
    queue = facts.queue_of(finding)
    if queue is None:
        return
    when = {each.cause: each.time_ns for each in facts.removals if each.queue == finding.queue}
    for removal in queue.evidence.effective_removals:
        yield _removal_in_words(facts, removal, when.get(removal.cause))


def exceeded_removals(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield each setting that removes messages, where nothing known made it remove so many."""
    queue = facts.queue_of(finding)
    for removal in queue.evidence.removals if queue else ():
        if removal.at_most is not None and "default of RabbitMQ" not in removal.cause:
            yield (
                f"{removal.cause}: by what the run knows it removed {removal.at_most} at most; "
                "others who use the queue can have made it remove more."
            )


def deleted_queue(facts: Facts, _: Finding) -> Iterator[str]:
    """Yield that the run itself deleted a queue: nothing can be routed to it any more."""
    for each in facts.removals:
        if each.queue in facts.queues and each.cause.startswith(_DELETIONS):
            when = facts.at(each.time_ns)
            yield f"queue {each.queue} was deleted at {when}, by the run itself."
            return


def rejecting_queue(facts: Facts, _: Finding) -> Iterator[str]:
    """Yield that a queue rejects what exceeds its limit."""
    for name, queue in facts.queues.items():
        overflow = queue.setting("overflow")
        limits = (queue.setting("max-length"), queue.setting("max-length-bytes"))
        for limit in limits:
            if limit and overflow and str(overflow[1]).startswith("reject-publish"):
                yield (
                    f"queue {name} rejects what exceeds its limit: {limit[0]}={limit[1]} with "
                    f"{overflow[0]}={overflow[1]}."
                )
                return


def priorities(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that a queue has priorities."""
    queue = facts.queue_of(finding)
    if queue and (found := queue.setting("max-priority")):
        yield (
            f"queue {finding.queue} has priorities ({found[0]}={found[1]}): they go before the "
            "order of sending."
        )


def dead_letters(facts: Facts, _: Finding) -> Iterator[str]:
    """Yield that a queue of the run passes on what it drops."""
    for name, queue in facts.queues.items():
        if found := queue.setting("dead-letter-exchange"):
            yield f"queue {name} passes on what it drops or rejects ({found[0]}={found[1]!r})."
            return


# --- what the messages themselves show ------------------------------------------------------------


def as_reported(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield what the workers wrote down of the first messages concerned."""
    details = Counter(each.detail for each in finding.messages if each.detail)
    if not details:
        return
    if finding.name is FindingName.CORRUPTED:
        named = sum(details.values())
        places = ", ".join(
            detail if named == 1 else f"{detail} (in {count} of the first {named})"
            for detail, count in details.items()
        )
        yield f"what differs is {places}. {_who_changes(details)}"
    elif finding.name is FindingName.MISROUTED:
        yield (
            f"it came by {next(iter(details))}: a shovel, a federation link, a dead-letter "
            "exchange or a program publishes it again."
        )
    elif finding.name is FindingName.FOREIGN:
        yield f"somebody else publishes to this queue: {next(iter(details))}."
    elif finding.name is FindingName.CONTRADICTED:
        yield f"what was seen is: {next(iter(details))}. RabbitMQ does not do that by itself."


def _who_changes(details: Counter[str]) -> str:
    if any("property" in each or "header" in each for each in details):
        return "Plugins, interceptors, shovels and proxies can set properties and headers."
    return "RabbitMQ changes no bodies: suspect a proxy, a middlebox, or faulty hardware."


def republished(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that a copy came by another way than it was published."""
    queue = facts.queue_of(finding)
    named = {(each.producer, each.sequence) for each in finding.messages}
    for consumer in queue.evidence.consumers if queue else ():
        for each in consumer.incidents:
            is_one = (each.producer, each.sequence) in named
            if each.finding is FindingName.MISROUTED and is_one:
                which = f"{each.producer}:{each.sequence}"
                yield (
                    f"message {which} came by {each.detail}, too: something publishes messages "
                    "again (a shovel, a dead-letter exchange, a program)."
                )
                return


def same_channel(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that the first message concerned came twice on one open channel."""
    queue = facts.queue_of(finding)
    for message in finding.messages[:1]:
        if queue is None or message.producer is None or message.sequence is None:
            return
        came = deliveries_of(facts, queue, message.producer, message.sequence)
        channels = Counter((each.consumer, each.channel, each.stamp) for each in came)
        for (consumer, channel, _), count in channels.most_common(1):
            if count > 1 and channel:
                which = f"{message.producer}:{message.sequence}"
                yield (
                    f"message {which} came {count} times on channel {channel} of {consumer}, which "
                    "was open all the time. No reconnect explains that: a copy was made by the "
                    "broker, or on the way."
                )


def broken_protocol(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that the protocol is broken in this run: by other findings, or by what was read."""
    others = {
        name: count
        for name in _BROKEN_PROTOCOL
        if name != finding.name and (count := facts.verdict.count(name))
    }
    signs = [f"{count} {name}" for name, count in others.items()]
    breaks = [*facts.producer_breaks, *(b for q in facts.queues.values() for b in q.breaks)]
    signs += [f"{each.worker}: {each.why.rstrip('.')}" for each in breaks if _unreadable(each)][:1]
    if signs:
        yield f"{_ALTERED}: the run also saw {', '.join(signs)}."


def altered_traffic(facts: Facts, finding: Finding) -> Iterator[str]:
    """Yield that the finding itself breaks the protocol, where nothing broke that explains it."""
    queue = facts.queue_of(finding)
    if signs := [*broken_protocol(facts, finding)]:
        yield from signs
    elif not (facts.restarts or facts.producer_breaks or (queue and queue.breaks)):
        yield f"{_ALTERED}, or the broker is at fault: no connection broke, no node restarted."


# --- in words -----------------------------------------------------------------------------------


def _unreadable(one: Break) -> bool:
    return (
        "cannot be read" in one.why or "delivery tag" in one.why or "was not published" in one.why
    )


def _breaks_in_words(facts: Facts, breaks: Sequence[Break]) -> str:
    known = sorted(breaks, key=lambda each: (each.at_ns is None, each.at_ns or 0))
    words = facts.break_in_words(known[0])
    more = len(known) - 1
    return words + (f" (and {more} more like it)" if more else "")


def _restarts_after_sending(facts: Facts, finding: Finding) -> list[Restart]:
    """Return the restarts before whose end some message of the finding had been sent."""
    if not facts.restarts:
        return []
    sent_ns = facts.concerned_sent_ns(finding)
    first_ns = facts.first_sent_ns
    if sent_ns is not None:
        first_ns = int(sent_ns.min()) if len(sent_ns) else None
    if first_ns is None:
        first_ns = facts.began_ns
    return [each for each in facts.restarts if each.before_ns >= first_ns]


def _with_count(facts: Facts, finding: Finding, restarts: Sequence[Restart]) -> str:
    """Return when the node restarted, and how many of the messages were sent before."""
    words = facts.restart_in_words(restarts[-1])
    sent_ns = facts.concerned_sent_ns(finding)
    if sent_ns is None:
        return words
    before = int(np.count_nonzero(sent_ns <= restarts[-1].before_ns))
    which = "all of these" if before == len(sent_ns) else f"{before} of these {len(sent_ns)}"
    return f"{words}, after {which} had been sent"


_REMOVING = {
    "message-ttl": "what waits longer than that is dropped",
    "expires": "a queue that nobody uses for that long is deleted",
    "max-length": "the oldest message is dropped when one too many comes",
    "delivery-limit": "what was given back that often is dropped",
}


def _removal_in_words(facts: Facts, removal: Removal, time_ns: int | None) -> str:
    """Return what a cause on record does, and how much of it there can be."""
    when = f" at {facts.at(time_ns)}" if time_ns is not None else ""
    what = f"{removal.cause}{when}"
    for name, does in _REMOVING.items():
        if removal.cause.removeprefix("x-").startswith(name):
            what += f": {does}"
            break
    most = "" if removal.at_most is None else f" (at most {counted(removal.at_most, 'message')})"
    return f"{what}{most}."
