"""Ask the broker what stands in a run's queues before any consumer is there; it decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from rmqbench.amqp import topology as topologies
from rmqbench.amqp.routing import routes
from rmqbench.broker import Broker
from rmqbench.errors import DeadlineExceeded
from rmqbench.management.answers import QueueInfo, read_queues
from rmqbench.message import Recipe
from rmqbench.pieces import pieces
from rmqbench.run_directory.journal import BacklogShown, Counted, Entry
from rmqbench.run_directory.ledger import are_confirmed
from rmqbench.runner.isolation import Place
from rmqbench.verdict.removals import may_remove
from rmqbench.waiting import wait_until

__all__ = ["count_ready", "least_bytes", "show_backlog"]

_COUNT_S = 10.0  # how long a queue may take to show all that it has confirmed
_FIGURES_S = 60.0  # how long the broker's figures, emitted every 5 s, may take to show the same
_POLL_S = 0.1


def count_ready(
    place: Place, confirmed: int, may_lack: Callable[[], bool], write: Callable[[Entry], None]
) -> Mapping[str, int]:
    """Return what is ready in each queue, exactly, and write it down.

    A queue may show a message a moment after it has confirmed it: it is asked again until all
    confirmed ones are there, unless ``may_lack`` says that some may be missing for good: the drain
    tells.
    """
    topology = place.topology
    names = topology.queue_names
    get_all = routes(topology, topology.exchange, topology.routing_key)
    ready: dict[str, int] = {}

    def all_there() -> bool:
        ready.update(topologies.ready_counts(place.endpoint, names))
        return (
            any(may_remove(queue.arguments) for queue in place.topology.queues)
            or may_lack()
            or all(ready[name] >= confirmed for name in get_all)
        )

    with suppress(DeadlineExceeded):  # it is what the queue says in the end
        wait_until(all_there, _COUNT_S, "the backlog to be ready", every_s=_POLL_S)
    for name, count in ready.items():
        write(Counted(queue=name, ready=count))
    return ready


def least_bytes(recipe: Recipe, states: Sequence[npt.NDArray[np.uint8]], ready: int) -> int:
    """Return how many bytes the bodies of so many ready messages have at the least.

    ``states`` are what became of each producer's publishes. Where it is the confirmed ones that are
    ready, as it should be, the sum is exact.
    """
    total = count = 0
    for producer, state in enumerate(states):
        for piece in pieces(len(state)):
            sequences = piece.start + np.flatnonzero(are_confirmed(state[piece]))
            total += recipe.total_bytes(producer, sequences)
            count += len(sequences)
    sizes = recipe.sizes
    if ready >= count:
        return total + (ready - count) * sizes.smallest
    return max(total - (count - ready) * sizes.largest, ready * sizes.smallest)


def show_backlog(
    broker: Broker,
    place: Place,
    ready: Mapping[str, int],
    bytes_of: Callable[[int], int],
    write: Callable[[Entry], None],
) -> None:
    """Ask the Management API where the backlog is, once its figures have caught up with it.

    ``bytes_of`` says how many bytes the bodies of so many have at the least.
    """
    with broker.management as management:
        for name, count in ready.items():
            said: list[QueueInfo] = []
            least = bytes_of(count)

            def caught_up(
                name: str = name,
                count: int = count,
                least: int = least,
                said: list[QueueInfo] = said,
            ) -> bool:
                said[:] = read_queues([management.queue(name, place.endpoint.virtual_host)])
                # The API gathers the count and the rest apart, each at a time of its own: bytes
                # (with the properties, where a queue counts those) come with ``messages_ram``.
                return any(
                    each.messages_ready == count
                    and each.message_bytes_ready is not None
                    and each.message_bytes_ready >= least
                    for each in said
                )

            what = f"the Management API to show what is ready in {name}"
            wait_until(caught_up, _FIGURES_S, what, every_s=_POLL_S)
            write(
                BacklogShown(
                    queue=name,
                    messages_ram=said[0].messages_ram,
                    memory_bytes=said[0].memory_bytes,
                )
            )
