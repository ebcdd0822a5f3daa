"""Whether the vector path is on: the frames of many messages as one array."""

from __future__ import annotations

import os

__all__ = ["vector_path_is_on"]


def vector_path_is_on() -> bool:
    """Tell whether it is; RMQBENCH_VECTOR=0 leaves all messages to pika, for comparison."""
    return os.environ.get("RMQBENCH_VECTOR", "1") != "0"
