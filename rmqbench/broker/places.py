"""Free ports and directories for a node of our own."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import socket
import tempfile
from pathlib import Path

import platformdirs
import psutil

from rmqbench.errors import BrokerUnavailable

__all__ = [
    "cache_directory",
    "data_root",
    "free_ports",
    "has_blanks",
    "is_in_memory",
    "require_space",
]

_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_LOWEST_PORT, _HIGHEST_PORT = 15000, 32000


def free_ports(count: int) -> list[int]:
    """Return free TCP ports of 127.0.0.1, outside of the ephemeral range.

    A node keeps its ports over kill and start. Meanwhile a port of the ephemeral range could be
    given to some client, or a client that keeps trying to connect to it could connect to itself.
    """
    candidates = random.sample(range(_LOWEST_PORT, _HIGHEST_PORT), 400)
    low, high = _ephemeral_range()
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in candidates:
            if low <= port <= high:
                continue
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise BrokerUnavailable(
        f"Fewer than {count} ports are free on 127.0.0.1 between {_LOWEST_PORT} and"
        f" {_HIGHEST_PORT}.",
        "End what listens there, or name a broker by --rmqbench-broker amqp://….",
    )


def data_root() -> Path:
    """Return a directory on a real disk for a node's data.

    A file system in memory would make "kept on disk" untrue: one is taken only if there is
    no other directory.
    """
    temporary = Path(tempfile.gettempdir())
    candidates = [temporary, cache_directory() / "nodes", Path("/var/tmp")]
    for candidate in candidates:
        with contextlib.suppress(OSError):
            candidate.mkdir(parents=True, exist_ok=True)
            if not is_in_memory(candidate) and not has_blanks(candidate):
                return candidate
    return temporary


def has_blanks(path: Path) -> bool:
    """Whether a path breaks RabbitMQ's start scripts, which do not quote it."""
    return re.search(r"[\s'\"]", str(path)) is not None


def cache_directory() -> Path:
    """Return the user's cache directory of rmqbench, which may not exist yet."""
    return Path(platformdirs.user_cache_path("rmqbench"))


def is_in_memory(path: Path) -> bool:
    """Whether a path is on a file system in memory."""
    resolved = path.resolve()
    best, kind = -1, ""
    for partition in psutil.disk_partitions(all=True):
        mount = Path(partition.mountpoint)
        if len(mount.parts) > best and resolved.is_relative_to(mount):
            best, kind = len(mount.parts), partition.fstype
    return kind in _IN_MEMORY


def require_space(path: Path, needed_mb: int, what: str) -> None:
    """Raise BrokerUnavailable unless a path's disk has that many MB left."""
    free_mb = shutil.disk_usage(path).free // 2**20
    if free_mb < needed_mb:
        raise BrokerUnavailable(
            f"The disk of {path} has {free_mb} MB left; {what} needs {needed_mb} MB.",
            "Free some space, or let the environment variables TMPDIR and XDG_CACHE_HOME name"
            " directories on another disk.",
        )


def _ephemeral_range() -> tuple[int, int]:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        low, high = (int(word) for word in text.split())
    except (OSError, ValueError):
        return 49152, 65535  # what macOS and Windows have (RFC 6335)
    return low, high
