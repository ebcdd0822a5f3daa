"""Versions of RabbitMQ, as numbers that can be compared."""

from __future__ import annotations

import re

__all__ = ["version_number"]

_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def version_number(version: str) -> tuple[int, int, int] | None:
    """Return major, minor and patch of a version such as ``4.1.5-rc.1``; None: it has none."""
    read = _NUMBERS.match(version)
    return read and (int(read[1]), int(read[2]), int(read[3] or 0))
