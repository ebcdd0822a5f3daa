"""Altered publishes and confirms against a naive model."""

from dataclasses import dataclass, field

import pika.frame
import pika.spec
import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from support.altered import (
    FORGED,
    FORGED_PROPERTIES,
    FRAME_MAX,
    GREETING,
    HEARTBEAT,
    RECIPE,
    TUNE_OK,
    Decoder,
    cut_up,
    data_of,
    decode,
    delivery,
    kinds_of,
    method,
    plans,
    publish,
)

from rmqbench.amqp.framing import FrameCutter
from rmqbench.proxy import (
    drop,
    forge,
    swap,
)
from rmqbench.proxy.alterations import AlterationPlan
from rmqbench.proxy.altering import (
    AlteredConnection,
)


@dataclass
class ModelBroker:
    """Numbers what it gets, and confirms it in a grouping that is drawn."""

    received: dict = field(default_factory=dict)  # channel -> sequences, by its own tag from 1
    settled: dict = field(default_factory=dict)
    verdicts: dict = field(default_factory=dict)  # sequence -> acked or nacked, None: forged
    decoder: Decoder = field(default_factory=Decoder)

    def take(self, data):
        for channel, one, *rest in self.decoder.feed(data):
            if isinstance(one, pika.spec.Basic.Publish):
                identity = RECIPE.identify(*rest)
                sequence = None if identity is None else identity.sequence
                self.received.setdefault(channel, []).append(sequence)

    def confirm(self, data, *, everything=False):
        """Return frames that confirm some or all of what is not confirmed yet."""
        frames = b""
        for channel, got in self.received.items():
            settled = self.settled.setdefault(channel, set())
            while left := [tag for tag in range(1, len(got) + 1) if tag not in settled]:
                if not everything and data.draw(st.booleans()):
                    break
                tag = data.draw(st.sampled_from(left))
                multiple, nack = data.draw(st.booleans()), data.draw(st.booleans())
                covered = [each for each in left if each <= tag] if multiple else [tag]
                if everything and multiple and tag == left[-1] and data.draw(st.booleans()):
                    tag = 0
                settled.update(covered)
                for each in covered:
                    self.verdicts.setdefault((channel, got[each - 1]), nack)
                kind = pika.spec.Basic.Nack if nack else pika.spec.Basic.Ack
                frames += method(channel, kind, tag, multiple)
        return frames


@dataclass
class ModelClient:
    """Publishes on some channels, and reads confirms as its own numbers."""

    sent: dict = field(default_factory=dict)  # channel -> sequences, by its tag from 1
    heard: list = field(default_factory=list)  # (channel, sequence, nack)
    open: dict = field(default_factory=dict)
    decoder: Decoder = field(default_factory=Decoder)

    def publish(self, channel, sequence):
        tags = self.sent.setdefault(channel, [])
        tags.append(sequence)
        self.open.setdefault(channel, set()).add(len(tags))
        return b"".join(publish(channel, sequence))

    def take(self, data):
        for channel, one, *_ in self.decoder.feed(data):
            if not isinstance(one, pika.spec.Basic.Ack | pika.spec.Basic.Nack):
                continue
            nack = isinstance(one, pika.spec.Basic.Nack)
            tags = [one.delivery_tag]
            if one.multiple:
                top = one.delivery_tag or max(self.open[channel], default=0)
                tags = sorted(tag for tag in self.open[channel] if tag <= top)
            for tag in tags:
                self.open[channel].discard(tag)
                self.heard.append((channel, self.sent[channel][tag - 1], nack))


def run_publishes(plan, data, count):
    """Publish from a client to a broker through an altered connection, until all is confirmed."""
    client, broker = ModelClient(), ModelBroker()
    connection = AlteredConnection(plan, 1)
    order = []

    def pass_on(output):
        broker.take(data_of(output.to_broker))
        client.take(data_of(output.to_client))

    def feed(function, stream):
        for piece in cut_up(data, stream):
            pass_on(function(piece))

    select = b"".join(method(channel, pika.spec.Confirm.Select, False) for channel in (1, 2))
    feed(connection.from_client, GREETING + TUNE_OK + select)
    sequence = 0
    while sequence < count:
        burst = b""
        for _ in range(data.draw(st.integers(1, 4))):
            channel = data.draw(st.integers(1, 2))
            burst += client.publish(channel, sequence) + data.draw(
                st.sampled_from([b"", HEARTBEAT])
            )
            order.append((channel, sequence))
            sequence += 1
        feed(connection.from_client, burst)
        feed(connection.from_broker, broker.confirm(data))
    pass_on(connection.end("to_broker"))
    feed(connection.from_broker, broker.confirm(data, everything=True))
    pass_on(connection.end("to_client"))
    return client, broker, order


def model_publishes(order, plan):
    """Return what the broker gets on each channel: sequences, None for what was forged."""
    groups = {}
    for nth, (channel, sequence) in enumerate(order, 1):
        kinds = kinds_of(plan, nth)
        copies = [] if "drop" in kinds else [sequence]
        for kind in kinds:
            if kind == "repeat":
                copies.append(sequence)
            elif kind == "forge":
                copies.append(None)
        if copies:
            groups.setdefault(channel, []).append(["swap" in kinds, copies])
    expected = {}
    for channel, bundles in groups.items():
        i = 0
        while i < len(bundles) - 1:
            if bundles[i][0]:
                bundles[i], bundles[i + 1] = bundles[i + 1], bundles[i]
                i += 1
            i += 1
        expected[channel] = [sequence for _, copies in bundles for sequence in copies]
    return expected


