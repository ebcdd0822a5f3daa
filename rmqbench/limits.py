"""A limit on a latency, such as ``delivery.p99_ms <= 20``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Self

from rmqbench.errors import UsageError

__all__ = ["FIGURES", "LATENCIES", "Limit"]

LATENCIES: Final = ("confirm", "delivery", "acknowledge")
"""What a limit may be on: until a message's confirm, its delivery, its acknowledgement."""

FIGURES: Final = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "p9999_ms", "max_ms")
"""What of a latency may be limited, in milliseconds: p999 is 99.9 percent of all messages."""

_LIMIT = re.compile(r"\s*(\w+)\.(\w+)\s*<=\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a percentile of a latency may be, in milliseconds."""

    latency: str
    figure: str
    most_ms: float

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``LATENCY.FIGURE <= MILLISECONDS``; raise UsageError for anything else."""
        found = _LIMIT.fullmatch(text)
        latency, figure, most = found.groups() if found else ("", "", "")
        if latency not in LATENCIES or figure not in FIGURES:
            raise _refused(text)
        try:
            most_ms = float(most)
        except ValueError:
            raise _refused(text) from None
        if not 0 < most_ms < math.inf:
            raise _refused(text)
        return cls(latency, figure, most_ms)

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.latency}.{self.figure} <= {self.most_ms:g}"


def _refused(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is no limit on a latency.",
        f"Write it such as 'delivery.p99_ms <= 20'. There are {', '.join(LATENCIES)}, with "
        f"{', '.join(FIGURES)}.",
    )
