"""The executor of a Dask cluster, on whose hosts producers and consumers work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rmqbench.errors import UsageError

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["opened_executor", "require_address"]

_CONNECT_S = 10


def require_address(address: str) -> None:
    """Raise UsageError for what is not the address of a Dask scheduler."""
    if not address.startswith(("tcp://", "tls://")):
        raise UsageError(
            f"{address!r} is not the address of a Dask scheduler.",
            "Write tcp://host:8786, or tls://… where it has certificates.",
        )


@contextmanager
def opened_executor(address: str | None) -> Iterator[Executor | None]:
    """Connect to a Dask scheduler and yield its executor; None: there is none.

    Raise UsageError where that cannot be done.
    """
    if address is None:
        yield None
        return
    require_address(address)
    try:
        from distributed import Client  # noqa: PLC0415  # an extra
    except ImportError:
        raise UsageError(
            "Dask, to which an executor's address belongs, is not installed.",
            "Install it, here and on the other hosts: pip install 'rmqbench[dask]'",
        ) from None
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"No Dask scheduler answers at {address}: {error}.",
            "Start one with: dask scheduler",
        ) from error
    with client:
        # Nothing is to be done twice: a job itself refuses to begin again, too.
        yield client.get_executor(pure=False, retries=0)
