"""The deliveries of one message by one queue, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rmqbench.explaining.facts import Facts, QueueFacts
from rmqbench.run_directory.journal import ChannelOpened
from rmqbench.run_directory.records import ConsumerRecord
from rmqbench.verdict.evidence import ACKED, DELIVERED, REDELIVERED, REJECTED, REPORTED, REQUEUED

__all__ = ["Delivery", "dead_letters_of", "deliveries_of", "place_of"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of one message.

    ``channel`` is 0 where it is not known. ``stamp`` tells which copy it was, ``altered`` that its
    consumer has reported it. ``acked``: its consumer sent an acknowledgement for this message, of
    one of the deliveries that it had of it; ``rejected``: it rejected one for good;
    ``given_back``: it gave the first one back. ``origin`` is the queue of which it was a dead
    letter, if it was one.
    """

    queue: str
    consumer: str
    number: int
    channel: int
    at_ns: int
    flagged: bool
    altered: bool
    stamp: int
    acked: bool
    rejected: bool = False
    given_back: bool = False
    origin: str = ""


def place_of(facts: Facts, producer: int, sequence: int) -> int | None:
    """Return the place of a message in arrays over all producers; None if it has none."""
    counts = [len(each.ledger.state) for each in facts.record.producers]
    if not 0 <= producer < len(counts) or not 0 <= sequence < counts[producer]:
        return None
    return sum(counts[:producer]) + sequence


def deliveries_of(facts: Facts, queue: QueueFacts, producer: int, sequence: int) -> list[Delivery]:
    """Return how a queue delivered a message, in the order of time."""
    place = place_of(facts, producer, sequence)
    if place is None:
        return []
    found = (
        delivery
        for number, consumer in enumerate(queue.record.consumers)
        for delivery in _of_consumer(queue.record.name, number, consumer, place)
    )
    return sorted(found, key=lambda each: each.at_ns)


def dead_letters_of(
    facts: Facts, queue: QueueFacts, producer: int, sequence: int
) -> dict[str, list[Delivery]]:
    """Return how a message of a queue was delivered as its dead letter, by whom it was."""
    place, origin = place_of(facts, producer, sequence), queue.record.name
    return {
        name: [
            replace(each, origin=origin)
            for number, consumer in enumerate(received.consumers)
            for each in _of_consumer(name, number, consumer, place)
        ]
        for name, received in queue.record.dead_letters.items()
        if place is not None
    }


def _of_consumer(
    queue: str, number: int, consumer: ConsumerRecord, place: int
) -> Iterator[Delivery]:
    ledger = consumer.ledger
    state = int(ledger.state[place])
    acked, rejected = bool(state & ACKED), bool(state & REJECTED)
    if state & DELIVERED:
        at_ns = int(ledger.first_ns[place])
        yield Delivery(
            *(queue, consumer.name, number, _channel_at(consumer, at_ns), at_ns),
            flagged=bool(state & REDELIVERED),
            altered=bool(state & REPORTED),
            stamp=int(ledger.stamp[place]),
            acked=acked,
            rejected=rejected,
            given_back=bool(state & REQUEUED),
        )
    for row in consumer.again[consumer.again["place"] == place]:
        flags = int(row["flags"])
        yield Delivery(
            *(queue, consumer.name, number, int(row["channel"]), int(row["at_ns"])),
            flagged=bool(flags & REDELIVERED),
            altered=bool(flags & REPORTED),
            stamp=int(row["stamp"]),
            acked=acked,
            rejected=rejected,
        )


def _channel_at(consumer: ConsumerRecord, at_ns: int) -> int:
    """Return the channel that a consumer had at a moment, 0 for none."""
    opened = [(each.time_ns, each.number) for each in consumer.of(ChannelOpened)]
    return max((one for one in opened if one[0] <= at_ns), default=(0, 0))[1]
