"""How many files and sockets a process may have open, which often are 1,024 at first."""

from __future__ import annotations

import sys

from rmqbench.errors import UsageError

if sys.platform != "win32":
    import resource

__all__ = ["allow_open_files", "open_files_of_a_node", "require_open_files"]

_OF_A_NODE = 65_536  # Erlang keeps tables as large as its limit: a billion of them are gigabytes


def allow_open_files(count: int) -> None:
    """Raise this process's own limit to ``count`` open files where it is lower.

    Raise UsageError where the system forbids so many.
    """
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    except (OSError, ValueError):
        raise _too_many(count, hard) from None


def require_open_files(count: int) -> None:
    """Raise UsageError where the system forbids a process of ours so many open files."""
    if sys.platform == "win32":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and count > hard:
        raise _too_many(count, hard)


def _too_many(count: int, most: int) -> UsageError:
    return UsageError(
        f"The run needs {count:,} open files and sockets in one process, and may have {most:,}.",
        "Raise the limit (ulimit -n), or let more processes share the clients (--processes).",
    )


def open_files_of_a_node() -> int:
    """Return how many open files a node of our own may have: as many as it can use."""
    if sys.platform == "win32":
        return _OF_A_NODE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OF_A_NODE if hard == resource.RLIM_INFINITY else min(hard, _OF_A_NODE)
