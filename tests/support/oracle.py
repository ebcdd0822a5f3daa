"""What the verdict on a simulated history must be: from the truth, message by message.

It reads what the model broker did and what passed the wires, and none of our evidence. It is
written as plainly as can be, and shares no code with the judge.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pika.frame
import pika.spec

from rmqbench.amqp.framing import DELIVER, METHOD, PUBLISH, RETURN, ContentAssembler, FrameCutter
from rmqbench.message import BROKER_HEADERS, HEAD_SIZE, Recipe
from rmqbench.simulation import Content, Misdeed
from rmqbench.simulation.content import content_of, decoded
from rmqbench.simulation.truth import (
    Connected,
    Deleted,
    Delivered,
    Misdone,
    Published,
    Removed,
    Stopped,
)
from rmqbench.verdict.findings import FINDINGS, OUTCOMES
from support.simulated import Played, Wire

__all__ = ["Expected", "disagreements", "expect"]

ALLOWED = {"redelivered", "survived", "vanished", "nacked but delivered"}
_OF_COPIES = {"duplicate", "redelivered", "repeated", "redelivered after ack", "reordered"}
# Of what comes again of a segment that was let go, the channel of the first delivery is not known
# where several had it, and its time of sending is not.
_UNSURE_OF_WHAT_WAS_LET_GO = {"repeated", "redelivered after ack", "corrupted"}
_ABSENCES = {"kill", "stop", "stall", "busy"}
_FORGETTING = {
    Misdeed.FORGET_ACK,
    Misdeed.REDELIVER_ACKED,
    Misdeed.REDELIVER_ACKED_UNFLAGGED,
}
_GET_OK = pika.spec.Basic.GetOk.INDEX
_CONSUMER = "rmqbench consumer"  # begins the names of their connections
_LATELY_S = 15.0  # so long an answer, then the belief in it, may take behind an absence
_TAKING = {"x-max-length", "x-max-length-bytes", "x-message-ttl", "x-expires", "x-delivery-limit"}


@dataclass
class Expected:
    """What the verdict must be. ``open`` says why it may be inconclusive."""

    publishes: Counter = field(default_factory=Counter)
    queues: dict[str, Counter] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)  # what each queue truly holds in the end
    excused: Counter = field(default_factory=Counter)  # redelivered after ack, node restarted
    # Corrupted deliveries of messages with copies: of which copy, nobody can know from outside.
    of_no_copy: Counter = field(default_factory=Counter)
    # What is corrupted twice in the same words may be taken for the same, come again.
    least_corrupted: Counter = field(default_factory=Counter)

    @property
    def fails(self) -> bool:
        found = {name for name, count in self.publishes.items() if count}
        for queue, counts in self.queues.items():
            found |= {n for n, c in counts.items() if c > self.excused.get((queue, n), 0)}
        return bool(found - ALLOWED - {"foreign"})

    def forget(self, names: set[str]) -> None:
        """Take back what is expected of some findings."""
        for counts in self.queues.values():
            for name in names:
                counts[name] = 0

    @property
    def is_open(self) -> bool:
        foreign = any(counts["foreign"] for counts in self.queues.values())
        return foreign or any(self.held.values())


@dataclass(frozen=True)
class Receipt:
    """A delivery that a client has read."""

    at: float  # when the broker sent it
    read_at: float  # when the client read it
    message: int
    queue: str
    session: int
    tag: int
    flagged: bool
    exchange: str
    key: str
    content: Content


@dataclass
class Client:
    """One connection, as far as its client has read what came."""

    session: int
    name: str
    opened_at: float
    # Of a producer, in the order of the stream: (tag, multiple, nack), or the body of a return.
    told: list[tuple[int, bool, bool] | bytes] = field(default_factory=list)
    deliveries: list[tuple[float, int, bytes]] = field(default_factory=list)  # when, tag, body
    left_at: float = 0.0  # its consumer was cancelled
    closed_at: float | None = None  # cleanly
    refused: bool = False  # closed by the broker, which hears no acknowledgement any more
    published: list[bytes] = field(default_factory=list)  # bodies, as written
    settled: set[int] = field(default_factory=set)  # tags acknowledged or rejected for good
    given_back: set[int] = field(default_factory=set)  # tags


def _read(wire: Wire, name: str) -> Client:
    client = Client(wire.session, name, 0.0)
    cutter, contents = FrameCutter(), ContentAssembler()
    for at, data in wire.received:
        for frame in cutter.feed(data):
            content, _ = contents.add(frame)
            if content is None:
                if frame.kind == METHOD:
                    _hear(client, at, pika.frame.decode_frame(frame.data)[1])
            elif content.is_whole and content.method in (DELIVER, _GET_OK):
                method = pika.frame.decode_frame(content.frames[0])[1].method
                body = content_of(content.frames).body
                client.deliveries.append((at, method.delivery_tag, body))
            elif content.is_whole and content.method == RETURN:
                client.told.append(content_of(content.frames).body)
    cutter, contents = FrameCutter(), ContentAssembler()
    for at, data in wire.sent:
        for frame in cutter.feed(data):
            content, _ = contents.add(frame)
            if content is None and frame.kind == METHOD:
                _say(client, at, pika.frame.decode_frame(frame.data)[1].method)
            if content is not None and content.is_whole and content.method == PUBLISH:
                client.published.append(content_of(content.frames).body)
    return client


def _say(client: Client, at: float, method: pika.spec.Method) -> None:
    """Take in what a consumer has written."""
    if isinstance(method, pika.spec.Basic.Cancel):
        client.left_at = at
    elif isinstance(method, pika.spec.Basic.Get) and not client.left_at:
        client.left_at = at  # whatever it holds, no consumer is counted
    elif isinstance(method, pika.spec.Basic.Ack):
        first = 1 if method.multiple else method.delivery_tag
        client.settled.update(range(first, method.delivery_tag + 1))
    elif isinstance(method, pika.spec.Basic.Reject):
        (client.given_back if method.requeue else client.settled).add(method.delivery_tag)


def _hear(client: Client, at: float, frame: pika.frame.Method) -> None:
    """Take in a method without content; channel 1 is the one that publishes or consumes."""
    method, first = frame.method, frame.channel_number == 1
    if isinstance(method, pika.spec.Basic.Ack | pika.spec.Basic.Nack):
        nack = isinstance(method, pika.spec.Basic.Nack)
        client.told.append((method.delivery_tag, method.multiple, nack))
    elif isinstance(method, pika.spec.Channel.OpenOk) and first:
        client.opened_at = at
    elif isinstance(method, pika.spec.Channel.Close) and first:
        client.refused = True
    elif isinstance(method, pika.spec.Channel.CloseOk) and first and not client.refused:
        client.closed_at = at


def disagreements(played: Played) -> list[str]:
    """Return in what a verdict differs from what it must be, a sentence each."""
    expected, verdict = expect(played), played.result.verdict
    unsure_names = _UNSURE_OF_WHAT_WAS_LET_GO if played.history.lets_go else set()
    found = []
    for name in OUTCOMES:
        said, true = verdict.count(name), expected.publishes[name]
        if said != true:
            found.append(f"{name}: {said} said, {true} true")
    for plan in played.history.queues:
        queue, counts = plan.name, expected.queues[plan.name]
        unproven = bool(verdict.count("stuck", queue))
        in_the_way = _was_away_lately(played, queue) or _forgot_the_last(played, queue)
        if unproven and not counts["foreign"] and not in_the_way:
            found.append(f"{queue}: not proven empty, and nothing stood in the way")
        if unproven and not expected.held[queue]:
            # It could not be asked, or served nobody in the end: nothing is missed from it then.
            expected.held[queue] = 1
            counts["lost"] = counts["removed"] = counts["vanished"] = 0
        if not unproven and expected.held[queue]:
            found.append(f"{queue}: proven empty, and it holds {expected.held[queue]}")
        # From outside it cannot be told which of the missing ones a limit or a purge took.
        takes = any(name in _TAKING for name, _ in plan.arguments)
        takes = takes or any(act.what == "purge" for act in played.history.acts)
        takes = takes and (played.history.misdeeds or plan.auto_ack)
        mixed = takes or (counts["lost"] and counts["removed"])
        # Whether what came twice on a channel was given back in between is not recorded.
        alike = ("repeated", "redelivered after ack") if "requeue" in plan.settle else ()
        found += _misjudged_together(verdict, queue, counts, *alike)
        passed_over = {"stuck", *alike, *(("lost", "removed") if mixed else ())}
        for name in FINDINGS.keys() - passed_over:
            said, true = verdict.count(name, queue), counts[name]
            unsure = expected.of_no_copy[queue] if name in _OF_COPIES else 0
            least = expected.least_corrupted[queue] if name == "corrupted" else true - unsure
            least = 0 if name in unsure_names else least
            if not least <= said <= true + unsure:
                found.append(f"{queue}: {name}: {said} said, {true} true")
        found += _misjudged_together(verdict, queue, counts, "lost", "removed")
    if verdict.outcome == "PASS":
        expected.forget(unsure_names)
    outcome = "FAIL" if expected.fails else "INCONCLUSIVE" if expected.is_open else "PASS"
    if verdict.outcome != outcome:
        found.append(f"{verdict.outcome} said, {outcome} true")
    return found


def _misjudged_together(verdict, queue: str, counts: Counter, *names: str) -> list[str]:
    """Return a sentence where findings together are not as many as they must be."""
    said, true = sum(verdict.count(name, queue) for name in names), sum(counts[n] for n in names)
    return [f"{queue}: {' and '.join(names)}: {said} said, {true} true"] if said != true else []


def _was_away_lately(played: Played, queue: str) -> bool:
    """Whether the node or a queue was away when this one was last asked, or just before."""
    after_s = played.asked_at[queue] - played.began_at
    return any(
        act.what in _ABSENCES and act.at_s < after_s < act.at_s + act.lasting_s + _LATELY_S
        for act in played.history.acts
    )


def _forgot_the_last(played: Played, queue: str) -> bool:
    """Whether a message stayed because its last acknowledgement was forgotten.

    A drain gives up after a round that brings nothing new and leaves no less than the one before.
    """
    truth = played.broker.truth
    names = {event.session: event.name for event in truth.of(Connected)}
    last = {
        event.message: (event.session, event.channel, event.tag)
        for event in truth.of(Delivered)
        if event.queue == queue and _is_taken(event, names.get(event.session, ""))
    }
    return any(
        event.queue == queue
        and event.misdeed in _FORGETTING
        and last.get(event.message) == (event.session, event.channel, event.tag)
        for event in truth.of(Misdone)
    )


def expect(played: Played) -> Expected:
    """Return what the verdict on a history must be."""
    truth, recipe, history = played.broker.truth, played.recipe, played.history
    names = {event.session: event.name for event in truth.of(Connected)}
    clients = {wire.session: _read(wire, names.get(wire.session, "")) for wire in played.wires}
    published = {event.message: event for event in truth.of(Published)}
    expected = Expected()

    outcome = _outcomes(clients, recipe, expected)
    everything = {
        (producer, sequence)
        for producer, count in enumerate(history.counts)
        for sequence in range(count)
    }
    expected.publishes["unsent"] = len(everything - set(outcome))
    for word in ("nacked", "returned", "indeterminate"):
        expected.publishes[word] = sum(each == word for each in outcome.values())

    receipts = _receipts(played, clients)
    deleted = {event.queue for event in truth.of(Deleted)}
    gone = defaultdict(set)
    for removal in truth.of(Removed):
        if removal.cause == "restart":
            continue  # takes what was not confirmed: it is no excuse
        gone[removal.queue].add(removal.message)
    for queue in history.queues:
        mine = _as_known([receipt for receipt in receipts if receipt.queue == queue.name])
        counts = expected.queues[queue.name] = Counter()
        expected.held[queue.name] = played.held[queue.name]
        _judge(expected, queue, mine, published, clients, recipe, truth)
        _count_unsure(expected, queue.name, mine, published, clients, recipe)
        if queue.consumers == 1:
            counts["reordered"] = _reordered(mine, published, recipe)
        known = [(_identity(published[receipt.message], recipe), receipt) for receipt in mine]
        came = {identity for identity, _ in known if identity in outcome}
        settled = {
            identity
            for identity, receipt in known
            if queue.auto_ack or receipt.tag in clients[receipt.session].settled
        }
        drained = not expected.held[queue.name]
        for identity, word in outcome.items():
            there = identity in came
            if word == "confirmed" and identity not in settled and drained:
                numbers = {m for m, e in published.items() if _identity(e, recipe) == identity}
                # What is published after a queue's deletion does not reach it.
                removed = queue.name in deleted or bool(numbers & gone[queue.name])
                counts["removed" if removed else "lost"] += 1
            elif word == "indeterminate" and (there or drained):
                counts["survived" if there else "vanished"] += 1
            elif word == "nacked" and there:
                counts["nacked but delivered"] += 1
    return expected


def _identity(event: Published, recipe: Recipe) -> tuple[int, int] | None:
    sent = recipe.read_head(event.content.body)
    return None if sent is None else (sent.producer, sent.sequence)


def _outcomes(
    clients: dict[int, Client], recipe: Recipe, expected: Expected
) -> dict[tuple[int, int], str]:
    """Return what each publish came to, as its producer was told."""
    words: dict[tuple[int, int], set[str]] = {}
    for client in clients.values():
        tags = []
        for body in client.published:
            sent = recipe.read_head(body)
            assert sent is not None
            tags.append((sent.producer, sent.sequence))
            words.setdefault(tags[-1], set())
        said: dict[int, str] = {}
        for told in client.told:
            if isinstance(told, bytes):
                sent = recipe.read_head(told)
                assert sent is not None
                words[sent.producer, sent.sequence].add("returned")
                continue
            tag, multiple, nack = told
            word = "nacked" if nack else "confirmed"
            top = len(tags) if multiple and tag == 0 else tag
            if not 1 <= top <= len(tags):
                expected.publishes["contradicted"] += 1
                break  # the producer gives the connection up
            if top in said and tag:
                expected.publishes["contradicted"] += 1
            for each in range(1, top + 1) if multiple else [top]:
                said.setdefault(each, word)
        for tag, word in said.items():
            words[tags[tag - 1]].add(word)
    return {
        identity: next(
            (each for each in ("returned", "nacked", "confirmed") if each in heard),
            "indeterminate",
        )
        for identity, heard in words.items()
    }


def _receipts(played: Played, clients: dict[int, Client]) -> list[Receipt]:
    """Return what clients have read of all that the broker delivered, in the order of sending."""
    taken: Counter[int] = Counter()
    receipts = []
    for event in played.broker.truth.of(Delivered):
        client = clients[event.session]
        if not _is_taken(event, client.name):
            continue
        at = taken[event.session]
        taken[event.session] += 1
        if at >= len(client.deliveries):
            continue
        read_at, tag, body = client.deliveries[at]
        assert (tag, body) == (event.tag, event.content.body), "the wire carries something else"
        receipts.append(
            Receipt(
                event.at,
                read_at,
                event.message,
                event.queue,
                event.session,
                tag,
                event.redelivered,
                event.exchange,
                event.routing_key,
                event.content,
            )
        )
    return receipts


def _is_taken(event: Delivered, name: str) -> bool:
    """Whether a message is for a consumer, not for who asks whether the queue is empty.

    ``name`` is that of the connection.
    """
    return event.consumer_tag is not None or name.startswith(_CONSUMER)


def _as_known(receipts: list[Receipt]) -> list[Receipt]:
    """Put first what must have been first as far as anybody can know from outside.

    Of two consumers nobody knows who was given a message first: it was the one without the flag.
    """
    by_message: dict[int, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_message[receipt.message].append(receipt)
    for same in by_message.values():
        plain = [receipt for receipt in same if not receipt.flagged]
        if same[0].flagged and len(plain) == 1 and plain[0].session != same[0].session:
            receipts.remove(plain[0])
            receipts.insert(receipts.index(same[0]), plain[0])
    return receipts


def _judge(expected, plan, receipts, published, clients, recipe, truth):
    """Count what is wrong with the deliveries themselves."""
    queue = plan.name
    counts = expected.queues[queue]
    stops = [event.at for event in truth.of(Stopped)]
    reported: dict[str, dict[int, Counter]] = defaultdict(lambda: defaultdict(Counter))
    before: dict[int, list[Receipt]] = defaultdict(list)
    doubled: Counter[int] = Counter()
    late: Counter[int] = Counter()  # redelivered after ack, without an excuse
    for receipt in receipts:
        event = published[receipt.message]
        identity = _identity(event, recipe)
        what = (receipt.message, receipt.content.body, _properties(receipt.content))
        if identity is None:
            same = (receipt.content.body, receipt.exchange, receipt.key)
            reported["foreign"][receipt.session][same] += 1
            continue
        if _differs(event.content, receipt.content):
            reported["corrupted"][receipt.session][what] += 1
        elif (receipt.exchange, receipt.key) != (event.exchange, event.routing_key):
            reported["misrouted"][receipt.session][what] += 1
        if event.session == 0:
            reported["phantom"][receipt.session][identity] += 1
            continue
        earlier = before[receipt.message]
        if earlier:
            counts["redelivered" if receipt.flagged else "duplicate"] += 1
            doubled[receipt.message] += not receipt.flagged
        kept = [each for each in earlier if not _was_given_back(each, clients, earlier)]
        same_channel = any(each.session == receipt.session for each in kept)
        taken = [
            each
            for each in kept
            if each.session != receipt.session and _taken_before(plan, clients, each, receipt)
        ]
        # Of what is given back, the delivery that comes of it is judged.
        judged = receipt.flagged and not _was_given_back(receipt, clients, earlier)
        if judged and same_channel:
            counts["repeated"] += 1
        elif judged and taken:
            since = min(each.at for each in taken)
            if any(since < stop < receipt.at for stop in stops):
                expected.excused[queue, "redelivered after ack"] += 1
            else:
                late[receipt.message] += 1
        earlier.append(receipt)
    # Of a message that is a duplicate too, the flagged one may be that which was given back.
    counts["redelivered after ack"] = (late - doubled).total()
    counts["redelivered after ack"] += expected.excused[queue, "redelivered after ack"]
    for name, sessions in reported.items():
        most: Counter = Counter()
        for each in sessions.values():
            most |= each
        counts[name] = most.total()


def _was_given_back(one: Receipt, clients: dict[int, Client], same: list[Receipt]) -> bool:
    """Whether its client gave a delivery back; of several with its tag that is the first."""
    alike = [each for each in same if (each.session, each.tag) == (one.session, one.tag)]
    return one.tag in clients[one.session].given_back and one is (alike or [one])[0]


def _count_unsure(expected, queue, receipts, published, clients, recipe):
    """Count what nobody can know from outside of what came corrupted."""
    pairs = [(published[receipt.message], receipt) for receipt in receipts]
    changed = [each for each in pairs if _differs(each[0].content, each[1].content)]
    if not changed:
        return
    bodies = [body for client in clients.values() for body in client.published]
    sends = Counter((head.producer, head.sequence) for head in map(recipe.read_head, bodies))
    alike: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for event, receipt in changed:
        identity = _identity(event, recipe)
        if identity is None:
            continue
        whole = receipt.content.body[:HEAD_SIZE] == event.content.body[:HEAD_SIZE]
        if event.session or whole:  # else nobody has sent the head that it had
            alike[identity][receipt.session] += 1
        expected.of_no_copy[queue] += not whole and sends[identity] > 1
    expected.least_corrupted[queue] = sum(max(each.values()) for each in alike.values())


def _taken_before(plan, clients: dict[int, Client], one: Receipt, other: Receipt) -> bool:
    """Whether the acknowledgement of one delivery had surely been taken before another."""
    here, there = clients[one.session], clients[other.session]
    if plan.kind == "quorum":
        # What was acknowledged just before a channel's end may be lost: then it is given back.
        ended_well = here.closed_at is not None and there.closed_at is not None
        return ended_well and other.read_at + 0.1 < here.left_at
    if plan.auto_ack:
        return True
    if here.closed_at is None:
        return False
    return there.closed_at is not None or there.opened_at >= here.closed_at


def _differs(sent: Content, received: Content) -> bool:
    if sent.body != received.body:
        return True
    return sent.properties != received.properties and _properties(sent) != _properties(received)


def _properties(content: Content) -> str:
    """Return the properties without what the broker adds, in a form that can be compared."""
    properties = decoded(content.properties)
    headers = properties.headers or {}
    properties.headers = {k: v for k, v in headers.items() if k not in BROKER_HEADERS}
    return repr(sorted(vars(properties).items()))


def _reordered(receipts, published, recipe) -> int:
    """Count first deliveries, without the flag, behind a later publish of the same channel."""
    highest: dict[tuple[int, int], int] = {}
    seen = set()
    late = 0
    for receipt in receipts:
        event = published[receipt.message]
        identity = _identity(event, recipe)
        if identity is None or event.session == 0 or receipt.message in seen:
            continue
        seen.add(receipt.message)
        channel = (event.session, event.channel)
        if identity[1] < highest.get(channel, -1):
            late += not receipt.flagged
        else:
            highest[channel] = identity[1]
    return late
