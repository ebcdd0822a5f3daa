"""A publishing channel in confirm mode: which tags are not settled, and what is sent about them.

https://www.rabbitmq.com/docs/confirms#publisher-confirms
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rmqbench.simulation.behaviour import Misdeed, Moment
from rmqbench.simulation.content import acknowledgement
from rmqbench.simulation.truth import Confirmed, Nacked

if TYPE_CHECKING:
    from rmqbench.simulation.channel import Channel

__all__ = ["Confirms"]

_NEVER_PUBLISHED: Final = 1000  # how far above the last tag a misdeed confirms


class Confirms:
    """The confirms of one channel. Tags count its publishes from 1 on."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._broker = channel.broker
        self._published = 0
        self._unconfirmed: dict[int, int] = {}  # the message of each tag
        self._settled: list[tuple[int, bool]] = []  # tag and nack, not sent yet

    def next_tag(self) -> int:
        """Count a publish, and return its tag."""
        self._published += 1
        return self._published

    def expect(self, tag: int, message: int) -> None:
        """Wait for what becomes of a publish."""
        self._unconfirmed[tag] = message

    def settle(self, tag: int, *, nack: bool) -> None:
        """Confirm a publish, or nack it, with all that is settled at the same time."""
        if not self._channel.is_open:
            return
        if not nack:
            behaviour = self._broker.behaviour
            misdeed = behaviour.misdeed(Moment.CONFIRM, "", self._unconfirmed[tag])
            if misdeed is not None:
                self._misconfirm(misdeed, tag)
                return
        self._settled.append((tag, nack))
        self._broker.has_settled(self)

    def flush(self) -> None:
        """Send the confirms that are due, grouped as RabbitMQ does it or one by one."""
        settled, self._settled = self._settled, []
        if not settled or not self._channel.is_open:
            return
        if len(settled) == 1 or not self._broker.behaviour.groups_confirms():
            for tag, nack in settled:
                self._send_confirm(tag, False, nack, (self._unconfirmed.pop(tag),))
            return
        messages = {tag: self._unconfirmed.pop(tag) for tag, _ in settled}
        oldest = next(iter(self._unconfirmed), self._published + 1)
        acks = sorted(tag for tag, nack in settled if not nack)
        nacks = sorted(tag for tag, nack in settled if nack)
        for nack, tags, others in ((False, acks, nacks), (True, nacks, acks)):
            end = min(oldest, others[0]) if others else oldest
            below = [tag for tag in tags if tag < end]
            if below:
                covered = tuple(messages[tag] for tag in below)
                self._send_confirm(below[-1], True, nack, covered)
            for tag in tags[len(below) :]:
                self._send_confirm(tag, False, nack, (messages[tag],))

    def _send_confirm(self, tag: int, multiple: bool, nack: bool, covered: tuple[int, ...]) -> None:
        broker, session = self._broker, self._channel.session
        session.write(acknowledgement(self._channel.number, tag, multiple, nack))
        kind = Nacked if nack else Confirmed
        broker.note(
            kind(broker.now(), session.number, self._channel.number, tag, multiple, covered)
        )

    def _misconfirm(self, misdeed: Misdeed, tag: int) -> None:
        message = self._unconfirmed[tag]
        self._broker.misdone(
            misdeed, message, to=(self._channel.session.number, self._channel.number, tag)
        )
        if misdeed is Misdeed.WITHHOLD_CONFIRM:
            return
        if self._settled:
            self.flush()
        del self._unconfirmed[tag]
        further = {
            Misdeed.CONFIRM_TOO_HIGH: self._published + _NEVER_PUBLISHED,
            Misdeed.CONFIRM_ZERO: 0,
            Misdeed.CONFIRM_HUGE: (1 << 63) + tag,
        }
        sent = {
            Misdeed.NACK_STORED: [(tag, True)],
            Misdeed.ACK_THEN_NACK: [(tag, False), (tag, True)],
            Misdeed.NACK_THEN_ACK: [(tag, True), (tag, False)],
            Misdeed.CONFIRM_TWICE: [(tag, False), (tag, False)],
        }.get(misdeed, [(tag, False)])
        for each, nack in sent:
            self._send_confirm(each, False, nack, (message,))
        if misdeed in further:
            self._send_confirm(further[misdeed], False, False, ())
