"""What each finding means: one entry a finding. A new finding needs one, and a test says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rmqbench.explaining import causes
from rmqbench.explaining.causes import Cause
from rmqbench.verdict.findings import FindingName

__all__ = ["MEANINGS", "Meaning", "page_of_removal"]

_DOCS = "https://www.rabbitmq.com/docs/"
_NO_PROMISE = "RabbitMQ does not promise otherwise"


@dataclass(frozen=True)
class Meaning:
    """What a finding means.

    ``sentence`` and ``promise`` are plain sentences, ``page`` is where RabbitMQ says so. ``causes``
    are asked in this order, the most telling first. ``look_at`` says what else to look at;
    ``{when}`` stands for the time of the messages concerned, ``{queue}`` for the queue, ``{log}``
    for the broker's log. With
    ``again`` the next thing to do is to run it again, and to publish again what is unknown.
    ``unconfirmed`` is the sentence where the run asked for no confirms, ``weaker`` the promise
    where its own settings give up a part of it; "": the same.
    """

    sentence: str
    promise: str
    page: str
    causes: tuple[Cause, ...]
    look_at: str
    again: bool = False
    unconfirmed: str = ""
    weaker: str = ""


_LOG = "{log} {when}"

MEANINGS: Mapping[FindingName, Meaning] = MappingProxyType(
    {
        FindingName.NACKED: Meaning(
            "The broker nacked these: it did not take responsibility for them.",
            f"{_NO_PROMISE}: it may refuse, and says so with basic.nack. Publish them again.",
            f"{_DOCS}confirms",
            (
                causes.rejecting_queue,
                causes.deleted_queue,
                causes.gone_queue,
                causes.restarted_node,
                causes.broken_protocol,
            ),
            f"policies with overflow=reject-publish, and at {_LOG}",
        ),
        FindingName.RETURNED: Meaning(
            "No queue was there for these: the broker gave them back.",
            f"{_NO_PROMISE}: what no binding leads to a queue is returned, if it is mandatory.",
            f"{_DOCS}publishers",
            (
                causes.deleted_queue,
                causes.not_durable,
                causes.gone_queue,
                causes.restarted_node,
                causes.broken_protocol,
            ),
            f"the bindings of the exchange, and at {_LOG}",
        ),
        FindingName.INDETERMINATE: Meaning(
            "These were sent, and no answer came: they may have arrived or not.",
            f"{_NO_PROMISE}: without a confirm nothing is known. Publish them again.",
            f"{_DOCS}reliability",
            (
                causes.broken_publisher,
                causes.producer_gave_up,
                causes.blocked_publishers,
                causes.restarted_node,
                causes.broken_protocol,
            ),
            _LOG,
            again=True,
        ),
        FindingName.UNSENT: Meaning(
            "These were never sent: their producer ended first.",
            f"{_NO_PROMISE}: it has never seen them.",
            f"{_DOCS}publishers",
            (
                causes.producer_gave_up,
                causes.blocked_publishers,
                causes.broken_publisher,
                causes.restarted_node,
                causes.broken_protocol,
            ),
            f"{_LOG}, and the producers' worker.log",
            again=True,
        ),
        FindingName.CONTRADICTED: Meaning(
            "The broker's answers to these do not fit together.",
            "RabbitMQ promises otherwise: each publish is confirmed or refused once.",
            f"{_DOCS}confirms",
            (causes.as_reported, causes.altered_traffic),
            "what lies between rmqbench and the broker: proxies, load balancers",
        ),
        FindingName.LOST: Meaning(
            "The broker confirmed these, and the queue is empty, but it never delivered them, or "
            "not again after a channel had ended without their acknowledgement.",
            "RabbitMQ promises otherwise: it keeps a confirmed, persistent message in a durable "
            "queue until it is acknowledged.",
            f"{_DOCS}confirms",
            (
                causes.automatic_acknowledgement,
                causes.not_durable,
                causes.transient_messages,
                causes.no_confirms,
                causes.newborn_queue,
                causes.power_cut,
                causes.gone_queue,
                causes.restarted_node,
                causes.exceeded_removals,
                causes.broken_consumer,
                causes.broken_protocol,
            ),
            f"{_LOG}; and at who else may read, purge or limit {{queue}}",
            unconfirmed="These were written, no confirm was asked for, and the queue, although it "
            "is empty, never delivered them.",
            weaker=f"{_NO_PROMISE} here: it keeps what is confirmed, persistent and in a durable "
            "queue, until it is acknowledged. This run gave up a part of that.",
        ),
        FindingName.REMOVED: Meaning(
            "The broker confirmed these, and something on record took them out of the queue.",
            f"{_NO_PROMISE}: it does what the queue's settings, and its users, tell it to.",
            f"{_DOCS}queues",
            (causes.removals,),
            "the arguments and policies of {queue}",
            unconfirmed="These were written, and something on record took them out of the queue.",
        ),
        FindingName.CORRUPTED: Meaning(
            "These came with other bytes than were sent, in the body or in the properties.",
            "RabbitMQ promises otherwise: it passes on bodies and properties as they are.",
            f"{_DOCS}publishers",
            (causes.as_reported, causes.altered_traffic),
            "what lies between rmqbench and the broker, and at the broker's plugins",
        ),
        FindingName.DUPLICATE: Meaning(
            "These came more often than they were published, and not marked as redelivered.",
            "RabbitMQ promises otherwise: what it delivers again has the flag redelivered.",
            f"{_DOCS}reliability",
            (
                causes.republished,
                causes.same_channel,
                causes.dead_letters,
                causes.restarted_node,
                causes.broken_consumer,
                causes.broken_protocol,
            ),
            f"shovels, federation links and programs that publish to {{queue}}, and at {_LOG}",
        ),
        FindingName.REDELIVERED: Meaning(
            "These came again, marked as redelivered.",
            f"{_NO_PROMISE}: what was not acknowledged comes again. Consumers must expect it.",
            f"{_DOCS}reliability",
            (causes.broken_consumer, causes.restarted_node),
            _LOG,
        ),
        FindingName.REDELIVERED_AFTER_ACK: Meaning(
            "These came again although the broker had taken their acknowledgement.",
            "RabbitMQ promises otherwise: what was acknowledged is deleted. Only a restart may "
            "undo acknowledgements that were not on the disk yet.",
            f"{_DOCS}confirms",
            (causes.restart_in_between, causes.broken_protocol),
            f"{_LOG}, and at a change of the queue's leader",
        ),
        FindingName.REPEATED: Meaning(
            "These came again on a channel that had not given them back.",
            "RabbitMQ promises otherwise: it delivers again what was given back, or what a "
            "closed channel had not acknowledged.",
            f"{_DOCS}confirms",
            (causes.same_channel, causes.altered_traffic),
            f"{_LOG}, and at a change of the queue's leader",
        ),
        FindingName.REORDERED: Meaning(
            "These came behind messages that were published after them.",
            "RabbitMQ promises otherwise: what one channel publishes keeps its order in a queue, "
            "unless it is given back.",
            f"{_DOCS}semantics",
            (
                causes.priorities,
                causes.broken_consumer,
                causes.restarted_node,
                causes.dead_letters,
                causes.broken_protocol,
            ),
            f"who else reads from {{queue}} and gives messages back, and at {_LOG}",
        ),
        FindingName.MISROUTED: Meaning(
            "These came with another exchange or routing key.",
            "RabbitMQ promises otherwise: a message has the exchange and the key it was "
            "published with, unless something publishes it again.",
            f"{_DOCS}publishers",
            (causes.dead_letters, causes.as_reported, causes.broken_protocol),
            "dead-letter exchanges, shovels and federation links that lead to {queue}",
        ),
        FindingName.PHANTOM: Meaning(
            "These carry this run's identity, and this run never sent them.",
            "RabbitMQ promises otherwise: it makes up no messages.",
            f"{_DOCS}reliability",
            (causes.altered_traffic,),
            "who else publishes to {queue}: a replay, or a copy of this run",
        ),
        FindingName.FOREIGN: Meaning(
            "These are not of this run. They were left in the queue.",
            f"{_NO_PROMISE}: anybody who may publish to the queue can.",
            f"{_DOCS}vhosts",
            (causes.as_reported,),
            "who else publishes to {queue}",
        ),
        FindingName.SURVIVED: Meaning(
            "Their outcome was unknown, and they arrived.",
            f"{_NO_PROMISE}: without a confirm a message may arrive or not.",
            f"{_DOCS}confirms",
            (causes.broken_publisher, causes.producer_gave_up, causes.restarted_node),
            _LOG,
        ),
        FindingName.VANISHED: Meaning(
            "Their outcome was unknown, and they did not arrive.",
            f"{_NO_PROMISE}: without a confirm a message may arrive or not.",
            f"{_DOCS}confirms",
            (causes.broken_publisher, causes.producer_gave_up, causes.restarted_node),
            _LOG,
        ),
        FindingName.NACKED_BUT_DELIVERED: Meaning(
            "The broker nacked these, and this queue delivered them all the same.",
            f"{_NO_PROMISE}: one nack stands for all queues, and this one may have said yes.",
            f"{_DOCS}confirms",
            (causes.rejecting_queue, causes.restarted_node),
            f"policies with overflow=reject-publish, and at {_LOG}",
        ),
        FindingName.STUCK: Meaning(
            "The queue could not be emptied, so what is missing is not judged.",
            f"{_NO_PROMISE}: messages stay until somebody takes them.",
            f"{_DOCS}consumers",
            (causes.consumer_gave_up, causes.broken_consumer, causes.restarted_node),
            "what {queue} holds, and who consumes it; the consumers' worker.log",
        ),
        FindingName.UNSERVED: Meaning(
            "The queue has these, and gives them to nobody: they were ready, and no consumer with "
            "room for them was given any; or they are dead letters that go nowhere.",
            "RabbitMQ promises otherwise: a queue delivers to a consumer that has room.",
            f"{_DOCS}consumers",
            (causes.restarted_node, causes.broken_consumer),
            f"{_LOG}; and at the consumers of {{queue}}, which of them is the single active one",
        ),
    }
)
"""Every finding, and what it means."""

_PAGES = {
    "message-ttl": "ttl",
    "expires": "ttl",
    "max-length": "maxlength",
    "a limit of": "maxlength",
    "delivery-limit": "quorum-queues",
}


def page_of_removal(cause: str) -> str:
    """Return the page about what a cause on record does."""
    named = cause.removeprefix("x-")
    page = next((page for name, page in _PAGES.items() if named.startswith(name)), "queues")
    return f"{_DOCS}{page}"
