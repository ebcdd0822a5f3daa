"""Large messages: their constant rest is compared as it comes, their few numbers many at once.

To compute and compare the numbers of a single message takes as long as to receive 100 KiB. So the
rows of large messages are kept until there are some, or nothing more is there. What turns out to be
wrong then is put together again: all behind its row is known.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from rmqbench.amqp.shape import Deliveries, Shape

__all__ = ["WideRows"]

_MOST_ROWS: Final = 256
_MOST_BYTES: Final = 1 << 24  # of messages of which a byte may be wrong: they are made again


class WideRows:
    """The rows of messages of one shape that came one after the other, not compared yet.

    There are at most as many as were lately right in a row: odd messages then cost little.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shape: Shape | None = None
        self._rows = bytearray()
        self._bytes = 0  # of the whole messages
        self._most = 1

    def takes(self, shape: Shape | None) -> bool:
        """Whether a message of this shape (None: anything else) can follow those that are here."""
        if not self.count:
            return True
        is_alike = shape is not None and shape is self._shape and shape.is_wide
        return is_alike and self.count < self._most and self._bytes < _MOST_BYTES

    def add(self, shape: Shape, row: bytes | memoryview, length: int) -> None:
        """Add the row of a message so long, of which all that follows the row was right."""
        self._shape = shape
        self._rows += row
        self._bytes += length
        self.count += 1

    def take_all(self) -> tuple[Deliveries | None, bytes]:
        """Remove all; return the deliveries up to the first wrong one, None if there are none.

        With them come the frames of the wrong one, and of all behind it.
        """
        shape, rows, count = self._shape, self._rows, self.count
        if shape is None or not count:
            return None, b""
        self._rows, self._bytes, self.count = bytearray(), 0, 0
        octets = np.frombuffer(rows, np.uint8).reshape(count, -1)
        deliveries = shape.match_rows(octets)
        matched = len(deliveries.tags)
        if matched == count:
            self._most = min(2 * self._most, _MOST_ROWS)
            return deliveries, b""
        self._most = 1
        wrong = (row.tobytes() for row in octets[matched:])
        frames = b"".join(piece for row in wrong for piece in (row, *shape.rest_of(row)))
        return deliveries if matched else None, frames
