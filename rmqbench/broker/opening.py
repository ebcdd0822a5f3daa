"""Open a broker: a container, a node of our own on this machine, or one that runs already."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from rmqbench.broker.container import open_container_node
from rmqbench.broker.external import probe_both
from rmqbench.broker.handle import Broker, Node
from rmqbench.broker.installation import Installation, find_installed
from rmqbench.broker.local import open_local_node
from rmqbench.broker.packages import can_unpack, installation_from_packages
from rmqbench.endpoint import Endpoint, shown_url
from rmqbench.errors import BrokerUnavailable, DeadlineExceeded, UsageError

__all__ = ["DEFAULT_IMAGE", "install_local", "open_broker"]

DEFAULT_IMAGE = "rabbitmq:4-management"

_WAYS_OUT = (
    "Ways out: start Docker; install rabbitmq-server; or name a running broker by its URL,"
    " amqp://user:password@host:5672/vhost."
)


def _say_nothing(_text: str) -> None:
    pass


@contextlib.contextmanager
def open_broker(
    spec: str = "auto",
    *,
    image: str | None = None,
    say: Callable[[str], None] = _say_nothing,
    management_url: str | None = None,
) -> Iterator[Broker]:
    """Yield a broker that is ready; one of our own ends with the context, whatever happens.

    ``spec`` is ``container``, ``local``, an AMQP URL, or ``auto``, which takes the first that is
    available: a container, an installed RabbitMQ, the distribution's packages unpacked into the
    user's cache. ``image`` is the container's: where one is named, ``auto`` takes nothing else in
    its place, and a broker that is no container is refused. ``management_url`` belongs to a broker
    named by its URL. ``say`` is called with a short line when something slow begins.

    Raise UsageError, BrokerUnavailable, AccessRefused, DeadlineExceeded.
    """
    if image and (spec == "local" or "://" in spec):
        raise UsageError(
            f"The image {image} was named, and {shown_url(spec)} is no container.",
            "Leave out the image, or choose the broker container.",
        )
    if spec.startswith(("amqp://", "amqps://")):
        endpoint = Endpoint.from_url(spec, management_url)
        version = probe_both(endpoint)
        yield Broker("external", endpoint, version, "named by its URL")
    elif spec == "container" or (spec == "auto" and image):
        with _container(image or DEFAULT_IMAGE, say) as broker:
            yield broker
    elif spec == "local":
        with _local(say) as broker:
            yield broker
    elif spec == "auto":
        with _first_available(say) as broker:
            yield broker
    else:
        raise UsageError(
            f"{shown_url(spec)!r} is not a broker.",
            "Write auto, container, local, or amqp://user:password@host:5672/vhost.",
        )


@contextlib.contextmanager
def _first_available(say: Callable[[str], None]) -> Iterator[Broker]:
    failures: list[str] = []
    with contextlib.ExitStack() as stack:
        choices: dict[str, Callable[[], contextlib.AbstractContextManager[Broker]]] = {
            "a container": lambda: _container(DEFAULT_IMAGE, say),
            "a local node": lambda: _local(say),
        }
        for kind, take in choices.items():
            try:
                broker = stack.enter_context(take())
            except (BrokerUnavailable, DeadlineExceeded) as error:
                failures.append(f"Not {kind}: {error.what}")
                continue
            if failures:
                broker = replace(broker, how=f"{broker.how} ({' '.join(failures)})")
            yield broker
            return
    raise BrokerUnavailable(f"No RabbitMQ is available. {' '.join(failures)}", _WAYS_OUT)


def install_local(say: Callable[[str], None] = _say_nothing) -> str:
    """Make a RabbitMQ for local nodes available, and return a line that describes it.

    It is the installed one; else the distribution's packages are fetched and unpacked into the
    user's cache, once. ``say`` is called with a short line when something slow begins. Raise
    BrokerUnavailable.
    """
    return _installation(say).what


def _installation(say: Callable[[str], None]) -> Installation:
    if sys.platform == "win32":
        raise BrokerUnavailable(
            "A local node is not supported on Windows.",
            "Use Docker, or name a broker by its URL.",
        )
    installed = find_installed()
    if installed is not None:
        return installed
    if can_unpack():
        return installation_from_packages(say)
    raise BrokerUnavailable(
        "No rabbitmq-server is installed, and this is not a Debian-like system whose packages"
        " could be unpacked.",
        "Install rabbitmq-server, or use Docker or an amqp:// URL.",
    )


@contextlib.contextmanager
def _container(image: str, say: Callable[[str], None]) -> Iterator[Broker]:
    with open_container_node(image, say) as node:
        owned = _owned("container", node, f"a container of the image {image}")
        yield replace(owned, image_digest=node.image_digest)


@contextlib.contextmanager
def _local(say: Callable[[str], None]) -> Iterator[Broker]:
    installation = _installation(say)
    with open_local_node(installation, say) as node:
        yield _owned("local", node, f"a local node of {installation.what}")


def _owned(kind: Literal["container", "local"], node: Node, how: str) -> Broker:
    return Broker(kind, node.endpoint, node.version, how, node)
