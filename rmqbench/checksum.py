"""CRC-32 of the heads of many messages at once.

A CRC is linear: each piece of the head adds its own share to that of a head of zeros. The shares of
all values of each 16 bits are computed once.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rmqbench.once import once

__all__ = ["CHECKED_BYTES", "head_checksums"]

CHECKED_BYTES: Final = 40  # of the head, as rmqbench.message lays it out; its checksum follows
_PRODUCER_AT, _NUMBERS_AT = 6, 24
_PIECES = 8  # of 16 bits each: the sequence number, then the send time
_TABLE_STARTS = np.arange(_PIECES) << 16  # where each piece has its table


def head_checksums(
    base: int, producers: npt.NDArray[np.intp], pieces: npt.NDArray[Any]
) -> npt.NDArray[np.uint32]:
    """Return the checksums of ``n`` heads: uint32 of shape (n,).

    ``base`` is the checksum of a head whose numbers are all 0. ``producers`` has shape (n,),
    ``pieces`` is uint16 of shape (n, 8): sequence number and send time, each in four pieces, the
    most significant one first.
    """
    shares = _number_shares().take(pieces.astype(np.intp) + _TABLE_STARTS)
    checksums: npt.NDArray[np.uint32] = np.bitwise_xor.reduce(shares, axis=1)
    return checksums ^ np.uint32(base) ^ _producer_shares()[producers]


@once
def _number_shares() -> npt.NDArray[np.uint32]:
    """Return the shares of sequence and send time, one piece's table behind the other."""
    return np.concatenate([_shares(_NUMBERS_AT + 2 * piece) for piece in range(_PIECES)])


@once
def _producer_shares() -> npt.NDArray[np.uint32]:
    """Return the shares of the producer's number: uint32 of shape (65536,)."""
    return _shares(_PRODUCER_AT)


def _shares(at: int) -> npt.NDArray[np.uint32]:
    """Return what each value of the 16 bits at an offset adds to the checksum."""
    zero = zlib.crc32(bytes(CHECKED_BYTES))
    high, low = (
        np.array(
            [
                zlib.crc32(bytes(i) + bytes([v]) + bytes(CHECKED_BYTES - 1 - i)) ^ zero
                for v in range(256)
            ]
        )
        for i in (at, at + 1)
    )
    shares: npt.NDArray[np.uint32] = np.bitwise_xor.outer(high, low).ravel().astype(np.uint32)
    return shares
