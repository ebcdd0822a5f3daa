"""What follows the heads of bodies whose sizes are mixed: beginnings of one longest tail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rmqbench.amqp.framing import (
    BODY,
    FRAME_END,
    OVERHEAD,
    PAYLOAD_AT,
    frame_header,
    make_frame,
)
from rmqbench.message import HEAD_SIZE, Recipe

__all__ = ["Buffer", "Mark", "Piece", "Tail"]

Buffer = bytes | bytearray
Piece = bytes | memoryview
Mark = tuple[int, bytes]  # where in a message, and what

_END: Final = bytes([FRAME_END])


class Tail:
    """What follows the head of a body: of each a beginning of one tail, cut into frames."""

    def __init__(self, recipe: Recipe, channel: int, frame_max: int) -> None:
        """Cut the longest tail into frames of at most ``frame_max`` bytes (0: any)."""
        self.room = frame_max - OVERHEAD if frame_max else recipe.sizes.largest
        self._channel = channel
        body, room = bytes(HEAD_SIZE) + recipe.tail, self.room
        pieces = (body[at : at + room] for at in range(0, len(body), room))
        frames = b"".join(make_frame(BODY, self._channel, piece) for piece in pieces)
        self._framed = memoryview(frames)[PAYLOAD_AT + HEAD_SIZE :]

    def length(self, size: int) -> int:
        """Return how many bytes follow the head of a body of this size, frames included."""
        return size - HEAD_SIZE + 1 + (size - 1) // self.room * OVERHEAD

    def pieces(self, size: int) -> tuple[Piece, ...]:
        """Return what follows the head of a body of this size."""
        room, framed = self.room, self._framed
        if size <= room:
            return framed[: size - HEAD_SIZE], _END
        full = (size - 1) // room  # all its frames but the last one
        last = size - full * room
        last_at = full * (room + OVERHEAD) - PAYLOAD_AT - HEAD_SIZE
        payload_at = last_at + PAYLOAD_AT
        header = frame_header(BODY, self._channel, last)
        return framed[:last_at], header, framed[payload_at : payload_at + last], _END

    def is_at(self, buffer: Buffer, at: int, size: int) -> bool:
        """Whether this, and nothing else, is there."""
        if size <= self.room:  # the usual case, without a loop
            end = at + size - HEAD_SIZE
            payload = self._framed[: size - HEAD_SIZE]
            return buffer[end] == FRAME_END and buffer.startswith(payload, at)
        for piece in self.pieces(size):
            if not buffer.startswith(piece, at):
                return False
            at += len(piece)
        return True

    def headers(self, size: int) -> Iterator[Mark]:
        """Yield the frame headers of a body of this size, and where each is behind the first."""
        for number, at in enumerate(range(0, size, self.room)):
            header = frame_header(BODY, self._channel, min(self.room, size - at))
            yield number * (self.room + OVERHEAD), header