@given(st.data(), st.integers(1, 15))
@settings(deadline=None)
def test_each_publish_is_confirmed_once_and_by_the_name_it_has_to_its_publisher(data, count):
    plan = data.draw(plans("publish", count, ["drop", "repeat", "swap", "forge", "misroute"]))
    client, broker, order = run_publishes(AlterationPlan(plan), data, count)
    assert broker.received == model_publishes(order, plan)
    dropped = {order[each.nth - 1] for each in plan if kinds_of([each], each.nth) == ["drop"]}
    verdicts = dict.fromkeys(dropped, False)  # the proxy's own word: an ack
    verdicts |= {name: nack for name, nack in broker.verdicts.items() if name[1] is not None}
    assert len(client.heard) == len(order)
    # A repeated publish has two verdicts of the broker; its publisher hears that of the first.
    repeated = {order[e.nth - 1] for e in plan if "repeat" in kinds_of([e], e.nth)}
    for channel, sequence, nack in client.heard:
        if (channel, sequence) not in repeated:
            assert verdicts[channel, sequence] == nack
    assert {(channel, sequence) for channel, sequence, _ in client.heard} == set(order)


@given(st.data(), st.integers(1, 15))
@settings(deadline=None)
def test_confirms_are_altered_as_a_naive_model_says(data, count):
    plan = data.draw(plans("confirm", count, ["drop", "repeat", "delay"]))
    client, broker, order = run_publishes(AlterationPlan(plan), data, count)
    expected = []
    for nth, name in enumerate(broker.verdicts, 1):
        kinds = kinds_of(plan, nth)
        expected += [] if "drop" in kinds else [name] * (1 + kinds.count("repeat"))
    assert set(broker.verdicts) == set(order)
    assert [(channel, sequence) for channel, sequence, _ in client.heard] == expected
    for channel, sequence, nack in client.heard:
        assert broker.verdicts[channel, sequence] == nack


def confirming(plan, count):
    """Return a connection on which ``count`` publishes have gone to the broker."""
    connection = AlteredConnection(plan, 1)
    connection.from_client(GREETING + TUNE_OK + method(1, pika.spec.Confirm.Select, False))
    for n in range(count):
        connection.from_client(b"".join(publish(1, n)))
    return connection


def ack(tag, multiple=False):
    return method(1, pika.spec.Basic.Ack, tag, multiple)


def test_a_multiple_confirm_is_taken_apart_only_where_one_of_it_is_altered():
    connection = confirming(AlterationPlan([drop("confirm", 5)]), 9)
    assert connection.from_broker(ack(3, True)).to_client == (ack(3, True),)
    assert connection.from_broker(ack(6, True)).to_client == (ack(4) + ack(6),)
    # From here on a multiple one would cover the one that was kept back.
    assert connection.from_broker(ack(9, True)).to_client == (ack(7) + ack(8) + ack(9),)


def test_two_confirms_change_places():
    connection = confirming(AlterationPlan([swap("confirm", 2)]), 4)
    assert connection.from_broker(ack(4, True)).to_client == (ack(1) + ack(3) + ack(2) + ack(4),)


def test_a_dropped_publish_is_confirmed_at_once_but_only_in_confirm_mode():
    plan = AlterationPlan([drop("publish", 1), drop("publish", 2)])
    connection = AlteredConnection(plan, 1)
    output = connection.from_client(GREETING + b"".join(publish(1, 0)))
    assert (output.to_broker, output.to_client) == ((GREETING,), ())
    connection.from_client(method(1, pika.spec.Confirm.Select, False))
    output = connection.from_client(b"".join(publish(1, 1)))
    assert (output.to_broker, output.to_client) == ((), (ack(1),))


def test_a_lying_confirm_never_comes_amid_a_delivery():
    connection = confirming(AlterationPlan([drop("publish", 1)]), 0)
    frames = delivery(1, 1, 0)
    output = connection.from_broker(b"".join(frames[:2]))
    output_of_drop = connection.from_client(b"".join(publish(1, 0)))
    rest = connection.from_broker(b"".join(frames[2:]))
    stream = data_of(output.to_client + output_of_drop.to_client + rest.to_client)
    assert stream == ack(1) + b"".join(frames)


def test_a_channel_that_is_opened_again_counts_from_the_start():
    connection = confirming(AlterationPlan([drop("publish", 1)]), 3)
    connection.from_client(method(1, pika.spec.Channel.Close, 200, "bye", 0, 0))
    connection.from_client(method(1, pika.spec.Channel.Open))
    connection.from_client(method(1, pika.spec.Confirm.Select, False))
    connection.from_client(b"".join(publish(1, 3)))
    assert connection.from_broker(ack(1)).to_client == (ack(1),)


def test_a_forged_publish_is_not_mandatory_and_has_the_same_route():
    plan = AlterationPlan([forge("publish", 1, FORGED, FORGED_PROPERTIES)])
    connection = confirming(plan, 0)
    output = connection.from_client(b"".join(publish(1, 0)))
    assert len(output.to_broker) == 1
    (_, _, *_), (_, forged, properties, body) = decode(data_of(output.to_broker))
    sizes = [len(frame.data) for frame in FrameCutter().feed(output.to_broker[0])]
    assert max(sizes) == FRAME_MAX
    assert (forged.exchange, forged.routing_key, forged.mandatory) == ("e", "k", False)
    assert (properties, body) == (FORGED_PROPERTIES, FORGED)


def test_a_held_publish_goes_before_whatever_else_its_channel_does():
    connection = confirming(AlterationPlan([swap("publish", 1)]), 0)
    first, close = b"".join(publish(1, 0)), method(1, pika.spec.Channel.Close, 200, "", 0, 0)
    output = connection.from_client(first)
    assert output.to_broker == ()
    assert connection.from_client(close).to_broker == (first + close,)
