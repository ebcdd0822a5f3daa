"""The same script on the model and on a real broker, act by act, with answers that can be compared.

A script is a generator that is given a client and the kind of its queues. At each ``yield`` is
noted what was yielded, and all that has come since. The model goes first: how much comes after each
of its acts is how much a real broker is given time for. So nothing waits longer than it must, and
a broker that is slow is not taken for one that answers otherwise.
"""

import re
import socket
import time
from types import SimpleNamespace

import pika.frame
from pika.spec import Basic, Channel, Queue

from rmqbench.simulation import ModelBroker
from support.amqp_client import Client, VirtualTime

ACT_S = 0.001  # what an act takes in the model
PATIENCE_S = 8.0  # for what the model has and the broker does not send
IMPATIENCE_S = 0.2  # the same, once they differ
QUIET_S = 0.02  # in which what the model does not send may still come, at each note
LONG_QUIET_S = 0.1  # the same, in the end


class Party(Client):
    """One client of a script; counts what has come."""

    def __init__(self, *arguments, **settings):
        self.arrived = 0  # methods, and publishes that were settled
        self.settled = {}  # by channel: what each tag was
        super().__init__(*arguments, **settings)

    def _on_frame(self, frame):
        super()._on_frame(frame)
        if not isinstance(frame, pika.frame.Method):
            return
        method, channel = frame.method, frame.channel_number
        if isinstance(method, Basic.Ack | Basic.Nack):
            known = self.settled.setdefault(channel, {})
            tag = method.delivery_tag
            tags = range(1, tag + 1) if method.multiple else [tag]
            new = [each for each in tags if each not in known]
            known.update(dict.fromkeys(new, method.NAME))
            self.arrived += len(new)
            return
        if isinstance(method, Channel.OpenOk):
            self.settled.pop(channel, None)
        self.arrived += 1

    def leave(self):
        """Break the connection off."""
        self.session.disconnected()
        self.lost = True

    @property
    def incomplete(self):
        """Whether a content is under way."""
        return any(each.missing for each in self._open.values())


class ModelParty(Party):
    """A client of the model, in which time passes with each act."""

    def __init__(self, version, first=None):
        if first is None:
            self.time = VirtualTime()
            self.broker = ModelBroker(self.time, version=version)
            self.parties = [self]
            self.node = ModelNode(self)
        else:
            self.time, self.broker, self.parties = first.time, first.broker, first.parties
            self.node = first.node
            self.parties.append(self)
        self.marks = []  # how much had arrived after each act
        self.noted = []  # how much had arrived at each note; None before it was there
        self.counted = []  # what each passive declare answered
        super().__init__(self.broker)

    def send_bytes(self, data):
        super().send_bytes(data)
        self.time.advance(ACT_S)
        self.marks.append(self.arrived)

    def counts(self, name="q", channel=1):
        self.counted.append(super().counts(name, channel))
        return self.counted[-1]

    def sleep(self, seconds):
        self.time.advance(seconds)

    def catch_up(self, note):
        for party in self.parties:
            party.noted.append(party.arrived)

    def other(self):
        """Return a second client of the same broker."""
        return ModelParty(self.broker.version, self)


class ModelNode:
    """What the operator does to the model."""

    def __init__(self, party):
        self._broker = party.broker
        self.stop, self.start, self.kill = self._broker.stop, self._broker.start, self._broker.kill
        self.set_policy, self.clear_policy = self._broker.set_policy, self._broker.clear_policy
        self.close_connections = self._broker.close_connections

    def set_operator_policy(self, name, pattern, definition):
        self._broker.set_policy(name, pattern, definition, operator=True)

    def clear_operator_policy(self, name):
        self._broker.clear_policy(name, operator=True)

    def alarm(self, on):
        if on:
            self._broker.block()
        else:
            self._broker.unblock()


