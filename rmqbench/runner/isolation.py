"""A place for one run on a broker: nothing of anybody else's is there, nothing is left behind."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rmqbench.amqp import topology as topologies
from rmqbench.amqp.topology import Topology
from rmqbench.broker import Broker
from rmqbench.endpoint import Endpoint
from rmqbench.errors import AccessRefused, BrokerError, RmqbenchError, UsageError

__all__ = ["Place", "declared", "declared_place", "own_place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens: endpoint and topology, with notes for a person."""

    endpoint: Endpoint
    topology: Topology
    notes: tuple[str, ...]


@contextlib.contextmanager
def declared_place(
    broker: Broker, topology: Topology, run_name: str, *, in_place: bool
) -> Iterator[Place]:
    """Declare a topology for one run and remove it afterwards: :func:`own_place`, declared."""
    with (
        own_place(broker, topology, run_name, in_place=in_place) as place,
        declared(broker, place, in_place=in_place) as there,
    ):
        yield there


@contextlib.contextmanager
def own_place(
    broker: Broker, topology: Topology, run_name: str, *, in_place: bool
) -> Iterator[Place]:
    """Make a place for one run, in which nothing is declared yet, and remove it afterwards.

    It is a virtual host of its own; where none may be created, its names carry ``run_name``. With
    ``in_place`` names and virtual host stay as they are.
    """
    with contextlib.ExitStack() as stack:
        endpoint = broker.endpoint
        notes: tuple[str, ...] = ()
        if not in_place:
            try:
                endpoint = stack.enter_context(_own_virtual_host(broker, run_name))
            except (AccessRefused, BrokerError) as error:
                topology = topology.renamed(lambda name: f"{name}.{run_name}")
                notes = (
                    f"No virtual host of its own could be created: {error.what} The run used "
                    f"{endpoint.virtual_host!r}, with names that end in {run_name!r}.",
                )
        yield Place(endpoint, topology, notes)


@contextlib.contextmanager
def declared(broker: Broker, place: Place, *, in_place: bool) -> Iterator[Place]:
    """Declare the topology of a place, remove it afterwards, and yield the place with all notes.

    With ``in_place`` queues that exist must have the same arguments (QueueMismatch), be empty and
    have no consumer (QueueNotEmpty), and only what was not there before is deleted afterwards, and
    only if it is empty then: under a plain name somebody else may have found it in the meantime.
    Raise AccessRefused for a queue that the user may not read, before anything is published to it.
    """
    endpoint, topology = place.endpoint, place.topology
    try:
        made = topologies.declare(endpoint, topology, broker.version)
    except AccessRefused as error:
        if endpoint == broker.endpoint or "has no virtual host" not in error.what:
            raise
        # The virtual host was made, with every permission, and the broker knows nothing of it.
        raise UsageError(
            f"The Management API of {broker.endpoint} is that of another broker: it says that it "
            f"has made a virtual host, and: {error.what}",
            "Name the broker's own with --management-url, for pytest --rmqbench-management-url.",
        ) from error
    with contextlib.ExitStack() as stack:
        if endpoint == broker.endpoint:

            def delete() -> None:
                topologies.delete(endpoint, made, if_empty=in_place)

            stack.callback(_clean_up, broker, "a queue of the run", delete)
            names = [each.name for each in topology.all_queues]
            topologies.require_free(endpoint, names)
        yield replace(place, notes=(*place.notes, *made.notes))


@contextlib.contextmanager
def _own_virtual_host(broker: Broker, name: str) -> Iterator[Endpoint]:
    def delete() -> None:
        with broker.management as management:
            management.delete_virtual_host(name)

    try:
        with broker.management as management:
            management.create_virtual_host(name)
    except RmqbenchError:
        with contextlib.suppress(RmqbenchError):
            delete()  # it may have been made and then not have been opened to us
        raise
    except (KeyboardInterrupt, SystemExit):
        _clean_up(broker, f"virtual host {name!r}", delete)
        raise
    try:
        yield broker.endpoint.in_virtual_host(name)
    finally:
        _clean_up(broker, f"virtual host {name!r}", delete)


def _clean_up(broker: Broker, what: str, delete: Callable[[], object]) -> None:
    """Delete what the run made. A broker that is gone must not hide how the run went.

    An interrupt that comes meanwhile ends the run, not this; only a second one does.
    """
    interrupted = isinstance(sys.exception(), KeyboardInterrupt | SystemExit)
    try:
        delete()
    except RmqbenchError as error:
        _tell_what_is_left(broker, what, str(error))
    except (KeyboardInterrupt, SystemExit):
        if interrupted:
            _tell_what_is_left(broker, what, "interrupted a second time.")
        else:
            _clean_up(broker, what, delete)
        raise


def _tell_what_is_left(broker: Broker, what: str, why: str) -> None:
    if broker.owned:  # it ends with everything in it
        return
    # Said, not raised: it must not hide how the run went either.
    text = f"{what} is left behind at {broker.endpoint}: {why}"
    try:
        warnings.warn(text, stacklevel=2)
    except Warning:  # where every warning is an error
        print(text, file=sys.stderr)
