"""Publisher confirms through a proxy that drops, adds and swaps publishes.

Broker and publisher each number the publishes of a channel by counting them, from confirm.select
on. A publish that only one of the two sees makes their numbers differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Publishes"]


@dataclass(slots=True)
class Publishes:
    """A channel in confirm mode: which tag of the broker is which tag of the publisher."""

    numbered: int = 0  # publishes that the publisher has sent
    sent: int = 0  # publishes that the broker was sent
    outstanding: dict[int, int] = field(default_factory=dict)  # ascending; 0 for one of our own
    same: bool = True  # so far both number alike, and the publisher got all confirms in order

    def send(self, number: int) -> None:
        """Count a publish to the broker: one with the publisher's number, or one of our own (0)."""
        self.sent += 1
        self.outstanding[self.sent] = number
        self.same = self.same and number == self.sent

    def settle(self, tag: int, multiple: bool) -> list[int]:
        """Return the publisher's numbers of all that a confirm covers (0: one of our own)."""
        if not multiple:
            covered = [tag] if tag in self.outstanding else []
        elif tag:
            covered = []
            for each in self.outstanding:
                if each > tag:
                    break
                covered.append(each)
        else:  # 0 with multiple stands for all outstanding
            covered = list(self.outstanding)
        return [self.outstanding.pop(each) for each in covered]