class SocketParty(Party):
    """A client of a real broker, over a plain socket; ``partner`` has done the same acts."""

    def __init__(self, endpoint, node, partner, first=None):
        self.endpoint, self.node, self.partner = endpoint, node, partner
        self.parties = [self] if first is None else first.parties
        if first is not None:
            self.parties.append(self)
        self._shared = SimpleNamespace(patience_s=PATIENCE_S) if first is None else first._shared
        self._acts, self._counted = iter(partner.marks), iter(partner.counted)
        self._socket = socket.create_connection((endpoint.host, endpoint.port), 30)
        super().__init__(
            self, user=endpoint.username, password=endpoint.password, host=endpoint.virtual_host
        )

    def connect(self, send, lost):
        return self

    def send_bytes(self, data):
        self._write(data)
        self._wait(next(self._acts, 0))

    def _write(self, data):
        if not self.lost:
            try:
                self._socket.sendall(data)
            except OSError:
                self._on_lost()

    def _wait(self, arrived):
        deadline = time.monotonic() + self._shared.patience_s
        while not self.lost and (self.arrived < arrived or self.incomplete):
            if not self._read(deadline - time.monotonic()):
                self._shared.patience_s = IMPATIENCE_S
                return

    def _read(self, seconds):
        """Read what comes within some seconds; return whether something did."""
        if seconds <= 0 or self.lost:
            return False
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if data:
            self._on_bytes(data)
        else:
            self._on_lost()
        return True

    def sleep(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for party in self.parties:
                party._read(max(0.0005, (deadline - time.monotonic()) / len(self.parties)))
            if all(party.lost for party in self.parties):
                time.sleep(max(0.0, deadline - time.monotonic()))

    def counts(self, name="q", channel=1):
        """Ask until the answer is the model's: what a client does reaches a queue after a while."""
        expected = next(self._counted, None)
        next(self._acts, 0)  # the model has asked once
        deadline = time.monotonic() + self._shared.patience_s
        while True:
            self._write(
                pika.frame.Method(channel, Queue.Declare(queue=name, passive=True)).marshal()
            )
            arrived = self.arrived
            while not (found := [each for each in self.got if _is_answer(each, channel)]):
                if not self._read(PATIENCE_S):
                    raise AssertionError(f"no answer to a passive declare of {name}")
            self.got.remove(found[0])
            answer = found[0].method.message_count, found[0].method.consumer_count
            if answer == expected or time.monotonic() > deadline:
                if answer != expected:
                    self._shared.patience_s = IMPATIENCE_S
                return answer
            self.arrived = arrived + (self.arrived - arrived - 1)
            time.sleep(0.005)

    def catch_up(self, note):
        """Wait until all that the model's clients had at a note is there, and a little longer."""
        for party in self.parties:
            noted = party.partner.noted
            missed = len(party.partner.parties[0].noted) - len(noted)  # notes before it was there
            if note - missed >= 0:
                party._wait(noted[note - missed] if note - missed < len(noted) else 0)
        self.sleep(QUIET_S)

    def disconnected(self):
        self._socket.close()

    def other(self):
        partner = self.partner.parties[len(self.parties)]
        return SocketParty(self.endpoint, self.node, partner, self)


def _is_answer(got, channel):
    return got.channel == channel and isinstance(got.method, Queue.DeclareOk)


class RealNode:
    """What the operator does to a real broker."""

    def __init__(self, broker, endpoint):
        self._broker, self._host = broker, endpoint.virtual_host
        self._watermark = ""
        self.stop, self.start, self.kill = broker.stop, broker.start, broker.kill

    def set_policy(self, name, pattern, definition):
        with self._broker.management as management:
            management.set_policy(name, pattern, definition, vhost=self._host)

    def clear_policy(self, name):
        with self._broker.management as management:
            management.delete_policy(name, vhost=self._host)

    def set_operator_policy(self, name, pattern, definition):
        body = {"pattern": pattern, "definition": definition, "apply-to": "queues"}
        self._operator_policy("PUT", name, body)

    def clear_operator_policy(self, name):
        self._operator_policy("DELETE", name, None)

    def _operator_policy(self, method, name, body):
        with self._broker.management as management:
            path = f"operator-policies/{self._host}/{name}"
            answer = management._request(method, path, body=body)
            assert answer.ok, answer.text

    def close_connections(self, reason):
        with self._broker.management as management:
            deadline = time.monotonic() + 20
            while not (found := management.connections(self._host)):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            for each in found:
                management.close_connection(each["name"], reason)

    def alarm(self, on):
        if on:
            asked = "vm_memory_monitor:get_vm_memory_high_watermark()."
            self._watermark = self._broker.control("eval", asked, "--silent").strip()
        mark = "0.00001" if on else self._watermark
        self._broker.control("set_vm_memory_high_watermark", mark)


def play(script, client, kind):
    """Play a script; return what was noted at each of its steps."""
    client.open(channels=3, confirm=True)
    notes = []
    try:
        for number, result in enumerate(script(client, kind)):
            client.catch_up(number)
            notes.append(_noted(client, result))
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError) as error:
        notes.append(f"the script has ended: {error!r}")
    if isinstance(client, SocketParty):
        client.sleep(LONG_QUIET_S)
    notes.append(_noted(client, "in the end"))
    for party in client.parties:
        party.leave()
    return notes


def compare(script, kind, broker, endpoint, *, patience_s=PATIENCE_S):
    """Play a script on the model, then on a real broker; return the notes of both."""
    model = ModelParty(broker.version)
    host = endpoint.virtual_host
    expected = [
        re.sub(r"(vhost (\\?')?)/", rf"\1{host}", repr(each)) for each in play(script, model, kind)
    ]
    real = SocketParty(endpoint, RealNode(broker, endpoint), model)
    real._shared.patience_s = patience_s
    return expected, [repr(each) for each in play(script, real, kind)]


def difference(expected, real):
    """Say in which step a real broker differs from the model first; empty where it does not."""
    for step, (one, other) in enumerate(zip(expected, real, strict=False)):
        if one != other:
            return f"step {step}\nmodel:    {one}\nRabbitMQ: {other}"
    if len(expected) != len(real):
        return f"{len(expected)} steps on the model, {len(real)} on RabbitMQ"
    return ""


def _noted(client, result):
    """Return what a step came to: its result, and what every client has got, by channel."""
    noted = [plain(result)]
    for party in client.parties:
        came = sorted(party.take(), key=lambda got: got.channel)
        shown = [
            plain(each) for each in came if not isinstance(each.method, Basic.Ack | Basic.Nack)
        ]
        settled = {channel: sorted(tags.items()) for channel, tags in party.settled.items() if tags}
        noted.append((shown, settled, party.lost))
    return noted


_SHOWN = (
    "NAME",
    "consumer_tag",
    "consumer_count",
    "delivery_tag",
    "exchange",
    "message_count",
    "redelivered",
    "reply_code",
    "reply_text",
    "reason",
    "routing_key",
    "class_id",
    "method_id",
)


def plain(got):
    """Return what is to be compared."""
    if isinstance(got, list | tuple):
        return [plain(each) for each in got]
    method = getattr(got, "method", got)
    shown = {name: getattr(method, name) for name in _SHOWN if hasattr(method, name)}
    if not shown:
        return got
    if hasattr(got, "body"):
        shown |= {"channel": got.channel, "body": got.body}
        headers = dict((got.properties and got.properties.headers) or {})
        if "x-death" in headers:
            headers["x-death"] = [
                {name: value for name, value in sorted(death.items()) if name != "time"}
                for death in headers["x-death"]
            ]
        shown["headers"] = dict(sorted(headers.items()))
    return shown
