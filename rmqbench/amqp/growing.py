"""A large message on its way: each piece of it is compared when it comes, and then let go.

So it passes through the cache of a processor, and takes no memory of its own size. If it turns out
not to be as computed, all that has come before is known to be: it is put together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rmqbench.amqp.framing import BODY, FRAME_END, frame_header
from rmqbench.message import HEAD_SIZE, Recipe

__all__ = ["Growing", "due_behind_head"]

_END: Final = bytes([FRAME_END])


class Growing:
    """What follows the first bytes of a message, its ``row``: ``missing`` bytes, the ``pieces``."""

    def __init__(self, row: bytes, pieces: Sequence[bytes | memoryview], missing: int) -> None:
        self.row = row
        self.missing = missing
        self.length = len(row) + missing
        self.is_wrong = False
        self._pieces = pieces
        self._number = 0  # of the piece that is due next
        self._within = 0  # so many bytes of it have come

    def take(self, buffer: bytearray, at: int, end: int) -> int:
        """Return how many bytes from ``at`` on are its next ones.

        Where they are fewer than are there and missing, ``is_wrong`` says that another one is not.
        """
        begin, end = at, min(end, at + self.missing)
        pieces, number, within = self._pieces, self._number, self._within
        starts_with = buffer.startswith
        while at < end:
            due = pieces[number]
            length = len(due)
            if within or length > end - at:  # only a part of it is new
                due = memoryview(due)[within : within + end - at]
            if not starts_with(due, at):
                self.is_wrong = True
                break
            at += len(due)
            within += len(due)
            if within == length:
                number, within = number + 1, 0
        self._number, self._within = number, within
        self.missing -= at - begin
        return at - begin

    def so_far(self) -> bytes:
        """Return all that has come and is right, the first bytes included."""
        begun = self._pieces[self._number][: self._within] if self._within else b""
        return b"".join((self.row, *self._pieces[: self._number], begun))


def due_behind_head(
    recipe: Recipe, channel: int, frames: Iterable[int]
) -> Sequence[bytes | memoryview]:
    """Return what follows the head of a body that comes in frames with payloads so long."""
    pieces: list[bytes | memoryview] = []
    tail_at = -HEAD_SIZE
    for length in frames:
        if tail_at < 0:
            pieces += recipe.tail_pieces(0, length - HEAD_SIZE)
        else:
            pieces.append(_END + frame_header(BODY, channel, length))
            pieces += recipe.tail_pieces(tail_at, length)
        tail_at += length
    pieces.append(_END)
    return pieces
