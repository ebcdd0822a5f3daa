"""Scripts of random acts, for ``support.lockstep``; hypothesis shrinks them.

An act is a name and numbers. Which delivery or consumer a number means is found when the act is
done, from what the client has: so an act means something whatever is left out before it.
"""

import itertools

from hypothesis import strategies as st
from pika.spec import Basic, Channel, Queue

__all__ = ["script_of", "scripts"]

CHANNELS = (2, 3)  # those that consume; channel 1 publishes and asks
ARGUMENTS = (
    {},
    {},
    {},
    {"x-max-length": 3},
    {"x-max-length": 3, "x-overflow": "reject-publish"},
    {"x-single-active-consumer": True},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
)
_channels, _any = st.sampled_from(CHANNELS), st.integers(0, 5)
_flags = st.booleans()
ACTS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 4)),
    st.tuples(st.just("publish"), st.integers(1, 4)),
    st.tuples(st.just("consume"), _channels, st.sampled_from([0, 1, 2, 3]), _flags),
    st.tuples(st.just("get"), _channels, _flags),
    st.tuples(st.just("ack"), _channels, _any, _flags),
    st.tuples(st.just("nack"), _channels, _any, _flags, _flags),
    st.tuples(st.just("reject"), _channels, _any, _flags),
    st.tuples(st.just("recover"), _channels),
    st.tuples(st.just("cancel"), _channels, _any),
    st.tuples(st.just("close"), _channels),
    st.tuples(st.just("fail"), _channels),
    st.tuples(st.just("purge")),
    st.tuples(st.just("delete")),
)


def scripts(longest=14):
    """Return hypothesis's strategy for a script: the queue's arguments, and acts."""
    return st.tuples(st.sampled_from(ARGUMENTS), st.lists(ACTS, min_size=3, max_size=longest))


class _Acting:
    """What a client holds, as far as it has been told."""

    def __init__(self, client, kind, arguments):
        self.client = client
        self.arguments = {"x-queue-type": kind, **arguments}
        if kind == "quorum":  # how many come in before its publishers know is left to chance
            self.arguments.pop("x-overflow", None)
        self.gets = kind == "classic" or "x-single-active-consumer" not in arguments  # refused
        self.bodies = itertools.count()
        self.tags = (f"{letter}{at}" for at in range(1000) for letter in "bca")
        self.unacked = {channel: [] for channel in CHANNELS}
        self.consumers = {channel: [] for channel in CHANNELS}
        self.without_acks = set()

    def declare(self):
        self.client.declare(arguments=self.arguments)

    def publish(self, many):
        self.client.publish(*(next(self.bodies) for _ in range(many)))

    def consume(self, channel, prefetch, no_ack):
        if no_ack:
            prefetch = 0  # a quorum queue minds it until its channel has settled what it delivered
        tag = next(self.tags)
        self.consumers[channel].append(tag)
        if no_ack:
            self.without_acks.add(tag)
        self.client.consume(tag=tag, channel=channel, prefetch=prefetch, no_ack=no_ack)

    def get(self, channel, no_ack):
        if not self.gets:
            return None
        got = self.client.get(channel=channel, no_ack=no_ack)
        if isinstance(got.method, Basic.GetOk) and not no_ack:
            self.unacked[channel].append(got.method.delivery_tag)
        return got

    def _take(self, channel, which, multiple):
        unacked = sorted(self.unacked[channel])
        if not unacked:
            return None
        tag = unacked[which % len(unacked)]
        self.unacked[channel] = [
            each for each in unacked if (each > tag if multiple else each != tag)
        ]
        return tag

    def ack(self, channel, which, multiple):
        tag = self._take(channel, which, multiple)
        if tag is not None:
            self.client.ack(tag, multiple, channel)

    def nack(self, channel, which, multiple, requeue):
        tag = self._take(channel, which, multiple)
        if tag is not None:
            self.client.send(Basic.Nack(tag, multiple, requeue), channel)

    def reject(self, channel, which, requeue):
        tag = self._take(channel, which, False)
        if tag is not None:
            self.client.send(Basic.Reject(tag, requeue), channel)

    def recover(self, channel):
        self.unacked[channel] = []
        self.client.call(Basic.Recover(True), channel)

    def cancel(self, channel, which):
        tags = self.consumers[channel]
        if tags:
            tag = tags.pop(which % len(tags))
            self.client.call(Basic.Cancel(tag), channel)

    def close(self, channel):
        self._forget(channel)
        self.client.call(Channel.Close(0, "", 0, 0), channel)
        self.client.call(Channel.Open(), channel)

    def fail(self, channel):
        """Have the broker close the channel."""
        self._forget(channel)
        self.client.ack(987, channel=channel)
        self.client.send(Channel.CloseOk(), channel)
        self.client.call(Channel.Open(), channel)

    def _forget(self, channel):
        self.unacked[channel] = []
        self.consumers[channel].clear()

    def purge(self):
        return self.client.call(Queue.Purge(queue="q"))

    def delete(self):
        answer = self.client.call(Queue.Delete(queue="q"))
        for consumers in self.consumers.values():
            consumers.clear()
        self.declare()
        return answer

    def deliveries(self):
        """Take note of what has been delivered."""
        for got in self.client.got:
            method = got.method
            if isinstance(method, Basic.Deliver) and method.consumer_tag not in self.without_acks:
                self.unacked[got.channel].append(method.delivery_tag)


def script_of(arguments, acts):
    """Return a script that does some acts."""

    def script(client, kind):
        client.declare("dead", arguments={"x-queue-type": kind})
        acting = _Acting(client, kind, arguments)
        acting.declare()
        for name, *numbers in acts:
            answer = getattr(acting, name)(*numbers)
            counts = client.counts(), client.counts("dead")
            acting.deliveries()
            yield name, *numbers, answer, *counts

    return script
