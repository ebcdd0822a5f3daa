"""The Docker engine of this machine: whether one is there, its images, commands in containers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from rmqbench.endpoint import is_loopback
from rmqbench.errors import BrokerUnavailable, DeadlineExceeded
from rmqbench.waiting import wait_for_call, wait_until

__all__ = ["Engine"]

_PING_TIMEOUT_S = 5
_ENGINE_TIMEOUT_S = 60
_EXIT_GRACE_S = 5.0
_PULL_SILENCE_S = 30.0
_PULL_TIMEOUT_S = 600.0
_PULL_REPORT_S = 5.0
_SOCKETS = ("/var/run/docker.sock", r"\\.\pipe\docker_engine")
_OURS = frozenset({"unix", "npipe", "http+docker"})


@final
class Engine:
    """The Docker engine, reached with testcontainers' settings and Docker's contexts.

    Raise BrokerUnavailable where there is none; without Docker this costs next to nothing,
    because its client is not even imported.
    """

    def __init__(self) -> None:
        if not _may_be_there():
            raise BrokerUnavailable(
                "No Docker engine: DOCKER_HOST is not set, and there is no engine's socket."
            )
        # Imported here, because it takes a third of a second and only containers need it.
        import docker.errors  # noqa: PLC0415
        import urllib3.exceptions  # noqa: PLC0415
        from testcontainers.core.docker_client import (  # noqa: PLC0415
            DockerClient,
            get_docker_host,
        )

        address = get_docker_host() or ""
        if not _is_this_machine(address):
            raise BrokerUnavailable(
                f"The Docker engine at {address} is on another machine, where a broker could not"
                " listen on 127.0.0.1 alone.",
                "Start RabbitMQ there yourself and name it by its URL.",
            )
        _require_answer(address)
        self._errors: tuple[type[Exception], ...] = (
            docker.errors.DockerException,
            urllib3.exceptions.HTTPError,
            OSError,  # of requests, too
        )
        try:
            # A short limit to see whether it is there, a longer one for work.
            self.client: Any = DockerClient(timeout=_PING_TIMEOUT_S).client
        except self._errors as error:
            raise _no_engine(error) from error
        try:
            self.client.ping()
        except self._errors as error:
            self.close()
            raise _no_engine(error) from error
        self.client.api.timeout = _ENGINE_TIMEOUT_S

    def close(self) -> None:
        """Close the connections with the engine."""
        self.client.close()

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn the Docker client's errors into BrokerUnavailable."""
        try:
            yield
        except self._errors as error:
            raise BrokerUnavailable(f"{what}: {_reason(error)}.") from error

    def require_image(self, image: str, say: Callable[[str], None]) -> None:
        """Raise BrokerUnavailable unless the image is there, or can be pulled."""
        import docker.errors  # noqa: PLC0415
        from testcontainers.core.config import testcontainers_config  # noqa: PLC0415

        image = testcontainers_config.hub_image_name_prefix + image
        with self.errors(f"The image {image} cannot be used"):
            try:
                self.client.images.get(image)
                return
            except docker.errors.ImageNotFound:
                pass
            try:
                self._pull(image, say)
                self.client.images.get(image)
            except self._errors as error:
                raise self._not_pulled(image, _reason(error)) from error

    def _pull(self, image: str, say: Callable[[str], None]) -> None:
        from docker.utils import parse_repository_tag  # noqa: PLC0415

        repository, tag = parse_repository_tag(image)
        layers: dict[object, int] = {}  # bytes that have come, by layer
        heard_at = said_at = time.monotonic()

        def pull() -> None:
            nonlocal heard_at
            for event in self.client.api.pull(
                repository, tag or "latest", stream=True, decode=True
            ):
                if "error" in event:
                    raise self._not_pulled(image, event["error"])
                if event.get("status") == "Downloading":
                    layers[event.get("id")] = event.get("progressDetail", {}).get("current", 0)
                heard_at = time.monotonic()

        def check() -> None:
            nonlocal said_at
            now = time.monotonic()
            if now - heard_at > _PULL_SILENCE_S:
                raise self._not_pulled(image, f"no progress for {_PULL_SILENCE_S:g} s")
            if now - said_at > _PULL_REPORT_S and heard_at > said_at:
                said_at = now
                say(f"Pulling the image {image}: {sum(list(layers.values())) / 1e6:.0f} MB so far")

        say(f"Pulling the image {image}")
        # The Docker client pulls without any limit in time, and the engine says nothing while it
        # waits for a registry.
        try:
            wait_for_call(pull, _PULL_TIMEOUT_S, f"the image {image}", check=check)
        except DeadlineExceeded as error:
            raise self._not_pulled(image, f"not done after {_PULL_TIMEOUT_S:g} s") from error

    def _not_pulled(self, image: str, reason: str) -> BrokerUnavailable:
        present: list[str] = []
        with contextlib.suppress(*self._errors):
            present = [tag for other in self.client.images.list() for tag in other.tags]
        rabbits = sorted(tag for tag in present if "rabbit" in tag.lower())
        return BrokerUnavailable(
            f"The image {image} is not there and cannot be pulled ({reason}).",
            "Check its name and the network, or name an image that is there"
            f" ({', '.join(rabbits) or 'none of RabbitMQ is'}).",
        )

    def execute(self, container: str, command: list[str], timeout_s: float) -> tuple[int, str, str]:
        """Run a command in a container as RabbitMQ's user; return status, output, error output.

        Raise DeadlineExceeded; the command itself is not ended by that.
        """
        api = self.client.api

        def execute() -> tuple[int, bytes | None, bytes | None]:
            # Not as root: Debian's rabbitmqctl would pass its arguments through a shell then.
            made = api.exec_create(
                container, command, user="rabbitmq", environment={"LC_ALL": "C.UTF-8"}
            )["Id"]
            output, errors = api.exec_start(made, demux=True)
            # The output may end before the engine has noticed the end.
            wait_until(
                lambda: not api.exec_inspect(made)["Running"],
                _EXIT_GRACE_S,
                f"{command[0]} in the container to end",
            )
            return api.exec_inspect(made)["ExitCode"], output, errors

        with self.errors(f"{command[0]} cannot be run in the container"):
            # The Docker client waits for the output without any limit in time.
            status, *texts = wait_for_call(execute, timeout_s, f"{command[0]} in the container")
        output, errors = ((text or b"").decode("utf-8", "replace") for text in texts)
        return status, output, errors


