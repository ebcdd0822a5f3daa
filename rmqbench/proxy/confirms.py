"""Publisher confirms through a proxy that drops, adds and exchanges publishes.

Broker and publisher number the publishes of a channel by counting them, each by itself, from the
confirm.select on. What one of them does not see puts their numbers apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Publishes"]


@dataclass(slots=True)
class Publishes:
    """A channel in confirm mode: which of the broker's tags is which of the publisher's."""

    numbered: int = 0  # publishes of the publisher
    sent: int = 0  # publishes to the broker
    pending: dict[int, int] = field(default_factory=dict)  # ascending; 0 for one of our own
    same: bool = True  # so far both count alike, and the publisher has heard all confirms in order

    def send(self, number: int) -> None:
        """Note that a publish goes to the broker: one with a number, or one of our own (0)."""
        self.sent += 1
        self.pending[self.sent] = number
        self.same = self.same and number == self.sent

    def settle(self, tag: int, multiple: bool) -> list[int]:
        """Give the publisher's numbers of all that a confirm covers."""
        if not multiple:
            covered = [tag] if tag in self.pending else []
        elif tag:
            covered = []
            for each in self.pending:
                if each > tag:
                    break
                covered.append(each)
        else:  # 0 with multiple stands for all outstanding
            covered = list(self.pending)
        return [self.pending.pop(each) for each in covered]