def _no_engine(error: Exception) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"No Docker engine answers ({_reason(error)}).",
        "Start it, or check that this user may use it (the group docker).",
    )


def _may_be_there() -> bool:
    """Whether an engine could be reached at all, by looking at files only."""
    if os.environ.get("DOCKER_HOST"):
        return True
    if any(os.path.exists(path) for path in _SOCKETS):
        return True
    home = Path.home()
    configured = Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(configured.read_text("utf-8")).get("currentContext"):
            return True
    with contextlib.suppress(OSError):
        return "tc.host" in (home / ".testcontainers.properties").read_text("utf-8")
    return False


def _require_answer(address: str) -> None:
    """Knock at the engine's socket: its client leaks one where nobody answers."""
    if address.startswith("unix:"):
        path = urlsplit(address).path
    elif not address and os.path.exists(_SOCKETS[0]):  # which its client takes then
        path = _SOCKETS[0]
    else:
        return
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(_PING_TIMEOUT_S)
        try:
            plain.connect(path)
        except OSError as error:
            raise BrokerUnavailable(
                f"No Docker engine answers at {path} ({error.strerror or error}).",
                "Start it, or check that this user may use it (the group docker).",
            ) from None


def _is_this_machine(address: str) -> bool:
    parts = urlsplit(address)
    return not address or parts.scheme in _OURS or is_loopback(parts.hostname or "")


def _reason(error: BaseException) -> str:
    """Return the engine's own words, without the client's wrapping."""
    said = getattr(error, "explanation", None) or str(error)
    return " ".join(str(said).split()).rstrip(".")
